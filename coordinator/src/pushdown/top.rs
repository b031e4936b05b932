//! `ORDER BY ... LIMIT`: a source returns of each split the first rows of its order, the sort above puts them together.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort::SortExec;
use meshwork_engine::connector::Pushdown;
use meshwork_engine::remote::{OrderKey, Reason, ReasonCode, RemoteScan, Value};

use super::below::{Below, Obstacle, below, with_input, with_leaf};

/// Returns the sort over a scan that returns fewer rows, or that notes why it does not.
pub(super) fn pushed(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(sort) = node.downcast_ref::<SortExec>() else { return Ok(None) };
    let Some(rows) = sort.fetch() else { return Ok(None) };
    let Some(below) = below(sort.input())? else { return Ok(None) };
    let input = match agreed(&below, sort, rows) {
        Ok(scan) => with_leaf(sort.input(), below.leaf.agreed(scan))?,
        Err(Obstacle::Refused(reason)) => {
            below.noted(sort.input(), format!("first rows by {}", sort.expr()), reason)?
        }
        Err(Obstacle::Broken(error)) => return Err(error),
    };
    with_input(node, input).map(Some)
}

fn agreed(below: &Below<'_>, sort: &SortExec, rows: usize) -> Result<RemoteScan, Obstacle> {
    let order =
        sort.expr().iter().map(|key| order_key(below, key)).collect::<Result<Vec<_>, _>>()?;
    below.offer(Pushdown::Top { order: &order, rows })?;
    Ok(RemoteScan { order, limit: Some(rows), ..below.leaf.scan().as_ref().clone() })
}

fn order_key(below: &Below<'_>, key: &PhysicalSortExpr) -> Result<OrderKey, Obstacle> {
    let Value::Column(column) = below.value(&key.expr)? else {
        let message = format!("{} is computed and ordered here", key.expr);
        return Err(Reason::new(ReasonCode::Expression, message).into());
    };
    let (descending, nulls_first) = (key.options.descending, key.options.nulls_first);
    Ok(OrderKey { column, descending, nulls_first })
}
