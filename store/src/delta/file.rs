//! Data files: sorted Parquet that any tool reads, and what the log says about them.
//!
//! parquet 59 writes no page CRCs, so the digest of the whole object in the log is what finds a flipped bit. It is
//! checked whenever a file is read as a whole.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "Arrow's types are many; those that no column type maps to fall there"
)]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, UInt64Type};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::checksum::Checksum;
use crate::delta::merge::Run;
use crate::encoding::{RowEncoder, lower_bound, upper_bound};
use crate::error::{Error, Result};
use crate::log::deltas::DeltaId;
use crate::log::record::{FileChecksums, FileEntry};
use crate::stats;
use crate::table::{ColumnRole, Reshape, TableDef, ValueFunction};
use crate::version::VersionRange;

/// Rows per row group: the unit of parallel scans.
const ROW_GROUP_ROWS: usize = 128 << 10;

/// Rows per page: the unit that the page index can skip.
const PAGE_ROWS: usize = 4096;

/// Rows written between two looks at the page limits.
const WRITE_BATCH_ROWS: usize = 1024;

/// Fast: a singleton delta is read few times before it is merged.
const ZSTD_LEVEL_SINGLE: i32 = 1;

/// What was merged is read many times.
const ZSTD_LEVEL_MERGED: i32 = 3;

/// Longest bound in Parquet's own statistics.
const STATISTICS_BYTES: usize = 64;

/// Closes a Parquet file: length of the footer, magic.
const TRAILER_BYTES: usize = 8;

/// A file before it has a name.
#[derive(Debug)]
pub(crate) struct EncodedFile {
    pub(crate) bytes: Bytes,
    pub(crate) entry: FileEntry,
}

/// Writes sorted rows as one Parquet file.
pub(crate) fn encode(
    database: &str,
    def: &Arc<TableDef>,
    delta: DeltaId,
    rows: &RecordBatch,
) -> Result<EncodedFile> {
    let mut writer = Writer::new(database, Arc::clone(def), delta)?;
    writer.push(rows)?;
    writer.finish()
}

/// Writes one file batch by batch, and gathers what the log will say about it. Rows that are not sorted are refused.
pub(crate) struct Writer {
    def: Arc<TableDef>,
    delta: DeltaId,
    parquet: ArrowWriter<Vec<u8>>,
    n_rows: u64,
    zone_maps: Vec<stats::Gathered>,
    /// The sum of each column so far; None where there is none to tell.
    sums: Vec<Option<i128>>,
    digests: RowDigests,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer {{ delta: {}, rows: {} }}", self.delta, self.n_rows)
    }
}

impl Writer {
    /// Begins a file. Its versions are the expected ones: the log's record has the last word.
    pub(crate) fn new(database: &str, def: Arc<TableDef>, delta: DeltaId) -> Result<Self> {
        let properties = properties(database, &def, delta)?;
        let parquet = ArrowWriter::try_new(Vec::new(), def.file_schema(), Some(properties))?;
        let columns = def.file_columns();
        let sums = columns.iter().map(|column| match column.role {
            ColumnRole::Value(ValueFunction::Sum | ValueFunction::Count) => Some(0),
            ColumnRole::Key | ColumnRole::Plain | ColumnRole::Value(_) => None,
        });
        Ok(Self {
            delta,
            parquet,
            n_rows: 0,
            zone_maps: columns.iter().map(|_| stats::Gathered::default()).collect(),
            sums: sums.collect(),
            digests: RowDigests::new(),
            first_key: Vec::new(),
            last_key: Vec::new(),
            def,
        })
    }

    /// Returns how many rows it has.
    pub(crate) fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// Returns about how many bytes the file will have.
    pub(crate) fn n_bytes(&self) -> usize {
        self.parquet.bytes_written() + self.parquet.in_progress_size()
    }

