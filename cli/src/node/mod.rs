//! How nodes start: from arguments and `etc/` to open doors.
//!
//! ```text
//! etc/catalog/<name>.toml   one file, one catalog
//! etc/users.toml            name = "password", or "${ENV:NAME}"; without it everybody is let in
//! <root>/                   everything durable: catalogs and views that statements defined
//! ```

mod args;
mod coordinator;
mod memory;
mod root;
mod runtimes;
mod signals;
mod worker;

pub use args::{CoordinatorArgs, NodeArgs, StandaloneArgs, WorkerArgs};
pub use coordinator::{CoordinatorNode, start_coordinator, start_standalone};
pub use runtimes::{with_one_thread, with_runtimes};
pub use worker::{start_worker, worker};

use std::process::ExitCode;

/// Runs a node of its own until it is told to stop.
///
/// # Errors
/// When the node cannot start.
pub async fn standalone(args: StandaloneArgs) -> anyhow::Result<ExitCode> {
    let node = start_standalone(&args).await?;
    announce(&node);
    signals::stopped().await;
    node.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Runs a coordinator until it is told to stop.
///
/// # Errors
/// When the node cannot start.
pub async fn coordinator(args: CoordinatorArgs) -> anyhow::Result<ExitCode> {
    let node = start_coordinator(&args).await?;
    announce(&node);
    signals::stopped().await;
    node.stop().await;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "scripts and people wait for this line")]
fn announce(node: &CoordinatorNode) {
    println!("meshwork is ready: {}", node.server_url());
    if let Some(internal) = node.internal_address() {
        println!("workers join at: http://{internal}");
    }
}
