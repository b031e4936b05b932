//! Last stage to client: rows cross from the runtime that computes to the one that sends, a few batches at a
//! time, and the query ends when its stream ends or is dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, UInt64Array};
use datafusion::arrow::datatypes::{SchemaRef, UInt64Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::{
    RecordBatchReceiverStreamBuilder, RecordBatchStreamAdapter,
};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::{Stream, StreamExt, future};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::{Error, Result, environment};

use crate::history::{History, QueryRecord};
use crate::resolve::batch_of;

/// Batches that are computed ahead of the client.
const BATCHES_AHEAD: usize = 2;

/// Ends its query in the history when it is dropped, if nothing ended it before: then nobody wants it.
#[derive(Debug)]
pub(crate) struct EndGuard {
    history: Arc<History>,
    record: Arc<QueryRecord>,
}

impl EndGuard {
    pub(crate) fn new(history: Arc<History>, record: Arc<QueryRecord>) -> Self {
        Self { history, record }
    }

    pub(crate) fn record(&self) -> &Arc<QueryRecord> {
        &self.record
    }

    pub(crate) fn end(&self, error: Option<&Error>) {
        self.history.end(&self.record, error.cloned());
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.end(Some(&Error::cancelled("the client went away")));
    }
}

/// Starts a plan on the runtime that computes; its rows arrive through a bounded channel.
pub(crate) fn run(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    record: &QueryRecord,
) -> Result<SendableRecordBatchStream> {
    record.running(1, 1);
    let schema = plan.schema();
    let mut builder = RecordBatchReceiverStreamBuilder::new(schema, BATCHES_AHEAD);
    let sender = builder.tx();
    let compute = async move {
        let mut rows = execute_stream(plan, context)?;
        while let Some(batch) = rows.next().await {
            if sender.send(batch).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    builder.spawn_on(compute, &environment::cpu_runtime());
    Ok(builder.build())
}

/// Runs a plan to its end and returns how many rows it made.
pub(crate) async fn count_rows(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
) -> Result<u64> {
    let compute = environment::spawn_on(&environment::cpu_runtime(), "analyze", async move {
        let mut rows = execute_stream(plan, context)?;
        let mut count = 0;
        while let Some(batch) = rows.next().await {
            count += batch?.num_rows() as u64;
        }
        Ok::<_, DataFusionError>(count)
    });
    Ok(compute.await??)
}

/// Returns the stream for the client: it counts rows, obeys cancellation and the deadline, and ends its query.
pub(crate) fn deliver(
    rows: SendableRecordBatchStream,
    guard: EndGuard,
    scope: Arc<QueryScope>,
    deadline: Duration,
) -> SendableRecordBatchStream {
    let record = Arc::clone(guard.record());
    let stop = async move {
        let seconds = deadline.as_secs();
        tokio::select! {
            () = record.cancel.cancelled() => Error::cancelled("the query was cancelled"),
            () = tokio::time::sleep(deadline) => {
                let mut late = Error::cancelled(format!("the query took longer than {seconds} s"));
                late.code = "QUERY_TIMEOUT".to_owned();
                late.with_hint("SET SESSION query_timeout_s raises the limit.")
            }
        }
    };
    let schema = rows.schema();
    Box::pin(Delivery { rows: Some(rows), schema, stop: Box::pin(stop), guard, scope: Some(scope) })
}

struct Delivery {
    rows: Option<SendableRecordBatchStream>,
    schema: SchemaRef,
    stop: Pin<Box<dyn Future<Output = Error> + Send>>,
    guard: EndGuard,
    scope: Option<Arc<QueryScope>>,
}

impl Delivery {
    /// Lets go of everything that the query held, and notes how it ended.
    fn end(&mut self, error: Option<Error>) -> Option<DataFusionResult<RecordBatch>> {
        self.rows = None;
        self.scope = None;
        self.guard.end(error.as_ref());
        error.map(|error| Err(error.into()))
    }
}

impl Stream for Delivery {
    type Item = DataFusionResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.rows.is_none() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(error) = self.stop.as_mut().poll(cx) {
            return Poll::Ready(self.end(Some(error)));
        }
        let Some(rows) = self.rows.as_mut() else { return Poll::Ready(None) };
        match std::task::ready!(rows.poll_next_unpin(cx)) {
            Some(Ok(batch)) => {
                self.guard.record().add_rows(batch.num_rows());
                Poll::Ready(Some(Ok(batch)))
            }
            Some(Err(error)) => Poll::Ready(self.end(Some(Error::from(error)))),
            None => Poll::Ready(self.end(None)),
        }
    }
}

impl RecordBatchStream for Delivery {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// Returns the count that an insert's plan gives, under the name `rows`.
pub(crate) fn as_count(rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let renamed = |batch: DataFusionResult<RecordBatch>| {
        let count = batch?
            .column(0)
            .as_primitive_opt::<UInt64Type>()
            .map_or(0, |counts| counts.iter().flatten().sum());
        Ok(count_batch(count)?)
    };
    let schema = count_schema();
    let rows = rows
        .map(renamed)
        .filter(|batch| future::ready(!matches!(batch, Ok(batch) if batch.num_rows() == 0)));
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// Returns the answer of a statement that changed so many rows.
pub(crate) fn count_batch(rows: u64) -> Result<RecordBatch> {
    let count: ArrayRef = Arc::new(UInt64Array::from(vec![rows]));
    debug_assert_eq!(count.len(), 1);
    batch_of(vec![("rows", count)])
}

fn count_schema() -> SchemaRef {
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    Arc::new(Schema::new(vec![Field::new("rows", DataType::UInt64, true)]))
}
