//! The planner's physical expressions as values and conditions for a source.
//!
//! Columns of an expression are those that the scan returns, in its order.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr,
    Literal as Constant, NotExpr,
};

use super::logical::matching;
use super::reason::{Reason, ReasonCode};
use super::{Comparison, Literal, Operation, Predicate, RemoteScan, Value};

impl Value {
    /// Returns the value of an expression over the rows that the scan returns.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn from_physical(expr: &Arc<dyn PhysicalExpr>, scan: &RemoteScan) -> Result<Self, Reason> {
        if expr.is::<Column>() {
            return Ok(Self::Column(column(expr, scan)?));
        }
        if expr.is::<Constant>() {
            return Ok(Self::Literal(literal(expr)?));
        }
        if let Some(cast) = expr.downcast_ref::<CastExpr>() {
            let value = Self::from_physical(cast.expr(), scan)?;
            return match value.data_type(&scan.columns) {
                Some(from) if only_widens(&from, cast.cast_type()) => Ok(value),
                _ => Err(Reason::new(ReasonCode::Cast, format!("{expr} changes the value"))),
            };
        }
        let Some(binary) = expr.downcast_ref::<BinaryExpr>() else { return Err(obstacle(expr)) };
        // Other operators are not the same everywhere.
        let operation = match binary.op() {
            Operator::Plus => Operation::Add,
            Operator::Minus => Operation::Subtract,
            Operator::Multiply => Operation::Multiply,
            _ => return Err(obstacle(expr)),
        };
        let left = Self::from_physical(binary.left(), scan)?;
        let right = Self::from_physical(binary.right(), scan)?;
        let is_decimal =
            |value: &Self| value.data_type(&scan.columns).is_some_and(|t| t.is_decimal());
        let data_type = expr.data_type(&scan.output_schema()).unwrap_or(DataType::Null);
        // With two integers the source would compute in integers, within their bounds.
        if !data_type.is_decimal() || !(is_decimal(&left) || is_decimal(&right)) {
            let message = format!("{expr} is arithmetic that sources bound in other ways");
            return Err(Reason::new(ReasonCode::Expression, message));
        }
        Ok(Self::Arithmetic { operation, left: Box::new(left), right: Box::new(right), data_type })
    }
}

impl Predicate {
    /// Returns the condition of an expression over the rows that the scan returns.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn from_physical(expr: &Arc<dyn PhysicalExpr>, scan: &RemoteScan) -> Result<Self, Reason> {
        if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
            let part = |expr| Self::from_physical(expr, scan);
            // The rest are comparisons or nothing that sources share.
            return match binary.op() {
                Operator::And => Ok(Self::And(vec![part(binary.left())?, part(binary.right())?])),
                Operator::Or => Ok(Self::Or(vec![part(binary.left())?, part(binary.right())?])),
                _ => compare(binary, scan),
            };
        }
        if let Some(not) = expr.downcast_ref::<NotExpr>() {
            return Ok(Self::Not(Box::new(Self::from_physical(not.arg(), scan)?)));
        }
        if let Some(test) = expr.downcast_ref::<IsNullExpr>() {
            return Ok(Self::Null { column: column(test.arg(), scan)?, negated: false });
        }
        if let Some(test) = expr.downcast_ref::<IsNotNullExpr>() {
            return Ok(Self::Null { column: column(test.arg(), scan)?, negated: true });
        }
        if let Some(list) = expr.downcast_ref::<InListExpr>() {
            let column = column(list.expr(), scan)?;
            // The keys of a join come with their repetitions.
            let values = list.list().iter().map(literal).collect::<Result<BTreeSet<_>, _>>()?;
            return match values.is_empty() {
                true => Err(obstacle(expr)),
                false => {
                    let values = values.into_iter().collect();
                    Ok(Self::In { column, values, negated: list.negated() })
                }
            };
        }
        if let Some(like) = expr.downcast_ref::<LikeExpr>() {
            let (column, pattern) = (column(like.expr(), scan)?, literal(like.pattern())?);
            return matching(column, &pattern, like.case_insensitive(), like.negated());
        }
        // A bare boolean column.
        let column = column(expr, scan)?;
        let value = Literal::Bool(true);
        Ok(Self::Compare { column, comparison: Comparison::Equal, value })
    }
}

