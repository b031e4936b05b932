//! The values of one column, read from the wire into an Arrow array.
//!
//! Rows that have arrived together are read column by column: what a value is, is asked once for all of them.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::builder::NullBufferBuilder;
use datafusion::arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanBuilder, ListArray, PrimitiveArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type,
    Int32Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, Time64MicrosecondType,
    TimestampMicrosecondType, UInt64Type,
};

use super::configuration::Unrepresentable;
use super::numeric::{Digits, decimal128, decimal256};
use super::wire::Wire;
use crate::relational::{Texts, bytes_of};

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
    /// A row ends in the middle of a value.
    Short,
}

/// What of a row was not read: `n x (i32 length or -1 | bytes)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    pub(super) begin: usize,
    pub(super) end: usize,
}

impl Rest {
    /// Returns the next value, `None` for NULL; `bytes` are where the row is.
    #[inline]
    fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Unfit> {
        let rest = bytes.get(self.begin..self.end).ok_or(Unfit::Short)?;
        let (length, behind) = rest.split_first_chunk::<4>().ok_or(Unfit::Short)?;
        self.begin += length.len();
        match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(length) => {
                self.begin += length;
                behind.get(..length).map(Some).ok_or(Unfit::Short)
            }
            Err(_null) => Ok(None),
        }
    }
}

/// The values of one column, growing.
pub(super) struct Values {
    column: Box<dyn Column>,
    unrepresentable: Unrepresentable,
}

/// How the values of a column are read, and what becomes of them.
trait Column: Send + Sync {
    /// Adds one value.
    fn value(&mut self, bytes: &[u8]) -> Result<(), Unfit>;

    /// Adds NULL.
    fn null(&mut self);

    /// Returns what was added and begins anew.
    fn finish(&mut self) -> Result<ArrayRef, Unfit>;

    /// Adds one value, `None` for NULL. After an error the column must not be used.
    #[inline]
    fn append(
        &mut self,
        bytes: Option<&[u8]>,
        unrepresentable: Unrepresentable,
    ) -> Result<(), Unfit> {
        let Some(bytes) = bytes else {
            self.null();
            return Ok(());
        };
        match self.value(bytes) {
            Err(Unfit::Unrepresentable(_)) if unrepresentable == Unrepresentable::Null => {
                self.null();
                Ok(())
            }
            result => result,
        }
    }

    /// Adds the next value of each row. After an error the column must not be used.
    fn append_all(
        &mut self,
        bytes: &[u8],
        rows: &mut [Rest],
        unrepresentable: Unrepresentable,
    ) -> Result<(), Unfit> {
        for row in rows {
            self.append(row.next(bytes)?, unrepresentable)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Values").finish_non_exhaustive()
    }
}

impl Values {
    /// Returns an empty column.
    pub(super) fn new(wire: &Wire, unrepresentable: Unrepresentable) -> Self {
        let column: Box<dyn Column> = match wire {
            Wire::Bool => Box::new(BooleanBuilder::new()),
            Wire::Int16 => {
                numbers::<Int16Type>(wire, |bytes| Ok(i16::from_be_bytes(fixed(bytes)?)))
            }
            Wire::Int32 => {
                numbers::<Int32Type>(wire, |bytes| Ok(i32::from_be_bytes(fixed(bytes)?)))
            }
            Wire::Int64 => {
                numbers::<Int64Type>(wire, |bytes| Ok(i64::from_be_bytes(fixed(bytes)?)))
            }
            Wire::Count => numbers::<UInt64Type>(wire, count),
            Wire::Oid => {
                numbers::<Int64Type>(wire, |bytes| Ok(u32::from_be_bytes(fixed(bytes)?).into()))
            }
            Wire::Float32 => numbers::<Float32Type>(wire, float32),
            Wire::Float64 => numbers::<Float64Type>(wire, float64),
            Wire::Decimal128 { precision, scale } => {
                let digits = Digits { precision: *precision, scale: *scale };
                numbers::<Decimal128Type>(wire, move |bytes| decimal128(bytes, digits))
            }
            Wire::Decimal256 { precision, scale } => {
                let digits = Digits { precision: *precision, scale: *scale };
                numbers::<Decimal256Type>(wire, move |bytes| decimal256(bytes, digits))
            }
            Wire::Text => texts(Texts::append),
            Wire::PaddedText => texts(|texts, bytes| texts.append(without_padding(bytes))),
            Wire::Uuid => texts(|texts, bytes| uuid(bytes).is_some_and(|uuid| texts.append(&uuid))),
            Wire::Bytes => Box::new(BinaryBuilder::new()),
            Wire::Date => numbers::<Date32Type>(wire, date),
            Wire::Time => numbers::<Time64MicrosecondType>(wire, time),
            Wire::Timestamp | Wire::Instant => numbers::<TimestampMicrosecondType>(wire, timestamp),
            Wire::Interval => numbers::<IntervalMonthDayNanoType>(wire, interval),
            Wire::List(item) => Box::new(List {
                wire: item.as_ref().clone(),
                items: Self::new(item, unrepresentable),
                lengths: Vec::new(),
                valid: Vec::new(),
            }),
        };
        Self { column, unrepresentable }
    }

    /// Adds one value, `None` for NULL. After an error the column must not be used.
    fn append(&mut self, bytes: Option<&[u8]>) -> Result<(), Unfit> {
        self.column.append(bytes, self.unrepresentable)
    }

    /// Adds the next value of each row. After an error the column must not be used.
    pub(super) fn append_all(&mut self, bytes: &[u8], rows: &mut [Rest]) -> Result<(), Unfit> {
        self.column.append_all(bytes, rows, self.unrepresentable)
    }

    /// Returns what was added and begins anew.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, Unfit> {
        self.column.finish()
    }
}

