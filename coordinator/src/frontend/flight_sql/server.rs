//! The socket of the Flight SQL door: listening, TLS, windows, keep-alive, and the end.
//!
//! Bytes in flight to a slow client are bounded by HTTP/2's windows; nothing is queued beyond them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use futures::StreamExt;
use meshwork_engine::{Error, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use tonic::transport::{Identity as TlsIdentity, Server, ServerTlsConfig};

use super::Door;
use crate::Coordinator;
use crate::frontend::users::Users;

/// The largest message that a client may send, such as a batch of parameters.
const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What one stream, and one connection, may send before the server has read it.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// A client whose machine is gone is noticed after both of these; its queries are cancelled then.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The server's certificate chain and private key, both in PEM.
pub struct Tls {
    /// The certificate, with its chain behind it.
    pub certificate: Vec<u8>,
    /// The private key.
    pub key: Vec<u8>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Returns the door as a service for a tonic server, for those who serve more than it.
///
/// # Errors
/// `Internal` when the answers about this server cannot be made.
pub fn door(coordinator: Arc<Coordinator>, users: Users) -> Result<FlightServiceServer<Door>> {
    let door = Door::new(coordinator, users)?;
    Ok(FlightServiceServer::new(door).max_decoding_message_size(REQUEST_BYTES_MAX))
}

/// Serves the door on the listener until `stop` is cancelled; then running requests are let finish.
///
/// # Errors
/// `User` when the certificate or its key cannot be read, `Internal` when the server fails.
pub async fn serve(
    coordinator: Arc<Coordinator>,
    users: Users,
    listener: TcpListener,
    tls: Option<Tls>,
    stop: CancellationToken,
) -> Result<()> {
    let door = door(coordinator, users)?;
    let mut server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT));
    if let Some(Tls { certificate, key }) = tls {
        let identity = TlsIdentity::from_pem(certificate, key);
        server = server.tls_config(ServerTlsConfig::new().identity(identity)).map_err(|error| {
            Error::user("INVALID_CONFIGURATION", "the TLS certificate or its key could not be read")
                .caused_by(&error)
        })?;
    }
    let connections = TcpListenerStream::new(listener).map(|stream| stream.map(Connection::new));
    server
        .add_service(door)
        .serve_with_incoming_shutdown(connections, stop.cancelled_owned())
        .await
        .map_err(|error| Error::internal("the Flight SQL door failed").caused_by(&error))
}

/// Tells connections apart for as long as the process lives; addresses come back, these do not.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionId(u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}", self.0)
    }
}

/// A TCP connection with its id.
#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    stream: TcpStream,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Small answers must not wait for more; a socket that refuses the option works without it.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        Self { id: ConnectionId(NEXT.fetch_add(1, Ordering::Relaxed)), stream }
    }
}

impl Connected for Connection {
    type ConnectInfo = ConnectionId;

    fn connect_info(&self) -> ConnectionId {
        self.id
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
