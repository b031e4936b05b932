//! The plan leaf of all row sources: reads its splits, on whatever node it landed.

use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as DataFusionResult, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt, stream};

use super::once::Once;
use super::reading::{Reading, SPLITS_READ};
use super::{Join, Refusal, RemoteScan, dynamic, statistics};
use crate::connector::{RowSource, Split};
use crate::settings::QuerySettings;
use crate::statistics::TableStatistics;

/// A list of keys may be long; its beginning says enough.
const FILTER_CHARS_SHOWN: usize = 300;

/// Reads groups of splits of one agreed scan; partition `i` reads group `i`, split after split.
#[derive(Debug)]
pub struct RemoteScanExec {
    scan: Arc<RemoteScan>,
    groups: Vec<Vec<Split>>,
    source: Arc<dyn RowSource>,
    /// Whether other leaves read other splits of the scan.
    is_part: bool,
    /// Conditions that become known while the query runs; see [`super::dynamic`].
    dynamic_filters: Vec<Arc<dyn PhysicalExpr>>,
    /// Whether these are known before a row of the scan is needed, so that it may wait for them.
    waits: bool,
    /// What other scans of the query read of the table, and the columns that are read for them; see [`super::once`].
    once: Option<(Arc<Once>, Vec<usize>)>,
    /// What the source was offered and did not take: for EXPLAIN, so it stays on the node that plans.
    refusals: Vec<Refusal>,
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

