//! Sorts where an order is asked for and was lost on the way.
//!
//! DataFusion 55.2 moves a sort below a union when each input can keep the order. Where an input has one column under two
//! names (`SELECT a AS c, a AS d`), its order is known by the one, asked for by the other, and the union forgets that both are
//! equal: the last rule of all then refuses a plan that DataFusion itself made.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use crate::pushdown::with_inputs;

/// Puts a sort under each operator that would be refused for want of one.
#[derive(Debug)]
pub(super) struct LostOrders;

impl PhysicalOptimizerRule for LostOrders {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(sorted).data()
    }

    fn name(&self) -> &str {
        "lost_orders"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn sorted(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let mut is_changed = false;
    let mut inputs = Vec::new();
    for (input, required) in plan.children().into_iter().zip(plan.required_input_ordering()) {
        let mut input = Arc::clone(input);
        if let Some(required) = required {
            let required = required.into_single();
            if !input.equivalence_properties().ordering_satisfy_requirement(required.clone())? {
                let is_parted = input.output_partitioning().partition_count() > 1;
                let sort = SortExec::new(required.into(), input);
                input = Arc::new(sort.with_preserve_partitioning(is_parted));
                is_changed = true;
            }
        }
        inputs.push(input);
    }
    match is_changed {
        true => with_inputs(&plan, inputs).map(Transformed::yes),
        false => Ok(Transformed::no(plan)),
    }
}
