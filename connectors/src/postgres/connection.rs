//! Sessions with the server: how many, how long to wait, what is pinned in them, how they end.
//!
//! All nodes together open at most `connections_max` sessions of one catalog: each is opened under a lease
//! (`engine::connections`), which ends when the session is closed.
//!
//! A session serves one transaction and is closed. One that is dropped in the middle of a statement first
//! sends a `CancelRequest`, because a server that computes does not notice a closed socket.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meshwork_engine::connections::{Connections, Lease, Purpose};
use meshwork_engine::environment::{self, Task, within};
use meshwork_engine::{Error, Result};
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::runtime::Handle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{CancelToken, Client, Config, CopyInSink, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::configuration::{Configuration, TlsMode};
use super::protocol::{self, Described, Failure, Session};
use super::{error, tls};
use crate::relational::while_full;

/// Looking something up in the server's catalog takes milliseconds.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(30);
/// A `CancelRequest` is one packet on a new connection.
const CANCEL_DEADLINE: Duration = Duration::from_secs(2);
/// How long a finished session may take to say goodbye.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(1);
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
    closing: Arc<Closing>,
}

impl Server {
    /// Returns the server; connects to nothing.
    pub(super) fn new(configuration: Configuration, connections: Connections) -> Self {
        Self { configuration, connections, closing: Arc::default() }
    }

    /// Opens a session in a read-only repeatable-read transaction; on the exported snapshot, if one is given.
    pub(super) async fn connect(
        &self,
        purpose: Purpose,
        query_id: &str,
        snapshot: Option<&str>,
    ) -> Result<Connection> {
        self.open(purpose, query_id, self.begin(snapshot)?).await
    }

    /// Opens a session in a transaction that may write, and that sees what others commit meanwhile.
    pub(super) async fn connect_to_write(&self, query_id: &str) -> Result<Connection> {
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;";
        self.open(Purpose::Write, query_id, format!("{begin}{}", self.pins())).await
    }

    async fn open(&self, purpose: Purpose, query_id: &str, begin: String) -> Result<Connection> {
        let configuration = &self.configuration;
        let lease = self.connections.lease(purpose, configuration.statement_deadline).await?;
        let tls = MakeRustlsConnect::new(tls::client(configuration)?);
        let io = environment::io_runtime();
        let config = driver_config(configuration, query_id);
        // On the runtime for I/O, so that the socket belongs to it.
        let connect = environment::spawn_on(&io, "postgres connect", connect(config, tls.clone()));
        let (client, driver) = within(configuration.connect_deadline, "connecting", connect)
            .await
            .map_err(|late| error::unavailable(configuration).caused_by(&late))??
            .map_err(|e| error::of_connect(configuration, &e))?;
        let connection = Connection {
            cancel: client.cancel_token(),
            client,
            tls,
            driver: Some(driver),
            lease: Some(lease),
            is_running: false,
            closing: Arc::clone(&self.closing),
            io,
        };
        self.briefly(connection.client.batch_execute(&begin)).await?;
        Ok(connection)
    }

    /// Opens a session on an exported snapshot that reads rows.
    pub(super) async fn connect_to_read(
        self: &Arc<Self>,
        query_id: &str,
        snapshot: &str,
    ) -> Result<ReadSession> {
        let configuration = &self.configuration;
        let lease = self.connections.lease(Purpose::Read, configuration.statement_deadline).await?;
        let tls = Arc::new(tls::client(configuration)?);
        let io = environment::io_runtime();
        let (server, encryption) = (Arc::clone(self), Arc::clone(&tls));
        let application = application(query_id);
        let open = async move {
            let open = || Session::open(&server.configuration, &encryption, &application);
            let is_full = |failure: &Failure| match failure {
                Failure::Server { code, .. } => code == SqlState::TOO_MANY_CONNECTIONS.code(),
                Failure::Lost(_) | Failure::Refused(_) | Failure::Protocol(_) => false,
            };
            while_full(open, is_full).await
        };
        // On the runtime for I/O, so that the socket belongs to it.
        let open = environment::spawn_on(&io, "postgres connect", open);
        let session = within(configuration.connect_deadline, "connecting", open)
            .await
            .map_err(|late| error::unavailable(configuration).caused_by(&late))??
            .map_err(|failure| error::of_login(configuration, &failure))?;
        let mut reading = ReadSession {
            server: Arc::clone(self),
            tls,
            session: Some(session),
            lease: Some(lease),
            is_running: false,
            io,
        };
        let begin = self.begin(Some(snapshot))?;
        reading.briefly(async |session| session.run(&begin).await).await?;
        Ok(reading)
    }

