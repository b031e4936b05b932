//! Joins: two scans of one source become one, where that is known to move fewer bytes.

use std::sync::Arc;

use datafusion::common::{JoinType, NullEquality, Result, Statistics};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use meshwork_engine::connector::Pushdown;
use meshwork_engine::remote::{Join, JoinKind, Reason, ReasonCode, of_join};

use super::below::{Below, Obstacle, at_columns, below, with_inputs};

/// Returns a scan of both sides in place of a join, or the join over a scan that notes why it is still needed.
pub(super) fn pushed(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(join) = node.downcast_ref::<HashJoinExec>() else { return Ok(None) };
    let is_plain =
        join.filter().is_none() && join.null_equality() == NullEquality::NullEqualsNothing;
    let sides = match join.join_type() {
        JoinType::Inner => Some(JoinKind::Inner),
        JoinType::LeftSemi | JoinType::RightSemi => Some(JoinKind::Semi),
        // Others keep rows that have no partner, and a split does not know of all partners.
        _ => None,
    };
    let Some(kind) = sides.filter(|_| is_plain) else { return Ok(None) };
    let (Some(left), Some(right)) = (below(join.left())?, below(join.right())?) else {
        return Ok(None);
    };
    if !Arc::ptr_eq(left.leaf.source(), right.leaf.source()) {
        return Ok(None);
    }
    match agreed(join, kind, &left, &right) {
        Ok(plan) => Ok(Some(plan)),
        Err(Obstacle::Broken(error)) => Err(error),
        Err(Obstacle::Refused(reason)) => {
            let keys = join.on().iter().map(|(left, right)| format!("{left} = {right}"));
            let work = format!("join on {}", keys.collect::<Vec<_>>().join(" AND "));
            let noted = left.noted(join.left(), work, reason)?;
            let children = vec![noted, Arc::clone(join.right())];
            with_inputs(node, children).map(Some)
        }
    }
}

fn agreed(
    plan: &HashJoinExec,
    kind: JoinKind,
    left: &Below<'_>,
    right: &Below<'_>,
) -> Result<Arc<dyn ExecutionPlan>, Obstacle> {
    let n_splits = |side: &Below<'_>| side.leaf.splits().count();
    // The side that is cut is the left one. What a semi join keeps is.
    let swaps = match plan.join_type() {
        JoinType::RightSemi => true,
        JoinType::LeftSemi => false,
        _ => n_splits(right) > n_splits(left),
    };
    let (base, other) = if swaps { (right, left) } else { (left, right) };
    let mut on = Vec::new();
    for (l, r) in plan.on() {
        let (l, r) = (key(left, l)?, key(right, r)?);
        on.push(if swaps { (r, l) } else { (l, r) });
    }
    let expected = expected(base, other, &on, kind)?;
    let scan = |side: &Below<'_>| side.leaf.scan().as_ref().clone();
    let join = Join { left: scan(base), right: scan(other), on, kind };
    base.offer(Pushdown::Join(&join))?;
    let leaf: Arc<dyn ExecutionPlan> = Arc::new(base.leaf.joined(join, expected));
    let (n_left, n_right) = (left.leaf.schema().fields().len(), right.leaf.schema().fields().len());
    let mut columns = Vec::new();
    if *plan.join_type() != JoinType::RightSemi {
        let first = if swaps { n_right } else { 0 };
        columns.extend(left.shifted(first, &leaf.schema())?);
    }
    if *plan.join_type() != JoinType::LeftSemi {
        let first = if swaps { 0 } else { n_left };
        columns.extend(right.shifted(first, &leaf.schema())?);
    }
    if let Some(chosen) = plan.projection.as_ref() {
        columns = chosen.iter().filter_map(|index| columns.get(*index).cloned()).collect();
    }
    Ok(projected(columns, plan, leaf)?)
}

/// Returns the place of a key among the columns of its scan.
fn key(side: &Below<'_>, expr: &Arc<dyn PhysicalExpr>) -> Result<usize, Obstacle> {
    let resolved = side.resolved(expr)?;
    match resolved.downcast_ref::<Column>() {
        Some(column) => Ok(column.index()),
        None => {
            let message = format!("{expr} is computed and joined by here");
            Err(Reason::new(ReasonCode::Expression, message).into())
        }
    }
}

/// Returns what the join returns, if it is known to be less than its sides are together.
fn expected(
    base: &Below<'_>,
    other: &Below<'_>,
    on: &[(usize, usize)],
    kind: JoinKind,
) -> Result<Statistics, Reason> {
    let (left, right) = (base.leaf.expected(), other.leaf.expected());
    let unknown = || Reason::new(ReasonCode::Cost, "the rows of its sides are not known");
    let expected = of_join(left, right, on, kind).ok_or_else(unknown)?;
    let bytes = |side: &Statistics| side.total_byte_size.get_value().copied();
    match (bytes(&expected), bytes(left), bytes(right)) {
        (Some(joined), Some(left), Some(right)) if joined <= left.saturating_add(right) => {
            Ok(expected)
        }
        (Some(_), Some(_), Some(_)) => {
            Err(Reason::new(ReasonCode::Cost, "it returns more bytes than its sides do"))
        }
        _ => Err(unknown()),
    }
}

/// Returns the expressions over the leaf, under the names of the operator that they stand for.
fn projected(
    columns: Vec<Arc<dyn PhysicalExpr>>,
    named: &dyn ExecutionPlan,
    leaf: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = named.schema();
    let items = columns.into_iter().zip(schema.fields());
    let items = items.map(|(expr, field)| ProjectionExpr { expr, alias: field.name().clone() });
    Ok(Arc::new(ProjectionExec::try_new(items, leaf)?))
}

/// Returns a projection over a joined scan that reads only the columns it needs: keys are needed there, and often not here.
pub(super) fn narrowed(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if !node.is::<ProjectionExec>() {
        return Ok(None);
    }
    let Some(below) = below(node)? else { return Ok(None) };
    if below.leaf.scan().join.is_none() {
        return Ok(None);
    }
    let needed: Vec<usize> = below.needed().into_iter().collect();
    if needed.len() == below.leaf.schema().fields().len() {
        return Ok(None);
    }
    let place = |index: usize| needed.iter().position(|needed| *needed == index);
    let leaf = Arc::new(below.leaf.narrowed(&needed));
    let columns = below.columns().iter().map(|expr| at_columns(expr, &leaf.schema(), &place));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    projected(columns, node.as_ref(), leaf).map(Some)
}
