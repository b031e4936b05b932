//! `make bench`: what Meshwork costs beside what it stands on, measured side by side in one run.
//!
//! ```text
//! bench [tpch]      TPC-H on plain DataFusion, one process, a coordinator with two workers
//! bench small       of these only the query that needs no exchange
//! bench federated   TPC-H spread over four sources, beside Parquet alone, and beside `DuckDB`
//! bench read        a whole table of PostgreSQL and of MariaDB, beside what else reads such into Arrow
//! bench lookup      500 keys against an indexed table of PostgreSQL with ten million rows
//! bench sums        sums over two tables of PostgreSQL while money moves between them
//! bench listings    50,000 tables of five catalogs of PostgreSQL and MariaDB, listed in three ways
//! bench store       updates of a table of the store, and what it answers while its deltas are many, few, one; beside `DuckDB`
//! bench start       how soon a node is ready, and what an idle one holds
//! ```
//! `BENCH_SCALE` (1), `BENCH_ROUNDS` (3) and `BENCH_FOLDER` (target/bench) change what is run, `BENCH_TABLES` (10000) how
//! many tables a catalog has. A figure is that of
//! the fastest round.

mod duckdb;
mod federated;
mod listings;
mod lookup;
mod read;
mod start;
mod store;
mod sums;
mod tpch;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use meshwork::memory::{self, Allocator};
use meshwork_engine::environment;

/// The plain DataFusion of this process gets its memory from where Meshwork gets it, and keeps it as long.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> Result<()> {
    memory::keep_freed();
    let runtime = tokio::runtime::Runtime::new()?;
    // Clients have a thread of their own, as `meshwork sql` has.
    let clients =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let wanted = std::env::args().nth(1);
    match wanted.as_deref() {
        None | Some("tpch") => runtime.block_on(tpch::run(clients.handle())),
        Some("small") => runtime.block_on(tpch::run_small(clients.handle())),
        Some("federated") => runtime.block_on(federated::run()),
        Some("read") => runtime.block_on(read::run()),
        Some("lookup") => runtime.block_on(lookup::run()),
        Some("sums") => runtime.block_on(sums::run()),
        Some("listings") => runtime.block_on(listings::run()),
        Some("store") => runtime.block_on(store::run()),
        Some("start") => runtime.block_on(start::run()),
        Some(other) => {
            bail!(
                "there is no benchmark {other}: tpch, small, federated, read, lookup, sums, listings, store, start"
            )
        }
    }
}

/// The scale factor of the tables.
fn scale() -> Result<f64> {
    setting("BENCH_SCALE", 1.0)
}

fn n_rounds() -> Result<usize> {
    setting("BENCH_ROUNDS", 3)
}

/// Where tables are kept from one run to the next.
fn folder() -> Result<PathBuf> {
    Ok(std::path::absolute(setting("BENCH_FOLDER", PathBuf::from("target/bench"))?)?)
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_unset) => Ok(default),
    }
}

/// What came out, and the milliseconds that it took.
async fn timed<T>(work: impl Future<Output = Result<T>>) -> Result<(T, f64)> {
    let since = environment::instant();
    let done = work.await?;
    Ok((done, milliseconds(since.elapsed())))
}

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

#[expect(clippy::print_stdout, reason = "the benchmark talks to its user")]
fn say(text: &str) {
    println!("{text}");
}
