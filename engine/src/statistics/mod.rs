//! What is known of a table's values without reading them. Only plans follow from it, never an answer.
//!
//! ```text
//! RowSource::statistics ─┐                             what ANALYZE kept (KeptStatistics) ─┐
//!                        ├─► TableStatistics of the whole table ◄──────────────────────────┘
//! what scans counted ────┘
//!                              │   distribution   one column: how many rows are equal to, or below, a value
//!                              │   estimate       conditions: which fraction of the rows passes
//!                              ▼
//!                            DataFusion's Statistics of a scan (`remote::statistics`), always inexact
//! ```
//! What is not known stays `None`; it is never replaced by a small number, because a side of a join that looks
//! small is sent to every task.

mod counted;
mod distribution;
mod estimate;
mod kept;
mod of_plan;
mod parts;
#[cfg(test)]
mod tests;
mod text;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use counted::{Counted, Counts};
pub use estimate::{Selectivity, n_distinct_left, selectivity};
pub use kept::{KeptStatistics, TableKey};
pub use of_plan::of_plan;
pub use parts::combined;
pub use text::{literal_of_text, text_of_literal};

use self::distribution::Place;
use crate::remote::Literal;

/// Estimates about a whole table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TableStatistics {
    /// About how many rows it has.
    pub n_rows: Option<f64>,
    /// What is known of its columns, by their names as the source spells them.
    pub columns: BTreeMap<String, ColumnStatistics>,
    /// When `ANALYZE` took them, in microseconds since 1970; `None` for what a source says itself.
    pub taken_us: Option<i64>,
    /// What scans of it returned; never kept with the rest.
    #[serde(skip)]
    pub counts: Counts,
}

/// Estimates about one column. Fractions are of all rows of the table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ColumnStatistics {
    /// The fraction of rows that are NULL.
    pub null_fraction: Option<f64>,
    /// How many values other than NULL differ.
    pub n_distinct: Option<f64>,
    /// Bytes of a value other than NULL.
    pub average_bytes: Option<f64>,
    /// About the least value.
    pub min: Option<Literal>,
    /// About the greatest value.
    pub max: Option<Literal>,
    /// Values that many rows have.
    pub common: Vec<Common>,
    /// How the values that are not among `common` lie, in rising order; none or at least two.
    pub bounds: Vec<Bound>,
}

/// A value that many rows have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Common {
    /// The value.
    pub value: Literal,
    /// The fraction of all rows that have it.
    pub fraction: f64,
}

/// A place among the values that are not common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// The value.
    pub value: Literal,
    /// The fraction of those values that lie below it: 0 for the first bound, 1 for the last.
    pub below: f64,
}

impl TableStatistics {
    /// Returns these statistics, and where they say nothing, what `others` say.
    #[must_use]
    pub fn or(mut self, others: &Self) -> Self {
        self.n_rows = self.n_rows.or(others.n_rows);
        self.taken_us = self.taken_us.or(others.taken_us);
        for (name, other) in &others.columns {
            let column = self.columns.remove(name).unwrap_or_default();
            self.columns.insert(name.clone(), column.or(other));
        }
        self
    }
}

impl ColumnStatistics {
    /// Distinct values, common values and bounds describe one state of the table: they are taken together.
    fn or(mut self, other: &Self) -> Self {
        self.null_fraction = self.null_fraction.or(other.null_fraction);
        self.average_bytes = self.average_bytes.or(other.average_bytes);
        if self.n_distinct.is_none() && self.common.is_empty() && self.bounds.is_empty() {
            self.n_distinct = other.n_distinct;
            self.common.clone_from(&other.common);
            self.bounds.clone_from(&other.bounds);
        }
        if self.min.is_none() && self.max.is_none() {
            self.min.clone_from(&other.min);
            self.max.clone_from(&other.max);
        }
        self
    }
}

/// Returns the values in their order, those of one kind that have one: the first decides on the kind.
pub fn in_order(values: impl IntoIterator<Item = Literal>) -> Vec<Literal> {
    let mut values: Vec<Literal> = values.into_iter().collect();
    values.retain(|value| Place::of(value).is_some());
    let order = |a: &Literal, b: &Literal| Place::of(a)?.compare(&Place::of(b)?);
    if let Some(first) = values.first().cloned() {
        values.retain(|value| order(&first, value).is_some());
    }
    values.sort_by(|a, b| order(a, b).unwrap_or(Ordering::Equal));
    values
}

/// Returns bounds that cut the values into parts of equal size.
pub fn equal_parts(values: Vec<Literal>) -> Vec<Bound> {
    if values.len() < 2 {
        return Vec::new();
    }
    let last = (values.len() - 1) as f64;
    let bound = |(place, value)| Bound { value, below: place as f64 / last };
    values.into_iter().enumerate().map(bound).collect()
}
