//! A double and a decimal are compared as doubles.
//!
//! DataFusion compares them as `DECIMAL(30, 15)`, in which 1e300 overflows and 1e-300 is zero; and a bare `0.1`
//! in a statement is a decimal. The rule runs before type coercion and must keep the schema of every node. It
//! does not touch arithmetic.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator, cast};
use datafusion::optimizer::AnalyzerRule;

use super::overflow::{rewrite, visible_schema};

/// Casts decimals to doubles where they are compared with one.
#[derive(Debug)]
pub(super) struct CompareAsDoubles;

impl AnalyzerRule for CompareAsDoubles {
    fn name(&self) -> &str {
        "compare_as_doubles"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let compared = plan.transform_up_with_subqueries(|node| {
            let schema = visible_schema(&node)?;
            rewrite(node, |expr| compare(expr, &schema))
        })?;
        Ok(compared.data)
    }
}

fn compare(mut expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    // No other expression compares numbers.
    let operands: Vec<&mut Expr> = match &mut expr {
        Expr::BinaryExpr(binary) if is_comparison(binary.op) => {
            vec![binary.left.as_mut(), binary.right.as_mut()]
        }
        Expr::Between(between) => {
            vec![between.expr.as_mut(), between.low.as_mut(), between.high.as_mut()]
        }
        Expr::InList(list) => std::iter::once(list.expr.as_mut()).chain(&mut list.list).collect(),
        _ => return Transformed::no(expr),
    };
    let types: Vec<Option<DataType>> =
        operands.iter().map(|operand| operand.get_type(schema).ok()).collect();
    if !types.iter().flatten().any(DataType::is_floating) {
        return Transformed::no(expr);
    }
    let mut changed = false;
    for (operand, data_type) in operands.into_iter().zip(types) {
        if data_type.is_some_and(|data_type| data_type.is_decimal()) {
            *operand = cast(std::mem::take(operand), DataType::Float64);
            changed = true;
        }
    }
    if changed { Transformed::yes(expr) } else { Transformed::no(expr) }
}

fn is_comparison(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}
