//! Keeps DataFusion's pushdown of filters away from columns that share a name.
//!
//! `FilterPushdown` finds the columns of a filter in the input of a node by name, the first of that name. A join of two
//! tables with a column `s` has two, so that a filter on the second one filters the first: in 55.2 that is a wrong answer
//! without a warning. So nodes with such columns get a barrier above them while that rule runs: no filter passes it.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// The name of the rule, before and after exchanges are put in.
const FILTER_PUSHDOWN: &str = "FilterPushdown";

/// Returns the rule as it may be used.
pub(super) fn guarded(
    rule: Arc<dyn PhysicalOptimizerRule + Send + Sync>,
) -> Arc<dyn PhysicalOptimizerRule + Send + Sync> {
    match rule.name().starts_with(FILTER_PUSHDOWN) {
        true => Arc::new(Guarded(rule)),
        false => rule,
    }
}

/// A rule that sees barriers.
#[derive(Debug)]
struct Guarded(Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl PhysicalOptimizerRule for Guarded {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let guarded = plan.transform_up(|node| match has_same_names(node.as_ref()) {
            true => Ok(Transformed::yes(Arc::new(Barrier(node)))),
            false => Ok(Transformed::no(node)),
        });
        let pushed = self.0.optimize(guarded.data()?, config)?;
        pushed
            .transform_up(|node| match node.downcast_ref::<Barrier>() {
                Some(barrier) => Ok(Transformed::yes(Arc::clone(&barrier.0))),
                None => Ok(Transformed::no(node)),
            })
            .data()
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

fn has_same_names(node: &dyn ExecutionPlan) -> bool {
    let schema = node.schema();
    let mut names = HashSet::with_capacity(schema.fields().len());
    !schema.fields().iter().all(|field| names.insert(field.name()))
}

/// Stands above a node and lets no filter pass, which is what a node does that says nothing of filters.
#[derive(Debug)]
struct Barrier(Arc<dyn ExecutionPlan>);

impl DisplayAs for Barrier {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Barrier")
    }
}

impl ExecutionPlan for Barrier {
    fn name(&self) -> &'static str {
        "Barrier"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.0.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.0]
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let [child] = <[_; 1]>::try_from(children)
            .map_err(|_other| DataFusionError::Internal("a barrier has one input".to_owned()))?;
        Ok(Arc::new(Self(child)))
    }

    fn execute(
        &self,
        _partition: usize,
        _context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        internal_err!("a barrier is gone before a plan runs")
    }
}
