//! Rows as bytes whose order is the order of the rows, stable for ever.
//!
//! The log holds bounds of keys and digests of rows in this encoding, so it must not change with a library; Arrow's row
//! format is used in memory only. Ascending, NULL first; per column:
//!
//! ```text
//! NULL               00
//! bool, integers     01 then the big-endian bytes, the sign bit of signed ones flipped
//! date, timestamp    as the integer inside;  decimal as a 128-bit integer
//! floats             01 then the bits; all flipped if negative, else the sign bit: -NaN < -inf < .. < inf < NaN
//! text, bytes        01 then the bytes, 00 as 00 ff, closed by 00 00
//! ```

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "Arrow's types are many; those that no column type maps to fall there"
)]

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use crate::error::{Error, Result};

const NULL: u8 = 0;
const PRESENT: u8 = 1;

/// Longest bound of a key in the log. A cut bound is still a bound.
const BOUND_BYTES_MAX: usize = 128;

/// Writes rows of a set of columns.
pub(crate) struct RowEncoder<'a> {
    columns: Vec<ColumnEncoder<'a>>,
}

type ColumnEncoder<'a> = Box<dyn Fn(usize, &mut Vec<u8>) + 'a>;

impl<'a> RowEncoder<'a> {
    pub(crate) fn new(columns: &'a [ArrayRef]) -> Result<Self> {
        Ok(Self { columns: columns.iter().map(column_encoder).collect::<Result<_>>()? })
    }

    /// Appends a row to `out`.
    pub(crate) fn encode(&self, row: usize, out: &mut Vec<u8>) {
        for column in &self.columns {
            column(row, out);
        }
    }
}

fn column_encoder(array: &ArrayRef) -> Result<ColumnEncoder<'_>> {
    Ok(match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean();
            nullable(array, move |row, out| out.push(u8::from(values.value(row))))
        }
        DataType::Int8 => primitive::<Int8Type, 1>(array, |v| (v ^ i8::MIN).to_be_bytes()),
        DataType::Int16 => primitive::<Int16Type, 2>(array, |v| (v ^ i16::MIN).to_be_bytes()),
        DataType::Int32 => primitive::<Int32Type, 4>(array, |v| (v ^ i32::MIN).to_be_bytes()),
        DataType::Int64 => primitive::<Int64Type, 8>(array, ordered_i64),
        DataType::UInt8 => primitive::<UInt8Type, 1>(array, u8::to_be_bytes),
        DataType::UInt16 => primitive::<UInt16Type, 2>(array, u16::to_be_bytes),
        DataType::UInt32 => primitive::<UInt32Type, 4>(array, u32::to_be_bytes),
        DataType::UInt64 => primitive::<UInt64Type, 8>(array, u64::to_be_bytes),
        DataType::Float32 => primitive::<Float32Type, 4>(array, |v| {
            let bits = v.to_bits();
            (if v.is_sign_negative() { !bits } else { bits | 1 << 31 }).to_be_bytes()
        }),
        DataType::Float64 => primitive::<Float64Type, 8>(array, |v| {
            let bits = v.to_bits();
            (if v.is_sign_negative() { !bits } else { bits | 1 << 63 }).to_be_bytes()
        }),
        DataType::Decimal128(..) => {
            primitive::<Decimal128Type, 16>(array, |v| (v ^ i128::MIN).to_be_bytes())
        }
        DataType::Date32 => primitive::<Date32Type, 4>(array, |v| (v ^ i32::MIN).to_be_bytes()),
        DataType::Timestamp(TimeUnit::Second, _) => {
            primitive::<TimestampSecondType, 8>(array, ordered_i64)
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            primitive::<TimestampMillisecondType, 8>(array, ordered_i64)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            primitive::<TimestampMicrosecondType, 8>(array, ordered_i64)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            primitive::<TimestampNanosecondType, 8>(array, ordered_i64)
        }
        DataType::Utf8 => {
            let values = array.as_string::<i32>();
            nullable(array, move |row, out| escaped(values.value(row).as_bytes(), out))
        }
        DataType::Binary => {
            let values = array.as_binary::<i32>();
            nullable(array, move |row, out| escaped(values.value(row), out))
        }
        other => return Err(Error::corrupt("column in memory", format!("its type is {other}"))),
    })
}

fn ordered_i64(value: i64) -> [u8; 8] {
    (value ^ i64::MIN).to_be_bytes()
}

fn primitive<'a, T: ArrowPrimitiveType, const N: usize>(
    array: &'a ArrayRef,
    bytes: impl Fn(T::Native) -> [u8; N] + 'a,
) -> ColumnEncoder<'a> {
    let values = array.as_primitive::<T>();
    nullable(array, move |row, out| out.extend_from_slice(&bytes(values.value(row))))
}

fn nullable<'a>(
    array: &'a ArrayRef,
    encode: impl Fn(usize, &mut Vec<u8>) + 'a,
) -> ColumnEncoder<'a> {
    Box::new(move |row, out| {
        if array.is_null(row) {
            out.push(NULL);
        } else {
            out.push(PRESENT);
            encode(row, out);
        }
    })
}

fn escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// Shortens an encoded key to a lower bound of it.
pub(crate) fn lower_bound(mut key: Vec<u8>) -> Vec<u8> {
    key.truncate(BOUND_BYTES_MAX);
    key
}

/// Shortens an encoded key to an upper bound of it, of at least the key itself.
pub(crate) fn upper_bound(mut key: Vec<u8>) -> Vec<u8> {
    if key.len() <= BOUND_BYTES_MAX {
        return key;
    }
    key.truncate(BOUND_BYTES_MAX);
    while let Some(last) = key.pop() {
        if let Some(next) = last.checked_add(1) {
            key.push(next);
            return key;
        }
    }
    // 128 bytes of ff: a key starts with 00 or 01, so this is above every key.
    vec![0xff]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Decimal128Array, Float64Array, Int64Array, StringArray};
    use arrow::row::{RowConverter, SortField};
    use proptest::prelude::*;

    use super::*;

    fn encoded(columns: &[ArrayRef], row: usize) -> Vec<u8> {
        let mut out = Vec::new();
        RowEncoder::new(columns).unwrap().encode(row, &mut out);
        out
    }

    proptest! {
        #[test]
        fn order_of_bytes_is_order_of_rows(rows in prop::collection::vec(
            (any::<Option<i64>>(), any::<Option<i64>>(), prop::option::of("[\0-\u{3}a]{0,4}"),
                any::<Option<f64>>()), 2..20)
        ) {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(rows.iter().map(|row| row.0.map(|v| v % 3)).collect::<Int64Array>()),
                Arc::new(rows.iter().map(|row| row.1.map(i128::from)).collect::<Decimal128Array>()),
                Arc::new(rows.iter().map(|row| row.2.clone()).collect::<StringArray>()),
                Arc::new(rows.iter().map(|row| row.3).collect::<Float64Array>()),
            ];
            let fields = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
            let arrow = RowConverter::new(fields).unwrap().convert_columns(&columns).unwrap();
            for a in 0..rows.len() {
                for b in 0..rows.len() {
                    let ours = encoded(&columns, a).cmp(&encoded(&columns, b));
                    prop_assert_eq!(ours, arrow.row(a).cmp(&arrow.row(b)));
                }
            }
        }

        #[test]
        fn cut_bounds_stay_bounds(key in prop::collection::vec(prop_oneof![Just(0xff), any::<u8>()], 0..300)) {
            prop_assert!(lower_bound(key.clone()) <= key);
            prop_assert!(upper_bound(key.clone()) >= key || upper_bound(key) == [0xff]);
        }
    }
}
