//! The stream of a scan that a task of its own reads.

use std::pin::pin;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::{Either, select};
use futures::stream;
use meshwork_engine::environment::{Task, within};
use meshwork_engine::{Error, ErrorKind, Result};
use tokio::sync::mpsc::Receiver;

/// Batches that a reader may be ahead of its consumer.
pub const BATCHES_AHEAD: usize = 2;

/// A source that is silent for so long is asked whether it is there.
const SILENCE_MAX: Duration = Duration::from_secs(10);

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

/// Waits for what a source sends. A server may think for long, so silence alone is no failure: as long as it lasts, `is_there`
/// asks again and again over a connection of its own, and a source that does not answer that either has gone away.
///
/// # Errors
/// That of `is_there`; `Resources` when `deadline` has passed.
pub async fn while_there<T, F>(
    deadline: Duration,
    doing: &str,
    answer: impl Future<Output = T>,
    is_there: impl Fn() -> F,
) -> Result<T>
where
    F: Future<Output = Result<()>>,
{
    let waited = async {
        let mut answer = pin!(answer);
        loop {
            if let Ok(answer) = tokio::time::timeout(SILENCE_MAX, &mut answer).await {
                return Ok(answer);
            }
            match select(&mut answer, Box::pin(is_there())).await {
                Either::Left((answer, _)) => return Ok(answer),
                // That no connection is free says nothing of the source.
                Either::Right((Err(error), _)) if error.kind == ErrorKind::Source => {
                    return Err(Error { retryable: false, ..error });
                }
                Either::Right(_) => {}
            }
        }
    };
    within(deadline, doing, waited).await?
}

/// The error of a reader whose consumer went away.
pub fn consumer_gone() -> Error {
    Error::cancelled("the consumer of a scan went away")
}