    fn with_groups(
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
        Self {
            scan,
            groups,
            source,
            is_part: false,
            dynamic_filters: Vec::new(),
            waits: false,
            once: None,
            refusals: Vec::new(),
            properties,
            expected,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// Returns the leaf that expects what the table's statistics say.
    #[must_use]
    pub fn expecting(mut self, table: &TableStatistics) -> Self {
        let n_splits = self.splits().count();
        self.expected = Arc::new(statistics::of_scan(&self.scan, table, n_splits));
        self
    }

    /// Returns a leaf that reads some of the splits, with one partition per group; an empty group is an empty
    /// partition.
    #[must_use]
    pub fn part(&self, groups: Vec<Vec<Split>>) -> Self {
        let n_splits = groups.iter().flatten().count();
        let expected = statistics::of_part(&self.expected, n_splits, self.splits().count());
        let part = Self::with_groups(Arc::clone(&self.scan), groups, Arc::clone(&self.source));
        Self {
            is_part: true,
            dynamic_filters: self.dynamic_filters.clone(),
            expected: Arc::new(expected),
            ..part
        }
    }

    /// Returns the leaf that another node described.
    pub(crate) fn decoded(
        scan: Arc<RemoteScan>,
        groups: Vec<Vec<Split>>,
        source: Arc<dyn RowSource>,
        is_part: bool,
    ) -> Self {
        Self { is_part, ..Self::with_groups(scan, groups, source) }
    }

    /// Whether other leaves read other splits of the scan.
    pub(crate) fn is_part(&self) -> bool {
        self.is_part
    }

    /// Returns the leaf with conditions that become known while the query runs, in place of those that it has. It does
    /// not wait for them.
    #[must_use]
    pub(crate) fn with_dynamic_filters(&self, filters: Vec<Arc<dyn PhysicalExpr>>) -> Self {
        Self { dynamic_filters: filters, waits: false, ..self.copied() }
    }

    /// Returns the leaf that waits for these conditions, which become known before it has to return a row.
    #[must_use]
    pub(super) fn waiting_for(&self, filters: Vec<Arc<dyn PhysicalExpr>>) -> Self {
        Self { dynamic_filters: filters, waits: true, ..self.copied() }
    }

    /// Returns the leaf of a scan to which the source agreed after this one was cut into splits.
    #[must_use]
    pub fn agreed(&self, scan: RemoteScan) -> Self {
        let splits = self.source.recut(&scan, self.splits().cloned().collect());
        let expected = statistics::of_agreed(&self.expected, &scan, splits.len());
        let leaf = Self::new(scan, splits, Arc::clone(&self.source));
        Self { refusals: self.refusals.clone(), expected: Arc::new(expected), ..leaf }
    }

    /// Returns the leaf of a join to which the source agreed, with this leaf as its left side; `expected` is what it returns.
    #[must_use]
    pub fn joined(&self, join: Join, expected: Statistics) -> Self {
        let splits = self.splits().cloned().collect();
        let leaf = Self::new(RemoteScan::joined(join), splits, Arc::clone(&self.source));
        Self { refusals: self.refusals.clone(), expected: Arc::new(expected), ..leaf }
    }

    /// Returns the leaf that returns only some of the columns that it returned, by their places.
    #[must_use]
    pub fn narrowed(&self, columns: &[usize]) -> Self {
        let at = |place: &usize| self.scan.projection.get(*place).copied();
        let projection = columns.iter().filter_map(at).collect();
        let scan = RemoteScan { projection, ..self.scan.as_ref().clone() };
        let expected = self.expected.as_ref().clone().project(Some(&columns));
        let leaf = Self::with_groups(Arc::new(scan), self.groups.clone(), Arc::clone(&self.source));
        Self { refusals: self.refusals.clone(), expected: Arc::new(expected), ..leaf }
    }

    /// Returns what all groups together are expected to return.
    pub fn expected(&self) -> &Statistics {
        &self.expected
    }

    /// Returns the conditions that become known while the query runs.
    pub fn dynamic_filters(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.dynamic_filters
    }

    /// Returns the leaf that shares what it reads with other scans of the query, some columns of the table besides.
    pub(super) fn reading_once(&self, once: Arc<Once>, besides: Vec<usize>) -> Self {
        Self { once: Some((once, besides)), ..self.copied() }
    }

    fn copied(&self) -> Self {
        Self {
            is_part: self.is_part,
            dynamic_filters: self.dynamic_filters.clone(),
            waits: self.waits,
            once: self.once.clone(),
            refusals: self.refusals.clone(),
            expected: Arc::clone(&self.expected),
            ..Self::with_groups(
                Arc::clone(&self.scan),
                self.groups.clone(),
                Arc::clone(&self.source),
            )
        }
    }

    /// Returns the leaf with one more piece of work that the source did not take.
    #[must_use]
    pub fn refused(&self, refusal: Refusal) -> Self {
        let refusals = self.refusals.iter().cloned().chain([refusal]).collect();
        Self { refusals, ..self.copied() }
    }

    /// Returns what the source was offered as a leaf and did not take.
    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
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

    /// Returns how many rows of the table passed the scan's conditions, if it counted them: all splits were read to their
    /// ends, and it neither stopped early nor gathered rows. `metrics` are those of all its tasks.
    pub fn counted(&self, metrics: &MetricsSet) -> Option<u64> {
        let n_splits = self.splits().count();
        let n_read = metrics.sum_by_name(SPLITS_READ).map_or(0, |n_read| n_read.as_usize());
        let counts = n_splits > 0 && n_read == n_splits && self.scan.returns_what_passes();
        counts.then(|| metrics.output_rows().unwrap_or_default() as u64)
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
        if let Some(first) = self.splits().next() {
            write!(f, ", remote={}", self.source.describe(&self.scan, first))?;
        }
        if self.once.is_some() {
            f.write_str(", read once")?;
        }
        for filter in &self.dynamic_filters {
            let text: String = filter.to_string().chars().take(FILTER_CHARS_SHOWN).collect();
            write!(f, ", dynamic_filter={text}")?;
        }
        Ok(())
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
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        for filter in &self.dynamic_filters {
            if visit(filter)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    /// Notes the filters that become known later; whoever pushes them checks them as well. A scan that stops early
    /// needs all that it finds.
    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        result: ChildPushdownResult,
        _config: &ConfigOptions,
    ) -> DataFusionResult<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let offered = result.parent_filters.into_iter().map(|parent| parent.filter);
        let (mut dynamic, mut answers) = (self.dynamic_filters.clone(), Vec::new());
        for filter in offered {
            answers.push(PushedDown::No);
            if !dynamic::ids_in(&filter).is_empty() {
                dynamic.push(filter);
            }
        }
        let takes = matches!(phase, FilterPushdownPhase::Post)
            && self.scan.limit.is_none()
            && dynamic.len() > self.dynamic_filters.len();
        let updated: Option<Arc<dyn ExecutionPlan>> = match takes {
            true => Some(Arc::new(self.with_dynamic_filters(dynamic))),
            false => None,
        };
        Ok(FilterPushdownPropagation { filters: answers, updated_node: updated })
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    /// The rows arrive through a bounded channel from a task on the runtime for I/O; dropping the stream
    /// ends that task, and with it the remote statement. A scan that waits for a join begins when its first row is
    /// wanted: a join that wants rows knows its keys.
    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DataFusionResult<SendableRecordBatchStream> {
        let (schema, settings) = (self.schema(), QuerySettings::of(context.session_config()));
        let filters = match self.waits && settings.dynamic_filter_wait_ms > 0 {
            true => self.dynamic_filters.clone(),
            false => Vec::new(),
        };
        let waits = !filters.is_empty();
        let reading = Reading {
            settings,
            scan: Arc::clone(&self.scan),
            source: Arc::clone(&self.source),
            schema: Arc::clone(&schema),
            splits: self.groups.get(partition).cloned().unwrap_or_default(),
            all_splits: (!self.is_part).then(|| self.splits().cloned().collect()),
            place: (partition, self.groups.len()),
            filters,
            once: self.once.clone(),
            runtime: context.runtime_env(),
            metrics: self.metrics.clone(),
        };
        Ok(match waits {
            false => reading.start(),
            true => {
                let rows = stream::once(async move { reading.start() }).flatten();
                Box::pin(RecordBatchStreamAdapter::new(schema, rows))
            }
        })
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
