//! What DataFusion knows of a plan, in our words.

use datafusion::arrow::datatypes::Schema;
use datafusion::common::{ScalarValue, Statistics};

use super::{ColumnStatistics, TableStatistics};
use crate::remote::Literal;

/// Returns what a plan says of what it returns: as estimates, whatever it says of them.
pub fn of_plan(said: &Statistics, columns: &Schema) -> TableStatistics {
    let n_rows = said.num_rows.get_value().map(|n_rows| *n_rows as f64);
    let mut statistics = TableStatistics { n_rows, ..TableStatistics::default() };
    for (field, said) in columns.fields().iter().zip(&said.column_statistics) {
        let nulls = said.null_count.get_value().map(|nulls| *nulls as f64);
        let filled = n_rows.map(|n_rows| n_rows - nulls.unwrap_or(0.0));
        let of_rows = |n_rows: f64| nulls.filter(|_| n_rows > 0.0).map(|nulls| nulls / n_rows);
        let bytes = said.byte_size.get_value().map(|bytes| *bytes as f64);
        let end = |value: Option<&ScalarValue>| value.and_then(Literal::from_scalar);
        let column = ColumnStatistics {
            null_fraction: n_rows.and_then(of_rows),
            n_distinct: said.distinct_count.get_value().map(|n_distinct| *n_distinct as f64),
            average_bytes: bytes
                .zip(filled.filter(|filled| *filled > 0.0))
                .map(|(bytes, filled)| bytes / filled),
            min: end(said.min_value.get_value()),
            max: end(said.max_value.get_value()),
            ..ColumnStatistics::default()
        };
        statistics.columns.insert(field.name().clone(), column);
    }
    statistics
}
