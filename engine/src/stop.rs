//! Stops joins in the middle of their work.
//!
//! A join whose condition lets no row pass compares batch with batch for minutes without returning once, so
//! that neither dropping its stream nor asking it to yield is ever noticed. But it evaluates its condition
//! all the while: here the condition becomes one that fails as soon as the query has ended.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    HashJoinExec, HashJoinExecBuilder, NestedLoopJoinExec, NestedLoopJoinExecBuilder,
};
use tokio_util::sync::CancellationToken;

use crate::Error;

/// Returns the node with a condition that fails when `stopped` fires; `None` for what is no join with a
/// condition. The result cannot be sent to another node: call this where the plan runs.
///
/// # Errors
/// `Internal` when DataFusion does not take the join back.
pub fn stoppable_join(
    node: &dyn ExecutionPlan,
    stopped: &CancellationToken,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        let Some(filter) = join.filter() else { return Ok(None) };
        let filter = Some(stoppable_filter(filter, stopped));
        let join = NestedLoopJoinExecBuilder::from(join).with_filter(filter).build()?;
        return Ok(Some(Arc::new(join)));
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        let Some(filter) = join.filter() else { return Ok(None) };
        let filter = Some(stoppable_filter(filter, stopped));
        let join = HashJoinExecBuilder::from(join).with_filter(filter).build()?;
        return Ok(Some(Arc::new(join)));
    }
    Ok(None)
}

fn stoppable_filter(filter: &JoinFilter, stopped: &CancellationToken) -> JoinFilter {
    let condition = Arc::new(StoppableExpr {
        inner: Arc::clone(filter.expression()),
        stopped: stopped.clone(),
    });
    JoinFilter::new(condition, filter.column_indices().to_vec(), Arc::clone(filter.schema()))
}

/// An expression that fails when its query has ended.
#[derive(Debug)]
struct StoppableExpr {
    inner: Arc<dyn PhysicalExpr>,
    stopped: CancellationToken,
}

impl PartialEq for StoppableExpr {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for StoppableExpr {}

impl Hash for StoppableExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for StoppableExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for StoppableExpr {
    fn data_type(&self, input_schema: &Schema) -> Result<DataType> {
        self.inner.data_type(input_schema)
    }

    fn nullable(&self, input_schema: &Schema) -> Result<bool> {
        self.inner.nullable(input_schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        if self.stopped.is_cancelled() {
            return Err(Error::cancelled("the query has ended").into());
        }
        self.inner.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let inner = children.pop().unwrap_or_else(|| Arc::clone(&self.inner));
        Ok(Arc::new(Self { inner, stopped: self.stopped.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
