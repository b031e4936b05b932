//! A worker: joins a coordinator, runs its tasks, and leaves in order when it is told to stop.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use meshwork_engine::catalog::CatalogRegistry;
use meshwork_engine::functions;
use meshwork_worker::{WorkerConfig, WorkerNode};

use super::args::WorkerArgs;
use super::coordinator::cluster_secret;
use super::{memory, signals};

/// Starts a worker; it announces itself until it is dropped or drained.
///
/// # Errors
/// When its address is taken.
pub async fn start_worker(args: &WorkerArgs) -> anyhow::Result<WorkerNode> {
    let runtime = memory::runtime_env(args.memory_max_mb)?;
    let config = WorkerConfig {
        listen: args.listen,
        advertise: args.advertise.clone(),
        coordinator: args.coordinator.clone(),
        secret: cluster_secret(),
        catalogs: Arc::new(CatalogRegistry::new(meshwork_connectors::make, runtime)),
        codecs: Vec::new(),
        prepare: Some(functions::register),
    };
    Ok(WorkerNode::start(config).await?)
}

/// Runs a worker until it is told to stop, or the coordinator will not have it.
///
/// # Errors
/// When the worker cannot start, or the coordinator refuses it for good.
pub async fn worker(args: WorkerArgs) -> anyhow::Result<ExitCode> {
    let node = start_worker(&args).await?;
    ready(&node);
    tokio::select! {
        () = signals::stopped() => {}
        refusal = node.refused() => return Err(refusal.into()),
    }
    let n_cut_off = node.drain(Duration::from_secs(args.drain_s)).await;
    if n_cut_off > 0 {
        tracing::warn!(n_cut_off, "tasks were cut off");
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "scripts and people wait for this line")]
fn ready(node: &WorkerNode) {
    println!("meshwork worker is ready: {}", node.url());
}
