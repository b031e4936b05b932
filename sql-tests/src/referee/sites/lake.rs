//! A lake of Parquet files: a schema's folder for each round, small row groups, so that statistics decide much.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use async_trait::async_trait;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use rand::Rng;
use rand::rngs::StdRng;

use super::{Flavour, Site};
use crate::referee::known;
use crate::referee::tables::{Palette, Spec, Table};
use crate::referee::values::{Class, Datum, Domain, Floats, Letters};

const TEXT: Spec = Spec::new(Class::Text, "Utf8", Domain::Texts(Letters::Any, 40));

/// The types of columns; what floats they hold is decided by what is known.
fn types() -> Vec<Spec> {
    let is_known = known::is_known(known::LAKE_FLOATS);
    let floats = if is_known { Floats::Numbers } else { Floats::All };
    vec![
        TEXT,
        TEXT,
        Spec::new(Class::Bool, "Boolean", Domain::Bools),
        Spec::new(Class::Int, "Int8", Domain::Ints(-128, 127)),
        Spec::new(Class::Int, "UInt16", Domain::Ints(0, 65_535)),
        Spec::new(Class::Int, "Int32", Domain::Ints(i32::MIN.into(), i32::MAX.into())),
        Spec::new(Class::Int, "Int64", Domain::Ints(i64::MIN.into(), i64::MAX.into())),
        Spec::new(Class::Int, "UInt64", Domain::Ints(0, u64::MAX.into())),
        Spec::new(Class::Decimal, "Decimal(5,2)", Domain::Decimals(5, 2)),
        Spec::new(Class::Decimal, "Decimal(38,10)", Domain::Decimals(38, 10)),
        Spec::new(Class::Decimal, "Decimal(50,3)", Domain::Decimals(50, 3)),
        Spec::new(Class::Real, "Float32", Domain::Reals(floats)),
        Spec::new(Class::Double, "Float64", Domain::Doubles(floats)),
        Spec::new(Class::Tame, "Float64", Domain::Quarters),
        Spec::new(Class::Bytes, "Binary", Domain::Bytes),
        Spec::new(Class::Date, "Date32", Domain::Dates(1, 9999)),
        Spec::new(Class::Timestamp, "Timestamp", Domain::Moments(1, 9999)),
        Spec::new(Class::Instant, "Instant", Domain::Moments(1, 9999)),
    ]
}

/// A folder that is the location of all catalogs.
#[derive(Debug)]
pub(super) struct LakeSite {
    folder: PathBuf,
}

impl LakeSite {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let folder = folder.join("lake");
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }
}

#[async_trait]
impl Site for LakeSite {
    fn flavour(&self, rng: &mut StdRng) -> Flavour {
        let integer = if rng.random() { "Int32" } else { "Int64" };
        let keys = Spec::new(Class::Int, integer, Domain::Keys);
        let palette = Palette { always: [keys, keys, TEXT], types: types(), suffixes: &[""] };
        Flavour { properties: &[], palette }
    }

    fn properties(&self, _schema: &str) -> BTreeMap<String, String> {
        let location = self.folder.to_string_lossy().into_owned();
        BTreeMap::from([("location".to_owned(), location)])
    }

    fn schema_name(&self, schema: &str) -> String {
        schema.to_owned()
    }

    fn statements(&self, schema: &str, tables: &[Table]) -> Vec<String> {
        let mut written = Vec::new();
        for table in tables {
            let column = |column: &crate::referee::tables::Column| {
                format!("{}: {}", column.name, column.spec.declared)
            };
            let columns: Vec<String> = table.columns.iter().map(column).collect();
            let Layout { n_files, rows_per_group } = Layout::of(table);
            written.push(format!(
                "{schema}/{}: Parquet, {n_files} files, row groups of {rows_per_group}: {}",
                table.name,
                columns.join(", ")
            ));
            written.extend(table.rows.iter().map(|row| format!("  {row:?}")));
        }
        written
    }

