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

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::row::Rows;

use crate::delta::fold::fold_batch;
use crate::delta::sort::key_rows;
use crate::error::{Error, Result};
use crate::table::TableDef;

/// Keys per output batch.
const KEYS_PER_BATCH: usize = 8192;

/// A sorted run: batches in the order of data files, each key once.
pub type Run = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// The merge of sorted runs of one aggregate table.
pub struct MergeRuns {
    def: Arc<TableDef>,
    schema: SchemaRef,
    runs: Vec<Cursor>,
    /// Runs that have rows left, as a binary heap: the least key first, of equal keys the oldest run.
    heap: Vec<usize>,
    failed: bool,
}

/// A run and its place in it.
struct Cursor {
    run: Run,
    batch: RecordBatch,
    keys: Option<Rows>,
    row: usize,
}

impl fmt::Debug for MergeRuns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MergeRuns {{ table: {}, runs: {} }}", self.def.full_name(), self.runs.len())
    }
}

impl MergeRuns {
    /// Starts the merge of `runs`, which stand in version order.
    ///
    /// # Errors
    /// What the first batches of the runs fail with.
    pub fn new(def: Arc<TableDef>, runs: Vec<Run>) -> Result<Self> {
        let schema = def.file_schema();
        let mut cursors = Vec::with_capacity(runs.len());
        for run in runs {
            let batch = RecordBatch::new_empty(Arc::clone(&schema));
            cursors.push(Cursor { run, batch, keys: None, row: 0 });
        }
        let mut merge = Self { def, schema, runs: cursors, heap: Vec::new(), failed: false };
        for at in 0..merge.runs.len() {
            if merge.load(at)? {
                merge.heap.push(at);
            }
        }
        for at in (0..merge.heap.len()).rev() {
            merge.sift_down(at);
        }
        Ok(merge)
    }

    /// Loads the next batch with rows of a run; false at its end.
    fn load(&mut self, at: usize) -> Result<bool> {
        let Some(cursor) = self.runs.get_mut(at) else { return Ok(false) };
        for batch in cursor.run.by_ref() {
            let batch = batch?;
            if batch.num_rows() > 0 {
                let keys = key_rows(&self.def, &batch)?;
                if let Some(before) = &cursor.keys
                    && keys.row(0) <= before.row(before.num_rows() - 1)
                {
                    let evidence = format!("run {at} is not sorted by key");
                    return Err(Error::corrupt(self.def.full_name(), evidence));
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

    /// Moves the run at the top of the heap one row on.
    fn advance_top(&mut self) -> Result<()> {
        let Some(top) = self.heap.first().copied() else { return Ok(()) };
        let cursor = &mut self.runs[top];
        cursor.row += 1;
        if cursor.row == cursor.batch.num_rows() && !self.load(top)? {
            self.heap.swap_remove(0);
        }
        self.sift_down(0);
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
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
            if starts.is_empty() || key.data() != last_key {
                if starts.len() == KEYS_PER_BATCH {
                    break;
                }
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
        fold_batch(&self.def, &self.schema, &gathered, &starts).map(Some)
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
