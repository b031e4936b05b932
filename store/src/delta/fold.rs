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
        ValueFunction::Min => pick(array, starts, Ordering::Less),
        ValueFunction::Max => pick(array, starts, Ordering::Greater),
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
