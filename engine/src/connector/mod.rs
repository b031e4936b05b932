//! The contract between Meshwork and a source.
//!
//! A [`Connector`] is one configured catalog. It lists schemas and tables lazily and hands out tables as
//! DataFusion [`TableProvider`]s. File sources (lake, store) return plain DataFusion plans; row sources
//! (PostgreSQL, MySQL, REST, SQLite, ...) return [`crate::remote::RemoteTable`], which asks their
//! [`RowSource`] what it can do and how to read.
//!
//! A connector must never let one unreadable table hide the others, drop a column whose type it does not
//! know, put a secret into anything that can be printed, or do I/O in [`RowSource::negotiate`].

mod changes;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use object_store::ObjectStore;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use url::Url;

use crate::connections::Wanted;
use crate::remote::{Aggregate, Join, OrderKey, Predicate, Reason, RemoteScan, RowWriter};
use crate::scope::QueryScope;
use crate::settings::QuerySettings;
use crate::statistics::TableStatistics;
use crate::{Error, Result};

pub use self::changes::{AlterTable, Batch, RowChanger};

/// What a table is, for listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableKind {
    /// Rows are stored.
    Table,
    /// A stored query.
    View,
    /// Maintained by Meshwork itself.
    System,
}

/// One delta of a table of a versioned store: the rows of a range of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaEntry {
    /// The schema of the table.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The rollup that it belongs to; None if it is the table's own.
    pub rollup: Option<String>,
    /// The first version whose rows it has.
    pub first_version: u64,
    /// The last one.
    pub last_version: u64,
    /// How it came about: `update`, `merge 1`, `base`, ...
    pub made_by: String,
    /// Its files.
    pub files: u64,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// Whether the newest version is read from it.
    pub is_read: bool,
}

/// What others read of a table of a versioned store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportEntry {
    /// The schema of the table.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The format that readers have to know: `delta`.
    pub format: String,
    /// Where it lies.
    pub location: String,
    /// The version that it shows.
    pub version: u64,
}

/// One change of a versioned store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeEntry {
    /// Its place among all changes, from 1.
    pub position: u64,
    /// The newest version after it.
    pub version: u64,
    /// What kind of change: `UPDATE`, `TABLE`, `COMPACT`, `VACUUM`.
    pub operation: String,
    /// When it was committed, in microseconds since 1970.
    pub committed_us: i64,
    /// Who wrote it.
    pub writer: String,
    /// The tables that it changed, as `schema.table`; of one that was dropped since, its identity.
    pub tables: Vec<String>,
    /// Files that came.
    pub files: u64,
    /// Their rows.
    pub rows: u64,
}

/// A table in a listing: cheap to make, says nothing of columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableEntry {
    /// The name exactly as the source spells it.
    pub name: String,
    /// What it is.
    pub kind: TableKind,
    /// The source's comment on it.
    pub comment: Option<String>,
}

/// Which versions of a versioned catalog stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// The newest one and so many before it.
    Versions(u64),
    /// Those that were the newest one at some time of the last so long.
    Time(Duration),
}

/// Which state of a versioned catalog a query reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadVersion {
    /// The newest committed version when the query was planned.
    Committed,
    /// Exactly this version.
    At(u64),
    /// The version that was committed at this time, in microseconds since 1970.
    AsOf(i64),
}

/// A feed of a versioned store that numbers its batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEntry {
    /// What it calls itself.
    pub feed: String,
    /// The number of its last batch.
    pub number: u64,
    /// The version that this batch made.
    pub version: u64,
}

impl ReadVersion {
    /// Says that catalogs of this kind keep one state only.
    ///
    /// # Errors
    /// `NotSupported` unless the committed version is asked for.
    pub fn committed_only(self, kind: &str) -> Result<()> {
        match self {
            Self::Committed => Ok(()),
            Self::At(version) => Err(Error::not_supported(format!(
                "reading version {version} of a table in a catalog of kind {kind}"
            ))),
            Self::AsOf(_time) => Err(Error::not_supported(format!(
                "reading a table in a catalog of kind {kind} as it was at a time"
            ))),
        }
    }
}

