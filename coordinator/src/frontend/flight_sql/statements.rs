//! What clients hold handles of: planned statements waiting for their `DoGet`, prepared statements,
//! and running queries.
//!
//! A handle is found only by the session that got it. Taking a ticket removes it, so that a
//! repeated `DoGet` never executes a second time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use meshwork_engine::environment::{self, Task};
use meshwork_engine::{Error, Result};
use parking_lot::Mutex;

use super::sessions::Caller;
use super::shelf::Shelf;
use super::{many_rows, results};
use crate::frontend::sql_text::{Numbered, number_placeholders};
use crate::{Coordinator, PreparedPlan, Running, StatementKind};

const TICKETS_MAX: usize = 10_000;
const TICKET_IDLE_MAX: Duration = Duration::from_secs(10 * 60);
const PREPARED_MAX: usize = 10_000;
const PREPARED_IDLE_MAX: Duration = Duration::from_secs(60 * 60);

/// How often plans are let go that are older than this: a plan may hold a snapshot open in a source.
const PLAN_HELD_MAX: Duration = Duration::from_secs(1);

/// A plan that its ticket runs if the client comes back soon; later it is planned again.
#[derive(Debug)]
struct Held {
    plan: Mutex<Option<PreparedPlan>>,
    since: Instant,
}

impl Held {
    fn new(plan: PreparedPlan) -> Self {
        Self { plan: Mutex::new(Some(plan)), since: environment::instant() }
    }

    fn take(&self) -> Option<PreparedPlan> {
        self.plan.lock().take()
    }

    fn let_go_when_old(&self) {
        if self.since.elapsed() >= PLAN_HELD_MAX {
            drop(self.take());
        }
    }
}

/// Lets go of the plans of tickets that nobody takes.
async fn sweep(tickets: Arc<Shelf<Planned>>) {
    loop {
        tokio::time::sleep(PLAN_HELD_MAX).await;
        tickets.for_each(|planned| {
            if let Some(held) = &planned.held {
                held.let_go_when_old();
            }
        });
    }
}

/// A statement with its parameters, planned and not executed.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    owner: String,
    text: Arc<Numbered>,
    parameters: Vec<ScalarValue>,
    held: Option<Arc<Held>>,
    /// The columns that clients were told: what comes is made to fit, be it in a parameter's type.
    announced: SchemaRef,
}

/// A prepared statement.
#[derive(Debug)]
pub(super) struct PreparedStatement {
    owner: String,
    text: Arc<Numbered>,
    pub(super) kind: StatementKind,
    /// The columns that clients get; one number for an update.
    pub(super) schema: SchemaRef,
    pub(super) parameters: SchemaRef,
    /// The plan, for a ticket that is given out at once.
    plan: Mutex<Option<PreparedPlan>>,
    /// The rows of parameters bound last.
    bound: Mutex<Vec<Vec<ScalarValue>>>,
}

/// A query whose rows are being fetched.
#[derive(Debug, Clone)]
struct Fetched {
    /// What it was fetched with, if it was a ticket.
    ticket: Option<String>,
    user: String,
}

pub(super) struct Statements {
    coordinator: Arc<Coordinator>,
    tickets: Arc<Shelf<Planned>>,
    prepared: Shelf<Arc<PreparedStatement>>,
    /// By query id; as many as the coordinator admits.
    running: Arc<Mutex<BTreeMap<String, Fetched>>>,
    _sweeper: Task<()>,
}

/// A ticket that was taken, or a statement without one: its query runs.
pub(super) struct Redeemed {
    pub(super) running: Running,
    pub(super) listed: Listed,
    /// The columns that the client gets.
    pub(super) schema: SchemaRef,
}

/// Takes a query off the list of running ones when its stream ends or is dropped.
pub(super) struct Listed {
    running: Arc<Mutex<BTreeMap<String, Fetched>>>,
    query_id: String,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.running.lock().remove(&self.query_id);
    }
}

impl Statements {
    pub(super) fn new(coordinator: Arc<Coordinator>) -> Self {
        let tickets = Arc::new(Shelf::new(TICKETS_MAX, TICKET_IDLE_MAX));
        Self {
            coordinator,
            prepared: Shelf::new(PREPARED_MAX, PREPARED_IDLE_MAX),
            running: Arc::default(),
            _sweeper: environment::spawn("sweep tickets", sweep(Arc::clone(&tickets))),
            tickets,
        }
    }

