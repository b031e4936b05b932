//! Names for the columns of a query: the expression as it was written, and one column to a name.
//!
//! Left alone, the planner names columns after its own trees, `sum(pg.public.orders.total)` or `Int64(1)`, and refuses
//! `SELECT a, a`. A name that is taken gets an invisible mark until the rows leave, when [`shown_name`] takes it off.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, OrderByKind, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, Statement, TableFactor, VisitMut, VisitorMut,
};

use super::grammar::folded;

/// Stands behind a name that an earlier column has, once for each: INVISIBLE SEPARATOR, which nobody types.
const MARK: char = '\u{2063}';

/// Names the columns of a statement's queries that have no name, and tells apart those of one name.
pub(super) fn name_columns(statement: &mut DataFusionStatement) {
    let DataFusionStatement::Statement(statement) = statement else { return };
    // The columns of an INSERT's query go by their place.
    let result = match statement.as_mut() {
        Statement::Query(query) => Some(query),
        Statement::Insert(insert) => insert.source.as_mut(),
        _ => None,
    };
    if let Some(query) = result {
        name_query(query);
        tell_apart(query, Reach::Result);
    }
    let ControlFlow::Continue(()) = statement.visit(&mut Inner);
}

/// Returns the name that users see.
pub(crate) fn shown_name(name: &str) -> &str {
    name.trim_end_matches(MARK)
}

/// Returns a text about a plan without the marks.
pub(crate) fn shown_text(text: &str) -> String {
    text.replace(MARK, "")
}

/// Whether an earlier column has the same name.
pub(crate) fn is_repeated(name: &str) -> bool {
    name.ends_with(MARK)
}

/// Names the columns of queries within others, as far as `*` can show them.
struct Inner;

impl VisitorMut for Inner {
    type Break = std::convert::Infallible;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        for table in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            if table.alias.columns.is_empty() {
                name_query(&mut table.query);
            }
        }
        tell_apart(query, Reach::Inner);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<Self::Break> {
        if let TableFactor::Derived { subquery, alias, .. } = table
            && alias.as_ref().is_none_or(|alias| alias.columns.is_empty())
        {
            name_query(subquery);
        }
        ControlFlow::Continue(())
    }
}

/// Names what has no name in the first branch of a query: its columns are the result's.
fn name_query(query: &mut Query) {
    name_branch(&mut query.body);
}

fn name_branch(body: &mut SetExpr) {
    // What is neither a select nor made of selects names its columns itself.
    match body {
        SetExpr::Select(select) => select.projection.iter_mut().for_each(name_item),
        SetExpr::Query(query) => name_query(query),
        SetExpr::SetOperation { left, .. } => name_branch(left),
        _ => {}
    }
}

fn name_item(item: &mut SelectItem) {
    if let SelectItem::UnnamedExpr(expr) = item
        && column_of(expr).is_none()
    {
        let alias = Ident::with_quote('"', expr.to_string());
        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
    }
}

/// Who sees the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Clients, which go by their place: any name may come twice.
    Result,
    /// Clients, through a set operation.
    Branch,
    /// Other queries, which go by their name: it may come twice for the same expression only.
    Inner,
}

fn tell_apart(query: &mut Query, reach: Reach) {
    let mut sorted_by = Vec::new();
    if let Some(order) = &query.order_by
        && let OrderByKind::Expressions(keys) = &order.kind
    {
        sorted_by.extend(keys.iter().filter_map(|key| column_of(&key.expr)));
    }
    tell_branch_apart(&mut query.body, reach, &sorted_by);
}

fn tell_branch_apart(body: &mut SetExpr, reach: Reach, sorted_by: &[String]) {
    // Queries within are visited by themselves.
    match body {
        SetExpr::Select(select) => tell_items_apart(select, reach, sorted_by),
        SetExpr::Query(query) if reach != Reach::Inner => tell_apart(query, reach),
        SetExpr::SetOperation { left, right, .. } => {
            let reach = if reach == Reach::Inner { Reach::Inner } else { Reach::Branch };
            tell_branch_apart(left, reach, sorted_by);
            tell_branch_apart(right, reach, sorted_by);
        }
        _ => {}
    }
}

/// An item that has a name.
struct Named {
    name: String,
    text: String,
    is_qualified: bool,
}

/// Marks the items whose name an earlier one has.
fn tell_items_apart(select: &mut Select, reach: Reach, sorted_by: &[String]) {
    let mut meant = sorted_by.to_vec();
    if let GroupByExpr::Expressions(keys, _) = &select.group_by {
        meant.extend(keys.iter().filter_map(column_of));
    }
    let stars: Vec<Option<String>> = select.projection.iter().filter_map(star_of).collect();
    let mut seen: Vec<Named> = Vec::new();
    for item in &mut select.projection {
        let Some((name, expr)) = named(item) else { continue };
        let is_qualified = matches!(expr, Expr::CompoundIdentifier(_));
        let this = Named { name, text: expr.to_string(), is_qualified };
        let same: Vec<_> = seen.iter().filter(|other| other.name == this.name).collect();
        let is_shown = reach != Reach::Inner
            && column_of(expr).as_ref() == Some(&this.name)
            && stars.iter().any(|star| shows(star.as_deref(), expr));
        // `t.a` and `u.a` are different columns to the planner as well, but not to a set operation.
        let is_apart = |other: &&Named| {
            let are_qualified = other.is_qualified && this.is_qualified;
            reach != Reach::Branch && are_qualified && other.text != this.text
        };
        let is_alike = same.iter().all(|other| other.text == this.text);
        // Of different expressions a name that is used would not say which it means.
        let is_unclear = reach == Reach::Inner || meant.contains(&this.name);
        let is_repeated = !same.iter().all(is_apart) && (is_alike || !is_unclear);
        if is_shown || is_repeated {
            let n_marks = same.len() + usize::from(is_shown);
            let marked: String =
                this.name.chars().chain(std::iter::repeat_n(MARK, n_marks)).collect();
            let alias = Ident::with_quote('"', marked);
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
        seen.push(this);
    }
}

/// Returns the name of an item and what it computes; `None` for what may be many columns.
fn named(item: &SelectItem) -> Option<(String, &Expr)> {
    match item {
        SelectItem::UnnamedExpr(expr) => {
            Some((column_of(expr).unwrap_or_else(|| expr.to_string()), expr))
        }
        SelectItem::ExprWithAlias { expr, alias } => Some((folded(alias), expr)),
        SelectItem::ExprWithAliases { .. }
        | SelectItem::QualifiedWildcard(..)
        | SelectItem::Wildcard(_) => None,
    }
}

/// Returns the name of a column that stands alone.
fn column_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(folded(name)),
        Expr::CompoundIdentifier(names) => names.last().map(folded),
        // All else is computed.
        _ => None,
    }
}

/// Returns whose columns an item shows: those of a table, or of all with `None`.
fn star_of(item: &SelectItem) -> Option<Option<String>> {
    match item {
        SelectItem::Wildcard(_) => Some(None),
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(table), _) => {
            Some(Some(table.to_string()))
        }
        // What else there is shows no table's columns.
        _ => None,
    }
}

/// Whether a star shows the column that the expression is.
fn shows(star: Option<&str>, expr: &Expr) -> bool {
    match (star, expr) {
        (None, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) => true,
        (Some(table), Expr::CompoundIdentifier(names)) => {
            names.split_last().is_some_and(|(_, owner)| {
                owner.iter().map(ToString::to_string).collect::<Vec<_>>().join(".") == table
            })
        }
        _ => false,
    }
}
