//! The format of a log record: sealed JSON, compressed with zstd above 64 KiB, at most 1 MiB as stored.
//!
//! A record names everything that one commit did to all tables, so that the creation of a single object makes all of it
//! visible at once. Fields that this release does not know are refused: skipping what a newer writer meant would be a
//! wrong answer.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::checksum::Checksum;
use crate::error::{Error, Result};
use crate::log::deltas::DeltaId;
use crate::sealed::{seal, unseal};
use crate::table::{TableDef, TableId};
use crate::version::{Version, VersionRange};

/// The size of a stored record. A put of one small object is what every object store does at once or not at all.
pub(crate) const RECORD_BYTES_MAX: usize = 1 << 20;

/// Records above this size are compressed.
const COMPRESS_ABOVE_BYTES: usize = 64 << 10;

/// The size of an unpacked record; bounds what a hostile object can make us allocate.
const SEALED_BYTES_MAX: usize = 64 << 20;

/// Speed over size: records are read once per process.
const ZSTD_LEVEL: i32 = 3;

/// The first bytes of every zstd frame.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What kind of change a record is; for people who read the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// Rows came: a new version.
    Update,
    /// Tables became again what they were at an earlier version: a new version too.
    Restore,
    /// Namespaces or tables came or went.
    Table,
    /// A table got another definition: a new version too.
    Schema,
    /// Deltas were made into one that says the same.
    Compact,
    /// Versions, deltas or files went that nobody needs.
    Vacuum,
}

impl Operation {
    /// Returns the name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Update => "UPDATE",
            Self::Restore => "RESTORE",
            Self::Table => "TABLE",
            Self::Schema => "SCHEMA",
            Self::Compact => "COMPACT",
            Self::Vacuum => "VACUUM",
        }
    }
}

/// The identity of a transaction, drawn at random by its writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TransactionId(pub Ulid);

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The position of a feed, so that the feed can send a batch again without applying it twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// The name of the feed.
    pub id: String,
    /// The number of the batch; grows, with or without gaps.
    pub seq: u64,
}

/// How much of a table a transaction has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadScope {
    /// Nothing that matters: any commit may come before.
    Any,
    /// The whole table: a commit with rows for it after the read is a conflict.
    All,
}

/// What a transaction has read, for validation against commits that came first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadSet {
    /// The log position that the transaction read.
    pub lsn: u64,
    /// Per table, how much.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<TableId, ReadScope>,
}

/// A table that begins with what another one had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloneOf {
    /// The new table.
    pub table: TableId,
    /// The one whose deltas it shares.
    pub of: TableId,
    /// As of which version.
    pub version: Version,
}

/// Namespaces and tables that come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definitions {
    /// New namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// New tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<Arc<TableDef>>,
    /// New definitions of tables that are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub altered: Vec<Arc<TableDef>>,
    /// What new tables begin with, if not with nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clones: Vec<CloneOf>,
}

/// Namespaces and tables that go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removals {
    /// Namespaces, empty when they go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableId>,
}

impl Definitions {
    fn is_empty(&self) -> bool {
        self.namespaces.is_empty() && self.tables.is_empty() && self.altered.is_empty()
    }
}

impl Removals {
    fn is_empty(&self) -> bool {
        self.namespaces.is_empty() && self.tables.is_empty()
    }
}

/// The zone map of one column in one file. Bounds are JSON scalars that [`crate::stats`] reads by the column's type.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnStats {
    /// A lower bound of the values; None if there is none to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<serde_json::Value>,
    /// An upper bound of the values; None if there is none to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<serde_json::Value>,
    /// How many values are NULL.
    pub nulls: u64,
}

/// What the bytes and rows of a file must hash to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileChecksums {
    /// Of the object.
    pub file: Checksum,
    /// Of the rows in any order: equal for two files with the same rows.
    pub rows: Checksum,
    /// Of the rows in their order.
    pub seq: Checksum,
}

