//! Reads one split: opens a session on the scan's snapshot, runs one statement, decodes its rows as they come.

use std::sync::Arc;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{FutureExt, TryStreamExt, stream};
use meshwork_engine::Result;
use meshwork_engine::connections::Purpose;
use meshwork_engine::connector::Split;
use meshwork_engine::remote::RemoteScan;
use meshwork_engine::settings::QuerySettings;

use super::connection::{Connection, Server};
use super::decode::Decoder;
use super::{splits, unchanged};
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
    let settings = settings.clone();
    let begin = async move {
        let snapshot = Some(shared.snapshot.as_str());
        let mut session = server.connect(Purpose::Read, Some(&settings), snapshot).await?;
        let is_held = unchanged::refuse_changed(&server, &mut session, &scan, &select).await?;
        session.begin_rows(&select, is_held).await?;
        let reading = Reading { session, decoder, is_open: true, server };
        Ok::<_, DataFusionError>(stream::try_unfold(reading, Reading::next))
    };
    let batches = stream::once(begin.boxed()).try_flatten();
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
}

/// A running statement.
struct Reading {
    session: Connection,
    decoder: Decoder,
    /// Whether there may be more rows.
    is_open: bool,
    server: Arc<Server>,
}

impl Reading {
    /// Returns the next batch and what goes on behind it.
    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>, DataFusionError> {
        if self.is_open {
            let deadline = self.server.configuration.statement_deadline;
            let fill = fill(&mut self.session, &mut self.decoder);
            let is_there = || self.server.answers();
            let doing = "waiting for rows of the source";
            self.is_open = while_there(deadline, doing, fill, is_there).await??;
        }
        Ok(self.decoder.take()?.map(|batch| (batch, self)))
    }
}

/// Reads rows until the batch is full; returns whether there may be more.
async fn fill(session: &mut Connection, decoder: &mut Decoder) -> Result<bool> {
    while !decoder.is_full() {
        let rows = session.next_rows(decoder.n_rows_missing()).await?;
        if rows.places.is_empty() {
            return Ok(false);
        }
        decoder.push(&rows)?;
    }
    Ok(true)
}
