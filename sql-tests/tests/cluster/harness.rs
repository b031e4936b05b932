//! A coordinator's half of a cluster and its workers, as real nodes in this process.

use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::{Result, ensure};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::memory::MemorySchemaProvider;
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, SchemaProvider};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;
use meshwork::coordinator::cluster::{Cluster as Membership, WorkerNode as Node, serve};
use meshwork::coordinator::fragment::Distribution;
use meshwork::coordinator::schedule::{Planned, RunOptions, run};
use meshwork::worker::{LocalWorkers, WorkerConfig, WorkerNode, local};
use meshwork_engine::catalog::{CatalogDefinition, CatalogRegistry, Secret};
use meshwork_engine::connector::ReadVersion;
use meshwork_engine::environment::{self, Runtimes, Task};
use meshwork_engine::node::{ANNOUNCE_PATH, Announcement, NodeState, SECRET_HEADER, VERSION};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::{Error, functions};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use url::Url;

use crate::numbers;

pub(crate) const SECRET: &str = "a shared secret";

/// The two runtimes of a process, as the binary has them.
static RUNTIMES: LazyLock<(Runtime, Runtime)> = LazyLock::new(|| {
    let runtime = |threads| {
        Builder::new_multi_thread().worker_threads(threads).enable_all().build().expect("a runtime")
    };
    (runtime(2), runtime(2))
});

/// Runs a test as a process runs: waiting on one runtime, computing on the other.
pub(crate) fn on_runtimes<T>(test: impl Future<Output = T>) -> T {
    let (io, cpu) = &*RUNTIMES;
    environment::set_runtimes(Runtimes {
        io: io.handle().clone(),
        cpu: cpu.handle().clone(),
        quick: cpu.handle().clone(),
    });
    io.block_on(test)
}

/// A cluster in this process.
pub(crate) struct Cluster {
    membership: Arc<Membership>,
    catalogs: Arc<CatalogRegistry>,
    address: Url,
    workers: Vec<WorkerNode>,
    _server: Task<Result<(), Error>>,
}

/// A query whose rows are being made.
pub(crate) struct Running {
    pub(crate) rows: SendableRecordBatchStream,
}

impl Running {
    pub(crate) async fn collect(self) -> Result<Vec<RecordBatch>, Error> {
        Ok(self.rows.try_collect().await?)
    }
}

/// A worker that accepts connections and never answers; it announces itself all the same.
pub(crate) struct Mute {
    _announcing: Task<()>,
    _accepting: Task<()>,
}

impl Cluster {
    /// Starts a coordinator and workers, and waits until all have joined.
    pub(crate) async fn start(n_workers: usize) -> Result<Self> {
        let catalogs = empty_catalogs();
        for (name, kind) in [("numbers", "numbers"), ("tpch", "tpch")] {
            catalogs.define(definition(name, kind));
        }
        let membership = Membership::new(Some(secret(SECRET)), Arc::clone(&catalogs));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = Url::parse(&format!("http://{}/", listener.local_addr()?))?;
        let server = environment::spawn("coordinator", serve(Arc::clone(&membership), listener));
        let mut cluster = Self { membership, catalogs, address, workers: vec![], _server: server };
        for _ in 0..n_workers {
            cluster.workers.push(cluster.worker_with_secret(SECRET).await?);
        }
        let joined = || cluster.membership.workers().len() == n_workers;
        eventually(Duration::from_secs(3), "workers to join", joined).await?;
        Ok(cluster)
    }

    pub(crate) async fn worker_with_secret(&self, text: &str) -> Result<WorkerNode> {
        start_worker(self.address.clone(), text).await
    }

    /// The answer of one node.
    pub(crate) async fn plain(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        let planned = plan(&self.catalogs, None, "numbers", sql, 2).await?;
        let rows = run(planned, RunOptions::default(), |retry| async { Err(retry.cause) });
        Ok(rows.try_collect().await?)
    }

