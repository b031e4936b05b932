//! The planner's logical expressions as conditions for a source.

use std::cmp::Ordering;

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
                if let Some((inner, n_letters)) = beginning(expr) {
                    let column = column(inner, columns)?;
                    let begins = list.iter().map(|one| begins(column, n_letters, &literal(one)?));
                    let any = Self::Or(begins.collect::<Result<_, _>>()?);
                    return Ok(if *negated { Self::Not(Box::new(any)) } else { any });
                }
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
            Expr::Like(pattern) => like(pattern, columns),
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
    if let (Some((inner, n_letters)), Comparison::Equal | Comparison::NotEqual) =
        (beginning(left), comparison)
    {
        let begins = begins(column(inner, columns)?, n_letters, &literal(right)?)?;
        return Ok(match comparison {
            Comparison::Equal => begins,
            _ => Predicate::Not(Box::new(begins)),
        });
    }
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

fn like(like: &Like, columns: &[RemoteColumn]) -> Result<Predicate, Reason> {
    let column = column(&like.expr, columns)?;
    let pattern = literal(&like.pattern)?;
    if like.escape_char.is_some() {
        return Err(Reason::new(ReasonCode::Pattern, "a pattern with ESCAPE is matched here"));
    }
    matching(column, &pattern, like.case_insensitive, like.negated)
}

/// Returns of `substr(x, 1, n)` and `left(x, n)` the text and the number of letters.
fn beginning(expr: &Expr) -> Option<(&Expr, usize)> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let number = |expr: &Expr| match Literal::from_scalar(expr.as_literal()?)? {
        Literal::Int(number) => usize::try_from(number).ok().filter(|number| *number > 0),
        // Positions are whole numbers.
        _ => None,
    };
    match (call.name(), call.args.as_slice()) {
        ("substr", [text, first, n_letters]) if number(first) == Some(1) => {
            Some((text, number(n_letters)?))
        }
        ("left", [text, n_letters]) => Some((text, number(n_letters)?)),
        _ => None,
    }
}

/// Returns the condition that the first letters of a column are these: it begins with them, or is no longer than they are.
fn begins(column: usize, n_letters: usize, letters: &Literal) -> Result<Predicate, Reason> {
    let Literal::Text(text) = letters else {
        let message = format!("{letters} is compared with the beginning of a text");
        return Err(Reason::new(ReasonCode::Literal, message));
    };
    match text.chars().count().cmp(&n_letters) {
        Ordering::Equal => {
            Ok(Predicate::Like { column, pieces: vec![text.clone(), String::new()] })
        }
        Ordering::Less => {
            let (comparison, value) = (Comparison::Equal, letters.clone());
            Ok(Predicate::Compare { column, comparison, value })
        }
        Ordering::Greater => {
            let message = format!("{letters} is longer than what it is compared with");
            Err(Reason::new(ReasonCode::Literal, message))
        }
    }
}

/// Returns the condition that a column is, or is not, like a pattern.
pub(super) fn matching(
    column: usize,
    pattern: &Literal,
    ignores_case: bool,
    negated: bool,
) -> Result<Predicate, Reason> {
    let reason = |message| Reason::new(ReasonCode::Pattern, message);
    let Literal::Text(pattern) = pattern else { return Err(reason("a pattern that is no text")) };
    if ignores_case {
        return Err(reason("ILIKE is not the same everywhere"));
    }
    if pattern.contains(['_', '\\']) {
        return Err(reason("a pattern with _ or a backslash is not the same everywhere"));
    }
    let pieces: Vec<String> = pattern.split('%').map(str::to_owned).collect();
    if pieces.len() < 2 || pieces.iter().all(String::is_empty) {
        return Err(reason("a pattern without text or without % is matched here"));
    }
    let like = Predicate::Like { column, pieces };
    Ok(if negated { Predicate::Not(Box::new(like)) } else { like })
}

/// Names what in an expression sources do not share.
pub(super) fn obstacle(expr: &Expr) -> Reason {
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
