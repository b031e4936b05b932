//! Scans of one query that read the same rows of a table: those of the first that ends serve the others.
//!
//! Parts of a query often read one table under the same conditions: a view that is named twice, a sum that is compared with
//! its parts. What one of them has read to its end is kept, up to a bound, and another that comes to the same conditions,
//! keys of joins among them, takes it from there. Nobody waits for anybody: two that run at the same time both read. Where
//! a source has no snapshot over connections, it also makes the parts see the same rows.
//!
//! Only plans of one process are told; a task elsewhere reads for itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result as DataFusionResult;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use parking_lot::Mutex;

use super::{RemoteScan, RemoteScanExec};
use crate::connector::Split;

/// What is kept of one table in one query, in bytes.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// So many columns at most, of fixed width each, are read besides for the others.
const BESIDES_MAX: usize = 4;

/// Rows that scans of a table have read.
#[derive(Debug, Default)]
pub(super) struct Once(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    rows: BTreeMap<String, Rows>,
    n_bytes: usize,
}

/// All rows of a split, and which columns of the table they have.
#[derive(Debug, Clone)]
struct Rows {
    columns: Vec<usize>,
    batches: Vec<RecordBatch>,
}

/// Returns the plan whose scans of the same rows know of each other.
///
/// # Errors
/// DataFusion's, when a node cannot be rebuilt.
pub fn reading_once(plan: Arc<dyn ExecutionPlan>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let mut tables: BTreeMap<String, Vec<Arc<RemoteScan>>> = BTreeMap::new();
    plan.apply(|node| {
        if let Some(leaf) = node.downcast_ref::<RemoteScanExec>()
            && let Some(rows) = name_of_rows(leaf)
        {
            tables.entry(rows).or_default().push(Arc::clone(leaf.scan()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    tables.retain(|_rows, scans| scans.len() > 1);
    if tables.is_empty() {
        return Ok(plan);
    }
    let told: BTreeMap<String, (Arc<Once>, Vec<Arc<RemoteScan>>)> =
        tables.into_iter().map(|(rows, scans)| (rows, (Arc::default(), scans))).collect();
    plan.transform_up(|node| {
        let leaf = node.downcast_ref::<RemoteScanExec>();
        let told = leaf.and_then(|leaf| Some((leaf, told.get(&name_of_rows(leaf)?)?)));
        Ok(match told {
            None => Transformed::no(node),
            Some((leaf, (once, scans))) => {
                let besides = besides(leaf.scan(), scans);
                Transformed::yes(Arc::new(leaf.reading_once(Arc::clone(once), besides)))
            }
        })
    })
    .data()
}

/// Returns one text for scans that may come to the same rows; `None` for those that do not return rows as they are.
fn name_of_rows(leaf: &RemoteScanExec) -> Option<String> {
    let scan = leaf.scan();
    if !scan.returns_what_passes() || scan.counts_rows() {
        return None;
    }
    let n_keys = leaf.dynamic_filters().len();
    serde_json::to_string(&(scan.key().to_string(), &scan.filters, n_keys > 0)).ok()
}

/// Returns the columns that a scan reads for the others; none if these are many, or long.
fn besides(scan: &RemoteScan, all: &[Arc<RemoteScan>]) -> Vec<usize> {
    let mut besides: Vec<usize> = all.iter().flat_map(|other| other.projection.clone()).collect();
    besides.retain(|column| !scan.projection.contains(column));
    besides.sort_unstable();
    besides.dedup();
    let is_short = |column: &usize| {
        let column = scan.columns.get(*column);
        column.is_some_and(|column| column.data_type.primitive_width().is_some())
    };
    match besides.len() <= BESIDES_MAX && besides.iter().all(is_short) {
        true => besides,
        false => Vec::new(),
    }
}

impl Once {
    /// Returns the rows of a split as the scan wants them: those that were kept, or those that `open` reads with the columns
    /// `besides`, which are kept for the others.
    pub(super) fn rows(
        self: &Arc<Self>,
        scan: &RemoteScan,
        split: &Split,
        besides: &[usize],
        open: impl FnOnce(&RemoteScan) -> DataFusionResult<SendableRecordBatchStream>,
    ) -> DataFusionResult<SendableRecordBatchStream> {
        let Ok(key) = serde_json::to_string(&(&scan.filters, &split.payload, &scan.shared)) else {
            return open(scan);
        };
        let schema = scan.output_schema();
        if let Some(batches) = self.kept(&key, &scan.projection)? {
            return Ok(Box::pin(MemoryStream::try_new(batches, schema, None)?));
        }
        let columns = [scan.projection.as_slice(), besides].concat();
        let rows = open(&RemoteScan { projection: columns.clone(), ..scan.clone() })?;
        let own: Vec<usize> = (0..scan.projection.len()).collect();
        let (mut read, mut n_bytes) = (Some(Vec::new()), 0);
        let once = Arc::clone(self);
        // Behind the last batch, all were read.
        let rows = rows.map(Some).chain(futures::stream::iter([None]));
        let own_schema = Arc::clone(&schema);
        let rows = rows.filter_map(move |batch| {
            let batch = match batch {
                Some(Ok(batch)) => {
                    n_bytes += batch.get_array_memory_size();
                    if n_bytes > KEPT_BYTES_MAX {
                        read = None;
                    }
                    if let Some(read) = &mut read {
                        read.push(batch.clone());
                    }
                    Some(only(&batch, &own, &own_schema))
                }
                Some(Err(error)) => {
                    read = None;
                    Some(Err(error))
                }
                None => {
                    if let Some(batches) = read.take() {
                        once.keep(key.clone(), Rows { columns: columns.clone(), batches }, n_bytes);
                    }
                    None
                }
            };
            futures::future::ready(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    fn keep(&self, key: String, rows: Rows, n_bytes: usize) {
        let mut kept = self.0.lock();
        if kept.n_bytes + n_bytes <= KEPT_BYTES_MAX && !kept.rows.contains_key(&key) {
            kept.n_bytes += n_bytes;
            kept.rows.insert(key, rows);
        }
    }

    /// Returns kept rows with these columns of the table, if they have them.
    fn kept(&self, key: &str, wanted: &[usize]) -> DataFusionResult<Option<Vec<RecordBatch>>> {
        let Some(Rows { columns, batches }) = self.0.lock().rows.get(key).cloned() else {
            return Ok(None);
        };
        let place = |wanted: &usize| columns.iter().position(|column| column == wanted);
        let Some(places) = wanted.iter().map(place).collect::<Option<Vec<usize>>>() else {
            return Ok(None);
        };
        let batches = batches.iter().map(|batch| batch.project(&places));
        Ok(Some(batches.collect::<Result<_, _>>()?))
    }
}

/// Returns the columns at these places.
fn only(
    batch: &RecordBatch,
    places: &[usize],
    schema: &SchemaRef,
) -> DataFusionResult<RecordBatch> {
    let batch = batch.project(places)?;
    Ok(batch.with_schema(Arc::clone(schema))?)
}
