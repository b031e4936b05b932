//! `CREATE CATALOG`, `DROP CATALOG`, and what is remembered of their names.

use std::collections::BTreeMap;

use meshwork_engine::catalog::{CatalogDefinition, catalog_not_found};
use meshwork_engine::{Error, Result};

use crate::query::QueryContext;

pub(super) async fn create_catalog(
    context: &QueryContext<'_>,
    name: String,
    kind: String,
    properties: Vec<(String, String)>,
    if_not_exists: bool,
) -> Result<u64> {
    let coordinator = context.coordinator;
    if coordinator.resolver.catalog_names().contains(&name) {
        return match if_not_exists {
            true => Ok(0),
            false => {
                let message = format!("catalog \"{name}\" exists already");
                Err(Error::user("CATALOG_ALREADY_EXISTS", message))
            }
        };
    }
    let properties: BTreeMap<_, _> = properties.into_iter().collect();
    let definition = CatalogDefinition { name, kind, properties };
    coordinator.catalogs.try_make(&definition)?;
    coordinator.resolver.definitions().put_catalog(definition.clone()).await?;
    coordinator.catalogs.define(definition);
    Ok(0)
}

pub(super) async fn drop_catalog(
    context: &QueryContext<'_>,
    name: &str,
    if_exists: bool,
) -> Result<u64> {
    let coordinator = context.coordinator;
    let definitions = coordinator.resolver.definitions();
    if definitions.catalogs().iter().any(|definition| definition.name == name) {
        definitions.drop_catalog(name).await?;
        coordinator.catalogs.remove(name);
        coordinator.resolver.forget(name);
        return Ok(0);
    }
    if coordinator.resolver.catalog_names().iter().any(|known| known == name) {
        let message = format!("catalog \"{name}\" is configured by a file");
        return Err(Error::user("CATALOG_NOT_DROPPABLE", message)
            .with_hint("Remove its file on the coordinator and start it again."));
    }
    if if_exists { Ok(0) } else { Err(catalog_not_found(name)) }
}

/// Forgets the names that are remembered of a catalog, or of all.
pub(super) fn flush_metadata(context: &QueryContext<'_>, catalog: Option<&str>) -> Result<()> {
    let resolver = &context.coordinator.resolver;
    match catalog {
        None => resolver.forget_all(),
        Some(name) if resolver.catalog_names().iter().any(|known| known == name) => {
            resolver.forget(name);
        }
        Some(name) => return Err(catalog_not_found(name)),
    }
    Ok(())
}
