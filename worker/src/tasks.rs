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
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion_distributed::TaskKey;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The tasks on one worker.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    next: AtomicU64,
    held: Mutex<BTreeMap<u64, Option<TaskKey>>>,
}

impl Tasks {
    /// Takes a task in; it counts until everything of it is gone.
    pub(crate) fn begin(self: &Arc<Self>, key: Option<TaskKey>) -> Arc<Running> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.held.lock().insert(id, key);
        Arc::new(Running { id, tasks: Arc::clone(self), stopped: CancellationToken::new() })
    }

    /// How many tasks are here: planned, waiting or running.
    pub(crate) fn n_running(&self) -> usize {
        self.held.lock().len()
    }

    /// The names of the tasks that are here.
    pub(crate) fn keys(&self) -> Vec<TaskKey> {
        self.held.lock().values().copied().flatten().collect()
    }
}

/// One task, for as long as anything of it is left.
#[derive(Debug)]
pub(crate) struct Running {
    id: u64,
    tasks: Arc<Tasks>,
    stopped: CancellationToken,
}

impl Running {
    /// Fires when the task's query has ended.
    pub(crate) fn stopped(&self) -> &CancellationToken {
        &self.stopped
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
        self.0.stopped.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_counts_until_plan_and_streams_are_gone_and_stops_with_its_plan() {
        let tasks = Arc::new(Tasks::default());
        let plan = PlanGuard(tasks.begin(None));
        let stream = Arc::clone(&plan.0);
        assert_eq!((tasks.n_running(), stream.stopped().is_cancelled()), (1, false));
        drop(plan);
        assert_eq!((tasks.n_running(), stream.stopped().is_cancelled()), (1, true));
        drop(stream);
        assert_eq!(tasks.n_running(), 0);
    }
}
