//! Estimates against tables of random values whose statistics are taken here, and what must hold whatever
//! statistics say.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::DataType;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use super::*;
use crate::remote::{Comparison, Predicate, RemoteColumn};

const N_TABLES: u64 = 200;
const N_CONDITIONS: usize = 40;
const N_BOUNDS: usize = 20;

const RANGES: [Comparison; 4] =
    [Comparison::Less, Comparison::LessOrEqual, Comparison::Greater, Comparison::GreaterOrEqual];

#[test]
fn estimates_are_fractions_and_parts_bound_their_and() {
    for seed in 0..N_TABLES {
        let mut random = StdRng::seed_from_u64(seed);
        let table = Table::random(&mut random);
        let said = table.statistics(&mut random);
        for _ in 0..N_CONDITIONS {
            let parts: Vec<Predicate> =
                (0..random.random_range(1..4)).map(|_| table.condition(&mut random, 2)).collect();
            let of = |filters: &[Predicate]| selectivity(filters, &table.columns, &said).fraction;
            let all = of(&parts);
            assert!((0.0..=1.0).contains(&all), "seed {seed}: {all} of {parts:?}");
            for part in &parts {
                let one = of(std::slice::from_ref(part));
                assert!(all <= one + 1e-9, "seed {seed}: {all} > {one}, {part:?} of {parts:?}");
            }
            for index in 0..table.columns.len() {
                let left = n_distinct_left(50.0, index, &parts, &table.columns, &said);
                assert!((1.0..=50.0).contains(&left), "seed {seed}: {left} of {parts:?}");
            }
        }
    }
}

#[test]
fn a_wider_range_never_has_fewer_rows() {
    for seed in 0..N_TABLES {
        let mut random = StdRng::seed_from_u64(seed);
        let table = Table::random(&mut random);
        let said = table.statistics(&mut random);
        for column in 0..table.columns.len() {
            for comparison in RANGES {
                let mut values: Vec<i64> = (0..30).map(|_| random.random_range(-60..60)).collect();
                values.sort_unstable();
                let of = |value: &i64| {
                    let value = table.literal(column, *value);
                    let filter = Predicate::Compare { column, comparison, value };
                    selectivity(&[filter], &table.columns, &said).fraction
                };
                let estimates: Vec<f64> = values.iter().map(of).collect();
                let is_below = matches!(comparison, Comparison::Less | Comparison::LessOrEqual);
                for pair in estimates.windows(2) {
                    let (narrow, wide) =
                        if is_below { (pair[0], pair[1]) } else { (pair[1], pair[0]) };
                    assert!(narrow <= wide + 1e-9, "seed {seed}: {comparison:?} {estimates:?}");
                }
            }
        }
    }
}

#[test]
fn conditions_on_one_column_are_nearly_right() {
    let (mut n_far, mut n_all) = (0, 0);
    for seed in 0..N_TABLES {
        let mut random = StdRng::seed_from_u64(seed);
        let table = Table::random(&mut random);
        let said = table.exact_statistics();
        for _ in 0..N_CONDITIONS {
            let filter = table.condition(&mut random, 0);
            let estimated = selectivity(std::slice::from_ref(&filter), &table.columns, &said);
            let n_rows = table.rows.len() as f64;
            let truth = table.rows.iter().filter(|row| table.passes(row, &filter) == Some(true));
            let (truth, estimated) = (truth.count() as f64, (estimated.fraction * n_rows).max(1.0));
            // Statistics cannot tell a value that is not there from a rare one.
            if truth > 0.0 {
                n_far += usize::from((truth / estimated).max(estimated / truth) > 3.0);
                n_all += 1;
            }
        }
    }
    assert!(
        n_all > 3_000 && n_far * 50 < n_all,
        "{n_far} of {n_all} are more than three times off"
    );
}

#[test]
fn many_guesses_make_no_table_small() {
    let table = Table::random(&mut StdRng::seed_from_u64(1));
    let nothing = TableStatistics::default();
    let equal = |column| Predicate::Compare {
        column,
        comparison: Comparison::Equal,
        value: Literal::Int(1),
    };
    let one = selectivity(&[equal(0)], &table.columns, &nothing);
    let both = selectivity(&[equal(0), equal(1)], &table.columns, &nothing);
    assert!(one.is_guess && both.is_guess);
    assert_eq!(one.fraction, both.fraction);
}

#[test]
fn what_a_source_says_stands_before_what_was_kept() {
    let column = |n_distinct, min: Option<i64>| ColumnStatistics {
        n_distinct,
        min: min.map(Literal::Int),
        ..ColumnStatistics::default()
    };
    let table = |n_rows, column, taken_us| TableStatistics {
        n_rows,
        columns: BTreeMap::from([("a".to_owned(), column)]),
        taken_us,
        ..TableStatistics::default()
    };
    let said = table(Some(10.0), column(None, Some(3)), None);
    let kept = table(Some(7.0), column(Some(5.0), Some(1)), Some(1));
    let both = said.or(&kept);
    assert_eq!(both, table(Some(10.0), column(Some(5.0), Some(3)), Some(1)));
    assert_eq!(TableStatistics::default().or(&kept), kept);
}

/// Random rows of a column of integers and one of texts.
struct Table {
    columns: Vec<RemoteColumn>,
    rows: Vec<[Option<i64>; 2]>,
}

