//! The planner's logical expressions as conditions for a source.

use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Like, Operator};

use super::reason::{Reason, ReasonCode};
use super::{Comparison, Literal, Predicate, RemoteColumn};

impl Predicate {
    /// Returns the condition of an expression over the columns.
    ///
    /// # Errors
    /// What in the expression is none of the language that sources share.
    pub fn from_expr(expr: &Expr, columns: &[RemoteColumn]) -> Result<Self, Reason> {
        let part = |expr: &Expr| Self::from_expr(expr, columns);
        // Expressions that are not listed are not offered.
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                Ok(Self::And(vec![part(left)?, part(right)?]))
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                Ok(Self::Or(vec![part(left)?, part(right)?]))
            }
            Expr::BinaryExpr(binary) => compare(binary, columns),
            Expr::InList(InList { expr, list, negated }) if !list.is_empty() => {
                let column = column(expr, columns)?;
                let values = list.iter().map(literal).collect::<Result<Vec<_>, _>>()?;
                Ok(Self::In { column, values, negated: *negated })
            }
            Expr::Between(between) => {
                let column = column(&between.expr, columns)?;
                let (low, high) = (literal(&between.low)?, literal(&between.high)?);
                let both = Self::And(vec![
                    Self::Compare { column, comparison: Comparison::GreaterOrEqual, value: low },
                    Self::Compare { column, comparison: Comparison::LessOrEqual, value: high },
                ]);
                Ok(if between.negated { Self::Not(Box::new(both)) } else { both })
            }
            Expr::IsNull(inner) => {
                Ok(Self::Null { column: column(inner, columns)?, negated: false })
            }
            Expr::IsNotNull(inner) => {
                Ok(Self::Null { column: column(inner, columns)?, negated: true })
            }
            Expr::Not(inner) => Ok(Self::Not(Box::new(part(inner)?))),
            Expr::Like(like) => starts_with(like, columns),
            // A bare boolean column.
            Expr::Column(_) => Ok(Self::Compare {
                column: column(expr, columns)?,
                comparison: Comparison::Equal,
                value: Literal::Bool(true),
            }),
            other => Err(obstacle(other)),
        }
    }
}

fn compare(binary: &BinaryExpr, columns: &[RemoteColumn]) -> Result<Predicate, Reason> {
    let BinaryExpr { left, op, right } = binary;
    let Some(comparison) = Comparison::from_operator(*op) else {
        let message = format!("the operator {op} is not the same everywhere");
        return Err(Reason::new(ReasonCode::Expression, message));
    };
    match (left.as_ref(), right.as_ref()) {
        (Expr::Column(_), Expr::Column(_)) => Err(Reason::new(
            ReasonCode::Columns,
            format!("{left} and {right} are compared with each other, not with a constant"),
        )),
        (Expr::Literal(..), _) => Ok(Predicate::Compare {
            column: column(right, columns)?,
            comparison: comparison.swapped(),
            value: literal(left)?,
        }),
        _ => Ok(Predicate::Compare {
            column: column(left, columns)?,
            comparison,
            value: literal(right)?,
        }),
    }
}

fn column(expr: &Expr, columns: &[RemoteColumn]) -> Result<usize, Reason> {
    let Expr::Column(column) = expr else { return Err(obstacle(expr)) };
    let found = columns.iter().position(|candidate| candidate.name == column.name);
    found.ok_or_else(|| {
        Reason::new(ReasonCode::Expression, format!("{column} is no column of the source"))
    })
}

fn literal(expr: &Expr) -> Result<Literal, Reason> {
    let Expr::Literal(scalar, _) = expr else { return Err(obstacle(expr)) };
    Literal::from_scalar(scalar).ok_or_else(|| {
        let message = format!("{scalar} of type {} has no counterpart", scalar.data_type());
        Reason::new(ReasonCode::Literal, message)
    })
}

fn starts_with(like: &Like, columns: &[RemoteColumn]) -> Result<Predicate, Reason> {
    let column = column(&like.expr, columns)?;
    let prefix = match literal(&like.pattern)? {
        Literal::Text(pattern) => prefix_of(&pattern).map(str::to_owned),
        _other => None,
    };
    let is_plain = !like.negated && !like.case_insensitive && like.escape_char.is_none();
    match prefix.filter(|_| is_plain) {
        Some(prefix) => Ok(Predicate::StartsWith { column, prefix }),
        None => Err(Reason::new(ReasonCode::Pattern, "only LIKE 'prefix%' is the same everywhere")),
    }
}

/// Returns what a pattern asks the beginning to be, if it asks nothing else.
pub(super) fn prefix_of(pattern: &str) -> Option<&str> {
    let prefix = pattern.strip_suffix('%')?;
    (!prefix.is_empty() && !prefix.contains(['%', '_', '\\'])).then_some(prefix)
}

/// Names what in an expression sources do not share.
fn obstacle(expr: &Expr) -> Reason {
    let (code, message) = match expr {
        Expr::Cast(cast) => {
            let message = format!(
                "{} is cast to {} before it is compared",
                cast.expr,
                cast.field.data_type()
            );
            (ReasonCode::Cast, message)
        }
        Expr::TryCast(cast) => {
            let message = format!(
                "{} is cast to {} before it is compared",
                cast.expr,
                cast.field.data_type()
            );
            (ReasonCode::Cast, message)
        }
        Expr::ScalarFunction(call) => {
            (ReasonCode::Function, format!("the function {} is computed here", call.name()))
        }
        Expr::SimilarTo(_) => {
            (ReasonCode::Pattern, "SIMILAR TO is not the same everywhere".to_owned())
        }
        Expr::ScalarSubquery(_)
        | Expr::InSubquery(_)
        | Expr::Exists(_)
        | Expr::SetComparison(_) => {
            (ReasonCode::Expression, "a subquery is computed here".to_owned())
        }
        Expr::Case(_) => (ReasonCode::Expression, "CASE is computed here".to_owned()),
        // What else there is has no name that people write.
        other => (ReasonCode::Expression, format!("{other} is none that sources share")),
    };
    Reason::new(code, message)
}
