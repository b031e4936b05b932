//! Schemas and tables of the server. Each listing is one lookup; nothing is cached.

use std::sync::Arc;

use meshwork_engine::connector::{TableEntry, TableKind};
use meshwork_engine::{Error, Result};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

use super::connection::Server;

/// The server's own schemas are not listed; their tables can be read by name.
const SCHEMAS: &str = "SELECT n.nspname::text FROM pg_catalog.pg_namespace n \
     WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%' \
     AND has_schema_privilege(n.oid, 'USAGE')";

/// Tables, partitioned tables (not their parts), views, materialized views, foreign tables.
const TABLES: &str = "SELECT c.relname::text, c.relkind::text, \
     pg_catalog.obj_description(c.oid, 'pg_class') \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition";

/// Returns the names of the schemas that the user may use, sorted.
pub(super) async fn schema_names(server: &Arc<Server>) -> Result<Vec<String>> {
    let rows = server.lookup(SCHEMAS, &[]).await?;
    let mut names: Vec<String> = rows.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    names.retain(|name| server.configuration.shows_schema(name));
    names.sort();
    Ok(names)
}

/// Returns the tables of a schema, sorted by name.
pub(super) async fn tables(server: &Arc<Server>, schema: &str) -> Result<Vec<TableEntry>> {
    if !server.configuration.shows_schema(schema) {
        return Ok(Vec::new());
    }
    let rows = server.lookup(TABLES, &[(&schema, Type::TEXT)]).await?;
    let entry = |row: &Row| {
        let kind: String = get(row, 1)?;
        let kind = if kind == "v" { TableKind::View } else { TableKind::Table };
        Ok(TableEntry { name: get(row, 0)?, kind, comment: get(row, 2)? })
    };
    let mut tables: Vec<TableEntry> = rows.iter().map(entry).collect::<Result<_>>()?;
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tables)
}

/// Returns a value of a lookup's row.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T> {
    row.try_get(index).map_err(|e| {
        Error::internal("PostgreSQL's own catalog has another type than expected").caused_by(&e)
    })
}
