//! Builds the side of a join whose size is known, where DataFusion would build one of which nobody knows how large
//! it is: the built side is held in memory whole, and sent to every task.
//!
//! DataFusion only compares sides that are both known. A join by keys of unknown sides is dealt out by them; joins
//! without keys, and all joins of one partition, must build one side.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode,
};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};

/// Swaps the sides of joins that build an unknown one.
#[derive(Debug)]
pub(super) struct KnownSides;

impl PhysicalOptimizerRule for KnownSides {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !config.optimizer.join_reordering {
            return Ok(plan);
        }
        plan.transform_up(|node| match swapped(&node)? {
            Some(swapped) => Ok(Transformed::yes(swapped)),
            None => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "known_sides"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn swapped(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let [left, right] = node.children()[..] else { return Ok(None) };
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        let is_whole = *join.partition_mode() == PartitionMode::CollectLeft;
        let may_swap = is_whole && join.join_type().supports_swap() && !join.null_aware;
        return match may_swap && !is_known(left)? && is_known(right)? {
            true => join.swap_inputs(PartitionMode::CollectLeft).map(Some),
            false => Ok(None),
        };
    }
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        return match join.join_type().supports_swap() && !is_known(left)? && is_known(right)? {
            true => join.swap_inputs().map(Some),
            false => Ok(None),
        };
    }
    match node.downcast_ref::<CrossJoinExec>() {
        Some(join) if !is_known(left)? && is_known(right)? => join.swap_inputs().map(Some),
        _ => Ok(None),
    }
}

fn is_known(side: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let said = StatisticsContext::new().compute(side.as_ref(), &StatisticsArgs::new())?;
    Ok(said.total_byte_size.get_value().is_some() || said.num_rows.get_value().is_some())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;

    use datafusion::arrow::array::{Int64Array, RecordBatch};
    use datafusion::execution::SessionStateBuilder;
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::{CsvReadOptions, SessionConfig, SessionContext};
    use tempfile::NamedTempFile;

    use super::super::physical_rules;

    /// Returns the plan of a statement over `known`, in memory, and `unknown`, a file that does not say its rows.
    async fn plan(n_partitions: usize, sql: &str) -> String {
        let config = SessionConfig::new().with_target_partitions(n_partitions);
        let builder = SessionStateBuilder::new().with_default_features().with_config(config);
        let state = builder.with_physical_optimizer_rules(physical_rules()).build();
        let context = SessionContext::new_with_state(state);
        let rows = RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(vec![1, 2])) as _)]);
        context.register_batch("known", rows.unwrap()).unwrap();
        let mut file = NamedTempFile::with_suffix(".csv").unwrap();
        writeln!(file, "k\n1\n2").unwrap();
        let path = file.path().to_str().unwrap();
        context.register_csv("unknown", path, CsvReadOptions::new()).await.unwrap();
        let plan = context.state().create_logical_plan(sql).await.unwrap();
        let plan = context.state().create_physical_plan(&plan).await.unwrap();
        displayable(plan.as_ref()).indent(false).to_string()
    }

    #[tokio::test]
    async fn the_known_side_is_built() {
        for (n_partitions, condition) in
            [(4, "true"), (4, "a.k < b.k"), (1, "a.k = b.k"), (1, "a.k < b.k")]
        {
            for (left, right) in [("known", "unknown"), ("unknown", "known")] {
                let sql =
                    format!("SELECT a.k, b.k AS l FROM {left} a JOIN {right} b ON {condition}");
                let plan = plan(n_partitions, &sql).await;
                let scans: Vec<&str> =
                    plan.lines().filter(|line| line.contains("DataSourceExec")).collect();
                assert!(plan.contains("JoinExec"), "{plan}");
                assert!(
                    scans[0].contains("partitions=") && scans[1].contains("csv"),
                    "{sql}:\n{plan}"
                );
            }
        }
    }

    #[tokio::test]
    async fn sides_by_keys_are_dealt_out() {
        let plan = plan(4, "SELECT a.k FROM unknown a JOIN unknown b ON a.k = b.k").await;
        assert!(plan.contains("mode=Partitioned"), "{plan}");
    }
}