/// A column of numbers, and how one is read.
struct Numbers<T: ArrowPrimitiveType, R> {
    data_type: DataType,
    values: Vec<T::Native>,
    nulls: NullBufferBuilder,
    read: R,
}

fn numbers<T: ArrowPrimitiveType>(
    wire: &Wire,
    read: impl Fn(&[u8]) -> Result<T::Native, Unfit> + Send + Sync + 'static,
) -> Box<dyn Column> {
    let (data_type, values, nulls) = (wire.data_type(), Vec::new(), NullBufferBuilder::new(0));
    Box::new(Numbers::<T, _> { data_type, values, nulls, read })
}

impl<T, R> Column for Numbers<T, R>
where
    T: ArrowPrimitiveType,
    R: Fn(&[u8]) -> Result<T::Native, Unfit> + Send + Sync,
{
    #[inline]
    fn value(&mut self, bytes: &[u8]) -> Result<(), Unfit> {
        self.values.push((self.read)(bytes)?);
        self.nulls.append_non_null();
        Ok(())
    }

    #[inline]
    fn null(&mut self) {
        self.values.push(T::default_value());
        self.nulls.append_null();
    }

    /// The next batch will be as long, most likely.
    fn finish(&mut self) -> Result<ArrayRef, Unfit> {
        let next = Vec::with_capacity(self.values.len());
        let values = ScalarBuffer::from(std::mem::replace(&mut self.values, next));
        let numbers = PrimitiveArray::<T>::new(values, self.nulls.finish());
        Ok(Arc::new(numbers.with_data_type(self.data_type.clone())))
    }
}

impl Column for BooleanBuilder {
    fn value(&mut self, bytes: &[u8]) -> Result<(), Unfit> {
        self.append_value(fixed::<1>(bytes)? != [0]);
        Ok(())
    }

    fn null(&mut self) {
        self.append_null();
    }

    fn finish(&mut self) -> Result<ArrayRef, Unfit> {
        Ok(Arc::new(Self::finish(self)))
    }
}

impl Column for BinaryBuilder {
    fn value(&mut self, bytes: &[u8]) -> Result<(), Unfit> {
        self.append_value(bytes);
        Ok(())
    }

    fn null(&mut self) {
        self.append_null();
    }

    fn finish(&mut self) -> Result<ArrayRef, Unfit> {
        Ok(bytes_of(self))
    }
}

/// A column of text, and how one is added.
struct TextsBy<A> {
    texts: Texts,
    add: A,
}

fn texts(add: impl Fn(&mut Texts, &[u8]) -> bool + Send + Sync + 'static) -> Box<dyn Column> {
    Box::new(TextsBy { texts: Texts::default(), add })
}

impl<A: Fn(&mut Texts, &[u8]) -> bool + Send + Sync> Column for TextsBy<A> {
    #[inline]
    fn value(&mut self, bytes: &[u8]) -> Result<(), Unfit> {
        match (self.add)(&mut self.texts, bytes) {
            true => Ok(()),
            false => Err(NO_TEXT),
        }
    }

    #[inline]
    fn null(&mut self) {
        self.texts.append_null();
    }

    fn finish(&mut self) -> Result<ArrayRef, Unfit> {
        self.texts.take().ok_or(NO_TEXT)
    }
}

/// A column of lists, and its items.
struct List {
    wire: Wire,
    items: Values,
    lengths: Vec<usize>,
    valid: Vec<bool>,
}

impl Column for List {
    /// ```text
    /// i32 dimensions | i32 has nulls | u32 type | dimensions x (i32 length, i32 first) | items (i32 length, bytes)
    /// ```
    fn value(&mut self, bytes: &[u8]) -> Result<(), Unfit> {
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

    fn null(&mut self) {
        self.lengths.push(0);
        self.valid.push(false);
    }

    fn finish(&mut self) -> Result<ArrayRef, Unfit> {
        let offsets = OffsetBuffer::from_lengths(std::mem::take(&mut self.lengths));
        let valid = NullBuffer::from(std::mem::take(&mut self.valid));
        let items = self.items.finish()?;
        let lists = ListArray::try_new(self.wire.list_field(), offsets, items, Some(valid));
        Ok(Arc::new(lists.map_err(|_broken| MALFORMED_ARRAY)?))
    }
}

const MALFORMED_ARRAY: Unfit = Unfit::Malformed("an array");
const NO_TEXT: Unfit = Unfit::Malformed("text in UTF-8");

fn take_i32(rest: &mut &[u8]) -> Result<i32, Unfit> {
    let (number, behind) = rest.split_first_chunk::<4>().ok_or(MALFORMED_ARRAY)?;
    *rest = behind;
    Ok(i32::from_be_bytes(*number))
}

#[inline]
fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Unfit> {
    bytes.try_into().map_err(|_other_length| Unfit::Malformed("a value of fixed width"))
}

#[inline]
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

fn without_padding(bytes: &[u8]) -> &[u8] {
    let n_bytes = bytes.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    bytes.get(..n_bytes).unwrap_or_default()
}

#[inline]
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

#[inline]
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
fn uuid(bytes: &[u8]) -> Option<[u8; 36]> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut written = [b'-'; 36];
    let places = (0..written.len()).filter(|place| ![8, 13, 18, 23].contains(place));
    let digits = fixed::<16>(bytes).ok()?.into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
    for (place, digit) in places.zip(digits) {
        written[place] = DIGITS[usize::from(digit)];
    }
    Some(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_canonical() {
        let bytes: Vec<u8> = (0..16).map(|n| n * 17).collect();
        let written = uuid(&bytes).unwrap();
        assert_eq!(&written, b"00112233-4455-6677-8899-aabbccddeeff");
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
