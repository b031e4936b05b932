//! `information_schema` of one catalog: `schemata`, `tables`, `columns`, `views`.
//!
//! A table whose columns cannot be read is listed without them; it never hides the others.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, UInt64Array};
use datafusion::arrow::datatypes::Field;
use datafusion::catalog::TableProvider;
use futures::stream::{self, StreamExt, TryStreamExt};
use meshwork_engine::Result;
use meshwork_engine::connector::{TableEntry, TableKind};
use meshwork_engine::scope::QueryScope;

use super::system::{entries_of, table_of, texts};
use super::{INFORMATION_SCHEMA, Resolver, TableName};

/// Schemas that are asked for their tables, and tables for their columns, at the same time.
const LOOKUPS_MAX: usize = 8;

pub(super) fn entries() -> Vec<TableEntry> {
    entries_of(&["columns", "schemata", "tables", "views"])
}

pub(super) async fn table(
    resolver: &Resolver,
    catalog: &str,
    table: &str,
    scope: &Arc<QueryScope>,
) -> Result<Option<Arc<dyn TableProvider>>> {
    match table {
        "schemata" => schemata(resolver, catalog).await.map(Some),
        "tables" => tables(resolver, catalog).await.map(Some),
        "columns" => columns(resolver, catalog, scope).await.map(Some),
        "views" => views(resolver, catalog).map(Some),
        _ => Ok(None),
    }
}

async fn schemata(resolver: &Resolver, catalog: &str) -> Result<Arc<dyn TableProvider>> {
    let names = resolver.schema_names(catalog).await?;
    table_of(vec![
        ("catalog_name", repeated(catalog, names.len())),
        ("schema_name", texts(names.into_iter().map(Some))),
    ])
}

/// Returns all tables of a catalog with their schemas.
async fn all_tables(resolver: &Resolver, catalog: &str) -> Result<Vec<(String, TableEntry)>> {
    let schemas = resolver.schema_names(catalog).await?;
    let tables: Vec<Vec<(String, TableEntry)>> = stream::iter(schemas)
        .map(|schema| tables_of(resolver, catalog, schema))
        .buffered(LOOKUPS_MAX)
        .try_collect()
        .await?;
    Ok(tables.into_iter().flatten().collect())
}

async fn tables_of(
    resolver: &Resolver,
    catalog: &str,
    schema: String,
) -> Result<Vec<(String, TableEntry)>> {
    let tables = resolver.tables(catalog, &schema).await?;
    Ok(tables.into_iter().map(|entry| (schema.clone(), entry)).collect())
}

async fn tables(resolver: &Resolver, catalog: &str) -> Result<Arc<dyn TableProvider>> {
    let all = all_tables(resolver, catalog).await?;
    let kind = |entry: &TableEntry| match entry.kind {
        TableKind::Table => "BASE TABLE",
        TableKind::View => "VIEW",
        TableKind::System => "SYSTEM TABLE",
    };
    table_of(vec![
        ("table_catalog", repeated(catalog, all.len())),
        ("table_schema", texts(all.iter().map(|(schema, _)| Some(schema.clone())))),
        ("table_name", texts(all.iter().map(|(_, entry)| Some(entry.name.clone())))),
        ("table_type", texts(all.iter().map(|(_, entry)| Some(kind(entry).to_owned())))),
        ("table_comment", texts(all.iter().map(|(_, entry)| entry.comment.clone()))),
    ])
}

fn views(resolver: &Resolver, catalog: &str) -> Result<Arc<dyn TableProvider>> {
    let mut all = Vec::new();
    for schema in resolver.definitions().view_schemas(catalog) {
        for name in resolver.definitions().view_names(catalog, &schema) {
            all.extend(resolver.definitions().view(catalog, &schema, &name));
        }
    }
    all.dedup();
    table_of(vec![
        ("table_catalog", repeated(catalog, all.len())),
        ("table_schema", texts(all.iter().map(|view| Some(view.schema.clone())))),
        ("table_name", texts(all.iter().map(|view| Some(view.name.clone())))),
        ("view_definition", texts(all.iter().map(|view| Some(view.sql.clone())))),
    ])
}

/// One column of one table.
struct Row {
    schema: String,
    table: String,
    column: String,
    position: u64,
    nullable: bool,
    data_type: String,
}

async fn columns(
    resolver: &Resolver,
    catalog: &str,
    scope: &Arc<QueryScope>,
) -> Result<Arc<dyn TableProvider>> {
    let all = all_tables(resolver, catalog).await?;
    // The tables of this schema describe themselves nowhere else; asking them here would never end.
    let ours = |(schema, _): &(String, TableEntry)| schema != INFORMATION_SCHEMA;
    let rows: Vec<Vec<Row>> = stream::iter(all.into_iter().filter(ours))
        .map(|(schema, entry)| columns_of(resolver, catalog, schema, entry.name, scope))
        .buffered(LOOKUPS_MAX)
        .try_collect()
        .await?;
    let rows: Vec<Row> = rows.into_iter().flatten().collect();
    let yes_no = |nullable: bool| if nullable { "YES" } else { "NO" }.to_owned();
    let positions: ArrayRef =
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.position)));
    table_of(vec![
        ("table_catalog", repeated(catalog, rows.len())),
        ("table_schema", texts(rows.iter().map(|row| Some(row.schema.clone())))),
        ("table_name", texts(rows.iter().map(|row| Some(row.table.clone())))),
        ("column_name", texts(rows.iter().map(|row| Some(row.column.clone())))),
        ("ordinal_position", positions),
        ("is_nullable", texts(rows.iter().map(|row| Some(yes_no(row.nullable))))),
        ("data_type", texts(rows.iter().map(|row| Some(row.data_type.clone())))),
    ])
}

async fn columns_of(
    resolver: &Resolver,
    catalog: &str,
    schema: String,
    table: String,
    scope: &Arc<QueryScope>,
) -> Result<Vec<Row>> {
    let name = TableName { catalog: catalog.to_owned(), schema, table };
    let found = match resolver.listed_columns(&name, scope).await {
        Ok(columns) => columns,
        Err(error) => {
            tracing::debug!(table = %name, %error, "table is listed without its columns");
            None
        }
    };
    let fields = found.iter().flat_map(|columns| columns.fields().iter().cloned());
    let row = |(position, field): (usize, Arc<Field>)| Row {
        schema: name.schema.clone(),
        table: name.table.clone(),
        column: field.name().clone(),
        position: position as u64 + 1,
        nullable: field.is_nullable(),
        data_type: crate::types::sql_name(field.data_type()),
    };
    Ok(fields.enumerate().map(row).collect())
}

fn repeated(text: &str, n: usize) -> ArrayRef {
    texts(std::iter::repeat_n(Some(text.to_owned()), n))
}
