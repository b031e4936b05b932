//! Small sides first: what is one value is computed before the rest, so that a source sees the value.
//!
//! ```text
//! WHERE day > (SELECT max(day) FROM lake.loads)      becomes      WHERE day > DATE '2026-11-26'
//! ```
//! The planner makes a join of such a subquery, and no source is offered a join: it would send its whole table. So an
//! uncorrelated subquery that is compared with a column of a scan runs first, as a part of the same query: same tables,
//! same versions, same clock. A subquery of several rows stays where it is, and fails there as it should.

mod group_keys;

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, Filter, LogicalPlan, Operator, lit};
use futures::future::BoxFuture;
use meshwork_engine::Result;

pub(crate) use group_keys::joined_by_group_keys;

/// Runs a subquery and returns its value, or `None` if it has several rows.
pub(crate) type RunValue<'a> =
    &'a (dyn Fn(LogicalPlan) -> BoxFuture<'static, Result<Option<ScalarValue>>> + Send + Sync);

/// Returns the plan with values in place of the subqueries that could help a source, `None` if there are none; runs them
/// one after the other.
///
/// # Errors
/// Those of the subqueries.
pub(crate) async fn reduced(plan: &LogicalPlan, run: RunValue<'_>) -> Result<Option<LogicalPlan>> {
    let mut reduced = None;
    for subquery in values_for_scans(plan)? {
        if let Some(value) = run(subquery.as_ref().clone()).await? {
            let plan = reduced.take().unwrap_or_else(|| plan.clone());
            reduced = Some(with_value(plan, &subquery, &value)?);
        }
    }
    Ok(reduced)
}

/// Returns the subqueries that are compared with a column of a scan.
fn values_for_scans(plan: &LogicalPlan) -> DataFusionResult<Vec<Arc<LogicalPlan>>> {
    let mut found: Vec<Arc<LogicalPlan>> = Vec::new();
    plan.apply(|node| {
        if let LogicalPlan::Filter(Filter { predicate, input, .. }) = node {
            for condition in split_conjunction_owned(predicate.clone()) {
                let Some((column, subquery)) = compared(&condition) else { continue };
                if is_of_scan(input, column) && !found.contains(subquery) {
                    found.push(Arc::clone(subquery));
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Returns the column and the uncorrelated subquery of a comparison between two such.
fn compared(condition: &Expr) -> Option<(&Column, &Arc<LogicalPlan>)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return None };
    let is_comparison =
        matches!(op, Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq);
    match (left.as_ref(), right.as_ref()) {
        _ if !is_comparison => None,
        (Expr::Column(column), Expr::ScalarSubquery(subquery))
        | (Expr::ScalarSubquery(subquery), Expr::Column(column))
            if subquery.outer_ref_columns.is_empty() =>
        {
            Some((column, &subquery.subquery))
        }
        _ => None,
    }
}

/// Whether a column comes from a scan as it is, so that a filter on it gets there.
fn is_of_scan(plan: &LogicalPlan, column: &Column) -> bool {
    plan.schema().maybe_index_of_column(column).is_some_and(|index| is_read(plan, index))
}

fn is_read(plan: &LogicalPlan, index: usize) -> bool {
    match plan {
        LogicalPlan::TableScan(_) => true,
        LogicalPlan::SubqueryAlias(alias) => is_read(&alias.input, index),
        LogicalPlan::Filter(filter) => is_read(&filter.input, index),
        LogicalPlan::Projection(projection) => match projection.expr.get(index) {
            Some(Expr::Column(column)) => is_of_scan(&projection.input, column),
            _ => false,
        },
        LogicalPlan::Join(join) => {
            let n_left = join.left.schema().fields().len();
            match index.checked_sub(n_left) {
                None => is_read(&join.left, index),
                Some(index) => is_read(&join.right, index),
            }
        }
        // Whatever else there is computes its columns, or needs all rows below it.
        _ => false,
    }
}

/// Replaces a subquery wherever a filter compares a column with it.
fn with_value(
    plan: LogicalPlan,
    subquery: &Arc<LogicalPlan>,
    value: &ScalarValue,
) -> DataFusionResult<LogicalPlan> {
    plan.transform_up(|node| {
        let LogicalPlan::Filter(Filter { predicate, input, .. }) = node else {
            return Ok(Transformed::no(node));
        };
        let conditions = split_conjunction_owned(predicate).into_iter().map(|condition| {
            match compared(&condition) {
                Some((_, other)) if other == subquery => replace(condition, value),
                _ => condition,
            }
        });
        let predicate = conjunction(conditions).unwrap_or_else(|| lit(true));
        Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, input)?)))
    })
    .data()
}

fn replace(condition: Expr, value: &ScalarValue) -> Expr {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return condition };
    let side = |side: Box<Expr>| match *side {
        Expr::ScalarSubquery(_) => Box::new(Expr::Literal(value.clone(), None)),
        other => Box::new(other),
    };
    Expr::BinaryExpr(BinaryExpr { left: side(left), op, right: side(right) })
}
