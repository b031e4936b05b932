//! Describes the stages of a plan, for EXPLAIN and for progress.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, displayable};
use datafusion_distributed::{
    DistributedExec, DistributedLeafExec, DistributedMetricsFormat, NetworkBoundaryExt,
    rewrite_distributed_plan_with_metrics,
};
use meshwork_engine::{Result, environment};

/// How long workers may take to say what their tasks did; one that was lost never does.
const METRICS_DEADLINE: Duration = Duration::from_secs(10);

/// One stage: what each of its tasks runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// 0 for the part that runs on the coordinator, which comes last.
    pub id: usize,
    /// How many tasks run it at once.
    pub n_tasks: usize,
    /// Partitions of each task's output.
    pub n_partitions: usize,
    /// The stages whose rows it reads.
    pub inputs: Vec<usize>,
    /// Its nodes, one a line, indented; where another stage begins, its number.
    pub text: String,
}

/// Returns the stages of a plan, the coordinator's first; a plan that is not distributed is one stage.
pub fn stages(plan: &Arc<dyn ExecutionPlan>) -> Vec<Stage> {
    let mut found = Vec::new();
    describe(plan, 0, 1, &mut found);
    found.sort_by_key(|stage: &Stage| stage.id);
    found
}

/// Returns how many stages a plan has, and how many tasks these are in all.
pub fn extent(plan: &Arc<dyn ExecutionPlan>) -> (usize, usize) {
    let mut extent = (1, 1);
    add_below(plan, &mut extent);
    extent
}

/// Returns the leaves of a plan as they were before they were dealt out, in the plan's order.
pub fn leaves(plan: &Arc<dyn ExecutionPlan>) -> Vec<Arc<dyn ExecutionPlan>> {
    lowest(plan).iter().map(as_planned).collect()
}

/// Returns the leaves of an executed plan with what they did, on all nodes.
///
/// # Errors
/// `Resources` when a worker does not say in time what it did.
pub async fn leaves_with_metrics(
    plan: Arc<dyn ExecutionPlan>,
) -> Result<Vec<(Arc<dyn ExecutionPlan>, MetricsSet)>> {
    let said = rewrite_distributed_plan_with_metrics(plan, DistributedMetricsFormat::Aggregated);
    let said =
        environment::within(METRICS_DEADLINE, "collecting what the workers did", said).await??;
    let with_metrics = |node| (as_planned(node), node.metrics().unwrap_or_default());
    Ok(lowest(&said).iter().map(with_metrics).collect())
}

/// Returns the nodes that read nothing from others, on all nodes, in the plan's order.
fn lowest(node: &Arc<dyn ExecutionPlan>) -> Vec<Arc<dyn ExecutionPlan>> {
    if let Some(boundary) = node.as_network_boundary() {
        return boundary.input_stage().local_plan().map_or_else(Vec::new, lowest);
    }
    let children = node.children();
    match node.is::<DistributedLeafExec>() || children.is_empty() {
        true => vec![Arc::clone(node)],
        false => children.into_iter().flat_map(lowest).collect(),
    }
}

/// Returns a leaf as it was before it was dealt out.
fn as_planned(node: &Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    let dealt = node.downcast_ref::<DistributedLeafExec>();
    dealt.map_or_else(|| Arc::clone(node), |leaf| Arc::clone(leaf.original()))
}

/// Returns an executed plan with what each operator did, on all nodes.
///
/// # Errors
/// `Resources` when a worker does not say in time what it did.
pub async fn analyzed(plan: Arc<dyn ExecutionPlan>) -> Result<String> {
    let text = datafusion_distributed::explain_analyze(plan, DistributedMetricsFormat::Aggregated);
    Ok(environment::within(METRICS_DEADLINE, "collecting what the workers did", text).await??)
}

fn add_below(node: &Arc<dyn ExecutionPlan>, extent: &mut (usize, usize)) {
    if let Some(boundary) = node.as_network_boundary() {
        let below = boundary.input_stage();
        *extent = (extent.0 + 1, extent.1 + below.task_count());
        if let Some(head) = below.local_plan() {
            add_below(head, extent);
        }
        return;
    }
    node.children().into_iter().for_each(|child| add_below(child, extent));
}

fn describe(head: &Arc<dyn ExecutionPlan>, id: usize, n_tasks: usize, found: &mut Vec<Stage>) {
    let n_partitions = head.output_partitioning().partition_count();
    let mut stage = Stage { id, n_tasks, n_partitions, inputs: Vec::new(), text: String::new() };
    write_node(head, 0, &mut stage, found);
    found.push(stage);
}

fn write_node(
    node: &Arc<dyn ExecutionPlan>,
    depth: usize,
    stage: &mut Stage,
    found: &mut Vec<Stage>,
) {
    let indent = "  ".repeat(depth);
    if let Some(boundary) = node.as_network_boundary() {
        let below = boundary.input_stage();
        let (id, n_tasks) = (below.num(), below.task_count());
        push_line(stage, &format!("{indent}{}: stage {id}, tasks={n_tasks}", node.name()));
        stage.inputs.push(id);
        if let Some(head) = below.local_plan() {
            describe(head, id, n_tasks, found);
        }
        return;
    }
    if node.is::<DistributedExec>() {
        node.children().into_iter().for_each(|head| write_node(head, depth, stage, found));
        return;
    }
    // The leaf is shown as it was before it was dealt out.
    let shown = node.downcast_ref::<DistributedLeafExec>().map_or(node, |leaf| leaf.original());
    push_line(
        stage,
        &format!("{indent}{}", displayable(shown.as_ref()).one_line().to_string().trim_end()),
    );
    for child in node.children() {
        write_node(child, depth + 1, stage, found);
    }
}

fn push_line(stage: &mut Stage, line: &str) {
    // Writing to a String cannot fail.
    let _infallible = writeln!(stage.text, "{line}");
}
