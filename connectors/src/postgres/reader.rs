//! Reads one split: opens a session on the scan's snapshot, runs one `COPY`, decodes it as it comes.

use std::pin::Pin;
use std::sync::Arc;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use meshwork_engine::Result;
use meshwork_engine::connections::Purpose;
use meshwork_engine::connector::Split;
use meshwork_engine::remote::RemoteScan;
use meshwork_engine::settings::QuerySettings;
use tokio_postgres::CopyOutStream;

use super::connection::{Connection, Server};
use super::decode::Decoder;
use super::{error, splits, unchanged};
use crate::relational::while_there;

/// Returns the rows of a split. Nothing is opened before the stream is polled; dropping it cancels.
pub(super) fn open(
    server: &Arc<Server>,
    scan: &RemoteScan,
    split: &Split,
    settings: &QuerySettings,
) -> Result<SendableRecordBatchStream> {
    let shared = splits::shared(scan)?;
    let select = splits::statement(scan, split)?;
    let decoder = Decoder::new(scan, settings.batch_size)?;
    let schema = scan.output_schema();
    let (server, scan) = (Arc::clone(server), scan.clone());
    let query_id = settings.query_id.clone();
    let begin = async move {
        let snapshot = Some(shared.snapshot.as_str());
        let mut connection = server.connect(Purpose::Read, &query_id, snapshot).await?;
        unchanged::refuse_changed(&server, &connection, &scan, &select).await?;
        let copy = format!("COPY ({select}) TO STDOUT (FORMAT binary)");
        let deadline = server.configuration.statement_deadline;
        let began = connection.copy_out(&server, &copy);
        let rows = while_there(deadline, "waiting for the source", began, || answers(&server));
        let rows = Box::pin(rows.await??);
        let reading = Reading { rows: Some(rows), connection, decoder, server };
        Ok::<_, DataFusionError>(stream::try_unfold(reading, Reading::next))
    };
    let batches = stream::once(begin.boxed()).try_flatten();
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
}

/// Asks over a session of its own whether the server is there.
async fn answers(server: &Server) -> Result<()> {
    server.connect(Purpose::Probe, "", None).await.map(drop)
}

/// A running `COPY`.
struct Reading {
    /// `None` once it has ended.
    rows: Option<Pin<Box<CopyOutStream>>>,
    connection: Connection,
    decoder: Decoder,
    server: Arc<Server>,
}

impl Reading {
    /// Returns the next batch and what goes on behind it.
    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>, DataFusionError> {
        while let Some(rows) = &mut self.rows
            && !self.decoder.is_full()
        {
            // Nearly always the next row is here already; a deadline for each would cost more than the row.
            let next = match rows.next().now_or_never() {
                Some(next) => next,
                None => {
                    let deadline = self.server.configuration.statement_deadline;
                    let doing = "waiting for rows of the source";
                    while_there(deadline, doing, rows.next(), || answers(&self.server)).await?
                }
            };
            match next {
                Some(Ok(piece)) => self.decoder.push(&piece)?,
                Some(Err(e)) => {
                    return Err(error::of_statement(&self.server.configuration, &e).into());
                }
                None => {
                    self.decoder.end()?;
                    self.connection.finished();
                    self.rows = None;
                }
            }
        }
        Ok(self.decoder.take()?.map(|batch| (batch, self)))
    }
}
