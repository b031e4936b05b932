//! How the rows of a node lie over the tasks of its stage, and what each node needs of them.
//!
//! On one node, "one partition" means "all rows", and DataFusion's plans rely on it: an aggregate in one
//! step, a global sort, a limit, the build side of a join. In a stage of several tasks every task has *its*
//! one partition. This module says, node by node, whether a plan survives that:
//!
//! ```text
//!   leaf                    → Dealt     each row in one task, anywhere
//!   shuffle by hash         → Hashed    rows with equal keys in one task and partition
//!   broadcast               → Copied    every row in every task
//!   coalesce, sorted merge  → Whole     the stage above has one task
//! ```

use datafusion::common::JoinType;
use datafusion::physical_expr::{Distribution, Partitioning};
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PiecewiseMergeJoinExec, SortMergeJoinExec,
    SymmetricHashJoinExec,
};
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::union::{InterleaveExec, UnionExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

/// How rows lie over the tasks of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spread {
    /// All rows are in the stage's one task.
    Whole,
    /// Each row is in one task, whichever.
    Dealt,
    /// Rows with equal keys are in one partition of one task.
    Hashed,
    /// Every task has all rows.
    Copied,
}

/// Returns how the rows of a node lie, given how those of its children do; or why the node is wrong in a
/// stage of several tasks. Leaves and exchanges are the caller's.
pub(super) fn spread_of(
    node: &dyn ExecutionPlan,
    children: &[Spread],
) -> Result<Spread, &'static str> {
    if children.contains(&Spread::Whole) {
        return Ok(Spread::Whole);
    }
    if node.name() == "RecursiveQueryExec" {
        return Err("runs its input many times");
    }
    let one_partition = node.output_partitioning().partition_count() == 1;
    if node.is::<GlobalLimitExec>() || (node.fetch().is_some() && one_partition) {
        return Err("limits the rows of all tasks");
    }
    if is_join(node) {
        return spread_of_join(node, children);
    }
    check_inputs(node, children)?;
    match children {
        [] => Err("is a leaf that nobody dealt out"),
        [only] if node.is::<RepartitionExec>() => Ok(repartitioned(*only)),
        [only] => Ok(*only),
        several if several.contains(&Spread::Copied) => Err("would repeat copied rows"),
        several if node.is::<InterleaveExec>() && several.iter().all(|s| *s == Spread::Hashed) => {
            Ok(Spread::Hashed)
        }
        _ if node.is::<UnionExec>() || node.is::<InterleaveExec>() => Ok(Spread::Dealt),
        _ => Err("has several inputs and is not known to work on parts of them"),
    }
}

/// A repartitioning that is not an exchange deals rows out anew within each task.
fn repartitioned(input: Spread) -> Spread {
    match input {
        Spread::Copied => Spread::Copied,
        Spread::Whole => Spread::Whole,
        Spread::Dealt | Spread::Hashed => Spread::Dealt,
    }
}

fn spread_of_join(node: &dyn ExecutionPlan, children: &[Spread]) -> Result<Spread, &'static str> {
    let [left, right] = children else { return Err("is a join without two inputs") };
    match (left, right) {
        (_, Spread::Copied) => Err("would repeat the copied rows of its probe side"),
        (Spread::Copied, right) if emits_probe_side_only(node) => {
            // The build side is whole in every task; what the probe side needs is checked as for others.
            check_input(node, 1, *right)?;
            Ok(*right)
        }
        (Spread::Copied, _) => Err("would repeat unmatched rows of its copied build side"),
        (left, right) => {
            check_input(node, 0, *left)?;
            check_input(node, 1, *right)?;
            match (left, right) {
                (Spread::Hashed, Spread::Hashed) => Ok(Spread::Hashed),
                _ => Err("joins rows that may be in different tasks"),
            }
        }
    }
}

fn check_inputs(node: &dyn ExecutionPlan, children: &[Spread]) -> Result<(), &'static str> {
    for (index, child) in children.iter().enumerate() {
        check_input(node, index, *child)?;
    }
    Ok(())
}

fn check_input(node: &dyn ExecutionPlan, index: usize, input: Spread) -> Result<(), &'static str> {
    let requirements = node.input_distribution_requirements().into_per_child();
    let (Some(required), Some(child)) =
        (requirements.get(index), node.children().get(index).copied())
    else {
        return Ok(());
    };
    let by_hash = matches!(child.output_partitioning(), Partitioning::Hash(..));
    match required {
        Distribution::UnspecifiedDistribution => Ok(()),
        Distribution::SinglePartition if input == Spread::Copied => Ok(()),
        Distribution::SinglePartition => Err("needs all rows in one task"),
        // By key, under its new name or its old one.
        _ if input == Spread::Hashed && by_hash => Ok(()),
        _ if input == Spread::Copied => Ok(()),
        _ => Err("needs rows with equal keys in one task"),
    }
}

/// Whether the node joins two inputs.
pub(super) fn is_join(node: &dyn ExecutionPlan) -> bool {
    node.is::<HashJoinExec>()
        || node.is::<NestedLoopJoinExec>()
        || node.is::<CrossJoinExec>()
        || node.is::<SortMergeJoinExec>()
        || node.is::<SymmetricHashJoinExec>()
        || node.is::<PiecewiseMergeJoinExec>()
}

/// Whether the join never returns a row of its left side that it did not match with one of its right.
fn emits_probe_side_only(node: &dyn ExecutionPlan) -> bool {
    let join_type = if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        if join.null_aware {
            return false;
        }
        join.join_type()
    } else if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        join.join_type()
    } else {
        return node.is::<CrossJoinExec>();
    };
    matches!(
        join_type,
        JoinType::Inner
            | JoinType::Right
            | JoinType::RightSemi
            | JoinType::RightAnti
            | JoinType::RightMark
    )
}
