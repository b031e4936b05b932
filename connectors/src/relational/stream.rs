//! The stream of a scan that a task of its own reads.

use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;
use meshwork_engine::environment::{Task, within};
use meshwork_engine::{Error, Result};
use tokio::sync::mpsc::Receiver;

/// Batches that a reader may be ahead of its consumer.
pub const BATCHES_AHEAD: usize = 2;

/// How long a reader may take to end after it has sent its last batch.
const END_DEADLINE: Duration = Duration::from_secs(30);

/// Returns the stream of what `task` sends. Dropping the stream drops the task and `owner`. A task that
/// ends without success ends the stream with an error, never with fewer rows.
pub fn stream_of<O: Send + 'static>(
    schema: SchemaRef,
    batches: Receiver<RecordBatch>,
    task: Task<Result<()>>,
    owner: O,
) -> SendableRecordBatchStream {
    let rows = stream::unfold(Some((batches, task, owner)), |state| async move {
        let (mut batches, task, owner) = state?;
        if let Some(batch) = batches.recv().await {
            return Some((Ok(batch), Some((batches, task, owner))));
        }
        let ended = within(END_DEADLINE, "ending a scan", task).await;
        match ended.and_then(|task| task).and_then(|outcome| outcome) {
            Ok(()) => None,
            Err(error) => Some((Err(DataFusionError::from(error)), None)),
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// The error of a reader whose consumer went away.
pub fn consumer_gone() -> Error {
    Error::cancelled("the consumer of a scan went away")
}
