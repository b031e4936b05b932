//! Lets joins yield: without it a join that makes many rows of few runs on, long after its query was
//! cancelled, because nothing in DataFusion asks it to stop between two of its batches.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;

use super::spread::is_join;

/// Puts a cooperative node above every join; travels with the plan to the workers.
#[derive(Debug)]
pub(super) struct YieldingJoins;

impl PhysicalOptimizerRule for YieldingJoins {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            if is_join(node.as_ref()) {
                return Ok(Transformed::yes(Arc::new(CooperativeExec::new(node)) as _));
            }
            // A session that was made from a configured one has this rule twice.
            match node.downcast_ref::<CooperativeExec>().map(CooperativeExec::input) {
                Some(inner) if inner.is::<CooperativeExec>() => {
                    Ok(Transformed::yes(Arc::clone(inner)))
                }
                _ => Ok(Transformed::no(node)),
            }
        })
        .data()
    }

    fn name(&self) -> &str {
        "yielding_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
