//! Rows of a driver become Arrow batches: the connector reads a value, this module stores it.
//!
//! Nothing is rounded or cut here: a cell that does not fit its column is handed back to the connector,
//! which knows what to call it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanBuilder, GenericByteBuilder,
    PrimitiveBuilder,
};
use arrow::datatypes::{
    ByteArrayType, DataType, Date32Type, Decimal128Type, Decimal256Type, DurationMicrosecondType,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, SchemaRef, TimeUnit,
    TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type, i256,
};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use meshwork_engine::{Error, Result};

use super::texts::Texts;

/// A batch is handed on when it holds that much, however few its rows.
const BATCH_BYTES_MAX: usize = 16 << 20;

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

    /// Returns the columns, for so many rows of so many bytes together: each column gets as many values.
    pub fn rows(&mut self, n_rows: usize, n_bytes: usize) -> &mut [Box<dyn Column>] {
        self.n_rows += n_rows;
        self.bytes += n_bytes;
        &mut self.columns
    }

    /// How many rows there is room for.
    pub fn n_rows_missing(&self) -> usize {
        self.rows_max.saturating_sub(self.n_rows)
    }

    /// Whether a batch should be taken before more is appended.
    pub fn is_full(&self) -> bool {
        self.n_rows >= self.rows_max || self.bytes >= BATCH_BYTES_MAX
    }

    /// Appends a cell to a column; returns false, and appends nothing, if it does not fit.
    #[must_use]
    pub fn append(&mut self, column: usize, cell: Cell<'_>) -> bool {
        let Some(column) = self.columns.get_mut(column) else { return false };
        match cell {
            Cell::Null => {
                column.null();
                true
            }
            Cell::Bool(value) => column.truth(value),
            Cell::Int(value) => column.int(value),
            Cell::UInt(value) => column.uint(value),
            Cell::Float(value) => column.float(value),
            Cell::Double(value) => column.double(value),
            Cell::Decimal(value) => column.decimal(value),
            Cell::WideDecimal(value) => column.wide_decimal(value),
            Cell::Text(value) => {
                self.bytes += value.len();
                column.text(value.as_bytes())
            }
            Cell::Bytes(value) => {
                self.bytes += value.len();
                column.bytes(value)
            }
        }
    }

    /// Ends a row whose every column got a cell; returns whether the batch is full.
    pub fn end_row(&mut self) -> bool {
        self.n_rows += 1;
        self.is_full()
    }

    /// Whether no row was ended since the last batch was taken.
    pub fn is_empty(&self) -> bool {
        self.n_rows == 0
    }

    /// Takes the batch of all ended rows.
    ///
    /// # Errors
    /// `Source` when a text is not UTF-8, or a column that may not be NULL is.
    pub fn take(&mut self) -> Result<RecordBatch> {
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter_mut().zip(self.schema.fields()) {
            arrays.push(column.finish().ok_or_else(|| no_text(field.name()))?);
        }
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

fn no_text(column: &str) -> Error {
    Error::source(
        "SOURCE_VALUE_MISMATCH",
        format!("column \"{column}\" holds text that is not UTF-8"),
    )
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

/// One column of the batch that is being filled. What does not fit is refused, and nothing is appended.
pub trait Column: Send {
    /// Appends NULL.
    fn null(&mut self);

    /// Takes what was appended; `None` if it is no text.
    fn finish(&mut self) -> Option<ArrayRef>;

    /// An integer; the days of a date; the microseconds of a timestamp or duration.
    #[must_use]
    fn int(&mut self, _value: i64) -> bool {
        false
    }

    /// An integer that may be beyond the signed ones.
    #[must_use]
    fn uint(&mut self, _value: u64) -> bool {
        false
    }

    /// A single float.
    #[must_use]
    fn float(&mut self, _value: f32) -> bool {
        false
    }

    /// A double float.
    #[must_use]
    fn double(&mut self, _value: f64) -> bool {
        false
    }

    /// True or false.
    #[must_use]
    fn truth(&mut self, _value: bool) -> bool {
        false
    }

    /// The unscaled value of a decimal of at most 38 digits.
    #[must_use]
    fn decimal(&mut self, _value: i128) -> bool {
        false
    }

    /// The unscaled value of a longer decimal.
    #[must_use]
    fn wide_decimal(&mut self, _value: i256) -> bool {
        false
    }

    /// Text in UTF-8.
    #[must_use]
    fn text(&mut self, _value: &[u8]) -> bool {
        false
    }

    /// Bytes.
    #[must_use]
    fn bytes(&mut self, _value: &[u8]) -> bool {
        false
    }
}

fn column(data_type: &DataType) -> Result<Box<dyn Column>> {
    // The types that row sources map to; whatever else there is came from no connector.
    Ok(match data_type {
        DataType::Boolean => Box::new(BooleanBuilder::new()),
        DataType::Int8 => integers::<Int8Type>(data_type),
        DataType::Int16 => integers::<Int16Type>(data_type),
        DataType::Int32 => integers::<Int32Type>(data_type),
        DataType::Int64 => integers::<Int64Type>(data_type),
        DataType::UInt8 => integers::<UInt8Type>(data_type),
        DataType::UInt16 => integers::<UInt16Type>(data_type),
        DataType::UInt32 => integers::<UInt32Type>(data_type),
        DataType::UInt64 => integers::<UInt64Type>(data_type),
        DataType::Date32 => integers::<Date32Type>(data_type),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            integers::<TimestampMicrosecondType>(data_type)
        }
        DataType::Duration(TimeUnit::Microsecond) => integers::<DurationMicrosecondType>(data_type),
        DataType::Float32 => Box::new(PrimitiveBuilder::<Float32Type>::new()),
        DataType::Float64 => Box::new(PrimitiveBuilder::<Float64Type>::new()),
        DataType::Decimal128(..) => {
            Box::new(PrimitiveBuilder::<Decimal128Type>::new().with_data_type(data_type.clone()))
        }
        DataType::Decimal256(..) => {
            Box::new(PrimitiveBuilder::<Decimal256Type>::new().with_data_type(data_type.clone()))
        }
        DataType::Utf8 => Box::new(Texts::default()),
        DataType::Binary => Box::new(BinaryBuilder::new()),
        other => return Err(Error::not_supported(format!("a remote column of type {other}"))),
    })
}

/// A column of whole numbers, or of what is counted in such.
struct Integers<T: ArrowPrimitiveType>(PrimitiveBuilder<T>);

fn integers<T>(data_type: &DataType) -> Box<dyn Column>
where
    T: ArrowPrimitiveType<Native: TryFrom<i64> + TryFrom<u64>>,
{
    Box::new(Integers(PrimitiveBuilder::<T>::new().with_data_type(data_type.clone())))
}

impl<T> Integers<T>
where
    T: ArrowPrimitiveType,
{
    fn append<V>(&mut self, value: V) -> bool
    where
        T::Native: TryFrom<V>,
    {
        match T::Native::try_from(value) {
            Ok(value) => {
                self.0.append_value(value);
                true
            }
            Err(_beyond) => false,
        }
    }
}

impl<T> Column for Integers<T>
where
    T: ArrowPrimitiveType<Native: TryFrom<i64> + TryFrom<u64>>,
{
    fn null(&mut self) {
        self.0.append_null();
    }

    fn finish(&mut self) -> Option<ArrayRef> {
        Some(numbers_of(&mut self.0))
    }

    fn int(&mut self, value: i64) -> bool {
        self.append(value)
    }

    fn uint(&mut self, value: u64) -> bool {
        self.append(value)
    }
}

impl Column for PrimitiveBuilder<Float32Type> {
    fn null(&mut self) {
        self.append_null();
    }

    fn finish(&mut self) -> Option<ArrayRef> {
        Some(numbers_of(self))
    }

    fn float(&mut self, value: f32) -> bool {
        self.append_value(value);
        true
    }
}

impl Column for PrimitiveBuilder<Float64Type> {
    fn null(&mut self) {
        self.append_null();
    }

    fn finish(&mut self) -> Option<ArrayRef> {
        Some(numbers_of(self))
    }

    fn float(&mut self, value: f32) -> bool {
        self.double(value.into())
    }

    fn double(&mut self, value: f64) -> bool {
        self.append_value(value);
        true
    }
}

impl Column for PrimitiveBuilder<Decimal128Type> {
    fn null(&mut self) {
        self.append_null();
    }

    fn finish(&mut self) -> Option<ArrayRef> {
        Some(numbers_of(self))
    }

    fn decimal(&mut self, value: i128) -> bool {
        self.append_value(value);
        true
    }
}

impl Column for PrimitiveBuilder<Decimal256Type> {
    fn null(&mut self) {
        self.append_null();
    }

    fn finish(&mut self) -> Option<ArrayRef> {
        Some(numbers_of(self))
    }

    fn wide_decimal(&mut self, value: i256) -> bool {
        self.append_value(value);
        true
    }
}

impl Column for BooleanBuilder {
    fn null(&mut self) {
        self.append_null();
    }

    fn finish(&mut self) -> Option<ArrayRef> {
        Some(Arc::new(Self::finish(self)))
    }

    fn truth(&mut self, value: bool) -> bool {
        self.append_value(value);
        true
    }
}

impl Column for Texts {
    fn null(&mut self) {
        self.append_null();
    }

    fn finish(&mut self) -> Option<ArrayRef> {
        self.take()
    }

    fn text(&mut self, value: &[u8]) -> bool {
        self.append(value)
    }
}

impl Column for BinaryBuilder {
    fn null(&mut self) {
        self.append_null();
    }

    fn finish(&mut self) -> Option<ArrayRef> {
        Some(bytes_of(self))
    }

    fn bytes(&mut self, value: &[u8]) -> bool {
        self.append_value(value);
        true
    }
}

/// Takes what was built and begins anew with as much room: most batches are as long as the one before.
fn numbers_of<T: ArrowPrimitiveType>(builder: &mut PrimitiveBuilder<T>) -> ArrayRef {
    let array = builder.finish();
    let next = PrimitiveBuilder::with_capacity(array.len());
    *builder = next.with_data_type(array.data_type().clone());
    Arc::new(array)
}

/// The same of text and bytes.
pub fn bytes_of<T: ByteArrayType>(builder: &mut GenericByteBuilder<T>) -> ArrayRef {
    let array = builder.finish();
    let n_bytes = array.value_data().len();
    *builder = GenericByteBuilder::with_capacity(array.len(), n_bytes + n_bytes / 8);
    Arc::new(array)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Field, Schema};

    use super::*;

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
