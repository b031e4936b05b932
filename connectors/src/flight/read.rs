//! Reads one scan: its statement, where the answer lies, and the rows of all its endpoints.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::sql::CommandStatementQuery;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use meshwork_engine::remote::RemoteScan;
use meshwork_engine::{Error, Result};

use super::client::Client;
use super::error;
use super::pushdown::Sql;
use crate::relational::{counted, select};

/// Endpoints of one answer that are taken; a server that cuts finer has to cut coarser.
const ENDPOINTS_MAX: usize = 10_000;
/// Endpoints that are read at once.
const ENDPOINTS_AT_ONCE: usize = 4;

/// Returns the statement of a scan: a mere count of rows is counted by the server.
pub(super) fn statement(scan: &RemoteScan) -> Result<String> {
    let rows = select(&Sql::of(scan), scan, None)?;
    Ok(match scan.counts_rows() {
        true => format!("SELECT count(*) AS n FROM ({rows}) AS counted"),
        false => rows,
    })
}

/// Returns the rows of a scan. Nothing is asked before the stream is polled; dropping it drops the calls.
pub(super) fn open(
    client: &Arc<Client>,
    scan: &RemoteScan,
    batch_size: usize,
) -> Result<SendableRecordBatchStream> {
    let schema = scan.output_schema();
    let reader = Arc::new(Reader {
        client: Arc::clone(client),
        schema: Arc::clone(&schema),
        table: scan.display_name(),
    });
    let query = statement(scan)?;
    let counts = scan.counts_rows();
    let begin = async move {
        let endpoints = reader.endpoints(query).await?;
        let rows = endpoints.map(Ok::<_, Error>).try_flatten_unordered(ENDPOINTS_AT_ONCE);
        Ok::<_, DataFusionError>(match counts {
            true => reader.counted(rows.boxed(), batch_size).await?,
            false => rows.map(move |batch| Ok(reader.shaped(batch?)?)).boxed(),
        })
    };
    let batches = stream::once(begin.boxed()).try_flatten();
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
}

/// What reading one answer needs to know.
struct Reader {
    client: Arc<Client>,
    /// The columns that are wanted.
    schema: SchemaRef,
    table: String,
}

type Batches = BoxStream<'static, Result<RecordBatch>>;

impl Reader {
    /// Asks the query and returns the rows of each endpoint of its answer.
    async fn endpoints(
        self: &Arc<Self>,
        query: String,
    ) -> Result<impl futures::Stream<Item = Batches> + Send + use<>> {
        let command = CommandStatementQuery { query, transaction_id: None };
        let endpoints = self.client.info(&command).await?.endpoint;
        if endpoints.len() > ENDPOINTS_MAX {
            let said = format!("an answer lies in {} places", endpoints.len());
            return Err(error::protocol(&self.client.options, &said));
        }
        let reader = Arc::clone(self);
        Ok(stream::iter(endpoints).map(move |endpoint| {
            let reader = Arc::clone(&reader);
            let begin = async move {
                let rows = reader.client.rows(&endpoint).await?;
                Ok::<_, Error>(stream::try_unfold((reader, rows), next_batch))
            };
            stream::once(begin.boxed()).try_flatten().boxed()
        }))
    }

    /// Returns a batch in the columns that are wanted.
    fn shaped(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let wanted = self.schema.fields();
        if batch.num_columns() != wanted.len() {
            let (found, asked) = (batch.num_columns(), wanted.len());
            let said = format!("it sent {found} columns of {asked} that were asked for");
            return Err(error::protocol(&self.client.options, &said));
        }
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(wanted.len());
        for (array, field) in batch.columns().iter().zip(wanted) {
            let cast = cast_with_options(array, field.data_type(), &strict).map_err(|e| {
                let (name, table, found) = (field.name(), &self.table, array.data_type());
                let message = format!(
                    "column \"{name}\" of table \"{table}\" is {} and arrives as {found}, of which a value is none",
                    field.data_type()
                );
                Error::source("SOURCE_VALUE_MISMATCH", message).caused_by(&e)
            })?;
            columns.push(cast);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(
            |e| {
                error::protocol(&self.client.options, "rows break their declarations").caused_by(&e)
            },
        )
    }

    /// Returns rows without columns, as many as the server counted.
    async fn counted(
        &self,
        mut counts: Batches,
        batch_size: usize,
    ) -> Result<BoxStream<'static, Result<RecordBatch, DataFusionError>>> {
        let mut n_rows = 0;
        while let Some(batch) = counts.try_next().await? {
            let no_count = || error::protocol(&self.client.options, "a count is no number");
            let numbers = batch.columns().first().ok_or_else(no_count)?;
            let numbers = arrow::compute::cast(numbers, &DataType::Int64)?;
            let numbers = numbers.as_primitive_opt::<Int64Type>().ok_or_else(no_count)?;
            for number in numbers {
                n_rows += number.and_then(|n| u64::try_from(n).ok()).ok_or_else(no_count)?;
            }
        }
        let batches: Vec<_> = counted(&self.schema, n_rows, batch_size).collect();
        Ok(stream::iter(batches).map_err(DataFusionError::from).boxed())
    }
}

/// Returns the next rows of an endpoint, and what goes on behind them.
async fn next_batch(
    (reader, mut rows): (Arc<Reader>, FlightRecordBatchStream),
) -> Result<Option<(RecordBatch, (Arc<Reader>, FlightRecordBatchStream))>> {
    // Nearly always they are here already.
    let next = match rows.next().now_or_never() {
        Some(next) => next,
        None => reader.client.within("waiting for rows", rows.next()).await?,
    };
    let batch = next.transpose().map_err(|e| error::of_flight(&reader.client.options, &e))?;
    Ok(batch.map(|batch| (batch, (reader, rows))))
}
