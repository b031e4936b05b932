//! Drives one planned query: on the runtime for computing, behind a bounded channel, with a deadline, and
//! again from the start if a node was lost before the first row left.
//!
//! Dropping the returned stream ends the driver at its next yield, and with it everything below: the
//! channels to the workers close, and each worker ends its tasks.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion_distributed::NetworkBoundaryExt;
use futures::{Stream, StreamExt};
use meshwork_engine::environment::{self, Task};
use meshwork_engine::named_files::with_named_files;
use meshwork_engine::stop::stoppable_join;
use meshwork_engine::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::fragment::are_few;

/// Batches that the driver may be ahead of the client.
const BATCHES_AHEAD: usize = 2;
/// How often a query is run in all when workers are lost.
const ATTEMPTS_MAX: usize = 3;
/// How often it is run in all when something else ran out: once more, as the new plan may need less.
const ATTEMPTS_MAX_OTHERWISE: usize = 2;

/// A plan that can be stopped, and what it runs with.
#[derive(Debug, Clone)]
pub struct Planned {
    plan: Arc<dyn ExecutionPlan>,
    task_ctx: Arc<TaskContext>,
    stop: CancellationToken,
}

impl Planned {
    /// Takes a verified plan; what runs of it on this node becomes stoppable, and names files in errors.
    pub fn new(plan: Arc<dyn ExecutionPlan>, task_ctx: Arc<TaskContext>) -> Result<Self> {
        let stop = CancellationToken::new();
        let plan = plan
            .transform_down(|node| {
                if node.is_network_boundary() {
                    // What is below is sent away; workers make it stoppable themselves.
                    return Ok(Transformed::new(node, false, TreeNodeRecursion::Jump));
                }
                let join = stoppable_join(node.as_ref(), &stop)?;
                match join.or_else(|| with_named_files(node.as_ref())) {
                    Some(better) => Ok(Transformed::yes(better)),
                    None => Ok(Transformed::no(node)),
                }
            })
            .data()?;
        Ok(Self { plan, task_ctx, stop })
    }

    /// The plan that runs: metrics are found in this one.
    pub fn plan(&self) -> &Arc<dyn ExecutionPlan> {
        &self.plan
    }

    /// The session's settings and runtime.
    pub fn task_ctx(&self) -> &Arc<TaskContext> {
        &self.task_ctx
    }
}

/// Why a query is planned again.
#[derive(Debug, Clone)]
pub struct Retry {
    /// 2 for the second attempt.
    pub attempt: usize,
    /// What ended the attempt before.
    pub cause: Error,
}

/// How a query runs.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// How long the query may take until its last row has left; forever if `None`.
    pub deadline: Option<Duration>,
    /// Who runs it besides this node; asked who lives before a query is run again.
    pub cluster: Option<Arc<Cluster>>,
}

/// Runs a planned query and returns its rows. `replan` makes a new plan after a loss, for the nodes that
/// then live; it is only called while no row has left, and only for errors that may be retried. What must
/// not run twice, an INSERT for instance, hands in a `replan` that returns the cause.
pub fn run<P, F>(planned: Planned, options: RunOptions, replan: P) -> SendableRecordBatchStream
where
    P: Fn(Retry) -> F + Send + 'static,
    F: Future<Output = Result<Planned>> + Send + 'static,
{
    let schema = planned.plan.schema();
    let runtime = match are_few(&planned.plan) {
        true => environment::quick_runtime(),
        false => environment::cpu_runtime(),
    };
    let (rows, received) = mpsc::channel(BATCHES_AHEAD);
    let deadline = options.deadline;
    let stops = Stops::default();
    let driver = Driver { rows: rows.clone(), options, replan, stops: Arc::clone(&stops) };
    let drive = async move {
        let driven = driver.drive(planned);
        let ended = match deadline {
            None => driven.await,
            Some(deadline) => match tokio::time::timeout(deadline, driven).await {
                Ok(ended) => ended,
                Err(_elapsed) => Err(too_late(deadline)),
            },
        };
        if let Err(error) = ended {
            // Without a receiver nobody wants to know.
            drop(rows.send(Err(error)).await);
        }
    };
    let task = environment::spawn_on(&runtime, "query", drive);
    Box::pin(Rows { schema, received, task: Some(task), stops })
}

