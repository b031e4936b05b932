//! What is folded by a coarser key needs no fold by a finer one below it.
//!
//! ```text
//! sum(n) by site                      sum(n) by site
//!   sum(n) by day, site          ->     n, site
//!     rows of all deltas                  rows of all deltas
//! ```
//!
//! A table of a store whose keys stand in several deltas is folded by its whole key when it is read. A query that only sums
//! what is summed there, by some of the key's columns, has the same answer from the rows as they are, and is spared a hash
//! table of all keys. The same holds of a query over a grouped one. Sums of floats are added in another order.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, lit};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{
    AggregateExec, AggregateInputMode, AggregateOutputMode,
};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use meshwork_engine::versioned::Fold;

use crate::pushdown::with_inputs;

/// Takes folds away that another one above makes needless.
#[derive(Debug)]
pub(super) struct FoldedOnce;

impl PhysicalOptimizerRule for FoldedOnce {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let without = match node.downcast_ref::<AggregateExec>() {
                Some(outer) => match needed(outer) {
                    Some(uses) => without_fold(outer.input(), &uses)?,
                    None => None,
                },
                None => None,
            };
            match without {
                Some(input) => with_inputs(&node, vec![input]).map(Transformed::yes),
                None => Ok(Transformed::no(node)),
            }
        })
        .data()
    }

    fn name(&self) -> &str {
        "folded_once"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn fold_of(function: &AggregateFunctionExpr) -> Option<Fold> {
    let is_plain = !function.is_distinct() && function.order_bys().is_empty();
    Fold::named(function.fun().name()).filter(|_| is_plain)
}

/// What may stand for a column of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Use {
    /// It decides which row belongs to which group, or is one of many equal values: only a key can be that.
    as_key: bool,
    /// It is folded by this function: a key can be that if equal values are no matter, or else what the function folded below.
    folded: Option<Fold>,
}

type Uses = BTreeMap<usize, Use>;

/// Notes that columns decide by an expression; None if it is another one each time, as a random number is.
fn use_as_key(uses: &mut Uses, expression: &Arc<dyn PhysicalExpr>) -> Option<()> {
    for column in collect_columns(expression) {
        uses.entry(column.index()).or_default().as_key = true;
    }
    (!is_volatile(expression)).then_some(())
}

/// Says what an aggregation needs of the columns of its input; None if it has to see each row of it.
fn needed(outer: &AggregateExec) -> Option<Uses> {
    if outer.mode().input_mode() != AggregateInputMode::Raw {
        return None;
    }
    let mut uses = Uses::new();
    for (group, _name) in outer.group_expr().expr() {
        use_as_key(&mut uses, group)?;
    }
    for (function, filter) in outer.aggr_expr().iter().zip(outer.filter_expr()) {
        if let Some(filter) = filter {
            use_as_key(&mut uses, filter)?;
        }
        let fold = fold_of(function);
        let arguments = function.expressions();
        match (fold, arguments.as_slice()) {
            (Some(fold), [argument]) => use_folded(&mut uses, argument, fold)?,
            _ if function.is_distinct() && function.order_bys().is_empty() => {
                arguments.iter().try_for_each(|argument| use_as_key(&mut uses, argument))?;
            }
            _ => return None,
        }
    }
    Some(uses)
}

/// Notes that values are folded; None if they cannot be what was folded below, or what may be there more than once.
fn use_folded(uses: &mut Uses, value: &Arc<dyn PhysicalExpr>, fold: Fold) -> Option<()> {
    match value.downcast_ref::<Column>() {
        Some(column) => fold_column(uses, column.index(), fold),
        None if fold != Fold::Sum => use_as_key(uses, value),
        None => None,
    }
}

/// Notes that a column is folded; None if it is folded by another function as well.
fn fold_column(uses: &mut Uses, column: usize, fold: Fold) -> Option<()> {
    let noted = uses.entry(column).or_default();
    match noted.folded.replace(fold) {
        Some(other) if other != fold => None,
        _ => Some(()),
    }
}

