//! Connections to one MySQL or MariaDB server: a bounded number, each pinned, none left running.
//!
//! ```text
//! Client ── session() ──► Session ── finish() ──► kept for the next, a moment
//!                            └────── dropped ───► KILL QUERY over a second connection, then closed
//! ```
//! Each is opened under a lease (`engine::connections`), which ends when it is closed.
//! A session that is dropped in the middle is never drained: a large result would be read to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meshwork_engine::connections::{Connections, Lease, Purpose, Wanted};
use meshwork_engine::environment::{self, Task, within};
use meshwork_engine::{Error, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error as DriverFailure};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::options::{Options, Tls};
use crate::relational::while_full;

/// How long a server may take to accept a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// How long a connection is kept for its next use, if nobody else wants it.
const KEPT: Duration = Duration::from_secs(5);

/// How often those who are wanted are looked for, at most.
const WATCH_PAUSE: Duration = Duration::from_millis(50);

/// How long a statement that nobody waits for may take to be killed.
const KILL_DEADLINE: Duration = Duration::from_secs(2);

/// How long a connection may take to close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// How long the server may take to answer a question about its tables.
const METADATA_DEADLINE: Duration = Duration::from_secs(30);

/// Too many connections: of all, or of this user.
const FULL: [u16; 3] = [1040, 1203, 1226];

/// What every session is but while it writes.
const READ_ONLY: &str = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";

/// All connections of one catalog on this node.
#[derive(Debug)]
pub(super) struct Client {
    pub options: Options,
    pub connections: Connections,
    /// Connections that wait for their next use; never more than the budget.
    idle: Mutex<Idle>,
    /// Connections that are being closed or wait for it; each holds a lease, so never more than the budget.
    closing: Mutex<Vec<Task<()>>>,
}

/// Connections that nobody uses, since when, and who closes them in time.
#[derive(Debug, Default)]
struct Idle {
    connections: Vec<(Open, Instant)>,
    watch: Option<Task<()>>,
}

/// One open connection, the lease that it is open under, and what that is for.
#[derive(Debug)]
struct Open {
    connection: Conn,
    lease: Lease,
    purpose: Purpose,
}

impl Client {
    /// Returns the client of a catalog, without a connection.
    pub(super) fn new(options: Options, connections: Connections) -> Arc<Self> {
        let (idle, closing) = Default::default();
        Arc::new(Self { options, connections, idle, closing })
    }

