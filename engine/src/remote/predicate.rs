//! Conditions that may be offered to a source: a small closed language of values and columns.
//!
//! An expression that does not fit here exactly is not offered at all; nothing is approximated. [`super::logical`] and
//! [`super::physical`] make conditions of the planner's expressions.

use datafusion::logical_expr::Operator;
use serde::{Deserialize, Serialize};

use super::Literal;

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

    pub(super) fn from_operator(operator: Operator) -> Option<Self> {
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
    pub(super) fn swapped(self) -> Self {
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
    /// `column LIKE 'a%b'`, case-sensitive: the text begins with the first piece, ends with the last, and has the others in
    /// between, in this order and apart from each other.
    Like {
        /// Index of the column.
        column: usize,
        /// What stands between the wildcards, literally: two pieces or more, not all of them empty.
        pieces: Vec<String>,
    },
    /// All of these.
    And(Vec<Predicate>),
    /// Any of these.
    Or(Vec<Predicate>),
    /// Not this.
    Not(Box<Predicate>),
}

impl Predicate {
    /// Calls `visit` with the index of every column that the condition names.
    pub fn for_each_column(&self, visit: &mut impl FnMut(usize)) {
        match self {
            Self::Compare { column, .. }
            | Self::In { column, .. }
            | Self::Null { column, .. }
            | Self::Like { column, .. } => visit(*column),
            Self::And(parts) | Self::Or(parts) => {
                for part in parts {
                    part.for_each_column(visit);
                }
            }
            Self::Not(part) => part.for_each_column(visit),
        }
    }
}
