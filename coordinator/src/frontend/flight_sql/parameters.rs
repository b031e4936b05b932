//! Parameters as clients send them: Arrow batches in a `DoPut`, one row for each execution.

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::server::PeekableFlightDataStream;
use datafusion::common::ScalarValue;
use futures::TryStreamExt;
use meshwork_engine::Error;
use tonic::Status;

use super::status::{status, status_of};

/// The most rows of parameters that one request may bind.
const PARAMETER_ROWS_MAX: usize = 100_000;

/// What a client sent to bind.
#[derive(Debug, Default)]
pub(super) struct Bound {
    /// Whether it sent columns at all, be it without a row.
    pub(super) has_columns: bool,
    pub(super) rows: Vec<Vec<ScalarValue>>,
}

/// Reads all rows of parameters from the stream.
pub(super) async fn read(stream: PeekableFlightDataStream) -> Result<Bound, Status> {
    let messages = stream.map_err(|status| FlightError::Tonic(Box::new(status)));
    // A client without parameters sends its command alone, with no schema behind it.
    let messages =
        messages.try_filter(|message| std::future::ready(!message.data_header.is_empty()));
    let mut batches = FlightRecordBatchStream::new_from_flight_data(messages);
    let mut bound = Bound::default();
    while let Some(batch) = batches.try_next().await? {
        if bound.rows.len() + batch.num_rows() > PARAMETER_ROWS_MAX {
            return Err(status(
                Error::resources(
                    "TOO_MANY_PARAMETERS",
                    format!("more than {PARAMETER_ROWS_MAX} rows of parameters in one request"),
                )
                .with_hint("Send them in several requests."),
            ));
        }
        if batch.num_columns() == 0 {
            continue;
        }
        for row in 0..batch.num_rows() {
            let values =
                batch.columns().iter().map(|column| ScalarValue::try_from_array(column, row));
            bound.rows.push(values.collect::<Result<_, _>>().map_err(status_of)?);
        }
    }
    bound.has_columns = batches.schema().is_some_and(|schema| !schema.fields().is_empty());
    Ok(bound)
}