impl Table {
    fn random(random: &mut StdRng) -> Self {
        let column = |name: &str, data_type| RemoteColumn {
            name: name.to_owned(),
            data_type,
            nullable: true,
            remote_type: String::new(),
            detail: Value::Null,
        };
        let columns = vec![column("number", DataType::Int64), column("text", DataType::Utf8)];
        // From many rows per value to few, from even to skewed.
        let (n_rows, width) = (random.random_range(1..400), random.random_range(1..50));
        let power = random.random_range(1..4);
        let nulls = random.random_range(0.0..0.5);
        let value = |random: &mut StdRng| {
            let place: f64 = random.random_range(0.0..1.0_f64).powi(power);
            (!random.random_bool(nulls)).then_some((place * f64::from(width)) as i64)
        };
        let rows = (0..n_rows).map(|_| [value(random), value(random)]).collect();
        Self { columns, rows }
    }

    /// Texts have the order of their numbers.
    fn literal(&self, column: usize, value: i64) -> Literal {
        match self.columns[column].data_type {
            DataType::Utf8 => Literal::Text(format!("v{:04}", value + 1000)),
            _ => Literal::Int(value),
        }
    }

    fn exact_statistics(&self) -> TableStatistics {
        let columns = (0..self.columns.len())
            .map(|index| (self.columns[index].name.clone(), self.column_statistics(index)));
        TableStatistics {
            n_rows: Some(self.rows.len() as f64),
            columns: columns.collect(),
            ..TableStatistics::default()
        }
    }

    fn column_statistics(&self, index: usize) -> ColumnStatistics {
        let n_rows = self.rows.len() as f64;
        let mut values: Vec<i64> = self.rows.iter().filter_map(|row| row[index]).collect();
        values.sort_unstable();
        let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
        for value in &values {
            *counts.entry(*value).or_default() += 1;
        }
        let often = |count: &usize| *count as f64 > n_rows / 100.0;
        let common: Vec<Common> = counts
            .iter()
            .filter(|(_, count)| often(count))
            .map(|(value, count)| Common {
                value: self.literal(index, *value),
                fraction: *count as f64 / n_rows,
            })
            .collect();
        let literal = |value: &i64| self.literal(index, *value);
        let (min, max) = (values.first().map(literal), values.last().map(literal));
        let n_values = values.len();
        values.retain(|value| !often(&counts[value]));
        let step = (values.len() / N_BOUNDS).max(1);
        let mut bounds: Vec<Literal> = values.iter().step_by(step).map(literal).collect();
        bounds.extend(values.last().map(literal));
        ColumnStatistics {
            null_fraction: Some(1.0 - n_values as f64 / n_rows),
            n_distinct: Some(counts.len() as f64),
            average_bytes: None,
            min,
            max,
            common,
            bounds: equal_parts(bounds),
        }
    }

    /// Statistics of which anything may be missing or wrong.
    fn statistics(&self, random: &mut StdRng) -> TableStatistics {
        let mut said = self.exact_statistics();
        for column in said.columns.values_mut() {
            if random.random_bool(0.2) {
                column.n_distinct = None;
            }
            if random.random_bool(0.2) {
                column.null_fraction =
                    [None, Some(7.0), Some(-1.0)].choose(random).copied().flatten();
            }
            if random.random_bool(0.2) {
                column.bounds.clear();
            }
            if random.random_bool(0.2) {
                (column.min, column.max) = (None, None);
            }
            if random.random_bool(0.2) {
                column.common.clear();
            }
        }
        if random.random_bool(0.1) {
            said.columns.remove("number");
        }
        said
    }

    fn condition(&self, random: &mut StdRng, depth: usize) -> Predicate {
        let column = random.random_range(0..self.columns.len());
        let value = |random: &mut StdRng| {
            let value = random.random_range(-5..55);
            self.literal(column, value)
        };
        let negated = random.random_bool(0.3);
        match random.random_range(0..if depth == 0 { 4 } else { 7 }) {
            0 => Predicate::Compare {
                column,
                comparison: *RANGES.choose(random).expect("there are four"),
                value: value(random),
            },
            1 => Predicate::Compare {
                column,
                comparison: if negated { Comparison::NotEqual } else { Comparison::Equal },
                value: value(random),
            },
            2 => {
                let values = (0..random.random_range(1..4)).map(|_| value(random)).collect();
                Predicate::In { column, values, negated }
            }
            3 => Predicate::Null { column, negated },
            4 => Predicate::Not(Box::new(self.condition(random, depth - 1))),
            5 => Predicate::And(vec![
                self.condition(random, depth - 1),
                self.condition(random, depth - 1),
            ]),
            _ => Predicate::Or(vec![
                self.condition(random, depth - 1),
                self.condition(random, depth - 1),
            ]),
        }
    }

    /// SQL's answer for one row; `None` is unknown. Only conditions on one column are asked.
    fn passes(&self, row: &[Option<i64>; 2], filter: &Predicate) -> Option<bool> {
        let text = |literal: &Literal| format!("{literal:?}");
        match filter {
            Predicate::Compare { column, comparison, value } => {
                let mine = self.literal(*column, row[*column]?);
                let order = match (&mine, value) {
                    (Literal::Int(a), Literal::Int(b)) => a.cmp(b),
                    _ => text(&mine).cmp(&text(value)),
                };
                Some(match comparison {
                    Comparison::Equal => order.is_eq(),
                    Comparison::NotEqual => order.is_ne(),
                    Comparison::Less => order.is_lt(),
                    Comparison::LessOrEqual => order.is_le(),
                    Comparison::Greater => order.is_gt(),
                    Comparison::GreaterOrEqual => order.is_ge(),
                })
            }
            Predicate::In { column, values, negated } => {
                let mine = self.literal(*column, row[*column]?);
                Some(values.contains(&mine) != *negated)
            }
            Predicate::Null { column, negated } => Some(row[*column].is_none() != *negated),
            Predicate::Like { .. } | Predicate::And(_) | Predicate::Or(_) | Predicate::Not(_) => {
                None
            }
        }
    }
}
