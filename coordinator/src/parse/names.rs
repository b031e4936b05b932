//! Names for the columns of a result that the statement gives none: the expression as it was written.
//!
//! Left alone, the planner names them after its own trees: `sum(pg.public.orders.total)`, `Int64(1)`.

use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::{Expr, Ident, Query, SelectItem, SetExpr, Statement};

/// Names the columns of a query that have no name: those of its first branch, which are the result's.
pub(super) fn name_columns(statement: &mut DataFusionStatement) {
    if let DataFusionStatement::Statement(statement) = statement
        && let Statement::Query(query) = statement.as_mut()
    {
        name_query(query);
    }
}

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
    let SelectItem::UnnamedExpr(expr) = item else { return };
    if matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
        return;
    }
    let alias = Ident::with_quote('"', expr.to_string());
    *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
}
