//! Conditions to fractions: how many of a table's rows pass.
//!
//! Columns are taken for independent of each other, and two ends of a range of one column for one condition. Where
//! nothing is known of a column its condition is a guess, and of several guesses only the least counts: many
//! guesses together must not make a large table look small.

use super::distribution::{Distribution, Edge};
use super::{ColumnStatistics, TableStatistics};
use crate::remote::{Comparison, Literal, Predicate, RemoteColumn};

/// Which part of the rows passes a condition of which nothing is known. Each is meant to be too much.
const EQUAL_GUESS: f64 = 0.1;
const IN_GUESS_MAX: f64 = 0.5;
const END_GUESS: f64 = 1.0 / 3.0;
const RANGE_GUESS: f64 = 0.25;
const NULL_GUESS: f64 = 0.1;
const PIECE_GUESS: f64 = 0.1;
const BOOL_GUESS: f64 = 0.5;

/// A range never has less: statistics grow old, and new rows often lie beyond the greatest value that they know.
const RANGE_MIN: f64 = 0.0001;

/// Which fraction of the rows passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Selectivity {
    /// Between 0 and 1.
    pub fraction: f64,
    /// Whether it does not come from statistics.
    pub is_guess: bool,
}

impl Selectivity {
    const ALL: Self = Self { fraction: 1.0, is_guess: false };

    fn known(fraction: f64) -> Self {
        Self { fraction: super::distribution::fraction(fraction), is_guess: false }
    }

    fn guess(fraction: f64) -> Self {
        Self { fraction: super::distribution::fraction(fraction), is_guess: true }
    }

    fn known_or(fraction: Option<f64>, guess: f64) -> Self {
        fraction.map_or_else(|| Self::guess(guess), Self::known)
    }
}

/// Returns the fraction of a table's rows that pass all conditions.
pub fn selectivity(
    filters: &[Predicate],
    columns: &[RemoteColumn],
    table: &TableStatistics,
) -> Selectivity {
    if let (Some(n_rows), Some(of_all)) = (table.counted(filters, columns), table.n_rows) {
        return Selectivity::known(n_rows / of_all.max(1.0));
    }
    Estimator { columns, table }.of_all(filters)
}

/// Returns how many of a column's `n_distinct` values are left by the conditions on it.
pub fn n_distinct_left(
    n_distinct: f64,
    column: usize,
    filters: &[Predicate],
    columns: &[RemoteColumn],
    table: &TableStatistics,
) -> f64 {
    let mut about_it = Vec::new();
    for part in conjuncts(filters) {
        let (mut is_about_it, mut others) = (false, false);
        part.for_each_column(&mut |index| {
            is_about_it |= index == column;
            others |= index != column;
        });
        if is_about_it && !others {
            about_it.push(part);
        }
    }
    let mut left = n_distinct;
    for part in &about_it {
        let at_most = match part {
            Predicate::Compare { comparison: Comparison::Equal, .. } => 1.0,
            Predicate::In { values, negated: false, .. } => values.len() as f64,
            Predicate::Compare { .. }
            | Predicate::In { .. }
            | Predicate::Null { .. }
            | Predicate::Like { .. }
            | Predicate::And(_)
            | Predicate::Or(_)
            | Predicate::Not(_) => continue,
        };
        left = left.min(at_most);
    }
    let is_range = |part: &Predicate| matches!(part, Predicate::Compare { comparison, .. } if comparison.is_range());
    about_it.retain(is_range);
    if !about_it.is_empty() {
        let estimator = Estimator { columns, table };
        left = left.min(n_distinct * estimator.of_all(&about_it).fraction);
    }
    left.max(1.0)
}

struct Estimator<'a> {
    columns: &'a [RemoteColumn],
    table: &'a TableStatistics,
}

