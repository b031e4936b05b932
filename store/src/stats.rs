//! Zone maps: bounds of each column in each file, as they stand in the log.
//!
//! A bound is a JSON scalar whose meaning the column's type gives: whole numbers for integers, dates and timestamps (in
//! the column's own unit), decimal text of the unscaled value for decimals, text for floats and for text, base64 for
//! bytes. A missing bound is no bound. Bounds of text are cut at 64 bytes and may lie outside the values, never inside.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "Arrow's types are many; those that no column type maps to fall there"
)]

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, PrimitiveArray,
    StringArray, UInt64Array, make_comparator,
};
use arrow::compute::{SortOptions, cast, concat, take};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int64Type, UInt64Type};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use crate::error::Result;
use crate::log::record::{ColumnStats, FileEntry};
use crate::table::ColumnType;

/// Longest bound of text or bytes.
const BOUND_BYTES_MAX: usize = 64;

/// The zone map of a column that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    nulls: u64,
    has_nan: bool,
    /// The least and the greatest value of each piece.
    ends: Vec<ArrayRef>,
}

impl Gathered {
    /// Takes a piece in.
    pub(crate) fn add(&mut self, array: &ArrayRef) -> Result<()> {
        self.nulls += array.logical_null_count() as u64;
        self.has_nan |= has_nan(array);
        if let Some((least, greatest)) = extremes(array)? {
            // A slice would keep the whole piece in memory.
            let rows = UInt64Array::from(vec![least as u64, greatest as u64]);
            self.ends.push(take(array, &rows, None)?);
        }
        Ok(())
    }

    /// Returns the zone map of all pieces; a NaN is within no bounds.
    pub(crate) fn finish(&self) -> Result<ColumnStats> {
        let mut stats = ColumnStats { min: None, max: None, nulls: self.nulls };
        let ends: Vec<&dyn Array> = self.ends.iter().map(AsRef::as_ref).collect();
        if self.has_nan || ends.is_empty() {
            return Ok(stats);
        }
        let ends = concat(&ends)?;
        if let Some((least, greatest)) = extremes(&ends)? {
            stats.min = lower(&ends, least)?;
            stats.max = upper(&ends, greatest)?;
        }
        Ok(stats)
    }
}

/// Returns the rows of the least and of the greatest value; None without values or with a NaN.
fn extremes(array: &ArrayRef) -> Result<Option<(usize, usize)>> {
    if has_nan(array) {
        return Ok(None);
    }
    let compare = make_comparator(array, array, SortOptions::default())?;
    let mut found: Option<(usize, usize)> = None;
    for row in (0..array.len()).filter(|row| array.is_valid(*row)) {
        found = Some(match found {
            None => (row, row),
            Some((least, greatest)) => (
                if compare(row, least) == Ordering::Less { row } else { least },
                if compare(row, greatest) == Ordering::Greater { row } else { greatest },
            ),
        });
    }
    Ok(found)
}

fn has_nan(array: &ArrayRef) -> bool {
    match array.data_type() {
        DataType::Float32 => array.as_primitive::<Float32Type>().iter().flatten().any(f32::is_nan),
        DataType::Float64 => array.as_primitive::<Float64Type>().iter().flatten().any(f64::is_nan),
        _ => false, // Other types have no NaN.
    }
}

fn lower(array: &ArrayRef, row: usize) -> Result<Option<Value>> {
    Ok(match array.data_type() {
        DataType::Utf8 => {
            let text = array.as_string::<i32>().value(row);
            Some(text_prefix(text).into())
        }
        _ => exact(array, row)?, // Only text has bounds that are cut.
    })
}

fn upper(array: &ArrayRef, row: usize) -> Result<Option<Value>> {
    Ok(match array.data_type() {
        DataType::Utf8 => {
            let text = array.as_string::<i32>().value(row);
            let prefix = text_prefix(text);
            if prefix.len() == text.len() {
                Some(prefix.into())
            } else {
                text_above(prefix).map(Value::from)
            }
        }
        _ => exact(array, row)?, // Only text has bounds that are cut.
    })
}

