//! A worker as a node of a cluster: serves tasks, announces itself, drains, leaves.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use datafusion_distributed::Worker;
use datafusion_proto::physical_plan::PhysicalExtensionCodec;
use meshwork_engine::catalog::{CatalogRegistry, Secret};
use meshwork_engine::codec::channel::Channels;
use meshwork_engine::environment::{self, Task};
use meshwork_engine::node::{Announcement, NodeState, VERSION};
use meshwork_engine::{Error, Result};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use url::Url;

use crate::control::Control;
use crate::gate::GateLayer;
use crate::keeper;
use crate::lender::ClusterLender;
use crate::session::{Prepare, TaskSessions};
use crate::tasks::Tasks;

/// How often a worker says that it lives.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);
/// How often a draining worker looks whether its tasks have ended.
const DRAIN_INTERVAL: Duration = Duration::from_millis(100);
/// How often, and for how long, a silent client is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(4);
/// Tasks of all queries between two nodes share one connection; this many streams may be open on it.
const STREAMS_MAX: u32 = 1 << 20;
/// A cancelled query resets all its streams at once, which is no attack.
const RESETS_MAX: usize = 1 << 16;
/// Bytes that a client may have on its way to us: plans.
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// What a worker needs to start.
#[derive(Clone)]
pub struct WorkerConfig {
    /// Where to listen; port 0 for any.
    pub listen: SocketAddr,
    /// Where others reach this worker, if that is not where it listens.
    pub advertise: Option<Url>,
    /// The coordinator's internal address.
    pub coordinator: Url,
    /// The cluster's secret, if it has one.
    pub secret: Option<Secret>,
    /// The worker's catalogs, to be filled from the coordinator; their runtime bounds its memory.
    pub catalogs: Arc<CatalogRegistry>,
    /// Codecs beside the one for remote scans.
    pub codecs: Vec<Arc<dyn PhysicalExtensionCodec>>,
    /// What to add to each session.
    pub prepare: Option<Prepare>,
}

impl fmt::Debug for WorkerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerConfig")
            .field("listen", &self.listen)
            .field("advertise", &self.advertise)
            .field("coordinator", &self.coordinator)
            .finish_non_exhaustive()
    }
}

/// A running worker; dropping it ends it at once.
#[derive(Debug)]
pub struct WorkerNode {
    url: Url,
    tasks: Arc<Tasks>,
    draining: Arc<AtomicBool>,
    presence: Arc<Presence>,
    refused: watch::Receiver<Option<Error>>,
    _announcing: Task<()>,
    _keeper: Task<()>,
    _server: Task<()>,
}

impl WorkerNode {
    /// Starts to serve and to announce itself. Returns when it listens, not when the coordinator knows.
    pub async fn start(config: WorkerConfig) -> Result<Self> {
        let listener = TcpListener::bind(config.listen).await.map_err(|e| {
            Error::user(
                "CLUSTER_CONFIGURATION",
                format!("address {} cannot be used", config.listen),
            )
            .caused_by(&e)
        })?;
        let url = advertised(&config, &listener)?;
        let tasks = Arc::new(Tasks::default());
        let draining = Arc::new(AtomicBool::new(false));
        let control = Arc::new(Control::new(
            config.coordinator.clone(),
            config.secret.clone(),
            Arc::clone(&config.catalogs),
        )?);
        let lender = ClusterLender::new(url.clone(), Arc::clone(&control));
        config.catalogs.borrow_from(Arc::new(lender));
        let sessions = TaskSessions {
            catalogs: Arc::clone(&config.catalogs),
            channels: Arc::new(Channels::new(config.secret.clone())),
            codecs: config.codecs,
            prepare: config.prepare,
            control: Some(Arc::clone(&control)),
            tasks: Arc::clone(&tasks),
        };
        let worker = Worker::from_session_builder(sessions)
            .with_runtime_env(Arc::clone(config.catalogs.runtime()))
            .with_version(VERSION);
        let gate = GateLayer {
            secret: config.secret,
            draining: Arc::clone(&draining),
            tasks: Arc::clone(&tasks),
        };
        let presence = Arc::new(Presence { url: url.clone(), instance: instance(), control });
        let (refusal, refused) = watch::channel(None);
        tracing::info!(worker = %url, coordinator = %config.coordinator, "worker listens");
        Ok(Self {
            _keeper: keeper::keep(worker.clone(), Arc::clone(&tasks)),
            _server: serve(listener, worker, gate),
            _announcing: environment::spawn_on(
                &environment::io_runtime(),
                "announcing",
                announce(Arc::clone(&presence), Arc::clone(&tasks), Arc::clone(&draining), refusal),
            ),
            url,
            tasks,
            draining,
            presence,
            refused,
        })
    }

