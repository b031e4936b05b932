//! Conditions that may be offered to a source: a small closed language of values and columns.
//!
//! An expression that does not fit here exactly is not offered at all; nothing is approximated.

use std::fmt;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Like, Operator};
use serde::{Deserialize, Serialize};

use super::RemoteColumn;

/// A constant in a condition; never NULL (SQL's NULL rules stay with the engine).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Literal {
    /// True or false.
    Bool(bool),
    /// Any signed integer.
    Int(i64),
    /// Any unsigned integer.
    UInt(u64),
    /// A float by its bits, so that NaN, -0.0 and infinities survive the trip.
    Float(u64),
    /// An unscaled decimal value (as text: JSON has no 128-bit numbers) and its scale.
    Decimal {
        /// The digits without the point, with sign.
        unscaled: String,
        /// Digits behind the point.
        scale: i8,
    },
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since 1970-01-01 00:00:00, without a zone or in UTC.
    Timestamp {
        /// Microseconds.
        micros: i64,
        /// Whether it is an instant (the type had a zone).
        instant: bool,
    },
}

impl Literal {
    /// Returns the literal of a scalar, or `None` for NULL and for types that sources do not share.
    pub fn from_scalar(scalar: &ScalarValue) -> Option<Self> {
        let timestamp = |micros: Option<i64>, zone: &Option<_>| {
            micros.map(|micros| Self::Timestamp { micros, instant: zone.is_some() })
        };
        // Every type that is not listed stays with the engine.
        match scalar {
            ScalarValue::Boolean(v) => v.map(Self::Bool),
            ScalarValue::Int8(v) => v.map(|v| Self::Int(v.into())),
            ScalarValue::Int16(v) => v.map(|v| Self::Int(v.into())),
            ScalarValue::Int32(v) => v.map(|v| Self::Int(v.into())),
            ScalarValue::Int64(v) => v.map(Self::Int),
            ScalarValue::UInt8(v) => v.map(|v| Self::UInt(v.into())),
            ScalarValue::UInt16(v) => v.map(|v| Self::UInt(v.into())),
            ScalarValue::UInt32(v) => v.map(|v| Self::UInt(v.into())),
            ScalarValue::UInt64(v) => v.map(Self::UInt),
            ScalarValue::Float32(v) => v.map(|v| Self::Float(f64::from(v).to_bits())),
            ScalarValue::Float64(v) => v.map(|v| Self::Float(v.to_bits())),
            ScalarValue::Decimal128(v, _, scale) => {
                v.map(|v| Self::Decimal { unscaled: v.to_string(), scale: *scale })
            }
            ScalarValue::Decimal256(v, _, scale) => {
                v.map(|v| Self::Decimal { unscaled: v.to_string(), scale: *scale })
            }
            ScalarValue::Utf8(v) | ScalarValue::LargeUtf8(v) | ScalarValue::Utf8View(v) => {
                v.clone().map(Self::Text)
            }
            ScalarValue::Binary(v) | ScalarValue::LargeBinary(v) | ScalarValue::BinaryView(v) => {
                v.clone().map(Self::Bytes)
            }
            ScalarValue::Date32(v) => v.map(Self::Date),
            ScalarValue::TimestampSecond(v, zone) => {
                timestamp(v.and_then(|v| v.checked_mul(1_000_000)), zone)
            }
            ScalarValue::TimestampMillisecond(v, zone) => {
                timestamp(v.and_then(|v| v.checked_mul(1_000)), zone)
            }
            ScalarValue::TimestampMicrosecond(v, zone) => timestamp(*v, zone),
            // Only whole microseconds: sources do not go finer.
            ScalarValue::TimestampNanosecond(Some(v), zone) if v % 1_000 == 0 => {
                timestamp(Some(v / 1_000), zone)
            }
            ScalarValue::Dictionary(_, value) => Self::from_scalar(value),
            _ => None,
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(v) => write!(f, "{v}"),
            Self::Int(v) => write!(f, "{v}"),
            Self::UInt(v) => write!(f, "{v}"),
            Self::Float(bits) => write!(f, "{:?}", f64::from_bits(*bits)),
            Self::Decimal { unscaled, scale } => write!(f, "{unscaled}e-{scale}"),
            Self::Text(v) => write!(f, "{v:?}"),
            Self::Bytes(v) => write!(f, "{} bytes", v.len()),
            Self::Date(days) => write!(f, "day {days}"),
            Self::Timestamp { micros, .. } => write!(f, "{micros} us"),
        }
    }
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    /// Returns the comparison in SQL.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    fn from_operator(operator: Operator) -> Option<Self> {
        // Other operators are no comparisons.
        match operator {
            Operator::Eq => Some(Self::Equal),
            Operator::NotEq => Some(Self::NotEqual),
            Operator::Lt => Some(Self::Less),
            Operator::LtEq => Some(Self::LessOrEqual),
            Operator::Gt => Some(Self::Greater),
            Operator::GtEq => Some(Self::GreaterOrEqual),
            _ => None,
        }
    }

    /// Whether it is about an order.
    pub fn is_range(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }

    /// Returns the comparison that is true where this one is false, but for NULLs.
    pub fn opposite(self) -> Self {
        match self {
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::Less => Self::GreaterOrEqual,
            Self::LessOrEqual => Self::Greater,
            Self::Greater => Self::LessOrEqual,
            Self::GreaterOrEqual => Self::Less,
        }
    }

    /// Returns the comparison with its sides swapped.
    fn swapped(self) -> Self {
        match self {
            Self::Equal | Self::NotEqual => self,
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
        }
    }
}