impl fmt::Display for ReadVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed => f.write_str("committed"),
            Self::At(version) => write!(f, "{version}"),
            Self::AsOf(time) => write!(f, "{time} us"),
        }
    }
}

/// A table to be created. Column functions (`SUM`, `REPLACE`, ...) and keys are options of the kind of table.
#[derive(Debug, Clone)]
pub struct CreateTable {
    /// The schema within the catalog.
    pub schema: String,
    /// The table's name.
    pub table: String,
    /// Its columns, in order.
    pub columns: SchemaRef,
    /// What `WITH (...)` says, keys in lower case, in the statement's order.
    pub options: Vec<(String, String)>,
    /// Whether an existing table of that name is accepted as it is.
    pub if_not_exists: bool,
}

/// An object store that a catalog's file scans read, registered on every node under its URL.
#[derive(Debug, Clone)]
pub struct NamedStore {
    /// Scheme and host only, unique to the catalog: `catalog://<name>/`. See [`crate::catalog`].
    pub url: Url,
    /// Where the bytes are.
    pub store: Arc<dyn ObjectStore>,
}

/// One configured catalog.
#[async_trait]
pub trait Connector: Any + fmt::Debug + Send + Sync {
    /// The kind as `USING` names it: `postgres`, `lake`, ...
    fn kind(&self) -> &'static str;

    /// Returns the names of all schemas, sorted.
    async fn schema_names(&self) -> Result<Vec<String>>;

    /// Returns the tables of a schema, sorted by name; empty if there is no such schema.
    async fn tables(&self, schema: &str) -> Result<Vec<TableEntry>>;

    /// Returns the table, or `None` if there is none of that name. `version` is [`ReadVersion::Committed`]
    /// unless the statement or the session says otherwise; a source without versions refuses any other.
    async fn table(
        &self,
        schema: &str,
        table: &str,
        version: ReadVersion,
        scope: &Arc<QueryScope>,
    ) -> Result<Option<Arc<dyn TableProvider>>>;

    /// Returns a query in the source's own words as a table: it is sent as it is, and cannot change anything.
    async fn query(
        &self,
        _statement: &str,
        _scope: &Arc<QueryScope>,
    ) -> Result<Arc<dyn TableProvider>> {
        Err(self.refuse("TABLE(system.query(...))"))
    }

    /// What reads rows for [`crate::remote::RemoteTable`]; `None` for file sources.
    fn row_source(&self) -> Option<Arc<dyn RowSource>> {
        None
    }

    /// The object stores that this catalog's plans name.
    fn stores(&self) -> Vec<NamedStore> {
        Vec::new()
    }

    /// Answers cheaply whether the source can be reached, for `system.catalogs`.
    async fn check(&self) -> Result<()> {
        self.schema_names().await.map(|_names| ())
    }

    /// Creates a schema.
    async fn create_schema(&self, schema: &str, _if_not_exists: bool) -> Result<()> {
        Err(self.refuse(&format!("CREATE SCHEMA {schema}")))
    }

    /// Creates an empty table.
    async fn create_table(&self, table: CreateTable) -> Result<()> {
        Err(self.refuse(&format!("CREATE TABLE {}.{}", table.schema, table.table)))
    }

    /// Returns a table that is not there yet and that the rows inserted into it make, in one step that nobody sees a part
    /// of; `None` where a table is made first and filled then, which the caller does.
    async fn table_to_be(
        &self,
        _table: &CreateTable,
        _scope: &Arc<QueryScope>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(None)
    }

    /// Changes a table's definition.
    async fn alter_table(&self, schema: &str, table: &str, _change: AlterTable) -> Result<()> {
        Err(self.refuse(&format!("ALTER TABLE {schema}.{table}")))
    }

