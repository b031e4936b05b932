//! Which tasks are on this worker, and the token that ends each.
//!
//! ```text
//!   the runtime's cache ──► plan ──► PlanGuard ── dropped: stops ──► Running ◄── streams of the task
//! ```
//!
//! The runtime drops a task's plan when the coordinator's channel to it ends, for whatever reason. The guard
//! in that plan then stops every stream of the task, also those whose readers do not know yet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use arrow::record_batch::RecordBatch;
use datafusion_distributed::TaskKey;
use meshwork_engine::environment;
use meshwork_engine::node::{TASKS_TOLD_MAX, TaskState, TaskStatus};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The tasks on one worker.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    next: AtomicU64,
    held: Mutex<BTreeMap<u64, Arc<Progress>>>,
}

impl Tasks {
    /// Takes a task in; it counts until everything of it is gone. `query_id` is the one that users know.
    pub(crate) fn begin(self: &Arc<Self>, key: Option<TaskKey>, query_id: &str) -> Arc<Running> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let progress = Arc::new(Progress::new(key, query_id.to_owned()));
        self.held.lock().insert(id, Arc::clone(&progress));
        Arc::new(Running { id, tasks: Arc::clone(self), progress })
    }

    /// Stops a task whose query has ended. From now on only the streams that still compute count: the runtime may
    /// hold on to the plan for a while.
    pub(crate) fn end(&self, key: &TaskKey) {
        for task in self.held.lock().values().filter(|task| task.key.as_ref() == Some(key)) {
            task.ended.store(true, Ordering::Release);
            task.stopped.cancel();
        }
    }

    /// How many tasks are here: planned, waiting or running.
    pub(crate) fn n_running(&self) -> usize {
        self.held.lock().values().filter(|task| !task.is_gone()).count()
    }

    /// The names of the tasks that are here.
    pub(crate) fn keys(&self) -> Vec<TaskKey> {
        self.held
            .lock()
            .values()
            .filter(|task| !task.is_gone())
            .filter_map(|task| task.key)
            .collect()
    }

    /// How far the tasks are that have a name, the oldest first, [`TASKS_TOLD_MAX`] at most.
    pub(crate) fn statuses(&self) -> Vec<TaskStatus> {
        let held = self.held.lock();
        let here = held.values().filter(|task| !task.is_gone());
        here.filter_map(|task| task.status()).take(TASKS_TOLD_MAX).collect()
    }
}

/// What a task is, and how far.
#[derive(Debug)]
struct Progress {
    key: Option<TaskKey>,
    query_id: String,
    begun: Instant,
    asked: AtomicBool,
    rows: AtomicU64,
    bytes: AtomicU64,
    stopped: CancellationToken,
    ended: AtomicBool,
    /// Streams that were asked for a batch and have neither ended nor been dropped.
    n_streams: AtomicUsize,
}

impl Progress {
    fn new(key: Option<TaskKey>, query_id: String) -> Self {
        let begun = environment::instant();
        let (asked, rows, bytes, stopped, ended, n_streams) = Default::default();
        Self { key, query_id, begun, asked, rows, bytes, stopped, ended, n_streams }
    }

    fn is_gone(&self) -> bool {
        self.ended.load(Ordering::Acquire) && self.n_streams.load(Ordering::Acquire) == 0
    }

    fn status(&self) -> Option<TaskStatus> {
        let key = self.key?;
        Some(TaskStatus {
            query_id: self.query_id.clone(),
            stage: key.stage_id as u64,
            task: key.task_number as u64,
            state: match self.asked.load(Ordering::Relaxed) {
                true => TaskState::Running,
                false => TaskState::Planned,
            },
            rows: self.rows.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            elapsed_ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// One task, for as long as anything of it is left.
#[derive(Debug)]
pub(crate) struct Running {
    id: u64,
    tasks: Arc<Tasks>,
    progress: Arc<Progress>,
}

/// A stream of a task that somebody reads.
#[derive(Debug)]
pub(crate) struct Read(Arc<Running>);

impl Drop for Read {
    fn drop(&mut self) {
        self.0.progress.n_streams.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Running {
    /// Counts a stream of the task until what is returned is dropped.
    pub(crate) fn read(self: &Arc<Self>) -> Read {
        self.progress.n_streams.fetch_add(1, Ordering::AcqRel);
        Read(Arc::clone(self))
    }

    /// Fires when the task's query has ended.
    pub(crate) fn stopped(&self) -> &CancellationToken {
        &self.progress.stopped
    }

    /// Notes that rows are asked for.
    pub(crate) fn rows_asked(&self) {
        self.progress.asked.store(true, Ordering::Relaxed);
    }

    /// Counts what the task has made.
    pub(crate) fn made(&self, batch: &RecordBatch) {
        self.progress.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        let bytes = batch.get_array_memory_size() as u64;
        self.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.held.lock().remove(&self.id);
    }
}

/// Lives in a task's plan; when the plan is dropped, the task's streams are stopped.
#[derive(Debug)]
pub(crate) struct PlanGuard(pub(crate) Arc<Running>);

impl Drop for PlanGuard {
    fn drop(&mut self) {
        self.0.stopped().cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_counts_until_plan_and_streams_are_gone_and_stops_with_its_plan() {
        let tasks = Arc::new(Tasks::default());
        let plan = PlanGuard(tasks.begin(None, ""));
        let stream = Arc::clone(&plan.0);
        assert_eq!((tasks.n_running(), stream.stopped().is_cancelled()), (1, false));
        drop(plan);
        assert_eq!((tasks.n_running(), stream.stopped().is_cancelled()), (1, true));
        drop(stream);
        assert_eq!(tasks.n_running(), 0);
    }

    #[test]
    fn an_ended_task_counts_while_its_streams_are_read_even_if_its_plan_stays() {
        let tasks = Arc::new(Tasks::default());
        let key = TaskKey { query_id: Default::default(), stage_id: 1, task_number: 0 };
        let plan = PlanGuard(tasks.begin(Some(key), ""));
        let read = plan.0.read();
        tasks.end(&key);
        assert_eq!((tasks.n_running(), plan.0.stopped().is_cancelled()), (1, true));
        drop(read);
        assert_eq!((tasks.n_running(), tasks.keys().len(), tasks.statuses().len()), (0, 0, 0));
    }
}
