//! Cuts a scan into ranges of the column that the primary key begins with, where the catalog allows several connections.
//!
//! Each connection has its own snapshot, so this is only done under `read_consistency = relaxed`. The
//! ranges cover all keys, also those that appear while the ranges are read.

use meshwork_engine::connector::Split;
use meshwork_engine::remote::{Comparison, Literal, Predicate, RemoteScan};
use meshwork_engine::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A range of an integer key; an end that is `None` is open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct KeyRange {
    /// The key, as an index into the columns of the table.
    column: usize,
    at_least: Option<Literal>,
    below: Option<Literal>,
}

impl KeyRange {
    /// Returns the range of a split; `None` reads the whole table.
    pub(super) fn of(split: &Split) -> Result<Option<Self>> {
        serde_json::from_value(split.payload.clone())
            .map_err(|error| Error::internal("a split has another form").caused_by(&error))
    }

    /// Returns the range as a condition.
    pub(super) fn predicate(&self) -> Predicate {
        let compare = |comparison, value: &Option<Literal>| {
            let value = value.clone()?;
            Some(Predicate::Compare { column: self.column, comparison, value })
        };
        let ends = [
            compare(Comparison::GreaterOrEqual, &self.at_least),
            compare(Comparison::Less, &self.below),
        ];
        Predicate::And(ends.into_iter().flatten().collect())
    }
}

/// Returns the column of that name if it is an integer.
pub(super) fn key(table: &RemoteScan, name: &str) -> Option<usize> {
    table.columns.iter().position(|column| column.name == name && column.data_type.is_integer())
}

/// Returns `n_splits` splits that cover all keys, evenly between the least and the greatest.
pub(super) fn ranges(column: usize, least: i128, greatest: i128, n_splits: usize) -> Vec<Split> {
    let n_splits = i128::try_from(n_splits.max(1)).unwrap_or(i128::MAX);
    let width = (greatest - least) / n_splits + 1;
    let mut bounds: Vec<i128> = (1..n_splits).map(|place| least + place * width).collect();
    bounds.retain(|bound| *bound <= greatest);
    let mut splits = Vec::with_capacity(bounds.len() + 1);
    let mut from = None;
    for bound in bounds.iter().map(|bound| Some(*bound)).chain([None]) {
        splits.push(range(column, from, bound));
        from = bound;
    }
    splits
}

fn range(column: usize, at_least: Option<i128>, below: Option<i128>) -> Split {
    let shown = |end: Option<i128>| end.map_or_else(String::new, |end| end.to_string());
    let literal = |end: i128| match i64::try_from(end) {
        Ok(end) => Some(Literal::Int(end)),
        Err(_beyond) => u64::try_from(end).ok().map(Literal::UInt),
    };
    let key =
        KeyRange { column, at_least: at_least.and_then(literal), below: below.and_then(literal) };
    Split { description: format!("key {}..{}", shown(at_least), shown(below)), payload: json!(key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_every_key_once() {
        let cases = [(0, 0, 4), (1, 10, 3), (-5, 5, 2), (0, i128::from(u64::MAX), 8)];
        for (least, greatest, n_splits) in cases {
            let splits = ranges(0, least, greatest, n_splits);
            let ranges: Vec<KeyRange> =
                splits.iter().map(|split| KeyRange::of(split).unwrap().unwrap()).collect();
            assert_eq!(ranges[0].at_least, None);
            assert_eq!(ranges[ranges.len() - 1].below, None);
            for pair in ranges.windows(2) {
                assert!(pair[0].below.is_some());
                assert_eq!(pair[0].below, pair[1].at_least);
            }
            assert!(ranges.len() <= n_splits);
        }
    }

    #[test]
    fn a_whole_split_has_no_range() {
        assert_eq!(KeyRange::of(&Split::whole()).unwrap(), None);
    }
}