/// Returns the plan without the folds in it that need not be; None if there are none.
fn without_fold(
    plan: &Arc<dyn ExecutionPlan>,
    uses: &Uses,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(inner) = plan.downcast_ref::<AggregateExec>() {
        return unfolded(inner, uses);
    }
    let below = if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        through_projection(projection, uses)
    } else if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        through_filter(filter, uses)
    } else if plan.is::<UnionExec>() {
        Some(uses.clone())
    } else {
        None
    };
    let Some(below) = below else { return Ok(None) };
    let mut inputs = Vec::new();
    let mut is_changed = false;
    for input in plan.children() {
        let without = without_fold(input, &below)?;
        is_changed |= without.is_some();
        inputs.push(without.unwrap_or_else(|| Arc::clone(input)));
    }
    if is_changed { with_inputs(plan, inputs).map(Some) } else { Ok(None) }
}

fn through_projection(projection: &ProjectionExec, uses: &Uses) -> Option<Uses> {
    let mut below = Uses::new();
    for (column, wanted) in uses {
        let computed = &projection.expr().get(*column)?.expr;
        if wanted.as_key {
            use_as_key(&mut below, computed)?;
        }
        if let Some(fold) = wanted.folded {
            use_folded(&mut below, computed, fold)?;
        }
    }
    Some(below)
}

fn through_filter(filter: &FilterExec, uses: &Uses) -> Option<Uses> {
    let mut below = Uses::new();
    for (column, wanted) in uses {
        let place = match filter.projection() {
            Some(kept) => *kept.get(*column)?,
            None => *column,
        };
        below.entry(place).or_default().as_key |= wanted.as_key;
        if let Some(fold) = wanted.folded {
            fold_column(&mut below, place, fold)?;
        }
    }
    use_as_key(&mut below, filter.predicate())?;
    Some(below)
}

