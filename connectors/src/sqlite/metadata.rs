//! Asks a SQLite file for its tables and columns. Everything here blocks.
//!
//! Nothing is cached: the file may change under us, and asking it costs microseconds.

use arrow::datatypes::DataType;
use meshwork_engine::connector::{TableEntry, TableKind};
use meshwork_engine::remote::RemoteColumn;
use meshwork_engine::{Error, Result};
use rusqlite::{Connection, OptionalExtension};
use serde_json::json;

use super::file::File;
use super::types::{Detail, promised};
use super::{Mismatch, SCHEMA};

/// A column that SQLite hides because its table is virtual and uses it for arguments.
const HIDDEN: i64 = 1;

/// Returns all tables and views, sorted by name.
pub(super) fn tables(file: &File) -> Result<Vec<TableEntry>> {
    let connection = file.open()?;
    let list = || -> rusqlite::Result<Vec<TableEntry>> {
        let mut statement = connection.prepare(
            "SELECT name, type FROM main.sqlite_schema WHERE type IN ('table', 'view') \
             AND name NOT LIKE 'sqlite~_%' ESCAPE '~'",
        )?;
        let entries = statement.query_map([], |row| {
            let view = row.get_ref(1)?.as_str()? == "view";
            let kind = if view { TableKind::View } else { TableKind::Table };
            Ok(TableEntry { name: row.get(0)?, kind, comment: None })
        })?;
        entries.collect()
    };
    let mut entries = list().map_err(|error| file.failed("listing its tables", &error))?;
    entries.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(entries)
}

/// Returns the columns of a table or view, or `None` if there is none of exactly that name.
pub(super) fn columns(
    file: &File,
    table: &str,
    mismatch: Mismatch,
) -> Result<Option<Vec<RemoteColumn>>> {
    let connection = file.open()?;
    let doing = format!("describing table \"{table}\"");
    let ask = || -> rusqlite::Result<Option<Vec<RemoteColumn>>> {
        let Some(shape) = shape(&connection, table)? else { return Ok(None) };
        describe(&connection, table, &shape, mismatch).map(Some)
    };
    ask().map_err(|error| {
        let failed = file.failed(&doing, &error);
        match failed.code.as_str() {
            // The file can be read and the table not: a view on one that is gone, for instance.
            "SOURCE_READ_FAILED" => {
                Error::source("SOURCE_TABLE_UNREADABLE", failed.message).caused_by(&error)
            }
            _ => failed,
        }
    })
}

/// Returns the columns of a query in SQLite's own words, which is not run. What is computed declares nothing, and is text.
///
/// # Errors
/// `Source` with what SQLite says of the query; `User` when it may write, returns no columns, or two of one name.
pub(super) fn columns_of_query(file: &File, query: &str) -> Result<Vec<RemoteColumn>> {
    let connection = file.open()?;
    let wrong = |message: String| Error::user("INVALID_QUERY", message);
    let statement = connection.prepare(query).map_err(|error| {
        Error::source("SOURCE_QUERY_FAILED", format!("{}: {error}", file.named()))
    })?;
    if !statement.readonly() || statement.parameter_count() > 0 {
        return Err(wrong("the query for the source writes, or has parameters".to_owned()));
    }
    let mut columns: Vec<RemoteColumn> = Vec::with_capacity(statement.column_count());
    for column in statement.columns() {
        let name = column.name().to_owned();
        if columns.iter().any(|other| other.name.eq_ignore_ascii_case(&name)) {
            let message = format!("the query for the source has two columns named \"{name}\"");
            return Err(wrong(message).with_hint("Give one of them another name with AS."));
        }
        let declared = column.decl_type().unwrap_or_default().to_owned();
        let promise = promised(&declared);
        columns.push(RemoteColumn {
            name,
            detail: json!(Detail { enforced: false, collation: None, any: promise.is_none() }),
            data_type: promise.unwrap_or(DataType::Utf8),
            nullable: true,
            remote_type: declared,
        });
    }
    match columns.is_empty() {
        true => Err(wrong("the query for the source returns no columns".to_owned())),
        false => Ok(columns),
    }
}

/// How a table keeps its rows.
struct Shape {
    view: bool,
    strict: bool,
}

fn shape(connection: &Connection, table: &str) -> rusqlite::Result<Option<Shape>> {
    connection
        .query_row(
            "SELECT type = 'view', strict FROM pragma_table_list \
             WHERE schema = 'main' AND name = ?1 COLLATE BINARY",
            [table],
            |row| Ok(Shape { view: row.get(0)?, strict: row.get(1)? }),
        )
        .optional()
}

fn describe(
    connection: &Connection,
    table: &str,
    shape: &Shape,
    mismatch: Mismatch,
) -> rusqlite::Result<Vec<RemoteColumn>> {
    let mut statement = connection.prepare(
        "SELECT name, type, \"notnull\", pk, \
         (SELECT count(*) FROM pragma_table_xinfo(?1, 'main') WHERE pk > 0), \
         (SELECT count(*) FROM pragma_index_list(?1, 'main') WHERE origin = 'pk') \
         FROM pragma_table_xinfo(?1, 'main') WHERE hidden <> ?2 ORDER BY cid",
    )?;
    let mut rows = statement.query((table, HIDDEN))?;
    let mut columns = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, declared): (String, String) = (row.get(0)?, row.get(1)?);
        let (not_null, in_key, n_keys): (bool, bool, i64) = (row.get(2)?, row.get(3)?, row.get(4)?);
        // A key that is the rowid needs no index; INTEGER PRIMARY KEY DESC is none and has one.
        let n_key_indexes: i64 = row.get(5)?;
        let rowid = in_key
            && n_keys == 1
            && n_key_indexes == 0
            && !shape.view
            && declared.eq_ignore_ascii_case("INTEGER");
        let promise = promised(&declared);
        let detail = Detail {
            enforced: rowid || (shape.strict && promise.is_some()),
            collation: collation(connection, table, &name, shape)?,
            any: promise.is_none(),
        };
        columns.push(RemoteColumn {
            name,
            data_type: promise.unwrap_or(DataType::Utf8),
            nullable: !((not_null || rowid) && mismatch == Mismatch::Error),
            remote_type: declared,
            detail: json!(detail),
        });
    }
    Ok(columns)
}

/// Returns the collation of a table's column; SQLite tells none for views.
fn collation(
    connection: &Connection,
    table: &str,
    column: &str,
    shape: &Shape,
) -> rusqlite::Result<Option<String>> {
    if shape.view {
        return Ok(None);
    }
    let (_declared, collation, ..) = connection.column_metadata(Some(SCHEMA), table, column)?;
    Ok(collation.and_then(|name| name.to_str().ok()).map(str::to_ascii_uppercase))
}
