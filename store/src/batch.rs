//! An update: rows for any number of tables that become visible at once, as one version.
//!
//! Rows are collected in memory, sorted and folded per table, written as files nobody knows of, and then made visible by
//! one record of the log. Dropping a batch before that leaves nothing but unknown files.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream};

use crate::database::Database;
use crate::delta::file::{self, EncodedFile};
use crate::delta::rows::fit;
use crate::delta::sort::sort_and_fold;
use crate::environment::{blocking, new_ulid};
use crate::error::{Error, Result};
use crate::log::commit::{Committed, Transaction};
use crate::log::deltas::{DeltaId, PRIMARY};
use crate::log::record::{App, FileEntry, Operation, ReadScope, TableChange, TransactionId};
use crate::names::data_file;
use crate::rollup::columns_of;
use crate::table::{TableDef, TableId};
use crate::version::{Version, VersionRange};

/// Memory of the rows of one batch; sorting and encoding them takes some three times as much for a while. Larger loads
/// are cut into several batches by their sender.
pub const BATCH_BYTES_MAX: u64 = 1 << 30;

/// Rows per data file: with usual rows some 100 MB.
pub(crate) const FILE_ROWS_MAX: usize = 4 << 20;

/// How often a file is put under a new name when the object store fails.
const PUT_ATTEMPTS_MAX: u32 = 5;

/// Files put at the same time.
const PUTS_AT_ONCE: usize = 4;

/// Rows for tables that wait to become a version.
#[derive(Debug)]
pub struct Batch {
    database: Arc<Database>,
    txn: TransactionId,
    app: Option<App>,
    tables: BTreeMap<TableId, Staged>,
    reads: BTreeMap<TableId, ReadScope>,
    read_lsn: Option<u64>,
    bytes: u64,
}

#[derive(Debug)]
struct Staged {
    def: Arc<TableDef>,
    batches: Vec<RecordBatch>,
}

impl Batch {
    pub(crate) fn new(database: Arc<Database>, txn: TransactionId) -> Self {
        Self {
            database,
            txn,
            app: None,
            tables: BTreeMap::new(),
            reads: BTreeMap::new(),
            read_lsn: None,
            bytes: 0,
        }
    }

    /// Makes this batch number `seq` of the feed `id`: if the feed has already committed that number or a later one,
    /// [`Self::commit`] changes nothing and says where that commit stands.
    pub fn of_feed(&mut self, id: &str, seq: u64) {
        self.app = Some(App { id: id.to_owned(), seq });
    }

    /// Returns the identity of the transaction. With it the history tells whether a commit of unknown outcome landed.
    pub fn txn(&self) -> TransactionId {
        self.txn
    }

    /// Returns the tables that have rows in it.
    pub fn tables(&self) -> Vec<TableId> {
        self.tables.keys().copied().collect()
    }

    /// Adds rows to a table. Columns are found by name; missing ones are NULL.
    ///
    /// # Errors
    /// User if the rows do not fit the table, Resources if the batch gets too large.
    pub fn insert(&mut self, def: &Arc<TableDef>, rows: RecordBatch) -> Result<()> {
        self.insert_all(def, vec![rows])
    }

    /// Adds all of these rows to a table, or none of them.
    ///
    /// # Errors
    /// As [`Self::insert`].
    pub fn insert_all(&mut self, def: &Arc<TableDef>, rows: Vec<RecordBatch>) -> Result<()> {
        let mut bytes = self.bytes;
        for rows in &rows {
            fit(def, &def.file_schema(), rows)?;
            bytes += rows.get_array_memory_size() as u64;
        }
        if bytes > BATCH_BYTES_MAX {
            return Err(Error::TooLarge {
                what: "update batch in bytes".to_owned(),
                size: bytes,
                limit: BATCH_BYTES_MAX,
            });
        }
        self.bytes = bytes;
        let staged = self
            .tables
            .entry(def.id)
            .or_insert_with(|| Staged { def: Arc::clone(def), batches: Vec::new() });
        staged.batches.extend(rows);
        Ok(())
    }

    /// Declares that the rows were computed from the whole of a table as it was at log position `lsn`: rows that somebody
    /// else commits to it after that make [`Self::commit`] fail.
    pub fn read(&mut self, table: TableId, lsn: u64) {
        self.reads.insert(table, ReadScope::All);
        self.read_lsn = Some(self.read_lsn.map_or(lsn, |before| before.min(lsn)));
    }

