//! The runtimes of a process. On a node computing must not delay connections, heartbeats and cancellation. A client has
//! one of one thread.

use std::future::Future;

use anyhow::Context;
use meshwork_engine::environment::{self, Runtimes};
use tokio::runtime::{Builder, Runtime};

/// Threads for connections and files; they wait more than they work.
const N_IO_THREADS: usize = 2;

/// Stack of the threads that plan and compute: deeply nested statements recurse.
const STACK_BYTES: usize = 8 << 20;

/// Runs `work` on the runtime for I/O; beside it are those for computing, one of a thread per core and one of a thread.
///
/// # Errors
/// Those of `work`, and of the operating system when threads cannot be started.
pub fn with_runtimes<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    install_crypto_provider();
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = runtime("cpu", n_cores)?;
    let io = runtime("io", N_IO_THREADS)?;
    let quick = runtime("quick", 1)?;
    environment::set_runtimes(Runtimes {
        io: io.handle().clone(),
        cpu: cpu.handle().clone(),
        quick: quick.handle().clone(),
    });
    let result = io.block_on(work);
    // Queries that still run end with the process; waiting for them here would hang it.
    quick.shutdown_background();
    cpu.shutdown_background();
    io.shutdown_background();
    result
}

/// Runs the work of a client: on one thread, as an answer is late that wanders from thread to thread.
///
/// # Errors
/// Those of `work`.
pub fn with_one_thread<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    install_crypto_provider();
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(work)
}

/// One crypto provider for every TLS connection of the process; a second call finds it installed.
fn install_crypto_provider() {
    let installed = rustls::crypto::ring::default_provider().install_default();
    tracing::debug!(first = installed.is_ok(), "crypto provider");
}

fn runtime(name: &str, n_threads: usize) -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .thread_name(format!("meshwork-{name}"))
        .worker_threads(n_threads)
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()
        .with_context(|| format!("cannot start the threads for {name}"))
}
