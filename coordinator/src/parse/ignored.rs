//! What the parser reads and the planner passes over in silence: refused here, because the answer would be another one.
//!
//! A sample would be the whole table, `SIMILAR TO` a regular expression, `CONNECT BY` nothing at all; the column that a
//! full join merges would be the left one.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, GroupByExpr, JoinConstraint, JoinOperator, LimitClause, NamedWindowDefinition,
    NamedWindowExpr, Query, Select, SelectItem, Statement, TableFactor, Visit, Visitor,
    WindowFrameBound, WindowFrameUnits, WindowSpec, WindowType,
};
use meshwork_engine::{Error, Result};

use super::grammar::{folded, parts_of};

/// Refuses a statement with such a clause in it, at any depth.
pub(super) fn refuse_ignored(statement: &Statement) -> Result<()> {
    match statement.visit(&mut Ignored) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(clause) => Err(Error::not_supported(clause)),
    }
}

/// The planner shows one of the two columns, which is NULL where only the other side has a row.
const MERGED: &str = "USING and NATURAL of this outer join (write ON, and name the columns)";

/// Stops at the first clause that would be ignored, with its name.
struct Ignored;

impl Visitor for Ignored {
    type Break = &'static str;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        let has_limit_by = matches!(&query.limit_clause,
            Some(LimitClause::LimitOffset { limit_by, .. }) if !limit_by.is_empty());
        first_of([
            (has_limit_by, "LIMIT BY"),
            (!query.locks.is_empty(), "FOR UPDATE and FOR SHARE"),
            (query.for_clause.is_some(), "FOR XML, FOR JSON and FOR BROWSE"),
            (query.settings.is_some(), "SETTINGS"),
            (query.format_clause.is_some(), "FORMAT"),
        ])
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        for NamedWindowDefinition(_, window) in &select.named_window {
            if let NamedWindowExpr::WindowSpec(window) = window {
                window_is_known(window)?;
            }
        }
        let (GroupByExpr::All(with) | GroupByExpr::Expressions(_, with)) = &select.group_by;
        first_of([
            (select.prewhere.is_some(), "PREWHERE"),
            (!select.connect_by.is_empty(), "CONNECT BY"),
            (!select.distribute_by.is_empty(), "DISTRIBUTE BY"),
            (!with.is_empty(), "WITH ROLLUP, WITH CUBE and WITH TOTALS behind GROUP BY"),
            (select.into.is_some(), "SELECT INTO"),
            (merges_wrongly(select), MERGED),
            (select.value_table_mode.is_some(), "SELECT AS VALUE and SELECT AS STRUCT"),
        ])
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<Self::Break> {
        // Other kinds of tables have no clause that the planner does not know.
        match table {
            TableFactor::Table {
                with_hints,
                version,
                partitions,
                json_path,
                sample,
                index_hints,
                ..
            } => first_of([
                (sample.is_some(), "TABLESAMPLE"),
                (version.is_some(), "this form of time travel"),
                (!partitions.is_empty(), "PARTITION behind a table"),
                (json_path.is_some(), "a path behind a table"),
                (!with_hints.is_empty() || !index_hints.is_empty(), "hints behind a table"),
            ]),
            TableFactor::Derived { sample, .. } => first_of([(sample.is_some(), "TABLESAMPLE")]),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        if let Expr::Function(Function { over: Some(WindowType::WindowSpec(window)), .. }) = expr {
            window_is_known(window)?;
        }
        first_of([(matches!(expr, Expr::SimilarTo { .. }), "SIMILAR TO")])
    }
}

fn window_is_known(window: &WindowSpec) -> ControlFlow<&'static str> {
    let ends_before = window.window_frame.as_ref().is_some_and(|frame| {
        frame.units == WindowFrameUnits::Range
            && matches!(frame.end_bound, Some(WindowFrameBound::Preceding(Some(_))))
    });
    first_of([
        // The planner forgets what the named window says.
        (window.window_name.is_some(), "a window that extends a named one"),
        // Of rows whose key is NULL it would count those of one batch only.
        (ends_before, "a RANGE frame that ends before the current row"),
    ])
}

/// Whether a column that a join of the select merges would be NULL where one side has a value.
fn merges_wrongly(select: &Select) -> bool {
    let is_star = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_));
    let has_star = select.projection.iter().any(is_star);
    select.from.iter().any(|tables| {
        let mut before = vec![reference(&tables.relation)];
        tables.joins.iter().any(|join| {
            let this = reference(&join.relation);
            let wrong = match &join.join_operator {
                JoinOperator::Right(constraint)
                | JoinOperator::RightOuter(constraint)
                | JoinOperator::FullOuter(constraint) => merges(constraint),
                // `*` shows the column of the table that comes first by name: it must be one on the left.
                JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
                    has_star && merges(constraint) && before.iter().any(|left| *left > this)
                }
                // The columns of other joins are equal, or one of them is gone.
                _ => false,
            };
            before.push(this);
            wrong
        })
    })
}

fn merges(constraint: &JoinConstraint) -> bool {
    matches!(constraint, JoinConstraint::Using(_) | JoinConstraint::Natural)
}

/// Returns a table's name as the planner orders names: those of fewer parts come first.
fn reference(table: &TableFactor) -> (usize, Vec<String>) {
    let parts = match table {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. } => vec![folded(&alias.name)],
        TableFactor::Table { name, .. } => parts_of(name),
        // A table without a name may be any.
        _ => Vec::new(),
    };
    (parts.len(), parts)
}

/// Breaks with the first clause that is there.
fn first_of<const N: usize>(clauses: [(bool, &'static str); N]) -> ControlFlow<&'static str> {
    match clauses.into_iter().find(|(is_there, _)| *is_there) {
        None => ControlFlow::Continue(()),
        Some((_, clause)) => ControlFlow::Break(clause),
    }
}
