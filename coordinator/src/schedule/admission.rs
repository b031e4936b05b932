//! How many queries may run at once, and how many may wait for that.

use std::sync::Arc;
use std::time::Duration;

use meshwork_engine::{Error, Result, environment};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lets a bounded number of queries run and a bounded number wait; refuses the rest.
#[derive(Debug)]
pub struct Admission {
    running: Arc<Semaphore>,
    waiting: Semaphore,
    n_running_max: usize,
    n_waiting_max: usize,
    wait_max: Duration,
}

/// The right to run; ends when it is dropped.
#[derive(Debug)]
pub struct Admitted {
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    /// Returns an admission of so many running and waiting queries; each waits `wait_max` at most.
    pub fn new(n_running_max: usize, n_waiting_max: usize, wait_max: Duration) -> Self {
        Self {
            running: Arc::new(Semaphore::new(n_running_max)),
            waiting: Semaphore::new(n_waiting_max),
            n_running_max,
            n_waiting_max,
            wait_max,
        }
    }

    /// Waits for the right to run. Dropping the future gives the place in the queue up.
    pub async fn admit(&self) -> Result<Admitted> {
        if let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(Admitted { _permit: permit });
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(Error::resources(
                "QUEUE_FULL",
                format!(
                    "{} queries run and {} wait, which is the limit",
                    self.n_running_max, self.n_waiting_max
                ),
            )
            .with_hint("Run the query again when others have finished."));
        };
        let permit = environment::within(
            self.wait_max,
            "waiting for other queries to finish",
            Arc::clone(&self.running).acquire_owned(),
        )
        .await?
        .map_err(|closed| Error::internal("admission was closed").caused_by(&closed))?;
        Ok(Admitted { _permit: permit })
    }

    /// How many queries run now.
    pub fn n_running(&self) -> usize {
        self.n_running_max.saturating_sub(self.running.available_permits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn beyond_its_limits_a_query_is_refused_and_a_finished_one_makes_room() {
        let admission = Admission::new(1, 1, Duration::from_secs(60));
        let first = admission.admit().await.expect("there is room");
        let mut second = Box::pin(admission.admit());
        assert!(futures::poll!(&mut second).is_pending());
        let third = admission.admit().await.expect_err("the queue is full");
        assert_eq!((third.code.as_str(), third.retryable), ("QUEUE_FULL", true));
        drop(first);
        let _second = second.await.expect("there is room again");
        assert_eq!(admission.n_running(), 1);
    }

    #[tokio::test]
    async fn nobody_waits_forever() {
        let admission = Admission::new(1, 1, Duration::from_millis(10));
        let _first = admission.admit().await.expect("there is room");
        let late = admission.admit().await.expect_err("the wait is bounded");
        assert_eq!(late.code, "DEADLINE_EXCEEDED");
    }
}
