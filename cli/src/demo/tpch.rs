//! TPC-H tables as Parquet files: for the demo, the tests and the benchmark.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
pub use meshwork_connectors::tpch::generate::{Part, Table};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

/// Rows that the generator hands out at a time.
const BATCH_ROWS: usize = 8192;

/// Rows in a row group: large enough to compress, small enough to be skipped and read side by side.
const ROW_GROUP_ROWS: usize = 128 * 1024;

/// Which tables to write, how large, and in how many files each.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// The scale factor.
    pub scale: f64,
    /// Files of each table that is large enough to be cut.
    pub n_files: i32,
}

/// Writes one table to `<folder>/<table>/part-<n>.parquet`; does nothing where it was written before.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &Path, table: Table, extent: Extent) -> Result<()> {
    let home = folder.join(table.name());
    if home.exists() {
        return Ok(());
    }
    // Written aside and moved, so that an interrupted run leaves no short table behind.
    let aside = folder.join(format!(".{}.new", table.name()));
    if aside.exists() {
        fs::remove_dir_all(&aside)?;
    }
    fs::create_dir_all(&aside)?;
    let n_parts = table.n_units(extent.scale).map_or(1, |_| extent.n_files);
    for part in 1..=n_parts {
        let path = aside.join(format!("part-{part}.parquet"));
        let wanted = Part { scale: extent.scale, part, n_parts, batch_size: BATCH_ROWS };
        write_file(&path, table, wanted).with_context(|| format!("writing {}", path.display()))?;
    }
    fs::rename(&aside, &home).with_context(|| format!("writing {}", home.display()))
}

fn write_file(path: &Path, table: Table, wanted: Part) -> Result<()> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, table.schema(), Some(properties))?;
    for batch in table.batches(wanted) {
        writer.write(&batch?)?;
    }
    writer.close()?;
    Ok(())
}
