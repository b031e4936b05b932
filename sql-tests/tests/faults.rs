//! Real processes that are killed or frozen at a random moment of a query, and clients that leave: a right
//! answer or an error in time, the next query works, and nothing is left running, here or in the source.
//!
//! `MESHWORK_TEST_FAULTS=50` makes the usual 2 rounds of each kind as many as are worth a figure.

use std::fmt::{self, Display};
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use meshwork_engine::environment;
use meshwork_sql_tests::cluster::{Cluster, Shape, program};
use meshwork_sql_tests::compare::same_rows;
use meshwork_sql_tests::servers::Postgres;
use meshwork_sql_tests::spread::catalog_file;
use rand::Rng;

/// From the fault to the answer or the error.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// From a client's leaving to the last trace of its query.
const TRACE_MAX: Duration = Duration::from_secs(2);
const N_WORKERS: usize = 3;

/// Rows that the source takes an hour to find.
const STUCK: &str = "CREATE VIEW stuck AS SELECT g + length(pg_sleep(3600)::text) AS n FROM generate_series(1, 9) g";
/// Queries that end on no day that matters: a scan, and a join that compares all with all.
const ENDLESS: [&str; 2] = [
    "SELECT count(*), sum(n) FROM \
     (SELECT n FROM pg.public.stuck UNION ALL SELECT l_orderkey FROM tpch.\"sf100\".lineitem)",
    "SELECT count(*) FROM (SELECT n FROM pg.public.stuck UNION ALL SELECT a.o_orderkey \
     FROM tpch.\"sf1\".orders a JOIN tpch.\"sf1\".orders b ON a.o_comment < b.o_comment)",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_costs_a_retry_or_an_error() -> Result<()> {
    faults("KILL").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_worker_costs_a_retry_or_an_error() -> Result<()> {
    faults("STOP").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_leaves_nothing_running() -> Result<()> {
    let bench = Bench::start().await?;
    for round in 0..n_rounds()? {
        let mut client = bench.cluster.client().await?;
        let mut rows = client.stream(endless(round)).await?;
        let asked = environment::spawn("query", async move { drop(rows.next().await) });
        bench.runs().await?;
        drop(asked);
        bench.is_idle().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_client_leaves_nothing_running() -> Result<()> {
    let bench = Bench::start().await?;
    for round in 0..n_rounds()? {
        let mut client = tokio::process::Command::new(program()?)
            .args(["sql", "--server", bench.cluster.url(), "-c", endless(round)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        bench.runs().await?;
        client.kill().await?;
        bench.is_idle().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_coordinator_leaves_nothing_running() -> Result<()> {
    for round in 0..n_rounds()? {
        let mut bench = Bench::start().await?;
        let mut client = bench.cluster.client().await?;
        let mut rows = client.stream(endless(round)).await?;
        let asked = environment::spawn("query", async move { drop(rows.next().await) });
        bench.runs().await?;
        bench.cluster.coordinator().kill().await?;
        bench.is_idle().await?;
        asked.await?;
    }
    Ok(())
}

fn n_rounds() -> Result<usize> {
    match std::env::var("MESHWORK_TEST_FAULTS") {
        Ok(text) => text.parse().with_context(|| format!("MESHWORK_TEST_FAULTS={text}")),
        Err(_unset) => Ok(2),
    }
}

fn endless(round: usize) -> &'static str {
    ENDLESS[round % ENDLESS.len()]
}

/// Joins and aggregates over several stages, of about two seconds.
fn long_query() -> &'static str {
    if cfg!(debug_assertions) {
        "SELECT o_orderpriority, count(*), sum(l_quantity) FROM tpch.\"sf0.1\".lineitem \
         JOIN tpch.\"sf0.1\".orders ON l_orderkey = o_orderkey GROUP BY o_orderpriority"
    } else {
        "SELECT o_orderpriority, count(*), sum(l_quantity) FROM tpch.\"sf1\".lineitem \
         JOIN tpch.\"sf1\".orders ON l_orderkey = o_orderkey GROUP BY o_orderpriority"
    }
}

/// What came of the rounds.
#[derive(Default)]
struct Tally {
    n_answers: usize,
    n_errors: usize,
    slowest: Duration,
}

impl Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { n_answers, n_errors, slowest } = self;
        write!(
            f,
            "{n_answers} right answers, {n_errors} errors, slowest {:.1} s",
            slowest.as_secs_f64()
        )
    }
}

/// Sends a worker the signal somewhere in the query's time, again and again.
async fn faults(signal: &str) -> Result<()> {
    let tpch = [("tpch", "connector = \"tpch\"\n".to_owned())];
    let mut cluster = Cluster::start(Shape::Workers(N_WORKERS), &tpch).await?;
    let since = environment::instant();
    let expected = cluster.client().await?.query(long_query()).await?;
    let usual = since.elapsed();
    let mut tally = Tally::default();
    for _ in 0..n_rounds()? {
        let victim = rand::rng().random_range(0..N_WORKERS);
        let moment = usual.mul_f64(rand::rng().random_range(0.0..1.0));
        let mut client = cluster.client().await?;
        let asked = environment::spawn("query", async move { client.query(long_query()).await });
        tokio::time::sleep(moment).await;
        cluster.workers()[victim].signal(signal)?;
        let struck = environment::instant();
        let outcome = environment::within(ANSWER_MAX, "the answer", asked).await;
        let outcome = outcome.with_context(|| cluster.logs())??;
        tally.slowest = tally.slowest.max(struck.elapsed());
        match outcome {
            Ok(actual) => {
                same_rows(&expected, &actual)?;
                tally.n_answers += 1;
            }
            Err(error) => {
                ensure!(error.retryable && error.message.contains("worker"), "{error:?}");
                tally.n_errors += 1;
            }
        }
        let next = next_query(&cluster);
        environment::within(ANSWER_MAX, "the next query", next).await??;
        cluster.remove_worker(victim);
        cluster.add_worker().await?;
    }
    say(&format!("{signal}: {tally}"));
    Ok(())
}

/// With the dead or frozen worker still in the list.
async fn next_query(cluster: &Cluster) -> Result<()> {
    let rows = cluster.client().await?.query("SELECT count(*) FROM tpch.\"sf0.01\".orders").await?;
    let count = arrow::util::display::array_value_to_string(rows[0].column(0), 0)?;
    ensure!(count == "15000", "{count} orders");
    Ok(())
}

/// A cluster over a source whose statement never ends.
struct Bench {
    server: Postgres,
    cluster: Cluster,
}

impl Bench {
    async fn start() -> Result<Self> {
        let server = Postgres::start()?;
        server.execute(&[STUCK]).await?;
        let catalogs = [
            ("pg", catalog_file("postgres", server.properties())),
            ("tpch", "connector = \"tpch\"\n".to_owned()),
        ];
        let cluster = Cluster::start(Shape::Workers(2), &catalogs).await?;
        // A worker's first use of the generator writes 300 MB of text, for a second or two that nothing can end.
        cluster.client().await?.query(long_query()).await?;
        Ok(Self { server, cluster })
    }

    /// Waits until the source works for us and so do the workers.
    async fn runs(&self) -> Result<()> {
        let deadline = environment::instant() + Duration::from_secs(20);
        while self.n_statements().await? == 0 || self.is_quiet().await? {
            ensure!(environment::instant() < deadline, "the query does not run");
        }
        Ok(())
    }

    /// Fails unless the statement is gone and the workers are idle in time.
    async fn is_idle(&self) -> Result<()> {
        let left = environment::instant();
        let gone = async {
            while self.n_statements().await? > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok::<_, anyhow::Error>(left.elapsed())
        };
        let quiet = async {
            loop {
                let since = left.elapsed();
                if self.is_quiet().await? {
                    return Ok::<_, anyhow::Error>(since);
                }
            }
        };
        let both = async { tokio::try_join!(gone, quiet) };
        // The look at the workers takes a moment of its own.
        let (gone, quiet) = environment::within(TRACE_MAX + LOOK, "the end", both).await??;
        say(&format!("statement gone after {gone:.2?}, workers idle after {quiet:.2?}"));
        ensure!(gone <= TRACE_MAX && quiet <= TRACE_MAX, "{gone:?}, {quiet:?}");
        Ok(())
    }

    /// Statements that run in the source for us.
    async fn n_statements(&self) -> Result<i64> {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%stuck%' \
                   AND pid <> pg_backend_pid()";
        Ok(self.server.connect().await?.client.query_one(sql, &[]).await?.get(0))
    }

    /// Whether the workers' processes use no processor for a moment.
    async fn is_quiet(&self) -> Result<bool> {
        let before = self.ticks()?;
        tokio::time::sleep(LOOK).await;
        Ok(self.ticks()? - before <= QUIET_TICKS)
    }

    /// Processor time of all workers so far, in hundredths of a second.
    fn ticks(&self) -> Result<u64> {
        self.cluster.worker_ids()?.into_iter().map(ticks_of).sum()
    }
}

/// How long the workers are looked at, and what they may use in that time: heartbeats.
const LOOK: Duration = Duration::from_millis(300);
const QUIET_TICKS: u64 = 4;

/// User and system time of a process, as Linux counts it.
fn ticks_of(process: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after_name = stat.rsplit_once(')').context("the name in parentheses")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let user: u64 = fields.get(11).context("utime")?.parse()?;
    let system: u64 = fields.get(12).context("stime")?.parse()?;
    Ok(user + system)
}

#[expect(clippy::print_stdout, reason = "the long run is for its figures")]
fn say(text: &str) {
    println!("{text}");
}
