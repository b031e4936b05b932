//! What a table is: its columns, its key, and how values of one key fold together.
//!
//! A definition is immutable and lies in the log; the next one says how files of the earlier ones are read. There are three
//! kinds: in an *aggregate* table every column is either part of the key or carries a [`ValueFunction`], and a query sees one
//! row per key; in a *unique* table it sees the newest row of each key; in an *append* table rows stay as they came.

mod alter;
mod column_type;
mod definition;
mod function;
mod rollup;

pub(crate) use alter::Reshape;
pub use alter::{Alteration, InFile};
pub use column_type::{ColumnType, TimeUnit};
pub use definition::{
    Column, ColumnRole, ColumnSpec, DELETED_COLUMN, TableDef, TableId, TableKind, TableSpec,
};
pub use function::ValueFunction;
pub use rollup::Rollup;