    /// The answer of the cluster.
    pub(crate) async fn query(
        &self,
        sql: &str,
        n_partitions: usize,
    ) -> Result<Vec<RecordBatch>, Error> {
        self.query_catalog("numbers", sql, n_partitions).await
    }

    pub(crate) async fn query_catalog(
        &self,
        catalog: &'static str,
        sql: &str,
        n_partitions: usize,
    ) -> Result<Vec<RecordBatch>, Error> {
        self.start_in(catalog, sql, n_partitions).await?.collect().await
    }

    /// Workers that share this process and its catalogs.
    pub(crate) fn local_workers(&self, n: usize) -> Result<Arc<LocalWorkers>> {
        Ok(local(n, &self.catalogs, &[], None)?)
    }

    pub(crate) async fn query_local(
        &self,
        local: &Arc<LocalWorkers>,
        sql: &str,
        n_partitions: usize,
    ) -> Result<Vec<RecordBatch>, Error> {
        let catalogs = Arc::clone(&self.catalogs);
        let distribution = Distribution::among(local.resolver(), local.channels(), catalogs);
        let planned =
            plan(&self.catalogs, Some(&distribution), "numbers", sql, n_partitions).await?;
        let rows = run(planned, RunOptions::default(), |retry| async { Err(retry.cause) });
        Running { rows }.collect().await
    }

    pub(crate) async fn start_query(
        &self,
        sql: &str,
        n_partitions: usize,
    ) -> Result<Running, Error> {
        self.start_in("numbers", sql, n_partitions).await
    }

    async fn start_in(
        &self,
        catalog: &'static str,
        sql: &str,
        n_partitions: usize,
    ) -> Result<Running, Error> {
        let distribution = Distribution::over(&self.membership);
        let (catalogs, sql) = (Arc::clone(&self.catalogs), sql.to_owned());
        let replan = move |_retry| {
            let (catalogs, distribution) = (Arc::clone(&catalogs), distribution.clone());
            let sql = sql.clone();
            async move { plan(&catalogs, Some(&distribution), catalog, &sql, n_partitions).await }
        };
        let first = replan(None).await?;
        let cluster = Some(Arc::clone(&self.membership));
        let rows =
            run(first, RunOptions { deadline: None, cluster }, move |retry| replan(Some(retry)));
        Ok(Running { rows })
    }

    pub(crate) async fn plan(&self, sql: &str, n_partitions: usize) -> Result<Planned, Error> {
        let distribution = Distribution::over(&self.membership);
        plan(&self.catalogs, Some(&distribution), "numbers", sql, n_partitions).await
    }

    pub(crate) fn define(&self, name: &str) {
        self.catalogs.define(definition(name, "numbers"));
    }

    pub(crate) fn active(&self) -> Vec<Url> {
        self.membership.workers()
    }

    pub(crate) fn address(&self) -> &Url {
        &self.address
    }

    pub(crate) fn nodes(&self) -> Vec<Node> {
        self.membership.nodes()
    }

    /// Waits until so many workers get tasks.
    pub(crate) async fn has_active(&self, n: usize, limit: Duration) -> Result<()> {
        eventually(limit, "the number of workers", || self.active().len() == n).await
    }

    /// Waits until tasks run.
    pub(crate) async fn busy(&self) -> Result<()> {
        let busy = || self.n_tasks_running() > 0;
        eventually(Duration::from_secs(5), "tasks to run", busy).await
    }

    pub(crate) async fn is_idle_within(&self, limit: Duration) -> Result<()> {
        eventually(limit, "tasks to end", || self.n_tasks_running() == 0).await
    }

    fn n_tasks_running(&self) -> usize {
        self.workers.iter().map(WorkerNode::n_tasks_running).sum()
    }

    pub(crate) fn drain_worker(&mut self) -> impl Future<Output = usize> + use<> {
        let worker = self.workers.remove(0);
        async move { worker.drain(Duration::from_secs(20)).await }
    }

