//! Time, names for tasks, and the only doors to spawning.
//!
//! Everything spawned has an owner: dropping a [`Task`] ends it. Nothing else in Meshwork may read a
//! clock or spawn directly (see `clippy.toml`).

use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::{Error, Result};

/// Returns the wall clock in microseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "the one door to the wall clock")]
pub fn unix_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Returns the monotonic clock.
#[expect(clippy::disallowed_methods, reason = "the one door to the monotonic clock")]
pub fn instant() -> Instant {
    Instant::now()
}

/// Reads `500ms`, `30s`, `5m`, `1h` or `7d`; `None` for anything else.
pub fn duration_of(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let millis = match text.strip_prefix(digits)? {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(millis).map(Duration::from_millis)
}

/// The runtimes of a process: work that computes must not delay work that waits.
#[derive(Debug, Clone)]
pub struct Runtimes {
    /// Connections, heartbeats and front doors.
    pub io: Handle,
    /// What computes.
    pub cpu: Handle,
    /// One thread for plans of a few rows: handing them from thread to thread would cost more than they do.
    pub quick: Handle,
}

static RUNTIMES: OnceLock<Runtimes> = OnceLock::new();

/// Names the runtimes of this process, once, before anything is spawned. Later calls change nothing.
pub fn set_runtimes(runtimes: Runtimes) {
    RUNTIMES.get_or_init(|| runtimes);
}

/// Returns the runtime for connections, heartbeats and front doors; the current one where none was named.
pub fn io_runtime() -> Handle {
    RUNTIMES.get().map_or_else(Handle::current, |runtimes| runtimes.io.clone())
}

/// Returns the runtime for connections where one was named: for things that are made outside of any runtime.
pub fn named_io_runtime() -> Option<Handle> {
    RUNTIMES.get().map(|runtimes| runtimes.io.clone())
}

/// Returns the runtime that computes plans; the current one where none was named.
pub fn cpu_runtime() -> Handle {
    RUNTIMES.get().map_or_else(Handle::current, |runtimes| runtimes.cpu.clone())
}

/// Returns the runtime that computes plans of a few rows; the current one where none was named.
pub fn quick_runtime() -> Handle {
    RUNTIMES.get().map_or_else(Handle::current, |runtimes| runtimes.quick.clone())
}

/// A running task that ends when this handle is dropped.
#[derive(Debug)]
pub struct Task<T> {
    handle: JoinHandle<T>,
    name: &'static str,
}

impl<T> Task<T> {
    /// Ends the task at its next yield.
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let name = self.name;
        Pin::new(&mut self.handle)
            .poll(cx)
            .map_err(|e| Error::internal(format!("task \"{name}\" ended early")).caused_by(&e))
    }
}

/// Spawns a named task on the current runtime; dropping the handle ends it.
#[expect(clippy::disallowed_methods, reason = "the one door to spawning")]
pub fn spawn<F>(name: &'static str, future: F) -> Task<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    Task { handle: tokio::spawn(future.instrument(tracing::debug_span!("task", name))), name }
}

/// Spawns a named task on the given runtime; dropping the handle ends it.
pub fn spawn_on<F>(runtime: &Handle, name: &'static str, future: F) -> Task<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    Task { handle: runtime.spawn(future.instrument(tracing::debug_span!("task", name))), name }
}

/// Runs a blocking closure on the runtime's blocking threads; it cannot be ended early.
#[expect(clippy::disallowed_methods, reason = "the one door to blocking work")]
pub fn spawn_blocking<F, T>(name: &'static str, work: F) -> Task<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Task { handle: tokio::task::spawn_blocking(work), name }
}

/// Waits for `future` no longer than `deadline`; `what` names it in the error.
///
/// # Errors
/// `Resources` with code `DEADLINE_EXCEEDED` when the time is up.
pub async fn within<F: Future>(deadline: Duration, what: &str, future: F) -> Result<F::Output> {
    let seconds = deadline.as_secs_f64();
    tokio::time::timeout(deadline, future).await.map_err(|_elapsed| {
        Error::resources("DEADLINE_EXCEEDED", format!("{what} took longer than {seconds} s"))
    })
}