fn exact(array: &ArrayRef, row: usize) -> Result<Option<Value>> {
    let slice = array.slice(row, 1);
    Ok(match array.data_type() {
        DataType::Boolean => Some(slice.as_boolean().value(0).into()),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            let wide = cast(&slice, &DataType::UInt64)?;
            Some(wide.as_primitive::<UInt64Type>().value(0).into())
        }
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Timestamp(..) => {
            let wide = cast(&slice, &DataType::Int64)?;
            Some(wide.as_primitive::<Int64Type>().value(0).into())
        }
        DataType::Date32 => {
            let wide = cast(&cast(&slice, &DataType::Int32)?, &DataType::Int64)?;
            Some(wide.as_primitive::<Int64Type>().value(0).into())
        }
        DataType::Float32 | DataType::Float64 => {
            let wide = cast(&slice, &DataType::Float64)?;
            finite(wide.as_primitive::<Float64Type>().value(0))
        }
        DataType::Decimal128(..) => {
            Some(slice.as_primitive::<Decimal128Type>().value(0).to_string().into())
        }
        DataType::Binary => {
            let bytes = slice.as_binary::<i32>().value(0);
            (bytes.len() <= BOUND_BYTES_MAX).then(|| BASE64.encode(bytes).into())
        }
        _ => None, // The store has no other types.
    })
}

/// Returns the one value of an array, whatever it is, as bounds are written; None if it is NULL.
pub(crate) fn value(array: &ArrayRef) -> Result<Option<Value>> {
    if array.logical_null_count() > 0 {
        return Ok(None);
    }
    Ok(match array.data_type() {
        DataType::Utf8 => Some(array.as_string::<i32>().value(0).into()),
        DataType::Binary => Some(BASE64.encode(array.as_binary::<i32>().value(0)).into()),
        DataType::Float32 | DataType::Float64 => {
            let wide = cast(array, &DataType::Float64)?;
            Some(format!("{:e}", wide.as_primitive::<Float64Type>().value(0)).into())
        }
        _ => exact(array, 0)?, // All others have exact bounds.
    })
}

/// Infinities are no bounds; -0 and 0 are one value to a comparison but not to Arrow's order, so neither is one either.
/// As text, because a number in JSON may come back as the float beside it.
fn finite(value: f64) -> Option<Value> {
    (value != 0.0 && value.is_finite()).then(|| format!("{value:e}").into())
}

