//! Small tables as Parquet files, from readable text: `sql-tests/fixtures/<schema>/<table>.csv`.
//!
//! The first line names columns and types (`id:Int64,name:Utf8`); a value `NULL` is NULL, the empty text is
//! the empty text. The rows are dealt over several files, so that a scan has something to share out.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;

/// How many files each table is dealt over.
const N_FILES: usize = 3;

/// A Parquet file begins with so many bytes that say what it is; pages follow.
const MAGIC_BYTES: usize = 4;

/// What is overwritten of the first page, its header with it.
const DAMAGED_BYTES: usize = 16;

/// Writes all fixtures to `<lake>/<schema>/<table>/`, and the broken table `damaged.middle`.
///
/// # Errors
/// When a fixture cannot be read, or a file not be written.
pub fn write_lake(lake: &Path) -> Result<()> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for schema in fs::read_dir(&home).with_context(|| home.display().to_string())? {
        let schema = schema?.path();
        for table in fs::read_dir(&schema)? {
            let table = table?.path();
            let names = [schema.file_name(), table.file_stem()].map(Option::unwrap_or_default);
            let target = lake.join(names[0]).join(names[1]);
            let text = fs::read_to_string(&table)?;
            write_table(&text, &target).with_context(|| table.display().to_string())?;
        }
    }
    write_damaged(&lake.join("damaged").join("middle"))
}

/// Writes a table one of whose files has a whole footer, and rows that cannot be read.
fn write_damaged(target: &Path) -> Result<()> {
    // A column of one value would not be read: the footer says it.
    write_table("id:Int64\n1\n2\n3\n4\n5\n6\n", target)?;
    let file = target.join("part-1.parquet");
    let mut bytes = fs::read(&file)?;
    bytes[MAGIC_BYTES..MAGIC_BYTES + DAMAGED_BYTES].fill(0xff);
    Ok(fs::write(file, bytes)?)
}

fn write_table(text: &str, target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let schema = schema_of(lines.next().context("a fixture begins with its columns")?)?;
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').map(str::trim).collect()).collect();
    for row in &rows {
        ensure!(row.len() == schema.fields().len(), "{row:?} does not fit the columns");
    }
    for part in 0..N_FILES {
        let share: Vec<&Vec<&str>> = rows.iter().skip(part).step_by(N_FILES).collect();
        let batch = batch_of(&schema, &share)?;
        let file = File::create(target.join(format!("part-{part}.parquet")))?;
        let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), None)?;
        writer.write(&batch)?;
        writer.close()?;
    }
    Ok(())
}

fn batch_of(schema: &SchemaRef, rows: &[&Vec<&str>]) -> Result<RecordBatch> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let column = |(index, field): (usize, &Arc<Field>)| -> Result<ArrayRef> {
        let values = rows.iter().map(|row| (row[index] != "NULL").then_some(row[index]));
        let text = StringArray::from_iter(values);
        Ok(cast_with_options(&text, field.data_type(), &strict)?)
    };
    let columns = schema.fields().iter().enumerate().map(column).collect::<Result<_>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn schema_of(line: &str) -> Result<SchemaRef> {
    let field = |column: &str| -> Result<Field> {
        let (name, kind) = column.split_once(':').context("a column is written name:type")?;
        Ok(Field::new(name.trim(), type_of(kind.trim())?, true))
    };
    Ok(Arc::new(Schema::new(line.split(',').map(field).collect::<Result<Vec<_>>>()?)))
}

fn type_of(name: &str) -> Result<DataType> {
    Ok(match name {
        "Boolean" => DataType::Boolean,
        "Int16" => DataType::Int16,
        "Int32" => DataType::Int32,
        "Int64" => DataType::Int64,
        "Float64" => DataType::Float64,
        "Decimal" => DataType::Decimal128(12, 2),
        "Utf8" => DataType::Utf8,
        "Date" => DataType::Date32,
        "Timestamp" => DataType::Timestamp(TimeUnit::Microsecond, None),
        other => bail!("fixtures know no type {other}"),
    })
}
