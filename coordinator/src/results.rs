//! Last stage to client: what a query holds is let go when its stream ends, fails, is cancelled or is dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{Stream, StreamExt, future};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::{Error, Result};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::history::{History, QueryRecord};
use crate::parse::{is_repeated, shown_name};
use crate::resolve::batch_of;
use crate::schedule::Admitted;

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

/// Fetches all rows and returns how many there were.
pub(crate) async fn count_rows(mut rows: SendableRecordBatchStream) -> Result<u64> {
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        count += batch?.num_rows() as u64;
    }
    Ok(count)
}

/// Returns the value of a subquery: NULL of no rows, `None` of several.
pub(crate) async fn only_value(mut rows: SendableRecordBatchStream) -> Result<Option<ScalarValue>> {
    let mut value = None;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        if batch.num_rows() == 0 {
            continue;
        }
        if batch.num_rows() > 1 || value.is_some() {
            return Ok(None);
        }
        value = Some(ScalarValue::try_from_array(batch.column(0), 0)?);
    }
    match value {
        Some(value) => Ok(Some(value)),
        None => Ok(Some(ScalarValue::try_from(rows.schema().field(0).data_type())?)),
    }
}

/// Runs an insert to its end and returns how many rows it wrote.
pub(crate) async fn changed(mut insert: SendableRecordBatchStream) -> Result<u64> {
    let mut count = 0;
    while let Some(batch) = insert.next().await {
        count += count_in(&batch?);
    }
    Ok(count)
}

/// What a query holds until its last row was fetched.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) guard: EndGuard,
    held: Option<(Arc<QueryScope>, Admitted)>,
}

impl Kept {
    pub(crate) fn new(guard: EndGuard, scope: &Arc<QueryScope>, admitted: Admitted) -> Self {
        Self { guard, held: Some((Arc::clone(scope), admitted)) }
    }
}

/// Returns the columns under the names that users see.
pub(crate) fn shown(schema: &SchemaRef) -> SchemaRef {
    if !schema.fields().iter().any(|field| is_repeated(field.name())) {
        return Arc::clone(schema);
    }
    let field = |field: &Arc<Field>| field.as_ref().clone().with_name(shown_name(field.name()));
    let fields: Vec<Field> = schema.fields().iter().map(field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// Returns the stream for the client: it counts rows, obeys cancellation, and ends its query.
pub(crate) fn deliver(rows: SendableRecordBatchStream, kept: Kept) -> SendableRecordBatchStream {
    let schema = shown(&rows.schema());
    let is_renamed = !Arc::ptr_eq(&schema, &rows.schema());
    let cancelled = Box::pin(kept.guard.record().cancel.clone().cancelled_owned());
    Box::pin(Delivery { rows: Some(rows), schema, is_renamed, cancelled, kept })
}

struct Delivery {
    rows: Option<SendableRecordBatchStream>,
    schema: SchemaRef,
    is_renamed: bool,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    kept: Kept,
}

impl Delivery {
    /// Gives a batch the names that users see, where they are others than the plan's.
    fn named(&self, batch: RecordBatch) -> DataFusionResult<RecordBatch> {
        if !self.is_renamed {
            return Ok(batch);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let (schema, columns) = (Arc::clone(&self.schema), batch.columns().to_vec());
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }

    /// Lets go of everything that the query held, and notes how it ended.
    fn end(&mut self, error: Option<Error>) -> Option<DataFusionResult<RecordBatch>> {
        self.rows = None;
        self.kept.held = None;
        self.kept.guard.end(error.as_ref());
        error.map(|error| Err(error.into()))
    }
}

impl Stream for Delivery {
    type Item = DataFusionResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.rows.is_some() && self.cancelled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(self.end(Some(Error::cancelled("the query was cancelled"))));
        }
        let Some(rows) = self.rows.as_mut() else { return Poll::Ready(None) };
        match std::task::ready!(rows.poll_next_unpin(cx)) {
            Some(Ok(batch)) => {
                self.kept.guard.record().add_rows(batch.num_rows());
                Poll::Ready(Some(self.named(batch)))
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
    let renamed = |batch: DataFusionResult<RecordBatch>| Ok(count_batch(count_in(&batch?))?);
    let schema = count_schema();
    let rows = rows
        .map(renamed)
        .filter(|batch| future::ready(!matches!(batch, Ok(batch) if batch.num_rows() == 0)));
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// Returns the count that a batch of an insert's plan holds.
fn count_in(batch: &RecordBatch) -> u64 {
    let counts = batch.column(0).as_primitive_opt::<UInt64Type>();
    counts.map_or(0, |counts| counts.iter().flatten().sum())
}

/// Returns the answer of a statement that changed so many rows.
pub(crate) fn count_batch(rows: u64) -> Result<RecordBatch> {
    let count: ArrayRef = Arc::new(UInt64Array::from(vec![rows]));
    debug_assert_eq!(count.len(), 1);
    batch_of(vec![("rows", count)])
}

fn count_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("rows", DataType::UInt64, true)]))
}
