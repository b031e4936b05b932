//! Lets no join claim an order, or a value of all its rows, that it does not have: see [`meshwork_engine::join_side`].

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{JoinType, Result};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use meshwork_engine::join_side::JoinSideExec;

use crate::pushdown::with_inputs;

/// Puts a [`JoinSideExec`] above each input of which the join above it would claim too much. To be used before anybody asks how rows
/// are ordered.
#[derive(Debug)]
pub(super) struct JoinSides;

impl PhysicalOptimizerRule for JoinSides {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(with_sides).data()
    }

    fn name(&self) -> &str {
        "join_sides"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn with_sides(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let (join_type, has_table) = if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        (*join.join_type(), true)
    } else if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        (*join.join_type(), false)
    } else if let Some(join) = node.downcast_ref::<SortMergeJoinExec>() {
        (join.join_type(), false)
    } else {
        return Ok(Transformed::no(node));
    };
    let filled = match join_type {
        JoinType::Left => [false, true],
        JoinType::Right => [true, false],
        JoinType::Full => [true, true],
        JoinType::Inner
        | JoinType::LeftSemi
        | JoinType::LeftAnti
        | JoinType::LeftMark
        | JoinType::RightSemi
        | JoinType::RightAnti
        | JoinType::RightMark => [false, false],
    };
    let mut is_changed = false;
    let mut inputs = Vec::new();
    for ((input, is_filled), is_table) in
        node.children().into_iter().zip(filled).zip([has_table, false])
    {
        let known = input.equivalence_properties();
        let says_too_much =
            is_filled && !known.constants().is_empty() || is_table && !known.oeq_class().is_empty();
        is_changed |= says_too_much;
        inputs.push(match says_too_much {
            true => Arc::new(JoinSideExec::new(Arc::clone(input))),
            false => Arc::clone(input),
        });
    }
    match is_changed {
        true => with_inputs(&node, inputs).map(Transformed::yes),
        false => Ok(Transformed::no(node)),
    }
}
