//! Tables that are kept as versions, with one row per key, and perhaps once more by other keys.
//!
//! A connector hands such a table to the planner as a [`VersionedTable`]. That lets the planner read a rollup where it
//! answers a query, and EXPLAIN say what a scan reads.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

/// A function that can fold what it has folded, in any order and grouping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// The sum, which needs each value once.
    Sum,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
    /// Whether all are true.
    And,
    /// Whether one is true.
    Or,
}

impl Fold {
    /// Returns what an aggregate function of that name does; None if it is none of these.
    pub fn named(function: &str) -> Option<Self> {
        match function {
            "sum" => Some(Self::Sum),
            "min" => Some(Self::Min),
            "max" => Some(Self::Max),
            "bool_and" => Some(Self::And),
            "bool_or" => Some(Self::Or),
            _ => None,
        }
    }
}

/// What a scan reads, for EXPLAIN and for choices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reads {
    /// The rollup; None for the table itself.
    pub rollup: Option<String>,
    /// The version.
    pub version: u64,
    /// The deltas that hold rows that the scan needs, each with its first and last version, oldest first.
    pub deltas: Vec<(u64, u64)>,
    /// How many deltas the version is made of.
    pub n_deltas: usize,
    /// The files to read, of those that the version is made of.
    pub files: (usize, usize),
    /// Their rows.
    pub rows: (u64, u64),
}

/// What a connector knows of such a table.
pub trait Versioned: TableProvider {
    /// Returns the key in sort order; empty if rows have none.
    fn key(&self) -> &[String];

    /// Returns how the values of a column fold; None for a key column, and where the order of versions matters.
    fn fold_of(&self, column: &str) -> Option<Fold>;

    /// Returns the rollups that hold all that the version has, with columns of the same names. One with as many key columns as
    /// the table has the same rows.
    fn rollups(&self) -> Vec<Arc<dyn Versioned>>;

    /// Returns what a scan with these filters reads, whatever name they call the table; opens no file.
    ///
    /// # Errors
    /// Those of planning the filters.
    fn reads(&self, filters: &[Expr], session: &dyn Session) -> DataFusionResult<Reads>;
}

/// A versioned table as the planner meets it.
#[derive(Debug, Clone)]
pub struct VersionedTable(Arc<dyn Versioned>);

impl VersionedTable {
    /// Wraps what the connector knows.
    pub fn new(table: Arc<dyn Versioned>) -> Self {
        Self(table)
    }

    /// Returns what the connector knows, if a table is one of these.
    pub fn of(table: &dyn TableProvider) -> Option<&Arc<dyn Versioned>> {
        let table: Option<&Self> = (table as &dyn Any).downcast_ref();
        table.map(|table| &table.0)
    }
}

#[async_trait]
impl TableProvider for VersionedTable {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        self.0.table_type()
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.0.get_column_default(column)
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        self.0.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.0.scan(state, projection, filters, limit).await
    }

    async fn insert_into(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        operation: InsertOp,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.0.insert_into(state, input, operation).await
    }
}
