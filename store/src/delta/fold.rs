//! Folds values of equal keys: one output value per segment of rows, in the order of the rows.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "Arrow's types are many; those that no column type maps to fall there"
)]

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray, RecordBatch, UInt64Array, make_comparator,
};
use arrow::compute::{SortOptions, take};
use arrow::datatypes::{
    ArrowNativeTypeOp, DataType, Decimal128Type, Float64Type, Int64Type, SchemaRef, UInt64Type,
};

use crate::error::{Error, Result};
use crate::table::{Column, ColumnRole, TableDef, ValueFunction};

/// Folds a batch in the order of data files whose equal keys stand together; `starts` are the first rows of the keys.
pub(crate) fn fold_batch(
    def: &TableDef,
    schema: &SchemaRef,
    sorted: &RecordBatch,
    starts: &[usize],
) -> Result<RecordBatch> {
    let firsts = indices(starts.iter().copied());
    let mut columns = Vec::with_capacity(sorted.num_columns());
    for (column, array) in def.file_columns().into_iter().zip(sorted.columns()) {
        columns.push(match column.role {
            ColumnRole::Key | ColumnRole::Plain => take(array, &firsts, None)?,
            ColumnRole::Value(function) => fold_column(column, function, array, starts)?,
        });
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn fold_column(
    column: &Column,
    function: ValueFunction,
    array: &ArrayRef,
    starts: &[usize],
) -> Result<ArrayRef> {
    match function {
        ValueFunction::Sum | ValueFunction::Count => sum(column, array, starts),
        // False is less than true.
        ValueFunction::Min | ValueFunction::And => pick(array, starts, Ordering::Less),
        ValueFunction::Max | ValueFunction::Or => pick(array, starts, Ordering::Greater),
        ValueFunction::First => Ok(take(array, &indices(starts.iter().copied()), None)?),
        ValueFunction::ReplaceIfNotNull => {
            let newest = |segment: Range<usize>| {
                let last = segment.end - 1;
                segment.rev().find(|row| array.is_valid(*row)).unwrap_or(last)
            };
            let newest = segments(starts, array.len()).map(newest);
            Ok(take(array, &indices(newest), None)?)
        }
        ValueFunction::Replace => {
            let lasts = segments(starts, array.len()).map(|segment| segment.end - 1);
            Ok(take(array, &indices(lasts), None)?)
        }
    }
}

fn sum(column: &Column, array: &ArrayRef, starts: &[usize]) -> Result<ArrayRef> {
    let sums: Option<ArrayRef> = match array.data_type() {
        DataType::Int64 => sum_of::<Int64Type>(array, starts),
        DataType::UInt64 => sum_of::<UInt64Type>(array, starts),
        DataType::Float64 => sum_of::<Float64Type>(array, starts),
        DataType::Decimal128(precision, _) => {
            let sums = sum_of::<Decimal128Type>(array, starts);
            sums.filter(|sums| {
                sums.as_primitive::<Decimal128Type>().validate_decimal_precision(*precision).is_ok()
            })
        }
        other => {
            let evidence = format!("a SUM column cannot have the type {other}");
            return Err(Error::corrupt(column.name.as_str(), evidence));
        }
    };
    sums.ok_or_else(|| Error::Overflow {
        column: column.name.clone(),
        column_type: column.column_type.to_string(),
    })
}

/// Returns the sum of each segment, or None if one left the range of the type.
fn sum_of<T: ArrowPrimitiveType>(array: &ArrayRef, starts: &[usize]) -> Option<ArrayRef>
where
    T::Native: ArrowNativeTypeOp,
{
    let values = array.as_primitive::<T>();
    let mut sums = Vec::with_capacity(starts.len());
    for segment in segments(starts, values.len()) {
        let mut sum: Option<T::Native> = None;
        for row in segment {
            if values.is_valid(row) {
                let value = values.value(row);
                sum = Some(match sum {
                    None => value,
                    Some(sum) => sum.add_checked(value).ok()?,
                });
            }
        }
        sums.push(sum);
    }
    let sums = PrimitiveArray::<T>::from_iter(sums).with_data_type(array.data_type().clone());
    Some(Arc::new(sums))
}

/// Returns the value of each segment that comes out `wanted` against all others, NULL if all are NULL.
fn pick(array: &ArrayRef, starts: &[usize], wanted: Ordering) -> Result<ArrayRef> {
    let compare = make_comparator(array, array, SortOptions::default())?;
    let best = |segment: Range<usize>| {
        let first = segment.start;
        let valid = segment.filter(|row| array.is_valid(*row));
        valid
            .reduce(|best, row| if compare(row, best) == wanted { row } else { best })
            .unwrap_or(first)
    };
    let picked = segments(starts, array.len()).map(best);
    Ok(take(array, &indices(picked), None)?)
}

fn segments(starts: &[usize], n_rows: usize) -> impl Iterator<Item = Range<usize>> {
    let ends = starts.iter().skip(1).copied().chain([n_rows]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end)
}

fn indices(rows: impl Iterator<Item = usize>) -> UInt64Array {
    rows.map(|row| row as u64).collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Int64Array};
    use proptest::prelude::*;

    use super::*;
    use crate::table::ColumnType;

    /// Folds parts of an array, each into one value.
    fn fold(function: ValueFunction, array: &ArrayRef, starts: &[usize]) -> ArrayRef {
        let column_type = match array.data_type() {
            DataType::Boolean => ColumnType::Bool,
            _ => ColumnType::Int64,
        };
        let role = ColumnRole::Value(function);
        let name = "v".to_owned();
        let column = Column { id: 1, name, column_type, nullable: true, role, default: None };
        fold_column(&column, function, array, starts).unwrap()
    }

    fn array_of(function: ValueFunction, values: &[Option<i8>]) -> ArrayRef {
        match function {
            ValueFunction::And | ValueFunction::Or => {
                Arc::new(values.iter().map(|v| v.map(|v| v > 0)).collect::<BooleanArray>())
            }
            _ => Arc::new(values.iter().map(|v| v.map(i64::from)).collect::<Int64Array>()),
        }
    }

    proptest! {
        /// What makes deltas right: folding parts and then what they fold to is folding all, for every function.
        #[test]
        fn folding_the_folded_parts_is_folding_all(
            values in prop::collection::vec(prop::option::weighted(0.7, any::<i8>()), 1..20),
            cuts in prop::collection::btree_set(1..20usize, 0..6),
        ) {
            let mut starts = vec![0];
            starts.extend(cuts.into_iter().filter(|cut| *cut < values.len()));
            for function in ValueFunction::ALL {
                let array = array_of(function, &values);
                let whole = fold(function, &array, &[0]);
                let parts = fold(function, &array, &starts);
                prop_assert_eq!(parts.len(), starts.len());
                prop_assert_eq!(&fold(function, &parts, &[0]), &whole, "{}", function);
                // Only what says so depends on the order.
                let back: Vec<_> = values.iter().rev().copied().collect();
                let turned = fold(function, &array_of(function, &back), &[0]);
                prop_assert!(function.is_ordered() || turned == whole, "{}", function);
            }
        }
    }
}
