//! Puts the checked functions in place of operators on integers and on long decimals, and takes them out again for readers.
//!
//! The rule runs after type coercion, on every plan of a query, so that it sees final types: parameters
//! are bound, views are inlined. It must keep the schema of every node.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;

use super::arithmetic::{Operation, checked, plain_operator};

/// Rewrites `+ - *` and unary minus over integers, and over decimals that may outgrow their type, into functions that
/// fail on overflow.
#[derive(Debug)]
pub(super) struct CheckOverflow;

impl CheckOverflow {
    pub(super) const NAME: &str = "check_overflow";
}

impl AnalyzerRule for CheckOverflow {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(check_plan)?.data)
    }
}

/// Returns the plan with plain operators in place of the checked functions: for EXPLAIN, which then reads as
/// the query was written. Such a plan wraps on overflow; never run it.
///
/// # Errors
/// `Internal` when a node cannot be rebuilt.
pub fn with_plain_operators(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plain = plan.transform_up_with_subqueries(|plan| {
        rewrite(plan, |expr| {
            let Expr::ScalarFunction(call) = &expr else { return Transformed::no(expr) };
            plain_operator(call).map_or_else(|| Transformed::no(expr), Transformed::yes)
        })
    })?;
    Ok(plain.data)
}

fn check_plan(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = visible_schema(&plan)?;
    rewrite(plan, |expr| check_expr(expr, &schema))
}

/// Rewrites the expressions of one node, bottom-up, under the names they had.
pub(super) fn rewrite(
    plan: LogicalPlan,
    change: impl Fn(Expr) -> Transformed<Expr>,
) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let changed = expr.transform_up(|expr| Ok(change(expr)))?;
        Ok(changed.update_data(|expr| name.restore(expr)))
    })
}

/// Returns all columns that expressions of the node may name.
pub(super) fn visible_schema(plan: &LogicalPlan) -> Result<DFSchema> {
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = plan {
        let columns = scan.source.schema();
        schema.merge(&DFSchema::try_from_qualified_schema(
            scan.table_name.clone(),
            columns.as_ref(),
        )?);
    }
    Ok(schema)
}

fn check_expr(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let integer = |operand: &Expr| integer_type(operand, schema);
    // Whatever else an expression is, it does not compute with integers itself.
    match expr {
        Expr::BinaryExpr(binary) => {
            let Some(operation) = Operation::of(binary.op) else {
                return Transformed::no(Expr::BinaryExpr(binary));
            };
            let are_integers = match (integer(&binary.left), integer(&binary.right)) {
                (Some(left), Some(right)) => left == right,
                _ => false,
            };
            if are_integers || may_lose_digits(&binary, schema) {
                return Transformed::yes(checked(operation, vec![*binary.left, *binary.right]));
            }
            Transformed::no(Expr::BinaryExpr(binary))
        }
        Expr::Negative(operand) if integer(&operand).is_some_and(|t| t.is_signed_integer()) => {
            Transformed::yes(checked(Operation::Negate, vec![*operand]))
        }
        other => Transformed::no(other),
    }
}

/// Whether the result is a decimal that may need more digits than its type has. Where a type has room the planner
/// has made enough.
fn may_lose_digits(binary: &BinaryExpr, schema: &DFSchema) -> bool {
    let types = (binary.left.get_type(schema), binary.right.get_type(schema));
    let (Ok(left), Ok(right)) = types else { return false };
    let result = BinaryTypeCoercer::new(&left, &binary.op, &right).get_result_type();
    let (Some((left, left_behind)), Some((right, right_behind)), Some((digits, _))) =
        (digits(&left), digits(&right), result.ok().as_ref().and_then(digits))
    else {
        return false;
    };
    let needed = match binary.op {
        Operator::Multiply => left + right,
        // One more than the longer operand before the point, and all behind it.
        _ => (left - left_behind).max(right - right_behind) + left_behind.max(right_behind) + 1,
    };
    needed > digits
}

/// Returns the digits of a decimal type, and how many of them are behind the point.
fn digits(data_type: &DataType) -> Option<(i16, i16)> {
    match data_type {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => Some(((*precision).into(), (*scale).into())),
        // No other type counts digits.
        _ => None,
    }
}

/// Returns the operand's type if it is an integer. One that is not known yet (a parameter without a value) is
/// none: the rule runs again when the value is there.
fn integer_type(operand: &Expr, schema: &DFSchema) -> Option<DataType> {
    operand.get_type(schema).ok().filter(DataType::is_integer)
}
