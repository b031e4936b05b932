//! `INTERSECT ALL` and `EXCEPT ALL`, which count rows: the third copy on the left needs a third one on the right.
//!
//! The planner makes a semi- or anti-join of them, which finds all copies when it finds one. So copies are told apart:
//!
//! ```text
//! a EXCEPT ALL b     anti-join on (columns, copy)       NULLs are equal to each other
//!                      a, copy = row_number() OVER (PARTITION BY columns)
//!                      b, copy = row_number() OVER (PARTITION BY columns)
//! ```

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Column, NullEquality, Result, not_impl_err};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, Join, JoinType, LogicalPlan, LogicalPlanBuilder,
};

/// The names of the copies' numbers. They never leave the plan.
const COPY: [&str; 2] = ["copy of left", "copy of right"];

/// Makes the plan's multiset operations count. Plans before any optimization only: later, other joins look alike.
pub(super) fn counted(plan: LogicalPlan) -> Result<LogicalPlan> {
    let counted = |node| match node {
        LogicalPlan::Join(join) if counts_wrongly(&join) => count(&join).map(Transformed::yes),
        // All else is no set operation.
        other => Ok(Transformed::no(other)),
    };
    plan.transform_up_with_subqueries(counted).data()
}

/// Whether the join is a set operation with ALL. No join that people write takes NULLs for equal; without ALL, and
/// where it makes no difference, what stands left is distinct.
fn counts_wrongly(join: &Join) -> bool {
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && !matches!(join.left.as_ref(), LogicalPlan::Distinct(_))
        // The plan of a view has been counted when the view was planned.
        && !join.right.schema().has_column(&Column::new_unqualified(COPY[1]))
}

fn count(join: &Join) -> Result<LogicalPlan> {
    let is_correlated = |side: &LogicalPlan| !side.all_out_ref_exprs().is_empty();
    if is_correlated(&join.left) || is_correlated(&join.right) {
        return not_impl_err!(
            "INTERSECT ALL and EXCEPT ALL in a subquery that refers to its query"
        );
    }
    let columns = join.left.schema().columns();
    let keys = |side: &LogicalPlan, copy: &str| {
        let copy = Column::new_unqualified(copy);
        side.schema().columns().into_iter().chain([copy]).collect::<Vec<_>>()
    };
    let keys = (keys(&join.left, COPY[0]), keys(&join.right, COPY[1]));
    let right = numbered(&join.right, COPY[1])?;
    LogicalPlanBuilder::from(numbered(&join.left, COPY[0])?)
        .join_detailed(right, join.join_type, keys, None, NullEquality::NullEqualsNull)?
        .project(columns.into_iter().map(Expr::Column))?
        .build()
}

/// Returns the rows with the number of each among its equals, in no order.
fn numbered(side: &Arc<LogicalPlan>, copy: &str) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = side.schema().columns().into_iter().map(Expr::Column).collect();
    let number = row_number().partition_by(columns.clone()).build()?;
    let name = Column::new_unqualified(number.schema_name().to_string());
    let number_as_copy = Expr::Column(name).alias(copy);
    LogicalPlanBuilder::from(Arc::clone(side))
        .window([number])?
        .project(columns.into_iter().chain([number_as_copy]))?
        .build()
}
