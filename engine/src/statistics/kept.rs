//! Statistics that outlast a query: those that `ANALYZE` took and what scans counted, found by the table's name.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::Schema;
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;

use super::{Counts, TableStatistics};

/// The whole name of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableKey {
    /// The catalog.
    pub catalog: String,
    /// The schema exactly as the source spells it.
    pub schema: String,
    /// The table exactly as the source spells it.
    pub table: String,
}

impl fmt::Display for TableKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.catalog, self.schema, self.table)
    }
}

/// Statistics that outlast the query.
#[async_trait]
pub trait KeptStatistics: fmt::Debug + Send + Sync {
    /// Returns what `ANALYZE` kept of a table. Never fails: what cannot be read in time is not known.
    async fn of_table(&self, table: &TableKey) -> Option<Arc<TableStatistics>>;

    /// Returns what scans of a table counted.
    fn counts(&self, table: &TableKey) -> Counts;
}

impl TableStatistics {
    /// Tells DataFusion what it does not know of a scan of whole files: rows, and how many values differ. What the
    /// files say stands before it. Ends of columns are left out: see [`crate::remote`].
    pub fn fill(&self, statistics: &mut Statistics, columns: &Schema) {
        if let (Precision::Absent, Some(n_rows)) = (&statistics.num_rows, self.n_rows) {
            statistics.num_rows = Precision::Inexact(n_rows.max(1.0).round() as usize);
        }
        for (field, column) in columns.fields().iter().zip(&mut statistics.column_statistics) {
            let known = self.columns.get(field.name()).and_then(|known| known.n_distinct);
            if let (Precision::Absent, Some(n_distinct)) = (&column.distinct_count, known) {
                let n_distinct = Precision::Inexact(n_distinct.max(1.0).round() as usize);
                column.distinct_count = match statistics.num_rows {
                    Precision::Absent => n_distinct,
                    n_rows => n_distinct.min(&n_rows.to_inexact()),
                };
            }
        }
    }
}
