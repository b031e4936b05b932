//! Conditions on floats prune no Parquet: its statistics leave NaN out, which is greater than any number here.
//!
//! A row group whose greatest value is 5 may hold a NaN as well, and that passes `x > 7`. What a scan of Parquet is told is
//! only used to prune, every row is looked at again above it; so what is about a float is not told.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::expressions::lit;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, conjunction, split_conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

/// Takes conditions on floats out of what scans of Parquet prune by.
#[derive(Debug)]
pub(super) struct FloatsPruneNothing;

impl PhysicalOptimizerRule for FloatsPruneNothing {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| match without_floats(node.as_ref()) {
            Some(changed) => Ok(Transformed::yes(changed)),
            None => Ok(Transformed::no(node)),
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
fn without_floats(node: &dyn ExecutionPlan) -> Option<Arc<dyn ExecutionPlan>> {
    let source = node.downcast_ref::<DataSourceExec>()?.data_source();
    let scan = source.downcast_ref::<FileScanConfig>()?;
    let parquet = scan.file_source().downcast_ref::<ParquetSource>()?;
    let schema = scan.file_source().table_schema().table_schema();
    let predicate = scan.file_source().filter()?;
    let conditions = split_conjunction(&predicate);
    let n_conditions = conditions.len();
    let told = conditions.into_iter().filter(|condition| !is_about_float(condition, schema));
    let told: Vec<_> = told.map(Arc::clone).collect();
    if told.len() == n_conditions {
        return None;
    }
    let predicate = if told.is_empty() { lit(true) } else { conjunction(told) };
    let scan = FileScanConfigBuilder::from(scan.clone())
        .with_source(Arc::new(parquet.with_predicate(predicate)))
        .build();
    Some(DataSourceExec::from_data_source(scan))
}

fn is_about_float(condition: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    collect_columns(condition).iter().any(|column| {
        schema.field_with_name(column.name()).is_ok_and(|field| field.data_type().is_floating())
    })
}
