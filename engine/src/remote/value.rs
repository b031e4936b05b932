//! Values that a source may compute: columns, constants, and decimal arithmetic that cannot overflow.

use datafusion::arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};

use super::{Literal, RemoteColumn};

/// A value of one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// A column, as an index into `RemoteScan::columns`.
    Column(usize),
    /// A value that is the same for all rows.
    Literal(Literal),
    /// Arithmetic with at least one decimal, whose result type has room for every result.
    Arithmetic {
        /// What is done.
        operation: Operation,
        /// The left operand.
        left: Box<Value>,
        /// The right operand.
        right: Box<Value>,
        /// The type of the result, a decimal.
        data_type: DataType,
    },
}

/// What is done with two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
}

impl Operation {
    /// Returns the operator in SQL.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
        }
    }
}

impl Value {
    /// Returns the type; `None` of a constant that is no number.
    pub fn data_type(&self, columns: &[RemoteColumn]) -> Option<DataType> {
        match self {
            Self::Column(index) => columns.get(*index).map(|column| column.data_type.clone()),
            Self::Literal(literal) => literal.number_type(),
            Self::Arithmetic { data_type, .. } => Some(data_type.clone()),
        }
    }

    /// Calls `visit` with the index of every column that the value names.
    pub fn for_each_column(&self, visit: &mut impl FnMut(usize)) {
        match self {
            Self::Column(index) => visit(*index),
            Self::Literal(_) => {}
            Self::Arithmetic { left, right, .. } => {
                left.for_each_column(visit);
                right.for_each_column(visit);
            }
        }
    }
}
