//! Merges sorted runs into one: keys ascending, values of one key folded in the order of the runs.
//!
//! The runs have to be given in version order: that is what makes REPLACE right. Memory is one batch per run and one
//! output batch, however long the runs are.
//!
//! ```text
//! run 0 (oldest)  a1 c1 d1 ──┐
//! run 1           a2 b2    ──┼─► a1a2 │ b2 │ c1c3 │ d1   gathered, then folded per segment
//! run 2 (newest)  c3       ──┘
//! ```
//!
//! A run comes in pieces, the files of a delta. [`Merger`] says of which run it needs the next one, so that its caller can
//! load it without blocking, or pass it by; [`MergeRuns`] has all of them from the start. Rows of an append table are
//! sorted into each other and not folded.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::row::Rows;

use crate::delta::fold::fold_batch;
use crate::delta::rows::without_deleted;
use crate::delta::sort::{key_columns, key_rows};
use crate::encoding::RowEncoder;
use crate::error::{Error, Result};
use crate::table::TableDef;

/// Keys per output batch.
const KEYS_PER_BATCH: usize = 8192;

/// A sorted run, or a piece of one: batches in the order of data files, each key once where a table has one row per key.
pub type Run = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// What stands below what a merge makes, and is hidden by its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hides {
    /// Older deltas.
    Older,
    /// Nothing: it holds all that there was.
    Nothing,
}

/// What a merge does next.
#[derive(Debug)]
pub(crate) enum Step {
    /// It has made rows.
    Rows(RecordBatch),
    /// It needs the next piece of each of these runs; see [`Merger::give`].
    Needs(Vec<usize>),
    /// It has made all rows.
    Done,
}

/// The merge of sorted runs of one table whose pieces are given one by one.
pub(crate) struct Merger {
    def: Arc<TableDef>,
    hides: Hides,
    schema: SchemaRef,
    runs: Vec<Cursor>,
    /// Runs that have rows, as a binary heap: the least key first, of equal keys the oldest run.
    heap: Vec<usize>,
    /// Runs whose next piece is not there yet.
    waiting: Vec<usize>,
}

/// A run and its place in it.
struct Cursor {
    piece: Run,
    batch: RecordBatch,
    keys: Option<Rows>,
    row: usize,
}

impl fmt::Debug for Merger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Merger {{ table: {}, runs: {} }}", self.def.full_name(), self.runs.len())
    }
}

impl Merger {
    /// Starts the merge of so many runs, which stand in version order. It needs a piece of each. Deleted rows that hide nothing
    /// are left out.
    pub(crate) fn new(def: Arc<TableDef>, n_runs: usize, hides: Hides) -> Self {
        let schema = def.file_schema();
        let cursor = || Cursor {
            piece: Box::new(std::iter::empty()),
            batch: RecordBatch::new_empty(Arc::clone(&schema)),
            keys: None,
            row: 0,
        };
        let runs = (0..n_runs).map(|_| cursor()).collect();
        Self { def, hides, schema, runs, heap: Vec::new(), waiting: (0..n_runs).collect() }
    }

    /// Gives the next piece of a run that needs one; None at its end.
    pub(crate) fn give(&mut self, run: usize, piece: Option<Run>) -> Result<()> {
        let Some(piece) = piece else {
            self.waiting.retain(|waiting| *waiting != run);
            return Ok(());
        };
        if let Some(cursor) = self.runs.get_mut(run) {
            cursor.piece = piece;
        }
        if self.load(run)? {
            self.waiting.retain(|waiting| *waiting != run);
            self.heap.push(run);
            self.sift_up(self.heap.len() - 1);
        }
        Ok(())
    }

    /// Returns the key of a run's next row as [`crate::encoding`] writes it; None if it has none for now.
    pub(crate) fn next_key(&self, run: usize) -> Result<Option<Vec<u8>>> {
        let Some(cursor) = self.runs.get(run).filter(|_| self.heap.contains(&run)) else {
            return Ok(None);
        };
        let columns = key_columns(&self.def, &cursor.batch);
        let mut key = Vec::new();
        RowEncoder::new(&columns)?.encode(cursor.row, &mut key);
        Ok(Some(key))
    }

    /// Goes on until there are rows, or a piece is needed.
    pub(crate) fn step(&mut self) -> Result<Step> {
        if !self.waiting.is_empty() {
            return Ok(Step::Needs(self.waiting.clone()));
        }
        Ok(match self.gather()? {
            Some(rows) => Step::Rows(rows),
            None => Step::Done,
        })
    }