    /// Returns what changes rows that a query found in a table of this catalog, which is called `name`.
    ///
    /// # Errors
    /// `NotSupported` where there is no such thing for the table.
    fn changer(&self, _table: &dyn TableProvider, name: &str) -> Result<Box<dyn RowChanger>> {
        Err(self.refuse(&format!("UPDATE and DELETE of table \"{name}\"")).with_hint(
            "Rows are changed in tables of postgres, mysql and sqlite catalogs, and in those of a store with a UNIQUE KEY.",
        ))
    }

    /// Drops a table; returns whether there was one.
    async fn drop_table(&self, schema: &str, table: &str) -> Result<bool> {
        Err(self.refuse(&format!("DROP TABLE {schema}.{table}")))
    }

    /// Merges what a table is made of, so that it is read faster; returns how many rows were written for that. `full` asks
    /// for one sorted whole, whatever it takes.
    async fn optimize(&self, schema: &str, table: &str, _full: bool) -> Result<u64> {
        Err(self.refuse(&format!("OPTIMIZE {schema}.{table}")))
    }

    /// Makes a table of a versioned store that begins as another one was; both are named by schema and table.
    async fn clone_table(
        &self,
        _of: (&str, &str),
        _version: ReadVersion,
        _name: (&str, &str),
    ) -> Result<()> {
        Err(self.refuse("CREATE TABLE ... CLONE"))
    }

    /// Makes tables of a versioned store, named by schema and table, again what they were; returns the new version.
    async fn restore(&self, _tables: &[(&str, &str)], _version: ReadVersion) -> Result<u64> {
        Err(self.refuse("RESTORE"))
    }

    /// Checks whether a table's objects are what its catalog's log says; returns what does not fit, as the object and why.
    /// `full` asks for every byte.
    async fn check_table(
        &self,
        schema: &str,
        table: &str,
        _full: bool,
    ) -> Result<Vec<(String, String)>> {
        Err(self.refuse(&format!("CHECK TABLE {schema}.{table}")))
    }

    /// Lets versions of a versioned store go that `keep` does not name, or those that the catalog's properties say; and deletes
    /// files that nobody has needed for long. Returns how many files.
    async fn vacuum(&self, _keep: Option<Retention>) -> Result<u64> {
        Err(self.refuse("VACUUM"))
    }

    /// Copies a versioned store to where another catalog of its kind lies, or brings the copy there up to date. Returns how many
    /// objects were copied.
    async fn back_up(&self, _to: &dyn Connector) -> Result<u64> {
        Err(self.refuse("BACKUP"))
    }

    /// Returns what others read of a versioned store; nothing where there is no such thing.
    async fn exports(&self) -> Result<Vec<ExportEntry>> {
        Ok(Vec::new())
    }

    /// Returns what the tables of a versioned store are made of; nothing where there is no such thing.
    async fn deltas(&self) -> Result<Vec<DeltaEntry>> {
        Ok(Vec::new())
    }

    /// Returns the last changes of a versioned store, the newest first; nothing where there is no such thing.
    async fn changes(&self) -> Result<Vec<ChangeEntry>> {
        Ok(Vec::new())
    }

    /// Returns how far feeds have come that number their batches; nothing where there is no such thing.
    async fn feeds(&self) -> Result<Vec<FeedEntry>> {
        Ok(Vec::new())
    }

    /// Begins an update of several tables that becomes visible at once.
    async fn begin_batch(&self) -> Result<Box<dyn Batch>> {
        Err(self.refuse("BEGIN UPDATE BATCH"))
    }

    /// The error for a statement that this kind of catalog does not take.
    fn refuse(&self, statement: &str) -> Error {
        Error::not_supported(format!("{statement} in a catalog of kind {}", self.kind()))
    }
}

