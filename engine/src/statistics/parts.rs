//! Statistics of a table from those of its parts: partitions that a source analyses each on its own.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::distribution::{Distribution, Edge, Place};
use super::{Bound, ColumnStatistics, Common, TableStatistics};
use crate::remote::Literal;

/// The most common values, and the most bounds, that are kept of all parts together.
const N_COMMON_MAX: usize = 200;
const N_BOUNDS_MAX: usize = 200;

/// Returns the statistics of a table that consists of `parts`. How many rows it has is known only if it is known
/// of each part, and what a column holds only if each part that has rows tells.
pub fn combined(parts: &[TableStatistics]) -> TableStatistics {
    let n_rows: Option<f64> = parts.iter().map(|part| part.n_rows).sum();
    let Some(n_rows) = n_rows else { return TableStatistics::default() };
    let names: BTreeSet<&String> = parts.iter().flat_map(|part| part.columns.keys()).collect();
    let mut all = TableStatistics { n_rows: Some(n_rows), ..TableStatistics::default() };
    for name in names {
        let weighted = parts.iter().filter_map(|part| {
            let n_rows_of_part = part.n_rows.filter(|n_rows| *n_rows > 0.0)?;
            Some(part.columns.get(name).map(|column| (n_rows_of_part / n_rows, column)))
        });
        if let Some(weighted) = weighted.collect::<Option<Vec<_>>>() {
            all.columns.insert(name.clone(), column(&weighted));
        }
    }
    all
}

/// Returns the statistics of a column from those of its parts, each with its share of the rows.
fn column(parts: &[(f64, &ColumnStatistics)]) -> ColumnStatistics {
    let mean = |of: fn(&ColumnStatistics) -> Option<f64>| -> Option<f64> {
        parts.iter().map(|(share, column)| of(column).map(|value| share * value)).sum()
    };
    let ends = |of: fn(&ColumnStatistics) -> &Option<Literal>| -> Option<Vec<&Literal>> {
        parts.iter().map(|(_, column)| of(column).as_ref()).collect()
    };
    let common = common(parts);
    let bounds = bounds(parts, &common);
    ColumnStatistics {
        null_fraction: mean(|column| column.null_fraction),
        average_bytes: mean(|column| column.average_bytes),
        n_distinct: n_distinct(parts),
        min: ends(|column| &column.min).and_then(|ends| furthest(ends, Ordering::Less)),
        max: ends(|column| &column.max).and_then(|ends| furthest(ends, Ordering::Greater)),
        common,
        bounds,
    }
}

fn furthest(ends: Vec<&Literal>, wanted: Ordering) -> Option<Literal> {
    let further = |a, b| match Place::of(a)?.compare(&Place::of(b)?) {
        Some(order) if order == wanted => Some(a),
        Some(_) => Some(b),
        None => None,
    };
    let mut ends = ends.into_iter();
    let first = ends.next()?;
    ends.try_fold(first, |end, next| further(next, end)).cloned()
}

/// Parts whose ranges overlap may all have the same values; others have different ones.
fn n_distinct(parts: &[(f64, &ColumnStatistics)]) -> Option<f64> {
    let each: Option<Vec<f64>> = parts.iter().map(|(_, column)| column.n_distinct).collect();
    let ranges = parts
        .iter()
        .map(|(_, column)| Some((column.min.as_ref()?, column.max.as_ref()?, column.n_distinct?)));
    let Some(mut ranges) = ranges.collect::<Option<Vec<_>>>() else {
        return each?.into_iter().reduce(f64::max);
    };
    ranges.sort_by(|(a, ..), (b, ..)| order(a, b));
    let (mut n_distinct, mut reached, mut most) = (0.0, None, 0.0_f64);
    for (min, max, n) in ranges {
        let is_apart = reached.is_some_and(|reached| order(reached, min) == Ordering::Less);
        if is_apart {
            n_distinct += most;
            most = 0.0;
        }
        most = most.max(n);
        reached = match reached {
            Some(reached) if order(reached, max) == Ordering::Greater => Some(reached),
            _ => Some(max),
        };
    }
    Some(n_distinct + most)
}

/// Values of other kinds have no order among each other.
fn order(a: &Literal, b: &Literal) -> Ordering {
    let order = Place::of(a).and_then(|a| a.compare(&Place::of(b)?));
    order.unwrap_or(Ordering::Equal)
}

/// Returns the values that most rows have; what is common in one part may be rare in another.
fn common(parts: &[(f64, &ColumnStatistics)]) -> Vec<Common> {
    let mut most: Vec<(f64, &Literal)> = Vec::new();
    for (share, column) in parts {
        most.extend(column.common.iter().map(|common| (share * common.fraction, &common.value)));
    }
    most.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let mut all: Vec<Common> = Vec::new();
    for (_, value) in most {
        if all.len() < N_COMMON_MAX && !all.iter().any(|known| known.value == *value) {
            let each = parts.iter().map(|(share, column)| share * of_value(column, value));
            all.push(Common { value: value.clone(), fraction: each.sum() });
        }
    }
    all
}

/// A part has no rows with values beyond its ends: such rows are in another one.
fn of_value(column: &ColumnStatistics, value: &Literal) -> f64 {
    let is_beyond =
        |end: &Option<Literal>, beyond| end.as_ref().is_some_and(|end| order(value, end) == beyond);
    if is_beyond(&column.min, Ordering::Less) || is_beyond(&column.max, Ordering::Greater) {
        return 0.0;
    }
    Distribution::of(column).equal(value).unwrap_or(0.0)
}

