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
use super::connection::{Connection, Server};
use super::protocol::Described;
use super::wire::Wire;
use super::{error, splits};

/// The tables, of those named and of what inherits from them, whose rows the snapshot does not see any more: it knows the
/// old file of a table, the function the present one. Views have none; what they read is not looked at.
const REWRITTEN: &str = "WITH RECURSIVE whole AS ( \
       SELECT c.oid FROM unnest($1::text[], $2::text[]) AS named(schema, name) \
       JOIN pg_catalog.pg_namespace n ON n.nspname = named.schema \
       JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = named.name \
       UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN whole w ON w.oid = i.inhparent \
     ) \
     SELECT n.nspname::text || '.' || c.relname::text, 'was rewritten, emptied or made anew' \
     FROM whole w \
     JOIN pg_catalog.pg_class c ON c.oid = w.oid \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'm') AND c.relfilenode <> 0 \
       AND pg_catalog.pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode";

/// And of a partitioned table whether its partitions are still those of the third list. The snapshot would show those that
/// were there; the function knows, and holds, the present ones.
const OTHER_PARTS: &str = " UNION ALL \
     SELECT $1[1] || '.' || $2[1], \
       CASE WHEN planned.part IS NULL THEN 'has a new partition' ELSE 'has lost a partition' END \
     FROM unnest($3::text[]) AS planned(part) FULL JOIN ( \
       SELECT t.relid::oid::text AS part FROM pg_catalog.pg_class c \
       JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, \
       LATERAL pg_catalog.pg_partition_tree(c.oid) t \
       WHERE n.nspname = $1[1] AND c.relname = $2[1] AND t.isleaf \
     ) AS present ON present.part = planned.part \
     WHERE planned.part IS NULL OR present.part IS NULL";

/// Refuses to read a scan whose tables were changed since it was planned; `select` is what will be read. Returns whether it
/// was described.
pub(super) async fn refuse_changed(
    server: &Server,
    session: &mut Connection,
    scan: &RemoteScan,
    select: &str,
) -> Result<bool> {
    if scan.query.is_some() {
        // Who writes a query may name anything, and its tables are not known.
        return Ok(false);
    }
    let (schemas, tables): (Vec<String>, Vec<String>) = named_tables(scan).into_iter().unzip();
    let (mut question, mut parameters) = (REWRITTEN.to_owned(), vec![schemas, tables]);
    let parts = splits::shared(scan)?.parts;
    if !parts.is_empty() {
        question.push_str(OTHER_PARTS);
        parameters.push(parts);
    }
    // Sent together, answered in this order: the second sees the tables as the first holds them.
    let answered = session.describe_rows(select, &question, &parameters).await;
    let (described, changed) = answered.map_err(|error| named(scan, error))?;
    refuse_other_types(scan, &described)?;
    match changed.first().map(Vec::as_slice) {
        Some([table, how]) => Err(Error::schema_changed(format!(
            "table \"{}.{table}\" {how}",
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
