//! Which workers live: they announce themselves, and who is not heard of leaves the plans.
//!
//! ```text
//!   worker ── announcement, every second ──► routes ──► Membership ──► fragment: whom to plan for
//!                                                          ▲
//!                       schedule: "a worker was lost" ── probe
//! ```
//!
//! [`membership`] holds the rules and never reads a clock; [`routes`] is the door on the internal address.
//! Nothing here plans, and nothing here is kept: a coordinator that starts anew hears of all workers within
//! a second.

mod membership;
mod routes;

use std::sync::Arc;

use futures::future::join_all;
use meshwork_engine::catalog::{CatalogRegistry, Secret};
use meshwork_engine::codec::channel::Channels;
use meshwork_engine::node::{Announcement, secret_matches};
use meshwork_engine::{Result, environment};
use parking_lot::Mutex;
use url::Url;

use membership::Membership;
pub use membership::{NodeStatus, WorkerNode};
pub use routes::{routes, serve};

/// The workers that one coordinator knows.
#[derive(Debug)]
pub struct Cluster {
    secret: Option<Secret>,
    channels: Arc<Channels>,
    catalogs: Arc<CatalogRegistry>,
    membership: Mutex<Membership>,
}

impl Cluster {
    /// Returns a cluster without workers; with a secret, only who presents it is heard.
    pub fn new(secret: Option<Secret>, catalogs: Arc<CatalogRegistry>) -> Arc<Self> {
        Arc::new(Self {
            channels: Arc::new(Channels::new(secret.clone())),
            secret,
            catalogs,
            membership: Mutex::default(),
        })
    }

    /// The workers that may be given tasks now, sorted.
    pub fn workers(&self) -> Vec<Url> {
        self.membership.lock().active(environment::instant())
    }

    /// All workers heard of in the last minute, for `system.nodes`, sorted by address.
    pub fn nodes(&self) -> Vec<WorkerNode> {
        self.membership.lock().nodes(environment::instant())
    }

    /// Whether a worker was heard of in the last minute.
    fn knows(&self, worker: &Url) -> bool {
        self.nodes().iter().any(|node| node.url == *worker)
    }

    /// The connections to the workers.
    pub fn channels(&self) -> &Arc<Channels> {
        &self.channels
    }

    /// The catalogs that workers are given.
    pub fn catalogs(&self) -> &Arc<CatalogRegistry> {
        &self.catalogs
    }

    /// Asks every active worker whether it lives, and takes those that do not answer out of planning:
    /// what to do before a query that lost a worker is run again. Takes two seconds at most.
    pub async fn probe(&self) {
        let asked = self.workers();
        let answers = join_all(asked.iter().map(|url| self.channels.probe(url))).await;
        for (url, answer) in asked.iter().zip(answers) {
            if let Err(error) = answer {
                tracing::warn!(worker = %url, %error, "worker does not answer");
                self.membership.lock().lose(url, environment::instant());
            }
        }
    }

    fn announce(&self, announcement: Announcement) -> Result<()> {
        self.membership.lock().announce(announcement, environment::instant())
    }

    fn lets_in(&self, presented: Option<&[u8]>) -> bool {
        secret_matches(self.secret.as_ref(), presented)
    }
}
