//! Why a source does not do a piece of work: a code that stays the same, and what stands in the way.

use std::fmt;

/// The kind of obstacle. `EXPLAIN` prints it; people search for it, so a code is never renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasonCode {
    /// Pushdown is off, in the session or for the catalog.
    SwitchedOff,
    /// The source has no such operation at all.
    Source,
    /// The expression is none that sources share.
    Expression,
    /// A function or an aggregate stands in the way.
    Function,
    /// The column is cast before it is used.
    Cast,
    /// A column is compared with another one.
    Columns,
    /// A pattern that is more than a prefix.
    Pattern,
    /// The column's type has rules of its own there.
    Type,
    /// The literal is not of the column's type, or cannot be written there.
    Literal,
    /// The column's collation decides there what is equal or less.
    Collation,
    /// A character may not exist in the column's character set.
    CharacterSet,
    /// Zero, NaN, infinity, or the order in which floats are added.
    Float,
    /// NULL is not the same on both sides.
    Null,
    /// The source returns more rows than wanted, and the engine looks again before anything else.
    Superset,
    /// The statement would become too long.
    Size,
    /// It is not known to be less work for both.
    Cost,
    /// It has made a wrong answer before.
    Quarantined,
}

impl ReasonCode {
    /// Returns the code as it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SwitchedOff => "SWITCHED_OFF",
            Self::Source => "SOURCE",
            Self::Expression => "EXPRESSION",
            Self::Function => "FUNCTION",
            Self::Cast => "CAST",
            Self::Columns => "COLUMNS",
            Self::Pattern => "PATTERN",
            Self::Type => "TYPE",
            Self::Literal => "LITERAL",
            Self::Collation => "COLLATION",
            Self::CharacterSet => "CHARACTER_SET",
            Self::Float => "FLOAT",
            Self::Null => "NULL",
            Self::Superset => "SUPERSET",
            Self::Size => "SIZE",
            Self::Cost => "COST",
            Self::Quarantined => "QUARANTINED",
        }
    }
}

/// Why a piece of work stays with the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The kind of obstacle.
    pub code: ReasonCode,
    /// What exactly: names the type, function or collation.
    pub message: String,
}

impl Reason {
    /// Returns a reason.
    pub fn new(code: ReasonCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

/// A piece of work that stays with the engine, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The work as the planner prints it.
    pub work: String,
    /// What stands in the way.
    pub reason: Reason,
}