    /// Runs one lookup in a session of its own.
    pub(super) async fn lookup(
        &self,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>> {
        let connection = self.connect(Purpose::Look, "", None).await?;
        connection.lookup(self, statement, parameters).await
    }

    /// A short exchange with the server, under its deadline and with errors in our words.
    async fn briefly<T>(
        &self,
        exchange: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        within(LOOKUP_DEADLINE, "a lookup", exchange)
            .await
            .map_err(|late| error::unavailable(&self.configuration).caused_by(&late))?
            .map_err(|e| error::of_statement(&self.configuration, &e))
    }

    /// The statements that begin every session: the meaning of values must not depend on the server's
    /// defaults.
    fn begin(&self, snapshot: Option<&str>) -> Result<String> {
        let mut begin = String::from("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;");
        if let Some(id) = snapshot {
            if !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                return Err(Error::internal("the name of a snapshot has strange characters"));
            }
            begin.push_str(&format!("SET TRANSACTION SNAPSHOT '{id}';"));
        }
        begin.push_str(&self.pins());
        Ok(begin)
    }

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

/// Opens a session; a server that is full is asked again. The caller sets a deadline.
async fn connect(
    config: Config,
    tls: MakeRustlsConnect,
) -> Result<(Client, Task<()>), tokio_postgres::Error> {
    let is_full =
        |error: &tokio_postgres::Error| error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS);
    let (client, connection) = while_full(|| config.connect(tls.clone()), is_full).await?;
    let io = environment::io_runtime();
    let driver = environment::spawn_on(&io, "postgres connection", async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to PostgreSQL ended");
        }
    });
    Ok((client, driver))
}

/// What the server calls a session of a query.
fn application(query_id: &str) -> String {
    format!("meshwork/{query_id}")
}

fn driver_config(configuration: &Configuration, query_id: &str) -> Config {
    let mut config = Config::new();
    config
        .host(&configuration.host)
        .port(configuration.port)
        .dbname(&configuration.database)
        .user(&configuration.user)
        .application_name(application(query_id))
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

/// One session that asks or writes. Dropping it closes it; in the middle of a statement, cancels that first.
pub(super) struct Connection {
    client: Client,
    cancel: CancelToken,
    tls: MakeRustlsConnect,
    driver: Option<Task<()>>,
    lease: Option<Lease>,
    is_running: bool,
    closing: Arc<Closing>,
    io: Handle,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("is_running", &self.is_running).finish_non_exhaustive()
    }
}

