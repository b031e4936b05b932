//! Rows in: `INSERT` as one update, and update batches over several tables.
//!
//! Rows are collected in memory, within the store's limit for one batch and the node's for all queries. Nothing is visible before the commit, and the
//! transaction of an `INSERT` is drawn once per plan: a plan that is run again after a failure cannot add its rows twice.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::Result as DataFusionResult;
use datafusion::datasource::sink::DataSink;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType};
use futures::StreamExt;
use meshwork_engine::connector::Batch;
use meshwork_engine::{Error, Result};
use meshwork_store::{Batch as OpenBatch, TableDef, TransactionId};

use super::connector::Shared;

/// How often rows are in memory at the same time while they become a file: as they came, sorted, encoded.
const COPIES: usize = 3;

/// An update of several tables.
#[derive(Debug)]
pub(super) struct StoreBatch {
    shared: Arc<Shared>,
    batch: OpenBatch,
    /// The memory of the rows, once there are some.
    held: Option<MemoryReservation>,
}

impl StoreBatch {
    pub(super) fn new(shared: Arc<Shared>, batch: OpenBatch) -> Self {
        Self { shared, batch, held: None }
    }
}

#[async_trait]
impl Batch for StoreBatch {
    async fn insert(
        &mut self,
        session: &dyn Session,
        schema: &str,
        table: &str,
        rows: SendableRecordBatchStream,
    ) -> Result<u64> {
        let target = self.shared.newest_table(schema, table).await?;
        let held = self.held.get_or_insert_with(|| reserve(session.runtime_env()));
        let def = target.def();
        let fit = |rows: &RecordBatch| by_position(def, rows);
        collect(&self.shared, &mut self.batch, def, rows, held, fit).await
    }

    fn of_feed(&mut self, feed: &str, number: u64) {
        self.batch.of_feed(feed, number);
    }

    async fn commit(self: Box<Self>) -> Result<u64> {
        let tables = self.batch.tables();
        let committed = self.batch.commit().await;
        let version = self.shared.named(committed)?.version.0;
        self.shared.maintenance.after_commit(self.shared.database().await?, tables);
        Ok(version)
    }
}

/// Where the rows of one `INSERT` go.
#[derive(Debug)]
pub(super) struct InsertSink {
    shared: Arc<Shared>,
    def: Arc<TableDef>,
    schema: SchemaRef,
    transaction: TransactionId,
}

impl InsertSink {
    pub(super) fn new(
        shared: Arc<Shared>,
        def: Arc<TableDef>,
        schema: SchemaRef,
        transaction: TransactionId,
    ) -> Self {
        Self { shared, def, schema, transaction }
    }
}

impl DisplayAs for InsertSink {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreInsert(table={}.{})", self.shared.catalog, self.def.full_name())
    }
}

#[async_trait]
impl DataSink for InsertSink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(
        &self,
        rows: SendableRecordBatchStream,
        context: &Arc<TaskContext>,
    ) -> DataFusionResult<u64> {
        let batch = self.shared.database().await?.batch_of(self.transaction);
        let fit = |rows: &RecordBatch| by_position(&self.def, rows);
        let runtime = context.runtime_env();
        Ok(committed(&self.shared, batch, &self.def, rows, &runtime, fit).await?)
    }
}

fn reserve(runtime: &Arc<RuntimeEnv>) -> MemoryReservation {
    MemoryConsumer::new("rows for a store").register(&runtime.memory_pool)
}

/// Commits the rows of a stream, each batch as `fit` makes it, as one update of a table; returns how many.
pub(super) async fn committed(
    shared: &Shared,
    mut batch: OpenBatch,
    def: &Arc<TableDef>,
    rows: SendableRecordBatchStream,
    runtime: &Arc<RuntimeEnv>,
    fit: impl Fn(&RecordBatch) -> Result<RecordBatch>,
) -> Result<u64> {
    let held = reserve(runtime);
    let n_rows = collect(shared, &mut batch, def, rows, &held, fit).await?;
    shared.named(batch.commit().await)?;
    shared.maintenance.after_commit(shared.database().await?, vec![def.id]);
    Ok(n_rows)
}

/// Adds all rows of a stream, each batch as `fit` makes it, to a batch, or none if it fails or is given up; returns how many.
async fn collect(
    shared: &Shared,
    batch: &mut OpenBatch,
    def: &Arc<TableDef>,
    mut rows: SendableRecordBatchStream,
    held: &MemoryReservation,
    fit: impl Fn(&RecordBatch) -> Result<RecordBatch>,
) -> Result<u64> {
    let (mut collected, mut n_rows) = (Vec::new(), 0);
    let own = held.new_empty();
    while let Some(incoming) = rows.next().await {
        let incoming = fit(&incoming?)?;
        n_rows += incoming.num_rows() as u64;
        own.try_grow(incoming.get_array_memory_size() * COPIES)?;
        collected.push(incoming);
    }
    shared.named(batch.insert_all(def, collected))?;
    held.grow(own.free());
    Ok(n_rows)
}

/// Gives incoming columns the names and types of the table's. NULLs are the store's to judge.
pub(super) fn by_position(def: &TableDef, rows: &RecordBatch) -> Result<RecordBatch> {
    let (have, want) = (rows.num_columns(), def.columns.len());
    if have != want {
        let what =
            format!("the rows have {have} columns, table \"{}\" has {want}", def.full_name());
        return Err(Error::user("COLUMN_COUNT_MISMATCH", what));
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let mut fields = Vec::with_capacity(want);
    let mut columns = Vec::with_capacity(want);
    for (column, array) in def.columns.iter().zip(rows.columns()) {
        let data_type = column.column_type.to_arrow();
        columns.push(cast_with_options(array, &data_type, &strict)?);
        fields.push(Field::new(&column.name, data_type, true));
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