fn too_late(deadline: Duration) -> Error {
    let seconds = deadline.as_secs_f64();
    Error::new(
        ErrorKind::Cancelled,
        "QUERY_DEADLINE_EXCEEDED",
        format!("the query took longer than its deadline of {seconds} s"),
    )
}

/// The tokens of all attempts, which fire when nobody wants the rows any more.
type Stops = Arc<Mutex<Vec<CancellationToken>>>;

/// What one attempt came to.
enum Attempt {
    /// All rows have left, or nobody wants them any more.
    Done,
    /// It failed before the first row.
    FailedEarly(Error),
    /// It failed later: what has left cannot be taken back.
    FailedLate(Error),
}

struct Driver<P> {
    rows: mpsc::Sender<Result<RecordBatch>>,
    options: RunOptions,
    replan: P,
    stops: Stops,
}

impl<P, F> Driver<P>
where
    P: Fn(Retry) -> F + Send + 'static,
    F: Future<Output = Result<Planned>> + Send + 'static,
{
    async fn drive(self, mut planned: Planned) -> Result<()> {
        let mut attempt = 1;
        loop {
            self.stops.lock().push(planned.stop.clone());
            let cause = match run_once(&self.rows, &planned).await {
                Attempt::Done => return Ok(()),
                Attempt::FailedLate(error) => return Err(error),
                Attempt::FailedEarly(error) if attempt >= attempts_max(&error) => {
                    return Err(error);
                }
                Attempt::FailedEarly(error) => error,
            };
            attempt += 1;
            tracing::info!(attempt, error = %cause, "query is run again");
            if let Some(cluster) = &self.options.cluster {
                cluster.probe().await;
            }
            planned = (self.replan)(Retry { attempt, cause }).await?;
        }
    }
}

fn attempts_max(error: &Error) -> usize {
    match error.code.as_str() {
        "WORKER_LOST" => ATTEMPTS_MAX,
        _ if error.retryable => ATTEMPTS_MAX_OTHERWISE,
        _ => 1,
    }
}

async fn run_once(rows: &mpsc::Sender<Result<RecordBatch>>, planned: &Planned) -> Attempt {
    let plan = Arc::clone(&planned.plan);
    let mut batches = match execute_stream(plan, Arc::clone(&planned.task_ctx)) {
        Ok(batches) => batches,
        Err(error) => return Attempt::FailedEarly(Error::from(error)),
    };
    let mut has_left = false;
    while let Some(batch) = batches.next().await {
        match batch {
            Ok(batch) if batch.num_rows() == 0 => {}
            Ok(batch) => {
                has_left = true;
                if rows.send(Ok(batch)).await.is_err() {
                    return Attempt::Done;
                }
            }
            Err(error) if has_left => return Attempt::FailedLate(Error::from(error)),
            Err(error) => return Attempt::FailedEarly(Error::from(error)),
        }
    }
    Attempt::Done
}

/// The rows of a query; owns its driver.
struct Rows {
    schema: SchemaRef,
    received: mpsc::Receiver<Result<RecordBatch>>,
    task: Option<Task<()>>,
    stops: Stops,
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.stops.lock().iter().for_each(CancellationToken::cancel);
    }
}

impl Stream for Rows {
    type Item = DataFusionResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(received) = ready!(self.received.poll_recv(cx)) {
            return Poll::Ready(Some(received.map_err(DataFusionError::from)));
        }
        // A driver that died must not look like one that has finished: the result would be short.
        let Some(task) = &mut self.task else { return Poll::Ready(None) };
        let ended = ready!(Pin::new(task).poll(cx));
        self.task = None;
        Poll::Ready(ended.err().map(|error| Err(DataFusionError::from(error))))
    }
}

impl RecordBatchStream for Rows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
