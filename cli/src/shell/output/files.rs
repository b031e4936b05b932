//! Formats for programs: CSV, JSON lines, Parquet. Each batch is written as it comes.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::csv;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::{RowWriter, Summary};

type Out = Box<dyn Write + Send>;

/// Comma-separated values; NULL is an empty field, and nested values are text.
pub(super) struct CsvWriter {
    writer: csv::Writer<Out>,
}

impl CsvWriter {
    /// Returns a writer that has written the header, so that a result without rows has one too.
    pub(super) fn new(out: Out, schema: &SchemaRef) -> anyhow::Result<Self> {
        let mut writer = csv::WriterBuilder::new().with_header(true).build(out);
        writer.write(&with_nested_as_text(&RecordBatch::new_empty(Arc::clone(schema)))?)?;
        Ok(Self { writer })
    }
}

impl RowWriter for CsvWriter {
    fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        Ok(self.writer.write(&with_nested_as_text(batch)?)?)
    }

    fn finish(self: Box<Self>) -> anyhow::Result<Summary> {
        self.writer.into_inner().flush()?;
        Ok(Summary::default())
    }
}

/// Returns the batch with lists, structs and maps as text, which CSV has no other way to hold.
fn with_nested_as_text(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.schema_ref().fields().iter().zip(batch.columns());
    let columns = columns.map(|(field, column)| {
        let column = match column.data_type().is_nested() {
            true => as_text(column)?,
            false => Arc::clone(column),
        };
        Ok((field.name(), column, true))
    });
    RecordBatch::try_from_iter_with_nullable(columns.collect::<Result<Vec<_>, ArrowError>>()?)
}

fn as_text(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let options = FormatOptions::new();
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
    let mut texts = Vec::with_capacity(column.len());
    for row in 0..column.len() {
        texts.push(match column.is_null(row) {
            true => None,
            false => Some(formatter.value(row).try_to_string()?),
        });
    }
    Ok(Arc::new(StringArray::from(texts)))
}

/// One JSON object for each row and line; NULL is written as null.
pub(super) struct JsonWriter {
    writer: arrow::json::Writer<Out, LineDelimited>,
}

impl JsonWriter {
    pub(super) fn new(out: Out) -> Self {
        let builder = WriterBuilder::new().with_explicit_nulls(true);
        Self { writer: builder.build::<_, LineDelimited>(out) }
    }
}

impl RowWriter for JsonWriter {
    fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        Ok(self.writer.write(batch)?)
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<Summary> {
        self.writer.finish()?;
        self.writer.into_inner().flush()?;
        Ok(Summary::default())
    }
}

/// A Parquet file with the default row groups, compressed.
pub(super) struct ParquetWriter {
    writer: ArrowWriter<Out>,
}

impl ParquetWriter {
    pub(super) fn new(out: Out, schema: &SchemaRef) -> anyhow::Result<Self> {
        let compression = Compression::ZSTD(ZstdLevel::try_new(3)?);
        let properties = WriterProperties::builder().set_compression(compression).build();
        Ok(Self { writer: ArrowWriter::try_new(out, Arc::clone(schema), Some(properties))? })
    }
}

impl RowWriter for ParquetWriter {
    fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        Ok(self.writer.write(batch)?)
    }

    fn finish(self: Box<Self>) -> anyhow::Result<Summary> {
        self.writer.into_inner()?.flush()?;
        Ok(Summary::default())
    }
}
