//! Connections to one MySQL or MariaDB server: a bounded number, each pinned, none left running.
//!
//! ```text
//! Client ── session() ──► Session ── finish() ──► kept for the next
//!                            └────── dropped ───► KILL QUERY over a second connection, then closed
//! ```
//! A session that is dropped in the middle is never drained: a large result would be read to its end.

use std::sync::Arc;
use std::time::Duration;

use meshwork_engine::environment::{self, Task, within};
use meshwork_engine::{Error, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error as DriverFailure};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::options::{Options, Tls};

/// How long a server may take to accept a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// How long a request waits for one of the catalog's connections.
const BUDGET_DEADLINE: Duration = Duration::from_secs(30);

/// How long a statement that nobody waits for may take to be killed.
const KILL_DEADLINE: Duration = Duration::from_secs(2);

/// How long a connection may take to close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// How long the server may take to answer a question about its tables.
const METADATA_DEADLINE: Duration = Duration::from_secs(30);

/// All connections of one catalog on this node.
#[derive(Debug)]
pub(super) struct Client {
    pub options: Options,
    budget: Arc<Semaphore>,
    /// Connections that wait for their next use; never more than the budget.
    idle: Mutex<Vec<Conn>>,
    /// Connections that are being closed; each holds a permit, so never more than the budget.
    closing: Mutex<Vec<Task<()>>>,
}

impl Client {
    /// Returns the client of a catalog, without a connection.
    pub(super) fn new(options: Options) -> Arc<Self> {
        let budget = Arc::new(Semaphore::new(options.connections_max));
        Arc::new(Self { options, budget, idle: Mutex::default(), closing: Mutex::default() })
    }

