//! Errors of a scan name the file.
//!
//! DataFusion's readers say what is wrong with bytes, but not in which file these are. Here each step of reading a file
//! knows its path:
//!
//! ```text
//! NamingSource ─► NamingMorselizer ─ plan_file(path) ─► NamingPlanner ─ plan ─► NamingMorsel ─► batches, or errors with the path
//! ```

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileOpener, FileScanConfig, FileSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, ExecutionPlan};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use futures::stream::BoxStream;
use futures::{StreamExt, TryFutureExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;

use crate::{Error, ErrorKind};

/// Returns the node with errors that name files; `None` for what is no scan of files. The result cannot be sent to
/// another node: call this where the plan runs.
pub fn with_named_files(node: &dyn ExecutionPlan) -> Option<Arc<dyn ExecutionPlan>> {
    let scan = node.downcast_ref::<DataSourceExec>()?.data_source();
    let config = scan.downcast_ref::<FileScanConfig>()?;
    let mut naming = config.clone();
    naming.file_source = Arc::new(NamingSource { inner: Arc::clone(&config.file_source) });
    Some(DataSourceExec::from_data_source(naming))
}

/// Says in an error of reading a file which file it is.
fn named(path: &Path, error: DataFusionError) -> DataFusionError {
    let mut ours = Error::from_datafusion(&error);
    let is_about_it = matches!(ours.kind, ErrorKind::User | ErrorKind::Source);
    if !is_about_it || ours.message.contains(path.as_ref()) {
        return error;
    }
    ours.message = format!("file \"{path}\": {}", ours.message);
    ours.into()
}

/// A source that reads as another one does, but for its errors. Plans that run are not optimized any more, so nothing can
/// be pushed down into it.
struct NamingSource {
    inner: Arc<dyn FileSource>,
}

impl FileSource for NamingSource {
    fn create_file_opener(
        &self,
        object_store: Arc<dyn ObjectStore>,
        base_config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        self.inner.create_file_opener(object_store, base_config, partition)
    }

    fn create_morselizer(
        &self,
        object_store: Arc<dyn ObjectStore>,
        base_config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        let inner = self.inner.create_morselizer(object_store, base_config, partition)?;
        Ok(Box::new(NamingMorselizer { inner }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self { inner: self.inner.with_batch_size(batch_size) })
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_extra(format, f)
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(visit)
    }
}

#[derive(Debug)]
struct NamingMorselizer {
    inner: Box<dyn Morselizer>,
}

impl Morselizer for NamingMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let path = Arc::new(file.object_meta.location.clone());
        let inner = self.inner.plan_file(file).map_err(|e| named(&path, e))?;
        Ok(NamingPlanner::around(inner, path))
    }
}

#[derive(Debug)]
struct NamingPlanner {
    inner: Box<dyn MorselPlanner>,
    path: Arc<Path>,
}

impl NamingPlanner {
    fn around(inner: Box<dyn MorselPlanner>, path: Arc<Path>) -> Box<dyn MorselPlanner> {
        Box::new(Self { inner, path })
    }
}

impl MorselPlanner for NamingPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Self { inner, path } = *self;
        let Some(mut plan) = inner.plan().map_err(|e| named(&path, e))? else { return Ok(None) };
        let morsel = |inner| Box::new(NamingMorsel { inner, path: Arc::clone(&path) }) as _;
        let morsels = plan.take_morsels().into_iter().map(morsel).collect();
        let planner = |inner| Self::around(inner, Arc::clone(&path));
        let planners = plan.take_ready_planners().into_iter().map(planner).collect();
        let pending = plan.take_pending_planner();
        let plan = plan.with_morsels(morsels).with_planners(planners);
        Ok(Some(match pending {
            None => plan,
            Some(pending) => plan.with_pending_planner(async move {
                let inner = pending.map_err(|e| named(&path, e)).await?;
                Ok(Self::around(inner, path))
            }),
        }))
    }
}

#[derive(Debug)]
struct NamingMorsel {
    inner: Box<dyn Morsel>,
    path: Arc<Path>,
}

impl Morsel for NamingMorsel {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let Self { inner, path } = *self;
        inner.into_stream().map_err(move |e| named(&path, e)).boxed()
    }
}
