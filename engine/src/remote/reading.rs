//! One partition of a remote scan while it is read: split after split, into a bounded channel.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder,
};
use datafusion::physical_plan::stream::{
    RecordBatchReceiverStreamBuilder, RecordBatchStreamAdapter,
};
use futures::future::{Either, select};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc::{Permit, Sender};
use tokio::sync::watch;

use super::dynamic::{self, Narrowed};
use super::once::Once;
use super::{RemoteScan, spool};
use crate::connections::Wanted;
use crate::connector::{RowSource, Split};
use crate::environment;
use crate::settings::QuerySettings;

/// Batches that one partition may read ahead of its consumer.
const BATCHES_AHEAD: usize = 2;

/// The metric of a scan that counts its splits whose rows were all handed on, if nothing but the scan itself took rows
/// away.
pub(super) const SPLITS_READ: &str = "splits_read";

/// How long a consumer may leave a batch before the connection goes to somebody who wants it.
const PATIENCE: Duration = Duration::from_millis(250);

type Batches = Sender<DataFusionResult<RecordBatch>>;

/// One partition that is being read.
pub(super) struct Reading {
    pub(super) settings: QuerySettings,
    pub(super) scan: Arc<RemoteScan>,
    pub(super) source: Arc<dyn RowSource>,
    pub(super) schema: SchemaRef,
    pub(super) splits: Vec<Split>,
    /// All splits of the scan, if this leaf has them all.
    pub(super) all_splits: Option<Vec<Split>>,
    /// Which partition of how many this is.
    pub(super) place: (usize, usize),
    /// What to wait for.
    pub(super) filters: Vec<Arc<dyn PhysicalExpr>>,
    /// What other scans of the query read, and the columns that are read for them.
    pub(super) once: Option<(Arc<Once>, Vec<usize>)>,
    pub(super) runtime: Arc<RuntimeEnv>,
    pub(super) metrics: ExecutionPlanMetricsSet,
}

impl Reading {
    /// Returns the rows, which arrive from a task on the runtime for I/O; dropping the stream ends it.
    pub(super) fn start(self) -> SendableRecordBatchStream {
        let mut builder =
            RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), BATCHES_AHEAD);
        let sender = builder.tx();
        builder.spawn_on(self.run(sender), &environment::io_runtime());
        builder.build()
    }

    async fn run(mut self, sender: Batches) -> DataFusionResult<()> {
        if !self.filters.is_empty() {
            let wait_max = Duration::from_millis(self.settings.dynamic_filter_wait_ms);
            match dynamic::narrowed(&self.scan, &self.filters, &self.source, wait_max).await? {
                Narrowed::Nothing => return Ok(()),
                Narrowed::Scan(scan) => self.narrow(*scan),
            }
        }
        let metrics = BaselineMetrics::new(&self.metrics, self.place.0);
        let n_read = match self.filters.is_empty() {
            true => MetricBuilder::new(&self.metrics).counter(SPLITS_READ, self.place.0),
            // Keys of a join took rows away, too.
            false => Count::new(),
        };
        for split in &self.splits {
            let open = |scan: &RemoteScan| Ok(self.source.open(scan, split, &self.settings)?);
            let rows = match &self.once {
                Some((once, besides)) => once.rows(&self.scan, split, besides, open)?,
                None => open(&self.scan)?,
            };
            let (schema, scan) = (Arc::clone(&self.schema), Arc::clone(&self.scan));
            let rows = rows.map(move |batch| checked(batch?, &schema, &scan));
            let rows = RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows);
            if !self.deliver(Box::pin(rows), &sender, &metrics).await? {
                break;
            }
            n_read.add(1);
        }
        Ok(())
    }

    /// Hands on all rows of a split; returns whether it did: nobody may want them any more.
    async fn deliver(
        &self,
        mut rows: SendableRecordBatchStream,
        sender: &Batches,
        metrics: &BaselineMetrics,
    ) -> DataFusionResult<bool> {
        let mut wanted = self.source.wanted();
        while let Some(batch) = rows.try_next().await? {
            match place(sender, wanted.as_mut()).await {
                Place::Free(place) => {
                    metrics.record_output(batch.num_rows());
                    place.send(Ok(batch));
                }
                Place::Gone => return Ok(false),
                Place::Taken => {
                    let (schema, partition) = (&self.schema, self.place.0);
                    let runtime = &self.runtime;
                    tracing::debug!(table = %self.scan.display_name(), "rows are put aside");
                    rows = spool::put_aside(batch, rows, schema, runtime, &self.metrics, partition)
                        .await?;
                    wanted = None;
                }
            }
        }
        Ok(!sender.is_closed())
    }

    /// With more filters fewer splits may be faster. All partitions come to the same splits, and each takes its own.
    fn narrow(&mut self, scan: RemoteScan) {
        if let Some(splits) = self.all_splits.take() {
            let (partition, n_partitions) = self.place;
            let splits = self.source.recut(&scan, splits).into_iter();
            self.splits = splits.skip(partition).step_by(n_partitions).collect();
        }
        self.scan = Arc::new(scan);
    }
}

/// Whether there is room for a batch.
enum Place<'a> {
    Free(Permit<'a, DataFusionResult<RecordBatch>>),
    /// Nobody takes batches any more.
    Gone,
    /// There is none, and somebody waits for the connection.
    Taken,
}

/// Waits for room; gives up once there was none for a while and the connection is wanted.
async fn place<'a>(sender: &'a Batches, wanted: Option<&mut watch::Receiver<Wanted>>) -> Place<'a> {
    if let Ok(place) = sender.try_reserve() {
        return Place::Free(place);
    }
    let pressed = async {
        let Some(wanted) = wanted else { return std::future::pending().await };
        tokio::time::sleep(PATIENCE).await;
        if wanted.wait_for(|wanted| wanted.read).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    match select(Box::pin(sender.reserve()), Box::pin(pressed)).await {
        Either::Left((Ok(place), _)) => Place::Free(place),
        Either::Left((Err(_), _)) => Place::Gone,
        Either::Right(((), _)) => Place::Taken,
    }
}

/// A connector that returns other columns than it agreed to would corrupt results far from here.
fn checked(
    batch: RecordBatch,
    schema: &SchemaRef,
    scan: &RemoteScan,
) -> DataFusionResult<RecordBatch> {
    let types = |schema: &SchemaRef| {
        schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>()
    };
    if types(&batch.schema()) == types(schema) {
        return Ok(batch);
    }
    Err(DataFusionError::Internal(format!(
        "scan of {} returned columns {:?}, agreed were {:?}",
        scan.display_name(),
        types(&batch.schema()),
        types(schema)
    )))
}
