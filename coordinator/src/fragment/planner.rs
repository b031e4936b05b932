//! Wraps the runtime's planner: every plan is verified before it leaves. What cannot be cut does not get here.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;

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
        let plan = self.runtime.create_physical_plan(logical, session).await?;
        verify(&plan)?;
        Ok(plan)
    }
}

/// Whether the plan is one that the runtime cannot cut: a recursive query runs its inner plan many times, and a stage on
/// workers runs once; scalar subqueries become joins in filters and projections only.
pub(super) fn stays_whole(logical: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    logical.apply_with_subqueries(|node| {
        found |= match node {
            LogicalPlan::RecursiveQuery(_) => true,
            LogicalPlan::Filter(_) | LogicalPlan::Projection(_) => false,
            other => other.expressions().iter().any(Expr::contains_scalar_subquery),
        };
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}
