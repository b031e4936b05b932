//! A table of files in one query: prunes by folders, then leaves reading to DataFusion.
//!
//! DataFusion's own `ListingTable` is not used: it lists again at every scan and keeps listings by path for
//! all stores together. Here a query lists once, so that all its scans see the same files.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::Array;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, Result as DataFusionResult, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::listing::helpers::expr_applicable_for_cols;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchemaBuilder;
use datafusion::execution::cache::cache_manager::{
    CachedFileMetadata, SchemaFingerprint, TableScopedPath,
};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use futures::{StreamExt, TryStreamExt};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::statistics::TableKey;
use object_store::ObjectStore;

use super::format::{Format, Formats};
use super::partitions::LakeFile;
use super::schema::broken;
use super::upload::Aborts;
use super::writes::{self, Target};

/// Files whose statistics are read at once.
const FILES_AT_ONCE: usize = 32;

/// A table as one query sees it.
#[derive(Debug)]
pub(super) struct LakeTable {
    pub(super) name: String,
    pub(super) key: TableKey,
    pub(super) url: ObjectStoreUrl,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) formats: Formats,
    pub(super) format: Format,
    pub(super) files: Vec<LakeFile>,
    /// The columns in the files.
    pub(super) file_schema: SchemaRef,
    /// The columns that folders say.
    pub(super) partition_fields: Vec<FieldRef>,
    /// All columns: first the files', then the folders'.
    pub(super) schema: SchemaRef,
    pub(super) target: Target,
    /// Ends the uploads of INSERTs that end early.
    pub(super) aborts: Arc<Aborts>,
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let answer = |filter: &&Expr| match self.is_about_folders(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
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
        let (about_folders, about_rows): (Vec<Expr>, Vec<Expr>) =
            filters.iter().cloned().partition(|filter| self.is_about_folders(filter));
        let files = self.prune(state, about_folders)?;
        let enough = if about_rows.is_empty() { limit } else { None };
        let (files, all) = self.with_statistics(state, files, enough).await?;
        if files.is_empty() {
            let projected = match projection {
                Some(projection) => Arc::new(self.schema.project(projection)?),
                None => Arc::clone(&self.schema),
            };
            return Ok(Arc::new(EmptyExec::new(projected)));
        }
        let (groups, statistics) = self.grouped(files, state.config().target_partitions())?;
        let mut statistics = if all { statistics } else { statistics.to_inexact() };
        // Of what the files do not say, what ANALYZE kept is better than nothing.
        if let Some(kept) = QueryScope::of(state.config()).kept_statistics(self.key.clone()).await {
            kept.fill(&mut statistics, &self.schema);
        }
        let columns = TableSchemaBuilder::from(&self.file_schema)
            .with_table_partition_cols(self.partition_fields.clone())
            .build();
        let format = self.formats.reader(self.format, state);
        let scan = FileScanConfigBuilder::new(self.url.clone(), format.file_source(columns))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        format.create_physical_plan(state, scan).await
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        insert_op: InsertOp,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        writes::insert_into(self, input, insert_op)
    }
}

impl LakeTable {
    fn is_about_folders(&self, filter: &Expr) -> bool {
        let names: Vec<&str> =
            self.partition_fields.iter().map(|field| field.name().as_str()).collect();
        !names.is_empty() && expr_applicable_for_cols(&names, filter)
    }

    /// Returns the files for whose folders all filters are true.
    fn prune(&self, state: &dyn Session, filters: Vec<Expr>) -> DataFusionResult<Vec<&LakeFile>> {
        let Some(filter) = conjunction(filters) else { return Ok(self.files.iter().collect()) };
        if self.files.is_empty() {
            return Ok(Vec::new());
        }
        let schema = Arc::new(Schema::new(self.partition_fields.clone()));
        let column = |index: usize| {
            let values = self.files.iter().filter_map(|file| file.values.get(index).cloned());
            ScalarValue::iter_to_array(values)
        };
        let columns = (0..self.partition_fields.len()).map(column);
        let folders = RecordBatch::try_new(
            Arc::clone(&schema),
            columns.collect::<DataFusionResult<Vec<_>>>()?,
        )?;
        let filter = state.create_physical_expr(filter, &DFSchema::try_from(schema)?)?;
        let passed = filter.evaluate(&folders)?.into_array(folders.num_rows())?;
        let passed = passed.as_boolean();
        let passes = |(row, file)| (passed.is_valid(row) && passed.value(row)).then_some(file);
        Ok(self.files.iter().enumerate().filter_map(passes).collect())
    }