/// The ends of all ranges of one column.
#[derive(Default)]
struct Range<'a> {
    lows: Vec<(&'a Literal, Edge)>,
    highs: Vec<(&'a Literal, Edge)>,
}

impl Estimator<'_> {
    fn of_all(&self, filters: &[Predicate]) -> Selectivity {
        let parts = conjuncts(filters);
        let mut ranges: Vec<(usize, Range<'_>)> = Vec::new();
        let mut all = Selectivity::ALL;
        let mut least_guess: Option<f64> = None;
        let mut add = |part: Selectivity| match part.is_guess {
            true => least_guess = Some(least_guess.map_or(part.fraction, |g| g.min(part.fraction))),
            false => all.fraction *= part.fraction,
        };
        for part in &parts {
            match part {
                Predicate::Compare { column, comparison, value } if comparison.is_range() => {
                    let place = ranges.iter().position(|(known, _)| known == column);
                    let place = place.unwrap_or_else(|| {
                        ranges.push((*column, Range::default()));
                        ranges.len() - 1
                    });
                    if let Some((_, range)) = ranges.get_mut(place) {
                        range.add(*comparison, value);
                    }
                }
                // Whoever has a value is not NULL.
                Predicate::Null { column, negated: true } if is_implied(*column, &parts) => {}
                other => add(self.of(other)),
            }
        }
        for (column, range) in &ranges {
            add(self.of_range(*column, range));
        }
        if let Some(guess) = least_guess {
            all = Selectivity::guess(all.fraction * guess);
        }
        all
    }

    /// The fraction of one condition, which is no `AND` and no negated one but of a pattern.
    fn of(&self, filter: &Predicate) -> Selectivity {
        match filter {
            Predicate::Compare { column, comparison, value } => {
                self.of_comparison(*column, *comparison, value)
            }
            Predicate::In { column, values, negated } => {
                let distribution = self.distribution(*column);
                let filled = self.filled(*column);
                let guess = (values.len() as f64 * EQUAL_GUESS).min(IN_GUESS_MAX) * filled;
                let each = values.iter().map(|value| distribution.as_ref()?.equal(value));
                let some: Option<f64> = each.sum();
                let some = some.map(|some| some.min(filled));
                match negated {
                    false => Selectivity::known_or(some, guess),
                    true => Selectivity::known_or(some.map(|some| filled - some), filled),
                }
            }
            Predicate::Null { column, negated } => {
                let null = self.null_fraction(*column);
                match negated {
                    false => Selectivity::known_or(null, NULL_GUESS),
                    true => Selectivity::known_or(null.map(|null| 1.0 - null), 1.0),
                }
            }
            Predicate::Like { column, pieces } => self.of_pattern(*column, pieces),
            Predicate::And(parts) => self.of_all(parts),
            Predicate::Or(parts) => {
                let parts: Vec<Selectivity> = parts.iter().map(|part| self.of(part)).collect();
                let none: f64 = parts.iter().map(|part| 1.0 - part.fraction).product();
                let is_guess = parts.iter().any(|part| part.is_guess);
                Selectivity { is_guess, ..Selectivity::known(1.0 - none) }
            }
            Predicate::Not(part) => {
                let Selectivity { fraction, is_guess } = self.of(part);
                let mut filled = 1.0_f64;
                part.for_each_column(&mut |column| filled = filled.min(self.filled(column)));
                Selectivity { is_guess, ..Selectivity::known(filled - fraction) }
            }
        }
    }

    fn of_comparison(&self, column: usize, comparison: Comparison, value: &Literal) -> Selectivity {
        let equal = || self.distribution(column).and_then(|d| d.equal(value));
        let filled = self.filled(column);
        let guess = if matches!(value, Literal::Bool(_)) { BOOL_GUESS } else { EQUAL_GUESS };
        match comparison {
            Comparison::Equal => Selectivity::known_or(equal(), guess * filled),
            Comparison::NotEqual => {
                Selectivity::known_or(equal().map(|equal| filled - equal), filled)
            }
            Comparison::Less
            | Comparison::LessOrEqual
            | Comparison::Greater
            | Comparison::GreaterOrEqual => {
                let mut range = Range::default();
                range.add(comparison, value);
                self.of_range(column, &range)
            }
        }
    }

    /// What begins with the first piece, and of that a part for each piece further in.
    fn of_pattern(&self, column: usize, pieces: &[String]) -> Selectivity {
        let mut pieces = pieces.iter();
        let prefix = pieces.next().filter(|prefix| !prefix.is_empty());
        let begins = prefix.map_or(Selectivity::ALL, |prefix| {
            let some = self.distribution(column).and_then(|d| d.starts_with(prefix));
            self.at_least(column, some, RANGE_GUESS)
        });
        match pieces.any(|piece| !piece.is_empty()) {
            true => Selectivity::guess(begins.fraction * PIECE_GUESS * self.filled(column)),
            false => begins,
        }
    }

    /// The least of the upper ends and the greatest of the lower ones count.
    fn of_range(&self, column: usize, range: &Range<'_>) -> Selectivity {
        let guess = match (range.lows.is_empty(), range.highs.is_empty()) {
            (false, false) => RANGE_GUESS,
            _ => END_GUESS,
        };
        let some = self.distribution(column).and_then(|distribution| {
            let below = |(value, edge): &(&Literal, Edge)| distribution.below(value, *edge);
            let from = range.lows.iter().filter_map(below).reduce(f64::max);
            let to = range.highs.iter().filter_map(below).reduce(f64::min);
            let is_known = from.is_some() || to.is_some();
            is_known.then(|| to.unwrap_or(distribution.filled) - from.unwrap_or(0.0))
        });
        self.at_least(column, some, guess)
    }

    fn at_least(&self, column: usize, some: Option<f64>, guess: f64) -> Selectivity {
        let filled = self.filled(column);
        Selectivity::known_or(some.map(|some| some.max(RANGE_MIN.min(filled))), guess * filled)
    }

    fn column(&self, column: usize) -> Option<&ColumnStatistics> {
        self.table.columns.get(&self.columns.get(column)?.name)
    }

    fn distribution(&self, column: usize) -> Option<Distribution<'_>> {
        self.column(column).map(Distribution::of)
    }

    fn null_fraction(&self, column: usize) -> Option<f64> {
        let said = self.column(column).and_then(|column| column.null_fraction);
        let never = self.columns.get(column).is_some_and(|column| !column.nullable);
        said.or_else(|| never.then_some(0.0)).map(super::distribution::fraction)
    }

    fn filled(&self, column: usize) -> f64 {
        1.0 - self.null_fraction(column).unwrap_or(0.0)
    }
}

