//! How many rows a relation has, and how many values its columns.

use std::collections::BTreeMap;

use datafusion::common::Column;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, Expr, Join, JoinType, LogicalPlan, SubqueryAlias, TableScan,
};
use meshwork_engine::remote::{Literal, Predicate};
use meshwork_engine::statistics::{ColumnStatistics, n_distinct_left, selectivity};

use super::tables::{Table, Tables};

/// The part of rows that passes conditions of which nothing is known.
const GUESS: f64 = 0.2;

/// What is expected of a relation.
#[derive(Debug, Clone)]
pub(super) struct Estimate {
    /// Rows that it returns.
    pub(super) n_rows: f64,
    /// Rows that are looked at for them.
    pub(super) n_rows_read: f64,
    /// Rows that leave the source, before conditions that only we check.
    pub(super) n_rows_moved: f64,
    /// Values of columns, as many as there were if no other column had a condition.
    pub(super) n_distinct: BTreeMap<Column, f64>,
    /// The catalog of the row source that could do more with these rows.
    pub(super) catalog: Option<String>,
}

/// Returns what is expected of a plan, `None` if anything in it is unknown.
pub(super) fn of(plan: &LogicalPlan, tables: &Tables) -> Option<Estimate> {
    match plan {
        LogicalPlan::TableScan(scan) => of_scan(scan, &[], tables),
        LogicalPlan::Filter(filter) => match filter.input.as_ref() {
            LogicalPlan::TableScan(scan) => {
                of_scan(scan, &split_conjunction(&filter.predicate), tables)
            }
            input => Some(of(input, tables)?.here().times(GUESS)),
        },
        LogicalPlan::Projection(projection) => {
            let input = of(&projection.input, tables)?;
            let columns = projection.schema.columns().into_iter().zip(&projection.expr);
            let is_chosen = projection.expr.iter().all(|expr| matches!(expr, Expr::Column(_)));
            let n_distinct = columns.filter_map(|(name, expr)| {
                let Expr::Column(column) = expr.clone().unalias() else { return None };
                Some((name, *input.n_distinct.get(&column)?))
            });
            let estimate = Estimate { n_distinct: n_distinct.collect(), ..input.clone() };
            Some(if is_chosen { estimate } else { estimate.here() })
        }
        LogicalPlan::SubqueryAlias(alias) => of_alias(alias, tables),
        LogicalPlan::Aggregate(aggregate) => of_aggregate(aggregate, tables),
        LogicalPlan::Join(join) => of_join(join, tables),
        LogicalPlan::Limit(limit) => {
            let rows = limit.get_fetch_type().ok().and_then(|fetch| match fetch {
                datafusion::logical_expr::FetchType::Literal(rows) => rows,
                datafusion::logical_expr::FetchType::UnsupportedExpr => None,
            });
            let input = of(&limit.input, tables)?.here();
            let share = rows.map_or(1.0, |rows| rows as f64 / input.n_rows.max(1.0));
            Some(input.times(share.min(1.0)))
        }
        LogicalPlan::Sort(sort) => Some(of(&sort.input, tables)?.here()),
        LogicalPlan::Window(window) => Some(of(&window.input, tables)?.here()),
        // What else there is says nothing, and then nothing is reordered.
        _ => None,
    }
}

impl Estimate {
    /// The rows as they are here, out of reach of their source.
    fn here(self) -> Self {
        Self { catalog: None, ..self }
    }

    fn times(self, share: f64) -> Self {
        Self { n_rows: (self.n_rows * share).max(1.0), ..self }
    }

    /// Returns how many values a column has.
    pub(super) fn values(&self, column: &Column) -> f64 {
        self.n_distinct.get(column).copied().unwrap_or(self.n_rows).max(1.0)
    }
}

fn of_scan(scan: &TableScan, above: &[&Expr], tables: &Tables) -> Option<Estimate> {
    let table = tables.get(scan)?;
    let n_rows_read = table.known.n_rows?;
    let moved = passing(table, &scan.filters.iter().collect::<Vec<_>>());
    let mut all: Vec<&Expr> = scan.filters.iter().collect();
    all.extend(above.iter().filter(|condition| !scan.filters.contains(condition)));
    let left = passing(table, &all);
    let column = |name: &Column| {
        let index = table.columns.iter().position(|column| column.name == name.name)?;
        let known = table.known.columns.get(&name.name)?;
        let whole = n_distinct(known, n_rows_read)?;
        Some(n_distinct_left(whole, index, &left.known, &table.columns, &table.known))
    };
    let names = scan.projected_schema.columns().into_iter();
    Some(Estimate {
        n_rows: (n_rows_read * left.fraction).max(1.0),
        n_rows_read,
        n_rows_moved: (n_rows_read * moved.fraction).max(1.0),
        n_distinct: names.filter_map(|name| column(&name).map(|n| (name, n))).collect(),
        catalog: table.catalog.clone().filter(|_| above.is_empty() && scan.fetch.is_none()),
    })
}