    /// Adds rows whose keys come after those that are there.
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        self.check_and_hash(batch)?;
        for (at, array) in batch.columns().iter().enumerate() {
            if let Some(zone_map) = self.zone_maps.get_mut(at) {
                zone_map.add(array)?;
            }
            if let Some(sum @ Some(_)) = self.sums.get_mut(at) {
                *sum = sum.and_then(|sum| sum.checked_add(exact_sum(array)?));
            }
        }
        self.parquet.write(batch)?;
        self.n_rows += batch.num_rows() as u64;
        Ok(())
    }

    fn check_and_hash(&mut self, batch: &RecordBatch) -> Result<()> {
        let (key, others) = batch.columns().split_at(self.def.key.len());
        let (key, others) = (RowEncoder::new(key)?, RowEncoder::new(others)?);
        let mut buffer = Vec::new();
        for row in 0..batch.num_rows() {
            buffer.clear();
            key.encode(row, &mut buffer);
            let is_first = self.n_rows == 0 && row == 0;
            let is_sorted = match self.def.kind.folds() {
                true => self.last_key < buffer,
                false => self.last_key <= buffer,
            };
            if !is_sorted && !is_first {
                let evidence = format!("rows of delta {} are not sorted", self.delta);
                return Err(Error::corrupt(self.def.full_name(), evidence));
            }
            self.last_key.clone_from(&buffer);
            if is_first {
                self.first_key.clone_from(&buffer);
            }
            others.encode(row, &mut buffer);
            self.digests.add(&buffer);
        }
        Ok(())
    }

    /// Ends the file.
    pub(crate) fn finish(self) -> Result<EncodedFile> {
        let bytes = Bytes::from(self.parquet.into_inner()?);
        let columns = self.def.file_columns();
        let mut zone_maps = BTreeMap::new();
        for (column, zone_map) in columns.iter().zip(&self.zone_maps) {
            zone_maps.insert(column.name.clone(), zone_map.finish()?);
        }
        let sums = columns.iter().zip(&self.sums);
        let sums =
            sums.filter_map(|(column, sum)| Some((column.name.clone(), (*sum)?.to_string())));
        let has_bounds = self.n_rows > 0 && !self.def.key.is_empty();
        let key = has_bounds.then(|| {
            let (least, greatest) = (lower_bound(self.first_key), upper_bound(self.last_key));
            [BASE64.encode(least), BASE64.encode(greatest)]
        });
        let (rows, seq) = self.digests.finish();
        let entry = FileEntry {
            path: String::new(),
            index: self.delta.index,
            v: self.delta.v,
            schema: self.def.schema,
            key,
            rows: self.n_rows,
            bytes: bytes.len() as u64,
            footer: footer(&bytes)?,
            stats: zone_maps,
            agg: sums.collect(),
            ck: FileChecksums { file: Checksum::of(&bytes), rows, seq },
        };
        Ok(EncodedFile { bytes, entry })
    }
}

fn properties(database: &str, def: &TableDef, delta: DeltaId) -> Result<WriterProperties> {
    let VersionRange { lo, hi } = delta.v;
    let level = if lo == hi { ZSTD_LEVEL_SINGLE } else { ZSTD_LEVEL_MERGED };
    let key_value = |key: &str, value: String| KeyValue::new(format!("meshwork.{key}"), value);
    let functions: BTreeMap<&str, &str> = def
        .columns
        .iter()
        .filter_map(|column| match column.role {
            ColumnRole::Value(function) => Some((column.name.as_str(), function.name())),
            ColumnRole::Key | ColumnRole::Plain => None,
        })
        .collect();
    let metadata = vec![
        key_value("database", database.to_owned()),
        key_value("table", def.full_name()),
        key_value("table_id", def.id.to_string()),
        key_value("schema", def.schema.to_string()),
        key_value("versions", format!("[{lo},{hi}]")),
        key_value("key", def.key.join(",")),
        key_value("functions", serde_json::json!(functions).to_string()),
    ];
    let sorting = (0..).zip(&def.key).map(|(column_idx, _)| SortingColumn {
        column_idx,
        descending: false,
        nulls_first: true,
    });
    Ok(WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(level)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(WRITE_BATCH_ROWS)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_statistics_truncate_length(Some(STATISTICS_BYTES))
        .set_column_index_truncate_length(Some(STATISTICS_BYTES))
        .set_sorting_columns(Some(sorting.collect()))
        .set_key_value_metadata(Some(metadata))
        .set_created_by("meshwork".to_owned())
        .build())
}

