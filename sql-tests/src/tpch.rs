//! The 22 queries of TPC-H, as files that name no catalog.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use meshwork::demo::tpch::{Extent, Table, write};

/// How many queries there are.
pub const N_QUERIES: usize = 22;

/// Returns the text of query `number`, from 1.
///
/// # Errors
/// When there is no such file.
pub fn query(number: usize) -> Result<String> {
    let path = folder().join(format!("q{number:02}.sql"));
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Writes all eight tables to `<lake>/tpch/<table>/`, unless they are there.
///
/// # Errors
/// When a file cannot be written.
pub fn write_lake(lake: &Path, extent: Extent) -> Result<()> {
    let schema = lake.join("tpch");
    fs::create_dir_all(&schema)?;
    Table::ALL.into_iter().try_for_each(|table| write(&schema, table, extent))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tpch")
}
