//! Rows of one key folded into one, as a grouped aggregation that any worker can run.
//!
//! ```text
//! ProjectionExec                   day, site, SUM(n) as n, REPLACE(label) as label
//!   AggregateExec FinalPartitioned gby=[day, site]  sum(n), last_value(label ORDER BY version)
//!     (RepartitionExec Hash([day, site]): put in by the optimizer)
//!       AggregateExec Partial
//!         files of the deltas, each with its version as a column where a function needs the order
//! ```
//!
//! The functions are those of the session, so that a sum that overflows fails here as everywhere.

use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::catalog::Session;
use datafusion::common::Result as DataFusionResult;
use datafusion::functions_aggregate::bool_and_or::{bool_and_udaf, bool_or_udaf};
use datafusion::functions_aggregate::first_last::{first_value_udaf, last_value_udaf};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::{Column, col};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::projection::ProjectionExec;
use meshwork_engine::Error;
use meshwork_store::{TableDef, ValueFunction};

/// The column that holds a row's version; no user can name a column so.
pub(super) const VERSION_COLUMN: &str = "\u{1}version";

/// Folds `input`, which has the key columns, the value columns and, where one of their functions is ordered, [`VERSION_COLUMN`].
///
/// Returns a plan with the key columns and then `values`, under their names.
pub(super) fn merge(
    def: &TableDef,
    values: &[(&str, ValueFunction)],
    input: Arc<dyn ExecutionPlan>,
    state: &dyn Session,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let schema = input.schema();
    let key = |name: &String| Ok((col(name, &schema)?, name.clone()));
    let key: Vec<(Arc<dyn PhysicalExpr>, String)> =
        def.key.iter().map(key).collect::<DataFusionResult<_>>()?;
    let mut folds = Vec::with_capacity(values.len());
    for (name, function) in values {
        folds.push(Arc::new(fold(name, *function, &input, state)?));
    }
    let filters = vec![None; folds.len()];
    let partial = AggregateExec::try_new(
        AggregateMode::Partial,
        PhysicalGroupBy::new_single(key),
        folds,
        filters.clone(),
        input,
        Arc::clone(&schema),
    )?;
    let config = state.config();
    let mode = if config.target_partitions() > 1 && config.repartition_aggregations() {
        AggregateMode::FinalPartitioned
    } else {
        AggregateMode::Final
    };
    // The first step may have refined the functions; the second must fold what the first computes.
    let (groups, folds) = (partial.group_expr().as_final(), partial.aggr_expr().to_vec());
    let merged = AggregateExec::try_new(mode, groups, folds, filters, Arc::new(partial), schema)?;
    named(Arc::new(merged), def, values)
}

/// What EXPLAIN calls a folded value.
fn shown(name: &str, function: ValueFunction) -> String {
    format!("{function}({name})")
}

/// Gives folded values the names of their columns.
fn named(
    merged: Arc<dyn ExecutionPlan>,
    def: &TableDef,
    values: &[(&str, ValueFunction)],
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let names = def.key.iter().map(String::as_str).chain(values.iter().map(|(name, _)| *name));
    // By position: a key column may be called like a shown fold.
    let schema = merged.schema();
    let column = |(index, name): (usize, &str)| -> (Arc<dyn PhysicalExpr>, String) {
        (Arc::new(Column::new(schema.field(index).name(), index)), name.to_owned())
    };
    let columns: Vec<_> = names.enumerate().map(column).collect();
    Ok(Arc::new(ProjectionExec::try_new(columns, merged)?))
}

fn fold(
    name: &str,
    function: ValueFunction,
    input: &Arc<dyn ExecutionPlan>,
    state: &dyn Session,
) -> DataFusionResult<AggregateFunctionExpr> {
    let schema = input.schema();
    let udaf = match function {
        ValueFunction::Sum | ValueFunction::Count => of_session(state, sum_udaf())?,
        ValueFunction::Min => of_session(state, min_udaf())?,
        ValueFunction::Max => of_session(state, max_udaf())?,
        ValueFunction::And => of_session(state, bool_and_udaf())?,
        ValueFunction::Or => of_session(state, bool_or_udaf())?,
        ValueFunction::First => of_session(state, first_value_udaf())?,
        ValueFunction::Replace | ValueFunction::ReplaceIfNotNull => {
            of_session(state, last_value_udaf())?
        }
    };
    let mut builder = AggregateExprBuilder::new(udaf, vec![col(name, &schema)?])
        .schema(Arc::clone(&schema))
        .alias(shown(name, function));
    if function == ValueFunction::ReplaceIfNotNull {
        builder = builder.ignore_nulls();
    }
    if function.is_ordered() {
        let options = SortOptions { descending: false, nulls_first: true };
        let version = col(VERSION_COLUMN, &schema)?;
        builder = builder.order_by(vec![PhysicalSortExpr { expr: version, options }]);
    }
    builder.build()
}

/// Returns the session's function of the same name: ours may stand in for DataFusion's.
fn of_session(
    state: &dyn Session,
    function: Arc<AggregateUDF>,
) -> DataFusionResult<Arc<AggregateUDF>> {
    match state.aggregate_functions().get(function.name()) {
        Some(known) => Ok(Arc::clone(known)),
        None => Err(Error::internal(format!("session has no function {}", function.name())).into()),
    }
}