/// A condition on one row; columns are indexes into `RemoteScan::columns`. SQL's three-valued logic holds:
/// a row passes only if the condition is true.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Predicate {
    /// `column <comparison> literal`
    Compare {
        /// Index of the column.
        column: usize,
        /// How.
        comparison: Comparison,
        /// With what.
        value: Literal,
    },
    /// `column [NOT] IN (values)`
    In {
        /// Index of the column.
        column: usize,
        /// With what; not empty.
        values: Vec<Literal>,
        /// Whether it is `NOT IN`.
        negated: bool,
    },
    /// `column IS [NOT] NULL`
    Null {
        /// Index of the column.
        column: usize,
        /// Whether it is `IS NOT NULL`.
        negated: bool,
    },
    /// `column LIKE 'prefix%'`, case-sensitive; the prefix has no wildcard left.
    StartsWith {
        /// Index of the column.
        column: usize,
        /// The literal prefix, not empty.
        prefix: String,
    },
    /// All of these.
    And(Vec<Predicate>),
    /// Any of these.
    Or(Vec<Predicate>),
    /// Not this.
    Not(Box<Predicate>),
}

impl Predicate {
    /// Returns the condition of an expression over the columns, or `None` if it does not fit exactly.
    pub fn from_expr(expr: &Expr, columns: &[RemoteColumn]) -> Option<Self> {
        // Expressions that are not listed are not offered.
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                Some(Self::And(vec![
                    Self::from_expr(left, columns)?,
                    Self::from_expr(right, columns)?,
                ]))
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => Some(Self::Or(vec![
                Self::from_expr(left, columns)?,
                Self::from_expr(right, columns)?,
            ])),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let comparison = Comparison::from_operator(*op)?;
                if let (Some(column), Some(value)) = (column(left, columns), literal(right)) {
                    return Some(Self::Compare { column, comparison, value });
                }
                let (column, value) = (column(right, columns)?, literal(left)?);
                Some(Self::Compare { column, comparison: comparison.swapped(), value })
            }
            Expr::InList(InList { expr, list, negated }) if !list.is_empty() => {
                let values = list.iter().map(literal).collect::<Option<Vec<_>>>()?;
                Some(Self::In { column: column(expr, columns)?, values, negated: *negated })
            }
            Expr::Between(between) => {
                let column = column(&between.expr, columns)?;
                let (low, high) = (literal(&between.low)?, literal(&between.high)?);
                let both = Self::And(vec![
                    Self::Compare { column, comparison: Comparison::GreaterOrEqual, value: low },
                    Self::Compare { column, comparison: Comparison::LessOrEqual, value: high },
                ]);
                Some(if between.negated { Self::Not(Box::new(both)) } else { both })
            }
            Expr::IsNull(inner) => {
                Some(Self::Null { column: column(inner, columns)?, negated: false })
            }
            Expr::IsNotNull(inner) => {
                Some(Self::Null { column: column(inner, columns)?, negated: true })
            }
            Expr::Not(inner) => Some(Self::Not(Box::new(Self::from_expr(inner, columns)?))),
            Expr::Like(like) => starts_with(like, columns),
            // A bare boolean column.
            Expr::Column(_) => Some(Self::Compare {
                column: column(expr, columns)?,
                comparison: Comparison::Equal,
                value: Literal::Bool(true),
            }),
            _ => None,
        }
    }

    /// Calls `visit` with the index of every column that the condition names.
    pub fn for_each_column(&self, visit: &mut impl FnMut(usize)) {
        match self {
            Self::Compare { column, .. }
            | Self::In { column, .. }
            | Self::Null { column, .. }
            | Self::StartsWith { column, .. } => visit(*column),
            Self::And(parts) | Self::Or(parts) => {
                for part in parts {
                    part.for_each_column(visit);
                }
            }
            Self::Not(part) => part.for_each_column(visit),
        }
    }
}

fn column(expr: &Expr, columns: &[RemoteColumn]) -> Option<usize> {
    let Expr::Column(column) = expr else { return None };
    columns.iter().position(|candidate| candidate.name == column.name)
}

fn literal(expr: &Expr) -> Option<Literal> {
    let Expr::Literal(scalar, _) = expr else { return None };
    Literal::from_scalar(scalar)
}

fn starts_with(like: &Like, columns: &[RemoteColumn]) -> Option<Predicate> {
    if like.negated || like.case_insensitive || like.escape_char.is_some() {
        return None;
    }
    let Some(Literal::Text(pattern)) = literal(&like.pattern) else { return None };
    let prefix = pattern.strip_suffix('%')?;
    if prefix.is_empty() || prefix.contains(['%', '_', '\\']) {
        return None;
    }
    Some(Predicate::StartsWith { column: column(&like.expr, columns)?, prefix: prefix.to_owned() })
}