impl Connection {
    /// Runs a short statement and returns its rows.
    pub(super) async fn lookup(
        &self,
        server: &Server,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>> {
        server.briefly(self.client.query_typed(statement, parameters)).await
    }

    /// Returns what the server says of a statement, which is not run.
    pub(super) async fn describe(&self, server: &Server, statement: &str) -> Result<Statement> {
        server.briefly(self.client.prepare(statement)).await
    }

    /// Runs a statement that takes as long as it takes; returns the rows that it changed. Dropped in the middle, the
    /// session cancels it. The error is the driver's, for the caller to say what failed.
    pub(super) async fn run(
        &mut self,
        server: &Server,
        statement: &str,
    ) -> Result<Result<u64, tokio_postgres::Error>> {
        self.is_running = true;
        let deadline = server.configuration.statement_deadline;
        let done = within(deadline, "waiting for the source", self.client.execute(statement, &[]));
        let done = done.await?;
        self.is_running = false;
        Ok(done)
    }

    /// Begins a `COPY ... FROM STDIN`. Until [`Self::finished`], dropping the session cancels it.
    pub(super) async fn copy_in(
        &mut self,
        server: &Server,
        statement: &str,
    ) -> Result<Result<CopyInSink<Bytes>, tokio_postgres::Error>> {
        self.is_running = true;
        let deadline = server.configuration.statement_deadline;
        within(deadline, "waiting for the source", self.client.copy_in(statement)).await
    }

    /// Says that the statement has ended.
    pub(super) fn finished(&mut self) {
        self.is_running = false;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let (Some(driver), Some(lease)) = (self.driver.take(), self.lease.take()) else { return };
        let (cancel, tls, is_running) = (self.cancel.clone(), self.tls.clone(), self.is_running);
        let close = async move {
            if is_running {
                let cancelled =
                    within(CANCEL_DEADLINE, "cancelling", cancel.cancel_query(tls)).await;
                if !matches!(cancelled, Ok(Ok(()))) {
                    tracing::warn!("a statement at PostgreSQL could not be cancelled, only left");
                }
            } else if within(GOODBYE_DEADLINE, "closing", driver).await.is_err() {
                tracing::debug!("a session with PostgreSQL did not end in time");
            }
            drop(lease);
        };
        self.closing.take(environment::spawn_on(&self.io, "postgres close", close));
    }
}

/// One session that reads rows. Dropping it closes it; in the middle of a statement, cancels that first.
#[derive(Debug)]
pub(super) struct ReadSession {
    server: Arc<Server>,
    tls: Arc<ClientConfig>,
    session: Option<Session>,
    lease: Option<Lease>,
    is_running: bool,
    io: Handle,
}

impl ReadSession {
    /// Describes a statement and asks a question behind it; see [`Session::describe`].
    pub(super) async fn describe(
        &mut self,
        statement: &str,
        question: &str,
        parameters: &[Vec<String>],
    ) -> Result<(Vec<Described>, Vec<Vec<String>>)> {
        self.briefly(async |session| session.describe(statement, question, parameters).await).await
    }

    /// Begins to read the rows of a statement; see [`Session::begin_rows`]. Until all are read, dropping the session
    /// cancels it.
    pub(super) async fn begin_rows(&mut self, statement: &str, was_described: bool) -> Result<()> {
        self.is_running = true;
        self.briefly(async |session| session.begin_rows(statement, was_described).await).await
    }

    /// Returns the next row, `None` when all were read; see [`Session::next_row`]. The caller sets a deadline.
    #[inline]
    pub(super) async fn next_row(&mut self) -> Result<Option<&[u8]>> {
        let Some(session) = self.session.as_mut() else { return Err(closed()) };
        match session.next_row().await {
            Ok(Some(row)) => Ok(Some(row)),
            Ok(None) => {
                self.is_running = false;
                Ok(None)
            }
            Err(failure) => Err(error::of_reading(&self.server.configuration, &failure)),
        }
    }

    /// A short exchange with the server, under its deadline and with errors in our words.
    async fn briefly<T>(
        &mut self,
        exchange: impl AsyncFnOnce(&mut Session) -> Result<T, Failure>,
    ) -> Result<T> {
        let configuration = &self.server.configuration;
        let Some(session) = self.session.as_mut() else { return Err(closed()) };
        within(LOOKUP_DEADLINE, "a lookup", exchange(session))
            .await
            .map_err(|late| error::unavailable(configuration).caused_by(&late))?
            .map_err(|failure| error::of_reading(configuration, &failure))
    }
}

fn closed() -> Error {
    Error::internal("a session was used after its end")
}

impl Drop for ReadSession {
    fn drop(&mut self) {
        let (Some(session), Some(lease)) = (self.session.take(), self.lease.take()) else { return };
        let (server, tls) = (Arc::clone(&self.server), Arc::clone(&self.tls));
        let is_running = self.is_running;
        let close = async move {
            if is_running {
                let cancel = protocol::cancel(&server.configuration, &tls, session.key());
                if !matches!(within(CANCEL_DEADLINE, "cancelling", cancel).await, Ok(Ok(()))) {
                    tracing::warn!("a statement at PostgreSQL could not be cancelled, only left");
                }
            } else if within(GOODBYE_DEADLINE, "closing", session.close()).await.is_err() {
                tracing::debug!("a session with PostgreSQL did not end in time");
            }
            drop(lease);
        };
        self.server.closing.take(environment::spawn_on(&self.io, "postgres close", close));
    }
}

/// Owns what still says goodbye: each ends by its deadline.
#[derive(Debug, Default)]
struct Closing(Mutex<Vec<Task<()>>>);

impl Closing {
    fn take(&self, task: Task<()>) {
        let mut tasks = self.0.lock();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }
}
