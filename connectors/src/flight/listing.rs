//! Catalogs, schemas and tables of the server, by the commands of Flight SQL.
//!
//! Names are compared here, byte by byte: patterns of the server may match more.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};
use arrow_flight::FlightInfo;
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetTables, CommandStatementQuery,
};
use meshwork_engine::Result;
use meshwork_engine::connector::{TableEntry, TableKind};

use super::client::Client;
use super::error;

/// The schema here of tables that have none there.
const NO_SCHEMA: &str = "default";

/// Where a table is, by the server's own names.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) catalog: Option<String>,
    pub(super) schema: Option<String>,
}

impl Place {
    /// Returns the name of the schema here; a catalog that was chosen is not part of it.
    fn name(&self, chosen: Option<&str>) -> String {
        let catalog = self.catalog.as_deref().filter(|name| Some(*name) != chosen);
        match (catalog, &self.schema) {
            (Some(catalog), Some(schema)) => format!("{catalog}.{schema}"),
            (Some(catalog), None) => catalog.to_owned(),
            (None, Some(schema)) => schema.clone(),
            (None, None) => NO_SCHEMA.to_owned(),
        }
    }
}

/// Returns the schemas by their names here.
pub(super) async fn places(client: &Client) -> Result<BTreeMap<String, Place>> {
    let chosen = client.options.shown.as_deref();
    let command =
        CommandGetDbSchemas { catalog: chosen.map(str::to_owned), db_schema_filter_pattern: None };
    let mut places = Vec::new();
    for batch in client.list(&command).await? {
        let catalogs = texts(client, &batch, "catalog_name")?;
        let schemas = texts(client, &batch, "db_schema_name")?;
        let named = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let all = catalogs.iter().zip(&schemas);
        places.extend(all.map(|(c, s)| Place { catalog: named(c), schema: named(s) }));
    }
    if places.is_empty() {
        // A server without schemas.
        for batch in client.list(&CommandGetCatalogs {}).await? {
            let catalogs = texts(client, &batch, "catalog_name")?;
            let of_name = |name: &str| Place { catalog: Some(name.to_owned()), schema: None };
            places.extend(catalogs.iter().flatten().filter(|name| !name.is_empty()).map(of_name));
        }
    }
    places.retain(|place| chosen.is_none() || place.catalog.as_deref() == chosen);
    if places.is_empty() && chosen.is_none() {
        places.push(Place::default());
    }
    Ok(places.into_iter().map(|place| (place.name(chosen), place)).collect())
}

/// Returns the place of a schema of that name; its own catalog is not asked where the name says it.
pub(super) async fn place(client: &Client, name: &str) -> Result<Option<Place>> {
    Ok(places(client).await?.remove(name))
}

/// Returns the tables of a place, sorted by name.
pub(super) async fn tables(client: &Client, place: &Place) -> Result<Vec<TableEntry>> {
    let mut entries = Vec::new();
    for batch in client.list(&of_tables(place)).await? {
        let names = texts(client, &batch, "table_name")?;
        let kinds = texts(client, &batch, "table_type")?;
        for row in rows_of(client, &batch, place)? {
            let kind = match kinds.is_valid(row).then(|| kinds.value(row)) {
                Some(kind) if kind.contains("VIEW") => TableKind::View,
                Some(kind) if kind.contains("SYSTEM") => TableKind::System,
                Some(_) | None => TableKind::Table,
            };
            entries.push(TableEntry { name: names.value(row).to_owned(), kind, comment: None });
        }
    }
    entries.sort_by(|left, right| left.name.cmp(&right.name));
    entries.dedup_by(|left, right| left.name == right.name);
    Ok(entries)
}

/// Returns the columns of a table, or `None` if there is none of exactly that name. `select` reads the whole table: it is
/// described where the listing says nothing.
pub(super) async fn columns(
    client: &Client,
    place: &Place,
    table: &str,
    select: &str,
) -> Result<Option<Schema>> {
    let command = CommandGetTables {
        table_name_filter_pattern: Some(pattern(table)),
        include_schema: true,
        ..of_tables(place)
    };
    for batch in client.list(&command).await? {
        let names = texts(client, &batch, "table_name")?;
        let found = rows_of(client, &batch, place)?;
        let Some(row) = found.into_iter().find(|row| names.value(*row) == table) else { continue };
        let schemas = batch.column_by_name("table_schema").and_then(|c| c.as_binary_opt::<i32>());
        let said =
            schemas.filter(|schemas| schemas.is_valid(row)).map(|schemas| schemas.value(row));
        let said = FlightInfo {
            schema: said.unwrap_or_default().to_vec().into(),
            ..FlightInfo::default()
        };
        match said.try_decode_schema() {
            Ok(schema) if !schema.fields().is_empty() => return Ok(Some(schema)),
            // Unreadable there: the question for its rows says why.
            Ok(_) | Err(_) => return query_columns(client, select).await.map(Some),
        }
    }
    Ok(None)
}

/// Returns the columns of a query.
pub(super) async fn query_columns(client: &Client, query: &str) -> Result<Schema> {
    let command = CommandStatementQuery { query: query.to_owned(), transaction_id: None };
    client.schema(&command).await
}

fn of_tables(place: &Place) -> CommandGetTables {
    CommandGetTables {
        // An empty text asks for tables without a catalog.
        catalog: place.catalog.clone(),
        db_schema_filter_pattern: place.schema.as_deref().map(pattern),
        ..CommandGetTables::default()
    }
}

/// Returns a pattern that matches the name, and maybe others: what escapes a wildcard differs between servers.
fn pattern(name: &str) -> String {
    name.replace('\\', "_")
}

/// Returns the rows of a listing that are of the place.
fn rows_of(client: &Client, batch: &RecordBatch, place: &Place) -> Result<Vec<usize>> {
    let catalogs = texts(client, batch, "catalog_name")?;
    let schemas = texts(client, batch, "db_schema_name")?;
    let is_of = |found: Option<&str>, wanted: &Option<String>| {
        found.filter(|found| !found.is_empty()) == wanted.as_deref()
    };
    let all = catalogs.iter().zip(&schemas).enumerate();
    let of_place = all.filter(|(_, (catalog, schema))| {
        is_of(*catalog, &place.catalog) && is_of(*schema, &place.schema)
    });
    Ok(of_place.map(|(row, _)| row).collect())
}

/// Returns a column of texts.
fn texts(client: &Client, batch: &RecordBatch, name: &str) -> Result<StringArray> {
    let missing = || error::protocol(&client.options, &format!("a listing has no column {name}"));
    let column = batch.column_by_name(name).ok_or_else(missing)?;
    let texts = cast(column, &DataType::Utf8)?;
    Ok(texts.as_string_opt::<i32>().ok_or_else(missing)?.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_named_as_short_as_it_may_be() {
        let place = |catalog: Option<&str>, schema: Option<&str>| Place {
            catalog: catalog.map(str::to_owned),
            schema: schema.map(str::to_owned),
        };
        assert_eq!(place(Some("c"), Some("s")).name(None), "c.s");
        assert_eq!(place(Some("c"), Some("s")).name(Some("c")), "s");
        assert_eq!(place(None, Some("s")).name(None), "s");
        assert_eq!(place(Some("c"), None).name(None), "c");
        assert_eq!(Place::default().name(None), NO_SCHEMA);
    }
}
