//! What the writers of all SQL databases share: their refusals, and the text of the statements that need no values.

use meshwork_engine::connector::CreateTable;
use meshwork_engine::remote::RemoteScan;
use meshwork_engine::{Error, Result};

use super::Dialect;

/// The error for a change in a catalog that is only read.
pub fn read_only(catalog: &str) -> Error {
    let message =
        format!("catalog \"{catalog}\" is read-only: its property \"writable\" is not true");
    Error::user("CATALOG_READ_ONLY", message)
        .with_hint("Define the catalog with writable = 'true', for a user who may write.")
}

/// The error for rows that a table does not take; `said` names the column or constraint.
pub fn rows_refused(table: &str, said: impl std::fmt::Display) -> Error {
    Error::user("ROWS_REFUSED", format!("table \"{table}\" does not take the rows: {said}"))
}

/// The error when nobody knows whether a source has committed.
pub fn outcome_unknown(source: &str) -> Error {
    let message = format!("{source} did not say whether it has committed");
    Error::source("COMMIT_OUTCOME_UNKNOWN", message)
        .with_hint("Look whether the change is there before it is made again.")
}

/// The error for a name that is taken.
pub fn table_exists(table: &str) -> Error {
    Error::user("TABLE_ALREADY_EXISTS", format!("table \"{table}\" exists already"))
}

/// Refuses what no SQL database has: options behind `WITH`, and tables without columns.
pub fn refuse_options(table: &CreateTable, kind: &str) -> Result<()> {
    if let Some((key, _value)) = table.options.first() {
        let message = format!("option \"{key}\" does not exist for a table of kind {kind}");
        return Err(Error::user("TABLE_OPTION", message));
    }
    if table.columns.fields().is_empty() {
        let message = format!("table \"{}\" has no columns", table.table);
        return Err(Error::user("INVALID_QUERY", message));
    }
    Ok(())
}

/// Returns the quoted name of a scan's table, with its schema.
pub fn relation(dialect: &dyn Dialect, table: &RemoteScan) -> Result<String> {
    qualified(dialect, &table.schema, &table.table)
}

/// Returns the quoted name of a table, with its schema.
pub fn qualified(dialect: &dyn Dialect, schema: &str, table: &str) -> Result<String> {
    Ok(format!("{}.{}", dialect.identifier(schema)?, dialect.identifier(table)?))
}

/// Returns quoted names with commas between them.
pub fn identifiers<'a>(
    dialect: &dyn Dialect,
    names: impl Iterator<Item = &'a str>,
) -> Result<String> {
    Ok(names.map(|name| dialect.identifier(name)).collect::<Result<Vec<_>>>()?.join(", "))
}

/// Returns `CREATE TABLE` with the server's type of each column.
pub fn create_table<'a>(
    dialect: &dyn Dialect,
    relation: &str,
    columns: impl Iterator<Item = (&'a str, &'a str, bool)>,
) -> Result<String> {
    let mut definitions = Vec::new();
    for (name, type_name, nullable) in columns {
        let constraint = if nullable { "" } else { " NOT NULL" };
        definitions.push(format!("{} {type_name}{constraint}", dialect.identifier(name)?));
    }
    Ok(format!("CREATE TABLE {relation} ({})", definitions.join(", ")))
}