    /// Makes the rows visible as the next version, all or none.
    ///
    /// A batch without rows makes no version unless a feed counts it. Not cancel-safe: dropping the future leaves open
    /// whether the batch lands.
    ///
    /// # Errors
    /// User if a sum overflows; Resources if others were always faster or have changed what this batch rests on; Source
    /// if the object store fails, in particular [`Error::OutcomeUnknown`]; Internal if the database is damaged.
    pub async fn commit(self) -> Result<Committed> {
        let state = self.database.state();
        let n_rows: usize =
            self.tables.values().flat_map(|table| &table.batches).map(RecordBatch::num_rows).sum();
        if n_rows == 0 && self.app.is_none() {
            let state = self.database.log().refresh().await?;
            return Ok(Committed { lsn: state.lsn, version: state.version, repeated: false });
        }
        let expected = state.version.next();
        let read_lsn = self.read_lsn.unwrap_or(state.lsn);
        let mut transaction = Transaction::new(self.txn, Operation::Update, read_lsn);
        transaction.app = self.app;
        transaction.read.tables = self.reads;
        for (id, staged) in self.tables {
            transaction.read.tables.entry(id).or_insert(ReadScope::Any);
            let schema = staged.def.schema;
            let add = stage(&self.database, staged, expected).await?;
            if !add.is_empty() {
                transaction.tables.push(TableChange { add, ..TableChange::of(id, schema) });
            }
        }
        self.database.log().commit(transaction).await
    }
}

/// Sorts, folds and writes the rows of one table and its rollups.
async fn stage(
    database: &Database,
    staged: Staged,
    expected: Version,
) -> Result<Vec<Arc<FileEntry>>> {
    let Staged { def, batches } = staged;
    let id = database.id().to_string();
    let table = Arc::clone(&def);
    let v = VersionRange::single(expected);
    let encode = move || -> Result<Vec<EncodedFile>> {
        let rows = sort_and_fold(&table, batches)?;
        let mut files = files_of(&id, &table, DeltaId { index: PRIMARY, v }, &rows)?;
        for rollup in &table.rollups {
            let of_rollup = Arc::new(table.of_rollup(rollup));
            let rows = sort_and_fold(&of_rollup, vec![columns_of(&of_rollup, &rows)?])?;
            files.extend(files_of(&id, &of_rollup, DeltaId { index: rollup.index, v }, &rows)?);
        }
        Ok(files)
    };
    let files = blocking(database.environment().as_ref(), encode).await??;
    stream::iter(files)
        .map(|file| put(database, &def, file))
        .buffered(PUTS_AT_ONCE)
        .try_collect()
        .await
}

/// Encodes sorted rows as files of a delta.
pub(crate) fn files_of(
    database: &str,
    def: &Arc<TableDef>,
    delta: DeltaId,
    rows: &RecordBatch,
) -> Result<Vec<EncodedFile>> {
    let starts = (0..rows.num_rows()).step_by(FILE_ROWS_MAX);
    let slices = starts.map(|start| rows.slice(start, FILE_ROWS_MAX.min(rows.num_rows() - start)));
    slices.map(|slice| file::encode(database, def, delta, &slice)).collect()
}

/// Puts a file under a fresh name, and under another one if that fails: a name whose put failed may hold anything.
pub(crate) async fn put(
    database: &Database,
    def: &TableDef,
    file: EncodedFile,
) -> Result<Arc<FileEntry>> {
    let EncodedFile { bytes, mut entry } = file;
    let delta = DeltaId { index: entry.index, v: entry.v };
    let mut attempt = 1;
    loop {
        let path = data_file(&def.id, delta, new_ulid(database.environment().as_ref()));
        let object = database.object_path(&path);
        match database.log().objects.create(&object, bytes.clone()).await {
            Ok(()) => {
                entry.path = path;
                return Ok(Arc::new(entry));
            }
            Err(error) if attempt == PUT_ATTEMPTS_MAX => return Err(error),
            Err(error) => tracing::debug!(%error, "data file not put, trying another name"),
        }
        attempt += 1;
    }
}
