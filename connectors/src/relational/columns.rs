//! Rows of a driver become Arrow batches: the connector reads a value, this module stores it.
//!
//! Nothing is rounded or cut here: a cell that does not fit its column is handed back to the connector,
//! which knows what to call it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanBuilder, PrimitiveBuilder, StringBuilder,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, SchemaRef, TimeUnit,
    TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type, i256,
};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use meshwork_engine::{Error, Result};

/// A batch is handed on when it holds that much, however few its rows.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// So many digits always fit into 64 bits.
const SHORT_DIGITS: usize = 18;

/// One value as the engine has it.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'a> {
    /// NULL.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer; the days of a date; the microseconds of a timestamp or duration.
    Int(i64),
    /// An integer that may be beyond the signed ones.
    UInt(u64),
    /// A single float.
    Float(f32),
    /// A double float.
    Double(f64),
    /// The unscaled value of a decimal of at most 38 digits.
    Decimal(i128),
    /// The unscaled value of a longer decimal.
    WideDecimal(i256),
    /// Text.
    Text(Cow<'a, str>),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// The batch that is being filled, column by column.
pub struct Columns {
    schema: SchemaRef,
    columns: Vec<Box<dyn Column>>,
    n_rows: usize,
    rows_max: usize,
    bytes: usize,
}

impl Columns {
    /// Returns an empty batch of the schema that takes `rows_max` rows.
    ///
    /// # Errors
    /// `User` for a type that no row source has.
    pub fn new(schema: SchemaRef, rows_max: usize) -> Result<Self> {
        let columns = schema.fields().iter().map(|field| column(field.data_type()));
        let columns = columns.collect::<Result<_>>()?;
        Ok(Self { schema, columns, n_rows: 0, rows_max: rows_max.max(1), bytes: 0 })
    }

    /// Appends a cell to a column; returns false, and appends nothing, if it does not fit.
    #[must_use]
    pub fn append(&mut self, column: usize, cell: Cell<'_>) -> bool {
        self.bytes += match &cell {
            Cell::Text(text) => text.len(),
            Cell::Bytes(bytes) => bytes.len(),
            Cell::Null
            | Cell::Bool(_)
            | Cell::Int(_)
            | Cell::UInt(_)
            | Cell::Float(_)
            | Cell::Double(_)
            | Cell::Decimal(_)
            | Cell::WideDecimal(_) => 0,
        };
        self.columns.get_mut(column).is_some_and(|column| column.append(cell))
    }

    /// Ends a row whose every column got a cell; returns whether the batch is full.
    pub fn end_row(&mut self) -> bool {
        self.n_rows += 1;
        self.n_rows >= self.rows_max || self.bytes >= BATCH_BYTES_MAX
    }

    /// Whether no row was ended since the last batch was taken.
    pub fn is_empty(&self) -> bool {
        self.n_rows == 0
    }

    /// Takes the batch of all ended rows.
    ///
    /// # Errors
    /// `Internal` when a column that may not be NULL is.
    pub fn take(&mut self) -> Result<RecordBatch> {
        let arrays = self.columns.iter_mut().map(|column| column.finish()).collect();
        let n_rows = std::mem::take(&mut self.n_rows);
        self.bytes = 0;
        batch(&self.schema, arrays, n_rows)
    }
}

impl fmt::Debug for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Columns").field("n_rows", &self.n_rows).finish_non_exhaustive()
    }
}

/// Returns batches without columns that count `n_rows` rows.
pub fn counted(
    schema: &SchemaRef,
    n_rows: u64,
    rows_max: usize,
) -> impl Iterator<Item = Result<RecordBatch>> + Send {
    let schema = Arc::clone(schema);
    let rows_max = u64::try_from(rows_max.max(1)).unwrap_or(u64::MAX);
    let mut left = n_rows;
    std::iter::from_fn(move || {
        let n_rows = left.min(rows_max);
        left -= n_rows;
        (n_rows > 0)
            .then(|| batch(&schema, Vec::new(), usize::try_from(n_rows).unwrap_or(usize::MAX)))
    })
}

fn batch(schema: &SchemaRef, arrays: Vec<ArrayRef>, n_rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options).map_err(|error| {
        Error::source(
            "SOURCE_READ_FAILED",
            "a source returned rows that break its own declarations",
        )
        .caused_by(&error)
    })
}