    /// Plans the text; nothing is executed.
    pub(super) async fn plan(&self, caller: &Caller, sql: &str) -> Result<PreparedStatement> {
        let text = number_placeholders(sql)?;
        let plan = self
            .coordinator
            .prepare(&caller.session, &text.sql)
            .await
            .map_err(|error| placed(error, &text))?;
        Ok(PreparedStatement {
            owner: caller.token.clone(),
            text: Arc::new(text),
            kind: plan.kind,
            schema: results::client_schema(
                plan.kind,
                &plan.schema,
                !plan.parameters.fields().is_empty(),
            ),
            parameters: results::plain_schema(&plan.parameters),
            plan: Mutex::new(plan.plan),
            bound: Mutex::default(),
        })
    }

    /// Keeps a prepared statement and returns its handle. Its plan is let go: what the session changes before it
    /// executes the statement must be seen.
    pub(super) fn keep(&self, statement: PreparedStatement) -> String {
        drop(statement.plan.lock().take());
        self.prepared.put(Arc::new(statement))
    }

    /// Returns the prepared statement of the handle.
    pub(super) fn prepared(
        &self,
        caller: &Caller,
        handle: &[u8],
    ) -> Result<Arc<PreparedStatement>> {
        std::str::from_utf8(handle)
            .ok()
            .and_then(|handle| self.prepared.get(handle))
            .filter(|statement| statement.owner == caller.token)
            .ok_or_else(|| {
                Error::user(
                    "STATEMENT_NOT_FOUND",
                    "the prepared statement is not open in this session",
                )
                .with_hint("Prepare it again; idle statements are closed after an hour.")
            })
    }

    /// Forgets a prepared statement; one that is not there is no error.
    pub(super) fn close(&self, caller: &Caller, handle: &[u8]) {
        if let (Ok(_), Ok(handle)) = (self.prepared(caller, handle), std::str::from_utf8(handle)) {
            self.prepared.take(handle);
        }
    }

    /// Returns a ticket for one execution of the statement with what is bound to it now.
    ///
    /// # Errors
    /// `User` when the bound parameters make more than one execution.
    pub(super) fn ticket(&self, statement: &PreparedStatement) -> Result<String> {
        let mut rows = statement.bound.lock().clone();
        let parameters = match rows.len() {
            0 => Vec::new(),
            1 => rows.swap_remove(0),
            n_rows => {
                return Err(Error::not_supported(format!(
                    "a query with {n_rows} rows of parameters: it takes one"
                )));
            }
        };
        let held = statement.plan.lock().take().map(|plan| Arc::new(Held::new(plan)));
        let text = Arc::clone(&statement.text);
        let announced = Arc::clone(&statement.schema);
        Ok(self.tickets.put(Planned {
            owner: statement.owner.clone(),
            text,
            parameters,
            held,
            announced,
        }))
    }

    /// Executes what the ticket stands for; a second time there is nothing to execute.
    pub(super) async fn redeem(&self, caller: &Caller, ticket: &[u8]) -> Result<Redeemed> {
        let (ticket, planned) = self.take_ticket(caller, ticket).ok_or_else(|| {
            Error::user(
                "TICKET_NOT_FOUND",
                "the ticket was used before, has expired, or is of another session",
            )
            .with_hint("Ask for the statement's FlightInfo again: a ticket works once.")
        })?;
        let plan = planned.held.and_then(|held| held.take());
        let running = self.start(caller, &planned.text, planned.parameters, plan).await?;
        let schema = planned.announced;
        if !is_as_announced(&running, &schema) {
            return Err(Error::user(
                "STATEMENT_CHANGED",
                "the statement has other columns than when it was prepared",
            )
            .with_hint("A table has changed since; prepare the statement again."));
        }
        let listed = self.list(&running, Some(ticket), caller);
        Ok(Redeemed { running, listed, schema })
    }

    /// Plans and executes a statement without parameters.
    pub(super) async fn run(&self, caller: &Caller, sql: &str) -> Result<Redeemed> {
        let text = number_placeholders(sql)?;
        let running = self.start(caller, &text, Vec::new(), None).await?;
        let schema = results::client_schema(running.kind, &running.schema, false);
        let listed = self.list(&running, None, caller);
        Ok(Redeemed { running, listed, schema })
    }

