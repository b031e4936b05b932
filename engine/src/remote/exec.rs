//! The plan leaf of all row sources: reads its splits, on whatever node it landed.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result as DataFusionResult, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;

use super::{RemoteScan, statistics};
use crate::connector::{RowSource, Split};
use crate::environment;
use crate::settings::QuerySettings;
use crate::statistics::TableStatistics;

/// Batches that one partition may read ahead of its consumer.
const BATCHES_AHEAD: usize = 2;

/// Reads groups of splits of one agreed scan; partition `i` reads group `i`, split after split.
#[derive(Debug)]
pub struct RemoteScanExec {
    scan: Arc<RemoteScan>,
    groups: Vec<Vec<Split>>,
    source: Arc<dyn RowSource>,
    properties: Arc<PlanProperties>,
    /// What all groups together are expected to return; known on the coordinator only.
    expected: Arc<Statistics>,
    metrics: ExecutionPlanMetricsSet,
}

impl RemoteScanExec {
    /// Returns the leaf with one partition per split.
    pub fn new(scan: RemoteScan, splits: Vec<Split>, source: Arc<dyn RowSource>) -> Self {
        let groups = splits.into_iter().map(|split| vec![split]).collect();
        Self::with_groups(Arc::new(scan), groups, source)
    }

    /// Returns the leaf with one partition per group; an empty group is an empty partition.
    pub fn with_groups(
        scan: Arc<RemoteScan>,
        groups: Vec<Vec<Split>>,
        source: Arc<dyn RowSource>,
    ) -> Self {
        // DataFusion plans need at least one partition; a scan without splits has an empty one.
        let groups = if groups.is_empty() { vec![Vec::new()] } else { groups };
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(scan.output_schema()),
            Partitioning::UnknownPartitioning(groups.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        let expected = Arc::new(Statistics::new_unknown(&scan.output_schema()));
        let metrics = ExecutionPlanMetricsSet::new();
        Self { scan, groups, source, properties, expected, metrics }
    }

    /// Returns the leaf that expects what the table's statistics say.
    #[must_use]
    pub fn expecting(mut self, table: &TableStatistics) -> Self {
        let n_splits = self.splits().count();
        self.expected = Arc::new(statistics::of_scan(&self.scan, table, n_splits));
        self
    }

    /// Returns a leaf that reads some of the splits, one partition per group.
    #[must_use]
    pub fn part(&self, groups: Vec<Vec<Split>>) -> Self {
        let n_splits = groups.iter().flatten().count();
        let expected = statistics::of_part(&self.expected, n_splits, self.splits().count());
        let part = Self::with_groups(Arc::clone(&self.scan), groups, Arc::clone(&self.source));
        Self { expected: Arc::new(expected), ..part }
    }

    /// Returns what is read.
    pub fn scan(&self) -> &Arc<RemoteScan> {
        &self.scan
    }

    /// Returns the splits, by partition.
    pub fn groups(&self) -> &[Vec<Split>] {
        &self.groups
    }

    /// Returns who reads it.
    pub fn source(&self) -> &Arc<dyn RowSource> {
        &self.source
    }

    /// Returns all splits, in order of partitions.
    pub fn splits(&self) -> impl Iterator<Item = &Split> {
        self.groups.iter().flatten()
    }
}

impl DisplayAs for RemoteScanExec {
    fn fmt_as(&self, _type: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_splits = self.splits().count();
        write!(f, "RemoteScanExec: {}, splits={n_splits}", self.scan.display_name())?;
        match self.splits().next() {
            Some(first) => write!(f, ", remote={}", self.source.describe(&self.scan, first)),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for RemoteScanExec {
    fn name(&self) -> &'static str {
        "RemoteScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    /// The rows arrive through a bounded channel from a task on the runtime for I/O; dropping the stream
    /// ends that task, and with it the remote statement.
    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DataFusionResult<SendableRecordBatchStream> {
        let settings = QuerySettings::of(context.session_config());
        let splits = self.groups.get(partition).cloned().unwrap_or_default();
        let (scan, source) = (Arc::clone(&self.scan), Arc::clone(&self.source));
        let schema = self.schema();
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&schema), BATCHES_AHEAD);
        let sender = builder.tx();
        let read = async move {
            for split in &splits {
                let mut rows = source.open(&scan, split, &settings)?;
                while let Some(batch) = rows.next().await {
                    let batch = checked(batch?, &schema, &scan)?;
                    metrics.record_output(batch.num_rows());
                    if sender.send(Ok(batch)).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        };
        builder.spawn_on(read, &environment::io_runtime());
        Ok(builder.build())
    }

    fn statistics_from_inputs(
        &self,
        _inputs: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> DataFusionResult<Arc<Statistics>> {
        let Some(group) = args.partition() else { return Ok(Arc::clone(&self.expected)) };
        let n_splits = self.groups.get(group).map_or(0, Vec::len);
        let part = statistics::of_part(&self.expected, n_splits, self.splits().count());
        Ok(Arc::new(part))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
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
