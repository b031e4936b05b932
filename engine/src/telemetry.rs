//! Logs: one way to start them, for every process.

use tracing_subscriber::EnvFilter;

/// Starts logging to standard error, filtered by `MESHWORK_LOG` (default `warn,meshwork=info`).
/// A second call changes nothing.
pub fn start_logging() {
    let filter = EnvFilter::try_from_env("MESHWORK_LOG")
        .unwrap_or_else(|_unset| EnvFilter::new("warn,meshwork=info"));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(true)
        .try_init();
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}
