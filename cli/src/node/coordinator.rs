//! A coordinator and a standalone node: the same code, with or without an address for workers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use meshwork_coordinator::cluster::{self, Cluster};
use meshwork_coordinator::fragment::Distribution;
use meshwork_coordinator::frontend::flight_sql::{self, Tls};
use meshwork_coordinator::frontend::users::Users;
use meshwork_coordinator::{
    Coordinator, CoordinatorParts, Definitions, History, NodeRow, Nodes, Quarantine, Resolver,
    Snapshot, SystemTables, read_catalog_files,
};
use meshwork_engine::catalog::{CatalogRegistry, Secret};
use meshwork_engine::environment::{self, Task};
use meshwork_engine::functions;
use meshwork_engine::node::VERSION;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::args::{CoordinatorArgs, NodeArgs, StandaloneArgs};
use super::{memory, root};

/// How often definitions that other coordinators made are read.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// How long running requests may go on once the node is told to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// The environment variable that holds the secret that nodes show each other.
pub(super) const SECRET_VARIABLE: &str = "MESHWORK_CLUSTER_SECRET";

/// A running coordinator. Dropping it ends it.
#[derive(Debug)]
pub struct CoordinatorNode {
    coordinator: Arc<Coordinator>,
    address: SocketAddr,
    internal: Option<SocketAddr>,
    tls: bool,
    stop: CancellationToken,
    door: Option<Task<meshwork_engine::Result<()>>>,
    _others: Vec<Task<()>>,
}

impl CoordinatorNode {
    /// What plans and runs queries here.
    pub fn coordinator(&self) -> &Arc<Coordinator> {
        &self.coordinator
    }

    /// The URL that clients connect to.
    pub fn server_url(&self) -> String {
        let scheme = if self.tls { "grpc+tls" } else { "grpc" };
        format!("{scheme}://{}", self.address)
    }

    /// The address of the Flight SQL door.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address that workers announce themselves at, if workers can join.
    pub fn internal_address(&self) -> Option<SocketAddr> {
        self.internal
    }

    /// Refuses new requests, lets running ones finish for ten seconds, and ends.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let Some(door) = self.door.take() else { return };
        match tokio::time::timeout(STOP_DEADLINE, door).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error)) | Err(error)) => {
                tracing::warn!(%error, "the door ended with an error");
            }
            Err(_elapsed) => tracing::warn!("requests that still run are ended"),
        }
    }
}

/// Starts a node that needs no others.
///
/// # Errors
/// When a file of the configuration is wrong, the root cannot be used, or the address is taken.
pub async fn start_standalone(args: &StandaloneArgs) -> anyhow::Result<CoordinatorNode> {
    let catalogs = registry(&args.node)?;
    let workers = meshwork_worker::local(args.workers, &catalogs, &[], Some(functions::register))?;
    let distribution =
        Distribution::among(workers.resolver(), workers.channels(), Arc::clone(&catalogs));
    let nodes: Nodes = Arc::new(move || {
        let n_tasks = workers.n_tasks_running() as u64;
        vec![NodeRow { n_tasks, tasks: workers.tasks(), ..this_node("in process") }]
    });
    start(&args.node, catalogs, distribution, None, nodes).await
}

/// Starts a node that workers join.
///
/// # Errors
/// When a file of the configuration is wrong, the root cannot be used, or an address is taken.
pub async fn start_coordinator(args: &CoordinatorArgs) -> anyhow::Result<CoordinatorNode> {
    let catalogs = registry(&args.node)?;
    let cluster = Cluster::new(cluster_secret(), Arc::clone(&catalogs));
    let listener = bind(args.internal).await?;
    let internal = listener.local_addr()?;
    let distribution = Distribution::over(&cluster);
    let shown = (Arc::clone(&cluster), format!("http://{internal}"));
    let nodes: Nodes = Arc::new(move || {
        let workers = shown.0.nodes().into_iter().map(|worker| NodeRow {
            id: worker.instance,
            url: worker.url.to_string(),
            version: worker.version,
            state: worker.status.as_str().to_owned(),
            coordinator: false,
            n_tasks: worker.n_tasks_running as u64,
            tasks: worker.tasks,
        });
        std::iter::once(this_node(&shown.1)).chain(workers).collect()
    });
    let served = Arc::clone(&cluster);
    let door = environment::spawn("internal door", async move {
        if let Err(error) = cluster::serve(served, listener).await {
            tracing::error!(%error, "workers cannot announce themselves any more");
        }
    });
    let mut node = start(&args.node, catalogs, distribution, Some(cluster), nodes).await?;
    node.internal = Some(internal);
    node._others.push(door);
    Ok(node)
}

