//! Scans of versioned tables that a rollup answers with fewer rows.
//!
//! ```text
//! sum(clicks) by country                  sum(clicks) by country
//!   publisher = p.id ◄─ publishers p   ->   publisher = p.id ◄─ publishers p
//!     scan of ads                             scan of ads as by_publisher (publisher, country, clicks)
//! ```
//! A rollup folds rows of its table that are alike in some of the key's columns. It answers an aggregation that tells rows
//! apart by these columns only and folds values by the functions of the table: what is folded in parts is folded. Joins in
//! between match all rows of a group or none; how often they do counts for sums of the other side, so that side must have
//! none. A rollup with the whole key has the rows of its table and answers everything that it has the columns of; it pays
//! where a condition is on the column that it is sorted by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType, Result};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Aggregate, Expr, Join, LogicalPlan, Operator, TableScan};
use meshwork_engine::versioned::{Fold, Versioned, VersionedTable};

/// The part of the rows that a condition leaves of which nothing else is known.
const LEFT_BY_CONDITION: f64 = 0.2;

/// Returns the plan with scans of rollups where these cost less. What it returns, in rows and columns, is the same.
///
/// # Errors
/// Those of planning the conditions of scans.
pub(crate) fn read_where_cheaper(plan: LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
    plan.transform_down_with_subqueries(|node| {
        let cheaper = match &node {
            LogicalPlan::Aggregate(aggregate) => of_aggregate(aggregate, state)?,
            LogicalPlan::TableScan(scan) => cheapest(scan, None, state)?,
            _ => None,
        };
        Ok(cheaper.map_or_else(|| Transformed::no(node), Transformed::yes))
    })
    .data()
}

/// What may stand for a column of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Use {
    /// It tells rows apart, or is one of many equal values.
    as_key: bool,
    /// It is folded by this function.
    folded: Option<Fold>,
}

/// By the place of a column.
type Uses = BTreeMap<usize, Use>;

fn of_aggregate(aggregate: &Aggregate, state: &SessionState) -> Result<Option<LogicalPlan>> {
    let Some(uses) = needed(aggregate) else { return Ok(None) };
    let Some(input) = replaced(&aggregate.input, &uses, state)? else { return Ok(None) };
    let mut changed = aggregate.clone();
    changed.input = Arc::new(input);
    Ok(Some(LogicalPlan::Aggregate(changed)))
}

/// Says what an aggregation needs of the columns of its input; None if it has to see each row of it.
fn needed(aggregate: &Aggregate) -> Option<Uses> {
    let schema = aggregate.input.schema();
    let mut uses = Uses::new();
    for group in &aggregate.group_expr {
        use_as_key(&mut uses, group, schema)?;
    }
    for function in &aggregate.aggr_expr {
        let Expr::AggregateFunction(AggregateFunction { func, params }) =
            function.clone().unalias()
        else {
            return None;
        };
        if !params.order_by.is_empty() || params.null_treatment.is_some() {
            return None;
        }
        if let Some(filter) = &params.filter {
            use_as_key(&mut uses, filter, schema)?;
        }
        match (Fold::named(func.name()), params.args.as_slice()) {
            (Some(fold), [argument]) if !params.distinct => {
                use_folded(&mut uses, argument, fold, schema)?;
            }
            (_, arguments) if params.distinct => {
                arguments.iter().try_for_each(|value| use_as_key(&mut uses, value, schema))?;
            }
            _ => return None,
        }
    }
    Some(uses)
}

