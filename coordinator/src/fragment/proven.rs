//! Answers aggregates out of statistics only where statistics are proofs: over whole files and tables in memory.
//!
//! DataFusion takes what a filter leaves of a column for proven where the filter names one value: of
//! `WHERE a = 5` it says that `a` has exactly one value, even if it only estimates that there are rows. Its
//! rule then answers `count(DISTINCT a), count(DISTINCT b)` with 1 and 1 where no row passes. So its rule is not
//! asked about aggregates above anything that takes rows away.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::aggregate_statistics::AggregateStatistics;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::union::UnionExec;

/// DataFusion's rule where it cannot be wrong.
#[derive(Debug, Default)]
pub(super) struct ProvenAnswers {
    theirs: AggregateStatistics,
}

impl PhysicalOptimizerRule for ProvenAnswers {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if keeps_all_rows(&plan) {
            return self.theirs.optimize(plan, config);
        }
        plan.map_children(|child| self.optimize(child, config).map(Transformed::yes)).data()
    }

    fn name(&self) -> &str {
        "proven_answers"
    }

    /// Literals are never NULL, so the columns of the answer change.
    fn schema_check(&self) -> bool {
        false
    }
}

/// Whether nothing in the plan takes rows away or makes more of them.
fn keeps_all_rows(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let children = plan.children();
    let keeps = children.is_empty()
        || plan.is::<AggregateExec>()
        || plan.is::<ProjectionExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<RepartitionExec>()
        || plan.is::<UnionExec>();
    keeps && children.into_iter().all(keeps_all_rows)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, RecordBatch};
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::execution::SessionStateBuilder;
    use datafusion::physical_plan::collect;
    use datafusion::prelude::SessionContext;

    use super::super::physical_rules;
    use super::*;

    /// Returns the rows of a statement, and whether its plan reads any.
    async fn answer(sql: &str) -> (String, bool) {
        let builder = SessionStateBuilder::new().with_default_features();
        let state = builder.with_physical_optimizer_rules(physical_rules()).build();
        let context = SessionContext::new_with_state(state);
        let column = || Arc::new(Int64Array::from(vec![1, 3, 9])) as _;
        let rows = RecordBatch::try_from_iter([("a", column()), ("b", column())]).unwrap();
        context.register_batch("t", rows).unwrap();
        let plan = context.state().create_logical_plan(sql).await.unwrap();
        let plan = context.state().create_physical_plan(&plan).await.unwrap();
        let reads = format!("{plan:?}").contains("DataSourceExec");
        let rows = collect(plan, context.task_ctx()).await.unwrap();
        (pretty_format_batches(&rows).unwrap().to_string(), reads)
    }

    #[tokio::test]
    async fn what_a_filter_leaves_is_counted() {
        let sql =
            "SELECT count(DISTINCT a) AS x, count(DISTINCT b) AS y FROM t WHERE a = 5 AND b = 7";
        let (rows, reads) = answer(sql).await;
        assert!(rows.contains("| 0 | 0 |") && reads, "{rows}");
    }

    #[tokio::test]
    async fn rows_of_a_whole_table_are_not() {
        let (rows, reads) = answer("SELECT count(*) AS x FROM t").await;
        assert!(rows.contains("| 3 |") && !reads, "{rows}");
    }
}