impl<'a> Range<'a> {
    fn add(&mut self, comparison: Comparison, value: &'a Literal) {
        match comparison {
            Comparison::Less => self.highs.push((value, Edge::Before)),
            Comparison::LessOrEqual => self.highs.push((value, Edge::After)),
            Comparison::Greater => self.lows.push((value, Edge::After)),
            Comparison::GreaterOrEqual => self.lows.push((value, Edge::Before)),
            Comparison::Equal | Comparison::NotEqual => {}
        }
    }
}

/// Whether another condition already leaves no NULL of the column.
fn is_implied(column: usize, parts: &[Predicate]) -> bool {
    parts.iter().any(|part| match part {
        Predicate::Compare { column: of, .. }
        | Predicate::In { column: of, .. }
        | Predicate::Like { column: of, .. } => *of == column,
        Predicate::Null { .. } | Predicate::And(_) | Predicate::Or(_) | Predicate::Not(_) => false,
    })
}

/// Returns the conditions that must all be true, with `NOT` moved to where it says nothing new.
pub(super) fn conjuncts(filters: &[Predicate]) -> Vec<Predicate> {
    let mut parts = Vec::new();
    for filter in filters {
        match affirmed(filter) {
            Predicate::And(inner) => parts.extend(conjuncts(&inner)),
            other => parts.push(other),
        }
    }
    parts
}

fn affirmed(filter: &Predicate) -> Predicate {
    match filter {
        Predicate::And(parts) => Predicate::And(parts.iter().map(affirmed).collect()),
        Predicate::Or(parts) => Predicate::Or(parts.iter().map(affirmed).collect()),
        Predicate::Not(part) => negated(part),
        Predicate::Compare { .. }
        | Predicate::In { .. }
        | Predicate::Null { .. }
        | Predicate::Like { .. } => filter.clone(),
    }
}

fn negated(filter: &Predicate) -> Predicate {
    match filter {
        Predicate::And(parts) => Predicate::Or(parts.iter().map(negated).collect()),
        Predicate::Or(parts) => Predicate::And(parts.iter().map(negated).collect()),
        Predicate::Not(part) => affirmed(part),
        Predicate::Compare { column, comparison, value } => {
            let (column, value) = (*column, value.clone());
            Predicate::Compare { column, comparison: comparison.opposite(), value }
        }
        Predicate::In { column, values, negated } => {
            Predicate::In { column: *column, values: values.clone(), negated: !negated }
        }
        Predicate::Null { column, negated } => {
            Predicate::Null { column: *column, negated: !negated }
        }
        Predicate::Like { .. } => Predicate::Not(Box::new(filter.clone())),
    }
}
