//! Connections to one MySQL or MariaDB server: a bounded number, each pinned, none left running.
//!
//! ```text
//! Client ── session() ──► Session ── finish() ──► kept for the next, a moment
//!                            └────── dropped ───► KILL QUERY over a second connection, then closed
//! ```
//! Rows are read over connections of [`super::protocol`], everything else is asked over the driver's.
//! Each is opened under a lease (`engine::connections`), which ends when it is closed.
//! A session that is dropped in the middle is never drained: a large result would be read to its end.

use std::sync::Arc;
use std::time::Duration;

use meshwork_engine::connections::{Connections, Purpose};
use meshwork_engine::environment::{self, within};
use meshwork_engine::{Error, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error as DriverFailure};
use tokio::runtime::Handle;

use super::options::{Options, Tls};
use super::protocol::Connection;
use crate::relational::{self, Closing, Kept, Line as _, Open, while_full};

/// How long a server may take to accept a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

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
    kept: Arc<Kept<Line>>,
    /// Connections that are being closed or wait for it.
    pub closing: Closing,
}

/// A connection that is asked or one that reads rows.
#[derive(Debug)]
enum Line {
    Asks(Conn),
    Reads(Connection),
}

impl Line {
    fn id(&self) -> u32 {
        match self {
            Self::Asks(connection) => connection.id(),
            Self::Reads(connection) => connection.id(),
        }
    }

    async fn run(&mut self, statement: &str) -> Result<(), DriverFailure> {
        match self {
            Self::Asks(connection) => connection.query_drop(statement).await,
            Self::Reads(connection) => connection.run(statement).await,
        }
    }

    async fn ping(&mut self) -> Result<(), DriverFailure> {
        match self {
            Self::Asks(connection) => connection.ping().await,
            Self::Reads(connection) => connection.ping().await,
        }
    }
}

impl relational::Line for Line {
    async fn close(self) {
        let goodbye = async {
            match self {
                Self::Asks(connection) => connection.disconnect().await,
                Self::Reads(connection) => connection.close().await,
            }
        };
        // Whether it closed politely does not matter.
        drop(within(CLOSE_DEADLINE, "closing a connection", goodbye).await);
    }
}

impl Client {
    /// Returns the client of a catalog, without a connection.
    pub(super) fn new(options: Options, connections: Connections) -> Arc<Self> {
        let (kept, closing) = (Kept::new(), Closing::default());
        Arc::new(Self { options, connections, kept, closing })
    }

    /// Returns a pinned session, when the catalog's budget has room.
    pub(super) async fn session(self: &Arc<Self>, purpose: Purpose) -> Result<Session> {
        let open = match self.reuse(purpose).await {
            Some(open) => open,
            None => {
                let deadline = self.options.answer_deadline();
                let lease = self.connections.lease(purpose, deadline).await?;
                Open { line: self.connect(purpose).await?, lease, purpose }
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
        self.connect(Purpose::Probe).await?.close().await;
        drop(lease);
        Ok(())
    }

    /// Returns a connection that was kept and still answers.
    async fn reuse(&self, purpose: Purpose) -> Option<Open<Line>> {
        loop {
            let mut open = self.kept.take(purpose)?;
            if let Ok(Ok(())) = within(CLOSE_DEADLINE, "a ping", open.line.ping()).await {
                return Some(open);
            }
            open.close().await;
        }
    }

    /// Returns a new connection with its session pinned.
    async fn connect(&self, purpose: Purpose) -> Result<Line> {
        let connect = async {
            let mut line = self.let_in(purpose).await?;
            line.run(&self.options.pin_session()).await?;
            line.run(READ_ONLY).await?;
            Ok(line)
        };
        match within(CONNECT_DEADLINE, "connecting", connect).await {
            Ok(outcome) => outcome.map_err(|error| self.failed("connecting", error)),
            Err(late) => Err(self.unavailable().caused_by(&late)),
        }
    }

    /// Opens a connection; a server that is full is asked again. The caller sets a deadline.
    async fn let_in(&self, purpose: Purpose) -> Result<Line, DriverFailure> {
        let is_full = |error: &DriverFailure| matches!(error, DriverFailure::Server(full) if FULL.contains(&full.code));
        let connect = |encrypted| {
            let open = move || async move {
                Ok(match purpose {
                    Purpose::Read => Line::Reads(Connection::open(&self.options, encrypted).await?),
                    Purpose::Look | Purpose::Plan | Purpose::Write | Purpose::Probe => {
                        Line::Asks(Conn::new(self.options.driver(encrypted)).await?)
                    }
                })
            };
            while_full(open, is_full)
        };
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

    /// Ends the statement of a connection through another one, then closes it.
    async fn kill(&self, line: Line) {
        let id = line.id();
        let kill = async {
            let lease = self.connections.lease(Purpose::Look, KILL_DEADLINE).await?;
            let mut second = self.connect(Purpose::Look).await?;
            let killed = second.run(&format!("KILL QUERY {id}")).await;
            second.close().await;
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
        line.close().await;
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
            code => Error::source("SOURCE_QUERY_FAILED", format!("{message} (error {code})")),
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

    /// Returns the error for a row that is not as long as its values.
    pub(super) fn broken_row(&self) -> Error {
        Error::source("SOURCE_PROTOCOL", format!("{} sent a row that breaks off", self.named()))
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

/// One connection in use. Dropping it ends what runs on it.
#[derive(Debug)]
pub(super) struct Session {
    client: Arc<Client>,
    open: Option<Open<Line>>,
    runtime: Handle,
}

impl Session {
    /// Returns the connection of a session that asks or writes.
    pub(super) fn connection(&mut self) -> Result<&mut Conn> {
        match self.open.as_mut().map(|open| &mut open.line) {
            Some(Line::Asks(connection)) => Ok(connection),
            Some(Line::Reads(_)) | None => Err(misused()),
        }
    }

    /// Returns the connection of a session that reads rows.
    pub(super) fn reader(&mut self) -> Result<&mut Connection> {
        match self.open.as_mut().map(|open| &mut open.line) {
            Some(Line::Reads(connection)) => Ok(connection),
            Some(Line::Asks(_)) | None => Err(misused()),
        }
    }

    /// Keeps the connection for the next use: nothing runs on it any more.
    pub(super) fn finish(mut self) {
        let Some(open) = self.open.take() else { return };
        if let Some(open) = self.client.kept.keep(open, &self.client.connections) {
            let end = environment::spawn_on(&self.runtime, "mysql close", open.close());
            self.client.closing.take(end);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        let client = Arc::clone(&self.client);
        let end = environment::spawn_on(&self.runtime, "mysql kill", async move {
            client.kill(open.line).await;
            drop(open.lease);
        });
        self.client.closing.take(end);
    }
}

fn misused() -> Error {
    Error::internal("a session was used after its end, or for what it is not")
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
