//! Connections that wait for their next use: each for a moment, and only while nobody else waits for one.
//!
//! A connection costs more than a short statement: a process at the server, a handshake, a proof of the password, and a
//! server that has to look everything up anew.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use meshwork_engine::connections::{Connections, Lease, Purpose, Wanted};
use meshwork_engine::environment::{self, Task, within};
use parking_lot::Mutex;
use tokio::sync::watch;

/// How long a connection is kept for its next use, if nobody else wants it.
const KEPT: Duration = Duration::from_secs(5);

/// How often those who are wanted are looked for, at most.
const WATCH_PAUSE: Duration = Duration::from_millis(50);

/// A connection to a server.
pub trait Line: Send + 'static {
    /// Closes it, within a deadline of its own.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// One open connection, the lease that it is open under, and what that is for.
#[derive(Debug)]
pub struct Open<L> {
    /// The connection.
    pub line: L,
    /// Ends when the connection is closed.
    pub lease: Lease,
    /// What both are for.
    pub purpose: Purpose,
}

impl<L: Line> Open<L> {
    /// Closes the connection, then gives the lease back.
    pub async fn close(self) {
        self.line.close().await;
        drop(self.lease);
    }
}

/// Owns what still says goodbye: each ends by a deadline of its own, and holds a lease, so that there are never more than
/// the budget.
#[derive(Debug, Default)]
pub struct Closing(Mutex<Vec<Task<()>>>);

impl Closing {
    /// Takes one more.
    pub fn take(&self, task: Task<()>) {
        let mut tasks = self.0.lock();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }
}

/// The connections of one catalog on this node that nobody uses; with those in use never more than its budget. They end with
/// it.
#[derive(Debug)]
pub struct Kept<L>(Mutex<Idle<L>>);

/// Connections that nobody uses, since when, and who closes them in time.
#[derive(Debug)]
struct Idle<L> {
    connections: Vec<(Open<L>, Instant)>,
    watch: Option<Task<()>>,
}

impl<L: Line> Kept<L> {
    /// Returns one without connections.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Idle { connections: Vec::new(), watch: None })))
    }

    /// Returns a connection for the purpose, the one that was used last. The caller has to see whether it still answers.
    pub fn take(&self, purpose: Purpose) -> Option<Open<L>> {
        let idle = &mut self.0.lock().connections;
        let place = idle.iter().rposition(|(open, _since)| open.purpose == purpose)?;
        Some(idle.remove(place).0)
    }

    /// Keeps a connection on which nothing runs, until somebody waits for one or the time is up. Returns it when somebody
    /// waits already: the caller has to close it.
    #[must_use = "what is not kept has to be closed"]
    pub fn keep(self: &Arc<Self>, open: Open<L>, connections: &Connections) -> Option<Open<L>> {
        let wanted = connections.wanted();
        if is_wanted(open.purpose, *wanted.borrow()) {
            return Some(open);
        }
        let mut idle = self.0.lock();
        idle.connections.push((open, environment::instant()));
        if idle.watch.is_none() {
            let watch = Self::watch(Arc::downgrade(self), wanted);
            let io = environment::io_runtime();
            idle.watch = Some(environment::spawn_on(&io, "kept connections", watch));
        }
        None
    }

    /// Closes connections that wait for their next use, until there are none.
    async fn watch(kept: Weak<Self>, mut wanted: watch::Receiver<Wanted>) {
        loop {
            let somebody = wanted.wait_for(|wanted| wanted.plan || wanted.read);
            // Too late is in time: it is the rest of what closes connections.
            let wanted = match within(KEPT, "keeping", somebody).await {
                Ok(Ok(wanted)) => *wanted,
                Ok(Err(_)) | Err(_) => Wanted::default(),
            };
            let Some(kept) = kept.upgrade() else { return };
            for open in kept.no_longer_kept(wanted) {
                open.close().await;
            }
            {
                let mut idle = kept.0.lock();
                if idle.connections.is_empty() {
                    // Who keeps the next connection begins anew.
                    idle.watch = None;
                    return;
                }
            }
            drop(kept);
            tokio::time::sleep(WATCH_PAUSE).await;
        }
    }

    fn no_longer_kept(&self, wanted: Wanted) -> Vec<Open<L>> {
        let mut idle = self.0.lock();
        let ends = |(open, since): &mut (Open<L>, Instant)| {
            is_wanted(open.purpose, wanted) || since.elapsed() >= KEPT
        };
        idle.connections.extract_if(.., ends).map(|(open, _since)| open).collect()
    }
}

/// Whether somebody waits for what a connection of that purpose holds.
fn is_wanted(purpose: Purpose, wanted: Wanted) -> bool {
    match purpose {
        Purpose::Look | Purpose::Plan => wanted.plan || wanted.read,
        Purpose::Read => wanted.read,
        // Few write, and one probe is enough.
        Purpose::Write | Purpose::Probe => true,
    }
}
