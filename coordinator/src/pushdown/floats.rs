//! What is known of floats by their bounds is wrong about NaN and -0.0.
//!
//! Statistics of Parquet leave NaN out, which is greater than any number here: a row group whose greatest value is 5 may hold a
//! NaN as well, and that passes `x > 7`. A scan still has to look at its rows by what it was told, where nothing above does it
//! again. So a condition on a float becomes the condition of a `CASE`, which means the same for a row, and of which
//! statistics say nothing.
//!
//! A join takes -0.0 and 0.0 for equal. The filter that it makes for its other side, while it runs, compares with the least and
//! the greatest key, and there -0.0 is less than 0.0. It only saves rows from being joined, so about floats it is taken away.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::expressions::{CaseExpr, Column, DynamicFilterPhysicalExpr, lit};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, conjunction, split_conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};

/// Hides conditions on floats from what prunes in scans of Parquet, and takes away those that joins make.
#[derive(Debug)]
pub(super) struct FloatsPruneNothing;

impl PhysicalOptimizerRule for FloatsPruneNothing {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let changed = match node.downcast_ref::<FilterExec>() {
                Some(filter) => filtered(filter)?,
                None => scanned(node.as_ref())?,
            };
            Ok(match changed {
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

/// Returns a filter without what joins made of floats; `None` if there is nothing of that.
fn filtered(filter: &FilterExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let schema = filter.input().schema();
    let is_float = |column: &Column| schema.field(column.index()).data_type().is_floating();
    let Some(predicate) = changed(filter.predicate(), is_float, Hide::Nothing)? else {
        return Ok(None);
    };
    let filter = FilterExecBuilder::from(filter).with_predicate(predicate).build()?;
    Ok(Some(Arc::new(filter)))
}

/// Returns a scan of Parquet that prunes by less; `None` for all else.
fn scanned(node: &dyn ExecutionPlan) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(source) = node.downcast_ref::<DataSourceExec>() else { return Ok(None) };
    let Some(scan) = source.data_source().downcast_ref::<FileScanConfig>() else { return Ok(None) };
    let files = scan.file_source();
    let (Some(parquet), Some(predicate)) = (files.downcast_ref::<ParquetSource>(), files.filter())
    else {
        return Ok(None);
    };
    let schema = files.table_schema().table_schema();
    let is_float = |column: &Column| {
        schema.field_with_name(column.name()).is_ok_and(|field| field.data_type().is_floating())
    };
    let Some(predicate) = changed(&predicate, is_float, Hide::All)? else { return Ok(None) };
    let parquet = parquet.with_predicate(predicate);
    let scan = FileScanConfigBuilder::from(scan.clone()).with_source(Arc::new(parquet)).build();
    Ok(Some(DataSourceExec::from_data_source(scan)))
}

/// Which conditions on floats are hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hide {
    All,
    Nothing,
}

/// Returns what becomes of a predicate; `None` if it stays as it is.
fn changed(
    predicate: &Arc<dyn PhysicalExpr>,
    is_float: impl Fn(&Column) -> bool,
    hide: Hide,
) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let (mut is_changed, mut conditions) = (false, Vec::new());
    for condition in split_conjunction(predicate) {
        if !collect_columns(condition).iter().any(&is_float) {
            conditions.push(Arc::clone(condition));
        } else if condition.exists(|part| Ok(part.is::<DynamicFilterPhysicalExpr>()))? {
            is_changed = true;
        } else if hide == Hide::All && !condition.is::<CaseExpr>() {
            is_changed = true;
            let passes = vec![(Arc::clone(condition), lit(true))];
            conditions.push(Arc::new(CaseExpr::try_new(None, passes, Some(lit(false)))?));
        } else {
            conditions.push(Arc::clone(condition));
        }
    }
    Ok(is_changed.then(|| conjunction(conditions)))
}
