//! Work moved into row sources: what stands right above a scan is offered to its source.
//!
//! ```text
//! filter, limit   by the planner itself, through RemoteTable::scan
//! join            HashJoin ◄─ build, scan       keys of the build side become a filter of the scan, at run time
//! join            HashJoin ◄─ scan, scan    becomes  scan of both, where that moves fewer bytes
//! aggregate       Final ◄─ Partial ◄─ scan      becomes  Final ◄─ scan that returns partial results
//! top             Sort(fetch) ◄─ scan           becomes  Sort(fetch) ◄─ scan that returns the first rows
//! ```
//! The last two leave the operator that puts splits together where it is, so no rule here depends on how many splits there are.
//! The source decides what it does; what it refuses is noted at the scan, for EXPLAIN. Projections in between are looked
//! through, anything else ends the search.

mod aggregate;
mod below;
mod floats;
mod join;
mod same_names;
mod top;

use std::any::Any;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use meshwork_engine::remote::{RemoteTable, waiting_for_joins};
use meshwork_engine::settings::QuerySettings;

pub(crate) use self::below::with_inputs;

/// Returns the rules for physical plans with ours around them. Work is moved first, as plans are when the planner has made
/// them: without exchanges, and each aggregate in two steps. Last, when joins and filters are settled, scans are told whom to
/// wait for, and to prune by nothing that could lose a row.
pub(crate) fn around(
    rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let first: Arc<dyn PhysicalOptimizerRule + Send + Sync> = Arc::new(PushIntoSources);
    let last: [Arc<dyn PhysicalOptimizerRule + Send + Sync>; 2] =
        [Arc::new(WaitForJoins), Arc::new(floats::FloatsPruneNothing)];
    let rules = rules.into_iter().map(same_names::guarded);
    std::iter::once(first).chain(rules).chain(last).collect()
}

/// Whether a plan reads a row source, itself or through a view; such a source finds rows by lists of keys.
pub(crate) fn reads_row_source(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
        {
            found |= (provider.as_ref() as &dyn Any).is::<RemoteTable>();
            if let Some(view) = provider.get_logical_plan() {
                found |= reads_row_source(&view)?;
            }
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// See [`waiting_for_joins`].
#[derive(Debug)]
struct WaitForJoins;

impl PhysicalOptimizerRule for WaitForJoins {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        waiting_for_joins(plan)
    }

    fn name(&self) -> &str {
        "wait_for_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Offers aggregates and the first rows of orders to the sources below them.
#[derive(Debug)]
struct PushIntoSources;

impl PhysicalOptimizerRule for PushIntoSources {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if config.extensions.get::<QuerySettings>().is_some_and(|settings| !settings.pushdown) {
            return Ok(plan);
        }
        plan.transform_up(|node| match pushed(&node)? {
            Some(changed) => Ok(Transformed::yes(changed)),
            None => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "push_into_sources"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Returns what becomes of an operator, if it is one that a source below it may do.
fn pushed(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    for step in [join::pushed, join::narrowed, aggregate::pushed, top::pushed] {
        if let Some(changed) = step(node)? {
            return Ok(Some(changed));
        }
    }
    Ok(None)
}
