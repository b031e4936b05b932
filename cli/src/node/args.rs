//! What nodes are told on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use url::Url;

/// What every node is told.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// The folder of configuration: `catalog/<name>.toml` and `users.toml`.
    #[arg(long, default_value = "etc", env = "MESHWORK_ETC")]
    pub etc: PathBuf,
    /// Where everything durable is kept: a folder, or `s3://bucket/prefix`.
    #[arg(long, default_value = ".meshwork", env = "MESHWORK_ROOT")]
    pub root: String,
    /// Memory that queries may take, in MiB; 70 % of the machine's if it is not given.
    #[arg(long)]
    pub memory_max_mb: Option<usize>,
    /// The address of the Flight SQL door; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8815")]
    pub listen: SocketAddr,
    /// The TLS certificate of the doors, PEM.
    #[arg(long, requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// The catalog of new sessions.
    #[arg(long)]
    pub catalog: Option<String>,
    /// The schema of new sessions.
    #[arg(long)]
    pub schema: Option<String>,
}

/// What `meshwork standalone` is told.
#[derive(Debug, Clone, Args)]
pub struct StandaloneArgs {
    /// What every node is told.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Workers within the process; with one, queries run as one plan.
    #[arg(long, default_value_t = 1)]
    pub workers: usize,
}

/// What `meshwork coordinator` is told.
#[derive(Debug, Clone, Args)]
pub struct CoordinatorArgs {
    /// What every node is told.
    #[command(flatten)]
    pub node: NodeArgs,
    /// The address that workers announce themselves at; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8816")]
    pub internal: SocketAddr,
}

/// What `meshwork worker` is told.
#[derive(Debug, Clone, Args)]
pub struct WorkerArgs {
    /// Where the coordinator's internal address is: `http://host:8816`.
    #[arg(long, env = "MESHWORK_COORDINATOR")]
    pub coordinator: Url,
    /// The address to serve tasks on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Where other nodes reach this worker, if that is not where it listens.
    #[arg(long)]
    pub advertise: Option<Url>,
    /// Memory that tasks may take, in MiB; 70 % of the machine's if it is not given.
    #[arg(long)]
    pub memory_max_mb: Option<usize>,
    /// Seconds that running tasks may go on once the worker is told to stop.
    #[arg(long, default_value_t = 60)]
    pub drain_s: u64,
}