/// What conditions leave of a table.
struct Passing {
    fraction: f64,
    /// The conditions that statistics can say something about.
    known: Vec<Predicate>,
}

fn passing(table: &Table, conditions: &[&Expr]) -> Passing {
    let known = conditions.iter().map(|one| Predicate::from_expr(one, &table.columns));
    let known: Vec<Predicate> = known.filter_map(Result::ok).collect();
    let said = selectivity(&known, &table.columns, &table.known).fraction;
    let guessed = if known.len() < conditions.len() { GUESS } else { 1.0 };
    Passing { fraction: said * guessed, known }
}

/// Whole numbers have no more values than there are between the least and the greatest.
fn n_distinct(known: &ColumnStatistics, n_rows: f64) -> Option<f64> {
    let number = |end: &Option<Literal>| match end {
        Some(Literal::Int(value)) => Some(*value as f64),
        Some(Literal::UInt(value)) => Some(*value as f64),
        Some(Literal::Date(days)) => Some(f64::from(*days)),
        _ => None,
    };
    let between = || Some((number(&known.max)? - number(&known.min)? + 1.0).min(n_rows));
    known.n_distinct.or_else(between)
}

fn of_alias(alias: &SubqueryAlias, tables: &Tables) -> Option<Estimate> {
    let input = of(&alias.input, tables)?;
    let names = alias.schema.columns().into_iter().zip(alias.input.schema().columns());
    let renamed = names.filter_map(|(name, inner)| Some((name, *input.n_distinct.get(&inner)?)));
    Some(Estimate { n_distinct: renamed.collect(), ..input })
}

fn of_aggregate(aggregate: &Aggregate, tables: &Tables) -> Option<Estimate> {
    let input = of(&aggregate.input, tables)?;
    let groups = aggregate.group_expr.iter().map(|group| match group {
        Expr::Column(column) => input.values(column),
        _ => input.n_rows,
    });
    let n_rows = groups.product::<f64>().min(input.n_rows).max(1.0);
    let names = aggregate.schema.columns().into_iter().zip(&aggregate.group_expr);
    let n_distinct = names.filter_map(|(name, group)| match group {
        Expr::Column(column) => Some((name, input.values(column).min(n_rows))),
        _ => None,
    });
    let n_distinct = n_distinct.collect();
    Some(Estimate { n_rows, n_distinct, ..input }.here())
}

fn of_join(join: &Join, tables: &Tables) -> Option<Estimate> {
    let (left, right) = (of(&join.left, tables)?, of(&join.right, tables)?);
    let mut matched = left.n_rows * right.n_rows;
    let (mut left_matched, mut right_matched) = (1.0_f64, 1.0_f64);
    for (left_key, right_key) in &join.on {
        let values = |side: &Estimate, key: &Expr| match key {
            Expr::Column(column) => side.values(column),
            _ => side.n_rows,
        };
        let (l, r) = (values(&left, left_key), values(&right, right_key));
        matched /= l.max(r);
        left_matched = left_matched.min((r.min(right.n_rows) / l).min(1.0));
        right_matched = right_matched.min((l.min(left.n_rows) / r).min(1.0));
    }
    if join.filter.is_some() {
        matched *= GUESS;
    }
    let n_rows = match join.join_type {
        JoinType::Inner => matched,
        JoinType::Left => matched.max(left.n_rows),
        JoinType::Right => matched.max(right.n_rows),
        JoinType::Full => matched.max(left.n_rows).max(right.n_rows),
        JoinType::LeftSemi => left.n_rows * left_matched,
        JoinType::RightSemi => right.n_rows * right_matched,
        JoinType::LeftAnti | JoinType::LeftMark => left.n_rows,
        JoinType::RightAnti | JoinType::RightMark => right.n_rows,
    };
    let mut n_distinct = left.n_distinct;
    n_distinct.extend(right.n_distinct);
    let n_rows_read = left.n_rows_read + right.n_rows_read;
    let n_rows_moved = left.n_rows_moved + right.n_rows_moved;
    let n_rows = n_rows.max(1.0);
    Some(Estimate { n_rows, n_rows_read, n_rows_moved, n_distinct, catalog: None })
}
