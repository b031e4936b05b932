//! `UPDATE` and `DELETE`: one statement of the source, or refused with what stands in the way.
//!
//! Nothing is read here and written back: between the two others may change the rows. So the whole condition has to be
//! the source's to decide, by the same negotiation that filters of a scan pass (see `docs/pushdown.md`), and new values
//! are constants or other columns.

use std::any::Any;

use datafusion::common::Column;
use datafusion::datasource::source_as_provider;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{DmlStatement, Expr, LogicalPlan, Projection, WriteOp};
use meshwork_engine::remote::{Refusal, RemoteColumn, RemoteTable};
use meshwork_engine::{Error, Result};

/// Whether a statement changes rows that are there.
pub(crate) fn changes_rows(statement: &DmlStatement) -> bool {
    matches!(statement.op, WriteOp::Update | WriteOp::Delete)
}

/// Carries out an `UPDATE` or a `DELETE`; returns how many rows it found.
pub(crate) async fn change_rows(statement: &DmlStatement, state: &SessionState) -> Result<u64> {
    let name = statement.table_name.to_string();
    let provider = source_as_provider(&statement.target)?;
    let Some(table) = (provider.as_ref() as &dyn Any).downcast_ref::<RemoteTable>() else {
        return Err(Error::not_supported(format!("{} in table \"{name}\"", statement.op))
            .with_hint("Rows are changed in tables of postgres, mysql and sqlite catalogs."));
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
