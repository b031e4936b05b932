//! Deltas: rows of some updates, sorted by key, at most one row per key in an aggregate table.
//!
//! ```text
//! batches of one update ─ [`rows`] fit the definition ─ [`sort`] ─ [`fold`] ─ [`file`] Parquet, digests, zone maps
//! files of many updates ─ [`file`] read ─ [`merge`] by key, values folded in version order ─ batches
//! ```

pub(crate) mod file;
pub(crate) mod fold;
pub(crate) mod merge;
pub(crate) mod rows;
pub(crate) mod sort;