/// Returns some values of all parts in order, each with the fraction of the values that are not common that lies
/// below it.
fn bounds(parts: &[(f64, &ColumnStatistics)], common: &[Common]) -> Vec<Bound> {
    let of_part = |column: &'_ ColumnStatistics| -> Vec<Literal> {
        match column.bounds.is_empty() {
            true => column.min.iter().chain(&column.max).cloned().collect(),
            false => column.bounds.iter().map(|bound| bound.value.clone()).collect(),
        }
    };
    let mut values: Vec<Literal> = parts.iter().flat_map(|(_, column)| of_part(column)).collect();
    values.sort_by(order);
    values.dedup();
    let step = values.len().div_ceil(N_BOUNDS_MAX).max(1);
    let last = values.len().saturating_sub(1);
    let mut place = 0..;
    values.retain(|_| place.next().is_some_and(|place| place % step == 0 || place == last));
    // All values below, common ones included, less the common ones.
    let below = |value: &Literal| -> Option<f64> {
        let each = parts.iter().map(|(share, column)| {
            Distribution::of(column).below(value, Edge::Before).map(|below| share * below)
        });
        let all = each.sum::<Option<f64>>()?;
        let of_common =
            common.iter().filter(|common| order(&common.value, value) == Ordering::Less);
        Some((all - of_common.map(|common| common.fraction).sum::<f64>()).max(0.0))
    };
    let Some(below) = values.iter().map(below).collect::<Option<Vec<f64>>>() else {
        return Vec::new();
    };
    let Some(whole) = below.last().copied().filter(|whole| *whole > 0.0 && below.len() > 1) else {
        return Vec::new();
    };
    let mut highest = 0.0_f64;
    let rising = below.into_iter().map(|below| {
        highest = highest.max((below / whole).min(1.0));
        highest
    });
    values.into_iter().zip(rising).map(|(value, below)| Bound { value, below }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::equal_parts;
    use super::*;

    fn year(year: i64) -> TableStatistics {
        let values: Vec<Literal> = (0..=10).map(|n| Literal::Int(year * 100 + n * 10)).collect();
        let day = ColumnStatistics {
            null_fraction: Some(0.0),
            n_distinct: Some(100.0),
            min: values.first().cloned(),
            max: values.last().cloned(),
            bounds: equal_parts(values),
            ..ColumnStatistics::default()
        };
        let kind = ColumnStatistics {
            null_fraction: Some(0.1),
            n_distinct: Some(2.0),
            common: [1, 2].map(|v| Common { value: Literal::Int(v), fraction: 0.45 }).to_vec(),
            ..ColumnStatistics::default()
        };
        TableStatistics {
            n_rows: Some(1000.0 * year as f64),
            columns: BTreeMap::from([("day".to_owned(), day), ("kind".to_owned(), kind)]),
            ..TableStatistics::default()
        }
    }

    #[test]
    fn parts_of_a_range_together_are_the_range() {
        let all = combined(&[year(1), year(3)]);
        assert_eq!(all.n_rows, Some(4000.0));
        let day = &all.columns["day"];
        assert_eq!(day.n_distinct, Some(200.0), "they do not overlap");
        assert_eq!((&day.min, &day.max), (&Some(Literal::Int(100)), &Some(Literal::Int(400))));
        let below = |value| {
            let value = Literal::Int(value);
            Distribution::of(day).below(&value, Edge::Before).expect("it has bounds")
        };
        assert!((below(150) - 0.125).abs() < 0.02, "{}", below(150));
        assert!((below(300) - 0.25).abs() < 0.02, "{}", below(300));
        assert!((below(350) - 0.625).abs() < 0.02, "{}", below(350));
        let again = combined(&[year(1), year(3), year(3)]);
        assert_eq!(again.columns["day"].n_distinct, Some(200.0), "two of them are the same");
        let kind = &all.columns["kind"];
        assert_eq!(kind.n_distinct, Some(2.0), "they may be the same");
        assert_eq!(kind.common.len(), 2);
        assert!((kind.common[0].fraction - 0.45).abs() < 1e-9);
    }

    #[test]
    fn a_value_that_is_common_in_one_part_is_estimated_in_the_others() {
        let often = |common: &[(i64, f64)]| {
            let common = common.iter().map(|(value, fraction)| Common {
                value: Literal::Int(*value),
                fraction: *fraction,
            });
            let column = ColumnStatistics {
                null_fraction: Some(0.0),
                n_distinct: Some(11.0),
                min: Some(Literal::Int(0)),
                max: Some(Literal::Int(10)),
                common: common.collect(),
                ..ColumnStatistics::default()
            };
            let columns = BTreeMap::from([("a".to_owned(), column)]);
            TableStatistics { n_rows: Some(100.0), columns, ..TableStatistics::default() }
        };
        let all = combined(&[often(&[(5, 0.5)]), often(&[])]);
        let fraction = all.columns["a"].common[0].fraction;
        assert!((fraction - (0.5 + 1.0 / 11.0) / 2.0).abs() < 1e-9, "{fraction}");
    }

    #[test]
    fn a_part_that_says_nothing_leaves_the_whole_unknown() {
        assert_eq!(combined(&[year(1), TableStatistics::default()]), TableStatistics::default());
        let silent = TableStatistics { n_rows: Some(10.0), ..TableStatistics::default() };
        let all = combined(&[year(1), silent]);
        assert_eq!((all.n_rows, all.columns.len()), (Some(1010.0), 0));
        let empty = TableStatistics { n_rows: Some(0.0), ..TableStatistics::default() };
        assert_eq!(combined(&[year(1), empty]).columns.len(), 2);
    }
}
