//! `"t$changes"`: the rows of a table as they came, update by update.
//!
//! ```text
//! SELECT * FROM facts.ads."clicks$changes" WHERE _version > 41      all columns, _version, of a unique table _deleted
//! ```
//! Rows of one key within one update are folded; those of different updates are not. What cannot be answered in whole is an
//! error: a reader that goes on from where it was misses nothing without hearing of it.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DataFusionResult;
use datafusion::datasource::listing::helpers::expr_applicable_for_cols;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{binary, cast, col, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::ProjectionExec;
use meshwork_engine::{Error, Result};
use meshwork_store::{DELETED_COLUMN, FileEntry, TableSnapshot, Version};

use super::connector::Shared;
use super::merge::VERSION_COLUMN;
use super::scan::{Source, Wanted, physical, read};
use super::table::field;

/// What the name of the table is followed by.
pub(super) const SUFFIX: &str = "$changes";

/// The version that an update made.
const VERSION: &str = "_version";

/// The updates of a table as one query sees them.
#[derive(Debug)]
pub(super) struct ChangeFeed {
    shared: Arc<Shared>,
    table: TableSnapshot,
    schema: SchemaRef,
}

impl ChangeFeed {
    /// # Errors
    /// `NotSupported` for a table with a column of the feed's own names.
    pub(super) fn new(shared: Arc<Shared>, table: TableSnapshot) -> Result<Self> {
        let def = table.def();
        if def
            .columns
            .iter()
            .any(|column| [VERSION, DELETED_COLUMN].contains(&column.name.as_str()))
        {
            let what =
                format!("the changes of a table with a column {VERSION} or {DELETED_COLUMN}");
            return Err(Error::not_supported(what));
        }
        let mut fields: Vec<Field> = def.columns.iter().map(field).collect();
        fields.push(Field::new(VERSION, DataType::Int64, false));
        if def.deleted.is_some() {
            fields.push(Field::new(DELETED_COLUMN, DataType::Boolean, false));
        }
        Ok(Self { shared, table, schema: Arc::new(Schema::new(fields)) })
    }

    /// Returns the files of the updates whose versions pass the filters.
    fn files(
        &self,
        filters: &[Expr],
        state: &dyn Session,
    ) -> DataFusionResult<Vec<Arc<FileEntry>>> {
        let of_version: Vec<Expr> = filters
            .iter()
            .filter(|filter| expr_applicable_for_cols(&[VERSION], filter))
            .cloned()
            .collect();
        let filter = match conjunction(of_version) {
            Some(filter) => {
                let version = Field::new(VERSION, DataType::Int64, false);
                Some(physical(&filter, &Arc::new(Schema::new(vec![version])), state)?)
            }
            None => None,
        };
        let oldest = self.table.updates_are_known_after();
        // Which of the expired versions were updates nobody knows any more.
        let expired: Vec<Version> = (self.table.begins().0 + 1..=oldest.0).map(Version).collect();
        if let Some(first) = passing(filter.as_ref(), &expired)?.first() {
            let name = self.table.def().full_name();
            let message =
                format!("changes of table \"{name}\" by version {first} are not kept any more");
            return Err(Error::user("VERSION_EXPIRED", message)
                .with_hint(format!("Ask for those that came later: WHERE {VERSION} > {oldest}."))
                .into());
        }
        let updates = self.table.updates_after(oldest);
        let wanted = passing(filter.as_ref(), &updates)?;
        let mut files = Vec::new();
        for version in wanted {
            let Some(delta) = self.table.update(version) else {
                let name = self.table.def().full_name();
                let what = format!(
                    "the changes of table \"{name}\" by version {version}, which restored it"
                );
                return Err(Error::not_supported(what).into());
            };
            files.extend(delta.files.iter().cloned());
        }
        Ok(files)
    }
}

/// Returns the versions that pass a filter.
fn passing(
    filter: Option<&Arc<dyn PhysicalExpr>>,
    versions: &[Version],
) -> DataFusionResult<Vec<Version>> {
    let Some(filter) = filter else { return Ok(versions.to_vec()) };
    let column = versions.iter().map(|version| i64::try_from(version.0).unwrap_or(i64::MAX));
    let column: ArrayRef = Arc::new(column.collect::<Int64Array>());
    let batch = RecordBatch::try_from_iter([(VERSION, column)])?;
    let passes = filter.evaluate(&batch)?.into_array(batch.num_rows())?;
    let passes = passes.as_boolean().iter().zip(versions);
    Ok(passes.filter(|(passes, _)| *passes == Some(true)).map(|(_, version)| *version).collect())
}

#[async_trait]
impl TableProvider for ChangeFeed {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let answer = |filter: &&Expr| match expr_applicable_for_cols(&[VERSION], filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(answer).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let all = || (0..self.schema.fields().len()).collect();
        let projection: Vec<usize> = projection.cloned().unwrap_or_else(all);
        let output = Arc::new(self.schema.project(&projection)?);
        let files = self.files(filters, state)?;
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(output)));
        }
        let wanted = output.fields().iter().map(|field| field.name().as_str());
        let names: Vec<&str> = wanted.filter(|name| *name != VERSION).collect();
        let source = Source {
            database: self.shared.database().await?,
            url: &self.shared.url,
            table: &self.table,
            kept: None,
            catalog: &self.shared.catalog,
        };
        let wanted = Wanted { names: &names, with_version: true, limit: None };
        let rows = read(&source, files, wanted, state)?;
        let schema = rows.schema();
        let column = |field: &Arc<Field>| -> DataFusionResult<(Arc<dyn PhysicalExpr>, String)> {
            let value = match field.name().as_str() {
                VERSION => cast(col(VERSION_COLUMN, &schema)?, &schema, DataType::Int64)?,
                DELETED_COLUMN => {
                    let deleted = col(DELETED_COLUMN, &schema)?;
                    binary(deleted, Operator::IsNotDistinctFrom, lit(true), &schema)?
                }
                name => col(name, &schema)?,
            };
            Ok((value, field.name().clone()))
        };
        let columns = output.fields().iter().map(column).collect::<DataFusionResult<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new(columns, rows)?))
    }
}
