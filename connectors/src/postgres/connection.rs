//! Sessions with the server: how many, how long to wait, what is pinned in them, how they end.
//!
//! A node opens at most `connections_max` sessions for scans of one catalog, plus one for each running scan,
//! plus a few for planning. The one per scan keeps a join from waiting for itself: its probe side may hold
//! every shared session, blocked by back-pressure, while the build side asks for its first.
//!
//! A session serves one transaction and is closed. One that is dropped in the middle of a statement first
//! sends a `CancelRequest`, because a server that computes does not notice a closed socket.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use meshwork_engine::environment::{self, Task, within};
use meshwork_engine::{Error, Result};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::config::SslMode;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{CancelToken, Client, Config, CopyInSink, CopyOutStream, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::configuration::{Configuration, TlsMode};
use super::{error, tls};

/// Sessions that look up tables and hold snapshots: one per running query, on the coordinator.
const PLANNING_CONNECTIONS_MAX: usize = 32;
/// Looking something up in the server's catalog takes milliseconds.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(30);
/// A `CancelRequest` is one packet on a new connection.
const CANCEL_DEADLINE: Duration = Duration::from_secs(2);
/// How long a finished session may take to say goodbye.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(1);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// The server behind one catalog, as one node sees it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) configuration: Configuration,
    shared: Arc<Semaphore>,
    planning: Arc<Semaphore>,
    /// The one session of each running scan, by the scan's name.
    own: Mutex<BTreeMap<String, Weak<Semaphore>>>,
    closing: Arc<Closing>,
}

/// What a session is for: it decides which budget pays.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// Looks up names, holds a snapshot.
    Planning,
    /// Reads a part of the scan of this name, unique in the process.
    Scan(&'a str),
}

/// Counts a session until it is closed.
#[derive(Debug)]
struct Permit {
    _permit: OwnedSemaphorePermit,
    /// Keeps the scan's own budget alive while somebody uses it.
    _own: Option<Arc<Semaphore>>,
}

impl Server {
    /// Returns the server; connects to nothing.
    pub(super) fn new(configuration: Configuration) -> Self {
        Self {
            shared: Arc::new(Semaphore::new(configuration.connections_max)),
            planning: Arc::new(Semaphore::new(PLANNING_CONNECTIONS_MAX)),
            own: Mutex::default(),
            closing: Arc::default(),
            configuration,
        }
    }

    /// Opens a session in a read-only repeatable-read transaction; on the exported snapshot, if one is given.
    pub(super) async fn connect(
        &self,
        purpose: Purpose<'_>,
        query_id: &str,
        snapshot: Option<&str>,
    ) -> Result<Connection> {
        self.open(purpose, query_id, self.begin(snapshot)?).await
    }

    /// Opens a session in a transaction that may write, and that sees what others commit meanwhile.
    pub(super) async fn connect_to_write(
        &self,
        purpose: Purpose<'_>,
        query_id: &str,
    ) -> Result<Connection> {
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;";
        self.open(purpose, query_id, format!("{begin}{}", self.pins())).await
    }

    async fn open(
        &self,
        purpose: Purpose<'_>,
        query_id: &str,
        begin: String,
    ) -> Result<Connection> {
        let permit = self.permit(purpose).await?;
        let configuration = &self.configuration;
        let tls = tls::connector(configuration)?;
        let io = environment::io_runtime();
        let (driver_io, driver_tls) = (io.clone(), tls.clone());
        let config = driver_config(configuration, query_id);
        // On the runtime for I/O, so that the socket belongs to it.
        let connect = environment::spawn_on(&io, "postgres connect", async move {
            let (client, connection) = config.connect(driver_tls).await?;
            let driver = environment::spawn_on(&driver_io, "postgres connection", async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "connection to PostgreSQL ended");
                }
            });
            Ok::<_, tokio_postgres::Error>((client, driver))
        });
        let (client, driver) = within(configuration.connect_deadline, "connecting", connect)
            .await
            .map_err(|late| error::unavailable(configuration).caused_by(&late))??
            .map_err(|e| error::of_connect(configuration, &e))?;
        let connection = Connection {
            cancel: client.cancel_token(),
            client,
            tls,
            driver: Some(driver),
            permit: Some(permit),
            is_running: false,
            closing: Arc::clone(&self.closing),
            io,
        };
        self.briefly(connection.client.batch_execute(&begin)).await?;
        Ok(connection)
    }

    /// Runs one lookup in a session of its own.
    pub(super) async fn lookup(
        &self,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>> {
        let connection = self.connect(Purpose::Planning, "", None).await?;
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

    async fn permit(&self, purpose: Purpose<'_>) -> Result<Permit> {
        let deadline = self.configuration.statement_deadline;
        let exhausted = |_late| {
            let name = self.configuration.display_name();
            Error::resources("CONNECTIONS_EXHAUSTED", format!("{name}: no connection was free"))
                .with_hint("Raise connections_max of the catalog, or run fewer queries at once.")
        };
        let closed = |_closed| Error::internal("a budget of connections was closed");
        match purpose {
            Purpose::Planning => {
                let free = Arc::clone(&self.planning).acquire_owned();
                let permit = within(self.configuration.connect_deadline, "waiting", free).await;
                let permit = permit.map_err(exhausted)?.map_err(closed)?;
                Ok(Permit { _permit: permit, _own: None })
            }
            Purpose::Scan(name) => {
                let own = self.own(name);
                let shared = Box::pin(Arc::clone(&self.shared).acquire_owned());
                let first = select(shared, Box::pin(Arc::clone(&own).acquire_owned()));
                let permit = match within(deadline, "waiting", first).await.map_err(exhausted)? {
                    Either::Left((permit, _)) | Either::Right((permit, _)) => permit,
                };
                Ok(Permit { _permit: permit.map_err(closed)?, _own: Some(own) })
            }
        }
    }

    fn own(&self, scan: &str) -> Arc<Semaphore> {
        let mut own = self.own.lock();
        if let Some(semaphore) = own.get(scan).and_then(Weak::upgrade) {
            return semaphore;
        }
        own.retain(|_scan, semaphore| semaphore.strong_count() > 0);
        let semaphore = Arc::new(Semaphore::new(1));
        own.insert(scan.to_owned(), Arc::downgrade(&semaphore));
        semaphore
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

fn driver_config(configuration: &Configuration, query_id: &str) -> Config {
    let mut config = Config::new();
    config
        .host(&configuration.host)
        .port(configuration.port)
        .dbname(&configuration.database)
        .user(&configuration.user)
        .application_name(format!("meshwork/{query_id}"))
        .connect_timeout(configuration.connect_deadline)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES)
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

/// One session. Dropping it closes it; in the middle of a statement, cancels that first.
pub(super) struct Connection {
    client: Client,
    cancel: CancelToken,
    tls: MakeRustlsConnect,
    driver: Option<Task<()>>,
    permit: Option<Permit>,
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

    /// Begins a `COPY ... TO STDOUT`. Until [`Self::finished`], dropping the session cancels it.
    pub(super) async fn copy_out(
        &mut self,
        server: &Server,
        statement: &str,
    ) -> Result<CopyOutStream> {
        let configuration = &server.configuration;
        self.is_running = true;
        within(
            configuration.statement_deadline,
            "waiting for the source",
            self.client.copy_out(statement),
        )
        .await?
        .map_err(|e| error::of_statement(configuration, &e))
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
        let (Some(driver), Some(permit)) = (self.driver.take(), self.permit.take()) else { return };
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
            drop(permit);
        };
        self.closing.take(environment::spawn_on(&self.io, "postgres close", close));
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