    /// Returns a pinned session, when the catalog's budget has room.
    pub(super) async fn session(self: &Arc<Self>, purpose: Purpose) -> Result<Session> {
        let open = match self.reuse(purpose).await {
            Some(open) => open,
            None => {
                let deadline = self.options.answer_deadline();
                let lease = self.connections.lease(purpose, deadline).await?;
                Open { connection: self.connect().await?, lease, purpose }
            }
        };
        let runtime = environment::io_runtime();
        Ok(Session { client: Arc::clone(self), open: Some(open), runtime })
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
        let mut session = self.session(Purpose::Look).await?;
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

    /// Asks over a connection of its own whether the server is there.
    pub(super) async fn answers(&self) -> Result<()> {
        let lease = self.connections.lease(Purpose::Probe, CONNECT_DEADLINE).await?;
        close(self.connect().await?).await;
        drop(lease);
        Ok(())
    }

    /// Returns a connection that was kept and still answers.
    async fn reuse(&self, purpose: Purpose) -> Option<Open> {
        loop {
            let mut open = {
                let idle = &mut self.idle.lock().connections;
                let place = idle.iter().rposition(|(open, _since)| open.purpose == purpose)?;
                idle.remove(place).0
            };
            if let Ok(Ok(())) = within(CLOSE_DEADLINE, "a ping", open.connection.ping()).await {
                return Some(open);
            }
            close(open.connection).await;
        }
    }

    /// Keeps a connection for its next use, until somebody waits for one or the time is up.
    fn keep(self: &Arc<Self>, open: Open) {
        let mut idle = self.idle.lock();
        idle.connections.push((open, environment::instant()));
        if idle.watch.is_none() {
            let watch = Arc::clone(self).watch_idle();
            let io = environment::io_runtime();
            idle.watch = Some(environment::spawn_on(&io, "mysql idle", watch));
        }
    }

    /// Closes connections that wait for their next use, until there are none.
    async fn watch_idle(self: Arc<Self>) {
        let mut wanted = self.connections.wanted();
        loop {
            let somebody = wanted.wait_for(|wanted| wanted.plan || wanted.read);
            // Too late is in time: it is the rest of what closes connections.
            let wanted = match within(KEPT, "keeping", somebody).await {
                Ok(Ok(wanted)) => *wanted,
                Ok(Err(_)) | Err(_) => Wanted::default(),
            };
            for open in self.no_longer_kept(wanted) {
                close(open.connection).await;
            }
            {
                let mut idle = self.idle.lock();
                if idle.connections.is_empty() {
                    // Who keeps the next connection begins anew.
                    idle.watch = None;
                    return;
                }
            }
            tokio::time::sleep(WATCH_PAUSE).await;
        }
    }

    fn no_longer_kept(&self, wanted: Wanted) -> Vec<Open> {
        let mut idle = self.idle.lock();
        let ends = |(open, since): &mut (Open, Instant)| {
            let wanted = match open.purpose {
                Purpose::Look | Purpose::Plan => wanted.plan || wanted.read,
                Purpose::Read => wanted.read,
                Purpose::Write | Purpose::Probe => true,
            };
            wanted || since.elapsed() >= KEPT
        };
        idle.connections.extract_if(.., ends).map(|(open, _since)| open).collect()
    }

    /// Returns a new connection with its session pinned.
    async fn connect(&self) -> Result<Conn> {
        let connect = async {
            let mut connection = self.let_in().await?;
            connection.query_drop(self.options.pin_session()).await?;
            connection.query_drop(READ_ONLY).await?;
            Ok(connection)
        };
        match within(CONNECT_DEADLINE, "connecting", connect).await {
            Ok(outcome) => outcome.map_err(|error| self.failed("connecting", error)),
            Err(late) => Err(self.unavailable().caused_by(&late)),
        }
    }

    /// Opens a connection; a server that is full is asked again. The caller sets a deadline.
    async fn let_in(&self) -> Result<Conn, DriverFailure> {
        let is_full = |error: &DriverFailure| matches!(error, DriverFailure::Server(full) if FULL.contains(&full.code));
        let connect =
            |encrypted| while_full(move || Conn::new(self.options.driver(encrypted)), is_full);
        match connect(self.options.tls != Tls::Disable).await {
            Err(DriverFailure::Driver(DriverError::NoClientSslFlagFromServer))
                if self.options.tls == Tls::Prefer =>
            {
                connect(false).await
            }
            outcome => outcome,
        }
    }

    /// Makes a session that wrote one that reads again.
    pub(super) async fn pin(&self, connection: &mut Conn) -> Result<()> {
        let pin = async {
            connection.query_drop(self.options.pin_session()).await?;
            connection.query_drop(READ_ONLY).await
        };
        let pinned = within(CONNECT_DEADLINE, "pinning a session", pin).await?;
        pinned.map_err(|error| self.failed("pinning a session", error))
    }

    /// Owns a task that ends by itself within its deadline.
    pub(super) fn keep_closing(&self, task: Task<()>) {
        let mut closing = self.closing.lock();
        closing.retain(|task| !task.is_finished());
        closing.push(task);
    }

    /// Ends the statement of a connection through another one, then closes it.
    async fn kill(&self, connection: Conn) {
        let id = connection.id();
        let kill = async {
            let lease = self.connections.lease(Purpose::Look, KILL_DEADLINE).await?;
            let mut second = self.connect().await?;
            let killed = second.query_drop(format!("KILL QUERY {id}")).await;
            close(second).await;
            drop(lease);
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
        match &error {
            DriverFailure::Server(refusal) => self.refused(doing, refusal.code),
            DriverFailure::Io(_) => self.unavailable(),
            DriverFailure::Driver(failure) => self.given_up(doing, failure),
            // We give the driver neither an address to read nor a step of our own.
            DriverFailure::Url(_) | DriverFailure::Other(_) => self.defect(doing),
        }
        .caused_by(&error)
    }

    /// What the server said.
    fn refused(&self, doing: &str, code: u16) -> Error {
        let message = format!("{} failed while {doing}", self.named());
        match code {
            // Wrong user or password, no right to the database, expired password, account locked.
            1044 | 1045 | 1251 | 1524 | 1698 | 1820 | 1862 | 3118 | 4151 => {
                self.not_let_in().with_hint("Check the catalog's properties user and password.")
            }
            code if FULL.contains(&code) => {
                Error::resources("SOURCE_CONNECTIONS_EXHAUSTED", message)
            }
            // The server is shutting down, or refuses this host.
            1053 | 1129 | 1130 => self.unavailable(),
            // The statement ran longer than the session allows.
            1969 | 3024 => Error::source("SOURCE_DEADLINE_EXCEEDED", message)
                .with_hint("Raise the catalog's property statement_seconds_max."),
            // No right to a table, a column, a routine.
            1142 | 1143 | 1370 => Error::source("SOURCE_PERMISSION_DENIED", message),
            _ => Error::source("SOURCE_QUERY_FAILED", message),
        }
    }

    /// What the driver said by itself. Only a closed connection may be there again next time.
    fn given_up(&self, doing: &str, failure: &DriverError) -> Error {
        match failure {
            DriverError::ConnectionClosed | DriverError::PoolDisconnected => self.unavailable(),
            DriverError::NoClientSslFlagFromServer => self.without_encryption(),
            DriverError::UnknownAuthPlugin { .. }
            | DriverError::MysqlOldPasswordDisabled
            | DriverError::CleartextPluginDisabled
            | DriverError::InvalidParsecSalt => self.not_let_in().with_hint(
                "Let the server identify this user by mysql_native_password or \
                 caching_sha2_password.",
            ),
            DriverError::CantParseServerVersion { .. }
            | DriverError::PacketOutOfOrder
            | DriverError::UnexpectedPacket { .. }
            | DriverError::PacketTooLarge
            | DriverError::BadCompressedPacketHeader
            | DriverError::LocalInfile(_) => Error::source(
                "SOURCE_PROTOCOL",
                format!("{} answered out of its protocol while {doing}", self.named()),
            ),
            // It took our statement, its parameters or our types for wrong.
            _ => self.defect(doing),
        }
    }

    /// Returns what messages call the server.
    pub(super) fn named(&self) -> String {
        format!("source \"{}\" ({})", self.options.catalog, self.options.address())
    }

    fn unavailable(&self) -> Error {
        Error::source("SOURCE_UNAVAILABLE", format!("{} cannot be reached", self.named()))
            .with_hint(
                "Check that the server runs and that the catalog's host, port and tls are right.",
            )
            .retryable()
    }

    fn without_encryption(&self) -> Error {
        let (catalog, address) = (&self.options.catalog, self.options.address());
        Error::user(
            "CATALOG_CONFIGURATION",
            format!(
                "catalog \"{catalog}\": property \"tls\" demands encryption, which the server at \
                 {address} does not offer"
            ),
        )
        .with_hint(
            "Give the server a certificate, or set the catalog's property tls = 'prefer', which sends \
             everything in the clear to a server that cannot encrypt.",
        )
    }

    fn not_let_in(&self) -> Error {
        let message = format!("{} did not let user \"{}\" in", self.named(), self.options.user);
        Error::source("SOURCE_AUTHENTICATION", message)
    }

    fn defect(&self, doing: &str) -> Error {
        Error::internal(format!("the driver refused a request to {} while {doing}", self.named()))
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
    open: Option<Open>,
    runtime: Handle,
}

impl Session {
    /// Returns the connection itself.
    pub(super) fn connection(&mut self) -> Result<&mut Conn> {
        let open = self.open.as_mut();
        open.map(|open| &mut open.connection)
            .ok_or_else(|| Error::internal("a session was used after its end"))
    }

    /// Keeps the connection for the next use: nothing runs on it any more.
    pub(super) fn finish(mut self) {
        if let Some(open) = self.open.take() {
            self.client.keep(open);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        let client = Arc::clone(&self.client);
        let end = environment::spawn_on(&self.runtime, "mysql kill", async move {
            client.kill(open.connection).await;
            drop(open.lease);
        });
        self.client.keep_closing(end);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use meshwork_engine::ErrorKind;
    use meshwork_engine::catalog::CatalogDefinition;

    use super::*;

    fn client() -> Arc<Client> {
        let properties: BTreeMap<String, String> =
            [("host", "db"), ("user", "u")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let definition = CatalogDefinition { name: "my".into(), kind: "mysql".into(), properties };
        let (options, connections) = Options::new(definition.resolve().unwrap()).unwrap();
        Client::new(options, connections)
    }

    #[test]
    fn a_statement_that_the_driver_refuses_is_our_defect() {
        let error = client().failed("reading table \"s.t\"", DriverError::MixedParams.into());
        assert_eq!((error.kind, error.retryable), (ErrorKind::Internal, false), "{error}");
    }

    #[test]
    fn only_a_lost_connection_is_tried_again() {
        let lost = [
            DriverFailure::from(io::Error::from(io::ErrorKind::ConnectionReset)),
            DriverError::ConnectionClosed.into(),
        ];
        for failure in lost {
            let error = client().failed("connecting", failure);
            assert_eq!((error.code.as_str(), error.retryable), ("SOURCE_UNAVAILABLE", true));
        }
        let plugin = DriverError::UnknownAuthPlugin { name: "gssapi".into() };
        let kept = [
            (plugin, "SOURCE_AUTHENTICATION"),
            (DriverError::PacketOutOfOrder, "SOURCE_PROTOCOL"),
            (DriverError::NoClientSslFlagFromServer, "CATALOG_CONFIGURATION"),
        ];
        for (failure, code) in kept {
            let error = client().failed("connecting", failure.into());
            assert_eq!((error.code.as_str(), error.retryable), (code, false));
        }
    }
}
