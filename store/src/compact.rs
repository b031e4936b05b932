//! Compaction: several deltas of a table become one that says the same.
//!
//! The files of each delta are read one after the other, all deltas side by side, and folded into new files. A file whose
//! keys no other delta has any of is not read at all: it moves into the new delta as it is. Before the commit the result
//! is checked against what the log says about the inputs; the commit names the inputs, and is lost if they are gone.
//! Nobody waits for a compaction, and whoever dies in one leaves files that nobody knows of. Where nothing older is left that a
//! deleted row could hide, it is left out.
//!
//! ```text
//! [1,40]   a........f g........m n........z        [1,50]   a........f   moved
//! [41,50]                i...k                 ──►          g........m   merged
//!                                                           n........z   moved
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::batch::{FILE_ROWS_MAX, put};
use crate::database::Database;
use crate::delta::file::{EncodedFile, Writer};
use crate::delta::merge::{Hides, Merger, Step};
use crate::environment::blocking;
use crate::error::{Error, Result};
use crate::log::commit::{Committed, Transaction};
use crate::log::deltas::{Delta, DeltaId};
use crate::log::record::{FileEntry, Merge, Operation, ReadScope, TableChange};
use crate::stats::key_bounds;
use crate::table::{Column, InFile, TableDef, TableId};
use crate::version::VersionRange;

/// Bytes per data file, about.
const FILE_BYTES_MAX: usize = 256 << 20;

/// A smaller file is merged even if it could move: many small files cost every reader more than one merge.
const MOVED_BYTES_MIN: u64 = 8 << 20;

/// How a compaction is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactOptions {
    /// The level of the delta that is made; see [`crate::policy`].
    pub level: u32,
    /// Rows per file that it writes, at most.
    pub file_rows_max: usize,
    /// Bytes of a file that may move as it is, at least.
    pub moved_bytes_min: u64,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self { level: 1, file_rows_max: FILE_ROWS_MAX, moved_bytes_min: MOVED_BYTES_MIN }
    }
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// The delta that it made.
    pub delta: DeltaId,
    /// Where the commit stands.
    pub committed: Committed,
    /// Rows that it read.
    pub rows_read: u64,
    /// Rows that it wrote.
    pub rows_written: u64,
    /// Files that moved as they were.
    pub files_moved: usize,
}

impl Database {
    /// Makes deltas of one table into one. They have to hold all that is there of the versions from the first to the last of
    /// them.
    ///
    /// # Errors
    /// [`Error::Conflict`] if one of them is not there, or no longer, or if they leave out an update between them; Internal
    /// if their files are not what the log says; otherwise as [`crate::Batch::commit`].
    pub async fn compact(
        &self,
        table: TableId,
        from: &[DeltaId],
        options: CompactOptions,
    ) -> Result<Compacted> {
        let state = self.log().refresh().await?;
        let gone = |reason: String| Error::Conflict { reason };
        let Some(table) = state.tables.get(&table) else {
            return Err(gone(format!("table {table} was dropped")));
        };
        let (Some(first), Some(last)) =
            (from.iter().min_by_key(|id| id.v.lo), from.iter().max_by_key(|id| id.v.hi))
        else {
            return Err(gone("no deltas to merge".to_owned()));
        };
        let into =
            DeltaId { index: first.index, v: VersionRange { lo: first.v.lo, hi: last.v.hi } };
        table.deltas.tile(into.index, into.v, from).map_err(gone)?;
        let mut inputs: Vec<Arc<Delta>> =
            from.iter().filter_map(|id| table.deltas.get(*id).cloned()).collect();
        inputs.sort_by_key(|delta| delta.id);

        let of_index = table.deltas.iter().filter(|delta| delta.id.index == into.index);
        let oldest = of_index.map(|delta| delta.id.v.lo).min();
        let hides = if oldest == Some(into.v.lo) { Hides::Nothing } else { Hides::Older };
        // Versions before a definition came are read by the one before it, so their rows keep all its columns.
        let def = table.def_at(into.v.hi).of_order(into.index)?;
        let (files, files_moved) = self.folded(&def, &inputs, into, hides, options).await?;
        let mut transaction =
            Transaction::new(self.new_transaction(), Operation::Compact, state.lsn);
        transaction.read.tables.insert(table.def.id, ReadScope::Any);
        let from = inputs.iter().map(|delta| delta.id).collect();
        let merge = Some(Merge { into, from, level: options.level });
        let change = TableChange::of(def.id, def.schema);
        let rows_written = files.iter().map(|file| file.rows).sum();
        transaction.tables.push(TableChange { add: files, merge, ..change });
        Ok(Compacted {
            delta: into,
            committed: self.log().commit(transaction).await?,
            rows_read: inputs.iter().map(|delta| delta.rows()).sum(),
            rows_written,
            files_moved,
        })
    }

