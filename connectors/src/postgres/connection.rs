//! Sessions with the server: how many, how long to wait, what is pinned in them, how they end.
//!
//! ```text
//! Server ── connect() ──► Connection ── dropped, nothing runs ──► ROLLBACK ──► kept for the next, a moment
//!                             └──────── dropped in a statement ──► CancelRequest, then closed
//! ```
//! All nodes together open at most `connections_max` sessions of one catalog: each is opened under a lease
//! (`engine::connections`), which ends when the session is closed.
//!
//! A session serves one transaction at a time and keeps nothing of it: all that is pinned is pinned in the transaction. One
//! that is dropped in the middle of a statement first sends a `CancelRequest`, because a server that computes does not
//! notice a closed socket.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meshwork_engine::connections::{Connections, Purpose};
use meshwork_engine::environment::{self, Task, within};
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::{Error, Result};
use tokio::runtime::Handle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, CopyInSink, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::configuration::{Configuration, TlsMode};
use super::protocol::{self, Described, Failure, Rows, Session};
use super::{error, tls};
use crate::relational::{self, Closing, Kept, Open, PRODUCT, asker, while_full};

/// Looking something up in the server's catalog takes milliseconds.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(30);
/// A `CancelRequest` is one packet on a new connection.
const CANCEL_DEADLINE: Duration = Duration::from_secs(2);
/// How long a finished session may take to end its transaction, to begin another, or to say goodbye.
const SHORT_DEADLINE: Duration = Duration::from_secs(1);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// What is sent and not confirmed for so long has not arrived.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(30);

/// The server behind one catalog, as one node sees it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) configuration: Configuration,
    pub(super) connections: Connections,
    kept: Arc<Kept<Line>>,
    closing: Closing,
}

/// An open session.
#[derive(Debug)]
enum Line {
    /// One that asks or writes, by the driver.
    Asks(Asking),
    /// One that reads rows.
    Reads(Session),
}

/// A session of the driver and what carries its messages.
struct Asking {
    client: Client,
    driver: Task<()>,
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").finish_non_exhaustive()
    }
}

impl Line {
    /// Begins a transaction.
    async fn begin(&mut self, configuration: &Configuration, begin: &str) -> Result<()> {
        match self {
            Self::Asks(Asking { client, .. }) => client
                .batch_execute(begin)
                .await
                .map_err(|e| error::of_statement(configuration, &e)),
            Self::Reads(session) => {
                session.run(begin).await.map_err(|e| error::of_reading(configuration, &e))
            }
        }
    }

    /// Ends the transaction and forgets what was said in it; returns whether the session can go on.
    async fn rest(&mut self) -> bool {
        match self {
            Self::Asks(Asking { client, .. }) => client.batch_execute("ROLLBACK").await.is_ok(),
            // It may have run what a user wrote.
            Self::Reads(session) => {
                session.run("ROLLBACK").await.is_ok() && session.run("DISCARD ALL").await.is_ok()
            }
        }
    }

    /// Ends what runs, by a connection of its own.
    async fn cancel(&self, configuration: &Configuration) -> Result<()> {
        let tls = tls::client(configuration)?;
        match self {
            Self::Asks(Asking { client, .. }) => {
                let cancel = client.cancel_token();
                let cancel = cancel.cancel_query(MakeRustlsConnect::new(tls));
                let cancelled = within(CANCEL_DEADLINE, "cancelling", cancel).await?;
                cancelled.map_err(|e| error::of_statement(configuration, &e))
            }
            Self::Reads(session) => {
                let tls = Arc::new(tls);
                let cancel = protocol::cancel(configuration, &tls, session.key());
                let cancelled = within(CANCEL_DEADLINE, "cancelling", cancel).await?;
                cancelled.map_err(|e| error::of_reading(configuration, &e))
            }
        }
    }
}

impl relational::Line for Line {
    async fn close(self) {
        let goodbye = async {
            match self {
                Self::Asks(Asking { client, driver }) => {
                    drop(client);
                    drop(driver.await);
                }
                // Whether it closed politely does not matter.
                Self::Reads(session) => drop(session.close().await),
            }
        };
        if within(SHORT_DEADLINE, "closing", goodbye).await.is_err() {
            tracing::debug!("a session with PostgreSQL did not end in time");
        }
    }
}