fn text_prefix(text: &str) -> &str {
    let end = (0..=BOUND_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

/// Returns the least text known to be above everything that starts with `prefix`.
fn text_above(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // The successor skips the surrogates, which are no characters.
        let successor = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            other => char::from_u32(u32::from(other) + 1),
        };
        if let Some(successor) = successor {
            chars.push(successor);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// Returns lower and upper bound of a file's keys as [`crate::encoding`] orders them; None in a table without a key.
pub fn key_bounds(file: &FileEntry) -> Option<(Vec<u8>, Vec<u8>)> {
    let [lower, upper] = file.key.as_ref()?;
    Some((BASE64.decode(lower).ok()?, BASE64.decode(upper).ok()?))
}

/// Reads bounds of one column in many files into an array of the column's Arrow type; NULL where there is no bound.
///
/// # Errors
/// Internal if the bounds do not fit into arrays of the type.
pub fn bounds_to_array(column_type: &ColumnType, bounds: &[Option<&Value>]) -> Result<ArrayRef> {
    let data_type = column_type.to_arrow();
    let integers = || -> PrimitiveArray<Int64Type> {
        bounds.iter().map(|bound| bound.and_then(Value::as_i64)).collect()
    };
    Ok(match column_type {
        ColumnType::Bool => Arc::new(
            bounds.iter().map(|bound| bound.and_then(Value::as_bool)).collect::<BooleanArray>(),
        ),
        ColumnType::Int8
        | ColumnType::Int16
        | ColumnType::Int32
        | ColumnType::Int64
        | ColumnType::Timestamp(..) => cast(&integers(), &data_type)?,
        ColumnType::Date => cast(&cast(&integers(), &DataType::Int32)?, &data_type)?,
        ColumnType::UInt8 | ColumnType::UInt16 | ColumnType::UInt32 | ColumnType::UInt64 => {
            let wide: PrimitiveArray<UInt64Type> =
                bounds.iter().map(|bound| bound.and_then(Value::as_u64)).collect();
            cast(&wide, &data_type)?
        }
        // A bound of a float32 came from one, so casting it back is exact.
        ColumnType::Float32 | ColumnType::Float64 => {
            let float = |bound: &Option<&Value>| bound.and_then(Value::as_str)?.parse().ok();
            let wide: Float64Array = bounds.iter().map(float).collect();
            cast(&wide, &data_type)?
        }
        ColumnType::Decimal(..) => {
            let unscaled = |bound: &Option<&Value>| bound.and_then(Value::as_str)?.parse().ok();
            let values: Decimal128Array = bounds.iter().map(unscaled).collect();
            Arc::new(values.with_data_type(data_type))
        }
        ColumnType::Utf8 => Arc::new(
            bounds.iter().map(|bound| bound.and_then(Value::as_str)).collect::<StringArray>(),
        ),
        ColumnType::Binary => {
            let bytes = |bound: &Option<&Value>| {
                bound.and_then(Value::as_str).and_then(|text| BASE64.decode(text).ok())
            };
            Arc::new(bounds.iter().map(bytes).collect::<BinaryArray>())
        }
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, TimestampMicrosecondArray};

    use super::*;

    /// The zone map of a column that comes in two pieces.
    fn of_column(array: &ArrayRef) -> Result<ColumnStats> {
        let mut gathered = Gathered::default();
        let middle = array.len() / 2;
        gathered.add(&array.slice(0, middle))?;
        gathered.add(&array.slice(middle, array.len() - middle))?;
        gathered.finish()
    }
    use crate::table::TimeUnit;

    fn bounds(column_type: &ColumnType, array: ArrayRef) -> (ArrayRef, ArrayRef) {
        let stats = of_column(&array).unwrap();
        let read = |bound: Option<&Value>| bounds_to_array(column_type, &[bound]).unwrap();
        (read(stats.min.as_ref()), read(stats.max.as_ref()))
    }

    #[test]
    fn bounds_come_back_as_they_were() {
        let ints: ArrayRef = Arc::new(Int32Array::from(vec![Some(3), None, Some(-7), Some(5)]));
        assert_eq!(
            bounds(&ColumnType::Int32, Arc::clone(&ints)),
            (ints.slice(2, 1), ints.slice(3, 1))
        );
        let decimals: ArrayRef = Arc::new(
            Decimal128Array::from(vec![i128::from(i64::MAX) * 5, -3])
                .with_precision_and_scale(38, 4)
                .unwrap(),
        );
        let both = bounds(&ColumnType::Decimal(38, 4), Arc::clone(&decimals));
        assert_eq!(both, (decimals.slice(1, 1), decimals.slice(0, 1)));
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![9, -9]));
        let both = bounds(&ColumnType::Timestamp(TimeUnit::Microsecond, None), Arc::clone(&times));
        assert_eq!(both, (times.slice(1, 1), times.slice(0, 1)));
    }

    #[test]
    fn long_text_is_bounded_from_outside() {
        let long = "é".repeat(200);
        let array: ArrayRef = Arc::new(StringArray::from(vec![long.as_str()]));
        let stats = of_column(&array).unwrap();
        let min = stats.min.as_ref().and_then(Value::as_str).unwrap();
        let max = stats.max.as_ref().and_then(Value::as_str).unwrap();
        assert!(min < long.as_str() && long.as_str() < max && max.len() <= 64);
        let top: ArrayRef = Arc::new(StringArray::from(vec!["\u{10ffff}".repeat(99)]));
        assert_eq!(of_column(&top).unwrap().max, None);
    }

    #[test]
    fn bounds_of_floats_come_back_to_the_last_bit() {
        for value in [31.245_270_191_439_438, -5.0e-324, 1.797_693_134_862_315_7e308, 0.1, 1e23] {
            let array: ArrayRef = Arc::new(Float64Array::from(vec![value]));
            let text = serde_json::to_string(&of_column(&array).unwrap()).unwrap();
            let stats: ColumnStats = serde_json::from_str(&text).unwrap();
            let bounds = bounds_to_array(&ColumnType::Float64, &[stats.min.as_ref()]).unwrap();
            assert_eq!(bounds.as_primitive::<Float64Type>().value(0).to_bits(), value.to_bits());
        }
    }

    #[test]
    fn a_nan_leaves_no_bounds() {
        let array: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN]));
        assert_eq!(of_column(&array).unwrap(), ColumnStats { min: None, max: None, nulls: 0 });
    }
}