fn compare(binary: &BinaryExpr, scan: &RemoteScan) -> Result<Predicate, Reason> {
    let (left, right) = (binary.left(), binary.right());
    let Some(comparison) = Comparison::from_operator(*binary.op()) else {
        let message = format!("the operator {} is not the same everywhere", binary.op());
        return Err(Reason::new(ReasonCode::Expression, message));
    };
    if left.is::<Constant>() {
        let (column, value) = (column(right, scan)?, literal(left)?);
        return Ok(Predicate::Compare { column, comparison: comparison.swapped(), value });
    }
    let (column, value) = (column(left, scan)?, literal(right)?);
    Ok(Predicate::Compare { column, comparison, value })
}

/// Returns the column of an expression; one that is cast to a wider type of its kind compares as it is.
fn column(expr: &Arc<dyn PhysicalExpr>, scan: &RemoteScan) -> Result<usize, Reason> {
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        let inner = column(cast.expr(), scan)?;
        let from = scan.columns.get(inner).map(|column| &column.data_type);
        return match from.is_some_and(|from| keeps_kind(from, cast.cast_type())) {
            true => Ok(inner),
            false => Err(Reason::new(ReasonCode::Cast, format!("{expr} may change the value"))),
        };
    }
    let column = expr.downcast_ref::<Column>().ok_or_else(|| obstacle(expr))?;
    scan.returned(column.index()).ok_or_else(|| obstacle(expr))
}

fn literal(expr: &Arc<dyn PhysicalExpr>) -> Result<Literal, Reason> {
    let constant = expr.downcast_ref::<Constant>().ok_or_else(|| obstacle(expr))?;
    Literal::from_scalar(constant.value()).ok_or_else(|| {
        let data_type = constant.value().data_type();
        let message = format!("{} of type {data_type} has no counterpart", constant.value());
        Reason::new(ReasonCode::Literal, message)
    })
}

fn obstacle(expr: &Arc<dyn PhysicalExpr>) -> Reason {
    Reason::new(ReasonCode::Expression, format!("{expr} is none that sources share"))
}

/// Whether a cast keeps every value, and what it is compared with is of a type that the source compares as well.
fn keeps_kind(from: &DataType, to: &DataType) -> bool {
    let is_text = |data_type: &DataType| {
        matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
    };
    let is_same_kind =
        (from.is_integer() && to.is_integer()) || (from.is_decimal() && to.is_decimal());
    (is_text(from) && is_text(to)) || (is_same_kind && only_widens(from, to))
}

/// Whether a cast keeps every value and, of decimals, all digits behind the point.
fn only_widens(from: &DataType, to: &DataType) -> bool {
    if from.is_integer() && to.is_integer() {
        let (width, to_width) = (from.primitive_width(), to.primitive_width());
        return match (from.is_signed_integer(), to.is_signed_integer()) {
            (true, true) | (false, false) => width <= to_width,
            (false, true) => width < to_width,
            (true, false) => false,
        };
    }
    let (DataType::Decimal128(to_digits, to_scale) | DataType::Decimal256(to_digits, to_scale)) =
        to
    else {
        return false;
    };
    // Casts of other types may round.
    let (digits, scale) = match from {
        DataType::Decimal128(digits, scale) | DataType::Decimal256(digits, scale) => {
            (*digits, *scale)
        }
        DataType::Int8 | DataType::UInt8 => (3, 0),
        DataType::Int16 | DataType::UInt16 => (5, 0),
        DataType::Int32 | DataType::UInt32 => (10, 0),
        DataType::Int64 => (19, 0),
        DataType::UInt64 => (20, 0),
        _ => return false,
    };
    scale == *to_scale && digits <= *to_digits
}
