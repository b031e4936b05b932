//! What changes tables of a catalog: rows of several at once, rows that were found, definitions.

use std::fmt;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::catalog::Session;
use datafusion::common::ScalarValue;
use datafusion::execution::SendableRecordBatchStream;

use crate::Result;

/// An update of several tables of one catalog: all of it becomes visible at once, or nothing.
/// Dropping it abandons it.
#[async_trait]
pub trait Batch: fmt::Debug + Send + Sync {
    /// Adds the rows of a stream to a table; returns how many. Columns are matched by position.
    async fn insert(
        &mut self,
        session: &dyn Session,
        schema: &str,
        table: &str,
        rows: SendableRecordBatchStream,
    ) -> Result<u64>;

    /// Makes this batch that number of a feed: if the feed has committed it before, or a later one, [`Self::commit`] changes
    /// nothing.
    fn of_feed(&mut self, feed: &str, number: u64);

    /// Makes everything visible; returns the version at which it is.
    async fn commit(self: Box<Self>) -> Result<u64>;
}

/// A change of a table's definition.
#[derive(Debug, Clone)]
pub enum AlterTable {
    /// A column comes.
    AddColumn {
        /// What it is.
        column: Field,
        /// How its values fold, where the table's do.
        function: Option<String>,
        /// Its value in the rows that are there, and in those that leave it out.
        default: Option<ScalarValue>,
    },
    /// A column goes.
    DropColumn {
        /// Its name.
        name: String,
    },
    /// A column is called otherwise.
    RenameColumn {
        /// Its name.
        name: String,
        /// Its new one.
        to: String,
    },
    /// A column gets a type that holds all its values.
    ColumnType {
        /// Its name.
        name: String,
        /// Its new type.
        data_type: DataType,
    },
    /// The table is called otherwise, in the same schema.
    Rename {
        /// Its new name.
        to: String,
    },
    /// Its rows are kept once more, folded by fewer columns or sorted by others.
    AddRollup {
        /// The rollup's name.
        name: String,
        /// Names of its columns, those of its key in sort order.
        columns: Vec<String>,
    },
    /// A rollup goes.
    DropRollup {
        /// Its name.
        name: String,
    },
}

/// Changes rows of one table that a query found there. If the table has changed since the query began, nothing is changed
/// and the error's code is `COMMIT_CONFLICT`.
#[async_trait]
pub trait RowChanger: fmt::Debug + Send + Sync {
    /// The columns by which a row is found again; no change may touch them.
    fn key(&self) -> &[String];

    /// Puts rows in the place of those with their keys; they have all columns of the table, by position. Returns how many.
    async fn put(&self, rows: SendableRecordBatchStream, session: &dyn Session) -> Result<u64>;

    /// Deletes the rows of these keys, which have the columns of [`Self::key`], by position. Returns how many.
    async fn delete(&self, keys: SendableRecordBatchStream, session: &dyn Session) -> Result<u64>;
}