    fn list(&self, running: &Running, ticket: Option<String>, caller: &Caller) -> Listed {
        let fetched = Fetched { ticket, user: caller.user.clone() };
        let query_id = running.record.id.clone();
        self.running.lock().insert(query_id.clone(), fetched);
        Listed { running: Arc::clone(&self.running), query_id }
    }

    /// Executes the statement for each row of parameters and returns the rows affected in all; -1 for
    /// a query, whose rows are thrown away. An INSERT of values takes many rows at once.
    pub(super) async fn update(
        &self,
        caller: &Caller,
        statement: &PreparedStatement,
        rows: Vec<Vec<ScalarValue>>,
    ) -> Result<i64> {
        let n_parameters = statement.parameters.fields().len();
        let mut affected = 0;
        for rows in rows.chunks(many_rows::ROWS_MAX) {
            let are_alike = rows.len() > 1 && rows.iter().all(|row| row.len() == n_parameters);
            let sql = &statement.text.sql;
            let whole = are_alike.then(|| many_rows::insert_of(sql, rows.len(), n_parameters));
            if let Some(sql) = whole.flatten() {
                let text = Numbered::as_written(sql);
                affected += self.update_once(caller, &text, rows.concat()).await?;
                continue;
            }
            for row in rows {
                affected += self.update_once(caller, &statement.text, row.clone()).await?;
            }
        }
        Ok(if statement.kind == StatementKind::Update { affected } else { -1 })
    }

    async fn update_once(
        &self,
        caller: &Caller,
        text: &Numbered,
        parameters: Vec<ScalarValue>,
    ) -> Result<i64> {
        let running = self.start(caller, text, parameters, None).await?;
        match running.kind {
            StatementKind::Update => results::affected(running).await,
            StatementKind::Rows => results::discard(running).await.map(|()| 0),
        }
    }

    /// Returns the user's running query with this id, or with this ticket.
    pub(super) fn running(&self, caller: &Caller, id_or_ticket: &str) -> Option<String> {
        let running = self.running.lock();
        running
            .iter()
            .find(|(id, fetched)| {
                *id == id_or_ticket || fetched.ticket.as_deref() == Some(id_or_ticket)
            })
            .filter(|(_, fetched)| fetched.user == caller.user)
            .map(|(id, _)| id.clone())
    }

    /// Cancels what the ticket stands for, waiting or running; whether there was something to
    /// cancel.
    pub(super) fn cancel_ticket(&self, caller: &Caller, ticket: &[u8]) -> bool {
        if self.take_ticket(caller, ticket).is_some() {
            return true;
        }
        let running = std::str::from_utf8(ticket).ok().and_then(|text| self.running(caller, text));
        running.is_some_and(|id| self.coordinator.cancel(&id))
    }

    fn take_ticket(&self, caller: &Caller, ticket: &[u8]) -> Option<(String, Planned)> {
        let ticket = std::str::from_utf8(ticket).ok()?;
        self.tickets.get(ticket).filter(|planned| planned.owner == caller.token)?;
        Some((ticket.to_owned(), self.tickets.take(ticket)?))
    }

    async fn start(
        &self,
        caller: &Caller,
        text: &Numbered,
        parameters: Vec<ScalarValue>,
        plan: Option<PreparedPlan>,
    ) -> Result<Running> {
        self.coordinator
            .execute(&caller.session, &text.sql, parameters, plan)
            .await
            .map_err(|error| placed(error, text))
    }
}

/// Whether a query has as many columns as clients were told, under the same names; their types are made to fit.
fn is_as_announced(running: &Running, announced: &SchemaRef) -> bool {
    let (now, then) = (running.schema.fields(), announced.fields());
    let is_named = running.kind == StatementKind::Update
        || now.iter().zip(then).all(|(now, then)| now.name() == then.name());
    now.len() == then.len() && is_named
}

impl PreparedStatement {
    pub(super) fn bind(&self, rows: Vec<Vec<ScalarValue>>) {
        *self.bound.lock() = rows;
    }

    /// Returns the rows bound last, and binds none.
    pub(super) fn take_bound(&self) -> Vec<Vec<ScalarValue>> {
        std::mem::take(&mut *self.bound.lock())
    }
}

/// Moves the error's position to where it stands in the text that the client sent.
fn placed(mut error: Error, text: &Numbered) -> Error {
    error.location = error.location.map(|location| text.original(location));
    error
}