    /// Loads the next batch with rows of a run's piece; false at its end.
    fn load(&mut self, at: usize) -> Result<bool> {
        let Some(cursor) = self.runs.get_mut(at) else { return Ok(false) };
        for batch in cursor.piece.by_ref() {
            let batch = batch?;
            if batch.num_rows() > 0 {
                let keys = key_rows(&self.def, &batch)?;
                if let Some(before) = &cursor.keys {
                    let (last, first) = (before.row(before.num_rows() - 1), keys.row(0));
                    let is_sorted = match self.def.kind.folds() {
                        true => last < first,
                        false => last <= first,
                    };
                    if !is_sorted {
                        let evidence = format!("run {at} is not sorted by key");
                        return Err(Error::corrupt(self.def.full_name(), evidence));
                    }
                }
                cursor.batch = batch;
                cursor.keys = Some(keys);
                cursor.row = 0;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        let key = |at: usize| {
            let cursor = self.runs.get(at)?;
            cursor.keys.as_ref().map(|keys| keys.row(cursor.row))
        };
        key(a).cmp(&key(b)).then(a.cmp(&b))
    }

    fn sift_up(&mut self, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.compare(self.heap[at], self.heap[parent]).is_ge() {
                return;
            }
            self.heap.swap(at, parent);
            at = parent;
        }
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let children = [2 * at + 1, 2 * at + 2];
            let present = children.into_iter().filter(|child| *child < self.heap.len());
            let least = present.min_by(|a, b| self.compare(self.heap[*a], self.heap[*b]));
            match least {
                Some(child) if self.compare(self.heap[child], self.heap[at]).is_lt() => {
                    self.heap.swap(child, at);
                    at = child;
                }
                Some(_) | None => return,
            }
        }
    }

    /// Moves the run at the top of the heap one row on; it waits if its piece has ended.
    fn advance_top(&mut self) -> Result<()> {
        let Some(top) = self.heap.first().copied() else { return Ok(()) };
        let cursor = &mut self.runs[top];
        cursor.row += 1;
        if cursor.row == cursor.batch.num_rows() && !self.load(top)? {
            self.heap.swap_remove(0);
            self.waiting.push(top);
        }
        self.sift_down(0);
        Ok(())
    }

    fn gather(&mut self) -> Result<Option<RecordBatch>> {
        // Batches that the output draws from; a run that moves to its next batch takes a new place.
        let mut batches: Vec<RecordBatch> = Vec::new();
        let mut places: Vec<Option<usize>> = vec![None; self.runs.len()];
        let mut rows: Vec<(usize, usize)> = Vec::new();
        let mut starts: Vec<usize> = Vec::new();
        let mut last_key: Vec<u8> = Vec::new();
        while let Some(top) = self.heap.first().copied() {
            let cursor = &self.runs[top];
            let Some(keys) = &cursor.keys else { break };
            let key = keys.row(cursor.row);
            let is_other = starts.is_empty() || key.data() != last_key;
            let is_new = is_other || !self.def.kind.folds();
            if is_new && starts.len() >= KEYS_PER_BATCH {
                break;
            }
            // The next row of a run that waits comes after this key, but perhaps before another.
            if is_other && !self.waiting.is_empty() {
                break;
            }
            if is_new {
                starts.push(rows.len());
                last_key.clear();
                last_key.extend_from_slice(key.data());
            }
            let place = *places[top].get_or_insert_with(|| {
                batches.push(cursor.batch.clone());
                batches.len() - 1
            });
            rows.push((place, cursor.row));
            if cursor.row + 1 == cursor.batch.num_rows() {
                places[top] = None;
            }
            self.advance_top()?;
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let sources: Vec<&RecordBatch> = batches.iter().collect();
        let gathered = interleave_record_batch(&sources, &rows)?;
        let folded = fold_batch(&self.def, &self.schema, &gathered, &starts)?;
        Ok(Some(match self.hides {
            Hides::Older => folded,
            Hides::Nothing => without_deleted(&self.def, folded)?,
        }))
    }
}

/// The merge of sorted runs of one table, all of them there; deleted rows are left out.
#[derive(Debug)]
pub struct MergeRuns {
    merger: Merger,
    failed: bool,
}

impl MergeRuns {
    /// Starts the merge of `runs`, which stand in version order.
    ///
    /// # Errors
    /// What the first batches of the runs fail with.
    pub fn new(def: Arc<TableDef>, runs: Vec<Run>) -> Result<Self> {
        let mut merger = Merger::new(def, runs.len(), Hides::Nothing);
        for (at, run) in runs.into_iter().enumerate() {
            merger.give(at, Some(run))?;
        }
        Ok(Self { merger, failed: false })
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            match self.merger.step()? {
                Step::Rows(rows) => return Ok(Some(rows)),
                Step::Done => return Ok(None),
                Step::Needs(runs) => {
                    runs.into_iter().try_for_each(|run| self.merger.give(run, None))?;
                }
            }
        }
    }
}

impl Iterator for MergeRuns {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let batch = self.next_batch().transpose();
        self.failed = matches!(batch, Some(Err(_)));
        batch
    }
}
