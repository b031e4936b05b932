//! Logical to physical plan, cut at exchanges into stages of tasks by the distributed runtime.
//!
//! ```text
//!   logical plan ──► planner ──► DataFusion's plan ──► runtime: stages ──► verify ──► schedule
//!                                                         ▲
//!                             placement: how many tasks, which splits, which worker
//! ```
//!
//! The runtime alone answers wrongly where a plan relies on having one partition (see `spread.rs`);
//! placement keeps such stages to one task, and [`verify`] refuses what slipped through: an internal error,
//! never an answer. With fewer than two workers a query stays DataFusion's own plan in this process.

mod few_rows;
mod folded_once;
mod join_sides;
mod known_sides;
mod orders;
mod placement;
mod planner;
mod proven;
mod spread;
mod stages;
#[cfg(test)]
mod tests;
mod verify;
mod yielding;

use std::fmt;
use std::sync::Arc;

use datafusion::common::Result as DataFusionResult;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_distributed::{
    ChannelResolver, DistributedExt, SessionStateBuilderExt, WorkerResolver,
};
use datafusion_proto::physical_plan::PhysicalExtensionCodec;
use meshwork_engine::Result;
use meshwork_engine::catalog::CatalogRegistry;
use meshwork_engine::codec::NodeCodec;
use meshwork_engine::settings::QuerySettings;
use url::Url;

use crate::cluster::Cluster;

pub(crate) use few_rows::are_few;
pub use stages::{Stage, analyzed, extent, leaves, leaves_with_metrics, stages};
pub use verify::verify;

/// Bytes read of files that make one partition of a scan: what is smaller stays on one worker.
const FILE_BYTES_PER_PARTITION: usize = 16 << 20;
/// The side of a join that is at most this large is sent to all tasks whole: that costs less than dealing both
/// sides out by their keys, and the larger side stays where it is read. One thread of each task builds the table.
const BROADCAST_BYTES_MAX: usize = 10 << 20;
const BROADCAST_ROWS_MAX: usize = 500_000;
/// With one partition DataFusion plans no exchange at all, and nothing could be distributed.
const PARTITIONS_MIN: usize = 2;

/// How plans are distributed: over whom, through which channels, with which codecs.
#[derive(Clone)]
pub struct Distribution {
    workers: Arc<dyn WorkerResolver>,
    channels: Arc<dyn ChannelResolver + Send + Sync>,
    codecs: Vec<Arc<dyn PhysicalExtensionCodec>>,
    file_bytes_per_partition: usize,
    n_tasks_max: usize,
}

impl fmt::Debug for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Distribution").finish_non_exhaustive()
    }
}

impl Distribution {
    /// Distributes over the workers that live when a query is planned.
    pub fn over(cluster: &Arc<Cluster>) -> Self {
        let channels = Arc::clone(cluster.channels());
        let workers = Arc::new(Living(Arc::clone(cluster)));
        Self::among(workers, channels, Arc::clone(cluster.catalogs()))
    }

    /// Distributes over given workers: those of the same process, for instance.
    pub fn among(
        workers: Arc<dyn WorkerResolver>,
        channels: Arc<dyn ChannelResolver + Send + Sync>,
        catalogs: Arc<CatalogRegistry>,
    ) -> Self {
        Self {
            workers,
            channels,
            codecs: vec![Arc::new(NodeCodec::new(catalogs))],
            file_bytes_per_partition: FILE_BYTES_PER_PARTITION,
            n_tasks_max: 0,
        }
    }

    /// Adds a codec for nodes or functions that all nodes know.
    #[must_use]
    pub fn with_codec(mut self, codec: Arc<dyn PhysicalExtensionCodec>) -> Self {
        self.codecs.push(codec);
        self
    }

    /// Sets how many bytes of files make one partition of a scan.
    #[must_use]
    pub fn with_file_bytes_per_partition(mut self, bytes: usize) -> Self {
        self.file_bytes_per_partition = bytes.max(1);
        self
    }

    /// Sets the most tasks of one stage; 0 means one per worker.
    #[must_use]
    pub fn with_tasks_max(mut self, n_tasks_max: usize) -> Self {
        self.n_tasks_max = n_tasks_max;
        self
    }

