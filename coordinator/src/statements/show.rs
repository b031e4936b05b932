//! `SHOW`, and `CHECK TABLE`: what there is, as rows.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{Field, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use meshwork_engine::catalog::catalog_not_found;
use meshwork_engine::{Error, Result};

use super::{no_default, schema_of, statistics, views};
use crate::parse::{Show, parts_of};
use crate::query::QueryContext;
use crate::resolve::{batch_of, like, texts};
use crate::session::SETTINGS;
use crate::types::sql_name;

/// Answers a `SHOW`.
pub(crate) async fn show(context: &QueryContext<'_>, show: &Show) -> Result<RecordBatch> {
    let resolver = &context.coordinator.resolver;
    match show {
        Show::Catalogs { like } => names("catalog", resolver.catalog_names(), like.as_deref()),
        Show::Schemas { catalog, like } => {
            let Some(catalog) = catalog.clone().or_else(|| context.snapshot.catalog.clone()) else {
                return Err(no_default("catalog", "SHOW SCHEMAS FROM catalog"));
            };
            names("schema", resolver.schema_names(&catalog).await?, like.as_deref())
        }
        Show::Tables { schema, like } => {
            let (catalog, schema) = schema_of(context, schema.as_ref())?;
            let tables = resolver.tables(&catalog, &schema).await?;
            if tables.is_empty() && !resolver.has_schema(&catalog, &schema).await? {
                let message =
                    format!("schema \"{schema}\" does not exist in catalog \"{catalog}\"");
                return Err(Error::user("SCHEMA_NOT_FOUND", message));
            }
            names("table", tables.into_iter().map(|entry| entry.name).collect(), like.as_deref())
        }
        Show::Columns { table } => columns(&context.columns_of(&parts_of(table)).await?),
        Show::Stats { table } => statistics::show_stats(context, table).await,
        Show::Check { table, full } => {
            let name = resolver.full_name(&parts_of(table), &context.snapshot)?;
            let connector = resolver.connector(&name.catalog)?;
            let found = connector.check_table(&name.schema, &name.table, *full).await?;
            batch_of(vec![
                ("object", texts(found.iter().map(|(object, _)| Some(object.clone())))),
                ("problem", texts(found.iter().map(|(_, problem)| Some(problem.clone())))),
            ])
        }
        Show::Functions { like } => functions(context, like.as_deref()),
        Show::Session => session_settings(context),
        Show::CreateCatalog { name } => {
            let definitions = context.coordinator.catalogs.definitions();
            let definition = definitions.iter().find(|definition| definition.name == *name);
            let definition = definition.ok_or_else(|| catalog_not_found(name))?;
            names("create_catalog", vec![definition.shown_statement()], None)
        }
        Show::CreateView { name } => {
            let name = resolver.full_name(&parts_of(name), &context.snapshot)?;
            let view = resolver.definitions().view(&name.catalog, &name.schema, &name.table);
            let view = view.ok_or_else(|| views::view_not_found(&name))?;
            names("create_view", vec![format!("CREATE VIEW {name} AS\n{}", view.sql)], None)
        }
    }
}

/// Returns one column of names, filtered by a pattern.
fn names(column: &str, names: Vec<String>, pattern: Option<&str>) -> Result<RecordBatch> {
    let kept = names.into_iter().filter(|name| pattern.is_none_or(|pattern| like(name, pattern)));
    batch_of(vec![(column, texts(kept.map(Some)))])
}

fn columns(schema: &SchemaRef) -> Result<RecordBatch> {
    let column = |text: fn(&Field) -> String| -> ArrayRef {
        texts(schema.fields().iter().map(|field| Some(text(field))))
    };
    batch_of(vec![
        ("column", column(|field| field.name().clone())),
        ("type", column(|field| sql_name(field.data_type()))),
        ("nullable", column(|field| if field.is_nullable() { "YES" } else { "NO" }.to_owned())),
    ])
}

fn functions(context: &QueryContext<'_>, pattern: Option<&str>) -> Result<RecordBatch> {
    let state = (context.coordinator.base)();
    let mut all: Vec<(String, &str, String)> = Vec::new();
    let scalar = state.scalar_functions().values();
    all.extend(scalar.map(|f| (f.name().to_owned(), "scalar", described(f.documentation()))));
    let aggregate = state.aggregate_functions().values();
    all.extend(aggregate.map(|f| (f.name().to_owned(), "aggregate", described(f.documentation()))));
    let window = state.window_functions().values();
    all.extend(window.map(|f| (f.name().to_owned(), "window", described(f.documentation()))));
    all.retain(|(name, ..)| pattern.is_none_or(|pattern| like(name, pattern)));
    all.sort();
    all.dedup();
    batch_of(vec![
        ("function", texts(all.iter().map(|(name, ..)| Some(name.clone())))),
        ("kind", texts(all.iter().map(|(_, kind, _)| Some((*kind).to_owned())))),
        ("description", texts(all.iter().map(|(.., text)| Some(text.clone())))),
    ])
}

fn described(documentation: Option<&datafusion::logical_expr::Documentation>) -> String {
    documentation.map(|text| text.description.clone()).unwrap_or_default()
}

fn session_settings(context: &QueryContext<'_>) -> Result<RecordBatch> {
    let all = || SETTINGS.iter();
    let value = |name| context.snapshot.get(name).to_owned();
    batch_of(vec![
        ("setting", texts(all().map(|setting| Some(setting.name.to_owned())))),
        ("value", texts(all().map(|setting| Some(value(setting.name))))),
        ("default", texts(all().map(|setting| Some(setting.default.to_owned())))),
        ("description", texts(all().map(|setting| Some(setting.description.to_owned())))),
    ])
}