/// Returns the sum of an exact numeric column; None for floats, or if 128 bits do not hold it.
fn exact_sum(array: &ArrayRef) -> Option<i128> {
    let add = |sum: Option<i128>, value: i128| sum?.checked_add(value);
    let zero = Some(0);
    match array.data_type() {
        DataType::Int64 => {
            array.as_primitive::<Int64Type>().iter().flatten().map(i128::from).fold(zero, add)
        }
        DataType::UInt64 => {
            array.as_primitive::<UInt64Type>().iter().flatten().map(i128::from).fold(zero, add)
        }
        DataType::Decimal128(..) => {
            array.as_primitive::<Decimal128Type>().iter().flatten().fold(zero, add)
        }
        _ => None, // Floats: their sum depends on the order.
    }
}

/// The digests of rows that come one by one, each as [`RowEncoder`] writes it.
struct RowDigests {
    rows: u128,
    seq: Xxh3,
}

impl RowDigests {
    fn new() -> Self {
        Self { rows: 0, seq: Xxh3::new() }
    }

    fn add(&mut self, row: &[u8]) {
        self.rows = self.rows.wrapping_add(xxh3_128(row));
        self.seq.update(row);
    }

    /// Returns the digest in any order, and that in this order.
    fn finish(&self) -> (Checksum, Checksum) {
        (Checksum(self.rows), Checksum(self.seq.digest128()))
    }
}

fn footer(bytes: &Bytes) -> Result<[u64; 2]> {
    let no_footer = || Error::corrupt("Parquet file in memory", "it has no footer");
    let trailer = bytes.len().checked_sub(TRAILER_BYTES).ok_or_else(no_footer)?;
    let length = bytes.get(trailer..trailer + 4).and_then(|bytes| bytes.try_into().ok());
    let length = u64::from(length.map(u32::from_le_bytes).ok_or_else(no_footer)?);
    let offset = (trailer as u64).checked_sub(length).ok_or_else(no_footer)?;
    Ok([offset, length])
}

/// Opens the content of a data file, as rows of `def`, after checking its digest.
pub(crate) fn open(def: &TableDef, entry: &FileEntry, bytes: Bytes) -> Result<Run> {
    let reshape = Reshape::new(def, entry.schema, &entry.path)?;
    let rows = as_written(entry, bytes)?;
    Ok(Box::new(rows.map(move |batch| reshape.apply(&batch?))))
}

/// Opens the content of a data file as it was written, after checking its digest.
fn as_written(entry: &FileEntry, bytes: Bytes) -> Result<ParquetRecordBatchReader> {
    let actual = Checksum::of(&bytes);
    if actual != entry.ck.file {
        let evidence = format!("its digest is {actual}, the log says {}", entry.ck.file);
        return Err(Error::corrupt(entry.path.as_str(), evidence));
    }
    Ok(ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()?)
}

/// Checks that the rows of a file are what the log says: number, order, digests.
pub(crate) fn verify(entry: &FileEntry, bytes: Bytes) -> Result<()> {
    let (mut n_rows, mut digests, mut buffer) = (0, RowDigests::new(), Vec::new());
    for batch in as_written(entry, bytes)? {
        let batch = batch?;
        let encoder = RowEncoder::new(batch.columns())?;
        for row in 0..batch.num_rows() {
            buffer.clear();
            encoder.encode(row, &mut buffer);
            digests.add(&buffer);
        }
        n_rows += batch.num_rows() as u64;
    }
    if n_rows != entry.rows || digests.finish() != (entry.ck.rows, entry.ck.seq) {
        return Err(Error::corrupt(
            entry.path.as_str(),
            "its rows are not those that were written",
        ));
    }
    Ok(())
}