    /// Whether a query stays in this process: there are no two workers to share it, or nobody could cut its plan.
    ///
    /// # Errors
    /// Those of whoever lists the workers.
    pub fn keeps(&self, plan: &LogicalPlan) -> Result<bool> {
        Ok(self.is_alone()? || planner::stays_whole(plan)?)
    }

    fn is_alone(&self) -> Result<bool> {
        Ok(self.workers.get_urls()?.len() < 2 && self.n_tasks_max < 2)
    }

    /// Prepares a session to plan for the workers that live now, and to run those plans. Call it last, and
    /// again for every attempt of a query.
    pub fn configure(
        &self,
        builder: SessionStateBuilder,
        settings: &QuerySettings,
    ) -> Result<SessionStateBuilder> {
        let mut builder = builder
            .with_distributed_option_extension(shippable(settings.clone()))
            .with_physical_optimizer_rule(yielding_joins());
        if self.is_alone()? {
            return Ok(builder);
        }
        let config = builder.config().get_or_insert_default();
        let n_partitions = config.target_partitions().max(PARTITIONS_MIN);
        let options = config.options_mut();
        options.execution.target_partitions = n_partitions;
        options.optimizer.hash_join_single_partition_threshold = BROADCAST_BYTES_MAX;
        options.optimizer.hash_join_single_partition_threshold_rows = BROADCAST_ROWS_MAX;
        for codec in &self.codecs {
            builder = builder.with_distributed_user_codec_arc(Arc::clone(codec));
        }
        let builder = builder
            .with_distributed_worker_resolver(Arc::clone(&self.workers))
            .with_distributed_channel_resolver(Arc::clone(&self.channels))
            .with_distributed_desired_task_count_handler(placement::task_count)
            .with_distributed_scale_up_leaf_node_handler(placement::deal)
            .with_distributed_route_tasks_handler(placement::route)
            .with_distributed_file_scan_config_bytes_per_partition(self.file_bytes_per_partition)?
            .with_distributed_max_tasks_per_stage(self.n_tasks_max)?
            .with_distributed_children_isolator_unions(false)?
            .with_distributed_compression(None)?;
        Ok(planner::install(builder.with_distributed_planner()))
    }
}

/// Returns the rules that every session begins with: DataFusion's, but for one that can be wrong, and what its folds, its
/// choice of sides, its joins and its sorts leave out.
pub(crate) fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> =
        vec![Arc::new(folded_once::FoldedOnce)];
    for rule in PhysicalOptimizer::new().rules {
        match rule.name() {
            "aggregate_statistics" => rules.push(Arc::new(proven::ProvenAnswers::default())),
            "join_selection" => rules.extend([rule, Arc::new(known_sides::KnownSides)]),
            "EnsureRequirements" => rules.extend([Arc::new(join_sides::JoinSides), rule]),
            "SanityCheckPlan" => rules.extend([Arc::new(orders::LostOrders), rule]),
            _ => rules.push(rule),
        }
    }
    rules
}

/// Returns the rule that every plan needs, distributed or not.
pub(crate) fn yielding_joins() -> Arc<dyn PhysicalOptimizerRule + Send + Sync> {
    Arc::new(yielding::YieldingJoins)
}

/// Returns the rule that leaves a few rows in one partition.
pub(crate) fn few_rows() -> Arc<dyn PhysicalOptimizerRule + Send + Sync> {
    Arc::new(few_rows::FewRows)
}

/// The live workers of a cluster, as the runtime asks for them.
struct Living(Arc<Cluster>);

impl WorkerResolver for Living {
    fn get_urls(&self) -> DataFusionResult<Vec<Url>> {
        Ok(self.0.workers())
    }
}

/// Settings travel in headers, which carry visible ASCII only.
fn shippable(mut settings: QuerySettings) -> QuerySettings {
    for text in [&mut settings.user, &mut settings.query_id] {
        if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            *text = text.escape_default().to_string();
        }
    }
    settings
}

/// Whether the plan runs on workers at all.
pub fn is_distributed(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<datafusion_distributed::DistributedExec>()
        || plan.children().into_iter().any(is_distributed)
}