    /// Adds a worker that takes connections and says nothing.
    pub(crate) async fn add_mute_worker(&self) -> Result<Mute> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = Url::parse(&format!("http://{}/", listener.local_addr()?))?;
        let accepting = environment::spawn("mute", async move {
            #[expect(clippy::collection_is_never_read, reason = "a dropped connection is closed")]
            let mut held = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                held.push(connection);
            }
        });
        let to = self.address.join(ANNOUNCE_PATH)?;
        let announcing = {
            let url = url.clone();
            environment::spawn("mute", async move { announce_forever(url, to).await })
        };
        let joined = || self.membership.workers().contains(&url);
        eventually(Duration::from_secs(3), "the mute worker to join", joined).await?;
        Ok(Mute { _announcing: announcing, _accepting: accepting })
    }
}

/// Starts a worker on a free port.
pub(crate) async fn start_worker(coordinator: Url, text: &str) -> Result<WorkerNode> {
    let config = WorkerConfig {
        listen: "127.0.0.1:0".parse()?,
        advertise: None,
        coordinator,
        secret: Some(secret(text)),
        catalogs: empty_catalogs(),
        codecs: Vec::new(),
        prepare: None,
    };
    Ok(WorkerNode::start(config).await?)
}

async fn announce_forever(url: Url, to: Url) {
    let announcement = Announcement {
        url,
        version: VERSION.to_owned(),
        instance: "mute".to_owned(),
        state: NodeState::Active,
        n_tasks_running: 0,
        tasks: Vec::new(),
    };
    let client = reqwest::Client::new();
    loop {
        let sent = client.post(to.clone()).header(SECRET_HEADER, SECRET).json(&announcement);
        drop(sent.send().await);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn plan(
    catalogs: &Arc<CatalogRegistry>,
    distribution: Option<&Distribution>,
    catalog: &str,
    sql: &str,
    n_partitions: usize,
) -> Result<Planned, Error> {
    let mut settings = QuerySettings::default();
    settings.catalogs_generation = catalogs.generation();
    settings.batch_size = 512;
    let config = SessionConfig::new().with_target_partitions(n_partitions).with_batch_size(512);
    let builder = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_runtime_env(Arc::clone(catalogs.runtime()));
    let mut builder = functions::register(builder);
    if let Some(distribution) = distribution {
        builder = distribution.configure(builder, &settings)?;
    }
    let context = SessionContext::new_with_state(builder.build());
    let schema = Arc::new(MemorySchemaProvider::new());
    let scope = QueryScope::new(settings);
    for (catalog, in_schema) in [(catalog, "public"), ("tpch", "sf0.01")] {
        let connector = catalogs.connector(catalog)?;
        for entry in connector.tables(in_schema).await? {
            let table =
                connector.table(in_schema, &entry.name, ReadVersion::Committed, &scope).await?;
            let table = table.ok_or_else(|| Error::internal("a listed table"))?;
            schema.register_table(entry.name, table)?;
        }
    }
    let tables = MemoryCatalogProvider::new();
    tables.register_schema("public", schema)?;
    context.register_catalog("datafusion", Arc::new(tables));
    let state = context.state();
    let logical = state.create_logical_plan(sql).await?;
    let plan = state.create_physical_plan(&logical).await?;
    Planned::new(plan, state.task_ctx())
}

fn empty_catalogs() -> Arc<CatalogRegistry> {
    Arc::new(CatalogRegistry::new(numbers::make, Arc::new(RuntimeEnv::default())))
}

fn definition(name: &str, kind: &str) -> CatalogDefinition {
    CatalogDefinition {
        name: name.to_owned(),
        kind: kind.to_owned(),
        properties: Default::default(),
    }
}

fn secret(text: &str) -> Secret {
    Secret::from(text.to_owned())
}

pub(crate) async fn eventually(
    limit: Duration,
    what: &str,
    holds: impl Fn() -> bool,
) -> Result<()> {
    let started = environment::instant();
    while !holds() {
        ensure!(started.elapsed() < limit, "waited {limit:?} for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
