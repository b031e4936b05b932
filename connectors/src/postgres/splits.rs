//! Cuts a scan of a plain table into ranges of its pages, all read under one snapshot.
//!
//! A range costs its own pages only (a TID range scan), and with the snapshot the ranges cover the table
//! exactly once whatever others write meanwhile. The last range is open: pages added later hold nothing
//! that the snapshot sees, but a size is never a promise.

use meshwork_engine::connector::Split;
use meshwork_engine::remote::{Predicate, RemoteScan};
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::types::{ToSql, Type};

use super::columns::Detail;
use super::connection::Server;
use super::listing::get;
use super::pushdown::Postgres;
use super::snapshot::Snapshot;
use crate::relational::{Test, select};

/// A scan that may stop this early needs one connection only.
const LIMIT_OF_ONE_SPLIT: usize = 100_000;

const SIZE: &str = "SELECT pg_catalog.pg_relation_size(c.oid, 'main'), \
     current_setting('block_size')::int8 \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_catalog.pg_am a ON a.oid = c.relam \
     WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'm') AND a.amname = 'heap'";

/// What all splits of a scan share; kept in `RemoteScan::shared`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Shared {
    /// The exported snapshot that every split reads.
    pub(super) snapshot: String,
}

/// A half-open range of pages; kept in `Split::payload`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Pages {
    from: u32,
    /// `None`: to the end of the table.
    to: Option<u32>,
}

/// Cuts the scan, and binds it to the snapshot.
pub(super) async fn cut(
    server: &Server,
    snapshot: &Snapshot,
    mut scan: RemoteScan,
    settings: &QuerySettings,
) -> Result<(RemoteScan, Vec<Split>)> {
    scan.shared = to_value(&Shared { snapshot: snapshot.id.clone() })?;
    let n_splits_max = settings.splits_max.min(server.connections.n_readers_max());
    let may_cut = snapshot.has_page_ranges
        && scan.query.is_none()
        && n_splits_max > 1
        && scan.limit.is_none_or(|limit| limit > LIMIT_OF_ONE_SPLIT)
        && !uses_index(&scan)?;
    if !may_cut {
        return Ok((scan, vec![Split::whole()]));
    }
    let names: [(&(dyn ToSql + Sync), Type); 2] =
        [(&scan.schema, Type::TEXT), (&scan.table, Type::TEXT)];
    let rows = snapshot.lookup(server, SIZE, &names).await?;
    let Some(row) = rows.first() else { return Ok((scan, vec![Split::whole()])) };
    let (bytes, page_bytes): (Option<i64>, i64) = (get(row, 0)?, get(row, 1)?);
    let split_bytes_min = i64::from(server.configuration.split_kb_min) << 10;
    let n_wanted = usize::try_from(bytes.unwrap_or(0) / split_bytes_min).unwrap_or(0);
    let splits = ranges(bytes.unwrap_or(0), page_bytes, n_wanted.clamp(1, n_splits_max))
        .into_iter()
        .map(split)
        .collect::<Result<_>>()?;
    Ok((scan, splits))
}

/// Returns the statement that reads a split.
pub(super) fn statement(scan: &RemoteScan, split: &Split) -> Result<String> {
    if split.payload == Value::Null {
        return select(&Postgres, scan, None);
    }
    let pages = Pages::deserialize(&split.payload)
        .map_err(|e| Error::internal("a split is not a range of pages").caused_by(&e))?;
    let mut condition = format!("ctid >= '({},0)'::tid", pages.from);
    if let Some(to) = pages.to {
        condition.push_str(&format!(" AND ctid < '({to},0)'::tid"));
    }
    select(&Postgres, scan, Some(&condition))
}

/// Returns what the splits of a scan share.
pub(super) fn shared(scan: &RemoteScan) -> Result<Shared> {
    Shared::deserialize(&scan.shared)
        .map_err(|e| Error::internal("a scan was not bound to a snapshot").caused_by(&e))
}

/// Whether an equality that an index serves was pushed: every range would then walk the whole index.
fn uses_index(scan: &RemoteScan) -> Result<bool> {
    for filter in &scan.filters {
        let (column, test) = match filter {
            Predicate::Compare { column, comparison, value } => {
                (column, Test::Compare(*comparison, value))
            }
            Predicate::In { column, values, negated: false } => (column, Test::In(values)),
            Predicate::In { negated: true, .. }
            | Predicate::Null { .. }
            | Predicate::Like { .. }
            | Predicate::And(_)
            | Predicate::Or(_)
            | Predicate::Not(_) => continue,
        };
        if let Some(column) = scan.columns.get(*column)
            && test.is_equality()
            && Detail::of(column)?.is_indexed
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an index finds the rows, or returns them in the wanted order: every range of pages would look at all of them.
pub(super) fn is_found_by_index(scan: &RemoteScan) -> bool {
    let first = scan.order.first().and_then(|key| scan.columns.get(key.column));
    let is_ordered =
        first.and_then(|column| Detail::of(column).ok()).is_some_and(|detail| detail.is_indexed);
    is_ordered || uses_index(scan).unwrap_or(false)
}

/// Returns `n` ranges of nearly equal size that cover all pages; the last is open.
fn ranges(bytes: i64, page_bytes: i64, n: usize) -> Vec<Pages> {
    let n = u32::try_from(n.max(1)).unwrap_or(1);
    let n_pages = u32::try_from(bytes / page_bytes.max(1)).unwrap_or(u32::MAX);
    let bound = |index: u32| u64::from(n_pages) * u64::from(index) / u64::from(n);
    let bound = |index: u32| u32::try_from(bound(index)).unwrap_or(u32::MAX);
    (0..n)
        .map(|index| Pages { from: bound(index), to: (index + 1 < n).then(|| bound(index + 1)) })
        .collect()
}

fn split(pages: Pages) -> Result<Split> {
    let description = match (pages.from, pages.to) {
        (0, None) => return Ok(Split::whole()),
        (from, Some(to)) => format!("pages {from}..{to}"),
        (from, None) => format!("pages {from}.."),
    };
    Ok(Split { description, payload: to_value(&pages)? })
}

fn to_value<T: Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|e| Error::internal("a part of a scan cannot be kept").caused_by(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_meet_and_the_last_is_open() {
        for (n_pages, n) in [(0, 1), (1, 1), (2, 2), (3, 2), (2_048, 2), (5_000, 4), (110_368, 8)] {
            let ranges = ranges(n_pages * 8192, 8192, n);
            assert_eq!((ranges.len(), ranges.first().unwrap().from), (n, 0));
            assert_eq!(ranges.last().unwrap().to, None);
            for pair in ranges.windows(2) {
                assert_eq!(pair[0].to, Some(pair[1].from));
                assert!(pair[0].from < pair[1].from);
            }
        }
    }
}
