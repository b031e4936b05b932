//! A query that is planned a second time, because a source is not what it was when it was planned: a table was changed, or
//! what the query held there is lost.
//!
//! Once, only for what reads, and only while no row has left: what a client has got cannot be taken back. The second plan
//! begins with the text, so it looks everything up anew, under new snapshots.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::{Query, SetExpr, Statement as SqlStatement};
use meshwork_engine::{Error, ErrorKind, Result, environment};

use super::context::{Answer, QueryContext};
use super::{Coordinator, Request, StatementKind};
use crate::parse::{Parsed, Statement, parse};
use crate::schedule;

/// So long a source that went away in the middle of a query is waited for: a database starts again in seconds.
const BACK_DEADLINE: Duration = Duration::from_secs(10);
const BACK_POLL: Duration = Duration::from_millis(500);

/// Whether a plan that fails may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Once,
    Never,
}

/// Whether the failure is of a source that may answer a new plan. A lost worker needs no other plan than the same one.
pub(super) fn may_help(error: &Error) -> bool {
    error.kind == ErrorKind::Source && error.retryable
}

/// Whether a statement changes nothing, so that it may be begun twice.
pub(super) fn only_reads(sql: &str) -> bool {
    match parse(sql) {
        Ok(Parsed { statement: Statement::Plan(statement), .. }) => is_query(&statement),
        Ok(Parsed { statement: Statement::Explain { statement, .. }, .. }) => {
            matches!(*statement, Statement::Plan(statement) if is_query(&statement))
        }
        _ => false,
    }
}

fn is_query(statement: &DataFusionStatement) -> bool {
    let DataFusionStatement::Statement(statement) = statement else { return false };
    match statement.as_ref() {
        SqlStatement::Query(query) => reads(query),
        // Whatever else there is changes something, or is none of ours.
        _ => false,
    }
}

/// `WITH ... INSERT` is a query to the parser.
fn reads(query: &Query) -> bool {
    match query.body.as_ref() {
        SetExpr::Query(query) => reads(query),
        SetExpr::Select(_) | SetExpr::SetOperation { .. } | SetExpr::Values(_) => true,
        // Changes of rows, and the words `TABLE t`.
        _ => false,
    }
}

/// Returns the error of a query that failed twice: what changed at the source, and what came of planning it again.
pub(super) fn both(first: Error, second: Error) -> Error {
    let explains = matches!(second.kind, ErrorKind::User) || second.is_schema_changed();
    match first.is_schema_changed() && explains {
        true => Error { retryable: false, location: second.location, ..first.caused_by(&second) },
        false => second,
    }
}

/// Whether a source that went away is not back yet.
fn is_away(first: &Error, later: &Error) -> bool {
    !first.is_schema_changed() && (may_help(later) || later.code == "SOURCE_UNAVAILABLE")
}

impl Coordinator {
    /// Plans a query again whose columns a client knows already.
    ///
    /// # Errors
    /// Those of planning; `cause` when the query has other columns now.
    pub(super) async fn planned_again(
        self: &Arc<Self>,
        request: &Request,
        query_id: &str,
        columns: &SchemaRef,
        cause: Error,
    ) -> Result<schedule::Planned> {
        let since = environment::instant();
        let planned = loop {
            match Box::pin(self.plan_request(request, query_id)).await {
                Ok(planned) => break planned,
                Err(later) if is_away(&cause, &later) && since.elapsed() < BACK_DEADLINE => {
                    tokio::time::sleep(BACK_POLL).await;
                }
                Err(later) => return Err(both(cause, later)),
            }
        };
        let now = planned.plan().schema();
        let is_same = columns.fields().len() == now.fields().len()
            && columns.fields().iter().zip(now.fields()).all(|(one, other)| {
                one.name() == other.name() && one.data_type() == other.data_type()
            });
        match is_same {
            true => Ok(planned),
            false => Err(Error { retryable: false, ..cause }
                .with_hint("The query has other columns now: run it again.")),
        }
    }

    async fn plan_request(
        self: &Arc<Self>,
        request: &Request,
        query_id: &str,
    ) -> Result<schedule::Planned> {
        let Parsed { statement, versions } = parse(&request.sql)?;
        let context = self.context(&request.session, query_id);
        let answer = context.answer(statement, &versions, request.parameters.clone()).await?;
        let Answer::Plan(planned, StatementKind::Rows) = answer else {
            return Err(Error::internal("a query became another statement"));
        };
        let QueryContext { snapshot, scope, .. } = context;
        let planned = self.reduced(planned, &snapshot, &scope).await?;
        self.fragment(&planned, &snapshot).await
    }
}
