//! The budget of a source: how many connections the whole cluster has to it at one time.
//!
//! ```text
//! connector ── lease(purpose) ──► Connections ──► Lender ─┬─ Budgets     coordinator: counts
//!                                                         └─ (worker)    asks its coordinator
//! ```
//! A connection is opened under a [`Lease`] and closed before the lease is dropped. Nobody waits for ever: who holds a
//! lease of one [`Purpose`] waits only for leases of a later one, and who holds one to read gives it back without the
//! help of others: a scan whose rows nobody takes puts them aside once [`Connections::wanted`] says that somebody waits.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{Either, select};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::environment::within;
use crate::{Error, Result};

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// A short question; whoever asks it holds nothing that others wait for.
    Look,
    /// Planning, and what is kept as long as a query runs: its snapshot.
    Plan,
    /// Writing rows, which are read meanwhile.
    Write,
    /// Reading rows.
    Read,
    /// Asking a source that has been silent for long whether it is there. There is one, beside the budget: those who wait
    /// for a source that has gone away may hold all of it.
    Probe,
}

/// How many connections there are for each purpose; together they are the budget. [`Purpose::Look`] takes what is
/// free of the shares of planning and reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// For [`Purpose::Plan`].
    pub plan: usize,
    /// For [`Purpose::Write`]; zero where a catalog is only read.
    pub write: usize,
    /// For [`Purpose::Read`].
    pub read: usize,
}

/// For what somebody waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// For a connection to plan.
    pub plan: bool,
    /// For a connection to read.
    pub read: bool,
}

/// What is asked of a lender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// The catalog whose source is connected to.
    pub catalog: String,
    /// What the connection is for.
    pub purpose: Purpose,
    /// The catalog's budget.
    pub shares: Shares,
}

/// The right to one connection, until it is dropped.
pub struct Lease(Box<dyn Any + Send + Sync>);

impl Lease {
    /// Returns a lease that lasts as long as `held`.
    pub fn new(held: impl Any + Send + Sync) -> Self {
        Self(Box::new(held))
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&(*self.0).type_id()).finish()
    }
}

/// Who gives leases out: in the order of the requests, for each purpose.
#[async_trait]
pub trait Lender: fmt::Debug + Send + Sync {
    /// Returns a lease once there is one. Dropping the future withdraws the request.
    ///
    /// # Errors
    /// `Resources` when the lender cannot be asked.
    async fn lease(&self, request: &LeaseRequest) -> Result<Lease>;

    /// Tells for which connections of the catalog somebody waits.
    fn wanted(&self, catalog: &str) -> watch::Receiver<Wanted>;
}

/// The connections of one catalog, as its connector sees them.
#[derive(Debug)]
pub struct Connections {
    lender: Arc<dyn Lender>,
    catalog: String,
    shares: Shares,
}

impl Connections {
    /// Returns the connections of a catalog; opens none.
    pub fn new(lender: Arc<dyn Lender>, catalog: &str, shares: Shares) -> Self {
        Self { lender, catalog: catalog.to_owned(), shares }
    }

    /// How many may read at one time.
    pub fn n_readers_max(&self) -> usize {
        self.shares.read
    }

    /// Waits for the right to one connection.
    ///
    /// # Errors
    /// `Resources` with code `CONNECTIONS_EXHAUSTED` when there is none before the deadline.
    pub async fn lease(&self, purpose: Purpose, deadline: Duration) -> Result<Lease> {
        let request = LeaseRequest { catalog: self.catalog.clone(), purpose, shares: self.shares };
        within(deadline, "waiting for a connection", self.lender.lease(&request))
            .await
            .map_err(|_late| self.exhausted(deadline))?
    }

    /// Tells for which connections somebody, on whatever node, waits.
    pub fn wanted(&self) -> watch::Receiver<Wanted> {
        self.lender.wanted(&self.catalog)
    }

    fn exhausted(&self, deadline: Duration) -> Error {
        let Shares { plan, write, read } = self.shares;
        let message = format!(
            "none of the {} connections of catalog \"{}\" was free within {} s",
            plan + write + read,
            self.catalog,
            deadline.as_secs()
        );
        Error::resources("CONNECTIONS_EXHAUSTED", message)
            .with_hint("Raise connections_max of the catalog, or run fewer queries at once.")
    }
}

/// The budgets of all catalogs of a cluster: its coordinator has them.
#[derive(Debug, Default)]
pub struct Budgets(Mutex<BTreeMap<String, Arc<Budget>>>);

impl Budgets {
    /// Returns the budget that a request names. One whose shares have changed begins anew, beside what is still open.
    fn of(&self, request: &LeaseRequest) -> Arc<Budget> {
        let mut budgets = self.0.lock();
        match budgets.get(&request.catalog) {
            Some(budget) if budget.shares == request.shares => Arc::clone(budget),
            known => {
                let wanted = known.map(|budget| budget.wanted.clone()).unwrap_or_default();
                let budget = Arc::new(Budget::new(request.shares, wanted));
                budgets.insert(request.catalog.clone(), Arc::clone(&budget));
                budget
            }
        }
    }
}