    /// Returns a pinned session, when the catalog's budget has room.
    pub(super) async fn session(self: &Arc<Self>) -> Result<Session> {
        let wait = Arc::clone(&self.budget).acquire_owned();
        let permit = within(BUDGET_DEADLINE, "waiting for a connection", wait)
            .await
            .map_err(|_late| self.budget_exhausted())?
            .map_err(|_closed| Error::internal("the connection budget was closed"))?;
        let connection = match self.reuse().await {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(Session {
            client: Arc::clone(self),
            connection: Some(connection),
            permit: Some(permit),
            runtime: environment::io_runtime(),
        })
    }

    /// Answers a question about the server's tables.
    pub(super) async fn ask<T>(
        self: &Arc<Self>,
        doing: &str,
        question: &str,
        parameters: Vec<mysql_async::Value>,
    ) -> Result<Vec<T>>
    where
        T: mysql_async::prelude::FromRow + Send + 'static,
    {
        let mut session = self.session().await?;
        let answer = async {
            let connection = session.connection()?;
            let mut result = connection
                .exec_iter(question, parameters)
                .await
                .map_err(|error| self.failed(doing, error))?;
            let rows: Vec<_> =
                result.try_collect().await.map_err(|error| self.failed(doing, error))?;
            rows.into_iter()
                .collect::<Result<Vec<T>, _>>()
                .map_err(|error| Error::internal("a catalog table changed shape").caused_by(&error))
        };
        let rows = within(METADATA_DEADLINE, doing, answer).await??;
        session.finish();
        Ok(rows)
    }

    /// Returns a connection that was kept and still answers.
    async fn reuse(&self) -> Option<Conn> {
        loop {
            let mut connection = self.idle.lock().pop()?;
            if let Ok(Ok(())) = within(CLOSE_DEADLINE, "a ping", connection.ping()).await {
                return Some(connection);
            }
            close(connection).await;
        }
    }

    /// Returns a new connection with its session pinned.
    async fn connect(&self) -> Result<Conn> {
        let connect = async {
            let encrypted = self.options.tls != Tls::Disable;
            let mut connection = match Conn::new(self.options.driver(encrypted)).await {
                Err(DriverFailure::Driver(DriverError::NoClientSslFlagFromServer))
                    if self.options.tls == Tls::Prefer =>
                {
                    Conn::new(self.options.driver(false)).await?
                }
                outcome => outcome?,
            };
            connection.query_drop(self.options.pin_session()).await?;
            connection
                .query_drop("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                .await?;
            Ok(connection)
        };
        match within(CONNECT_DEADLINE, "connecting", connect).await {
            Ok(outcome) => outcome.map_err(|error| self.failed("connecting", error)),
            Err(late) => Err(self.unavailable().caused_by(&late)),
        }
    }

    /// Ends the statement of a connection through another one, then closes it.
    async fn kill(&self, connection: Conn) {
        let id = connection.id();
        let kill = async {
            let mut second = self.connect().await?;
            let killed = second.query_drop(format!("KILL QUERY {id}")).await;
            close(second).await;
            killed.map_err(|error| self.failed("killing a statement", error))
        };
        match within(KILL_DEADLINE, "killing a statement", kill).await {
            Ok(Ok(())) => {}
            // Closing the connection below ends the statement too, once the server notices.
            Ok(Err(error)) | Err(error) => {
                tracing::warn!(catalog = %self.options.catalog, %error, "statement was not killed");
            }
        }
        close(connection).await;
    }

    /// Returns the error for a failure of the driver or the server.
    pub(super) fn failed(&self, doing: &str, error: DriverFailure) -> Error {
        let (catalog, address) = (&self.options.catalog, self.options.address());
        let DriverFailure::Server(refusal) = &error else {
            return self.unavailable().caused_by(&error);
        };
        let message = format!("source \"{catalog}\" ({address}) failed while {doing}");
        match refusal.code {
            // Wrong user or password, no right to the database, expired password, account locked.
            1044 | 1045 | 1251 | 1524 | 1698 | 1820 | 1862 | 3118 | 4151 => Error::source(
                "SOURCE_AUTHENTICATION",
                format!(
                    "source \"{catalog}\" ({address}) did not let user \"{}\" in",
                    self.options.user
                ),
            )
            .with_hint("Check the catalog's properties user and password."),
            // Too many connections, of all or of this user.
            1040 | 1203 | 1226 => Error::resources("SOURCE_CONNECTIONS_EXHAUSTED", message),
            // The server is shutting down, or refuses this host.
            1053 | 1129 | 1130 => self.unavailable(),
            // The statement ran longer than the session allows.
            1969 | 3024 => Error::source("SOURCE_DEADLINE_EXCEEDED", message)
                .with_hint("Raise the catalog's property statement_seconds_max."),
            // No right to a table, a column, a routine.
            1142 | 1143 | 1370 => Error::source("SOURCE_PERMISSION_DENIED", message),
            _ => Error::source("SOURCE_QUERY_FAILED", message),
        }
        .caused_by(&error)
    }

    fn unavailable(&self) -> Error {
        let (catalog, address) = (&self.options.catalog, self.options.address());
        Error::source(
            "SOURCE_UNAVAILABLE",
            format!("source \"{catalog}\" ({address}) cannot be reached"),
        )
        .with_hint(
            "Check that the server runs and that the catalog's host, port and tls are right.",
        )
        .retryable()
    }

    fn budget_exhausted(&self) -> Error {
        let Options { catalog, connections_max, .. } = &self.options;
        Error::resources(
            "CONNECTIONS_EXHAUSTED",
            format!(
                "all {connections_max} connections of catalog \"{catalog}\" were busy for {} s",
                BUDGET_DEADLINE.as_secs()
            ),
        )
        .with_hint("Raise the catalog's property connections_max, or try again later.")
    }
}

async fn close(connection: Conn) {
    // Whether it closed politely does not matter.
    drop(within(CLOSE_DEADLINE, "closing a connection", connection.disconnect()).await);
}

/// One connection in use. Dropping it ends what runs on it.
#[derive(Debug)]
pub(super) struct Session {
    client: Arc<Client>,
    connection: Option<Conn>,
    permit: Option<OwnedSemaphorePermit>,
    runtime: Handle,
}

impl Session {
    /// Returns the connection itself.
    pub(super) fn connection(&mut self) -> Result<&mut Conn> {
        self.connection.as_mut().ok_or_else(|| Error::internal("a session was used after its end"))
    }

    /// Keeps the connection for the next use: nothing runs on it any more.
    pub(super) fn finish(mut self) {
        if let Some(connection) = self.connection.take() {
            self.client.idle.lock().push(connection);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let (client, permit) = (Arc::clone(&self.client), self.permit.take());
        let end = environment::spawn_on(&self.runtime, "mysql kill", async move {
            client.kill(connection).await;
            drop(permit);
        });
        let mut closing = self.client.closing.lock();
        closing.retain(|task| !task.is_finished());
        closing.push(end);
    }
}
