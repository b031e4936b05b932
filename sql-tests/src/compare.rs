//! Two results as multisets of rows: exact for everything but floating-point numbers.

use std::cmp::Ordering;
use std::fmt;

use anyhow::{Result, bail};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// Sums of doubles depend on the order of addition; this is what may differ, relative to the value.
const FLOAT_TOLERANCE: f64 = 1e-9;

/// How many differing rows a failure shows.
const ROWS_SHOWN_MAX: usize = 5;

/// One value: text for all types whose text is exact.
#[derive(Clone, PartialEq)]
enum Cell {
    Exact(String),
    Float(f64),
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Float(number) => write!(f, "{number}"),
        }
    }
}

impl Cell {
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Exact(one), Self::Exact(two)) => one.cmp(two),
            (Self::Float(one), Self::Float(two)) => one.total_cmp(two),
            (Self::Exact(_), Self::Float(_)) => Ordering::Less,
            (Self::Float(_), Self::Exact(_)) => Ordering::Greater,
        }
    }

    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(one), Self::Float(two)) => {
                let scale = one.abs().max(two.abs()).max(1.0);
                one == two
                    || (one.is_nan() && two.is_nan())
                    || (one - two).abs() <= FLOAT_TOLERANCE * scale
            }
            _ => self == other,
        }
    }
}

/// Fails, showing some differing rows, unless both results hold the same rows equally often.
///
/// # Errors
/// When they do not.
pub fn same_rows(expected: &[RecordBatch], actual: &[RecordBatch]) -> Result<()> {
    let (expected, actual) = (sorted_rows(expected)?, sorted_rows(actual)?);
    if expected.len() != actual.len() {
        bail!("{} rows for {}", actual.len(), expected.len());
    }
    let equal = |one: &[Cell], two: &[Cell]| {
        one.len() == two.len() && one.iter().zip(two).all(|(one, two)| one.equals(two))
    };
    let differing: Vec<String> = expected
        .iter()
        .zip(&actual)
        .filter(|(wanted, got)| !equal(wanted, got))
        .take(ROWS_SHOWN_MAX)
        .map(|(wanted, got)| format!("expected {wanted:?}\n     got {got:?}"))
        .collect();
    match differing.is_empty() {
        true => Ok(()),
        false => bail!("rows differ:\n{}", differing.join("\n")),
    }
}

/// Returns all rows, ordered by their exact cells first, so that close floats do not reorder them.
fn sorted_rows(batches: &[RecordBatch]) -> Result<Vec<Vec<Cell>>> {
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<Vec<Cell>> =
            batch.columns().iter().map(|column| cells(column.as_ref())).collect::<Result<_>>()?;
        rows.extend(
            (0..batch.num_rows())
                .map(|row| columns.iter().map(|column| column[row].clone()).collect::<Vec<Cell>>()),
        );
    }
    let exact = |row: &[Cell]| -> Vec<Cell> {
        row.iter().filter(|cell| matches!(cell, Cell::Exact(_))).cloned().collect()
    };
    let order = |one: &Vec<Cell>, two: &Vec<Cell>| {
        lexical(&exact(one), &exact(two)).then_with(|| lexical(one, two))
    };
    rows.sort_by(order);
    Ok(rows)
}

/// Returns all rows in their order, each value as a text that is the same for the same value only: the sign of zero
/// counts, any NaN is one, and NULL is no text.
///
/// # Errors
/// When a value cannot be written.
pub fn exact_rows(batches: &[RecordBatch]) -> Result<Vec<Vec<String>>> {
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<Vec<String>> =
            batch.columns().iter().map(exact_texts).collect::<Result<_>>()?;
        rows.extend(
            (0..batch.num_rows()).map(|row| {
                columns.iter().map(|column| column[row].clone()).collect::<Vec<String>>()
            }),
        );
    }
    Ok(rows)
}

fn exact_texts(column: &ArrayRef) -> Result<Vec<String>> {
    let is_text =
        matches!(column.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let cells = cells(column.as_ref())?;
    let text = |(row, cell): (usize, Cell)| match cell {
        _ if column.is_null(row) => "NULL".to_owned(),
        Cell::Exact(text) if is_text => format!("{text:?}"),
        Cell::Exact(text) => text,
        Cell::Float(number) => format!("{number:?}"),
    };
    Ok(cells.into_iter().enumerate().map(text).collect())
}

fn lexical(one: &[Cell], two: &[Cell]) -> Ordering {
    let first = one.iter().zip(two).map(|(one, two)| one.order(two)).find(|order| order.is_ne());
    first.unwrap_or_else(|| one.len().cmp(&two.len()))
}

fn cells(column: &dyn Array) -> Result<Vec<Cell>> {
    if matches!(column.data_type(), DataType::Float16 | DataType::Float32 | DataType::Float64) {
        let wide = arrow::compute::cast(column, &DataType::Float64)?;
        let numbers = wide.as_primitive::<Float64Type>();
        return Ok(numbers
            .iter()
            .map(|n| n.map_or_else(|| Cell::Exact("NULL".into()), Cell::Float))
            .collect());
    }
    let options = FormatOptions::default().with_null("NULL");
    let formatter = ArrayFormatter::try_new(column, &options)?;
    Ok((0..column.len()).map(|row| Cell::Exact(formatter.value(row).to_string())).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array};

    use super::*;

    fn batch(ids: Vec<Option<i64>>, numbers: Vec<f64>) -> RecordBatch {
        RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(ids)) as _),
            ("x", Arc::new(Float64Array::from(numbers)) as _),
        ])
        .unwrap()
    }

    #[test]
    fn order_batches_and_last_bits_do_not_matter() {
        let one = batch(vec![Some(1), None], vec![0.1 + 0.2, 5.0]);
        let two = [batch(vec![None], vec![5.0]), batch(vec![Some(1)], vec![0.3])];
        same_rows(&[one], &two).unwrap();
    }

    #[test]
    fn a_missing_a_doubled_and_a_changed_row_are_found() {
        let one = batch(vec![Some(1), Some(1), Some(2)], vec![1.0, 1.0, 2.0]);
        for other in [
            batch(vec![Some(1), Some(2)], vec![1.0, 2.0]),
            batch(vec![Some(1), Some(2), Some(2)], vec![1.0, 2.0, 2.0]),
            batch(vec![Some(1), Some(1), Some(2)], vec![1.0, 1.0, 2.1]),
        ] {
            assert!(same_rows(std::slice::from_ref(&one), &[other]).is_err());
        }
    }
}
