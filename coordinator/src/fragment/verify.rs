//! Refuses distributed plans that would answer wrongly. A refusal is a defect of ours: an internal error
//! that names the node, never an answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::memory::DataSourceExec;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion_distributed::{
    DistributedExec, DistributedLeafExec, NetworkBoundaryExt, NetworkBroadcastExec,
    NetworkShuffleExec,
};
use meshwork_engine::remote::RemoteScanExec;
use meshwork_engine::{Error, Result};

use super::spread::{Spread, spread_of};

/// Checks every stage of a plan; a plan that is not distributed is as DataFusion made it, and passes.
pub fn verify(plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
    if plan.is::<DistributedExec>() {
        return plan.children().into_iter().try_for_each(|head| alone(head, Limits::Nobody));
    }
    plan.children().into_iter().try_for_each(verify)
}

/// Who limits the rows of a stage once they are together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limits {
    Consumer,
    Nobody,
}

/// A part of a stage with one task: all rows come by, so that only the stages below are in question.
fn alone(node: &Arc<dyn ExecutionPlan>, limits: Limits) -> Result<()> {
    if let Some(boundary) = node.as_network_boundary() {
        return stage(node, boundary.input_stage(), limits);
    }
    let limits = if node.fetch().is_some() { Limits::Consumer } else { Limits::Nobody };
    node.children().into_iter().try_for_each(|child| alone(child, limits))
}

/// The stage below a boundary.
fn stage(
    boundary: &Arc<dyn ExecutionPlan>,
    below: &datafusion_distributed::Stage,
    limits: Limits,
) -> Result<()> {
    let Some(head) = below.local_plan() else {
        return Err(Error::internal("a stage was sent away before it was verified"));
    };
    if below.task_count() == 1 {
        return alone(head, limits);
    }
    // The runtime repeats a consumer's limit in each of its producers, which spares rows their way.
    let spared = head.downcast_ref::<LocalLimitExec>().map(LocalLimitExec::input);
    let head = match (limits, spared) {
        (Limits::Consumer, Some(input)) => input,
        (Limits::Consumer | Limits::Nobody, _) => head,
    };
    match spread(head, below.task_count())? {
        Spread::Copied => Err(refused(boundary, "would receive copied rows from every task")),
        Spread::Whole | Spread::Dealt | Spread::Hashed => Ok(()),
    }
}

/// How the rows of a node lie in a stage of several tasks; refuses what is wrong there.
fn spread(node: &Arc<dyn ExecutionPlan>, n_tasks: usize) -> Result<Spread> {
    if let Some(boundary) = node.as_network_boundary() {
        stage(node, boundary.input_stage(), Limits::Nobody)?;
        return if node.is::<NetworkShuffleExec>() {
            Ok(Spread::Hashed)
        } else if node.is::<NetworkBroadcastExec>() {
            Ok(Spread::Copied)
        } else {
            Err(refused(node, "merges all rows, but its stage has several tasks"))
        };
    }
    if let Some(leaf) = node.downcast_ref::<DistributedLeafExec>() {
        dealt_once(leaf, n_tasks)?;
        return Ok(Spread::Dealt);
    }
    let children = node
        .children()
        .into_iter()
        .map(|child| spread(child, n_tasks))
        .collect::<Result<Vec<_>>>()?;
    spread_of(node.as_ref(), &children).map_err(|why| refused(node, why))
}

/// Checks that the tasks of a scan together read what the scan reads, and nothing twice.
fn dealt_once(leaf: &DistributedLeafExec, n_tasks: usize) -> Result<()> {
    let original = leaf.original();
    if leaf.variants().len() != n_tasks {
        return Err(refused(original, "was dealt out for another number of tasks"));
    }
    if original.fetch().is_some() && original.properties().partitioning.partition_count() == 1 {
        return Err(refused(original, "limits the rows of all tasks"));
    }
    let whole = contents([original]);
    if whole.is_none() {
        return Err(refused(original, "is a leaf of a kind that nobody knows how to deal out"));
    }
    if whole != contents(leaf.variants()) {
        return Err(refused(original, "was not dealt out exactly once"));
    }
    Ok(())
}

/// What leaves read: how often each position of each file, or each split. `None` for unknown leaves.
fn contents<'a>(
    leaves: impl IntoIterator<Item = &'a Arc<dyn ExecutionPlan>>,
) -> Option<BTreeMap<(String, i64), i64>> {
    let mut counts = BTreeMap::new();
    for leaf in leaves {
        if let Some(scan) = leaf.downcast_ref::<RemoteScanExec>() {
            for split in scan.splits() {
                let name = format!("{} {}", split.description, split.payload);
                *counts.entry((name, 0)).or_insert(0) += 1;
            }
            continue;
        }
        let files = leaf
            .downcast_ref::<DataSourceExec>()?
            .data_source()
            .downcast_ref::<FileScanConfig>()?;
        for file in files.file_groups.iter().flat_map(FileGroup::iter) {
            // A range opens at its start and closes at its end: neighbours cancel out, whoever reads them.
            let size = i64::try_from(file.object_meta.size).ok()?;
            let (start, end) =
                file.range.as_ref().map_or((0, size), |range| (range.start, range.end.min(size)));
            let path = file.object_meta.location.to_string();
            *counts.entry((path.clone(), start)).or_insert(0) += 1;
            *counts.entry((path, end)).or_insert(0) -= 1;
        }
    }
    counts.retain(|_, count| *count != 0);
    Some(counts)
}

fn refused(node: &Arc<dyn ExecutionPlan>, why: &str) -> Error {
    Error::internal(format!("the plan is not safe to distribute: {} {why}", node.name()))
        .with_hint("Please report the statement; it was not run.")
}
