//! A relay between Meshwork and a real server: a network that a test stalls, cuts and mends.
//!
//! ```text
//! client ──► relay ──► server      what the server sends is counted; nothing passes while it is stalled
//! ```

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use meshwork_engine::environment::{self, Task};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The most that is passed on at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// Between two looks at what has passed.
const POLL: Duration = Duration::from_millis(5);

/// What the network does with what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    Flows,
    /// Nothing passes any more once the server has sent so many bytes in all; sockets stay open, and new ones are taken.
    StallsAfter(u64),
}

/// A running relay. Dropped, its connections break.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    network: watch::Sender<Network>,
    /// Counts how often all connections were reset.
    cuts: watch::Sender<u64>,
    n_bytes: Arc<AtomicU64>,
    _accepting: Task<()>,
}

impl Relay {
    /// Starts a relay to a port on the loopback.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn to(server: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port")?;
        let port = listener.local_addr()?.port();
        let (network, seen) = watch::channel(Network::Flows);
        let n_bytes = Arc::new(AtomicU64::new(0));
        let (cuts, cut) = watch::channel(0);
        let accept = accept(listener, server, seen, cut, Arc::clone(&n_bytes));
        let accepting = environment::spawn("relay", accept);
        Ok(Self { port, network, cuts, n_bytes, _accepting: accepting })
    }

    /// Returns the port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns how many bytes the server has sent in all.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes.load(Ordering::Relaxed)
    }

    /// Lets nothing pass any more once the server has sent so many bytes from now on.
    pub fn stall_after(&self, n_bytes: u64) {
        self.network.send_replace(Network::StallsAfter(self.n_bytes() + n_bytes));
    }

    /// Waits until the network stalls.
    pub async fn stalled(&self) {
        let network = *self.network.borrow();
        if let Network::StallsAfter(most) = network {
            while self.n_bytes() < most {
                tokio::time::sleep(POLL).await;
            }
        }
    }

    /// Resets the connections that there are.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Lets everything pass again, on connections that are still open as well.
    pub fn mend(&self) {
        self.network.send_replace(Network::Flows);
    }
}

async fn accept(
    listener: TcpListener,
    server: u16,
    network: watch::Receiver<Network>,
    cuts: watch::Receiver<u64>,
    n_bytes: Arc<AtomicU64>,
) {
    let mut connections: Vec<Task<()>> = Vec::new();
    while let Ok((client, _address)) = listener.accept().await {
        connections.retain(|connection| !connection.is_finished());
        let mut cuts = cuts.clone();
        cuts.mark_unchanged();
        let connection = relay(client, server, network.clone(), cuts, Arc::clone(&n_bytes));
        connections.push(environment::spawn("relayed connection", connection));
    }
}

/// Passes one connection on until a side closes it or the network is cut.
async fn relay(
    mut client: TcpStream,
    server: u16,
    network: watch::Receiver<Network>,
    mut cuts: watch::Receiver<u64>,
    n_bytes: Arc<AtomicU64>,
) {
    let passing = async {
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await?;
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        tokio::select! {
            asked = pass(&mut from_client, &mut to_server, network.clone(), &n_bytes, |_n| 0) => asked,
            said = pass(&mut from_server, &mut to_client, network, &n_bytes, |n| n) => said,
        }
    };
    let is_cut = tokio::select! {
        // Whichever side broke off, the other sees its connection closed.
        _closed = passing => false,
        _cut = cuts.changed() => true,
    };
    if is_cut {
        // Closed so, it is reset.
        drop(client.set_zero_linger());
    }
}

/// Passes bytes on one way, while the network lets them; `counted` are those that the server has sent.
async fn pass(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut network: watch::Receiver<Network>,
    n_bytes: &AtomicU64,
    counted: fn(u64) -> u64,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let n_read = from.read(&mut piece).await?;
        let flows = |network: &Network| match network {
            Network::StallsAfter(most) => n_bytes.load(Ordering::Relaxed) < *most,
            Network::Flows => true,
        };
        if n_read == 0 || network.wait_for(flows).await.is_err() {
            return Ok(());
        }
        n_bytes.fetch_add(counted(n_read as u64), Ordering::Relaxed);
        to.write_all(piece.get(..n_read).unwrap_or_default()).await?;
    }
}
