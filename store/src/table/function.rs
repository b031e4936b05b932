//! Value functions: how the values of one key fold together, in version order.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::table::ColumnType;

/// How values of one key fold together. All are associative, so deltas can be folded in any grouping; those of which
/// [`Self::is_ordered`] holds not in any order.
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
    /// Keeps the newest value that is not NULL.
    #[serde(rename = "REPLACE_IF_NOT_NULL")]
    ReplaceIfNotNull,
    /// Keeps the value of the oldest version, NULL too; within one update the first row wins.
    First,
    /// Whether all values are true; NULL counts as absent.
    #[serde(rename = "BOOL_AND")]
    And,
    /// Whether one of the values is true; NULL counts as absent.
    #[serde(rename = "BOOL_OR")]
    Or,
}

impl ValueFunction {
    /// All functions.
    pub const ALL: [Self; 9] = [
        Self::Sum,
        Self::Min,
        Self::Max,
        Self::Count,
        Self::Replace,
        Self::ReplaceIfNotNull,
        Self::First,
        Self::And,
        Self::Or,
    ];

    /// Returns the name in SQL, in upper case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "SUM",
            Self::Min => "MIN",
            Self::Max => "MAX",
            Self::Count => "COUNT",
            Self::Replace => "REPLACE",
            Self::ReplaceIfNotNull => "REPLACE_IF_NOT_NULL",
            Self::First => "FIRST",
            Self::And => "BOOL_AND",
            Self::Or => "BOOL_OR",
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
            Self::And | Self::Or => (*declared == ColumnType::Bool).then_some(ColumnType::Bool),
            Self::Min | Self::Max | Self::Replace | Self::ReplaceIfNotNull | Self::First => {
                Some(declared.clone())
            }
        }
    }

    /// Whether the order of versions matters.
    pub fn is_ordered(self) -> bool {
        match self {
            Self::Replace | Self::ReplaceIfNotNull | Self::First => true,
            Self::Sum | Self::Min | Self::Max | Self::Count | Self::And | Self::Or => false,
        }
    }
}

impl fmt::Display for ValueFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
