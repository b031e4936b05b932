//! Whether a scan's tables are still what the query was planned for.
//!
//! A session asks right before it reads, under the query's snapshot. Describing the statement makes it hold the tables
//! until it ends, so nobody changes them between the answer and the rows. Changes that the snapshot does not cover are
//! found here: rows do not say of what types they are, and a table that was rewritten, truncated, or dropped and made
//! again since would look empty to the snapshot.

use meshwork_engine::remote::RemoteScan;
use meshwork_engine::{Error, Result};
use tokio_postgres::types::Type;

use super::columns::{Detail, Sent};
use super::connection::{ReadSession, Server};
use super::error;
use super::protocol::Described;
use super::wire::Wire;

/// The tables, of those named and of what inherits from them, whose rows the snapshot does not see any more: it knows the
/// old file of a table, the function the present one. Views have none; what they read is not looked at.
const REWRITTEN: &str = "WITH RECURSIVE whole AS ( \
       SELECT c.oid FROM unnest($1::text[], $2::text[]) AS named(schema, name) \
       JOIN pg_catalog.pg_namespace n ON n.nspname = named.schema \
       JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = named.name \
       UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN whole w ON w.oid = i.inhparent \
     ) \
     SELECT n.nspname::text, c.relname::text FROM whole w \
     JOIN pg_catalog.pg_class c ON c.oid = w.oid \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'm') AND c.relfilenode <> 0 \
       AND pg_catalog.pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode LIMIT 1";

/// Refuses to read a scan whose tables were changed since it was planned; `select` is what will be read. Returns whether it
/// was described.
pub(super) async fn refuse_changed(
    server: &Server,
    session: &mut ReadSession,
    scan: &RemoteScan,
    select: &str,
) -> Result<bool> {
    if scan.query.is_some() {
        // Who writes a query may name anything, and its tables are not known.
        return Ok(false);
    }
    let (schemas, tables): (Vec<String>, Vec<String>) = named_tables(scan).into_iter().unzip();
    // Sent together, answered in this order: the second sees the tables as the first holds them.
    let answered = session.describe(select, REWRITTEN, &[schemas, tables]).await;
    let (described, rewritten) = answered.map_err(|error| named(scan, error))?;
    refuse_other_types(scan, &described)?;
    match rewritten.first().map(Vec::as_slice) {
        Some([schema, table]) => Err(Error::schema_changed(format!(
            "table \"{}.{schema}.{table}\" was rewritten, emptied or made anew",
            server.configuration.catalog
        ))),
        _ => Ok(true),
    }
}

/// Returns schema and name of each table that a scan reads.
fn named_tables(scan: &RemoteScan) -> Vec<(String, String)> {
    match &scan.join {
        None => vec![(scan.schema.clone(), scan.table.clone())],
        Some(join) => [named_tables(&join.left), named_tables(&join.right)].concat(),
    }
}

/// Refuses columns that have got other types.
fn refuse_other_types(scan: &RemoteScan, described: &[Described]) -> Result<()> {
    for (column, now) in scan.output().iter().zip(described) {
        // What the server computes, and what is asked for as another type, it casts to the type that is expected.
        if column.detail.is_null() {
            continue;
        }
        let Detail { wire: expected, sent, .. } = Detail::of(column)?;
        if sent != Sent::Itself {
            continue;
        }
        // A least or greatest decimal has lost its bounds; the decoder takes no digit that does not fit.
        let is_decimal = matches!(expected, Wire::Decimal128 { .. } | Wire::Decimal256 { .. });
        if is_decimal && now.type_id == Type::NUMERIC.oid() && now.type_modifier < 0 {
            continue;
        }
        let arrives = Wire::of_type(now.type_id, now.type_modifier);
        if arrives.unwrap_or(Wire::Text) != expected {
            let (table, name, was) = (scan.display_name(), &column.name, &column.remote_type);
            // Types of the users' own have no name here.
            let now = Type::from_oid(now.type_id);
            let now = now.as_ref().map_or("of another type", Type::name);
            return Err(Error::schema_changed(format!(
                "column \"{name}\" of table \"{table}\" was {was} and is {now} now"
            )));
        }
    }
    Ok(())
}

/// Names the table of which something is not there any more.
fn named(scan: &RemoteScan, error: Error) -> Error {
    match error.is_schema_changed() {
        false => error,
        true => {
            let said = error::of_query(error).message;
            Error::schema_changed(format!("table \"{}\": {said}", scan.display_name()))
        }
    }
}
