//! `EXISTS` among the columns of a query: the planner knows it as a condition only.
//!
//! ```text
//! EXISTS (SELECT a FROM t WHERE c)      (SELECT count(*) FROM t WHERE c) > 0
//! EXISTS (any other query)              (SELECT count(*) FROM (any other query)) > 0
//! ```
//! The first form may refer to the query around it: a subquery within a subquery may not.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Query, Select, SelectItem, SetExpr, TableFactor, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use meshwork_engine::{Error, Result};

use super::parser_error;

/// What stands for the condition.
const TEMPLATE: &str = "((SELECT count(*) FROM (SELECT 1) AS counted) > 0)";

/// Makes counts of the conditions among columns.
pub(super) fn count_existing(statement: &mut DataFusionStatement) -> Result<()> {
    let DataFusionStatement::Statement(statement) = statement else { return Ok(()) };
    match statement.visit(&mut Selects) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Visits the selects of a statement.
struct Selects;

impl VisitorMut for Selects {
    type Break = Error;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                expr.visit(&mut Column { n_queries: 0 })?;
            }
        }
        ControlFlow::Continue(())
    }
}

/// Visits the expression of one column, but not the queries in it: those have columns and conditions of their own.
struct Column {
    n_queries: usize,
}

impl VisitorMut for Column {
    type Break = Error;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
        self.n_queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
        self.n_queries -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        if self.n_queries == 0
            && let Expr::Exists { subquery, negated } = expr
        {
            match counted(subquery, *negated) {
                Ok(count) => *expr = count,
                Err(error) => return ControlFlow::Break(error),
            }
        }
        ControlFlow::Continue(())
    }
}

fn counted(existing: &Query, negated: bool) -> Result<Expr> {
    let text = if negated { TEMPLATE.replace('>', "=") } else { TEMPLATE.to_owned() };
    let mut count = Parser::new(&GenericDialect {})
        .try_with_sql(&text)
        .and_then(|mut parser| parser.parse_expr())
        .map_err(|error| parser_error(&error))?;
    let mut place = Place { existing: Some(existing.clone()) };
    let walked = count.visit(&mut place);
    debug_assert!(walked.is_continue() && place.existing.is_none(), "the template has one place");
    Ok(count)
}

/// Puts a query into the template.
struct Place {
    existing: Option<Query>,
}

impl VisitorMut for Place {
    type Break = ();

    fn pre_visit_query(&mut self, template: &mut Query) -> ControlFlow<()> {
        let is_plain = |query: &mut Query| plain_select(query).is_some();
        if let Some(mut existing) = self.existing.take_if(is_plain)
            && let (Some(select), SetExpr::Select(count)) =
                (plain_select(&mut existing), template.body.as_mut())
        {
            std::mem::swap(&mut select.projection, &mut count.projection);
            existing.order_by = None;
            *template = existing;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Derived { subquery, .. } = table
            && let Some(existing) = self.existing.take()
        {
            **subquery = existing;
        }
        ControlFlow::Continue(())
    }
}

/// Returns the select of a query that has a row for each that its condition lets through, and nothing else to say.
fn plain_select(query: &mut Query) -> Option<&mut Select> {
    let plain = query.with.is_none() && query.limit_clause.is_none() && query.fetch.is_none();
    // Only a select can be plain.
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let says_columns = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
            matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_))
        }
        SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => true,
        SelectItem::ExprWithAliases { .. } => false,
    };
    let groups = matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty());
    let whole = groups && select.having.is_none() && select.qualify.is_none();
    let is_plain = plain
        && whole
        && select.distinct.is_none()
        && select.top.is_none()
        && select.projection.iter().all(says_columns);
    is_plain.then_some(select)
}