    /// Where others reach this worker.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// How many tasks are here: planned, waiting or running.
    pub fn n_tasks_running(&self) -> usize {
        self.tasks.n_running()
    }

    /// Waits until the coordinator refuses this worker for good: another version, another secret.
    pub async fn refused(&self) -> Error {
        let mut refused = self.refused.clone();
        loop {
            if let Some(error) = refused.borrow_and_update().clone() {
                return error;
            }
            if refused.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Takes no new tasks, waits for those it has, `deadline` at most, and leaves the cluster. Returns how
    /// many tasks were cut off.
    pub async fn drain(&self, deadline: Duration) -> usize {
        self.draining.store(true, Ordering::Release);
        self.presence.tell(NodeState::Draining, &self.tasks).await;
        let idle = async {
            while self.n_tasks_running() > 0 {
                tokio::time::sleep(DRAIN_INTERVAL).await;
            }
        };
        let cut_off = match environment::within(deadline, "draining", idle).await {
            Ok(()) => 0,
            Err(_too_late) => self.n_tasks_running(),
        };
        self.presence.tell(NodeState::Left, &self.tasks).await;
        tracing::info!(worker = %self.url, cut_off, "worker drained");
        cut_off
    }
}

/// How the worker appears to its coordinator.
#[derive(Debug)]
struct Presence {
    url: Url,
    instance: String,
    control: Arc<Control>,
}

impl Presence {
    async fn announce(&self, state: NodeState, tasks: &Tasks) -> Result<()> {
        let announcement = Announcement {
            url: self.url.clone(),
            version: VERSION.to_owned(),
            instance: self.instance.clone(),
            state,
            n_tasks_running: tasks.n_running(),
            tasks: tasks.statuses(),
        };
        self.control.announce(&announcement).await
    }

    /// Announces; a coordinator that does not hear it will miss the worker by itself.
    async fn tell(&self, state: NodeState, tasks: &Tasks) {
        if let Err(error) = self.announce(state, tasks).await {
            tracing::warn!(coordinator = %self.control.coordinator(), %error, "not heard");
        }
    }
}

async fn announce(
    presence: Arc<Presence>,
    tasks: Arc<Tasks>,
    draining: Arc<AtomicBool>,
    refusal: watch::Sender<Option<Error>>,
) {
    let mut heard = true;
    loop {
        // The last word of a worker that drains is that it left, and `drain` says it.
        if !draining.load(Ordering::Acquire) || tasks.n_running() > 0 {
            let state = match draining.load(Ordering::Acquire) {
                true => NodeState::Draining,
                false => NodeState::Active,
            };
            match presence.announce(state, &tasks).await {
                Ok(()) => heard = true,
                Err(error) if error.code == "WORKER_REFUSED" => {
                    refusal.send_replace(Some(error));
                    return;
                }
                Err(error) => {
                    if std::mem::take(&mut heard) {
                        tracing::warn!(%error, causes = ?error.causes, "announcing goes on");
                    }
                }
            }
        }
        tokio::time::sleep(ANNOUNCE_INTERVAL).await;
    }
}

fn serve(listener: TcpListener, worker: Worker, gate: GateLayer) -> Task<()> {
    let server = Server::builder()
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .max_concurrent_streams(Some(STREAMS_MAX))
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(RESETS_MAX))
        .initial_connection_window_size(Some(CONNECTION_WINDOW_BYTES))
        .layer(gate)
        .add_service(worker.into_worker_server());
    // Without it the last rows of a stage wait 40 ms for an acknowledgement. The builder's own option is not
    // applied to connections that are accepted here.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = async move {
        if let Err(error) = server.serve_with_incoming(incoming).await {
            tracing::error!(%error, "worker stopped serving");
        }
    };
    environment::spawn_on(&environment::io_runtime(), "worker server", serving)
}

fn advertised(config: &WorkerConfig, listener: &TcpListener) -> Result<Url> {
    if let Some(url) = &config.advertise {
        return Ok(url.clone());
    }
    let address = listener
        .local_addr()
        .map_err(|e| Error::internal("the listener's address").caused_by(&e))?;
    if address.ip().is_unspecified() {
        let message = format!("others cannot reach a worker at {address}");
        return Err(Error::user("CLUSTER_CONFIGURATION", message)
            .with_hint("Name the address under which other nodes reach this one."));
    }
    Url::parse(&format!("http://{address}/"))
        .map_err(|e| Error::internal(format!("address {address}")).caused_by(&e))
}

/// Names this process apart from others at the same address before and after it.
fn instance() -> String {
    format!("{:x}-{:x}", environment::unix_micros(), std::process::id())
}
