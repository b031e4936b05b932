//! `make bench`: TPC-H on plain DataFusion, on one process, and on a coordinator with two workers, in one
//! interleaved run on the same cores; the answers are compared as well.
//!
//! `BENCH_SCALE` (1), `BENCH_ROUNDS` (3) and `BENCH_FOLDER` (target/bench) change what is run. The figure of
//! a query is its fastest round.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use meshwork::client::Client;
use meshwork::demo::tpch::Extent;
use meshwork_engine::environment;
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::oracle::Oracle;
use meshwork_sql_tests::{compare, tpch};

/// Files of each large table.
const N_FILES: i32 = 4;

/// What is compared, in the order of the table's columns.
const SUBJECTS: [&str; 3] = ["datafusion", "standalone", "1+2 processes"];

/// Milliseconds of each subject for one query, and whether its answer is the first subject's.
#[derive(Debug, Clone, Copy)]
struct Figures {
    fastest_ms: [f64; 3],
    equal: [bool; 3],
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let figures = runtime.block_on(measure())?;
    report(&figures);
    Ok(())
}

async fn measure() -> Result<Vec<Figures>> {
    let scale: f64 = setting("BENCH_SCALE", 1.0)?;
    let n_rounds: usize = setting("BENCH_ROUNDS", 3)?;
    let folder = std::path::absolute(setting("BENCH_FOLDER", PathBuf::from("target/bench"))?)?;
    let lake = folder.join(format!("sf{scale}"));
    say(&format!("TPC-H at scale factor {scale} in {}, {n_rounds} rounds", lake.display()));
    tpch::write_lake(&lake, Extent { scale, n_files: N_FILES })?;

    let oracle = Oracle::over(&lake.join("tpch")).await?;
    let file = format!("connector = \"lake\"\nlocation = {:?}\n", lake.to_string_lossy());
    let standalone = Cluster::start(Shape::Standalone, &[("lake", file.clone())]).await?;
    let cluster = Cluster::start(Shape::Workers(2), &[("lake", file)]).await?;
    let mut doors = [session(&standalone).await?, session(&cluster).await?];

    let nothing = Figures { fastest_ms: [f64::INFINITY; 3], equal: [true; 3] };
    let mut figures = vec![nothing; tpch::N_QUERIES];
    for round in 1..=n_rounds {
        for (index, figure) in figures.iter_mut().enumerate() {
            let sql = tpch::query(index + 1)?;
            one_round(&oracle, &mut doors, &sql, figure)
                .await
                .with_context(|| format!("q{:02}", index + 1))?;
        }
        say(&format!("round {round} of {n_rounds} done"));
    }
    Ok(figures)
}

/// Runs one query on all subjects, one after the other.
async fn one_round(
    oracle: &Oracle,
    doors: &mut [Client; 2],
    sql: &str,
    figure: &mut Figures,
) -> Result<()> {
    let (expected, took) = timed(oracle.query(sql)).await?;
    figure.fastest_ms[0] = figure.fastest_ms[0].min(took);
    for (index, door) in doors.iter_mut().enumerate() {
        let (actual, took) = timed(async { Ok(door.query(sql).await?) }).await?;
        figure.fastest_ms[index + 1] = figure.fastest_ms[index + 1].min(took);
        figure.equal[index + 1] &= compare::same_rows(&expected, &actual).is_ok();
    }
    Ok(())
}

async fn timed(
    query: impl Future<Output = Result<Vec<RecordBatch>>>,
) -> Result<(Vec<RecordBatch>, f64)> {
    let since = environment::instant();
    let rows = query.await?;
    Ok((rows, milliseconds(since.elapsed())))
}

async fn session(cluster: &Cluster) -> Result<Client> {
    let mut client = cluster.client().await?;
    client.run("USE lake.tpch").await?;
    Ok(client)
}

fn report(figures: &[Figures]) {
    say(&format!(
        "\n| query | {} ms | {} ms | {} ms | ratio | ratio |",
        SUBJECTS[0], SUBJECTS[1], SUBJECTS[2]
    ));
    say("|---|---:|---:|---:|---:|---:|");
    for (index, figure) in figures.iter().enumerate() {
        let [plain, standalone, cluster] = figure.fastest_ms;
        let differs = if figure.equal == [true; 3] { "" } else { " (rows differ)" };
        say(&format!(
            "| q{:02}{differs} | {plain:.0} | {standalone:.0} | {cluster:.0} | {:.2} | {:.2} |",
            index + 1,
            standalone / plain,
            cluster / plain
        ));
    }
    let n = figures.len();
    for (subject, name) in SUBJECTS.iter().enumerate().skip(1) {
        let n_equal = figures.iter().filter(|figure| figure.equal[subject]).count();
        let ratio = |figure: &Figures| figure.fastest_ms[subject] / figure.fastest_ms[0];
        let logs: f64 = figures.iter().map(|figure| ratio(figure).ln()).sum();
        #[expect(clippy::cast_precision_loss, reason = "there are 22 queries")]
        let mean = (logs / n as f64).exp();
        say(&format!(
            "{name}: {n_equal} of {n} equal to plain DataFusion, geometric mean {mean:.2} times its time"
        ));
    }
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

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

#[expect(clippy::print_stdout, reason = "the benchmark talks to its user")]
fn say(text: &str) {
    println!("{text}");
}