/// Notes that columns decide by an expression; None if it is another one each time, or looks at more than the row.
fn use_as_key(uses: &mut Uses, expression: &Expr, schema: &DFSchema) -> Option<()> {
    let looks_further = |expression: &Expr| {
        Ok(matches!(
            expression,
            Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::ScalarSubquery(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
        ))
    };
    if expression.is_volatile() || expression.exists(looks_further).ok()? {
        return None;
    }
    let place = |column: &Column| schema.maybe_index_of_column(column);
    let places: BTreeSet<usize> =
        expression.column_refs().into_iter().map(place).collect::<Option<_>>()?;
    for place in places {
        uses.entry(place).or_default().as_key = true;
    }
    Some(())
}

/// Notes that values are folded; None if they cannot be what a rollup folded, or what may be there more than once.
fn use_folded(uses: &mut Uses, value: &Expr, fold: Fold, schema: &DFSchema) -> Option<()> {
    match value {
        Expr::Column(column) => fold_column(uses, schema.maybe_index_of_column(column)?, fold),
        value if fold != Fold::Sum => use_as_key(uses, value, schema),
        _ => None,
    }
}

/// Notes that a column is folded; None if it is folded by another function as well.
fn fold_column(uses: &mut Uses, column: usize, fold: Fold) -> Option<()> {
    match uses.entry(column).or_default().folded.replace(fold) {
        Some(other) if other != fold => None,
        _ => Some(()),
    }
}

/// Returns the plan with scans of rollups that serve what is made of its columns; None if there are none.
fn replaced(plan: &LogicalPlan, uses: &Uses, state: &SessionState) -> Result<Option<LogicalPlan>> {
    let below = match plan {
        LogicalPlan::TableScan(scan) => return cheapest(scan, Some(uses), state),
        LogicalPlan::Projection(projection) => {
            through_projection(&projection.expr, projection.input.schema(), uses)
        }
        LogicalPlan::Filter(filter) => {
            let mut below = uses.clone();
            use_as_key(&mut below, &filter.predicate, filter.input.schema()).map(|()| vec![below])
        }
        LogicalPlan::SubqueryAlias(_) => Some(vec![uses.clone()]),
        LogicalPlan::Join(join) => through_join(join, uses),
        _ => None,
    };
    let Some(below) = below else { return Ok(None) };
    let mut inputs = Vec::with_capacity(below.len());
    let mut is_changed = false;
    for (at, input) in plan.inputs().into_iter().enumerate() {
        let others = below.iter().enumerate().filter(|(other, _)| *other != at);
        let counts = others.flat_map(|(_, uses)| uses.values());
        let is_counted = counts.clone().any(|other| other.folded == Some(Fold::Sum));
        let changed = match below.get(at) {
            Some(uses) if !is_counted => replaced(input, uses, state)?,
            _ => None,
        };
        is_changed |= changed.is_some();
        inputs.push(changed.unwrap_or_else(|| input.clone()));
    }
    match is_changed {
        true => plan.with_new_exprs(plan.expressions(), inputs).map(Some),
        false => Ok(None),
    }
}

fn through_projection(expressions: &[Expr], schema: &DFSchema, uses: &Uses) -> Option<Vec<Uses>> {
    let mut below = Uses::new();
    for (column, wanted) in uses {
        let computed = expressions.get(*column)?.clone().unalias();
        if wanted.as_key {
            use_as_key(&mut below, &computed, schema)?;
        }
        if let Some(fold) = wanted.folded {
            use_folded(&mut below, &computed, fold, schema)?;
        }
    }
    Some(vec![below])
}

/// Returns what is needed of both sides.
fn through_join(join: &Join, uses: &Uses) -> Option<Vec<Uses>> {
    let is_plain = matches!(
        join.join_type,
        JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full
    );
    if !is_plain {
        return None;
    }
    let mut both = uses.clone();
    if let Some(filter) = &join.filter {
        use_as_key(&mut both, filter, &join.schema)?;
    }
    let n_left = join.left.schema().fields().len();
    let mut right = both.split_off(&n_left);
    right = right.into_iter().map(|(column, used)| (column - n_left, used)).collect();
    let mut left = both;
    for (of_left, of_right) in &join.on {
        use_as_key(&mut left, of_left, join.left.schema())?;
        use_as_key(&mut right, of_right, join.right.schema())?;
    }
    Some(vec![left, right])
}

/// Returns the scan of the rollup that costs least, if one costs less than the table; without `uses`, among those that have all
/// its rows.
fn cheapest(
    scan: &TableScan,
    uses: Option<&Uses>,
    state: &SessionState,
) -> Result<Option<LogicalPlan>> {
    let provider = source_as_provider(&scan.source)?;
    let Some(table) = VersionedTable::of(provider.as_ref()) else { return Ok(None) };
    let mut serving = table.rollups();
    serving.retain(|rollup| serves(rollup.as_ref(), table.key().len(), scan, uses));
    if serving.is_empty() {
        return Ok(None);
    }
    let mut least = cost(table.as_ref(), scan, state)?;
    let mut best = None;
    for rollup in serving {
        let cost = cost(rollup.as_ref(), scan, state)?;
        if cost < least {
            (least, best) = (cost, Some(rollup));
        }
    }
    let Some(rollup) = best else { return Ok(None) };
    let schema = rollup.schema();
    let place = |field: &FieldRef| schema.index_of(field.name());
    let places = scan.projected_schema.fields().iter().map(place);
    let projection = places.collect::<Result<_, _>>()?;
    let source = provider_as_source(Arc::new(VersionedTable::new(rollup)));
    Ok(Some(LogicalPlan::TableScan(TableScan {
        source,
        projection: Some(projection),
        ..scan.clone()
    })))
}

/// Whether a rollup of a table with so many key columns answers a scan.
fn serves(
    rollup: &dyn Versioned,
    n_key_of_table: usize,
    scan: &TableScan,
    uses: Option<&Uses>,
) -> bool {
    let (schema, key) = (rollup.schema(), rollup.key());
    let fields = scan.projected_schema.fields();
    let is_there = |name: &str| schema.index_of(name).is_ok();
    let has_columns = fields.iter().all(|field| is_there(field.name()))
        && conditions(scan)
            .iter()
            .all(|condition| condition.column_refs().iter().all(|column| is_there(&column.name)));
    if !has_columns || key.len() == n_key_of_table {
        return has_columns;
    }
    let is_key = |name: &str| key.iter().any(|key| key == name);
    let Some(uses) = uses else { return false };
    // A limit counts rows.
    scan.fetch.is_none()
        && conditions(scan)
            .iter()
            .all(|condition| condition.column_refs().iter().all(|column| is_key(&column.name)))
        && fields.iter().enumerate().all(|(place, field)| {
            let used = uses.get(&place).copied().unwrap_or_default();
            match is_key(field.name()) {
                true => used.folded != Some(Fold::Sum),
                false => !used.as_key && used.folded == rollup.fold_of(field.name()),
            }
        })
}

fn conditions(scan: &TableScan) -> Vec<&Expr> {
    scan.filters.iter().flat_map(split_conjunction).collect()
}

/// Returns about how many rows a scan decodes: those of the files that may hold what it looks for, fewer if they are sorted by
/// a column that a condition bounds.
fn cost(table: &dyn Versioned, scan: &TableScan, state: &SessionState) -> Result<f64> {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let rows = table.reads(&scan.filters, state)?.rows.0 as f64;
    let first = table.key().first();
    let is_bounded = first
        .is_some_and(|first| conditions(scan).iter().any(|condition| bounds(condition, first)));
    Ok(if is_bounded { rows * LEFT_BY_CONDITION } else { rows })
}

/// Whether a condition leaves one range of a column, or some values.
fn bounds(condition: &Expr, name: &str) -> bool {
    let is_it = |value: &Expr| matches!(value, Expr::Column(column) if column.name == name);
    match condition {
        Expr::BinaryExpr(binary) => {
            let is_comparison = matches!(
                binary.op,
                Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq
            );
            is_comparison && (is_it(&binary.left) || is_it(&binary.right))
        }
        Expr::InList(list) => !list.negated && is_it(&list.expr),
        Expr::Between(between) => !between.negated && is_it(&between.expr),
        Expr::IsNull(value) => is_it(value),
        _ => false,
    }
}
