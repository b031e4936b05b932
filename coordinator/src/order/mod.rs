//! The order of inner joins, by what is known of the tables: what is small comes first, and what lies in one source
//! meets there.
//!
//! ```text
//! optimized plan ──► tables: what is known ──► graph: relations and equalities ──► cost: the cheapest tree ──► plan
//!                                                   └─ estimate: rows of a relation
//! ```
//! DataFusion joins in the order in which a query names its tables. That is dear where a table lies behind a network: it is
//! read whole, unless the side that it meets is small enough to send its keys. A group of joins stays as it is unless all its
//! relations are known and another order costs clearly less. Only plans that read a row source are looked at: over files the
//! written order loses little, and knowing more costs a look at each of them.

mod cost;
mod estimate;
mod graph;
mod tables;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::common::Result as DataFusionResult;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::{Optimizer, OptimizerContext};

use self::graph::Graph;
use self::tables::Tables;

/// Another order has to cost at most this part of the written one: estimates are what they are.
const GAIN: f64 = 0.8;

/// Returns the plan with its inner joins in the cheapest order that is known. What it returns, in rows and columns, is the
/// same.
///
/// # Errors
/// Those of planning the scans whose statistics are asked for.
pub(crate) async fn ordered(
    plan: LogicalPlan,
    state: &SessionState,
) -> DataFusionResult<LogicalPlan> {
    if !has_choice(&plan)? {
        return Ok(plan);
    }
    let tables = Tables::of(&plan, state).await?;
    let reordered = plan.transform_down(|node| match cheaper(&node, &tables)? {
        Some(cheaper) => Ok(Transformed::yes(cheaper)),
        None => Ok(Transformed::no(node)),
    })?;
    if !reordered.transformed {
        return Ok(reordered.data);
    }
    // Columns that only a join further down needs are dropped behind it again.
    let prune = Optimizer::with_rules(vec![Arc::new(OptimizeProjections::new())]);
    let options = Arc::clone(state.config_options());
    let context = OptimizerContext::new_with_config_options(options).with_max_passes(1);
    prune.optimize(reordered.data, &context, |_plan, _rule| {})
}

/// Whether three or more relations are joined.
fn has_choice(plan: &LogicalPlan) -> DataFusionResult<bool> {
    let mut found = false;
    plan.apply(|node| {
        found |= Graph::of(node)?.is_some();
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Returns a group of joins in a cheaper order, if `node` is the top of one and there is such an order.
fn cheaper(node: &LogicalPlan, tables: &Tables) -> DataFusionResult<Option<LogicalPlan>> {
    let Some(graph) = Graph::of(node)? else { return Ok(None) };
    let relations = graph.relations().iter();
    let Some(estimates) = relations.map(|relation| estimate::of(relation, tables)).collect() else {
        return Ok(None);
    };
    let Some(costs) = cost::Costs::new(&graph, estimates) else { return Ok(None) };
    let (Some(written), Some(best)) = (costs.of(graph.written()), costs.best()) else {
        return Ok(None);
    };
    tracing::debug!(written = written.total, best = best.total, tree = ?best.tree, "order of joins");
    match best.total <= written.total * GAIN {
        true => graph.built(&best.tree).map(Some),
        false => Ok(None),
    }
}
