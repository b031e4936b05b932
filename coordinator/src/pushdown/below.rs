//! What an operator reads: a scan, seen through projections.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};
use meshwork_engine::connector::{Outcome, Pushdown};
use meshwork_engine::remote::{Predicate, Reason, ReasonCode, Refusal, RemoteScanExec, Value};

/// A scan below an operator.
pub(super) struct Below<'a> {
    /// The scan.
    pub(super) leaf: &'a RemoteScanExec,
    /// The columns that the operator sees, as expressions over those of the scan.
    columns: Vec<Arc<dyn PhysicalExpr>>,
}

/// Returns the scan below `node`, which is the input of an operator; `None` if there is more in between than
/// projections, or the scan has agreed already to what can be done only once.
pub(super) fn below(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Below<'_>>> {
    if let Some(leaf) = node.downcast_ref::<RemoteScanExec>() {
        let scan = leaf.scan();
        if scan.aggregate.is_some() || scan.limit.is_some() {
            return Ok(None);
        }
        let column = |(index, field): (usize, &FieldRef)| -> Arc<dyn PhysicalExpr> {
            Arc::new(Column::new(field.name(), index))
        };
        let columns = leaf.schema().fields().iter().enumerate().map(column).collect();
        return Ok(Some(Below { leaf, columns }));
    }
    let Some(projection) = node.downcast_ref::<ProjectionExec>() else { return Ok(None) };
    let Some(below) = below(projection.input())? else { return Ok(None) };
    let columns = projection.expr().iter().map(|item| below.resolved(&item.expr));
    let columns = columns.collect::<Result<_>>()?;
    Ok(Some(Below { leaf: below.leaf, columns }))
}

impl Below<'_> {
    /// Returns a value of the operator as one of the scan's rows.
    pub(super) fn value(&self, expr: &Arc<dyn PhysicalExpr>) -> Result<Value, Obstacle> {
        Ok(Value::from_physical(&self.resolved(expr)?, self.leaf.scan())?)
    }

    /// Returns a condition of the operator as one on the scan's rows.
    pub(super) fn predicate(&self, expr: &Arc<dyn PhysicalExpr>) -> Result<Predicate, Obstacle> {
        Ok(Predicate::from_physical(&self.resolved(expr)?, self.leaf.scan())?)
    }

    /// Returns the columns that the operator sees, as expressions over those of the scan.
    pub(super) fn columns(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.columns
    }

    /// Returns the columns that the operator sees over a scan whose own columns begin at `first`.
    pub(super) fn shifted(
        &self,
        first: usize,
        scan: &Schema,
    ) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        let place = |index| Some(index + first);
        self.columns.iter().map(|expr| at_columns(expr, scan, &place)).collect()
    }

    /// Returns the places of the scan's columns that the operator needs.
    pub(super) fn needed(&self) -> BTreeSet<usize> {
        let columns = self.columns.iter().flat_map(collect_columns);
        columns.map(|column| column.index()).collect()
    }

    /// Returns an expression of the operator over the columns of the scan.
    pub(super) fn resolved(&self, expr: &Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let resolve = |expr: Arc<dyn PhysicalExpr>| {
            let column = expr.downcast_ref::<Column>().map(Column::index);
            match column.and_then(|index| self.columns.get(index)) {
                Some(column) => Ok(Transformed::yes(Arc::clone(column))),
                None => Ok(Transformed::no(expr)),
            }
        };
        Arc::clone(expr).transform_up(resolve).data()
    }

    /// Offers work to the source.
    pub(super) fn offer(&self, offer: Pushdown<'_>) -> Result<(), Obstacle> {
        match self.leaf.source().negotiate(self.leaf.scan(), offer) {
            Outcome::Exact => Ok(()),
            Outcome::Inexact => {
                let message = "the source only approximates it";
                Err(Reason::new(ReasonCode::Superset, message).into())
            }
            Outcome::Refused(reason) => Err(reason.into()),
        }
    }

    /// Returns `input`, at whose bottom the scan is, with a note of what its source does not do.
    pub(super) fn noted(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        work: String,
        reason: Reason,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        with_leaf(input, self.leaf.refused(Refusal { work, reason }))
    }
}

/// Why work is not moved: there is a reason, or the plan is broken.
#[derive(Debug)]
pub(super) enum Obstacle {
    Refused(Reason),
    Broken(DataFusionError),
}

impl From<Reason> for Obstacle {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason)
    }
}

impl From<DataFusionError> for Obstacle {
    fn from(error: DataFusionError) -> Self {
        Self::Broken(error)
    }
}

/// Returns the plan with another scan at its bottom. All between is projections.
pub(super) fn with_leaf(
    node: &Arc<dyn ExecutionPlan>,
    leaf: RemoteScanExec,
) -> Result<Arc<dyn ExecutionPlan>> {
    match node.children().as_slice() {
        [] => Ok(Arc::new(leaf)),
        [input, ..] => {
            let input = with_leaf(input, leaf)?;
            with_input(node, input)
        }
    }
}

/// Returns an expression over other columns, each at a new place; a column without one stays.
pub(super) fn at_columns(
    expr: &Arc<dyn PhysicalExpr>,
    columns: &Schema,
    place: &dyn Fn(usize) -> Option<usize>,
) -> Result<Arc<dyn PhysicalExpr>> {
    let moved = |expr: Arc<dyn PhysicalExpr>| {
        let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
        let moved = place(column.index());
        match moved.and_then(|index| Some((index, columns.fields().get(index)?))) {
            Some((index, field)) => {
                let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), index));
                Ok(Transformed::yes(column))
            }
            None => Ok(Transformed::no(expr)),
        }
    };
    Arc::clone(expr).transform_up(moved).data()
}

/// Returns an operator of one input over another one.
pub(super) fn with_input(
    node: &Arc<dyn ExecutionPlan>,
    input: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    with_inputs(node, vec![input])
}

/// Returns an operator over other inputs.
pub(crate) fn with_inputs(
    node: &Arc<dyn ExecutionPlan>,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    Arc::clone(node)
        .replace_children(inputs, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}
