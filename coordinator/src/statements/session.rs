//! `USE`: where names without a catalog or schema are looked up.

use meshwork_engine::{Error, Result};

use crate::query::QueryContext;

pub(super) async fn use_names(
    context: &QueryContext<'_>,
    catalog: Option<String>,
    schema: Option<String>,
) -> Result<u64> {
    let resolver = &context.coordinator.resolver;
    let current = context.snapshot.catalog.clone();
    // `USE x` names a schema of the current catalog, or else a catalog.
    let (catalog, schema) = match (catalog, schema) {
        (None, Some(name)) => {
            let is_schema = match &current {
                Some(catalog) => resolver.has_schema(catalog, &name).await?,
                None => false,
            };
            if is_schema {
                (current, Some(name))
            } else if resolver.catalog_names().contains(&name) {
                (Some(name), None)
            } else {
                let message =
                    format!("\"{name}\" is neither a schema of the current catalog nor a catalog");
                return Err(Error::user("SCHEMA_NOT_FOUND", message));
            }
        }
        (catalog, schema) => (catalog, schema),
    };
    if let (Some(catalog), Some(schema)) = (&catalog, &schema)
        && !resolver.has_schema(catalog, schema).await?
    {
        let message = format!("schema \"{schema}\" does not exist in catalog \"{catalog}\"");
        return Err(Error::user("SCHEMA_NOT_FOUND", message));
    }
    context.session.set_catalog(catalog);
    context.session.set_schema(schema);
    Ok(0)
}
