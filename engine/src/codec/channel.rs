//! How a node reaches a worker: one HTTP/2 connection per worker, that notices when the other side is gone.
//!
//! The distributed runtime's own channels wait forever for a frozen host. These do not: connecting has a
//! deadline, every connection is pinged, and whatever the transport reports becomes one error that names
//! the worker and may be retried. Errors that a task itself reports pass through unchanged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_distributed::grpc::{BoxCloneSyncChannel, create_worker_client};
use datafusion_distributed::{
    ChannelResolver, CoordinatorToWorkerMsg, ExecuteTaskRequest, GetWorkerInfoRequest,
    GetWorkerInfoResponse, SetPlanRequest, TaskKey, WorkerChannel, WorkerToCoordinatorMsg,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint};
use url::Url;

use crate::catalog::Secret;
use crate::node::{SECRET_HEADER, TASK_HEADER};
use crate::{Error, Result, environment};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the other side is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// How long it may take to answer: together with the interval, a frozen host is noticed within 4 s.
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a worker may take to accept a task.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a worker may take to say that it lives.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that one stream may have on its way.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes that all streams of a connection may have on their way: so many that a stream whose reader waits
/// never takes the window away from the stream that it waits for.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 30;
/// The largest frame: of HTTP/2's usual 16 KiB a batch needs hundreds, each with its own system calls.
const FRAME_BYTES_MAX: u32 = 1 << 20;
/// Connections that are kept; beyond it all are made anew, which only costs time.
const CONNECTIONS_MAX: usize = 4096;

/// The connections of one node to all workers.
#[derive(Debug)]
pub struct Channels {
    secret: Option<Secret>,
    open: Mutex<BTreeMap<Url, Channel>>,
}

impl Channels {
    /// Returns channels that present the cluster's secret, if there is one.
    pub fn new(secret: Option<Secret>) -> Self {
        Self { secret, open: Mutex::default() }
    }

    /// Asks a worker whether it lives; returns its version.
    ///
    /// # Errors
    /// `Resources` with code `WORKER_LOST` when it does not answer within two seconds.
    pub async fn probe(&self, url: &Url) -> Result<String> {
        let mut client = self.client(url)?;
        let answer = environment::within(
            PROBE_TIMEOUT,
            &format!("worker {url}"),
            client.get_worker_info(GetWorkerInfoRequest {}),
        )
        .await
        .map_err(|elapsed| worker_lost(url, &elapsed))?;
        Ok(answer.map_err(|error| classified(url, error))?.version)
    }

    fn client(&self, url: &Url) -> Result<Box<dyn WorkerChannel>> {
        let secret = match &self.secret {
            None => None,
            Some(secret) => Some(secret_header(secret)?),
        };
        let channel = self.channel(url)?;
        Ok(create_worker_client(BoxCloneSyncChannel::new(Authenticated { channel, secret })))
    }

    fn channel(&self, url: &Url) -> Result<Channel> {
        let mut open = self.open.lock();
        if let Some(channel) = open.get(url) {
            return Ok(channel.clone());
        }
        let endpoint = Endpoint::from_shared(url.to_string())
            .map_err(|e| Error::internal(format!("worker address {url}")).caused_by(&e))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX);
        // The connection's own task must not wait behind plans that compute.
        let _on_io = environment::io_runtime().enter();
        let channel = endpoint.connect_lazy();
        if open.len() >= CONNECTIONS_MAX {
            open.clear();
        }
        open.insert(url.clone(), channel.clone());
        Ok(channel)
    }
}

#[async_trait]
impl ChannelResolver for Channels {
    async fn get_worker_client_for_url(
        &self,
        url: &Url,
    ) -> DataFusionResult<Box<dyn WorkerChannel>> {
        Ok(Box::new(NamedChannel { inner: self.client(url)?, url: url.clone() }))
    }
}

