//! Rollups get their rows: with each update, from the same rows, in the same commit; and once, when they come, from what the
//! table has.
//!
//! ```text
//! versions   1  2  3  4  5  6
//! table      ■  ■  ■     ■  ■      the rollup came with version 4
//! rollup     └────[1,4]┘ ■  ■      made from 1 to 3 while 5 and 6 came; versions from 4 on can be read from it
//! ```
//! The definition comes first, so that no update can be missed, and the delta that holds all older ones follows. Until it is
//! there, or if whoever makes it dies, the table answers alone; the next maintenance makes it.

use std::mem;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::batch::{files_of, put};
use crate::compact::{CompactOptions, Compacted, same_sums};
use crate::database::Database;
use crate::delta::merge::Hides;
use crate::delta::sort::sort_and_fold;
use crate::environment::blocking;
use crate::error::{Error, Result};
use crate::log::commit::Transaction;
use crate::log::deltas::{Delta, DeltaId};
use crate::log::record::{FileEntry, Merge, Operation, ReadScope, TableChange};
use crate::log::state::TableState;
use crate::policy::BASE_LEVEL;
use crate::snapshot::TableSnapshot;
use crate::table::{Column, Rollup, TableDef, TableId};
use crate::version::VersionRange;

/// Rows that are sorted at once; a tenth of what a batch may have, because a fill runs beside everything else.
const RUN_BYTES_MAX: usize = 100 << 20;

/// Runs that are merged at once: each holds one file in memory.
const RUNS_MAX: usize = 8;

impl Database {
    /// Gives rollups of a table the rows that came before them, and returns what was done.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the table was dropped or others were first; User if a sum overflows; otherwise as
    /// [`Self::compact`].
    pub async fn fill_rollups(&self, table: TableId) -> Result<Vec<Compacted>> {
        let mut done = Vec::new();
        let state = self.log().refresh().await?;
        let Some(found) = state.tables.get(&table) else {
            return Err(Error::Conflict { reason: format!("table {table} was dropped") });
        };
        for rollup in &found.def.rollups {
            if let Some(missing) = found.deltas.newest_missing(rollup.index, state.version) {
                // Versions that have gone cannot be read any more.
                let begins = found.rollup_begins(rollup.index);
                let version = missing.max(begins).max(state.low_water);
                let all = TableSnapshot::new(Arc::clone(found), version, state.low_water)?;
                done.push(self.fill(found, rollup, &all, state.lsn).await?);
            }
        }
        Ok(done)
    }

    async fn fill(
        &self,
        table: &TableState,
        rollup: &Rollup,
        all: &TableSnapshot,
        lsn: u64,
    ) -> Result<Compacted> {
        let from: Vec<DeltaId> = all.chosen().iter().map(|delta| delta.id).collect();
        let lo = from.first().map_or_else(|| all.version(), |first| first.v.lo);
        let into = DeltaId { index: rollup.index, v: VersionRange { lo, hi: all.version() } };
        let files = self.derived(all.def(), rollup, all.chosen(), into).await?;
        let mut transaction = Transaction::new(self.new_transaction(), Operation::Compact, lsn);
        transaction.read.tables.insert(table.def.id, ReadScope::Any);
        let rows_written = files.iter().map(|file| file.rows).sum();
        let change = TableChange::of(table.def.id, all.def().schema);
        let merge = Some(Merge { into, from, level: BASE_LEVEL });
        transaction.tables.push(TableChange { add: files, merge, ..change });
        Ok(Compacted {
            delta: into,
            committed: self.log().commit(transaction).await?,
            rows_read: all.chosen().iter().map(|delta| delta.rows()).sum(),
            rows_written,
            files_moved: 0,
        })
    }

    /// Writes the rows of a table's deltas, oldest first, as files of one delta of a rollup, checked.
    pub(crate) async fn derived(
        &self,
        def: &Arc<TableDef>,
        rollup: &Rollup,
        inputs: &[Arc<Delta>],
        into: DeltaId,
    ) -> Result<Vec<Arc<FileEntry>>> {
        let of_rollup = Arc::new(def.of_rollup(rollup));
        let mut runs = Runs { database: self, def: Arc::clone(&of_rollup), into, made: Vec::new() };
        let mut waiting = Vec::new();
        let mut bytes = 0;
        for file in inputs.iter().flat_map(|delta| &delta.files) {
            for rows in self.read_file(def, file).await? {
                let rows = columns_of(&of_rollup, &rows?)?;
                bytes += rows.get_array_memory_size();
                waiting.push(rows);
                if bytes > RUN_BYTES_MAX {
                    bytes = 0;
                    runs.add(mem::take(&mut waiting)).await?;
                }
            }
        }
        runs.add(waiting).await?;
        let files = runs.into_one().await?;
        let from: Vec<_> = inputs.iter().flat_map(|delta| delta.files.iter().cloned()).collect();
        same_sums(&of_rollup, &from, &files)
            .map_err(|evidence| Error::corrupt(def.full_name(), evidence))?;
        Ok(files)
    }
}

/// Returns the columns of a rollup.
pub(crate) fn columns_of(rollup: &TableDef, rows: &RecordBatch) -> Result<RecordBatch> {
    let schema = rows.schema();
    let place = |column: &&Column| schema.index_of(&column.name).ok();
    let places: Vec<usize> = rollup.file_columns().iter().filter_map(place).collect();
    Ok(rows.project(&places)?)
}

/// Sorted files, each folded in itself, in the order in which their rows came.
struct Runs<'a> {
    database: &'a Database,
    def: Arc<TableDef>,
    into: DeltaId,
    made: Vec<Arc<Delta>>,
}

impl Runs<'_> {
    async fn add(&mut self, rows: Vec<RecordBatch>) -> Result<()> {
        let (database, def) = (self.database.id().to_string(), Arc::clone(&self.def));
        let into = self.into;
        let encode = move || files_of(&database, &def, into, &sort_and_fold(&def, rows)?);
        let encoded = blocking(self.database.environment().as_ref(), encode).await??;
        let mut files = Vec::with_capacity(encoded.len());
        for file in encoded {
            files.push(put(self.database, &self.def, file).await?);
        }
        self.push(files);
        Ok(())
    }

    fn push(&mut self, files: Vec<Arc<FileEntry>>) {
        let rows_from = files.iter().map(|file| file.rows).sum();
        self.made.push(Arc::new(Delta { id: self.into, lsn: 0, level: 0, rows_from, files }));
    }

    /// Merges runs that stand side by side until one is left. What was merged stays for a vacuum: no delta has it.
    async fn into_one(mut self) -> Result<Vec<Arc<FileEntry>>> {
        let options = CompactOptions { level: BASE_LEVEL, ..CompactOptions::default() };
        while self.made.len() > 1 {
            for runs in mem::take(&mut self.made).chunks(RUNS_MAX) {
                let merged =
                    self.database.folded(&self.def, runs, self.into, Hides::Nothing, options);
                let (files, _moved) = merged.await?;
                self.push(files);
            }
        }
        Ok(self.made.pop().map_or_else(Vec::new, |run| run.files.clone()))
    }
}
