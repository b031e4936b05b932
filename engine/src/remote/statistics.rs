//! What a scan is expected to return: asked of the source once per query, given to DataFusion as estimates.
//!
//! DataFusion gets no least and greatest values from here. It takes what a filter leaves between two bounds for
//! proven, inexact bounds too: `x >= 9` over a column whose statistics are old and say that 9 is the greatest
//! value would make 9 of `x`, and the rows above would be sorted wrongly. The bounds are used in our own
//! estimate of what the source filters.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Statistics};
use futures::FutureExt;

use super::{JoinKind, RemoteScan};
use crate::connector::RowSource;
use crate::environment::within;
use crate::scope::QueryScope;
use crate::statistics::{TableKey, TableStatistics, n_distinct_left, selectivity};

/// How long a source may take to say what it knows. A plan without statistics is better than a late one.
const STATISTICS_DEADLINE: Duration = Duration::from_secs(2);

/// Bytes of a value whose type does not say and whose source does not either.
const VALUE_BYTES: f64 = 32.0;

/// Bytes that each value of variable length needs besides its own.
const OFFSET_BYTES: f64 = 4.0;

impl RemoteScan {
    /// Returns the table's name for the statistics that are kept of it.
    pub fn key(&self) -> TableKey {
        TableKey {
            catalog: self.catalog.clone(),
            schema: self.schema.clone(),
            table: self.table.clone(),
        }
    }
}

/// Returns what is known of a whole table: what its source says, and where it says nothing, what `ANALYZE` kept; and
/// what scans have counted. Asks both once per query; a failure is logged and nothing is known.
pub(super) async fn of_table(
    whole: &RemoteScan,
    source: &Arc<dyn RowSource>,
    scope: &Arc<QueryScope>,
) -> Arc<TableStatistics> {
    let key = format!("statistics:{}", whole.key());
    let (whole, source) = (whole.clone(), Arc::clone(source));
    let within_query = Arc::clone(scope);
    let ask = move || {
        async move {
            let said = said(&whole, source.as_ref(), &within_query);
            let (said, kept) = futures::join!(said, within_query.kept_statistics(whole.key()));
            let known = match kept {
                Some(kept) => said.or(&kept),
                None => said,
            };
            let counts = within_query.counts(&whole.key());
            Ok(TableStatistics { counts, ..known })
        }
        .boxed()
    };
    // Asking itself never fails.
    scope.resource(&key, ask).await.unwrap_or_default()
}

async fn said(
    whole: &RemoteScan,
    source: &dyn RowSource,
    scope: &Arc<QueryScope>,
) -> TableStatistics {
    let asked =
        within(STATISTICS_DEADLINE, "asking for statistics", source.statistics(whole, scope));
    match asked.await.and_then(|said| said) {
        Ok(said) => said,
        Err(error) => {
            tracing::warn!(table = whole.display_name(), %error, "planned without statistics");
            TableStatistics::default()
        }
    }
}

/// Returns what all splits of a scan together are expected to return, never fewer than one row: an estimate of
/// none is no proof.
pub(super) fn of_scan(scan: &RemoteScan, table: &TableStatistics, n_splits: usize) -> Statistics {
    let passing = selectivity(&scan.filters, &scan.columns, table);
    let estimated = table.n_rows.map(|n_rows| n_rows * passing.fraction);
    let passed = table.counted(&scan.filters, &scan.columns).or(estimated);
    let limit = scan.limit.map(|limit| limit as f64 * n_splits as f64);
    let n_rows = match (passed, limit) {
        (Some(passed), Some(limit)) => Some(passed.min(limit)),
        (passed, limit) => passed.or(limit),
    };
    let mut statistics = Statistics::new_unknown(&scan.output_schema());
    let Some(n_rows) = n_rows.map(|n_rows| n_rows.max(1.0)) else { return statistics };
    statistics.num_rows = count(n_rows);
    let of_all = table.n_rows.unwrap_or(n_rows).max(n_rows);
    let columns =
        scan.projection.iter().map(|index| of_column(scan, table, *index, n_rows, of_all));
    statistics.column_statistics = columns.collect();
    statistics.total_byte_size = bytes(&statistics);
    statistics
}

/// Returns what a scan is expected to return that agreed to more: an order with a limit, or aggregates. Of these no more
/// is known than that there are no more of them than rows.
pub(super) fn of_agreed(rows: &Statistics, scan: &RemoteScan, n_splits: usize) -> Statistics {
    let at_most = |n_rows: usize| match rows.num_rows.get_value() {
        Some(known) => Precision::Inexact((*known).min(n_rows)),
        None => Precision::Inexact(n_rows),
    };
    if let Some(aggregate) = &scan.aggregate {
        let gathered = Statistics::new_unknown(&scan.output_schema());
        let num_rows = match aggregate.groups.is_empty() {
            true => Precision::Inexact(n_splits.max(1)),
            false => rows.num_rows.to_inexact(),
        };
        return Statistics { num_rows, ..gathered };
    }
    match scan.limit {
        Some(limit) => {
            let num_rows = at_most(limit.saturating_mul(n_splits.max(1)));
            Statistics { num_rows, total_byte_size: Precision::Absent, ..rows.clone() }
        }
        None => rows.clone(),
    }
}

