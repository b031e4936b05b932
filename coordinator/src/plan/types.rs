//! Columns keep the types with which a statement was described, whatever a rule of the optimizer makes of their expressions.
//!
//! DataFusion 55.2 makes two aggregates of one that has a single `DISTINCT`: a sum beside it becomes the sum of sums, which has ten
//! digits more.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::optimizer::{ApplyOrder, Optimizer, OptimizerConfig, OptimizerRule};

use super::keys::TooLargeKeys;

/// A rule as the optimizer keeps it.
type Rule = Arc<dyn OptimizerRule + Send + Sync>;

/// The rule that changes types.
const CHANGES_TYPES: &str = "single_distinct_aggregation_to_group_by";

/// Returns DataFusion's rules, of which none changes the type of a column, and what they leave out.
pub(crate) fn optimizer_rules() -> Vec<Rule> {
    let kept = |rule: Rule| -> Rule {
        match rule.name() {
            CHANGES_TYPES => Arc::new(KeepsTypes(rule)),
            _ => rule,
        }
    };
    let last: Rule = Arc::new(TooLargeKeys);
    Optimizer::new().rules.into_iter().map(kept).chain([last]).collect()
}

#[derive(Debug)]
struct KeepsTypes(Rule);

impl OptimizerRule for KeepsTypes {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let described = Arc::clone(plan.schema());
        let rewritten = self.0.rewrite(plan, config)?;
        match rewritten.transformed {
            true => rewritten.map_data(|plan| with_types(plan, &described)),
            false => Ok(rewritten),
        }
    }
}

/// Returns the plan with its columns cast to the types of another schema.
fn with_types(plan: LogicalPlan, described: &DFSchema) -> Result<LogicalPlan> {
    let mut is_changed = false;
    let mut columns = Vec::new();
    for ((qualifier, field), wanted) in plan.schema().iter().zip(described.fields()) {
        let column = Expr::Column(Column::from((qualifier, field)));
        columns.push(if field.data_type() == wanted.data_type() {
            column
        } else {
            is_changed = true;
            cast(column, wanted.data_type().clone())
                .alias_qualified(qualifier.cloned(), field.name())
        });
    }
    match is_changed {
        true => LogicalPlanBuilder::from(plan).project(columns)?.build(),
        false => Ok(plan),
    }
}
