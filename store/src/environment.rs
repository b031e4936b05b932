//! Time, randomness and the blocking pool, handed in.
//!
//! Nothing else in the store may ask the machine for any of them, so that a test replays a run from its seed.

use std::fmt::Debug;
use std::time::{Duration, Instant, SystemTime};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use ulid::Ulid;

use crate::error::{Error, Result};

/// What the store asks of the machine.
pub trait Environment: Debug + Send + Sync + 'static {
    /// Returns microseconds since 1970. The store tolerates a clock that jumps: order never comes from it.
    fn now_us(&self) -> i64;

    /// Returns the time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;

    /// Returns 64 random bits. They name objects, so two processes must not draw the same ones.
    fn random(&self) -> u64;

    /// Waits.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// Runs work that blocks or computes for long, away from the threads that serve I/O.
    fn run_blocking(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
}

/// The machine itself; needs a tokio runtime around it.
#[derive(Debug)]
pub struct SystemEnvironment {
    start: Instant,
}

impl SystemEnvironment {
    /// Returns the machine's environment.
    #[expect(clippy::disallowed_methods, reason = "the store's one way to the machine's clock")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemEnvironment {
    fn default() -> Self {
        Self::new()
    }
}

impl Environment for SystemEnvironment {
    #[expect(clippy::disallowed_methods, reason = "the store's one way to the machine's clock")]
    fn now_us(&self) -> i64 {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // A clock before 1970 counts as 1970: the log makes its timestamps monotone by itself.
        since_1970.map_or(0, |elapsed| i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the store's one way to the machine's randomness"
    )]
    fn random(&self) -> u64 {
        rand::random()
    }

    #[expect(clippy::disallowed_methods, reason = "the store's one way to the machine's timer")]
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }

    #[expect(clippy::disallowed_methods, reason = "the store's one way to the blocking pool")]
    fn run_blocking(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        // A job that panics drops its channel, which `blocking` reports as a lost job.
        tokio::task::spawn_blocking(job).map(|_joined| ()).boxed()
    }
}

/// Runs `job` on the blocking pool and returns its result.
pub(crate) async fn blocking<T: Send + 'static>(
    environment: &dyn Environment,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = oneshot::channel();
    let job = move || {
        // The receiver is gone when the caller was cancelled; then nobody wants the result.
        drop(sender.send(job()));
    };
    environment.run_blocking(Box::new(job)).await;
    receiver.await.ok().ok_or(Error::JobLost)
}

/// Draws a fresh ULID: it names objects and transactions, it never orders them.
pub(crate) fn new_ulid(environment: &dyn Environment) -> Ulid {
    let ms = u64::try_from(environment.now_us() / 1000).unwrap_or(0);
    let random = (u128::from(environment.random()) << 64) | u128::from(environment.random());
    Ulid::from_parts(ms, random)
}

/// Draws a duration between half of `around` and one and a half of it.
pub(crate) fn jitter(environment: &dyn Environment, around: Duration) -> Duration {
    let span = u64::try_from(around.as_micros()).unwrap_or(u64::MAX).max(1);
    around / 2 + Duration::from_micros(environment.random() % span)
}
