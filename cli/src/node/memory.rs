//! How much memory queries may take.

use std::sync::Arc;

use anyhow::Context;
use datafusion::execution::memory_pool::{GreedyMemoryPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};

/// The part of the machine's memory that queries may take when nothing is configured.
const SHARE_OF_MEMORY: f64 = 0.7;
/// What is assumed where the machine does not say how much it has.
const ASSUMED_BYTES: usize = 4 << 30;
/// Consumers that an error about exhausted memory names.
const CONSUMERS_NAMED: std::num::NonZeroUsize =
    std::num::NonZeroUsize::new(5).expect("5 is not zero");

/// Returns the runtime environment of a node: one bounded pool for all its queries.
///
/// # Errors
/// When the folder for spilling cannot be made.
pub(super) fn runtime_env(memory_max_mb: Option<usize>) -> anyhow::Result<Arc<RuntimeEnv>> {
    let bytes = memory_max_mb.map_or_else(default_bytes, |megabytes| megabytes << 20);
    let pool = TrackConsumersPool::new(GreedyMemoryPool::new(bytes), CONSUMERS_NAMED);
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(pool))
        .build_arc()
        .context("cannot set up memory and spilling")
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of the memory need not be exact"
)]
fn default_bytes() -> usize {
    (machine_bytes().unwrap_or(ASSUMED_BYTES) as f64 * SHARE_OF_MEMORY) as usize
}

/// Linux says it in `/proc/meminfo`, in KiB.
fn machine_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: usize = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes << 10)
}
