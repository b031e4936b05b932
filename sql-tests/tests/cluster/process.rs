//! A worker as a process of its own: this test binary once more, so that it can be killed and frozen.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use url::Url;

use crate::harness::{Cluster, SECRET, eventually, start_worker};

/// A worker process; it ends with this handle.
pub(crate) struct Process {
    child: Child,
    pub(crate) url: Url,
}

impl Process {
    /// Tells the process where its coordinator is.
    pub(crate) const COORDINATOR: &str = "MESHWORK_TEST_COORDINATOR";

    /// Starts a process and waits until it has joined.
    pub(crate) async fn start(cluster: &Cluster) -> Result<Self> {
        let before = cluster.active();
        let child = Command::new(std::env::current_exe()?)
            .args(["--exact", "a_worker_process", "--nocapture"])
            .env(Self::COORDINATOR, cluster.address().as_str())
            .stdout(Stdio::null())
            .spawn()?;
        cluster.has_active(before.len() + 1, Duration::from_secs(3)).await?;
        let joined = cluster.active().into_iter().find(|url| !before.contains(url));
        Ok(Self { child, url: joined.context("the worker that joined")? })
    }

    /// What the process does.
    pub(crate) async fn serve(coordinator: Url) -> Result<()> {
        let worker = start_worker(coordinator, SECRET).await?;
        Err(worker.refused().await.into())
    }

    /// Waits until the process has said that it runs tasks.
    pub(crate) async fn busy(&self, cluster: &Cluster) -> Result<()> {
        let busy = || {
            let nodes = cluster.nodes();
            nodes.iter().any(|node| node.url == self.url && node.n_tasks_running > 0)
        };
        eventually(Duration::from_secs(5), "the process to run tasks", busy).await
    }

    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status()?;
        ensure!(sent.success(), "kill -s {name} {id}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
