//! A table at a version, as DataFusion's planner meets it.
//!
//! Where there is one row per key, a filter may go below the merge only if it looks at key columns alone: a value is known
//! only after all its versions were folded. In an append table any filter may.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::datasource::listing::helpers::expr_applicable_for_cols;
use datafusion::datasource::sink::DataSinkExec;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::expr_rewriter::unnormalize_cols;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType, lit};
use datafusion::physical_plan::ExecutionPlan;
use meshwork_engine::scope::QueryScope;
use meshwork_engine::statistics::TableKey;
use meshwork_engine::versioned::{Fold, Reads, Versioned};
use meshwork_engine::{Error, Result};
use meshwork_store::{Column, ColumnRole, Delta, FileEntry, TableSnapshot, ValueFunction};

use super::changes::StoreChanger;
use super::connector::Shared;
use super::scan::{Scan, Source, files_of, plan};
use super::writes::InsertSink;

/// A table as one query sees it.
#[derive(Debug)]
pub(super) struct StoreTable {
    shared: Arc<Shared>,
    table: TableSnapshot,
    schema: SchemaRef,
    /// What an INSERT that leaves a column out puts there.
    defaults: BTreeMap<String, Expr>,
    /// The name of the rollup that it is; None for the table itself.
    rollup: Option<String>,
}

impl StoreTable {
    pub(super) fn new(shared: Arc<Shared>, table: TableSnapshot) -> Self {
        let def = table.def();
        let fields: Vec<Field> = def.columns.iter().map(field).collect();
        let default = |column: &Column| match (&column.default, column.role) {
            (Some(_), _) => ScalarValue::try_from_array(&column.default_array().ok()?, 0).ok(),
            // A row whose count nobody gave counts as one.
            (None, ColumnRole::Value(ValueFunction::Count)) => Some(ScalarValue::from(1i64)),
            (None, _) => None,
        };
        let defaults = def
            .columns
            .iter()
            .filter_map(|column| default(column).map(|value| (column.name.clone(), lit(value))));
        let defaults = defaults.collect();
        Self { shared, schema: Arc::new(Schema::new(fields)), defaults, table, rollup: None }
    }

    /// Returns what changes rows that were found in it.
    ///
    /// # Errors
    /// `NotSupported` for a table without a unique key.
    pub(super) fn changer(&self) -> Result<StoreChanger> {
        StoreChanger::new(Arc::clone(&self.shared), self.table.clone())
    }

    fn goes_below_the_merge(&self, filter: &Expr) -> bool {
        let def = self.table.def();
        let names: Vec<&str> = match def.kind.folds() {
            true => def.key.iter().map(String::as_str).collect(),
            false => def.columns.iter().map(|column| column.name.as_str()).collect(),
        };
        expr_applicable_for_cols(&names, filter)
    }
}

/// Returns a column as queries see it. A folded value counts as nullable whatever was declared, because the functions
/// that fold it do; the store refuses NULLs that were not declared when they come in.
pub(super) fn field(column: &Column) -> Field {
    let nullable = match column.role {
        ColumnRole::Key | ColumnRole::Plain => column.nullable,
        ColumnRole::Value(_) => true,
    };
    let data_type: DataType = column.column_type.to_arrow();
    Field::new(&column.name, data_type, nullable)
}

#[async_trait]
impl TableProvider for StoreTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.defaults.get(column)
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let answer = |filter: &&Expr| match self.goes_below_the_merge(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(answer).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let def = self.table.def();
        let key = TableKey {
            catalog: self.shared.catalog.clone(),
            schema: def.namespace.clone(),
            table: def.name.clone(),
        };
        let all = || (0..self.schema.fields().len()).collect();
        let source = Source {
            database: self.shared.database().await?,
            url: &self.shared.url,
            table: &self.table,
            kept: QueryScope::of(state.config()).kept_statistics(key).await,
            catalog: &self.shared.catalog,
        };
        let projection = projection.cloned().unwrap_or_else(all);
        let scan = Scan { source, schema: &self.schema, projection, filters, limit };
        plan(&scan, state)
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        operation: InsertOp,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        if operation != InsertOp::Append {
            let what = format!("{operation} into a table of a store");
            return Err(Error::not_supported(what).into());
        }
        let sink = InsertSink::new(
            Arc::clone(&self.shared),
            Arc::clone(self.table.def()),
            self.schema(),
            self.shared.database().await?.new_transaction(),
        );
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), None)))
    }
}

impl Versioned for StoreTable {
    fn key(&self) -> &[String] {
        &self.table.def().key
    }

    fn fold_of(&self, column: &str) -> Option<Fold> {
        let ColumnRole::Value(function) = self.table.def().column(column)?.role else {
            return None;
        };
        match function {
            ValueFunction::Sum | ValueFunction::Count => Some(Fold::Sum),
            ValueFunction::Min => Some(Fold::Min),
            ValueFunction::Max => Some(Fold::Max),
            ValueFunction::And => Some(Fold::And),
            ValueFunction::Or => Some(Fold::Or),
            ValueFunction::Replace | ValueFunction::ReplaceIfNotNull | ValueFunction::First => None,
        }
    }

    fn rollups(&self) -> Vec<Arc<dyn Versioned>> {
        let of_rollup = |(name, rollup)| -> Arc<dyn Versioned> {
            let table = Self::new(Arc::clone(&self.shared), rollup);
            Arc::new(Self { rollup: Some(name), ..table })
        };
        self.table.rollups().into_iter().map(of_rollup).collect()
    }

    fn reads(&self, filters: &[Expr], session: &dyn Session) -> DataFusionResult<Reads> {
        let (all, chosen) = (self.table.files(), self.table.chosen());
        let filters = unnormalize_cols(filters.iter().cloned());
        let files = files_of(&self.table, &self.schema, &filters, session)?;
        let rows = |files: &[Arc<FileEntry>]| files.iter().map(|file| file.rows).sum();
        let is_read = |delta: &&Arc<Delta>| files.iter().any(|file| file.v == delta.id.v);
        let deltas = chosen.iter().filter(is_read).map(|delta| (delta.id.v.lo.0, delta.id.v.hi.0));
        Ok(Reads {
            rollup: self.rollup.clone(),
            version: self.table.version().0,
            deltas: deltas.collect(),
            n_deltas: chosen.len(),
            files: (files.len(), all.len()),
            rows: (rows(&files), rows(&all)),
        })
    }
}