/// One column of the batch that is being filled.
trait Column: Send {
    fn append(&mut self, cell: Cell<'_>) -> bool;
    fn finish(&mut self) -> ArrayRef;
}

fn column(data_type: &DataType) -> Result<Box<dyn Column>> {
    // The types that row sources map to; whatever else there is came from no connector.
    Ok(match data_type {
        DataType::Boolean => Box::new(BooleanBuilder::new()),
        DataType::Int8 => numbers::<Int8Type>(data_type, integer),
        DataType::Int16 => numbers::<Int16Type>(data_type, integer),
        DataType::Int32 => numbers::<Int32Type>(data_type, integer),
        DataType::Int64 => numbers::<Int64Type>(data_type, integer),
        DataType::UInt8 => numbers::<UInt8Type>(data_type, integer),
        DataType::UInt16 => numbers::<UInt16Type>(data_type, integer),
        DataType::UInt32 => numbers::<UInt32Type>(data_type, integer),
        DataType::UInt64 => numbers::<UInt64Type>(data_type, integer),
        DataType::Float32 => numbers::<Float32Type>(data_type, |cell| match cell {
            Cell::Float(value) => Some(value),
            _ => None,
        }),
        DataType::Float64 => numbers::<Float64Type>(data_type, |cell| match cell {
            Cell::Double(value) => Some(value),
            Cell::Float(value) => Some(value.into()),
            _ => None,
        }),
        DataType::Decimal128(..) => numbers::<Decimal128Type>(data_type, |cell| match cell {
            Cell::Decimal(value) => Some(value),
            _ => None,
        }),
        DataType::Decimal256(..) => numbers::<Decimal256Type>(data_type, |cell| match cell {
            Cell::WideDecimal(value) => Some(value),
            _ => None,
        }),
        DataType::Date32 => numbers::<Date32Type>(data_type, integer),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            numbers::<TimestampMicrosecondType>(data_type, integer)
        }
        DataType::Duration(TimeUnit::Microsecond) => {
            numbers::<DurationMicrosecondType>(data_type, integer)
        }
        DataType::Utf8 => Box::new(StringBuilder::new()),
        DataType::Binary => Box::new(BinaryBuilder::new()),
        other => return Err(Error::not_supported(format!("a remote column of type {other}"))),
    })
}