async fn start(
    args: &NodeArgs,
    catalogs: Arc<CatalogRegistry>,
    distribution: Distribution,
    cluster: Option<Arc<Cluster>>,
    nodes: Nodes,
) -> anyhow::Result<CoordinatorNode> {
    let definitions = Definitions::open(root::open(&args.root)?).await?;
    let files = read_catalog_files(&args.etc.join("catalog"))?;
    files.into_iter().for_each(|definition| catalogs.define(definition));
    let refresh =
        Refresh { catalogs: Arc::clone(&catalogs), definitions: Arc::clone(&definitions) };
    refresh.apply();
    let history = Arc::new(History::default());
    let quarantine = Arc::new(Quarantine::default());
    let system = SystemTables::new(
        Arc::clone(&catalogs),
        Arc::clone(&history),
        Arc::clone(&quarantine),
        nodes,
    );
    let resolver = Resolver::new(Arc::clone(&catalogs), definitions, system);
    let mut session_defaults = Snapshot::default();
    session_defaults.catalog.clone_from(&args.catalog);
    session_defaults.schema.clone_from(&args.schema);
    let coordinator = Coordinator::new(CoordinatorParts {
        catalogs,
        resolver,
        history,
        session_defaults,
        distribution,
        cluster,
        quarantine,
    });
    let listener = bind(args.listen).await?;
    let address = listener.local_addr()?;
    let tls = read_tls(args)?;
    let users = Users::from_configuration(&read_users(&args.etc)?)?;
    let (has_tls, stop) = (tls.is_some(), CancellationToken::new());
    let door = flight_sql::serve(Arc::clone(&coordinator), users, listener, tls, stop.clone());
    Ok(CoordinatorNode {
        coordinator,
        address,
        internal: None,
        tls: has_tls,
        stop,
        door: Some(environment::spawn("flight sql door", door)),
        _others: vec![environment::spawn("refresh definitions", refresh.forever())],
    })
}

/// Takes over what other coordinators define.
struct Refresh {
    catalogs: Arc<CatalogRegistry>,
    definitions: Arc<Definitions>,
}

impl Refresh {
    /// Catalogs from files win over defined ones of the same name; they are never touched here.
    fn apply(&self) {
        let known: BTreeMap<_, _> = self
            .catalogs
            .definitions()
            .into_iter()
            .map(|known| (known.name.clone(), known))
            .collect();
        for definition in self.definitions.catalogs() {
            if !known.contains_key(&definition.name) {
                self.catalogs.define(definition);
            }
        }
    }

    async fn forever(self) {
        let mut defined = self.definitions.catalogs();
        loop {
            tokio::time::sleep(REFRESH_INTERVAL).await;
            let refreshed = self.definitions.refresh_then(|now| {
                for gone in defined.iter().filter(|was| !now.iter().any(|is| is.name == was.name)) {
                    self.catalogs.remove(&gone.name);
                }
                self.apply();
                defined = now;
            });
            if let Err(error) = refreshed.await {
                tracing::warn!(%error, "definitions cannot be refreshed");
            }
        }
    }
}

pub(super) fn registry(args: &NodeArgs) -> anyhow::Result<Arc<CatalogRegistry>> {
    let runtime = memory::runtime_env(args.memory_max_mb)?;
    Ok(Arc::new(CatalogRegistry::new(meshwork_connectors::make, runtime)))
}

pub(super) fn cluster_secret() -> Option<Secret> {
    std::env::var(SECRET_VARIABLE).ok().filter(|secret| !secret.is_empty()).map(Secret::from)
}

fn this_node(url: &str) -> NodeRow {
    NodeRow {
        id: "coordinator".to_owned(),
        url: url.to_owned(),
        version: VERSION.to_owned(),
        state: "active".to_owned(),
        coordinator: true,
        n_tasks: 0,
        tasks: Vec::new(),
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

fn read_tls(args: &NodeArgs) -> anyhow::Result<Option<Tls>> {
    let (Some(certificate), Some(key)) = (&args.tls_certificate, &args.tls_key) else {
        return Ok(None);
    };
    Ok(Some(Tls { certificate: read(certificate)?, key: read(key)? }))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Reads `users.toml`; a file that is not there means that everybody is let in.
fn read_users(etc: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    #[derive(serde::Deserialize)]
    struct File {
        users: BTreeMap<String, String>,
    }
    let path = etc.join("users.toml");
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let text = String::from_utf8(read(&path)?).context("users.toml is not UTF-8")?;
    // The parser's own message could quote a password.
    let file: File = toml::from_str(&text).map_err(|_quotes| {
        anyhow::anyhow!("{} is not of the form [users] name = \"password\"", path.display())
    })?;
    Ok(file.users)
}
