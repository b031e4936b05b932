//! New tables and what is dropped: which declaration a type of the engine becomes.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use meshwork_engine::connector::CreateTable;
use meshwork_engine::remote::{RemoteColumn, RemoteScan};
use meshwork_engine::{Error, Result};
use rusqlite::{Connection, OptionalExtension};
use serde_json::json;

use super::SCHEMA;
use super::file::File;
use super::pushdown::Sqlite;
use super::types::{Detail, promised};
use super::write::Failed;
use crate::relational::{create_table, qualified, refuse_options};

/// Returns the table that a `CREATE TABLE` describes, as if it were there.
pub(super) fn to_be(file: &File, table: &CreateTable) -> Result<RemoteScan> {
    refuse_options(table, "sqlite")?;
    if table.schema != SCHEMA {
        let message = format!("schema \"{}\" does not exist: a file has one, main", table.schema);
        return Err(Error::user("SCHEMA_NOT_FOUND", message));
    }
    let column = |field: &Arc<Field>| -> Result<RemoteColumn> {
        let declared = declaration(field)?;
        Ok(RemoteColumn {
            name: field.name().clone(),
            data_type: promised(&declared).unwrap_or(DataType::Utf8),
            nullable: field.is_nullable(),
            remote_type: declared,
            detail: json!(Detail::default()),
        })
    };
    let columns = table.columns.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    Ok(RemoteScan::whole(&file.catalog, SCHEMA, &table.table, columns))
}

/// Returns the statement that makes a table of [`to_be`].
pub(super) fn statement(table: &RemoteScan) -> Result<String> {
    let relation = qualified(&Sqlite, &table.schema, &table.table)?;
    let columns = table.columns.iter();
    let columns = columns.map(|c| (c.name.as_str(), c.remote_type.as_str(), c.nullable));
    create_table(&Sqlite, &relation, columns)
}

/// Drops a table of exactly that name; returns whether there was one.
pub(super) fn drop_table(connection: &Connection, table: &str) -> Result<bool, Failed> {
    let kind: Option<String> = connection
        .query_row(
            "SELECT type FROM main.sqlite_schema WHERE type IN ('table', 'view') AND name = ?1",
            [table],
            |row| row.get(0),
        )
        .optional()?;
    match kind.as_deref() {
        None => Ok(false),
        Some("table") => {
            connection
                .execute(&format!("DROP TABLE {}", qualified(&Sqlite, SCHEMA, table)?), [])?;
            Ok(true)
        }
        Some(_view) => {
            let message = format!("table \"{SCHEMA}.{table}\" is a view of the source");
            Err(Error::user("DROP_REFUSED", message).into())
        }
    }
}

fn declaration(field: &Field) -> Result<String> {
    // What a query may return and no declaration of SQLite promises is refused.
    let declared = match field.data_type() {
        DataType::Boolean => "BOOLEAN",
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32 => "INTEGER",
        DataType::UInt64 => "DECIMAL(20,0)",
        DataType::Float16 | DataType::Float32 | DataType::Float64 => "REAL",
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale)
            if *scale >= 0 =>
        {
            return Ok(format!("DECIMAL({precision},{scale})"));
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => "TEXT",
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => "BLOB",
        DataType::Date32 | DataType::Date64 => "DATE",
        // An instant is kept in UTC.
        DataType::Timestamp(..) => "DATETIME",
        other => {
            let name = field.name();
            return Err(Error::not_supported(format!(
                "column \"{name}\" of type {other} in SQLite"
            )));
        }
    };
    Ok(declared.to_owned())
}
