//! What scans returned before: how many rows of a table passed the same conditions.
//!
//! Estimates take columns for independent of each other, and guess where a source says nothing. What was counted is better:
//! it serves the next plans until it is counted anew.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

use super::estimate::conjuncts;
use super::{TableKey, TableStatistics, text_of_literal};
use crate::remote::{Literal, Predicate, RemoteColumn, RemoteScan};

/// Tables and conditions that are remembered; the oldest are forgotten first.
const N_COUNTS_MAX: usize = 10_000;

/// Conditions that are longer, such as long lists of keys, hardly come again.
const CONDITIONS_BYTES_MAX: usize = 2_000;

/// Rows of one table, by the conditions that they passed; see [`conditions`].
pub type Counts = BTreeMap<String, u64>;

/// The counts of all tables.
#[derive(Debug, Default)]
pub struct Counted(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<TableKey, Counts>,
    /// In the order in which they were first counted.
    order: VecDeque<(TableKey, String)>,
}

impl Counted {
    /// Notes how many rows of a scan's table passed its conditions.
    pub fn note(&self, scan: &RemoteScan, n_rows: u64) {
        let Some(conditions) = conditions(&scan.filters, &scan.columns) else { return };
        let table = scan.key();
        let mut state = self.0.lock();
        let counts = state.tables.entry(table.clone()).or_default();
        if counts.insert(conditions.clone(), n_rows).is_some() {
            return;
        }
        state.order.push_back((table, conditions));
        if state.order.len() > N_COUNTS_MAX
            && let Some((table, conditions)) = state.order.pop_front()
            && let Some(counts) = state.tables.get_mut(&table)
        {
            counts.remove(&conditions);
            if counts.is_empty() {
                state.tables.remove(&table);
            }
        }
    }

    /// Returns what was counted of a table.
    pub fn of_table(&self, table: &TableKey) -> Counts {
        self.0.lock().tables.get(table).cloned().unwrap_or_default()
    }

    /// Returns what was counted of all tables, in the order of their names.
    pub fn all(&self) -> Vec<(TableKey, Counts)> {
        self.0.lock().tables.iter().map(|(key, counts)| (key.clone(), counts.clone())).collect()
    }
}

/// Returns one text for conditions that are the same but for their order; `None` if they are too long to be remembered.
fn conditions(filters: &[Predicate], columns: &[RemoteColumn]) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in conjuncts(filters) {
        parts.push(text(&part, columns)?);
    }
    parts.sort();
    parts.dedup();
    let text = parts.join(" AND ");
    (text.len() <= CONDITIONS_BYTES_MAX).then_some(text)
}

/// Returns a condition as people read it; `None` if it names no column.
fn text(condition: &Predicate, columns: &[RemoteColumn]) -> Option<String> {
    let name = |column: &usize| columns.get(*column).map(|column| format!("\"{}\"", column.name));
    let value = |value: &Literal| match value {
        Literal::Text(_) => format!("'{}'", text_of_literal(value).replace('\'', "''")),
        other => text_of_literal(other),
    };
    let joined = |parts: &[Predicate], by: &str| {
        let parts: Option<Vec<String>> = parts.iter().map(|part| text(part, columns)).collect();
        Some(format!("({})", parts?.join(by)))
    };
    let not = |negated: &bool| if *negated { "NOT " } else { "" };
    Some(match condition {
        Predicate::Compare { column, comparison, value: constant } => {
            format!("{} {} {}", name(column)?, comparison.sql(), value(constant))
        }
        Predicate::In { column, values, negated } => {
            let values: Vec<String> = values.iter().map(value).collect();
            format!("{} {}IN ({})", name(column)?, not(negated), values.join(", "))
        }
        Predicate::Null { column, negated } => format!("{} IS {}NULL", name(column)?, not(negated)),
        Predicate::Like { column, pieces } => {
            format!("{} LIKE {}", name(column)?, value(&Literal::Text(pieces.join("%"))))
        }
        Predicate::And(parts) => joined(parts, " AND ")?,
        Predicate::Or(parts) => joined(parts, " OR ")?,
        Predicate::Not(part) => format!("NOT {}", text(part, columns)?),
    })
}

impl TableStatistics {
    /// Returns how many rows passed these conditions when a scan last counted them.
    pub(crate) fn counted(&self, filters: &[Predicate], columns: &[RemoteColumn]) -> Option<f64> {
        if self.counts.is_empty() {
            return None;
        }
        self.counts.get(&conditions(filters, columns)?).map(|n_rows| *n_rows as f64)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field};

    use super::*;
    use crate::remote::Comparison;

    fn equal(column: usize, value: i64) -> Predicate {
        Predicate::Compare { column, comparison: Comparison::Equal, value: Literal::Int(value) }
    }

    fn scan(table: &str, filters: Vec<Predicate>) -> RemoteScan {
        let column = |name: &str| RemoteColumn::of_field(&Field::new(name, DataType::Int64, true));
        let whole = RemoteScan::whole("c", "s", table, vec![column("a"), column("b")]);
        RemoteScan { filters, ..whole }
    }

    fn text_of(filters: Vec<Predicate>) -> Option<String> {
        let scan = scan("t", filters);
        conditions(&scan.filters, &scan.columns)
    }

    #[test]
    fn the_order_of_conditions_does_not_matter() {
        let (one, other) = (equal(0, 1), equal(1, 2));
        let both = text_of(vec![one.clone(), other.clone()]);
        assert_eq!(both.as_deref(), Some("\"a\" = 1 AND \"b\" = 2"));
        assert_eq!(both, text_of(vec![other.clone(), one.clone()]));
        assert_eq!(both, text_of(vec![Predicate::And(vec![other.clone(), one.clone()])]));
        let either = Predicate::Or(vec![one, Predicate::Not(Box::new(other))]);
        assert_eq!(text_of(vec![either]).as_deref(), Some("(\"a\" = 1 OR \"b\" <> 2)"));
        let values = (0..1_000).map(Literal::Int).collect();
        assert_eq!(text_of(vec![Predicate::In { column: 0, values, negated: false }]), None);
        assert_eq!(text_of(vec![]).as_deref(), Some(""));
    }

    #[test]
    fn the_newest_count_of_a_table_serves_and_the_oldest_are_forgotten() {
        let counted = Counted::default();
        let t = scan("t", vec![equal(0, 1)]);
        counted.note(&t, 7);
        counted.note(&t, 8);
        counted.note(&scan("u", vec![equal(0, 1)]), 9);
        let counts = counted.of_table(&t.key());
        let statistics = TableStatistics { counts, ..TableStatistics::default() };
        assert_eq!(statistics.counted(&t.filters, &t.columns), Some(8.0));
        assert_eq!(statistics.counted(&[equal(0, 2)], &t.columns), None);
        for value in 0..i64::try_from(N_COUNTS_MAX).unwrap() {
            counted.note(&scan("u", vec![equal(1, value)]), 1);
        }
        assert!(counted.of_table(&t.key()).is_empty());
        let all: usize = counted.all().iter().map(|(_key, counts)| counts.len()).sum();
        assert_eq!(all, N_COUNTS_MAX);
    }
}
