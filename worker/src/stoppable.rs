//! Ends the streams and the joins of a task whose query has ended, wherever in the plan they are.
//!
//! The nodes here look like the nodes that they wrap, in every respect that the runtime asks for: metrics
//! are matched to the coordinator's plan by the place of a node, so that no node may be added.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    ReplaceChildrenOptions,
};
use datafusion_distributed::{
    BroadcastExec, WorkerPlanRewriteEvent, WorkerPlanRewriteEventResponse,
};
use futures::Stream;
use meshwork_engine::Error;
use meshwork_engine::named_files::with_named_files;
use meshwork_engine::remote::waiting_for_joins;
use meshwork_engine::stop::stoppable_join;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::tasks::{PlanGuard, Read, Running};

/// Lets a task's plan be stopped: at its head, its leaves, and wherever it yields.
pub(crate) fn make_stoppable(
    event: WorkerPlanRewriteEvent<'_>,
) -> Result<WorkerPlanRewriteEventResponse> {
    let Some(running) = event.session_config.get_extension::<Running>() else {
        return Ok(WorkerPlanRewriteEventResponse::new(event.plan));
    };
    let plan = waiting_for_joins(event.plan)?.transform_up(|node| {
        if let Some(join) = stoppable_join(node.as_ref(), running.stopped())? {
            return Ok(Transformed::yes(join));
        }
        match node.children().is_empty() || node.is::<CooperativeExec>() {
            true => {
                let node = with_named_files(node.as_ref()).unwrap_or(node);
                Ok(Transformed::yes(stoppable(node, &running, Place::Inside)))
            }
            false => Ok(Transformed::no(node)),
        }
    });
    let plan = plan.data()?;
    let place = if is_exchange(&plan) { Place::Inside } else { Place::Outlet };
    let head = with_stoppable_inputs(plan, &running)?;
    // Streams may hold parts of the plan, a nested loop join its left side, for instance; the head is held
    // by the runtime's cache alone.
    let guard = Some(Arc::new(PlanGuard(Arc::clone(&running))));
    let head = Arc::new(StoppableExec { inner: head, running, place, guard });
    Ok(WorkerPlanRewriteEventResponse::new(head))
}

/// The runtime exchanges an exchange at the head for another one, so that what is below it is what lasts.
fn with_stoppable_inputs(
    head: Arc<dyn ExecutionPlan>,
    running: &Arc<Running>,
) -> Result<Arc<dyn ExecutionPlan>> {
    if !is_exchange(&head) {
        return Ok(head);
    }
    let outlet = |child| stoppable(Arc::clone(child), running, Place::Outlet);
    let children = head.children().into_iter().map(outlet).collect();
    head.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep))
}

fn is_exchange(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<RepartitionExec>() || plan.is::<BroadcastExec>()
}

fn stoppable(
    inner: Arc<dyn ExecutionPlan>,
    running: &Arc<Running>,
    place: Place,
) -> Arc<dyn ExecutionPlan> {
    Arc::new(StoppableExec { inner, running: Arc::clone(running), place, guard: None })
}

/// Where in its task a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Inside,
    /// What comes out of it is what the task has made.
    Outlet,
}

/// A node whose streams end when the task is stopped.
#[derive(Debug)]
struct StoppableExec {
    inner: Arc<dyn ExecutionPlan>,
    running: Arc<Running>,
    place: Place,
    /// Stops the task when it is dropped; the plan's head has it.
    guard: Option<Arc<PlanGuard>>,
}

impl DisplayAs for StoppableExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_as(format, f)
    }
}

impl ExecutionPlan for StoppableExec {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn downcast_delegate(&self) -> Option<&dyn ExecutionPlan> {
        Some(self.inner.as_ref())
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.inner.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inner.children()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        self.inner.maintains_input_order()
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(visit)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        let inner = Arc::clone(&self.inner).replace_children(children, options)?;
        let (running, guard) = (Arc::clone(&self.running), self.guard.clone());
        Ok(Arc::new(Self { inner, running, place: self.place, guard }))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let running = Arc::clone(&self.running);
        running.rows_asked();
        Ok(Box::pin(StoppableStream {
            inner: Some(self.inner.execute(partition, context)?),
            schema: self.inner.schema(),
            stopped: Box::pin(running.stopped().clone().cancelled_owned()),
            running,
            read: None,
            place: self.place,
        }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.inner.metrics()
    }
}

/// A stream that is dropped, and its source with it, as soon as it is polled after the task was stopped.
struct StoppableStream {
    inner: Option<SendableRecordBatchStream>,
    schema: SchemaRef,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    running: Arc<Running>,
    /// From the first question for a batch to the end.
    read: Option<Read>,
    place: Place,
}

impl StoppableStream {
    fn end(&mut self) {
        self.inner = None;
        self.read = None;
    }
}

impl Stream for StoppableStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        this.read.get_or_insert_with(|| this.running.read());
        let next = inner.as_mut().poll_next(cx);
        if self.stopped.as_mut().poll(cx).is_pending() {
            if let (Place::Outlet, Poll::Ready(Some(Ok(batch)))) = (self.place, &next) {
                self.running.made(batch);
            }
            if matches!(next, Poll::Ready(None)) {
                self.end();
            }
            return next;
        }
        self.end();
        Poll::Ready(Some(Err(Error::cancelled("the query has ended").into())))
    }
}

impl RecordBatchStream for StoppableStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
