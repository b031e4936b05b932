//! As what values of two types are compared.
//!
//! ```text
//! a double and a decimal       as doubles
//! a date and a timestamp       as timestamps without a zone, in microseconds where the timestamp is no finer
//! ```
//! DataFusion compares the first as `DECIMAL(30, 15)`, in which 1e300 overflows and 1e-300 is zero, and a bare `0.1` in a
//! statement is a decimal; the second in nanoseconds, which no date before 1677 or after 2262 has. The rule runs before type
//! coercion and must keep the schema of every node. It does not touch arithmetic.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator, cast};
use datafusion::optimizer::AnalyzerRule;

use super::overflow::{rewrite, visible_schema};

/// Casts values of different types where they are compared.
#[derive(Debug)]
pub(super) struct CompareAlike;

impl AnalyzerRule for CompareAlike {
    fn name(&self) -> &str {
        "compare_alike"
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
    // No other expression compares.
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
    let known: Vec<&DataType> = types.iter().flatten().collect();
    let Some(common) = common(&known) else { return Transformed::no(expr) };
    let mut changed = false;
    for (operand, data_type) in operands.into_iter().zip(&types) {
        let is_other = data_type
            .as_ref()
            .is_some_and(|data_type| *data_type != common && is_number_or_time(data_type, &common));
        if is_other {
            *operand = cast(std::mem::take(operand), common.clone());
            changed = true;
        }
    }
    if changed { Transformed::yes(expr) } else { Transformed::no(expr) }
}

/// Returns as what values of these types are compared, if not as DataFusion says.
fn common(types: &[&DataType]) -> Option<DataType> {
    let has = |is: fn(&DataType) -> bool| types.iter().any(|data_type| is(data_type));
    if has(DataType::is_floating) && has(DataType::is_decimal) {
        return Some(DataType::Float64);
    }
    let is_date = |data_type: &DataType| matches!(data_type, DataType::Date32 | DataType::Date64);
    let is_fine =
        |data_type: &DataType| matches!(data_type, DataType::Timestamp(TimeUnit::Nanosecond, _));
    let is_timestamp = |data_type: &DataType| matches!(data_type, DataType::Timestamp(..));
    (has(is_date) && has(is_timestamp) && !has(is_fine))
        .then_some(DataType::Timestamp(TimeUnit::Microsecond, None))
}

/// Whether values of the type are cast to the common one: decimals, and all that is a time. Strings are read as the other
/// side by DataFusion, and other numbers are compared as it does.
fn is_number_or_time(data_type: &DataType, common: &DataType) -> bool {
    match common {
        DataType::Float64 => data_type.is_decimal(),
        _ => matches!(data_type, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..)),
    }
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
