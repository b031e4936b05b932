//! Makes the runtime's cache of tasks behave: it forgets a task that nobody asked for in ten minutes, and
//! it drops an ended task only when somebody uses the cache.
//!
//! Both are answered by asking for tasks: for one that does not exist, several times a second, so that
//! ended tasks are dropped; for each that does, every minute, so that a task may wait as long as the build
//! side that it waits for. The asking stops before the runtime acts on it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use datafusion_distributed::{ExecuteTaskRequest, ProducerHead, TaskKey, Worker};
use meshwork_engine::environment::{self, Task};
use tokio::task::coop;

use crate::tasks::Tasks;

/// How long an ended task may stay: well below the two seconds in which a cancelled query must be gone.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// How often waiting tasks are touched: well below the runtime's ten minutes.
const SWEEPS_PER_TOUCH: u32 = 240;

/// Keeps the cache of one worker until the handle is dropped.
pub(crate) fn keep(worker: Worker, tasks: Arc<Tasks>) -> Task<()> {
    environment::spawn_on(&environment::io_runtime(), "task keeper", async move {
        let nobody = TaskKey { query_id: Default::default(), stage_id: usize::MAX, task_number: 0 };
        for sweep in 1_u32.. {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            touch(&worker, nobody).await;
            if sweep % SWEEPS_PER_TOUCH == 0 {
                for key in tasks.keys() {
                    touch(&worker, key).await;
                }
            }
        }
    })
}

/// Looks a task up in the cache and nothing more. The lookup happens in the first poll; what would follow,
/// setting the task's head, waits for the task's plan in a way that needs budget of the cooperative
/// scheduler, and there is none left.
async fn touch(worker: &Worker, task_key: TaskKey) {
    let mut asked = pin!(worker.execute_task(ExecuteTaskRequest {
        task_key,
        target_partition_start: 0,
        target_partition_end: 0,
        producer_head: ProducerHead::None,
    }));
    poll_fn(|cx| {
        while coop::has_budget_remaining() {
            let spent = pin!(coop::consume_budget()).poll(cx);
            if spent.is_pending() {
                break;
            }
        }
        let answered = asked.as_mut().poll(cx);
        debug_assert!(answered.is_pending(), "a task was asked for, not only looked up");
        Poll::Ready(())
    })
    .await;
    tokio::task::yield_now().await;
}