    /// Returns the files with their statistics, and whether these are all: a limit may need fewer.
    async fn with_statistics(
        &self,
        state: &dyn Session,
        files: Vec<&LakeFile>,
        enough: Option<usize>,
    ) -> DataFusionResult<(Vec<PartitionedFile>, bool)> {
        let n_files = files.len();
        let fingerprint = Arc::new(SchemaFingerprint::from_schema(&self.file_schema));
        let reads: Vec<_> = files
            .into_iter()
            .map(|file| self.file_with_statistics(state, file, Arc::clone(&fingerprint)))
            .collect();
        let mut reads = futures::stream::iter(reads).buffered(FILES_AT_ONCE);
        let (mut taken, mut n_rows) = (Vec::new(), 0);
        while let Some(file) = reads.try_next().await? {
            let rows = file.statistics.as_ref().and_then(|s| s.num_rows.get_value().copied());
            n_rows += rows.unwrap_or(0);
            taken.push(file);
            if enough.is_some_and(|enough| n_rows >= enough) {
                break;
            }
        }
        let all = taken.len() == n_files;
        Ok((taken, all))
    }

    async fn file_with_statistics(
        &self,
        state: &dyn Session,
        file: &LakeFile,
        fingerprint: Arc<SchemaFingerprint>,
    ) -> DataFusionResult<PartitionedFile> {
        let mut listed = PartitionedFile::from(file.meta.clone());
        listed.partition_values.clone_from(&file.values);
        let statistics = self.statistics(state, file, fingerprint).await?;
        Ok(listed.with_statistics(statistics))
    }

    async fn statistics(
        &self,
        state: &dyn Session,
        file: &LakeFile,
        fingerprint: Arc<SchemaFingerprint>,
    ) -> DataFusionResult<Arc<Statistics>> {
        let cache = state.runtime_env().cache_manager.get_file_statistic_cache();
        let key = TableScopedPath { table: None, path: file.meta.location.clone() };
        if let Some(known) = cache.as_ref().and_then(|cache| cache.get(&key))
            && known.is_valid_for(&file.meta, &fingerprint)
        {
            return Ok(Arc::clone(&known.statistics));
        }
        let read = self
            .formats
            .reader(self.format, state)
            .infer_stats(state, &self.store, Arc::clone(&self.file_schema), &file.meta)
            .await
            .map_err(|e| broken(&file.meta.location, self.format, &e))?;
        let read = Arc::new(self.without_bounds_of_floats(read));
        if let Some(cache) = cache {
            let entry =
                CachedFileMetadata::new(file.meta.clone(), fingerprint, Arc::clone(&read), None);
            cache.put(&key, entry);
        }
        Ok(read)
    }

    /// The bounds of floats in a file say nothing of NaN and of the sign of zero: they are neither what `min` and `max`
    /// are here, nor a reason to skip a file.
    fn without_bounds_of_floats(&self, mut statistics: Statistics) -> Statistics {
        for (column, field) in
            statistics.column_statistics.iter_mut().zip(self.file_schema.fields())
        {
            if field.data_type().is_floating() {
                column.min_value = Precision::Absent;
                column.max_value = Precision::Absent;
            }
        }
        statistics
    }

    fn grouped(
        &self,
        files: Vec<PartitionedFile>,
        n_groups: usize,
    ) -> DataFusionResult<(Vec<FileGroup>, Statistics)> {
        let merged = |files: &[PartitionedFile]| {
            let known = files.iter().filter_map(|file| file.statistics.as_deref());
            Statistics::try_merge_iter(known, &self.schema)
        };
        let statistics = merged(&files)?;
        let groups = FileGroup::new(files).split_files(n_groups.max(1));
        let with_statistics = |group: FileGroup| {
            let statistics = merged(group.files())?;
            Ok(group.with_statistics(Arc::new(statistics)))
        };
        Ok((groups.into_iter().map(with_statistics).collect::<DataFusionResult<_>>()?, statistics))
    }
}
