//! `INSERT ... VALUES` may hold a NULL for any column: whether the table takes it is the table's to say.
//!
//! The planner types the rows by the table's columns, `NOT NULL` included, and then fails on its own rows with an error
//! that names none of the table's columns.

use std::sync::Arc;

use datafusion::arrow::datatypes::Field;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result as DataFusionResult};
use datafusion::logical_expr::{LogicalPlan, Values};
use meshwork_engine::Result;

/// Returns the plan with rows of an insert that may hold NULLs.
pub(super) fn with_nulls(plan: LogicalPlan) -> Result<LogicalPlan> {
    if !matches!(plan, LogicalPlan::Dml(_)) {
        return Ok(plan);
    }
    let changed = plan.transform_up(|node| match node {
        LogicalPlan::Values(rows) => Ok(Transformed::yes(LogicalPlan::Values(open(rows)?))),
        other => Ok(Transformed::no(other)),
    });
    // The nodes above know the columns of the rows.
    let above = changed.data()?.transform_up(|node| node.recompute_schema().map(Transformed::yes));
    Ok(above.data()?)
}

fn open(rows: Values) -> DataFusionResult<Values> {
    let fields = rows.schema.iter().map(|(qualifier, field)| {
        (qualifier.cloned(), Arc::new(Field::clone(field).with_nullable(true)))
    });
    let schema = DFSchema::new_with_metadata(fields.collect(), rows.schema.metadata().clone())?;
    Ok(Values { schema: Arc::new(schema), ..rows })
}