impl Server {
    /// Returns the server; connects to nothing.
    pub(super) fn new(configuration: Configuration, connections: Connections) -> Self {
        Self { configuration, connections, kept: Kept::new(), closing: Closing::default() }
    }

    /// Opens a session in a read-only repeatable-read transaction; on the exported snapshot, if one is given. It reads rows
    /// if that is its purpose.
    pub(super) async fn connect(
        self: &Arc<Self>,
        purpose: Purpose,
        query: Option<&QuerySettings>,
        snapshot: Option<&str>,
    ) -> Result<Connection> {
        let mut begin = String::from("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;");
        if let Some(id) = snapshot {
            if !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                return Err(Error::internal("the name of a snapshot has strange characters"));
            }
            begin.push_str(&format!("SET TRANSACTION SNAPSHOT '{id}';"));
        }
        self.open(purpose, query, begin).await
    }

    /// Opens a session in a transaction that may write, and that sees what others commit meanwhile.
    pub(super) async fn connect_to_write(
        self: &Arc<Self>,
        query: Option<&QuerySettings>,
    ) -> Result<Connection> {
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;";
        self.open(Purpose::Write, query, begin.to_owned()).await
    }

    /// Opens a session in a transaction.
    async fn open(
        self: &Arc<Self>,
        purpose: Purpose,
        query: Option<&QuerySettings>,
        mut begin: String,
    ) -> Result<Connection> {
        begin.push_str(&self.pins());
        if let Some(query) = query {
            begin.push_str(&format!("; SET application_name = '{}'", asker(query)));
        }
        let io = environment::io_runtime();
        if let Some(open) = self.reuse(purpose, &begin).await {
            let server = Arc::clone(self);
            return Ok(Connection { server, open: Some(open), is_running: false, io });
        }
        let configuration = &self.configuration;
        let lease = self.connections.lease(purpose, configuration.statement_deadline).await?;
        let connecting = Arc::clone(self);
        // On the runtime for I/O, so that the socket belongs to it.
        let connect = environment::spawn_on(&io, "postgres connect", async move {
            match purpose {
                Purpose::Read => connecting.let_in_to_read().await.map(Line::Reads),
                Purpose::Look | Purpose::Plan | Purpose::Write | Purpose::Probe => {
                    connecting.let_in().await.map(Line::Asks)
                }
            }
        });
        let line = within(configuration.connect_deadline, "connecting", connect)
            .await
            .map_err(|late| error::unavailable(configuration).caused_by(&late))???;
        let open = Some(Open { line, lease, purpose });
        let mut connection = Connection { server: Arc::clone(self), open, is_running: false, io };
        self.briefly(connection.line()?.begin(configuration, &begin)).await?;
        Ok(connection)
    }

    /// Returns a session that was kept, if it begins a transaction at once.
    async fn reuse(&self, purpose: Purpose, begin: &str) -> Option<Open<Line>> {
        loop {
            let mut open = self.kept.take(purpose)?;
            let begun = open.line.begin(&self.configuration, begin);
            match within(SHORT_DEADLINE, "beginning again", begun).await {
                Ok(Ok(())) => return Some(open),
                // The server has ended it meanwhile, or is not there.
                Ok(Err(_)) | Err(_) => open.close().await,
            }
        }
    }

    /// Opens a session of the driver; a server that is full is asked again. The caller sets a deadline.
    async fn let_in(&self) -> Result<Asking> {
        let tls = MakeRustlsConnect::new(tls::client(&self.configuration)?);
        let config = driver_config(&self.configuration);
        let is_full =
            |error: &tokio_postgres::Error| error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS);
        let (client, connection) = while_full(|| config.connect(tls.clone()), is_full)
            .await
            .map_err(|e| error::of_connect(&self.configuration, &e))?;
        let io = environment::io_runtime();
        let driver = environment::spawn_on(&io, "postgres connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to PostgreSQL ended");
            }
        });
        Ok(Asking { client, driver })
    }

    /// Opens a session that reads rows; a server that is full is asked again. The caller sets a deadline.
    async fn let_in_to_read(&self) -> Result<Session> {
        let tls = Arc::new(tls::client(&self.configuration)?);
        let is_full = |failure: &Failure| match failure {
            Failure::Server { code, .. } => code == SqlState::TOO_MANY_CONNECTIONS.code(),
            Failure::Lost(_) | Failure::Refused(_) | Failure::Protocol(_) => false,
        };
        while_full(|| Session::open(&self.configuration, &tls, PRODUCT), is_full)
            .await
            .map_err(|failure| error::of_login(&self.configuration, &failure))
    }

    /// Runs one lookup in a session of its own.
    pub(super) async fn lookup(
        self: &Arc<Self>,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>> {
        self.connect(Purpose::Look, None, None).await?.lookup(statement, parameters).await
    }

    /// Asks over a session of its own whether the server is there.
    pub(super) async fn answers(self: &Arc<Self>) -> Result<()> {
        self.connect(Purpose::Probe, None, None).await.map(drop)
    }

    /// Keeps a session that nobody uses any more, or closes it.
    async fn end(&self, mut open: Open<Line>, is_running: bool) {
        if is_running {
            if let Err(error) = open.line.cancel(&self.configuration).await {
                tracing::warn!(%error, "a statement at PostgreSQL could not be cancelled, only left");
            }
            return;
        }
        let is_kept = match open.purpose {
            Purpose::Look | Purpose::Plan | Purpose::Read => {
                let rest = within(SHORT_DEADLINE, "ending a transaction", open.line.rest());
                rest.await.unwrap_or(false)
            }
            Purpose::Write | Purpose::Probe => false,
        };
        let left = if is_kept { self.kept.keep(open, &self.connections) } else { Some(open) };
        if let Some(open) = left {
            open.close().await;
        }
    }

    /// A short exchange with the server, under its deadline.
    async fn briefly<T>(&self, exchange: impl Future<Output = Result<T>>) -> Result<T> {
        within(LOOKUP_DEADLINE, "a lookup", exchange)
            .await
            .map_err(|late| error::unavailable(&self.configuration).caused_by(&late))?
    }

    /// The statements that begin every transaction: the meaning of values must not depend on the server's defaults.
    fn pins(&self) -> String {
        let deadline_ms = self.configuration.statement_deadline.as_millis().min(2_147_483_647);
        format!(
            "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; \
             SET extra_float_digits = 1; SET standard_conforming_strings = on; \
             SET bytea_output = 'hex'; SET lc_monetary = 'C'; \
             SET statement_timeout = {deadline_ms}; \
             SET idle_in_transaction_session_timeout = {deadline_ms}; \
             SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; \
             SET tcp_keepalives_count = 3"
        )
    }
}