    /// Writes the rows of deltas, oldest first, as files of one delta, checked; returns how many of them are as they were.
    pub(crate) async fn folded(
        &self,
        def: &Arc<TableDef>,
        inputs: &[Arc<Delta>],
        into: DeltaId,
        hides: Hides,
        options: CompactOptions,
    ) -> Result<(Vec<Arc<FileEntry>>, usize)> {
        let mut job = Job {
            database: self,
            def: Arc::clone(def),
            into,
            options,
            runs: inputs.iter().map(|delta| delta.files.iter().cloned().collect()).collect(),
            writer: None,
            files: Vec::new(),
            files_moved: 0,
        };
        match def.key.is_empty() {
            true => job.append().await?,
            false => job.merge(hides).await?,
        }
        job.roll().await?;
        verify(def, inputs, &job.files)?;
        Ok((job.files, job.files_moved))
    }
}

/// A compaction under way.
struct Job<'a> {
    database: &'a Database,
    def: Arc<TableDef>,
    into: DeltaId,
    options: CompactOptions,
    /// The files of each input that were not read yet.
    runs: Vec<VecDeque<Arc<FileEntry>>>,
    /// The file that is being written.
    writer: Option<Writer>,
    files: Vec<Arc<FileEntry>>,
    files_moved: usize,
}

