//! Aggregates: a source returns partial results of each split in place of DataFusion's partial step.
//!
//! The columns are the partial step's own, by name and type. What they mean is known for the functions below only: other
//! aggregates keep states that no source has.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use meshwork_engine::connector::Pushdown;
use meshwork_engine::remote::{
    Aggregate, Function, Group, Measure, Predicate, Reason, ReasonCode, RemoteScan, Value,
};

use super::below::{Below, Obstacle, below, with_input};

/// Returns a scan in place of the partial step, or the step over a scan that notes why it is still needed.
pub(super) fn pushed(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(step) = node.downcast_ref::<AggregateExec>() else { return Ok(None) };
    if *step.mode() != AggregateMode::Partial {
        return Ok(None);
    }
    let Some(below) = below(step.input())? else { return Ok(None) };
    match agreed(&below, step) {
        Ok(aggregate) => {
            let whole = below.leaf.scan().as_ref().clone();
            let scan = RemoteScan { aggregate: Some(aggregate), ..whole };
            Ok(Some(Arc::new(below.leaf.agreed(scan))))
        }
        Err(Obstacle::Refused(reason)) => {
            let input = below.noted(step.input(), shown(step), reason)?;
            with_input(node, input).map(Some)
        }
        Err(Obstacle::Broken(error)) => Err(error),
    }
}

fn shown(step: &AggregateExec) -> String {
    let aggregates = step.aggr_expr().iter().map(|aggregate| aggregate.name());
    let groups = step.group_expr().expr().iter().map(|(_, name)| name.as_str());
    let names: Vec<&str> = aggregates.chain(groups).collect();
    format!("aggregate {}", names.join(", "))
}

/// Returns the step as values, if the source does it.
fn agreed(below: &Below<'_>, step: &AggregateExec) -> Result<Aggregate, Obstacle> {
    if !step.group_expr().is_single() {
        let message = "grouping sets are computed here";
        return Err(Reason::new(ReasonCode::Expression, message).into());
    }
    let schema = step.schema();
    let groups = step.group_expr().expr().iter().zip(schema.fields());
    let groups = groups.map(|((expr, _name), field)| group(below, expr, field));
    let groups = groups.collect::<Result<Vec<_>, _>>()?;
    let mut fields = schema.fields().iter().skip(groups.len());
    let mut measures = Vec::new();
    for (aggregate, filter) in step.aggr_expr().iter().zip(step.filter_expr()) {
        let filter = filter.as_ref().map(|filter| below.predicate(filter)).transpose()?;
        for (function, argument) in states(below, aggregate)? {
            let field = fields.next().ok_or_else(|| not_shared(aggregate.name()))?;
            measures.push(measure(function, argument, filter.clone(), field)?);
        }
    }
    if fields.next().is_some() {
        return Err(not_shared(&shown(step)).into());
    }
    let aggregate = Aggregate { groups, measures };
    below.offer(Pushdown::Aggregate(&aggregate))?;
    Ok(aggregate)
}

fn group(
    below: &Below<'_>,
    expr: &Arc<dyn PhysicalExpr>,
    field: &FieldRef,
) -> Result<Group, Obstacle> {
    let Value::Column(column) = below.value(expr)? else {
        let message = format!("{expr} is computed and grouped by here");
        return Err(Reason::new(ReasonCode::Expression, message).into());
    };
    let arrives = below.leaf.scan().columns.get(column).map(|column| &column.data_type);
    if arrives != Some(field.data_type()) {
        let message = format!("{expr} is cast and grouped by here");
        return Err(Reason::new(ReasonCode::Cast, message).into());
    }
    Ok(Group { column, name: field.name().clone() })
}

/// Returns the partial results that make up the state of an aggregate, in the order of its columns.
fn states(
    below: &Below<'_>,
    aggregate: &AggregateFunctionExpr,
) -> Result<Vec<(Function, Option<Value>)>, Obstacle> {
    let is_plain =
        !aggregate.is_distinct() && aggregate.order_bys().is_empty() && !aggregate.ignore_nulls();
    let arguments = aggregate.expressions();
    let [argument] = arguments.as_slice() else {
        return Err(not_shared(aggregate.name()).into());
    };
    let of = |function| below.value(argument).map(|value| (function, Some(value)));
    match aggregate.fun().name() {
        _ if !is_plain => Err(not_shared(aggregate.name()).into()),
        // What is never NULL counts rows.
        "count" if argument.downcast_ref::<Literal>().is_some_and(|l| !l.value().is_null()) => {
            Ok(vec![(Function::Count, None)])
        }
        "count" => Ok(vec![of(Function::Count)?]),
        "sum" => Ok(vec![of(Function::Sum)?]),
        "min" => Ok(vec![of(Function::Min)?]),
        "max" => Ok(vec![of(Function::Max)?]),
        "avg" => Ok(vec![of(Function::CountOrNull)?, of(Function::Sum)?]),
        other => Err(not_shared(other).into()),
    }
}

/// Returns the measure of a column of the step. Sums are exact as decimals only: those of floats depend on the order of
/// rows.
fn measure(
    function: Function,
    argument: Option<Value>,
    filter: Option<Predicate>,
    field: &FieldRef,
) -> Result<Measure, Reason> {
    let (name, data_type) = (field.name().clone(), field.data_type().clone());
    let is_exact = match function {
        Function::Sum => data_type.is_decimal(),
        Function::Count | Function::CountOrNull => {
            matches!(data_type, DataType::Int64 | DataType::UInt64)
        }
        Function::Min | Function::Max => true,
    };
    if !is_exact {
        let message = format!("{name} of type {data_type} depends on the order of rows");
        return Err(Reason::new(ReasonCode::Float, message));
    }
    Ok(Measure { function, argument, filter, name, data_type, nullable: field.is_nullable() })
}

fn not_shared(what: &str) -> Reason {
    Reason::new(ReasonCode::Function, format!("{what} has no partial result that sources know"))
}
