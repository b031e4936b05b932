//! Data files: sorted Parquet that any tool reads, and what the log says about them.
//!
//! parquet 59 writes no page CRCs, so the digest of the whole object in the log is what finds a flipped bit. It is
//! checked whenever a file is read as a whole.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "Arrow's types are many; those that no column type maps to fall there"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, UInt64Type};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::checksum::Checksum;
use crate::delta::merge::Run;
use crate::delta::sort::key_columns;
use crate::encoding::{RowEncoder, lower_bound, upper_bound};
use crate::error::{Error, Result};
use crate::log::record::{FileChecksums, FileEntry};
use crate::stats;
use crate::table::{ColumnRole, TableDef, ValueFunction};
use crate::version::{Version, VersionRange};

/// Rows per row group: the unit of parallel scans.
const ROW_GROUP_ROWS: usize = 128 << 10;

/// Rows per page: the unit that the page index can skip.
const PAGE_ROWS: usize = 4096;

/// Rows written between two looks at the page limits.
const WRITE_BATCH_ROWS: usize = 1024;

/// Fast: a singleton delta is read few times before it is merged.
const ZSTD_LEVEL: i32 = 1;

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

/// Writes a sorted delta as Parquet. `version` is the expected one: the log's record has the last word.
pub(crate) fn encode(
    database: &str,
    def: &TableDef,
    version: Version,
    delta: &RecordBatch,
) -> Result<EncodedFile> {
    let mut bytes = Vec::new();
    let properties = properties(database, def, version)?;
    let mut writer = ArrowWriter::try_new(&mut bytes, delta.schema(), Some(properties))?;
    writer.write(delta)?;
    writer.close()?;
    let bytes = Bytes::from(bytes);
    let entry = entry(def, version, delta, &bytes)?;
    Ok(EncodedFile { bytes, entry })
}

fn properties(database: &str, def: &TableDef, version: Version) -> Result<WriterProperties> {
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
        key_value("versions", format!("[{version},{version}]")),
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
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
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

fn entry(
    def: &TableDef,
    version: Version,
    delta: &RecordBatch,
    bytes: &Bytes,
) -> Result<FileEntry> {
    let mut zone_maps = BTreeMap::new();
    let mut sums = BTreeMap::new();
    for (column, array) in def.file_columns().into_iter().zip(delta.columns()) {
        zone_maps.insert(column.name.clone(), stats::of_column(array)?);
        if let ColumnRole::Value(ValueFunction::Sum | ValueFunction::Count) = column.role
            && let Some(sum) = exact_sum(array)
        {
            sums.insert(column.name.clone(), sum.to_string());
        }
    }
    let (rows, seq) = row_checksums(delta)?;
    Ok(FileEntry {
        path: String::new(),
        index: 0,
        v: VersionRange::single(version),
        key: key_bounds(def, delta)?,
        rows: delta.num_rows() as u64,
        bytes: bytes.len() as u64,
        footer: footer(bytes)?,
        stats: zone_maps,
        agg: sums,
        ck: FileChecksums { file: Checksum::of(bytes), rows, seq },
    })
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

fn row_checksums(delta: &RecordBatch) -> Result<(Checksum, Checksum)> {
    let encoder = RowEncoder::new(delta.columns())?;
    let mut rows = 0u128;
    let mut seq = Xxh3::new();
    let mut buffer = Vec::new();
    for row in 0..delta.num_rows() {
        buffer.clear();
        encoder.encode(row, &mut buffer);
        rows = rows.wrapping_add(xxh3_128(&buffer));
        seq.update(&buffer);
    }
    Ok((Checksum(rows), Checksum(seq.digest128())))
}

fn key_bounds(def: &TableDef, delta: &RecordBatch) -> Result<Option<[String; 2]>> {
    let Some(last) = delta.num_rows().checked_sub(1) else { return Ok(None) };
    if def.key.is_empty() {
        return Ok(None);
    }
    let columns = key_columns(def, delta);
    let encoder = RowEncoder::new(&columns)?;
    let (mut least, mut greatest) = (Vec::new(), Vec::new());
    encoder.encode(0, &mut least);
    encoder.encode(last, &mut greatest);
    Ok(Some([BASE64.encode(lower_bound(least)), BASE64.encode(upper_bound(greatest))]))
}

fn footer(bytes: &Bytes) -> Result<[u64; 2]> {
    let no_footer = || Error::corrupt("Parquet file in memory", "it has no footer");
    let trailer = bytes.len().checked_sub(TRAILER_BYTES).ok_or_else(no_footer)?;
    let length = bytes.get(trailer..trailer + 4).and_then(|bytes| bytes.try_into().ok());
    let length = u64::from(length.map(u32::from_le_bytes).ok_or_else(no_footer)?);
    let offset = (trailer as u64).checked_sub(length).ok_or_else(no_footer)?;
    Ok([offset, length])
}

/// Opens the content of a data file after checking its digest.
pub(crate) fn open(def: &TableDef, entry: &FileEntry, bytes: Bytes) -> Result<Run> {
    let actual = Checksum::of(&bytes);
    if actual != entry.ck.file {
        let evidence = format!("its digest is {actual}, the log says {}", entry.ck.file);
        return Err(Error::corrupt(entry.path.as_str(), evidence));
    }
    let schema = def.file_schema();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()?;
    Ok(Box::new(reader.map(move |batch| {
        Ok(RecordBatch::try_new(Arc::clone(&schema), batch?.columns().to_vec())?)
    })))
}

/// Checks that the rows of a file are what the log says: number, order, digests.
pub(crate) fn verify(def: &TableDef, entry: &FileEntry, bytes: Bytes) -> Result<()> {
    let batches = open(def, entry, bytes)?.collect::<Result<Vec<_>>>()?;
    let all = arrow::compute::concat_batches(&def.file_schema(), &batches)?;
    let (rows, seq) = row_checksums(&all)?;
    if all.num_rows() as u64 != entry.rows || rows != entry.ck.rows || seq != entry.ck.seq {
        return Err(Error::corrupt(
            entry.path.as_str(),
            "its rows are not those that were written",
        ));
    }
    Ok(())
}
