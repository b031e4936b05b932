//! The values of one column, read from the wire into an Arrow array.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Decimal256Builder,
    Float32Builder, Float64Builder, Int16Builder, Int32Builder, Int64Builder,
    IntervalMonthDayNanoBuilder, ListArray, StringBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder, UInt64Builder,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::IntervalMonthDayNano;
use datafusion::arrow::error::ArrowError;

use super::configuration::Unrepresentable;
use super::numeric::{Digits, decimal128, decimal256};
use super::wire::{UTC, Wire};
use crate::relational::{bytes_of, numbers_of};

/// PostgreSQL counts days from 2000-01-01, Arrow from 1970-01-01.
pub(super) const EPOCH_DAYS: i32 = 10_957;
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;
pub(super) const DAY_MICROS: i64 = 86_400_000_000;
pub(super) const NANOS_PER_MICRO: i64 = 1_000;

/// Why bytes are no value of the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// A value of the source that Arrow has not.
    Unrepresentable(&'static str),
    /// Not what the protocol says.
    Malformed(&'static str),
}

/// The values of one column, growing.
#[derive(Debug)]
pub(super) struct Values {
    growing: Growing,
    unrepresentable: Unrepresentable,
}

#[derive(Debug)]
enum Growing {
    Bool(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Count(UInt64Builder),
    Oid(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal128(Decimal128Builder, Digits),
    Decimal256(Decimal256Builder, Digits),
    Text(StringBuilder),
    PaddedText(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Interval(IntervalMonthDayNanoBuilder),
    Uuid(StringBuilder),
    List(Box<List>),
}

#[derive(Debug)]
struct List {
    wire: Wire,
    items: Values,
    lengths: Vec<usize>,
    valid: Vec<bool>,
}

impl Values {
    /// Returns an empty column.
    pub(super) fn new(wire: &Wire, unrepresentable: Unrepresentable) -> Result<Self, ArrowError> {
        let growing = match wire {
            Wire::Bool => Growing::Bool(BooleanBuilder::new()),
            Wire::Int16 => Growing::Int16(Int16Builder::new()),
            Wire::Int32 => Growing::Int32(Int32Builder::new()),
            Wire::Int64 => Growing::Int64(Int64Builder::new()),
            Wire::Count => Growing::Count(UInt64Builder::new()),
            Wire::Oid => Growing::Oid(Int64Builder::new()),
            Wire::Float32 => Growing::Float32(Float32Builder::new()),
            Wire::Float64 => Growing::Float64(Float64Builder::new()),
            Wire::Decimal128 { precision, scale } => Growing::Decimal128(
                Decimal128Builder::new().with_precision_and_scale(*precision, *scale)?,
                Digits { precision: *precision, scale: *scale },
            ),
            Wire::Decimal256 { precision, scale } => Growing::Decimal256(
                Decimal256Builder::new().with_precision_and_scale(*precision, *scale)?,
                Digits { precision: *precision, scale: *scale },
            ),
            Wire::Text => Growing::Text(StringBuilder::new()),
            Wire::PaddedText => Growing::PaddedText(StringBuilder::new()),
            Wire::Bytes => Growing::Bytes(BinaryBuilder::new()),
            Wire::Date => Growing::Date(Date32Builder::new()),
            Wire::Time => Growing::Time(Time64MicrosecondBuilder::new()),
            Wire::Timestamp => Growing::Timestamp(TimestampMicrosecondBuilder::new()),
            Wire::Instant => {
                Growing::Timestamp(TimestampMicrosecondBuilder::new().with_timezone(UTC))
            }
            Wire::Interval => Growing::Interval(IntervalMonthDayNanoBuilder::new()),
            Wire::Uuid => Growing::Uuid(StringBuilder::new()),
            Wire::List(item) => Growing::List(Box::new(List {
                wire: item.as_ref().clone(),
                items: Self::new(item, unrepresentable)?,
                lengths: Vec::new(),
                valid: Vec::new(),
            })),
        };
        Ok(Self { growing, unrepresentable })
    }

    /// Adds one value, `None` for NULL. After an error the column must not be used.
    #[inline]
    pub(super) fn append(&mut self, bytes: Option<&[u8]>) -> Result<(), Unfit> {
        let Some(bytes) = bytes else {
            self.append_null();
            return Ok(());
        };
        match self.append_value(bytes) {
            Err(Unfit::Unrepresentable(_)) if self.unrepresentable == Unrepresentable::Null => {
                self.append_null();
                Ok(())
            }
            result => result,
        }
    }

    #[inline]
    fn append_value(&mut self, bytes: &[u8]) -> Result<(), Unfit> {
        match &mut self.growing {
            Growing::Bool(values) => values.append_value(fixed::<1>(bytes)? != [0]),
            Growing::Int16(values) => values.append_value(i16::from_be_bytes(fixed(bytes)?)),
            Growing::Int32(values) => values.append_value(i32::from_be_bytes(fixed(bytes)?)),
            Growing::Int64(values) => values.append_value(i64::from_be_bytes(fixed(bytes)?)),
            Growing::Count(values) => values.append_value(count(bytes)?),
            Growing::Oid(values) => values.append_value(u32::from_be_bytes(fixed(bytes)?).into()),
            Growing::Float32(values) => values.append_value(float32(bytes)?),
            Growing::Float64(values) => values.append_value(float64(bytes)?),
            Growing::Decimal128(values, digits) => values.append_value(decimal128(bytes, *digits)?),
            Growing::Decimal256(values, digits) => values.append_value(decimal256(bytes, *digits)?),
            Growing::Text(values) => values.append_value(text(bytes)?),
            Growing::PaddedText(values) => values.append_value(text(bytes)?.trim_end_matches(' ')),
            Growing::Bytes(values) => values.append_value(bytes),
            Growing::Date(values) => values.append_value(date(bytes)?),
            Growing::Time(values) => values.append_value(time(bytes)?),
            Growing::Timestamp(values) => values.append_value(timestamp(bytes)?),
            Growing::Interval(values) => values.append_value(interval(bytes)?),
            Growing::Uuid(values) => values.append_value(text(&uuid(bytes)?)?),
            Growing::List(list) => list.append(bytes)?,
        }
        Ok(())
    }

    fn append_null(&mut self) {
        match &mut self.growing {
            Growing::Bool(values) => values.append_null(),
            Growing::Int16(values) => values.append_null(),
            Growing::Int32(values) => values.append_null(),
            Growing::Int64(values) | Growing::Oid(values) => values.append_null(),
            Growing::Count(values) => values.append_null(),
            Growing::Float32(values) => values.append_null(),
            Growing::Float64(values) => values.append_null(),
            Growing::Decimal128(values, _digits) => values.append_null(),
            Growing::Decimal256(values, _digits) => values.append_null(),
            Growing::Text(values) | Growing::PaddedText(values) | Growing::Uuid(values) => {
                values.append_null();
            }
            Growing::Bytes(values) => values.append_null(),
            Growing::Date(values) => values.append_null(),
            Growing::Time(values) => values.append_null(),
            Growing::Timestamp(values) => values.append_null(),
            Growing::Interval(values) => values.append_null(),
            Growing::List(list) => list.append_null(),
        }
    }

    /// Returns what was added and begins anew.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match &mut self.growing {
            Growing::Bool(values) => Arc::new(values.finish()),
            Growing::Int16(values) => numbers_of(values),
            Growing::Int32(values) => numbers_of(values),
            Growing::Int64(values) | Growing::Oid(values) => numbers_of(values),
            Growing::Count(values) => numbers_of(values),
            Growing::Float32(values) => numbers_of(values),
            Growing::Float64(values) => numbers_of(values),
            Growing::Decimal128(values, _digits) => numbers_of(values),
            Growing::Decimal256(values, _digits) => numbers_of(values),
            Growing::Text(values) | Growing::PaddedText(values) | Growing::Uuid(values) => {
                bytes_of(values)
            }
            Growing::Bytes(values) => bytes_of(values),
            Growing::Date(values) => numbers_of(values),
            Growing::Time(values) => numbers_of(values),
            Growing::Timestamp(values) => numbers_of(values),
            Growing::Interval(values) => numbers_of(values),
            Growing::List(list) => list.finish()?,
        })
    }
}

impl List {
    /// ```text
    /// i32 dimensions | i32 has nulls | u32 type | dimensions x (i32 length, i32 first) | items (i32 length, bytes)
    /// ```
    fn append(&mut self, bytes: &[u8]) -> Result<(), Unfit> {
        let mut rest = bytes;
        let n_dimensions = take_i32(&mut rest)?;
        let (_has_nulls, _type) = (take_i32(&mut rest)?, take_i32(&mut rest)?);
        let n_items = match n_dimensions {
            0 => 0,
            1 => {
                let n_items = take_i32(&mut rest)?;
                let _first = take_i32(&mut rest)?;
                usize::try_from(n_items).map_err(|_negative| MALFORMED_ARRAY)?
            }
            _ => return Err(Unfit::Unrepresentable("an array of several dimensions")),
        };
        for _item in 0..n_items {
            let item = match usize::try_from(take_i32(&mut rest)?) {
                Ok(length) => {
                    let (item, behind) = rest.split_at_checked(length).ok_or(MALFORMED_ARRAY)?;
                    rest = behind;
                    Some(item)
                }
                Err(_null) => None,
            };
            self.items.append(item)?;
        }
        self.lengths.push(n_items);
        self.valid.push(true);
        Ok(())
    }

    fn append_null(&mut self) {
        self.lengths.push(0);
        self.valid.push(false);
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let offsets = OffsetBuffer::from_lengths(std::mem::take(&mut self.lengths));
        let valid = NullBuffer::from(std::mem::take(&mut self.valid));
        let items = self.items.finish()?;
        Ok(Arc::new(ListArray::try_new(self.wire.list_field(), offsets, items, Some(valid))?))
    }
}

const MALFORMED_ARRAY: Unfit = Unfit::Malformed("an array");

fn take_i32(rest: &mut &[u8]) -> Result<i32, Unfit> {
    let (number, behind) = rest.split_first_chunk::<4>().ok_or(MALFORMED_ARRAY)?;
    *rest = behind;
    Ok(i32::from_be_bytes(*number))
}

#[inline]
fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Unfit> {
    bytes.try_into().map_err(|_other_length| Unfit::Malformed("a value of fixed width"))
}

fn count(bytes: &[u8]) -> Result<u64, Unfit> {
    let count = i64::from_be_bytes(fixed(bytes)?);
    u64::try_from(count).map_err(|_negative| Unfit::Malformed("a count"))
}

/// All NaNs become one: the engine orders them by their bits, the source does not.
fn float32(bytes: &[u8]) -> Result<f32, Unfit> {
    let value = f32::from_be_bytes(fixed(bytes)?);
    Ok(if value.is_nan() { f32::NAN } else { value })
}

fn float64(bytes: &[u8]) -> Result<f64, Unfit> {
    let value = f64::from_be_bytes(fixed(bytes)?);
    Ok(if value.is_nan() { f64::NAN } else { value })
}

fn text(bytes: &[u8]) -> Result<&str, Unfit> {
    std::str::from_utf8(bytes).map_err(|_not_utf8| Unfit::Malformed("text in UTF-8"))
}

fn date(bytes: &[u8]) -> Result<i32, Unfit> {
    match i32::from_be_bytes(fixed(bytes)?) {
        i32::MAX | i32::MIN => Err(Unfit::Unrepresentable("an infinite date")),
        days => days.checked_add(EPOCH_DAYS).ok_or(Unfit::Unrepresentable("a date so late")),
    }
}

fn time(bytes: &[u8]) -> Result<i64, Unfit> {
    match i64::from_be_bytes(fixed(bytes)?) {
        DAY_MICROS => Err(Unfit::Unrepresentable("the time 24:00:00")),
        micros => Ok(micros),
    }
}

fn timestamp(bytes: &[u8]) -> Result<i64, Unfit> {
    match i64::from_be_bytes(fixed(bytes)?) {
        i64::MAX | i64::MIN => Err(Unfit::Unrepresentable("an infinite timestamp")),
        micros => {
            micros.checked_add(EPOCH_MICROS).ok_or(Unfit::Unrepresentable("a timestamp so late"))
        }
    }
}

fn interval(bytes: &[u8]) -> Result<IntervalMonthDayNano, Unfit> {
    let malformed = Unfit::Malformed("an interval");
    let (micros, rest) = bytes.split_first_chunk::<8>().ok_or(malformed)?;
    let (days, rest) = rest.split_first_chunk::<4>().ok_or(malformed)?;
    let nanos = i64::from_be_bytes(*micros)
        .checked_mul(NANOS_PER_MICRO)
        .ok_or(Unfit::Unrepresentable("an interval so long"))?;
    let months = i32::from_be_bytes(fixed(rest)?);
    Ok(IntervalMonthDayNano::new(months, i32::from_be_bytes(*days), nanos))
}

/// Returns the canonical text: lowercase, with hyphens.
fn uuid(bytes: &[u8]) -> Result<[u8; 36], Unfit> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut written = [b'-'; 36];
    let places = (0..written.len()).filter(|place| ![8, 13, 18, 23].contains(place));
    let digits = fixed::<16>(bytes)?.into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
    for (place, digit) in places.zip(digits) {
        written[place] = DIGITS[usize::from(digit)];
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_canonical() {
        let bytes: Vec<u8> = (0..16).map(|n| n * 17).collect();
        let written = uuid(&bytes).unwrap();
        assert_eq!(text(&written).unwrap(), "00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    fn infinities_are_not_dates() {
        assert!(date(&i32::MAX.to_be_bytes()).is_err());
        assert_eq!(date(&0i32.to_be_bytes()), Ok(EPOCH_DAYS));
        assert!(timestamp(&i64::MIN.to_be_bytes()).is_err());
        assert_eq!(timestamp(&0i64.to_be_bytes()), Ok(EPOCH_MICROS));
        assert!(timestamp(&(i64::MAX - 1).to_be_bytes()).is_err());
    }
}