fn driver_config(configuration: &Configuration) -> Config {
    let mut config = Config::new();
    config
        .host(&configuration.host)
        .port(configuration.port)
        .dbname(&configuration.database)
        .user(&configuration.user)
        .application_name(PRODUCT)
        .connect_timeout(configuration.connect_deadline)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES)
        .tcp_user_timeout(UNCONFIRMED_MAX)
        .ssl_mode(match configuration.tls {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::Verify => SslMode::Require,
        });
    if let Some(password) = &configuration.password {
        config.password(password.expose());
    }
    config
}

/// One session in use. Dropping it ends its transaction; in the middle of a statement, cancels that first.
#[derive(Debug)]
pub(super) struct Connection {
    server: Arc<Server>,
    open: Option<Open<Line>>,
    is_running: bool,
    io: Handle,
}

impl Connection {
    fn line(&mut self) -> Result<&mut Line> {
        self.open.as_mut().map(|open| &mut open.line).ok_or_else(misused)
    }

    /// Returns the driver of a session that asks or writes.
    fn client(&self) -> Result<&Client> {
        match self.open.as_ref().map(|open| &open.line) {
            Some(Line::Asks(Asking { client, .. })) => Ok(client),
            Some(Line::Reads(_)) | None => Err(misused()),
        }
    }

