//! Conditions on floats prune no Parquet: its statistics leave NaN out, which is greater than any number here.
//!
//! A row group whose greatest value is 5 may hold a NaN as well, and that passes `x > 7`. A scan still has to look at its
//! rows by what it was told, where nothing above does it again. So a condition on a float becomes the condition of a `CASE`,
//! which means the same for a row, and of which statistics say nothing.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::expressions::{CaseExpr, lit};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, conjunction, split_conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

/// Hides conditions on floats from what prunes in scans of Parquet.
#[derive(Debug)]
pub(super) struct FloatsPruneNothing;

impl PhysicalOptimizerRule for FloatsPruneNothing {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            Ok(match with_floats_hidden(node.as_ref())? {
                Some(changed) => Transformed::yes(changed),
                None => Transformed::no(node),
            })
        })
        .data()
    }

    fn name(&self) -> &str {
        "floats_prune_nothing"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Returns a scan of Parquet that prunes by less; `None` for all else.
fn with_floats_hidden(node: &dyn ExecutionPlan) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(source) = node.downcast_ref::<DataSourceExec>() else { return Ok(None) };
    let Some(scan) = source.data_source().downcast_ref::<FileScanConfig>() else { return Ok(None) };
    let files = scan.file_source();
    let (Some(parquet), Some(predicate)) =
        (files.downcast_ref::<ParquetSource>(), files.filter())
    else {
        return Ok(None);
    };
    let schema = files.table_schema().table_schema();
    let mut is_changed = false;
    let mut conditions = Vec::new();
    for condition in split_conjunction(&predicate) {
        let hides = is_about_float(condition, schema) && !condition.is::<CaseExpr>();
        is_changed |= hides;
        conditions.push(if hides { hidden(condition)? } else { Arc::clone(condition) });
    }
    if !is_changed {
        return Ok(None);
    }
    let parquet = parquet.with_predicate(conjunction(conditions));
    let scan = FileScanConfigBuilder::from(scan.clone()).with_source(Arc::new(parquet)).build();
    Ok(Some(DataSourceExec::from_data_source(scan)))
}

fn hidden(condition: &Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let passes = vec![(Arc::clone(condition), lit(true))];
    Ok(Arc::new(CaseExpr::try_new(None, passes, Some(lit(false)))?))
}

fn is_about_float(condition: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    collect_columns(condition).iter().any(|column| {
        schema.field_with_name(column.name()).is_ok_and(|field| field.data_type().is_floating())
    })
}
