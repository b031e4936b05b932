//! What a table is: its columns, its key, and how values of one key fold together.
//!
//! A definition is immutable and lies in the log. There are two kinds: in an *aggregate* table every column is either
//! part of the key or carries a [`ValueFunction`], and a query sees one row per key; in an *append* table rows stay as
//! they came.

mod column_type;
mod definition;
mod function;

pub use column_type::{ColumnType, TimeUnit};
pub use definition::{
    Column, ColumnRole, ColumnSpec, DELETED_COLUMN, TableDef, TableId, TableKind, TableSpec,
};
pub use function::ValueFunction;
