//! How soon `meshwork standalone` is ready for its first query, and how much memory it holds when idle.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use meshwork_sql_tests::cluster::{Cluster, Shape};

use super::{n_rounds, say, timed};

/// How long a node is left alone before its memory is read.
const REST: Duration = Duration::from_secs(3);

/// Measures and prints.
pub(crate) async fn run() -> Result<()> {
    for _ in 0..n_rounds()? {
        let (mut cluster, ready_ms) = timed(Cluster::start(Shape::Standalone, &[])).await?;
        let mut client = cluster.client().await?;
        let (_, first_ms) = timed(async { Ok(client.query("SELECT 1").await?) }).await?;
        tokio::time::sleep(REST).await;
        let resident = resident_mb(cluster.coordinator().id()?)?;
        say(&format!(
            "ready after {ready_ms:.0} ms, first query {first_ms:.1} ms, {resident} MB resident when idle"
        ));
    }
    Ok(())
}

/// Resident memory of a process in MB, as Linux counts it.
fn resident_mb(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("a VmRSS line")?;
    let kb: u64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
    Ok(kb / 1024)
}