#[async_trait]
impl Lender for Budgets {
    async fn lease(&self, request: &LeaseRequest) -> Result<Lease> {
        self.of(request).lease(request.purpose).await
    }

    fn wanted(&self, catalog: &str) -> watch::Receiver<Wanted> {
        match self.0.lock().get(catalog) {
            Some(budget) => budget.wanted.subscribe(),
            None => watch::Sender::default().subscribe(),
        }
    }
}

/// The budget of one catalog.
#[derive(Debug)]
struct Budget {
    shares: Shares,
    plan: Share,
    write: Share,
    read: Share,
    probe: Share,
    wanted: watch::Sender<Wanted>,
}

/// The connections for one purpose.
#[derive(Debug)]
struct Share {
    free: Arc<Semaphore>,
    n_waiting: AtomicUsize,
}

impl Share {
    fn new(n: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(n)), n_waiting: AtomicUsize::new(0) }
    }

    fn is_wanted(&self) -> bool {
        self.n_waiting.load(Ordering::Acquire) > 0
    }
}

impl Budget {
    fn new(shares: Shares, wanted: watch::Sender<Wanted>) -> Self {
        let Shares { plan, write, read } = shares;
        let (plan, write, read) = (Share::new(plan), Share::new(write), Share::new(read));
        Self { shares, plan, write, read, probe: Share::new(1), wanted }
    }

    async fn lease(&self, purpose: Purpose) -> Result<Lease> {
        let permit = match purpose {
            Purpose::Look => {
                let plan = Box::pin(self.taken(&self.plan));
                match select(plan, Box::pin(self.taken(&self.read))).await {
                    Either::Left((permit, _)) | Either::Right((permit, _)) => permit?,
                }
            }
            Purpose::Plan => self.taken(&self.plan).await?,
            Purpose::Write => self.taken(&self.write).await?,
            Purpose::Read => self.taken(&self.read).await?,
            Purpose::Probe => self.taken(&self.probe).await?,
        };
        Ok(Lease::new(permit))
    }

    async fn taken(&self, share: &Share) -> Result<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&share.free).try_acquire_owned() {
            return Ok(permit);
        }
        let _waiting = Waiting::begin(self, share);
        let closed = |e| Error::internal("a budget of connections was closed").caused_by(&e);
        Arc::clone(&share.free).acquire_owned().await.map_err(closed)
    }

    fn tell(&self) {
        let is = Wanted { plan: self.plan.is_wanted(), read: self.read.is_wanted() };
        self.wanted.send_if_modified(|wanted| std::mem::replace(wanted, is) != is);
    }
}

/// Counts a request that waits, until it is dropped.
struct Waiting<'a> {
    budget: &'a Budget,
    share: &'a Share,
}

impl<'a> Waiting<'a> {
    fn begin(budget: &'a Budget, share: &'a Share) -> Self {
        share.n_waiting.fetch_add(1, Ordering::AcqRel);
        budget.tell();
        Self { budget, share }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.share.n_waiting.fetch_sub(1, Ordering::AcqRel);
        self.budget.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(shares: Shares) -> Connections {
        Connections::new(Arc::new(Budgets::default()), "pg", shares)
    }

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_share_is_never_exceeded_and_others_are_told_that_somebody_waits() {
        let connections = connections(Shares { plan: 1, write: 1, read: 1 });
        let held = connections.lease(Purpose::Read, SOON).await.unwrap();
        let mut wanted = connections.wanted();
        assert!(!wanted.borrow_and_update().read);
        // What is waited for is locked until it is dropped.
        let told = async { wanted.wait_for(|wanted| wanted.read && !wanted.plan).await.is_ok() };
        let (waited, told) = tokio::join!(connections.lease(Purpose::Read, SOON), told);
        assert!(told);
        let error = waited.unwrap_err();
        assert_eq!(error.code, "CONNECTIONS_EXHAUSTED");
        assert!(!wanted.borrow_and_update().read);
        connections.lease(Purpose::Write, SOON).await.unwrap();
        drop(held);
        connections.lease(Purpose::Read, SOON).await.unwrap();
    }

    #[tokio::test]
    async fn a_look_takes_what_is_free() {
        let connections = connections(Shares { plan: 1, write: 0, read: 1 });
        let plan = connections.lease(Purpose::Plan, SOON).await.unwrap();
        let look = connections.lease(Purpose::Look, SOON).await.unwrap();
        assert!(connections.lease(Purpose::Read, SOON).await.is_err());
        assert!(connections.lease(Purpose::Look, SOON).await.is_err());
        drop(plan);
        connections.lease(Purpose::Look, SOON).await.unwrap();
        drop(look);
        connections.lease(Purpose::Read, SOON).await.unwrap();
    }
}
