//! `meshwork demo`: sample sources, a cluster in this process, three queries, and an open door.
//!
//! ```text
//! sources   lays files out and starts the REST API; says which catalogs they are
//! clicks    fills the versioned store through SQL
//! queries   the three queries and what they show
//! tpch      tables as Parquet; rest: rows over HTTP. The tests and the benchmark use both.
//! ```

mod clicks;
mod queries;
pub mod rest;
mod sources;
pub mod tpch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::client::Client;
use crate::node::{self, NodeArgs, StandaloneArgs};

/// Workers inside the process: enough for stages to meet.
const N_WORKERS: usize = 2;

/// What `meshwork demo` is told.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// The folder for sample sources; made if it is not there, and used again.
    #[arg(long, default_value = ".demo")]
    pub folder: PathBuf,
    /// The scale factor of the TPC-H tables.
    #[arg(long, default_value_t = 0.1)]
    pub scale: f64,
    /// The address of the Flight SQL door; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8815")]
    pub listen: SocketAddr,
    /// Ends after the three queries instead of staying up.
    #[arg(long)]
    pub once: bool,
}

/// Runs the demo until Ctrl-C.
///
/// # Errors
/// When a source cannot be laid out, the node cannot start, or a query fails.
pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let sources = sources::lay(&args.folder, args.scale).await?;
    say("starting a coordinator with two workers in this process");
    let node = node::start_standalone(&standalone(&args)).await?;
    let mut client = Client::connect(&node.server_url()).await?;
    clicks::fill(&mut client).await?;
    queries::show(&mut client).await?;
    if !args.once {
        queries::invite(&node.server_url());
        tokio::signal::ctrl_c().await?;
    }
    node.stop().await;
    drop(sources);
    Ok(ExitCode::SUCCESS)
}

fn standalone(args: &DemoArgs) -> StandaloneArgs {
    let node = NodeArgs {
        etc: args.folder.join("etc"),
        root: args.folder.join("root").to_string_lossy().into_owned(),
        memory_max_mb: None,
        listen: args.listen,
        tls_certificate: None,
        tls_key: None,
        catalog: Some("lake".to_owned()),
        schema: Some("tpch".to_owned()),
    };
    StandaloneArgs { node, workers: N_WORKERS }
}

/// Tells the user what happens.
#[expect(clippy::print_stdout, reason = "the demo talks to its user")]
fn say(text: &str) {
    println!("{text}");
}