/// Returns the secret as a header value that nobody logs.
///
/// # Errors
/// `User` when the secret holds what a header cannot carry.
pub fn secret_header(secret: &Secret) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(secret.expose()).map_err(|_shows_the_secret| {
        Error::user("CLUSTER_CONFIGURATION", "the cluster's secret may hold visible ASCII only")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Adds the cluster's secret to every request.
#[derive(Clone)]
struct Authenticated {
    channel: Channel,
    secret: Option<HeaderValue>,
}

impl Service<http::Request<Body>> for Authenticated {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = <Channel as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(secret) = &self.secret {
            request.headers_mut().insert(SECRET_HEADER, secret.clone());
        }
        self.channel.call(request)
    }
}

/// A channel whose errors name the worker.
struct NamedChannel {
    inner: Box<dyn WorkerChannel>,
    url: Url,
}

#[async_trait]
impl WorkerChannel for NamedChannel {
    async fn coordinator_channel(
        &mut self,
        mut headers: HeaderMap,
        request: SetPlanRequest,
        messages: BoxStream<'static, CoordinatorToWorkerMsg>,
        metrics: ExecutionPlanMetricsSet,
        task_ctx: &Arc<TaskContext>,
    ) -> DataFusionResult<BoxStream<'static, DataFusionResult<WorkerToCoordinatorMsg>>> {
        name_task(&mut headers, &request.task_key)?;
        let url = self.url.clone();
        let accepted =
            self.inner.coordinator_channel(headers, request, messages, metrics, task_ctx);
        let answers = environment::within(ACCEPT_TIMEOUT, "a worker's accepting a task", accepted)
            .await
            .map_err(|elapsed| worker_lost(&url, &elapsed))?
            .map_err(|error| classified(&url, error))?;
        Ok(answers.map(move |answer| Ok(answer.map_err(|e| classified(&url, e))?)).boxed())
    }

    async fn execute_task(
        &mut self,
        headers: HeaderMap,
        request: ExecuteTaskRequest,
        metrics: ExecutionPlanMetricsSet,
        task_ctx: &Arc<TaskContext>,
    ) -> DataFusionResult<Vec<BoxStream<'static, DataFusionResult<RecordBatch>>>> {
        let streams = self
            .inner
            .execute_task(headers, request, metrics, task_ctx)
            .await
            .map_err(|error| classified(&self.url, error))?;
        let named = |stream: BoxStream<'static, DataFusionResult<RecordBatch>>| {
            let url = self.url.clone();
            stream.map(move |batch| Ok(batch.map_err(|e| classified(&url, e))?)).boxed()
        };
        Ok(streams.into_iter().map(named).collect())
    }

    async fn get_worker_info(
        &mut self,
        request: GetWorkerInfoRequest,
    ) -> DataFusionResult<GetWorkerInfoResponse> {
        Ok(self.inner.get_worker_info(request).await.map_err(|e| classified(&self.url, e))?)
    }
}

/// Writes which task a request is about into its headers.
///
/// # Errors
/// `Internal` when the name is no header value, which no id can cause.
pub fn name_task(headers: &mut HeaderMap, key: &TaskKey) -> Result<()> {
    let text = format!("{}/{}/{}", key.query_id, key.stage_id, key.task_number);
    let value = HeaderValue::from_str(&text)
        .map_err(|e| Error::internal(format!("task name \"{text}\"")).caused_by(&e))?;
    headers.insert(HeaderName::from_static(TASK_HEADER), value);
    Ok(())
}

/// Reads which task a request is about.
pub fn named_task(headers: &HeaderMap) -> Option<TaskKey> {
    let mut parts = headers.get(TASK_HEADER)?.to_str().ok()?.split('/');
    Some(TaskKey {
        query_id: parts.next()?.parse().ok()?,
        stage_id: parts.next()?.parse().ok()?,
        task_number: parts.next()?.parse().ok()?,
    })
}

/// The error for a worker that does not answer any more.
fn worker_lost(url: &Url, cause: &(dyn std::error::Error + 'static)) -> Error {
    Error::resources("WORKER_LOST", format!("worker {url} was lost"))
        .with_hint("Run the query again; it will run on the other workers.")
        .caused_by(cause)
        .retryable()
}

/// Tells what the transport reports from what a task reports.
fn classified(url: &Url, error: DataFusionError) -> Error {
    match transport_status(&error) {
        Some(status) if status.code() == tonic::Code::Unauthenticated => Error::user(
            "CLUSTER_SECRET",
            format!("worker {url} does not have the same cluster secret as this node"),
        ),
        Some(status) => worker_lost(url, &status),
        None if error.to_string().contains("waiting for the plan to be set") => {
            // The worker was restarted, or held the task unasked for longer than it keeps one.
            worker_lost(url, &error)
        }
        None => Error::from_datafusion(&error),
    }
}

/// Finds the transport's report in an error; a task's own error travels in another form.
fn transport_status(error: &DataFusionError) -> Option<tonic::Status> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = next {
        if let Some(status) = current.downcast_ref::<tonic::Status>() {
            return Some(status.clone());
        }
        next = current.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_named_and_read_back() {
        let id = "0190b1c2-0000-7000-8000-000000000001";
        let key = TaskKey { query_id: id.parse().expect("an id"), stage_id: 3, task_number: 7 };
        let mut headers = HeaderMap::new();
        name_task(&mut headers, &key).expect("ids are header values");
        assert_eq!(named_task(&headers), Some(key));
    }

    #[test]
    fn what_the_transport_reports_names_the_worker_and_may_be_retried() {
        let url = Url::parse("http://127.0.0.1:9/").expect("an address");
        let status = tonic::Status::unavailable("tcp connect error");
        let error = classified(&url, DataFusionError::External(Box::new(status)));
        assert_eq!((error.code.as_str(), error.retryable), ("WORKER_LOST", true));
        assert!(error.message.contains("127.0.0.1:9"), "{error}");
        let own = Error::user("DIVISION_BY_ZERO", "division by zero");
        assert_eq!(classified(&url, DataFusionError::from(own.clone())), own);
    }
}
