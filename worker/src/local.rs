//! Workers inside the coordinator's own process: plans are encoded as for a remote worker, so that no two
//! tasks share a node of a plan, but batches are handed over as they are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::common::Result as DataFusionResult;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_distributed::{
    ChannelResolver, CoordinatorToWorkerMsg, ExecuteTaskRequest, GetWorkerInfoRequest,
    GetWorkerInfoResponse, MaybeEncoded, SetPlanRequest, Worker, WorkerChannel, WorkerResolver,
    WorkerToCoordinatorMsg,
};
use datafusion_proto::physical_plan::PhysicalExtensionCodec;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::HeaderMap;
use meshwork_engine::catalog::CatalogRegistry;
use meshwork_engine::codec::channel::name_task;
use meshwork_engine::environment::Task;
use meshwork_engine::node::{TaskStatus, VERSION};
use meshwork_engine::{Error, Result};
use url::Url;

use crate::gate::QueryEnd;
use crate::keeper;
use crate::session::{Prepare, TaskSessions};
use crate::tasks::Tasks;

/// Workers of this process; both the list of them and the way to each.
pub struct LocalWorkers {
    workers: BTreeMap<Url, LocalWorker>,
}

struct LocalWorker {
    worker: Worker,
    tasks: Arc<Tasks>,
    _keeper: Task<()>,
}

/// Starts `n` workers in this process, which share the coordinator's catalogs and their runtime. Call it
/// inside a Tokio runtime.
pub fn local(
    n: usize,
    catalogs: &Arc<CatalogRegistry>,
    codecs: &[Arc<dyn PhysicalExtensionCodec>],
    prepare: Option<Prepare>,
) -> Result<Arc<LocalWorkers>> {
    let urls = (1..=n)
        .map(|index| Url::parse(&format!("http://local-{index}/")))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Error::internal("the address of a local worker").caused_by(&e))?;
    Ok(Arc::new_cyclic(|all: &Weak<LocalWorkers>| {
        let start = |url: Url| {
            let tasks = Arc::new(Tasks::default());
            let worker = Worker::from_session_builder(TaskSessions {
                catalogs: Arc::clone(catalogs),
                channels: Arc::new(Neighbours(Weak::clone(all))),
                codecs: codecs.to_vec(),
                prepare,
                control: None,
                tasks: Arc::clone(&tasks),
            })
            .with_runtime_env(Arc::clone(catalogs.runtime()))
            .with_version(VERSION);
            let keeper = keeper::keep(worker.clone(), Arc::clone(&tasks));
            (url, LocalWorker { worker, tasks, _keeper: keeper })
        };
        LocalWorkers { workers: urls.into_iter().map(start).collect() }
    }))
}

impl LocalWorkers {
    /// How many tasks all of them have: planned, waiting or running.
    pub fn n_tasks_running(&self) -> usize {
        self.workers.values().map(|local| local.tasks.n_running()).sum()
    }

    /// How far the tasks of all of them are.
    pub fn tasks(&self) -> Vec<TaskStatus> {
        self.workers.values().flat_map(|local| local.tasks.statuses()).collect()
    }

    /// The list of workers, as the coordinator asks for it.
    pub fn resolver(self: &Arc<Self>) -> Arc<dyn WorkerResolver> {
        Arc::clone(self) as _
    }

    /// The way to each worker, as the coordinator asks for it.
    pub fn channels(self: &Arc<Self>) -> Arc<dyn ChannelResolver + Send + Sync> {
        Arc::clone(self) as _
    }
}

impl fmt::Debug for LocalWorkers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalWorkers").field("workers", &self.workers.keys()).finish()
    }
}

impl WorkerResolver for LocalWorkers {
    fn get_urls(&self) -> DataFusionResult<Vec<Url>> {
        Ok(self.workers.keys().cloned().collect())
    }
}

#[async_trait]
impl ChannelResolver for LocalWorkers {
    async fn get_worker_client_for_url(
        &self,
        url: &Url,
    ) -> DataFusionResult<Box<dyn WorkerChannel>> {
        let Some(local) = self.workers.get(url) else {
            return Err(Error::internal(format!("{url} is no worker of this process")).into());
        };
        Ok(Box::new(LocalChannel { worker: local.worker.clone(), tasks: Arc::clone(&local.tasks) }))
    }
}

/// The other workers, as one of them sees them.
struct Neighbours(Weak<LocalWorkers>);

#[async_trait]
impl ChannelResolver for Neighbours {
    async fn get_worker_client_for_url(
        &self,
        url: &Url,
    ) -> DataFusionResult<Box<dyn WorkerChannel>> {
        match self.0.upgrade() {
            Some(all) => all.get_worker_client_for_url(url).await,
            None => Err(Error::cancelled("the workers of this process have ended").into()),
        }
    }
}

struct LocalChannel {
    worker: Worker,
    tasks: Arc<Tasks>,
}

#[async_trait]
impl WorkerChannel for LocalChannel {
    async fn coordinator_channel(
        &mut self,
        mut headers: HeaderMap,
        mut request: SetPlanRequest,
        messages: BoxStream<'static, CoordinatorToWorkerMsg>,
        _metrics: ExecutionPlanMetricsSet,
        task_ctx: &Arc<TaskContext>,
    ) -> DataFusionResult<BoxStream<'static, DataFusionResult<WorkerToCoordinatorMsg>>> {
        name_task(&mut headers, &request.task_key)?;
        request.plan = MaybeEncoded::Encoded(request.plan.encode(task_ctx)?);
        let end = QueryEnd { tasks: Arc::clone(&self.tasks), key: request.task_key };
        let messages = messages.map(move |message| {
            let _held = &end;
            Ok(message)
        });
        self.worker.coordinator_channel(headers, request, messages.boxed()).await
    }

    async fn execute_task(
        &mut self,
        _headers: HeaderMap,
        request: ExecuteTaskRequest,
        _metrics: ExecutionPlanMetricsSet,
        _task_ctx: &Arc<TaskContext>,
    ) -> DataFusionResult<Vec<BoxStream<'static, DataFusionResult<RecordBatch>>>> {
        let (streams, _task_ctx) = self.worker.execute_task(request).await?;
        Ok(streams.into_iter().map(StreamExt::boxed).collect())
    }

    async fn get_worker_info(
        &mut self,
        _request: GetWorkerInfoRequest,
    ) -> DataFusionResult<GetWorkerInfoResponse> {
        Ok(GetWorkerInfoResponse { version: self.worker.version().to_owned() })
    }
}