    /// Runs a short statement and returns its rows.
    pub(super) async fn lookup(
        &self,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>> {
        self.asked(self.client()?.query_typed(statement, parameters)).await
    }

    /// Returns what the server says of a statement, which is not run.
    pub(super) async fn describe(&self, statement: &str) -> Result<Statement> {
        self.asked(self.client()?.prepare(statement)).await
    }

    /// A short question to the server, under its deadline and with errors in our words.
    async fn asked<T>(
        &self,
        question: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        let configuration = &self.server.configuration;
        let answer = async { question.await.map_err(|e| error::of_statement(configuration, &e)) };
        self.server.briefly(answer).await
    }

    /// Runs a statement that takes as long as it takes; returns the rows that it changed. Dropped in the middle, the
    /// session cancels it. The error is the driver's, for the caller to say what failed.
    pub(super) async fn run(
        &mut self,
        statement: &str,
    ) -> Result<Result<u64, tokio_postgres::Error>> {
        self.is_running = true;
        let deadline = self.server.configuration.statement_deadline;
        let done = self.client()?.execute(statement, &[]);
        let done = within(deadline, "waiting for the source", done).await?;
        self.is_running = false;
        Ok(done)
    }

    /// Begins a `COPY ... FROM STDIN`. Until [`Self::finished`], dropping the session cancels it.
    pub(super) async fn copy_in(
        &mut self,
        statement: &str,
    ) -> Result<Result<CopyInSink<Bytes>, tokio_postgres::Error>> {
        self.is_running = true;
        let deadline = self.server.configuration.statement_deadline;
        within(deadline, "waiting for the source", self.client()?.copy_in(statement)).await
    }

    /// Says that the statement has ended.
    pub(super) fn finished(&mut self) {
        self.is_running = false;
    }

    /// Describes a statement and asks a question behind it; see [`Session::describe`].
    pub(super) async fn describe_rows(
        &mut self,
        statement: &str,
        question: &str,
        parameters: &[Vec<String>],
    ) -> Result<(Vec<Described>, Vec<Vec<String>>)> {
        let server = Arc::clone(&self.server);
        let described = reader(&mut self.open)?.describe(statement, question, parameters);
        let described = async { described.await.map_err(|e| failed(&server, &e)) };
        server.briefly(described).await
    }

    /// Begins to read the rows of a statement; see [`Session::begin_rows`]. Until all are read, dropping the session
    /// cancels it.
    pub(super) async fn begin_rows(&mut self, statement: &str, was_described: bool) -> Result<()> {
        self.is_running = true;
        let server = Arc::clone(&self.server);
        let begun = reader(&mut self.open)?.begin_rows(statement, was_described);
        let begun = async { begun.await.map_err(|e| failed(&server, &e)) };
        server.briefly(begun).await
    }

    /// Returns the next rows, none when all were read; see [`Session::next_rows`]. The caller sets a deadline.
    pub(super) async fn next_rows(&mut self, n_max: usize) -> Result<Rows<'_>> {
        let rows = reader(&mut self.open)?.next_rows(n_max).await;
        let rows = rows.map_err(|failure| failed(&self.server, &failure))?;
        self.is_running = !rows.places.is_empty();
        Ok(rows)
    }
}

/// Returns a session that reads rows.
fn reader(open: &mut Option<Open<Line>>) -> Result<&mut Session> {
    match open.as_mut().map(|open| &mut open.line) {
        Some(Line::Reads(session)) => Ok(session),
        Some(Line::Asks(_)) | None => Err(misused()),
    }
}

fn failed(server: &Server, failure: &Failure) -> Error {
    error::of_reading(&server.configuration, failure)
}

fn misused() -> Error {
    Error::internal("a session was used after its end, or for what it is not")
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        let (server, is_running) = (Arc::clone(&self.server), self.is_running);
        let end = environment::spawn_on(&self.io, "postgres end", async move {
            server.end(open, is_running).await;
        });
        self.server.closing.take(end);
    }
}
