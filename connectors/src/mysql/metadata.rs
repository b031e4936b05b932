//! Asks the server for its databases, tables and columns.
//!
//! Names are compared here, byte by byte: `information_schema` compares them without case.

use arrow::datatypes::DataType;
use meshwork_engine::connector::{TableEntry, TableKind};
use meshwork_engine::remote::RemoteColumn;
use meshwork_engine::{Error, Result};
use serde_json::json;

use std::sync::Arc;

use super::client::Client;
use super::options::ZeroDates;
use super::types::{Declared, Detail, type_under};

/// Databases of the server about itself.
const SYSTEM_DATABASES: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

/// Returns the databases that the catalog shows, sorted.
pub(super) async fn schema_names(client: &Arc<Client>) -> Result<Vec<String>> {
    let question = "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA";
    let mut names: Vec<String> = client.ask("listing databases", question, Vec::new()).await?;
    names.retain(|name| shown(client, name));
    names.sort();
    Ok(names)
}

/// Whether the catalog shows a database.
pub(super) fn shown(client: &Client, database: &str) -> bool {
    match &client.options.database {
        Some(only) => only == database,
        None => !SYSTEM_DATABASES.contains(&database.to_lowercase().as_str()),
    }
}

/// Returns the tables and views of a database, sorted by name.
pub(super) async fn tables(client: &Arc<Client>, schema: &str) -> Result<Vec<TableEntry>> {
    let question = "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, TABLE_COMMENT \
                    FROM information_schema.TABLES WHERE TABLE_SCHEMA = ?";
    let rows: Vec<(String, String, String, Option<String>)> =
        client.ask("listing tables", question, vec![schema.into()]).await?;
    let mut entries: Vec<TableEntry> = rows
        .into_iter()
        .filter(|(database, ..)| database == schema)
        .map(|(_, name, kind, comment)| {
            let view = kind.contains("VIEW");
            TableEntry {
                name,
                kind: if view { TableKind::View } else { TableKind::Table },
                // The comment of a view is the word VIEW, or why it is broken.
                comment: comment.filter(|text| !view && !text.is_empty()),
            }
        })
        .collect();
    entries.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(entries)
}

/// One row of `information_schema.COLUMNS`.
type ColumnRow = (
    String,
    String,
    String,
    String,
    String,
    String,
    Option<u64>,
    Option<u64>,
    Option<String>,
    String,
    bool,
    Option<String>,
);

/// Returns the columns of a table, or `None` if there is none of exactly that name.
pub(super) async fn columns(
    client: &Arc<Client>,
    schema: &str,
    table: &str,
) -> Result<Option<Vec<RemoteColumn>>> {
    let question = "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, \
                    IS_NULLABLE, NUMERIC_PRECISION, NUMERIC_SCALE, CHARACTER_SET_NAME, COLUMN_KEY, \
                    EXISTS (SELECT * FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? \
                    AND TABLE_NAME = ? AND TABLE_TYPE LIKE '%VIEW'), COLLATION_NAME \
                    FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? \
                    ORDER BY ORDINAL_POSITION";
    let doing = format!("describing table \"{schema}.{table}\"");
    let names = vec![schema.into(), table.into(), schema.into(), table.into()];
    let mut rows: Vec<ColumnRow> = client.ask(&doing, question, names).await?;
    rows.retain(|row| row.0 == schema && row.1 == table);
    if rows.is_empty() {
        let listed = tables(client, schema).await?;
        return match listed.iter().any(|entry| entry.name == table) {
            false => Ok(None),
            true => Err(Error::source(
                "SOURCE_TABLE_UNREADABLE",
                format!(
                    "source \"{}\" says nothing of the columns of table \"{schema}.{table}\"",
                    client.options.catalog
                ),
            )
            .with_hint("If it is a view, check that the tables it reads still exist.")),
        };
    }
    let n_keys = rows.iter().filter(|row| row.9 == "PRI").count();
    let zero_dates = client.options.zero_dates;
    Ok(Some(rows.into_iter().map(|row| column(row, n_keys, zero_dates)).collect()))
}

fn column(row: ColumnRow, n_keys: usize, zero_dates: ZeroDates) -> RemoteColumn {
    let (_, _, name, base, full, nullable, precision, scale, charset, key, of_view, collation) =
        row;
    let base = base.to_lowercase();
    let declared = Declared { base: &base, full: &full, precision, scale };
    let data_type = type_under(zero_dates, declared);
    let zero_is_null = zero_dates == ZeroDates::Null
        && matches!(data_type, DataType::Date32 | DataType::Timestamp(..));
    RemoteColumn {
        name,
        data_type,
        nullable: nullable != "NO" || zero_is_null,
        remote_type: full,
        detail: json!(Detail {
            base,
            charset,
            collation,
            primary_key: key == "PRI" && n_keys == 1,
            of_view
        }),
    }
}

/// Returns about how many rows a table has; none for views.
pub(super) async fn rows_estimated(
    client: &Arc<Client>,
    schema: &str,
    table: &str,
) -> Result<Option<u64>> {
    let question = "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_ROWS FROM information_schema.TABLES \
                    WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?";
    let rows: Vec<(String, String, Option<u64>)> =
        client.ask("estimating rows", question, vec![schema.into(), table.into()]).await?;
    let exact = rows.into_iter().find(|(found, name, _)| found == schema && name == table);
    Ok(exact.and_then(|(_, _, rows)| rows))
}

/// Returns the column that the primary key of a table begins with, where it stands there whole.
pub(super) async fn leading_key(
    client: &Arc<Client>,
    schema: &str,
    table: &str,
) -> Result<Option<String>> {
    let question = "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.STATISTICS \
                    WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND INDEX_NAME = 'PRIMARY' \
                    AND SEQ_IN_INDEX = 1 AND SUB_PART IS NULL";
    let rows: Vec<(String, String, String)> =
        client.ask("asking for the key", question, vec![schema.into(), table.into()]).await?;
    let exact = rows.into_iter().find(|(found, name, _)| found == schema && name == table);
    Ok(exact.map(|(_, _, column)| column))
}
