//! A key of a join that is too large for the type in which keys are compared equals none.
//!
//! Two decimals meet in a type with the digits of both, as far as 76 digits go: that of `decimal(50,3)` and `decimal(65,30)` has 46
//! before the point. DataFusion 55.2 fails at a value with 47, if it happens to read it; no value of the other side is so large.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, NullEquality, Result};
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, TryCast};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// Makes NULL of such keys, which equals none either.
#[derive(Debug)]
pub(super) struct TooLargeKeys;

impl OptimizerRule for TooLargeKeys {
    fn name(&self) -> &str {
        "too_large_keys"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(mut join) = plan else { return Ok(Transformed::no(plan)) };
        let mut is_changed = false;
        // Where a NULL decides, none may be made up.
        if !join.null_aware && join.null_equality == NullEquality::NullEqualsNothing {
            for (left, right) in &mut join.on {
                is_changed |= excused(left, join.left.schema())?;
                is_changed |= excused(right, join.right.schema())?;
            }
        }
        Ok(Transformed::new_transformed(LogicalPlan::Join(join), is_changed))
    }
}

/// Lets a key be NULL if its cast may fail; returns whether it may.
fn excused(key: &mut Expr, schema: &DFSchema) -> Result<bool> {
    let Expr::Cast(Cast { expr, field }) = &*key else { return Ok(false) };
    let digits = (before_point(&expr.get_type(schema)?), before_point(field.data_type()));
    let (Some(from), Some(to)) = digits else { return Ok(false) };
    if from <= to {
        return Ok(false);
    }
    *key = Expr::TryCast(TryCast::new_from_field(expr.clone(), Arc::clone(field)));
    Ok(true)
}

/// Returns how many digits a decimal has before the point.
fn before_point(data_type: &DataType) -> Option<i32> {
    match data_type {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => Some(i32::from(*precision) - i32::from(*scale)),
        _ => None,
    }
}
