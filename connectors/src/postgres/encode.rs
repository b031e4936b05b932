//! Batches become the stream of a binary `COPY ... FROM STDIN`; see [`super::decode`] for its layout.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use datafusion::arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array,
    Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray,
    ListArray, RecordBatch, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use meshwork_engine::remote::RemoteColumn;
use meshwork_engine::{Error, Result};

use super::columns::{Detail, Sent};
use super::numeric::{put_decimal128, put_decimal256};
use super::values::{DAY_MICROS, EPOCH_DAYS, EPOCH_MICROS, NANOS_PER_MICRO};
use super::wire::Wire;
use crate::relational::rows_refused;

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: i16 = -1;
/// Stands before the text of a `jsonb`.
const JSONB_VERSION: u8 = 1;
/// The length of a NULL.
const NULL: i32 = -1;
/// A piece is sent when it holds that much.
const PIECE_BYTES: usize = 128 << 10;

/// How the values of one column are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) wire: Wire,
    is_jsonb: bool,
    /// The number of the type of a list's items.
    item: u32,
    /// Whether the server must make the value of its text.
    pub(super) is_cast: bool,
}

impl Form {
    /// Returns how values of the column are written.
    pub(super) fn of(column: &RemoteColumn) -> Result<Self> {
        let detail = Detail::of(column)?;
        let base = detail.base_type.as_str();
        let is_text_there = matches!(base, "bpchar" | "json" | "jsonb" | "citext" | "xml");
        Ok(Self {
            is_jsonb: base == "jsonb",
            item: base.strip_prefix('_').map_or(0, item_type),
            is_cast: detail.sent != Sent::Itself && !is_text_there,
            wire: detail.wire,
        })
    }
}

/// Returns the number of a type in `pg_type.dat`.
fn item_type(name: &str) -> u32 {
    // Only types that arrive as items of lists.
    match name {
        "bool" => 16,
        "bytea" => 17,
        "int8" => 20,
        "int2" => 21,
        "int4" => 23,
        "text" => 25,
        "oid" => 26,
        "float4" => 700,
        "float8" => 701,
        "bpchar" => 1042,
        "varchar" => 1043,
        "date" => 1082,
        "time" => 1083,
        "timestamp" => 1114,
        "timestamptz" => 1184,
        "interval" => 1186,
        "numeric" => 1700,
        "uuid" => 2950,
        _ => 0,
    }
}

/// Writes batches of one table's columns.
#[derive(Debug)]
pub(super) struct Encoder {
    table: String,
    columns: Vec<(String, Form)>,
    buffer: BytesMut,
}

impl Encoder {
    /// Returns an encoder of rows for these columns of the table.
    pub(super) fn new(table: &str, columns: &[&RemoteColumn]) -> Result<Self> {
        let form = |column: &&RemoteColumn| Ok((column.name.clone(), Form::of(column)?));
        let columns = columns.iter().map(form).collect::<Result<_>>()?;
        let mut buffer = BytesMut::with_capacity(PIECE_BYTES * 2);
        buffer.put_slice(HEADER);
        Ok(Self { table: table.to_owned(), columns, buffer })
    }

    /// Writes a batch; returns the pieces that are ready to be sent.
    pub(super) fn push(&mut self, batch: &RecordBatch) -> Result<Vec<Bytes>> {
        let arrays = self.columns.iter().zip(batch.columns());
        let arrays = arrays.map(|((_, form), array)| as_wire(array, &form.wire));
        let arrays = arrays.collect::<Result<Vec<ArrayRef>>>()?;
        let columns = self.columns.iter().zip(&arrays);
        let columns = columns
            .map(|((_, form), array)| Values::of(form, array))
            .collect::<Result<Vec<_>>>()?;
        let n_columns = i16::try_from(columns.len())
            .map_err(|e| Error::internal("a row has too many columns").caused_by(&e))?;
        let mut pieces = Vec::new();
        for row in 0..batch.num_rows() {
            self.buffer.put_i16(n_columns);
            for (place, column) in columns.iter().enumerate() {
                if let Err(unfit) = column.put(row, &mut self.buffer) {
                    let name = self.columns.get(place).map_or("", |(name, _)| name);
                    let said = format!("column \"{name}\" cannot hold {unfit}");
                    return Err(rows_refused(&self.table, said));
                }
            }
            if self.buffer.len() >= PIECE_BYTES {
                pieces.push(self.buffer.split().freeze());
                self.buffer.reserve(PIECE_BYTES * 2);
            }
        }
        Ok(pieces)
    }