impl Job<'_> {
    async fn merge(&mut self, hides: Hides) -> Result<()> {
        let mut merger = Merger::new(Arc::clone(&self.def), self.runs.len(), hides);
        loop {
            let step;
            (merger, step) = self.step(merger).await?;
            match step {
                Progress::Done => return Ok(()),
                Progress::Full => self.roll().await?,
                Progress::Needs(runs) => {
                    for run in &runs {
                        while self.may_move(&merger, *run, &runs)? {
                            self.move_file(*run).await?;
                        }
                    }
                    for run in runs {
                        let piece = match self.runs.get_mut(run).and_then(VecDeque::pop_front) {
                            Some(file) => Some(self.database.read_file(&self.def, &file).await?),
                            None => None,
                        };
                        merger.give(run, piece)?;
                    }
                }
            }
        }
    }

    /// Merges and writes until a file is full or more is needed.
    async fn step(&mut self, mut merger: Merger) -> Result<(Merger, Progress)> {
        let mut writer = self.take_writer()?;
        let options = self.options;
        let run = move || -> Result<(Merger, Writer, Progress)> {
            let progress = loop {
                match merger.step()? {
                    Step::Rows(rows) => writer.push(&rows)?,
                    Step::Needs(runs) => break Progress::Needs(runs),
                    Step::Done => break Progress::Done,
                }
                if is_full(&writer, options) {
                    break Progress::Full;
                }
            };
            Ok((merger, writer, progress))
        };
        let (merger, writer, progress) =
            blocking(self.database.environment().as_ref(), run).await??;
        self.writer = Some(writer);
        Ok((merger, progress))
    }

    /// Writes the rows of a table without a key, in the order in which they came.
    async fn append(&mut self) -> Result<()> {
        while let Some(run) = self.runs.iter().position(|files| !files.is_empty()) {
            let is_large = |file: &Arc<FileEntry>| file.bytes >= self.options.moved_bytes_min;
            if self.runs[run].front().is_some_and(is_large) {
                self.move_file(run).await?;
                continue;
            }
            let Some(file) = self.runs[run].pop_front() else { continue };
            for batch in self.database.read_file(&self.def, &file).await? {
                self.write(batch?).await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let mut writer = self.take_writer()?;
        writer.push(&batch)?;
        let is_full = is_full(&writer, self.options);
        self.writer = Some(writer);
        if is_full { self.roll().await } else { Ok(()) }
    }

    /// Takes the file that is being written, or begins one.
    fn take_writer(&mut self) -> Result<Writer> {
        match self.writer.take() {
            Some(writer) => Ok(writer),
            None => Writer::new(&self.database.id().to_string(), Arc::clone(&self.def), self.into),
        }
    }

    /// Ends the file that is being written, if it has rows.
    async fn roll(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take_if(|writer| writer.n_rows() > 0) {
            let encoded: EncodedFile =
                blocking(self.database.environment().as_ref(), move || writer.finish()).await??;
            self.files.push(put(self.database, &self.def, encoded).await?);
        }
        Ok(())
    }

    /// Whether the next file of a run can stay as it is: it is large, and no other run has a key that is not after it.
    fn may_move(&self, merger: &Merger, run: usize, waiting: &[usize]) -> Result<bool> {
        let Some(file) = self.runs.get(run).and_then(VecDeque::front) else { return Ok(false) };
        let Some((_, greatest)) = key_bounds(file) else { return Ok(false) };
        if file.bytes < self.options.moved_bytes_min {
            return Ok(false);
        }
        for (other, files) in self.runs.iter().enumerate().filter(|(other, _)| *other != run) {
            let next = match waiting.contains(&other) {
                true => files.front().and_then(|file| key_bounds(file)).map(|(least, _)| least),
                false => merger.next_key(other)?,
            };
            if next.is_some_and(|next| next <= greatest) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn move_file(&mut self, run: usize) -> Result<()> {
        self.roll().await?;
        if let Some(file) = self.runs.get_mut(run).and_then(VecDeque::pop_front) {
            let DeltaId { index, v } = self.into;
            self.files.push(Arc::new(FileEntry { index, v, ..FileEntry::clone(&file) }));
            self.files_moved += 1;
        }
        Ok(())
    }
}

/// Why a merge has stopped for now.
enum Progress {
    Needs(Vec<usize>),
    Full,
    Done,
}

fn is_full(writer: &Writer, options: CompactOptions) -> bool {
    writer.n_rows() >= options.file_rows_max as u64 || writer.n_bytes() >= FILE_BYTES_MAX
}

/// Checks the result against what the log says about the inputs. That keys ascend was checked while they were written.
pub(crate) fn verify(
    def: &TableDef,
    inputs: &[Arc<Delta>],
    files: &[Arc<FileEntry>],
) -> Result<()> {
    let corrupt = |evidence: String| Error::corrupt(def.full_name(), evidence);
    let from: Vec<Arc<FileEntry>> =
        inputs.iter().flat_map(|delta| delta.files.iter().map(Arc::clone)).collect();
    let rows = |files: &[Arc<FileEntry>]| files.iter().map(|file| file.rows).sum::<u64>();
    if rows(files) > rows(&from) {
        return Err(corrupt(format!("{} rows were merged into {}", rows(&from), rows(files))));
    }
    same_sums(def, &from, files).map_err(corrupt)?;
    let bounds = |files: &[Arc<FileEntry>]| {
        let bounds: Vec<_> = files.iter().filter_map(|file| key_bounds(file)).collect();
        let least = bounds.iter().map(|(least, _)| least.clone()).min();
        (least, bounds.into_iter().map(|(_, greatest)| greatest).max())
    };
    let ((least, greatest), (new_least, new_greatest)) = (bounds(&from), bounds(files));
    if !files.is_empty() && (new_least < least || new_greatest > greatest) {
        return Err(corrupt("keys came that were in none of the deltas".to_owned()));
    }
    Ok(())
}

/// Checks that rows have the sums of those that they were folded from; `def` has the columns of the former.
pub(crate) fn same_sums(
    def: &TableDef,
    from: &[Arc<FileEntry>],
    into: &[Arc<FileEntry>],
) -> Result<(), String> {
    let (was, is) = (sums(def, from), sums(def, into));
    for (column, was) in was {
        if let (Some(was), Some(Some(is))) = (was, is.get(column))
            && was != *is
        {
            return Err(format!("the sum of \"{column}\" was {was} and became {is}"));
        }
    }
    Ok(())
}

/// Returns the exact sums of columns over files, by their present names; None where one of the files tells none.
fn sums<'a>(def: &'a TableDef, files: &[Arc<FileEntry>]) -> BTreeMap<&'a str, Option<i128>> {
    let total = |column: &Column| {
        files.iter().try_fold(0i128, |sum, file| match def.in_file(column, file.schema)? {
            InFile::Column(there) => sum.checked_add(file.agg.get(&there.name)?.parse().ok()?),
            // A file from before the column came has nothing of it, and so nothing to add.
            InFile::Value(_) => Some(sum),
        })
    };
    let columns = def.file_columns().into_iter();
    columns.map(|column| (column.name.as_str(), total(column))).collect()
}
