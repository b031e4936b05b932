//! Wraps the runtime's planner: what cannot be cut stays whole, and every plan is verified before it leaves.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};

use super::verify;

/// Puts the wrapper around the planner that the builder has.
pub(super) fn install(mut builder: SessionStateBuilder) -> SessionStateBuilder {
    match builder.query_planner().take() {
        None => builder,
        Some(runtime) => builder.with_query_planner(Arc::new(VerifiedPlanner { runtime })),
    }
}

#[derive(Debug)]
struct VerifiedPlanner {
    runtime: Arc<dyn QueryPlanner + Send + Sync>,
}

#[async_trait]
impl QueryPlanner for VerifiedPlanner {
    async fn create_physical_plan(
        &self,
        logical: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if is_recursive(logical)? {
            let plain = DefaultPhysicalPlanner::default();
            return plain.create_physical_plan(logical, session).await;
        }
        let plan = self.runtime.create_physical_plan(logical, session).await?;
        verify(&plan)?;
        Ok(plan)
    }
}

/// A recursive query runs its inner plan many times; a stage on workers runs once.
fn is_recursive(logical: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    logical.apply_with_subqueries(|node| {
        found |= matches!(node, LogicalPlan::RecursiveQuery(_));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}
