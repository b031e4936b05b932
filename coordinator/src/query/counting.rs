//! What a query's scans returned, noted for the plans of later queries.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::Result as DataFusionResult;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use datafusion::physical_plan::ExecutionPlan;
use futures::{FutureExt, Stream, StreamExt};
use meshwork_engine::environment::{self, Task};
use meshwork_engine::remote::RemoteScanExec;
use meshwork_engine::statistics::Counted;
use parking_lot::Mutex;

use crate::fragment;

/// Notes are taken behind the queries, and so many at once at most; what is missed is counted another time.
const N_NOTES_MAX: usize = 64;

/// Takes the notes of all queries.
#[derive(Debug, Default)]
pub(super) struct Counting(Mutex<Vec<Task<()>>>);

impl Counting {
    /// Returns the same rows. When all have left, what the scans of the plan returned is noted in `counted`.
    pub(super) fn of(
        self: &Arc<Self>,
        rows: SendableRecordBatchStream,
        plan: &Arc<dyn ExecutionPlan>,
        counted: &Arc<Counted>,
    ) -> SendableRecordBatchStream {
        if !fragment::leaves(plan).iter().any(|leaf| leaf.is::<RemoteScanExec>()) {
            return rows;
        }
        let (counting, plan, counted) = (Arc::clone(self), Arc::clone(plan), Arc::clone(counted));
        let note = move || counting.note(plan, counted);
        Box::pin(Rows { rows, note: Some(Box::new(note)) })
    }

    fn note(&self, plan: Arc<dyn ExecutionPlan>, counted: Arc<Counted>) {
        let mut notes = self.0.lock();
        notes.retain(|note| !note.is_finished());
        if notes.len() >= N_NOTES_MAX {
            return;
        }
        let note = async move {
            match fragment::leaves_with_metrics(plan).await {
                Ok(leaves) => {
                    for (leaf, metrics) in leaves {
                        if let Some(scan) = leaf.downcast_ref::<RemoteScanExec>()
                            && let Some(n_rows) = scan.counted(&metrics)
                        {
                            counted.note(scan.scan(), n_rows);
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "what a query counted is not known"),
            }
        };
        // The plan of one process knows at once.
        let mut note = Box::pin(note);
        if note.as_mut().now_or_never().is_none() {
            notes.push(environment::spawn("counting", note));
        }
    }
}

struct Rows {
    rows: SendableRecordBatchStream,
    /// What is done once, at their end.
    note: Option<Box<dyn FnOnce() + Send>>,
}

impl Stream for Rows {
    type Item = DataFusionResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.rows.poll_next_unpin(context));
        match &next {
            None => {
                if let Some(note) = self.note.take() {
                    note();
                }
            }
            Some(Err(_)) => self.note = None,
            Some(Ok(_)) => {}
        }
        Poll::Ready(next)
    }
}

impl RecordBatchStream for Rows {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
}
