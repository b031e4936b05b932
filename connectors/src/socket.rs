//! A socket to a server, plain or encrypted, and what has arrived over it.
//!
//! Connections that read many rows stand on it: they look at messages where they lie in its buffer, and ask the system for
//! as much at a time as has arrived.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// What is asked of the system at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// How long a silent connection lives before the network is asked whether it still stands, how often, how many times.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(15))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);

/// What is sent and not confirmed for so long has not arrived.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(30);

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// One connection.
pub(crate) struct Socket {
    stream: Box<dyn Stream>,
    is_encrypted: bool,
    buffer: Vec<u8>,
    /// Where in the buffer the bytes are that have arrived and were not taken.
    fresh: Range<usize>,
}

impl Socket {
    /// Connects to a host; the caller sets a deadline.
    pub(crate) async fn of_host(host: &str, port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&KEEPALIVE)?;
        socket.set_tcp_user_timeout(Some(UNCONFIRMED_MAX))?;
        Ok(Self::over(Box::new(stream), false))
    }

    /// Connects to a file on this machine.
    pub(crate) async fn of_file(path: &str) -> io::Result<Self> {
        Ok(Self::over(Box::new(UnixStream::connect(path).await?), false))
    }

    fn over(stream: Box<dyn Stream>, is_encrypted: bool) -> Self {
        Self { stream, is_encrypted, buffer: vec![0; BUFFER_BYTES], fresh: 0..0 }
    }

    /// Encrypts what follows. Bytes that came in the clear behind the request for it are an error: anybody may have sent
    /// them.
    pub(crate) async fn encrypted(self, client: Arc<ClientConfig>, host: &str) -> io::Result<Self> {
        if !self.arrived().is_empty() {
            return Err(io::Error::other("bytes in the clear where encryption begins"));
        }
        let name = host.to_owned().try_into().map_err(io::Error::other)?;
        // Of itself rustls asks the system for 4 KiB at a time.
        let arriving = BufReader::with_capacity(BUFFER_BYTES, self.stream);
        let stream = TlsConnector::from(client).connect(name, arriving).await?;
        Ok(Self::over(Box::new(stream), true))
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// Sends bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Returns what has arrived and was not taken.
    #[inline]
    pub(crate) fn arrived(&self) -> &[u8] {
        self.buffer.get(self.fresh.clone()).unwrap_or_default()
    }

    /// Takes the first of the bytes that have arrived; returns where [`Self::taken`] finds them until more is waited for.
    #[inline]
    pub(crate) fn take(&mut self, n_bytes: usize) -> Range<usize> {
        let begin = self.fresh.start;
        self.fresh.start = (begin + n_bytes).min(self.fresh.end);
        begin..self.fresh.start
    }

    /// Returns what the places are in that [`Self::take`] returns.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    #[inline]
    pub(crate) fn taken(&self, place: Range<usize>) -> &[u8] {
        self.buffer.get(place).unwrap_or_default()
    }

    /// Waits for more bytes. Whoever stops waiting has lost nothing.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other side has closed the connection.
    pub(crate) async fn more(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.fresh.clone(), 0);
        self.fresh = 0..self.fresh.len();
        if self.fresh.end == self.buffer.len() {
            // A message that is longer than the buffer; the protocols bound their lengths.
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let room = self.buffer.get_mut(self.fresh.end..).unwrap_or_default();
        let n_bytes = self.stream.read(room).await?;
        if n_bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.fresh.end += n_bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_is_taken_stays_until_more_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut near = Socket::of_host("127.0.0.1", port).await.unwrap();
        let (mut far, _address) = listener.accept().await.unwrap();
        let long: Vec<u8> = (0..=u8::MAX).cycle().take(3 * BUFFER_BYTES).collect();
        far.write_all(&long).await.unwrap();
        while near.arrived().len() < long.len() {
            near.more().await.unwrap();
        }
        assert_eq!(near.arrived(), long);
        let place = near.take(long.len() - 2);
        assert_eq!(near.arrived(), &long[long.len() - 2..]);
        assert_eq!(near.taken(place), &long[..long.len() - 2]);
        far.write_all(b"end").await.unwrap();
        while near.arrived().len() < 5 {
            near.more().await.unwrap();
        }
        assert_eq!(near.arrived(), [&long[long.len() - 2..], b"end"].concat());
        drop(far);
        assert_eq!(near.more().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