/// A piece of work that the planner offers to a source.
#[derive(Debug, Clone, Copy)]
pub enum Pushdown<'a> {
    /// Return only rows for which this is true.
    Filter(&'a Predicate),
    /// Return at most that many rows, any of those that pass the filters.
    Limit(usize),
    /// Return the first `rows` rows of each split in this order.
    Top {
        /// The order; what is equal in it may come in any order.
        order: &'a [OrderKey],
        /// How many.
        rows: usize,
    },
    /// Return partial aggregates of each split instead of its rows.
    Aggregate(&'a Aggregate),
    /// Return what the join returns, whose left side is the scan.
    Join(&'a Join),
}

/// What a source answers to an offer. The default of every source is to refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The source does it; nobody else needs to.
    Exact,
    /// The source returns a superset; the engine checks again.
    Inexact,
    /// The source does not; the reason shows in EXPLAIN.
    Refused(Reason),
}

/// One part of a scan: read by one task over one connection. The parts of a scan cover it exactly once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// What EXPLAIN shows.
    pub description: String,
    /// What the connector needs to read it: values only, never SQL text, never a secret.
    pub payload: Value,
}

impl Split {
    /// The only split of a scan that is not cut.
    pub fn whole() -> Self {
        Self { description: "whole".to_owned(), payload: Value::Null }
    }
}

/// What part of a query sees one state of a source that others change meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotScope {
    /// All scans of it.
    Query,
    /// Each split, its own.
    Split,
    /// None: rows of one split may come from several states.
    Nothing,
}

impl fmt::Display for SnapshotScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Query => "shared",
            Self::Split => "own",
            Self::Nothing => "none",
        })
    }
}

/// A source that answers a described scan with rows.
#[async_trait]
pub trait RowSource: fmt::Debug + Send + Sync + 'static {
    /// Answers an offer: pure, synchronous, no I/O. `scan` is what was agreed so far.
    fn negotiate(&self, scan: &RemoteScan, offer: Pushdown<'_>) -> Outcome;

    /// Returns what the source knows of the values of a whole table without reading it: estimates for the planner,
    /// from which no answer may follow. Nothing is known of what is left out. The caller sets a deadline, and does
    /// without when this fails.
    ///
    /// # Errors
    /// `Source` when the source cannot be asked.
    async fn statistics(
        &self,
        _whole: &RemoteScan,
        _scope: &Arc<QueryScope>,
    ) -> Result<TableStatistics> {
        Ok(TableStatistics::default())
    }

    /// Cuts an agreed scan into at most `settings.splits_max` parts, under one snapshot where the source
    /// has such a thing (kept in `scope`). May record what workers need in the returned scan.
    async fn splits(
        &self,
        scan: RemoteScan,
        scope: &Arc<QueryScope>,
        settings: &QuerySettings,
    ) -> Result<(RemoteScan, Vec<Split>)>;

    /// Returns the splits of a scan that agreed to more after it was cut: fewer, if that is faster now.
    fn recut(&self, _scan: &RemoteScan, splits: Vec<Split>) -> Vec<Split> {
        splits
    }

    /// Reads one split: a stream of `scan.output_schema()`, in any order. Called on a worker, on the
    /// runtime for I/O. Dropping the stream ends the remote statement within two seconds.
    ///
    /// # Errors
    /// `Source` when the source cannot be asked; what fails later comes through the stream.
    fn open(
        &self,
        scan: &RemoteScan,
        split: &Split,
        settings: &QuerySettings,
    ) -> Result<SendableRecordBatchStream>;

    /// Tells who waits for connections to the source; `None` if scans hold none of a bounded number. See
    /// [`crate::connections`].
    fn wanted(&self) -> Option<watch::Receiver<Wanted>> {
        None
    }

    /// What sees one state of the source, for EXPLAIN.
    fn snapshot(&self) -> SnapshotScope {
        SnapshotScope::Nothing
    }

    /// The request that a split becomes, for EXPLAIN: SQL, or a URL without secrets.
    fn describe(&self, scan: &RemoteScan, split: &Split) -> String;

    /// Returns what writes the source's tables.
    ///
    /// # Errors
    /// `User` that says why nothing is written: the kind of source, or a property of the catalog.
    fn writer(&self, table: &RemoteScan) -> Result<Arc<dyn RowWriter>> {
        let name = table.display_name();
        Err(Error::not_supported(format!("a change of {name}, which is only read")))
    }
}
