//! Leaves a few rows where they are: dealing them out to more threads costs more than what is done with them.
//!
//! DataFusion deals out what it does not know to be few, and of a scan with a filter it knows nothing for sure. Only plans
//! with one source are changed: a join can make many rows of few, and all above it would run in one partition.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};
use meshwork_engine::remote::RemoteScanExec;

/// The most rows that are few: those of one batch.
const ROWS_MAX: usize = 8192;

/// Takes away what deals out a few rows in turn. Nobody may rely on such a partitioning, so nobody misses it.
#[derive(Debug)]
pub(super) struct FewRows;

impl PhysicalOptimizerRule for FewRows {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !is_chain(&plan) {
            return Ok(plan);
        }
        plan.transform_up(|node| match node.downcast_ref::<RepartitionExec>() {
            Some(dealt)
                if matches!(dealt.partitioning(), Partitioning::RoundRobinBatch(_))
                    && are_few(dealt.input()) =>
            {
                Ok(Transformed::yes(Arc::clone(dealt.input())))
            }
            _ => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "few_rows"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Whether no operator of the plan has two inputs.
fn is_chain(plan: &Arc<dyn ExecutionPlan>) -> bool {
    match plan.children().as_slice() {
        [] => true,
        [input] => is_chain(input),
        _ => false,
    }
}

/// Whether the plan is a chain of operators in one partition over a source of few rows, with nothing in it that makes
/// many of few, as joins do.
pub(crate) fn are_few(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if plan.is::<UnnestExec>() || plan.output_partitioning().partition_count() != 1 {
        return false;
    }
    match plan.children().as_slice() {
        [] => n_rows(plan.as_ref()).is_some_and(|n_rows| n_rows <= ROWS_MAX),
        [input] => are_few(input),
        _ => false,
    }
}

/// Returns how many rows a leaf reads, be it before its filter; nothing where that is only estimated.
fn n_rows(leaf: &dyn ExecutionPlan) -> Option<usize> {
    if leaf.is::<RemoteScanExec>() {
        return None;
    }
    let statistics = StatisticsContext::default().compute(leaf, &StatisticsArgs::default()).ok()?;
    statistics.num_rows.get_value().copied()
}

#[cfg(test)]
mod tests {
    use datafusion::execution::SessionStateBuilder;
    use datafusion::prelude::SessionConfig;

    use super::*;

    #[tokio::test]
    async fn a_chain_over_few_rows_stays_in_one_partition() {
        let builder = SessionStateBuilder::new()
            .with_default_features()
            .with_config(SessionConfig::new().with_target_partitions(4))
            .with_physical_optimizer_rule(Arc::new(FewRows));
        let state = builder.build();
        let many: Vec<String> = (0..=ROWS_MAX).map(|row| format!("({row})")).collect();
        for (sql, expected) in [
            ("SELECT 1".to_owned(), true),
            ("SELECT a + 1 FROM (VALUES (1), (2)) t(a) WHERE a > 1 LIMIT 1".to_owned(), true),
            ("SELECT a FROM (VALUES (1)) t(a), (VALUES (2)) u(b)".to_owned(), false),
            ("SELECT unnest(range(1, 1000000))".to_owned(), false),
            ("SELECT a FROM (VALUES (1)) t(a) UNION ALL SELECT 2".to_owned(), false),
            ("SELECT value FROM generate_series(1, 1000000)".to_owned(), false),
            (format!("SELECT a FROM (VALUES {}) t(a)", many.join(", ")), false),
        ] {
            let plan = state.create_logical_plan(&sql).await.unwrap();
            let plan = state.create_physical_plan(&plan).await.unwrap();
            let begin = sql.get(..60).unwrap_or(&sql);
            assert_eq!(are_few(&plan), expected, "{begin}");
        }
    }
}
