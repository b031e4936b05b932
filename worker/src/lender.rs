//! Connections to sources are counted by the coordinator: a worker asks it for each.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use meshwork_engine::Result;
use meshwork_engine::connections::{Lease, LeaseRequest, Lender, Wanted};
use meshwork_engine::environment;
use meshwork_engine::node::{WorkerLease, wanted_of};
use parking_lot::Mutex;
use tokio::sync::watch;
use url::Url;

use crate::control::Control;

/// The worker's side of [`meshwork_engine::node::LEASE_PATH`].
#[derive(Debug)]
pub(crate) struct ClusterLender {
    worker: Url,
    control: Arc<Control>,
    /// For what somebody waits, by catalog: what the coordinator last said.
    wanted: Mutex<BTreeMap<String, watch::Sender<Wanted>>>,
}

impl ClusterLender {
    pub(crate) fn new(worker: Url, control: Arc<Control>) -> Self {
        Self { worker, control, wanted: Mutex::default() }
    }

    fn told(&self, catalog: &str) -> watch::Sender<Wanted> {
        self.wanted.lock().entry(catalog.to_owned()).or_default().clone()
    }
}

#[async_trait]
impl Lender for ClusterLender {
    /// The answer goes on for as long as the lease is held; dropping it tells the coordinator.
    async fn lease(&self, request: &LeaseRequest) -> Result<Lease> {
        let lease = WorkerLease { worker: self.worker.clone(), request: request.clone() };
        let control = Arc::clone(&self.control);
        let told = self.told(&request.catalog);
        let io = environment::io_runtime();
        // On the runtime for I/O from the beginning: the connection belongs to it.
        let begun =
            environment::spawn_on(
                &io,
                "asking for a lease",
                async move { control.lease(&lease).await },
            );
        let mut answer = begun.await??;
        let hearing = environment::spawn_on(&io, "holding a lease", async move {
            while let Ok(Some(said)) = answer.chunk().await {
                if let Some(last) = said.last() {
                    told.send_replace(wanted_of(*last));
                }
            }
        });
        Ok(Lease::new(hearing))
    }

    fn wanted(&self, catalog: &str) -> watch::Receiver<Wanted> {
        self.told(catalog).subscribe()
    }
}