/// Returns what a join of two scans is expected to return, all columns of both sides or of the left one; `None` if too little
/// is known of its keys.
pub fn of_join(
    left: &Statistics,
    right: &Statistics,
    on: &[(usize, usize)],
    kind: JoinKind,
) -> Option<Statistics> {
    let n_left = *left.num_rows.get_value()? as f64;
    let n_right = *right.num_rows.get_value()? as f64;
    let values = |side: &Statistics, column: usize| {
        let known = side.column_statistics.get(column)?.distinct_count.get_value()?;
        Some((*known as f64).max(1.0))
    };
    let (mut n_rows, mut matched) = (n_left * n_right, 1.0_f64);
    // Keys of several columns have at most as many values as the side has rows that has fewer.
    let (mut of_left, mut of_right) = (1.0_f64, 1.0_f64);
    for (l, r) in on {
        let (l, r) = (values(left, *l)?, values(right, *r)?);
        (of_left, of_right) = (of_left * l, of_right * r);
        matched = matched.min(r / l);
    }
    n_rows /= of_left.max(of_right).min(n_left.max(n_right)).max(1.0);
    let (columns, n_rows) = match kind {
        JoinKind::Inner => {
            let columns = left.column_statistics.iter().chain(&right.column_statistics);
            (columns.cloned().collect(), n_rows)
        }
        JoinKind::Semi => (left.column_statistics.clone(), n_left * matched),
    };
    let n_rows = n_rows.max(1.0);
    let mut statistics = Statistics {
        num_rows: count(n_rows),
        total_byte_size: Precision::Absent,
        column_statistics: columns,
    };
    let sides = [(left.column_statistics.len(), n_left), (usize::MAX, n_right)];
    for (place, column) in statistics.column_statistics.iter_mut().enumerate() {
        let of_side = sides.iter().find(|(end, _)| place < *end).map_or(n_rows, |(_, n)| *n);
        let share = |precision: Precision<usize>| match precision.get_value() {
            Some(known) => count(*known as f64 * n_rows / of_side.max(1.0)),
            None => Precision::Absent,
        };
        column.null_count = share(column.null_count);
        column.byte_size = share(column.byte_size);
        column.distinct_count = column.distinct_count.min(&statistics.num_rows);
    }
    statistics.total_byte_size = bytes(&statistics);
    Some(statistics)
}

/// Returns what some splits of a scan are expected to return.
pub(super) fn of_part(whole: &Statistics, n_splits: usize, n_splits_of_all: usize) -> Statistics {
    if n_splits >= n_splits_of_all {
        return whole.clone();
    }
    let share = n_splits as f64 / n_splits_of_all as f64;
    let part = |precision: Precision<usize>| precision.with_estimated_selectivity(share);
    let mut statistics = whole.clone();
    statistics.num_rows = part(statistics.num_rows);
    for column in &mut statistics.column_statistics {
        column.null_count = part(column.null_count);
        column.byte_size = part(column.byte_size);
        column.distinct_count = column.distinct_count.min(&statistics.num_rows);
    }
    statistics.total_byte_size = part(statistics.total_byte_size);
    statistics
}

fn of_column(
    scan: &RemoteScan,
    table: &TableStatistics,
    index: usize,
    n_rows: f64,
    n_rows_of_all: f64,
) -> ColumnStatistics {
    let mut statistics = ColumnStatistics::new_unknown();
    let Some(column) = scan.columns.get(index) else { return statistics };
    let known = table.columns.get(&column.name);
    let of_value = bytes_of_value(&column.data_type, known.and_then(|known| known.average_bytes));
    statistics.byte_size = count(of_value * n_rows);
    let Some(known) = known else { return statistics };
    if let Some(null_fraction) = known.null_fraction {
        statistics.null_count = count(null_fraction * n_rows);
    }
    if let Some(n_distinct) = known.n_distinct.map(|n_distinct| n_distinct.max(1.0)) {
        let left = n_distinct_left(n_distinct, index, &scan.filters, &scan.columns, table);
        let drawn = drawn(n_distinct, n_rows, n_rows_of_all);
        statistics.distinct_count = count(left.min(drawn).min(n_rows).max(1.0));
    }
    statistics
}

/// Returns how many of a column's values some of its rows have, drawn without regard to it (Cardenas, 1975).
fn drawn(n_distinct: f64, n_rows: f64, n_rows_of_all: f64) -> f64 {
    let rows_per_value = n_rows_of_all / n_distinct;
    let missed = (1.0 - n_rows / n_rows_of_all).max(0.0).powf(rows_per_value);
    n_distinct * (1.0 - missed)
}

/// Types of fixed width are as wide here, whatever the source needs for them.
fn bytes_of_value(data_type: &DataType, average_bytes: Option<f64>) -> f64 {
    match data_type.primitive_width() {
        Some(width) => width as f64,
        None if *data_type == DataType::Boolean => 1.0,
        None => average_bytes.unwrap_or(VALUE_BYTES) + OFFSET_BYTES,
    }
}

/// Without columns there are no bytes to compare, and rows decide.
fn bytes(statistics: &Statistics) -> Precision<usize> {
    let columns = statistics.column_statistics.iter();
    let bytes: Option<usize> = columns.map(|column| column.byte_size.get_value().copied()).sum();
    bytes.filter(|bytes| *bytes > 0).map_or(Precision::Absent, Precision::Inexact)
}

fn count(estimated: f64) -> Precision<usize> {
    // A float beyond the range becomes the greatest number.
    Precision::Inexact(estimated.round() as usize)
}
