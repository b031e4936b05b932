//! Filters that become known while a query runs: the keys of the other side of a join.
//!
//! A hash join reads its build side first. What it knows then of the keys is a condition on the probe side: a row that
//! fails it joins with nothing. So a scan waits for it, for a bounded time, and offers it to its source like any other
//! filter. Nobody relies on it: the join looks at every row again, and a scan that waited in vain reads all.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, DynamicFilterPhysicalExpr, Literal as Constant,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::HashJoinExec;

use super::{Predicate, RemoteScan, RemoteScanExec};
use crate::Result;
use crate::connector::{Outcome, Pushdown, RowSource};
use crate::environment;

/// What is known of the rows that a scan needs.
#[derive(Debug)]
pub(super) enum Narrowed {
    /// None of them: the other side of a join is empty.
    Nothing,
    /// Those that the scan describes now.
    Scan(Box<RemoteScan>),
}

/// Returns the plan whose scans wait for the hash joins above them in this plan, and for nothing else: what other
/// operators know of their input they know when they have read it, and a join on another node tells nobody here.
///
/// # Errors
/// DataFusion's, when a node cannot be rebuilt.
pub fn waiting_for_joins(plan: Arc<dyn ExecutionPlan>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let mut known = BTreeSet::new();
    plan.apply(|node| {
        if let Some(join) = node.downcast_ref::<HashJoinExec>() {
            known.extend(join.dynamic_expressions_produced().iter().flat_map(ids_in));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    plan.transform_up(|node| {
        let Some(leaf) = node.downcast_ref::<RemoteScanExec>() else {
            return Ok(Transformed::no(node));
        };
        let is_known = |filter: &&Arc<dyn PhysicalExpr>| {
            let ids = ids_in(filter);
            !ids.is_empty() && ids.iter().all(|id| known.contains(id))
        };
        let filters = leaf.dynamic_filters();
        if filters.is_empty() {
            return Ok(Transformed::no(node));
        }
        let known = filters.iter().filter(is_known).cloned().collect();
        Ok(Transformed::yes(Arc::new(leaf.waiting_for(known))))
    })
    .data()
}

/// Returns the ids of the filters in an expression that are not known before a query runs.
pub(super) fn ids_in(expr: &Arc<dyn PhysicalExpr>) -> Vec<u64> {
    let mut ids = Vec::new();
    // Looking at an expression cannot fail.
    let _infallible = expr.apply(|part| {
        if let Some(filter) = part.downcast_ref::<DynamicFilterPhysicalExpr>() {
            ids.extend(filter.expression_id());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    ids
}

/// Waits for the filters, at most so long for all of them, and adds to the scan what the source takes of them.
pub(super) async fn narrowed(
    scan: &RemoteScan,
    filters: &[Arc<dyn PhysicalExpr>],
    source: &Arc<dyn RowSource>,
    wait_max: Duration,
) -> Result<Narrowed> {
    let all = futures::future::join_all(filters.iter().filter_map(|filter| known(filter)));
    // Late filters are none.
    if environment::within(wait_max, "the other side of a join", all).await.is_err() {
        tracing::debug!(table = scan.display_name(), "read without the keys of a join");
    }
    let mut narrowed = scan.clone();
    for filter in filters {
        let Some(filter) = filter.downcast_ref::<DynamicFilterPhysicalExpr>() else { continue };
        match condition(&filter.current()?, scan) {
            Condition::Never => return Ok(Narrowed::Nothing),
            Condition::Unknown => {}
            Condition::All(conditions) => {
                conditions.into_iter().for_each(|one| offer(&mut narrowed, one, source));
            }
        }
    }
    Ok(Narrowed::Scan(Box::new(narrowed)))
}

fn known(filter: &Arc<dyn PhysicalExpr>) -> Option<impl Future<Output = ()>> {
    filter.downcast_ref::<DynamicFilterPhysicalExpr>().map(DynamicFilterPhysicalExpr::wait_complete)
}

fn offer(scan: &mut RemoteScan, condition: Predicate, source: &Arc<dyn RowSource>) {
    match source.negotiate(scan, Pushdown::Filter(&condition)) {
        Outcome::Exact | Outcome::Inexact => scan.filters.push(condition),
        Outcome::Refused(_) => {}
    }
}

/// What an expression says of rows, or at least of a superset of those for which it is true.
enum Condition {
    Never,
    All(Vec<Predicate>),
    Unknown,
}

fn condition(expr: &Arc<dyn PhysicalExpr>, scan: &RemoteScan) -> Condition {
    if let Some(constant) = expr.downcast_ref::<Constant>() {
        return match constant.value() {
            ScalarValue::Boolean(Some(true)) => Condition::Unknown,
            _ => Condition::Never,
        };
    }
    if let Some(both) = expr.downcast_ref::<BinaryExpr>()
        && *both.op() == Operator::And
    {
        return and(condition(both.left(), scan), condition(both.right(), scan));
    }
    // With several partitions the join says of each what its keys are: a row is in one of them.
    if let Some(case) = expr.downcast_ref::<CaseExpr>() {
        let branches = case.when_then_expr().iter().map(|(_when, then)| then);
        return any(branches.chain(case.else_expr()).map(|branch| condition(branch, scan)));
    }
    match Predicate::from_physical(expr, scan) {
        Ok(condition) => Condition::All(vec![condition]),
        Err(_not_shared) => Condition::Unknown,
    }
}

fn and(left: Condition, right: Condition) -> Condition {
    match (left, right) {
        (Condition::Never, _) | (_, Condition::Never) => Condition::Never,
        (Condition::Unknown, known) | (known, Condition::Unknown) => known,
        (Condition::All(mut conditions), Condition::All(more)) => {
            conditions.extend(more);
            Condition::All(conditions)
        }
    }
}

fn any(branches: impl Iterator<Item = Condition>) -> Condition {
    let mut possible = Vec::new();
    for branch in branches {
        match branch {
            Condition::Never => {}
            Condition::Unknown => return Condition::Unknown,
            Condition::All(conditions) => possible.push(Predicate::And(conditions)),
        }
    }
    match possible.len() {
        0 => Condition::Never,
        _ => Condition::All(vec![Predicate::Or(possible)]),
    }
}