/// A column of fixed-width values; `read` finds them in cells.
struct Numbers<T: ArrowPrimitiveType> {
    builder: PrimitiveBuilder<T>,
    read: fn(Cell<'_>) -> Option<T::Native>,
}

fn numbers<T: ArrowPrimitiveType>(
    data_type: &DataType,
    read: fn(Cell<'_>) -> Option<T::Native>,
) -> Box<dyn Column> {
    let builder = PrimitiveBuilder::<T>::new().with_data_type(data_type.clone());
    Box::new(Numbers { builder, read })
}

fn integer<N: TryFrom<i64> + TryFrom<u64>>(cell: Cell<'_>) -> Option<N> {
    // Nothing else is an integer.
    match cell {
        Cell::Int(value) => N::try_from(value).ok(),
        Cell::UInt(value) => N::try_from(value).ok(),
        _ => None,
    }
}

impl<T: ArrowPrimitiveType> Column for Numbers<T> {
    fn append(&mut self, cell: Cell<'_>) -> bool {
        if matches!(cell, Cell::Null) {
            self.builder.append_null();
            return true;
        }
        match (self.read)(cell) {
            Some(value) => {
                self.builder.append_value(value);
                true
            }
            None => false,
        }
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(self.builder.finish())
    }
}

impl Column for BooleanBuilder {
    fn append(&mut self, cell: Cell<'_>) -> bool {
        // Nothing else is a truth value.
        match cell {
            Cell::Null => self.append_null(),
            Cell::Bool(value) => self.append_value(value),
            _ => return false,
        }
        true
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(Self::finish(self))
    }
}

impl Column for StringBuilder {
    fn append(&mut self, cell: Cell<'_>) -> bool {
        // Nothing else is text.
        match cell {
            Cell::Null => self.append_null(),
            Cell::Text(value) => self.append_value(value),
            _ => return false,
        }
        true
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(Self::finish(self))
    }
}

impl Column for BinaryBuilder {
    fn append(&mut self, cell: Cell<'_>) -> bool {
        // Nothing else is bytes.
        match cell {
            Cell::Null => self.append_null(),
            Cell::Bytes(value) => self.append_value(value),
            _ => return false,
        }
        true
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(Self::finish(self))
    }
}

/// Returns the exact decimal that a text spells (`-12.30`), or `None` if it spells none of that precision
/// and scale.
pub fn decimal_cell(text: &str, precision: u8, scale: i8) -> Option<Cell<'static>> {
    if precision > arrow::datatypes::DECIMAL128_MAX_PRECISION {
        let mut digits = String::with_capacity(text.len() + 1);
        let negative = for_each_digit(text, scale, |digit| {
            digits.push(char::from(b'0' + digit));
            Some(())
        })?;
        let significant = digits.trim_start_matches('0').len();
        let value = i256::from_string(&digits).filter(|_| significant <= precision.into())?;
        return Some(Cell::WideDecimal(if negative { value.wrapping_neg() } else { value }));
    }
    let (value, negative) = unscaled(text, scale)?;
    let fits = value < 10_i128.checked_pow(precision.into())?;
    fits.then_some(Cell::Decimal(if negative { -value } else { value }))
}

/// Returns the unscaled value, and whether it is negative. Most are short, and long multiplication is slow.
fn unscaled(text: &str, scale: i8) -> Option<(i128, bool)> {
    if text.len() + usize::from(scale.unsigned_abs()) <= SHORT_DIGITS {
        let mut value = 0_i64;
        let negative = for_each_digit(text, scale, |digit| {
            value = value * 10 + i64::from(digit);
            Some(())
        })?;
        return Some((value.into(), negative));
    }
    let mut value = 0_i128;
    let negative = for_each_digit(text, scale, |digit| {
        value = value.checked_mul(10)?.checked_add(digit.into())?;
        Some(())
    })?;
    Some((value, negative))
}

/// Calls `visit` for each digit of the unscaled value; returns whether it is negative.
fn for_each_digit(text: &str, scale: i8, mut visit: impl FnMut(u8) -> Option<()>) -> Option<bool> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let scale = usize::try_from(scale).ok()?;
    let digit = |byte: u8| byte.is_ascii_digit().then(|| byte - b'0');
    for byte in whole.bytes() {
        visit(digit(byte)?)?;
    }
    for (place, byte) in fraction.bytes().enumerate() {
        let digit = digit(byte)?;
        if place < scale {
            visit(digit)?;
        } else if digit != 0 {
            return None;
        }
    }
    for _ in fraction.len()..scale {
        visit(0)?;
    }
    Some(negative)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Field, Schema};

    use super::*;

    #[test]
    fn decimals_are_exact_or_refused() {
        let narrow = |text| decimal_cell(text, 5, 2);
        assert_eq!(narrow("123.45"), Some(Cell::Decimal(12345)));
        assert_eq!(narrow("-0.5"), Some(Cell::Decimal(-50)));
        assert_eq!(narrow("7"), Some(Cell::Decimal(700)));
        assert_eq!(narrow("0001.100"), Some(Cell::Decimal(110)));
        assert_eq!(narrow(".5"), Some(Cell::Decimal(50)));
        for wrong in ["", ".", "-", "1.005", "1000", "1e3", "1 ", "0x1", "1.2.3", "٣"] {
            assert_eq!(narrow(wrong), None, "{wrong}");
        }
        let nines = "9".repeat(65);
        let wide = decimal_cell(&nines, 65, 0).unwrap();
        assert_eq!(wide, Cell::WideDecimal(i256::from_string(&nines).unwrap()));
        assert_eq!(decimal_cell(&nines, 64, 0), None);
        assert!(decimal_cell(&"9".repeat(38), 38, 0).is_some());
    }

    #[test]
    fn a_cell_that_does_not_fit_is_handed_back() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int8, true)]));
        let mut columns = Columns::new(schema, 2).unwrap();
        assert!(!columns.append(0, Cell::Int(128)));
        assert!(!columns.append(0, Cell::Text("1".into())));
        assert!(columns.append(0, Cell::UInt(127)));
        assert!(!columns.end_row());
        assert!(columns.append(0, Cell::Null));
        assert!(columns.end_row());
        let batch = columns.take().unwrap();
        assert_eq!(batch.column(0).as_primitive::<Int8Type>().values(), &[127, 0]);
        assert!(columns.is_empty());
    }

    #[test]
    fn counted_rows_come_in_batches() {
        let sizes: Vec<usize> = counted(&Arc::new(Schema::empty()), 5, 2)
            .map(|batch| batch.unwrap().num_rows())
            .collect();
        assert_eq!(sizes, [2, 2, 1]);
    }
}