    async fn lay(&self, schema: &str, tables: &[Table]) -> Result<()> {
        for table in tables {
            let folder = self.folder.join(schema).join(&table.name);
            write(table, &folder).with_context(|| folder.display().to_string())?;
        }
        Ok(())
    }

    async fn clear(&self, schema: &str) -> Result<()> {
        Ok(fs::remove_dir_all(self.folder.join(schema))?)
    }
}

/// How the rows of a table lie in files; it follows from the table, so that a smaller one is laid alike.
struct Layout {
    n_files: usize,
    rows_per_group: usize,
}

impl Layout {
    fn of(table: &Table) -> Self {
        let n_files = 1 + table.columns.len() % 3;
        let rows_per_group = [3, 10, 1000][table.columns.len() / 3 % 3];
        Self { n_files, rows_per_group }
    }
}

fn write(table: &Table, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let field = |column: &crate::referee::tables::Column| -> Result<Field> {
        Ok(Field::new(&column.name, type_of(column.spec.declared)?, true))
    };
    let fields = table.columns.iter().map(field).collect::<Result<Vec<_>>>()?;
    let schema = Arc::new(Schema::new(fields));
    let Layout { n_files, rows_per_group } = Layout::of(table);
    for part in 0..n_files {
        let share: Vec<&Vec<Datum>> = table.rows.iter().skip(part).step_by(n_files).collect();
        let columns: Vec<ArrayRef> = schema
            .fields()
            .iter()
            .enumerate()
            .map(|(place, field)| column_of(&share, place, field.data_type()))
            .collect::<Result<_>>()?;
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(rows_per_group))
            .set_data_page_row_count_limit(rows_per_group.div_ceil(2))
            .set_write_batch_size(1)
            .set_bloom_filter_enabled(part == 0)
            .build();
        let file = File::create(folder.join(format!("part-{part}.parquet")))?;
        let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties))?;
        writer.write(&batch)?;
        writer.close()?;
    }
    Ok(())
}

fn type_of(declared: &str) -> Result<DataType> {
    Ok(match declared {
        "Boolean" => DataType::Boolean,
        "Int8" => DataType::Int8,
        "Int32" => DataType::Int32,
        "Int64" => DataType::Int64,
        "UInt16" => DataType::UInt16,
        "UInt64" => DataType::UInt64,
        "Decimal(5,2)" => DataType::Decimal128(5, 2),
        "Decimal(38,10)" => DataType::Decimal128(38, 10),
        "Decimal(50,3)" => DataType::Decimal256(50, 3),
        "Float32" => DataType::Float32,
        "Float64" => DataType::Float64,
        "Utf8" => DataType::Utf8,
        "Binary" => DataType::Binary,
        "Date32" => DataType::Date32,
        "Timestamp" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "Instant" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        other => bail!("the lake has no columns of type {other}"),
    })
}

fn column_of(rows: &[&Vec<Datum>], place: usize, data_type: &DataType) -> Result<ArrayRef> {
    if *data_type == DataType::Binary {
        let bytes = rows.iter().map(|row| match &row[place] {
            Datum::Bytes(bytes) => Some(bytes.as_slice()),
            _ => None,
        });
        return Ok(Arc::new(BinaryArray::from_iter(bytes)));
    }
    let texts = StringArray::from_iter(rows.iter().map(|row| plain(&row[place])));
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(&texts, data_type, &strict)?)
}

/// Returns a value as a cast from text reads it.
fn plain(value: &Datum) -> Option<String> {
    Some(match value {
        Datum::Null | Datum::Bytes(_) | Datum::Own(_) => return None,
        Datum::Bool(value) => value.to_string(),
        Datum::Int(value) => value.to_string(),
        Datum::Decimal(text) | Datum::Text(text) | Datum::Date(text) | Datum::Moment(text) => {
            text.clone()
        }
        Datum::Float(value) => format!("{value:?}"),
    })
}
