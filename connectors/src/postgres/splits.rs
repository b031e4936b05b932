//! Cuts a scan of a table into ranges of its pages, all read under one snapshot.
//!
//! A range costs its own pages only (a TID range scan), and with the snapshot the ranges cover the table
//! exactly once whatever others write meanwhile. The last range is open: pages added later hold nothing
//! that the snapshot sees, but a size is never a promise. Of a partitioned table a range is these pages of each partition: it
//! is read by its own name, so that rights and policies are those of the whole. A table from which others inherit otherwise is not cut.

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

/// What a table stores rows in, itself or its parts: how many pages each has, and whether they can be read in ranges.
const PARTS: &str = "WITH RECURSIVE whole AS ( \
       SELECT c.oid FROM pg_catalog.pg_class c \
       JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
       WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'm', 'p') \
       UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN whole w ON w.oid = i.inhparent \
     ) \
     SELECT c.oid::text, pg_catalog.pg_relation_size(c.oid, 'main') / p.bytes, p.bytes, \
       COALESCE(c.relkind <> 'f' AND a.amname = 'heap', false), c.relispartition \
     FROM whole w JOIN pg_catalog.pg_class c ON c.oid = w.oid \
     LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam, \
     LATERAL (SELECT current_setting('block_size')::int8 AS bytes) p \
     WHERE c.relkind <> 'p'";

/// What all splits of a scan share; kept in `RemoteScan::shared`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Shared {
    /// The exported snapshot that every split reads.
    pub(super) snapshot: String,
    /// The partitions of a partitioned table that was cut, by their numbers at the server.
    pub(super) parts: Vec<String>,
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
    let mut shared = Shared { snapshot: snapshot.id.clone(), parts: Vec::new() };
    scan.shared = to_value(&shared)?;
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
    let rows = snapshot.lookup(PARTS, &names).await?;
    let (mut n_pages, mut n_bytes): (Vec<u64>, u64) = (Vec::new(), 0);
    for row in &rows {
        let (part, pages, page_bytes): (String, Option<i64>, i64) =
            (get(row, 0)?, get(row, 1)?, get(row, 2)?);
        let pages = u64::try_from(pages.unwrap_or(0)).unwrap_or(0);
        n_pages.push(pages);
        n_bytes += pages * u64::try_from(page_bytes).unwrap_or(0);
        if get::<bool>(row, 4)? {
            shared.parts.push(part);
        }
        if !get::<bool>(row, 3)? {
            return Ok((scan, vec![Split::whole()]));
        }
    }
    // Tables that inherit without being partitions come and go while splits are read, and nothing holds them.
    if rows.len() > 1 && shared.parts.len() < rows.len() {
        return Ok((scan, vec![Split::whole()]));
    }
    // Whether there are the same partitions still, each split asks for one table only.
    if n_pages.is_empty() || (!shared.parts.is_empty() && scan.join.is_some()) {
        return Ok((scan, vec![Split::whole()]));
    }
    let split_bytes_min = u64::from(server.configuration.split_kb_min) << 10;
    let n_wanted = usize::try_from(n_bytes / split_bytes_min.max(1)).unwrap_or(usize::MAX);
    let ranges = ranges(&n_pages, n_wanted.clamp(1, n_splits_max));
    if ranges.len() > 1 {
        scan.shared = to_value(&shared)?;
    }
    let splits = ranges.into_iter().map(split).collect::<Result<_>>()?;
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

/// Returns ranges, `n` at most, that cover all pages of parts of so many pages, of each range nearly as many; the last is open.
fn ranges(n_pages: &[u64], n: usize) -> Vec<Pages> {
    let longest = n_pages.iter().copied().max().unwrap_or(0);
    let n_before = |page: u64| n_pages.iter().map(|pages| page.min(*pages)).sum::<u64>();
    let (n, n_all) = (n.max(1) as u64, n_before(longest));
    // The first page before which there are as many as that.
    let page_behind = |n_wanted: u64| {
        let (mut low, mut high) = (0, longest);
        while low < high {
            let middle = low + (high - low) / 2;
            if n_before(middle) < n_wanted {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        u32::try_from(low).unwrap_or(u32::MAX)
    };
    let mut bounds: Vec<u32> = (0..n).map(|index| page_behind(n_all * index / n)).collect();
    bounds.dedup();
    let ends = bounds.iter().skip(1).copied().map(Some).chain([None]);
    bounds.iter().zip(ends).map(|(from, to)| Pages { from: *from, to }).collect()
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
        for (n_pages, n) in [
            (&[0][..], 1),
            (&[1], 1),
            (&[2], 2),
            (&[3], 2),
            (&[2_048], 2),
            (&[5_000], 4),
            (&[110_368], 8),
            (&[0, 700, 100, 800], 4),
            (&[40, 40, 40], 4),
        ] {
            let ranges = ranges(n_pages, n);
            assert_eq!((ranges.len(), ranges.first().unwrap().from), (n, 0));
            assert_eq!(ranges.last().unwrap().to, None);
            for pair in ranges.windows(2) {
                assert_eq!(pair[0].to, Some(pair[1].from));
                assert!(pair[0].from < pair[1].from);
            }
        }
    }

    #[test]
    fn parts_are_cut_into_ranges_of_as_many_pages() {
        let bounds = |n_pages: &[u64], n| -> Vec<u32> {
            ranges(n_pages, n).iter().map(|pages| pages.from).collect()
        };
        // 600 pages: 2 x 100 and 100, then 100 of the longest, then its rest.
        assert_eq!(bounds(&[100, 400, 100], 3), [0, 67, 200]);
        assert_eq!(bounds(&[1, 1, 1, 1], 4), [0, 1]);
        assert_eq!(bounds(&[], 4), [0]);
    }
}