/// Returns what an aggregation folds, under the names and types of what it returns, if that serves as well.
fn unfolded(inner: &AggregateExec, uses: &Uses) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if inner.mode().output_mode() != AggregateOutputMode::Final {
        return Ok(None);
    }
    // In two steps or in one; exchanges between them are not there yet.
    let first = match inner.mode().input_mode() {
        AggregateInputMode::Raw => Some(inner),
        AggregateInputMode::Partial => inner.input().downcast_ref::<AggregateExec>(),
    };
    let Some(first) = first else { return Ok(None) };
    let groups = first.group_expr();
    let is_plain = first.mode().input_mode() == AggregateInputMode::Raw
        && groups.is_single()
        && !groups.is_empty()
        && [first, inner].iter().all(|step| step.limit_options().is_none())
        && first.filter_expr().iter().all(Option::is_none);
    let n_groups = groups.expr().len();
    let is_served = uses.iter().all(|(column, wanted)| match column.checked_sub(n_groups) {
        None => wanted.folded != Some(Fold::Sum),
        Some(place) => {
            let function = first.aggr_expr().get(place);
            !wanted.as_key && wanted.folded == function.and_then(|function| fold_of(function))
        }
    });
    if !is_plain || !is_served {
        return Ok(None);
    }
    let mut columns: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
    for (place, field) in inner.schema().fields().iter().enumerate() {
        let value = match (uses.contains_key(&place), place.checked_sub(n_groups)) {
            // Nobody looks at it.
            (false, _) => None,
            (true, None) => groups.expr().get(place).map(|(group, _name)| Arc::clone(group)),
            (true, Some(place)) => first.aggr_expr().get(place).and_then(|f| f.expressions().pop()),
        };
        let value = match value {
            None => lit(ScalarValue::try_from(field.data_type())?),
            Some(value) if value.data_type(&first.input_schema())? == *field.data_type() => value,
            Some(value) => Arc::new(CastExpr::new(value, field.data_type().clone(), None)),
        };
        columns.push((value, field.name().clone()));
    }
    Ok(Some(Arc::new(ProjectionExec::try_new(columns, Arc::clone(first.input()))?)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Int32Array, Int64Array, RecordBatch};
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::execution::SessionStateBuilder;
    use datafusion::physical_plan::{collect, displayable};
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::super::physical_rules;

    /// The table `t` of (day, site, n), with days and sites that stand in it several times.
    fn context(with_rule: bool) -> SessionContext {
        let config = SessionConfig::new().with_target_partitions(2);
        let mut builder = SessionStateBuilder::new().with_default_features().with_config(config);
        if with_rule {
            builder = builder.with_physical_optimizer_rules(physical_rules());
        }
        let context = SessionContext::new_with_state(builder.build());
        let days = Int64Array::from_iter((0..40).map(|row| (row % 7 != 0).then_some(row % 3)));
        let sites = Int64Array::from_iter_values((0..40).map(|row| row % 4));
        let numbers = Int32Array::from_iter((0..40).map(|row| (row % 5 != 0).then_some(row - 20)));
        let columns = [
            ("day", Arc::new(days) as _),
            ("site", Arc::new(sites) as _),
            ("n", Arc::new(numbers) as _),
        ];
        context.register_batch("t", RecordBatch::try_from_iter(columns).unwrap()).unwrap();
        context
    }

    /// Returns what a query over the folded table answers, and how many of its steps fold.
    async fn answer(with_rule: bool, query: &str) -> (String, usize) {
        let context = context(with_rule);
        let folded = "SELECT day, site, sum(n) AS s, min(n) AS lo, max(n) AS hi, count(n) AS c, bool_or(n > 3) AS b \
                      FROM t GROUP BY day, site";
        let sql = format!("WITH f AS ({folded}) {query}");
        let plan = context.state().create_logical_plan(&sql).await.unwrap();
        let plan = context.state().create_physical_plan(&plan).await.unwrap();
        let shown = displayable(plan.as_ref()).indent(false).to_string();
        let rows = collect(plan, context.task_ctx()).await.unwrap();
        let rows = pretty_format_batches(&rows).unwrap().to_string();
        (rows, shown.matches("AggregateExec").count())
    }

    #[tokio::test]
    async fn a_fold_of_folds_is_one_fold() {
        for query in [
            "SELECT site, sum(s) FROM f GROUP BY site ORDER BY site",
            "SELECT sum(s), min(lo), max(hi), bool_or(b), max(site) FROM f WHERE day > 0",
            "SELECT site + day AS k, sum(s) FROM f GROUP BY k ORDER BY k",
            "SELECT DISTINCT site FROM f ORDER BY site",
            "SELECT sum(s) FILTER (WHERE site = 1), sum(s) FROM f",
            "SELECT sum(s) FROM (SELECT * FROM f UNION ALL SELECT * FROM f)",
            "SELECT min(day + 1) FROM f",
        ] {
            let (expected, n_plain) = answer(false, query).await;
            let (found, n_folds) = answer(true, query).await;
            assert_eq!(found, expected, "{query}");
            assert!(n_folds < n_plain, "{query}: {n_folds} of {n_plain} steps fold");
        }
    }

    #[tokio::test]
    async fn a_fold_that_decides_something_stays() {
        for query in [
            "SELECT count(*) FROM f",
            "SELECT max(s) FROM f",
            "SELECT avg(s) FROM f",
            "SELECT sum(c) FROM f",
            "SELECT sum(-s) FROM f",
            "SELECT sum(s + site) FROM f",
            "SELECT sum(s) FROM f WHERE s > 3",
            "SELECT sum(s) FILTER (WHERE hi > 3) FROM f",
            "SELECT sum(DISTINCT s) FROM f",
            "SELECT sum(site) FROM f",
            "SELECT lo, sum(s) FROM f GROUP BY lo ORDER BY lo",
            "SELECT min(lo), max(lo) FROM f",
            "SELECT sum(s) FROM (SELECT * FROM f ORDER BY day, site LIMIT 3)",
        ] {
            let (expected, n_plain) = answer(false, query).await;
            let (found, n_folds) = answer(true, query).await;
            assert_eq!(found, expected, "{query}");
            assert_eq!(n_folds, n_plain, "{query}");
        }
    }
}
