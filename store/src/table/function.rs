//! Value functions: how the values of one key fold together, in version order.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::table::ColumnType;

/// How values of one key fold together. All are associative; only `REPLACE` depends on the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ValueFunction {
    /// Adds; NULL counts as absent. Leaving the range of the type is an error.
    Sum,
    /// Keeps the least value; NULL counts as absent.
    Min,
    /// Keeps the greatest value; NULL counts as absent.
    Max,
    /// Adds counts: a `SUM` over whole numbers by another name.
    Count,
    /// Keeps the value of the newest version, NULL too; within one update the last row wins.
    Replace,
}

impl ValueFunction {
    /// All functions.
    pub const ALL: [Self; 5] = [Self::Sum, Self::Min, Self::Max, Self::Count, Self::Replace];

    /// Returns the name in SQL, in upper case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "SUM",
            Self::Min => "MIN",
            Self::Max => "MAX",
            Self::Count => "COUNT",
            Self::Replace => "REPLACE",
        }
    }

    /// Returns the function of a name in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.name().eq_ignore_ascii_case(name))
    }

    /// Returns the type in which a column declared as `declared` is stored, or None if the function cannot fold it.
    pub fn stored_type(self, declared: &ColumnType) -> Option<ColumnType> {
        match self {
            Self::Sum => declared.of_sum(),
            Self::Count => match declared.of_sum() {
                Some(ColumnType::Int64 | ColumnType::UInt64) => Some(ColumnType::Int64),
                _ => None,
            },
            Self::Min | Self::Max | Self::Replace => Some(declared.clone()),
        }
    }
}

impl fmt::Display for ValueFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