    /// Ends the stream; returns its last piece.
    pub(super) fn end(mut self) -> Bytes {
        self.buffer.put_i16(TRAILER);
        self.buffer.freeze()
    }
}

/// Returns the array in the layout that is written; nearly always it is already.
fn as_wire(array: &ArrayRef, wire: &Wire) -> Result<ArrayRef> {
    let wanted = wire.data_type();
    if *array.data_type() == wanted {
        return Ok(Arc::clone(array));
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(array, &wanted, &strict)?)
}

type Unfit = &'static str;

/// One column of a batch.
struct Values<'a> {
    nulls: Option<&'a NullBuffer>,
    typed: Typed<'a>,
}

enum Typed<'a> {
    Bool(&'a BooleanArray),
    Int16(&'a Int16Array),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    Oid(&'a Int64Array),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    Decimal128(&'a Decimal128Array, i8),
    Decimal256(&'a Decimal256Array, i8),
    Text(&'a StringArray),
    Jsonb(&'a StringArray),
    Bytes(&'a BinaryArray),
    Date(&'a Date32Array),
    Time(&'a Time64MicrosecondArray),
    Timestamp(&'a TimestampMicrosecondArray),
    Interval(&'a IntervalMonthDayNanoArray),
    Uuid(&'a StringArray),
    List { list: &'a ListArray, items: Box<Values<'a>>, item: u32 },
}

fn downcast<T: 'static>(array: &ArrayRef) -> Result<&T> {
    array.as_any().downcast_ref::<T>().ok_or_else(|| {
        Error::internal(format!("rows of type {} for another column", array.data_type()))
    })
}

impl<'a> Values<'a> {
    fn of(form: &Form, array: &'a ArrayRef) -> Result<Self> {
        Self::of_wire(&form.wire, form, array)
    }

    fn of_wire(wire: &Wire, form: &Form, array: &'a ArrayRef) -> Result<Self> {
        let typed = match wire {
            Wire::Bool => Typed::Bool(downcast(array)?),
            Wire::Int16 => Typed::Int16(downcast(array)?),
            Wire::Int32 => Typed::Int32(downcast(array)?),
            Wire::Int64 => Typed::Int64(downcast(array)?),
            Wire::Oid => Typed::Oid(downcast(array)?),
            Wire::Count => return Err(Error::internal("rows for a count")),
            Wire::Float32 => Typed::Float32(downcast(array)?),
            Wire::Float64 => Typed::Float64(downcast(array)?),
            Wire::Decimal128 { scale, .. } => Typed::Decimal128(downcast(array)?, *scale),
            Wire::Decimal256 { scale, .. } => Typed::Decimal256(downcast(array)?, *scale),
            Wire::Text | Wire::PaddedText if form.is_jsonb => Typed::Jsonb(downcast(array)?),
            Wire::Text | Wire::PaddedText => Typed::Text(downcast(array)?),
            Wire::Bytes => Typed::Bytes(downcast(array)?),
            Wire::Date => Typed::Date(downcast(array)?),
            Wire::Time => Typed::Time(downcast(array)?),
            Wire::Timestamp | Wire::Instant => Typed::Timestamp(downcast(array)?),
            Wire::Interval => Typed::Interval(downcast(array)?),
            Wire::Uuid => Typed::Uuid(downcast(array)?),
            Wire::List(item) => {
                let list: &ListArray = downcast(array)?;
                let items = Box::new(Self::of_wire(item, form, list.values())?);
                Typed::List { list, items, item: form.item }
            }
        };
        Ok(Self { nulls: array.nulls(), typed })
    }

    /// Writes the length and the bytes of one value.
    #[inline]
    fn put(&self, row: usize, buffer: &mut BytesMut) -> Result<(), Unfit> {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            buffer.put_i32(NULL);
            return Ok(());
        }
        match &self.typed {
            Typed::Bool(values) => fixed(buffer, [u8::from(values.value(row))]),
            Typed::Int16(values) => fixed(buffer, values.value(row).to_be_bytes()),
            Typed::Int32(values) => fixed(buffer, values.value(row).to_be_bytes()),
            Typed::Int64(values) => fixed(buffer, values.value(row).to_be_bytes()),
            Typed::Oid(values) => {
                let oid = u32::try_from(values.value(row)).map_err(|_large| "a number so large")?;
                fixed(buffer, oid.to_be_bytes());
            }
            Typed::Float32(values) => fixed(buffer, values.value(row).to_be_bytes()),
            Typed::Float64(values) => fixed(buffer, values.value(row).to_be_bytes()),
            Typed::Decimal128(values, scale) => put_decimal128(buffer, values.value(row), *scale),
            Typed::Decimal256(values, scale) => put_decimal256(buffer, values.value(row), *scale),
            Typed::Text(values) => variable(buffer, values.value(row).as_bytes())?,
            Typed::Jsonb(values) => {
                let text = values.value(row).as_bytes();
                buffer.put_i32(length(text.len() + 1)?);
                buffer.put_u8(JSONB_VERSION);
                buffer.put_slice(text);
            }
            Typed::Bytes(values) => variable(buffer, values.value(row))?,
            Typed::Date(values) => {
                let days = values.value(row).checked_sub(EPOCH_DAYS).ok_or("a date so early")?;
                fixed(buffer, days.to_be_bytes());
            }
            Typed::Time(values) => {
                let micros = values.value(row);
                if !(0..DAY_MICROS).contains(&micros) {
                    return Err("a time beyond one day");
                }
                fixed(buffer, micros.to_be_bytes());
            }
            Typed::Timestamp(values) => {
                let micros = values.value(row).checked_sub(EPOCH_MICROS);
                fixed(buffer, micros.ok_or("a timestamp so early")?.to_be_bytes());
            }
            Typed::Interval(values) => {
                let value = values.value(row);
                if value.nanoseconds % NANOS_PER_MICRO != 0 {
                    return Err("an interval finer than microseconds");
                }
                buffer.put_i32(16);
                buffer.put_i64(value.nanoseconds / NANOS_PER_MICRO);
                buffer.put_i32(value.days);
                buffer.put_i32(value.months);
            }
            Typed::Uuid(values) => {
                fixed(buffer, uuid_bytes(values.value(row)).ok_or("text that is no UUID")?);
            }
            Typed::List { list, items, item } => put_list(list, items, *item, row, buffer)?,
        }
        Ok(())
    }
}

/// Writes an array of one dimension; an empty one has none.
fn put_list(
    list: &ListArray,
    items: &Values<'_>,
    item: u32,
    row: usize,
    buffer: &mut BytesMut,
) -> Result<(), Unfit> {
    let offset = |place: usize| list.value_offsets().get(place).copied().unwrap_or_default();
    let (first, behind) = (offset(row), offset(row + 1));
    let start = buffer.len();
    buffer.put_i32(0);
    let n_items = behind - first;
    buffer.put_i32(i32::from(n_items > 0));
    buffer.put_i32(i32::from(items.nulls.is_some()));
    buffer.put_u32(item);
    if n_items > 0 {
        buffer.put_i32(n_items);
        buffer.put_i32(1);
    }
    for place in first..behind {
        let place = usize::try_from(place).map_err(|_negative| "a list without a place")?;
        items.put(place, buffer)?;
    }
    let n_bytes = length(buffer.len() - start - 4)?;
    if let Some(written) = buffer.get_mut(start..start + 4) {
        written.copy_from_slice(&n_bytes.to_be_bytes());
    }
    Ok(())
}

#[inline]
fn fixed<const N: usize>(buffer: &mut BytesMut, bytes: [u8; N]) {
    // No fixed width comes near the limit.
    buffer.put_i32(i32::try_from(N).unwrap_or(i32::MAX));
    buffer.put_slice(&bytes);
}

#[inline]
fn variable(buffer: &mut BytesMut, bytes: &[u8]) -> Result<(), Unfit> {
    buffer.put_i32(length(bytes.len())?);
    buffer.put_slice(bytes);
    Ok(())
}

#[inline]
fn length(n_bytes: usize) -> Result<i32, Unfit> {
    i32::try_from(n_bytes).map_err(|_large| "a value so long")
}

/// Returns the bytes of 32 hexadecimal digits, with hyphens anywhere between them.
fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let mut digits = text.bytes().filter(|byte| *byte != b'-');
    let mut digit = || digits.next().and_then(|byte| char::from(byte).to_digit(16));
    let mut bytes = [0_u8; 16];
    for byte in &mut bytes {
        let (high, low) = (digit()?, digit()?);
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    digits.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_read_or_refused() {
        let bytes = uuid_bytes("A0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11").unwrap();
        assert_eq!(bytes[..4], [0xa0, 0xee, 0xbc, 0x99]);
        for wrong in
            ["", "a0", "g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc999c0b4ef8bb6d6bb9bd380a1100"]
        {
            assert_eq!(uuid_bytes(wrong), None, "{wrong}");
        }
    }
}
