//! `UPDATE` and `DELETE`: one statement of the source, or a query whose rows are changed, or refused with what stands in the
//! way.
//!
//! ```text
//! a table that somebody else keeps    the source finds and changes the rows alone
//! a table of a versioned store        a query finds them; if the table has changed since, the commit fails and the
//!                                     statement begins anew
//! ```
//! Of the first kind nothing is read here and written back: between the two others may change the rows. So the whole condition
//! has to be the source's to decide, by the same negotiation that filters of a scan pass (see `docs/pushdown.md`), and new
//! values are constants or other columns.

use std::any::Any;

use datafusion::common::Column;
use datafusion::datasource::source_as_provider;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{
    DmlStatement, Expr, LogicalPlan, LogicalPlanBuilder, Projection, WriteOp, ident,
};
use meshwork_engine::connector::ReadVersion;
use meshwork_engine::remote::{Refusal, RemoteColumn, RemoteTable};
use meshwork_engine::{Error, Result};

use crate::plan::Planned;
use crate::query::QueryContext;
use crate::resolve::reference_parts;

/// Whether a statement changes rows that are there.
pub(crate) fn changes_rows(statement: &DmlStatement) -> bool {
    matches!(statement.op, WriteOp::Update | WriteOp::Delete)
}

/// Carries out an `UPDATE` or a `DELETE`; returns how many rows it found.
///
/// # Errors
/// With code `COMMIT_CONFLICT` if others changed the table meanwhile and the statement is to begin anew.
pub(crate) async fn change_rows(
    context: &QueryContext<'_>,
    statement: &DmlStatement,
    state: &SessionState,
) -> Result<u64> {
    let name = statement.table_name.to_string();
    let provider = source_as_provider(&statement.target)?;
    let Some(table) = (provider.as_ref() as &dyn Any).downcast_ref::<RemoteTable>() else {
        return change_found_rows(context, statement, state).await;
    };
    table.refuse_if_read_only()?;
    let optimized = state.optimize(&statement.input)?;
    let values = match statement.op {
        WriteOp::Update => Some(new_values(&optimized, &table.whole().columns)),
        _ => None,
    };
    let Some(filters) = conditions(&optimized)? else { return Ok(0) };
    let change = table.change(&filters, values.as_deref());
    table.carry_out(&change.map_err(|refusal| refused(&name, &refusal))?).await
}

/// Runs the query that a change is about, and hands its rows to the table's catalog.
async fn change_found_rows(
    context: &QueryContext<'_>,
    statement: &DmlStatement,
    state: &SessionState,
) -> Result<u64> {
    let resolver = &context.coordinator.resolver;
    let name = resolver.full_name(&reference_parts(&statement.table_name), &context.snapshot)?;
    let provider = source_as_provider(&statement.target)?;
    let changer =
        resolver.connector(&name.catalog)?.changer(provider.as_ref(), &name.to_string())?;
    if context.snapshot.read_version() != ReadVersion::Committed {
        let message = format!("table \"{name}\" cannot be changed as of an earlier version");
        return Err(Error::user("CHANGE_REFUSED", message)
            .with_hint("RESET SESSION read_version, so that the newest rows are changed."));
    }
    let found = statement.input.as_ref().clone();
    let is_update = matches!(statement.op, WriteOp::Update);
    let plan = if is_update {
        let changed = changed_columns(&found);
        if let Some(column) = changer.key().iter().find(|column| changed.contains(column)) {
            let message = format!("column \"{column}\" of table \"{name}\" is a part of its key");
            return Err(Error::user("CHANGE_REFUSED", message)
                .with_hint("DELETE the row and INSERT one with another key."));
        }
        found
    } else {
        let key = changer.key().iter().map(ident);
        LogicalPlanBuilder::from(found).project(key)?.build()?
    };
    let rows = context.rows(Planned { plan, state: state.clone() }).await?;
    match is_update {
        true => changer.put(rows, state).await,
        false => changer.delete(rows, state).await,
    }
}

/// Returns the columns that a plan of an `UPDATE` gives new values.
fn changed_columns(plan: &LogicalPlan) -> Vec<String> {
    let LogicalPlan::Projection(Projection { expr, schema, .. }) = plan else { return Vec::new() };
    let columns = expr.iter().zip(schema.fields());
    let is_itself = |value: &Expr, name: &str| matches!(value.clone().unalias(), Expr::Column(column) if column.name == name);
    let changed = columns.filter(|(value, field)| !is_itself(value, field.name()));
    changed.map(|(_value, field)| field.name().clone()).collect()
}

/// Returns the columns that an `UPDATE` changes, with their values; the first to itself if it changes none.
fn new_values(plan: &LogicalPlan, columns: &[RemoteColumn]) -> Vec<(String, Expr)> {
    let value = |(value, column): (&Expr, &RemoteColumn)| {
        let value = value.clone().unalias();
        let is_itself = matches!(&value, Expr::Column(other) if other.name == column.name);
        (!is_itself).then(|| (column.name.clone(), value))
    };
    let mut values = match plan {
        LogicalPlan::Projection(Projection { expr, .. }) => {
            expr.iter().zip(columns).filter_map(value).collect()
        }
        _ => Vec::new(),
    };
    if let (true, Some(first)) = (values.is_empty(), columns.first()) {
        values.push((first.name.clone(), Expr::Column(Column::from_name(&first.name))));
    }
    values
}

/// Returns the conditions that stand above the table's scan and in it; `None` if no row can pass them.
///
/// # Errors
/// `NotSupported` when there is more than conditions.
fn conditions(plan: &LogicalPlan) -> Result<Option<Vec<Expr>>> {
    let mut conditions: Vec<Expr> = Vec::new();
    let mut add = |condition: &Expr| {
        for condition in split_conjunction_owned(condition.clone()) {
            if !conditions.contains(&condition) {
                conditions.push(condition);
            }
        }
    };
    let mut node = plan;
    loop {
        // A change of rows is a filter of one table; everything else is not the source's alone.
        node = match node {
            LogicalPlan::Projection(projection) => projection.input.as_ref(),
            LogicalPlan::SubqueryAlias(alias) => alias.input.as_ref(),
            LogicalPlan::Filter(filter) => {
                add(&filter.predicate);
                filter.input.as_ref()
            }
            LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
                scan.filters.iter().for_each(&mut add);
                return Ok(Some(conditions));
            }
            LogicalPlan::EmptyRelation(_) => return Ok(None),
            other => {
                let what = other.display().to_string();
                let what = what.split(':').next().unwrap_or_default().to_owned();
                return Err(Error::not_supported(format!(
                    "a change of rows that the source does not find alone ({what})"
                ))
                .with_hint("Compare the table's columns with constants."));
            }
        };
    }
}

fn refused(table: &str, refusal: &Refusal) -> Error {
    let Refusal { work, reason } = refusal;
    let message = format!("the source of table \"{table}\" does not do {work} exactly: {reason}");
    Error::user("CHANGE_REFUSED", message)
        .with_hint("A change is made by the source alone: docs/pushdown.md lists what it does.")
}
