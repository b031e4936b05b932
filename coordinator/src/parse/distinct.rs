//! `IS [NOT] DISTINCT FROM` binds tighter than `AND`: sqlparser gives it all that stands to its right.
//!
//! ```text
//! a IS DISTINCT FROM b AND c       read as    a IS DISTINCT FROM (b AND c)
//!                                  means      (a IS DISTINCT FROM b) AND c
//! ```
//! Where that happened, the operands are laid out again as they were written, and put together anew.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, UnaryOperator, Value, ValueWithSpan, visit_expressions_mut,
};

/// The operators that bind less, the loosest first.
const LOOSER: [BinaryOperator; 2] = [BinaryOperator::Or, BinaryOperator::And];

/// Gives each `IS DISTINCT FROM` of the statement the operand that it means.
pub(super) fn bind_distinct(statement: &mut DataFusionStatement) {
    let DataFusionStatement::Statement(statement) = statement else { return };
    let walked = visit_expressions_mut(statement.as_mut(), |expr| {
        bind(expr);
        ControlFlow::<()>::Continue(())
    });
    debug_assert!(walked.is_continue(), "nothing breaks this walk off");
}

fn bind(expr: &mut Expr) {
    if takes_too_much(expr) {
        let whole = std::mem::replace(expr, Expr::Value(ValueWithSpan::from(Value::Null)));
        let mut written = Written::default();
        written.lay_out(whole);
        *expr = written.put_together();
    }
}

fn is_looser(op: &BinaryOperator) -> bool {
    LOOSER.contains(op)
}

/// Whether a comparison at the right end of the expression has a condition for its operand.
fn takes_too_much(expr: &Expr) -> bool {
    // Only these can end with such a comparison that is not in parentheses.
    match expr {
        Expr::BinaryOp { left, op, right } if is_looser(op) => {
            takes_too_much(left) || takes_too_much(right)
        }
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => takes_too_much(expr),
        Expr::IsDistinctFrom(_, right) | Expr::IsNotDistinctFrom(_, right) => {
            matches!(right.as_ref(), Expr::BinaryOp { op, .. } if is_looser(op))
                || takes_too_much(right)
        }
        _ => false,
    }
}

/// Operands and the operators between them, in the order of the text.
#[derive(Default)]
struct Written {
    operands: Vec<Expr>,
    operators: Vec<BinaryOperator>,
}

impl Written {
    fn lay_out(&mut self, expr: Expr) {
        match expr {
            Expr::BinaryOp { left, op, right } if is_looser(&op) => {
                self.lay_out(*left);
                self.operators.push(op);
                self.lay_out(*right);
            }
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => self.lay_out_first(*expr, |first| {
                Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(first) }
            }),
            Expr::IsDistinctFrom(left, right) => {
                self.lay_out_first(*right, |first| Expr::IsDistinctFrom(left, Box::new(first)));
            }
            Expr::IsNotDistinctFrom(left, right) => {
                self.lay_out_first(*right, |first| Expr::IsNotDistinctFrom(left, Box::new(first)));
            }
            // All else binds tighter.
            other => self.operands.push(other),
        }
    }

    /// Lays out an expression of whose operands the first belongs to what stands before it.
    fn lay_out_first(&mut self, expr: Expr, with: impl FnOnce(Expr) -> Expr) {
        let at = self.operands.len();
        self.lay_out(expr);
        let first = self.operands.remove(at);
        self.operands.insert(at, with(first));
    }

    fn put_together(self) -> Expr {
        let mut operators = self.operators;
        let mut operands = self.operands;
        // The tightest first, each from left to right.
        for op in LOOSER.iter().rev() {
            while let Some(at) = operators.iter().position(|other| other == op) {
                let right = Box::new(operands.remove(at + 1));
                let left = Box::new(operands.remove(at));
                operands.insert(at, Expr::BinaryOp { left, op: operators.remove(at), right });
            }
        }
        operands.pop().expect("an expression has an operand, and all operators were used up")
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    /// The expression with parentheses around each operation.
    fn shown(expr: &Expr) -> String {
        match expr {
            Expr::BinaryOp { left, op, right } => {
                format!("({} {op} {})", shown(left), shown(right))
            }
            Expr::IsDistinctFrom(left, right) => format!("({} <> {})", shown(left), shown(right)),
            Expr::IsNotDistinctFrom(left, right) => {
                format!("({} = {})", shown(left), shown(right))
            }
            Expr::UnaryOp { op, expr } => format!("({op} {})", shown(expr)),
            Expr::Nested(inner) => shown(inner),
            other => other.to_string(),
        }
    }

    #[test]
    fn it_binds_tighter_than_and() {
        for (written, meant) in [
            ("a IS DISTINCT FROM b", "(a <> b)"),
            ("a IS DISTINCT FROM b AND c", "((a <> b) AND c)"),
            ("p AND a IS NOT DISTINCT FROM b OR c", "((p AND (a = b)) OR c)"),
            ("p OR NOT a IS DISTINCT FROM b AND c", "(p OR ((NOT (a <> b)) AND c))"),
            (
                "a IS DISTINCT FROM b AND c IS DISTINCT FROM d OR e",
                "(((a <> b) AND (c <> d)) OR e)",
            ),
            ("a IS DISTINCT FROM (b AND c)", "(a <> (b AND c))"),
        ] {
            let mut parser = Parser::new(&GenericDialect {}).try_with_sql(written).unwrap();
            let mut expr = parser.parse_expr().unwrap();
            bind(&mut expr);
            assert_eq!(shown(&expr), meant, "{written}");
        }
    }
}
