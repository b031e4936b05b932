//! Values of batches, one by one, for drivers that bind them to statements.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use meshwork_engine::{Error, Result};

/// One value on its way to a source, of a type that row sources have.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound<'a> {
    /// NULL.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer that may be beyond the signed ones.
    UInt(u64),
    /// A single float.
    Float(f32),
    /// A double float.
    Double(f64),
    /// A decimal in its digits, with sign and point.
    Decimal(String),
    /// Text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since 1970-01-01 00:00:00.
    Timestamp(i64),
    /// Microseconds.
    Duration(i64),
}

/// Returns the value of a row in a column.
///
/// # Errors
/// `Internal` for a type that no table of these sources has.
pub fn bound(batch: &RecordBatch, column: usize, row: usize) -> Result<Bound<'_>> {
    let array = batch.column(column);
    if array.is_null(row) {
        return Ok(Bound::Null);
    }
    // The types that `Columns` makes; rows are cast to them before they come here.
    Ok(match array.data_type() {
        DataType::Boolean => Bound::Bool(array.as_boolean().value(row)),
        DataType::Int8 => Bound::Int(array.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => Bound::Int(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => Bound::Int(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Bound::Int(array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => Bound::UInt(array.as_primitive::<UInt8Type>().value(row).into()),
        DataType::UInt16 => Bound::UInt(array.as_primitive::<UInt16Type>().value(row).into()),
        DataType::UInt32 => Bound::UInt(array.as_primitive::<UInt32Type>().value(row).into()),
        DataType::UInt64 => Bound::UInt(array.as_primitive::<UInt64Type>().value(row)),
        DataType::Float32 => Bound::Float(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => Bound::Double(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => {
            Bound::Decimal(array.as_primitive::<Decimal128Type>().value_as_string(row))
        }
        DataType::Decimal256(..) => {
            Bound::Decimal(array.as_primitive::<Decimal256Type>().value_as_string(row))
        }
        DataType::Utf8 => Bound::Text(array.as_string::<i32>().value(row)),
        DataType::Binary => Bound::Bytes(array.as_binary::<i32>().value(row)),
        DataType::Date32 => Bound::Date(array.as_primitive::<Date32Type>().value(row)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Bound::Timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Duration(TimeUnit::Microsecond) => {
            Bound::Duration(array.as_primitive::<DurationMicrosecondType>().value(row))
        }
        other => return Err(Error::internal(format!("rows of type {other} for a row source"))),
    })
}
