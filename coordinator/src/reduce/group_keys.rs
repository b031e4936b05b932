//! A join with groups by what they are groups of, and by nothing else.
//!
//! ```text
//! parts ⋈ (SELECT part, min(cost) AS least ... GROUP BY part)
//!   ON parts.part = part AND parts.cost = least      becomes      ON parts.part = part  WHERE parts.cost = least
//! ```
//! A subquery that is compared with a column becomes such a join. What is known of the keys of one side can pass the
//! aggregation and reach the scan below only if all keys are columns that rows are grouped by: so the others become a condition of the join.
//! The keys that stay choose one group, so the join looks at no more rows than before.

use std::collections::BTreeSet;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, NullEquality, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Join, JoinType, LogicalPlan};

/// Returns the plan with joins of groups by their keys alone.
///
/// # Errors
/// DataFusion's, when a node cannot be rebuilt.
pub(crate) fn joined_by_group_keys(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up(|node| match node {
        LogicalPlan::Join(join) => Ok(match moved(&join) {
            Some(moved) => Transformed::yes(LogicalPlan::Join(moved)),
            None => Transformed::no(LogicalPlan::Join(join)),
        }),
        other => Ok(Transformed::no(other)),
    })
    .data()
}

/// Returns the join with keys that are no group columns among its conditions; `None` if there are none such, or the others
/// do not choose one group.
fn moved(join: &Join) -> Option<Join> {
    let keeps_meaning =
        matches!(join.join_type, JoinType::Inner | JoinType::LeftSemi | JoinType::RightSemi);
    if !keeps_meaning || join.null_equality != NullEquality::NullEqualsNothing {
        return None;
    }
    let of_right = group_columns(&join.right).map(|groups| (groups, false));
    let (groups, is_left) =
        of_right.or_else(|| group_columns(&join.left).map(|groups| (groups, true)))?;
    let key = |(left, right): &(Expr, Expr)| column_of(if is_left { left } else { right });
    let is_group = |pair: &(Expr, Expr)| key(pair).is_some_and(|key| groups.contains(&key));
    let (on, others): (Vec<_>, Vec<_>) = join.on.iter().cloned().partition(is_group);
    let keys: BTreeSet<Column> = on.iter().filter_map(key).collect();
    if others.is_empty() || on.is_empty() || keys != groups {
        return None;
    }
    let others = others.into_iter().map(|(left, right)| left.eq(right));
    let filter = conjunction(join.filter.iter().cloned().chain(others));
    Some(Join { on, filter, ..join.clone() })
}

/// Returns the column that a key is, perhaps cast to the type of what it is compared with.
fn column_of(key: &Expr) -> Option<Column> {
    match key {
        Expr::Column(column) => Some(column.clone()),
        Expr::Cast(cast) => column_of(&cast.expr),
        // What is computed is another key.
        _ => None,
    }
}

/// Returns the columns of a plan that its rows are grouped by, all of them; `None` if it is no aggregation.
fn group_columns(plan: &LogicalPlan) -> Option<BTreeSet<Column>> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => {
            let n_groups = aggregate.group_expr.len();
            let is_plain = |expr: &Expr| matches!(expr, Expr::Column(_));
            let groups = aggregate.schema.columns().into_iter().take(n_groups);
            (n_groups > 0 && aggregate.group_expr.iter().all(is_plain)).then(|| groups.collect())
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let inner = group_columns(&alias.input)?;
            let names = alias.input.schema().columns().into_iter().zip(alias.schema.columns());
            let renamed = names.filter(|(name, _)| inner.contains(name)).map(|(_, outer)| outer);
            Some(renamed.collect())
        }
        LogicalPlan::Projection(projection) => {
            let inner = group_columns(&projection.input)?;
            let names = projection.expr.iter().zip(projection.schema.columns());
            let renamed: BTreeSet<(Column, Column)> = names
                .filter_map(|(expr, outer)| match expr.clone().unalias() {
                    Expr::Column(column) if inner.contains(&column) => Some((column, outer)),
                    _ => None,
                })
                .collect();
            let found: BTreeSet<&Column> = renamed.iter().map(|(column, _)| column).collect();
            // A key that is dropped, or stands there twice, chooses no single group by its name.
            (found.len() == inner.len() && renamed.len() == inner.len())
                .then(|| renamed.into_iter().map(|(_, outer)| outer).collect())
        }
        LogicalPlan::Filter(filter) => group_columns(&filter.input),
        // Whatever else there is makes other rows of groups.
        _ => None,
    }
}