/// One data file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// The object's name, relative to the root.
    pub path: String,
    /// The sort order that it belongs to; 0 is the table's own.
    pub index: u32,
    /// The updates that it holds.
    pub v: VersionRange,
    /// The number of the definition that it was written by.
    #[serde(default = "first_schema", skip_serializing_if = "is_first_schema")]
    pub schema: u32,
    /// Bounds of its keys, as [`crate::encoding`] writes them, in base64; empty in a table without a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<[String; 2]>,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// Offset and length of the Parquet footer.
    pub footer: [u64; 2],
    /// Zone maps by column name.
    pub stats: BTreeMap<String, ColumnStats>,
    /// Sums of exact SUM and COUNT columns as decimal text: the sums of what a file is merged from must add up.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agg: BTreeMap<String, String>,
    /// Its checksums.
    pub ck: FileChecksums,
}

/// Tables begin with this definition, and most stay with it.
fn first_schema() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_first_schema(schema: &u32) -> bool {
    *schema == first_schema()
}

/// Deltas of one table that were made into one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merge {
    /// The delta that comes; its files are those that the record adds.
    pub into: DeltaId,
    /// What it was made from: all that is there of these updates, each once. If one of them is gone, so is the merge.
    pub from: Vec<DeltaId>,
    /// Its level; see [`crate::policy`].
    pub level: u32,
}

/// What a record does to one table's files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableChange {
    /// The table.
    pub id: TableId,
    /// The definition that the files follow.
    pub schema: u32,
    /// Files that come; with a restore, all that the table has from then on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Arc<FileEntry>>,
    /// What the files were made from, if not from new rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<Merge>,
    /// Deltas that go because no retained version needs them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<DeltaId>,
}

impl TableChange {
    /// Returns a change that does nothing to a table whose definition has that number.
    pub(crate) fn of(id: TableId, schema: u32) -> Self {
        Self { id, schema, add: Vec::new(), merge: None, drop: Vec::new() }
    }
}

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its position, from 1.
    pub lsn: u64,
    /// The digest of the record before it as stored; of `_db.json` for the first.
    pub prev: Checksum,
    /// The transaction: the same one never stands twice in a log.
    pub txn: TransactionId,
    /// The position of the feed, if a feed wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<App>,
    /// Microseconds since 1970; grows from record to record.
    pub ts_us: i64,
    /// Who wrote it, for people.
    pub writer: String,
    /// What kind of change it is.
    pub op: Operation,
    /// The newest version after it.
    pub version: Version,
    /// What it has read.
    pub read: ReadSet,
    /// What it defines.
    #[serde(default, skip_serializing_if = "Definitions::is_empty")]
    pub define: Definitions,
    /// What it drops.
    #[serde(default, skip_serializing_if = "Removals::is_empty")]
    pub drop: Removals,
    /// Files that come, by table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableChange>,
    /// The oldest retained version, if the record moves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_water: Option<Version>,
    /// Milliseconds since 1970: after this record no file comes that was named before then, unless a delta has it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named_since_ms: Option<u64>,
}

/// Writes a record as it is stored.
pub(crate) fn encode(record: &Record) -> Result<Bytes> {
    let sealed = seal("log record in memory", record)?;
    let stored =
        if sealed.len() > COMPRESS_ABOVE_BYTES { compress("log record", &sealed)? } else { sealed };
    if stored.len() > RECORD_BYTES_MAX {
        return Err(Error::TooLarge {
            what: "log record of the commit in bytes".to_owned(),
            size: stored.len() as u64,
            limit: RECORD_BYTES_MAX as u64,
        });
    }
    Ok(stored.into())
}

/// Reads a record as it is stored.
pub(crate) fn decode(object: &str, stored: &[u8]) -> Result<Record> {
    if stored.starts_with(&ZSTD_MAGIC) {
        unseal(object, &decompress(object, stored, SEALED_BYTES_MAX)?)
    } else {
        unseal(object, stored)
    }
}

pub(crate) fn compress(object: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    zstd::bulk::compress(bytes, ZSTD_LEVEL)
        .map_err(|error| Error::corrupt(object, format!("zstd: {error}")))
}

pub(crate) fn decompress(object: &str, bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>> {
    // The frame tells its content size; the bound holds also when it lies.
    let told = zstd::bulk::Decompressor::upper_bound(bytes).unwrap_or(bytes_max);
    zstd::bulk::decompress(bytes, told.min(bytes_max))
        .map_err(|error| Error::corrupt(object, format!("zstd: {error}")))
}
