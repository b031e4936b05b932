//! TPC-H on plain DataFusion, on one process, and on a coordinator with two workers, in one interleaved run on
//! the same cores; the answers are compared as well. Then, or alone, a query that needs no exchange, many times.

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use meshwork::client::Client;
use meshwork::demo::tpch::Extent;
use meshwork_engine::{Error, environment};
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::oracle::Oracle;
use meshwork_sql_tests::{compare, tpch};
use tokio::runtime::Handle;

use super::{folder, n_rounds, say, scale, timed};

/// Files of each large table.
const N_FILES: i32 = 4;

/// What is compared, in the order of the table's columns.
const SUBJECTS: [&str; 3] = ["datafusion", "standalone", "1+2 processes"];

/// A query that needs no exchange.
const SMALL: &str = "SELECT n_name, n_regionkey FROM nation WHERE n_nationkey = 7";
/// How often it is asked of each subject, and how often in a row: alone it finds idle cores and cold caches.
const N_SMALL: usize = 300;
const SMALL_IN_A_ROW: [usize; 2] = [1, 30];

/// Milliseconds of each subject for one query, and whether its answer is the first subject's.
#[derive(Debug, Clone, Copy)]
struct Figures {
    fastest_ms: [f64; 3],
    equal: [bool; 3],
}

/// Who is asked.
struct Subjects {
    oracle: Oracle,
    doors: [Door; 2],
    _clusters: [Cluster; 2],
}

/// A client of a server, on the clients' thread.
struct Door {
    client: Client,
    thread: Handle,
}

/// Measures and prints.
pub(crate) async fn run(clients: &Handle) -> Result<()> {
    let n_rounds = n_rounds()?;
    say(&format!("TPC-H at scale factor {}, {n_rounds} rounds", scale()?));
    let mut subjects = Subjects::start(clients).await?;
    let nothing = Figures { fastest_ms: [f64::INFINITY; 3], equal: [true; 3] };
    let mut figures = vec![nothing; tpch::N_QUERIES];
    for round in 1..=n_rounds {
        for (index, figure) in figures.iter_mut().enumerate() {
            let sql = tpch::query(index + 1)?;
            let asked = subjects.ask_all(&sql, figure).await;
            asked.with_context(|| format!("q{:02}", index + 1))?;
        }
        say(&format!("round {round} of {n_rounds} done"));
    }
    report(&figures);
    subjects.report_small().await
}

/// Measures and prints the query that needs no exchange alone.
pub(crate) async fn run_small(clients: &Handle) -> Result<()> {
    Subjects::start(clients).await?.report_small().await
}

impl Subjects {
    /// Writes the tables, if they are not there, and starts all.
    async fn start(clients: &Handle) -> Result<Self> {
        let scale = scale()?;
        let lake = folder()?.join(format!("sf{scale}"));
        tpch::write_lake(&lake, Extent { scale, n_files: N_FILES })?;
        let oracle = Oracle::over(&lake.join("tpch")).await?;
        let file = format!("connector = \"lake\"\nlocation = {:?}\n", lake.to_string_lossy());
        let standalone = Cluster::start(Shape::Standalone, &[("lake", file.clone())]).await?;
        let cluster = Cluster::start(Shape::Workers(2), &[("lake", file)]).await?;
        let doors = [Door::of(&standalone, clients).await?, Door::of(&cluster, clients).await?];
        Ok(Self { oracle, doors, _clusters: [standalone, cluster] })
    }

    /// Runs one query on all, one after the other.
    async fn ask_all(&mut self, sql: &str, figure: &mut Figures) -> Result<()> {
        let (expected, took) = timed(self.oracle.query(sql)).await?;
        figure.fastest_ms[0] = figure.fastest_ms[0].min(took);
        for (index, door) in self.doors.iter().enumerate() {
            let (actual, took) = timed(door.query(sql)).await?;
            figure.fastest_ms[index + 1] = figure.fastest_ms[index + 1].min(took);
            figure.equal[index + 1] &= compare::same_rows(&expected, &actual).is_ok();
        }
        Ok(())
    }

    /// Asks the small query of all, in turn, and prints the medians.
    async fn report_small(&mut self) -> Result<()> {
        for n_in_a_row in SMALL_IN_A_ROW {
            let mut took_ms = [const { Vec::new() }; 3];
            for _ in 0..N_SMALL / n_in_a_row {
                for _ in 0..n_in_a_row {
                    took_ms[0].push(timed(self.oracle.query(SMALL)).await?.1);
                }
                for (index, door) in self.doors.iter().enumerate() {
                    for _ in 0..n_in_a_row {
                        took_ms[index + 1].push(timed(door.query(SMALL)).await?.1);
                    }
                }
            }
            say(&format!("\n{SMALL}, median of {N_SMALL}, {n_in_a_row} in a row:"));
            let medians = took_ms.map(|mut took| {
                took.sort_by(f64::total_cmp);
                took[took.len() / 2]
            });
            for (name, median) in SUBJECTS.iter().zip(medians) {
                say(&format!("{name}: {median:.2} ms ({:+.2} ms)", median - medians[0]));
            }
        }
        Ok(())
    }
}

impl Door {
    async fn of(cluster: &Cluster, thread: &Handle) -> Result<Self> {
        let url = cluster.url().to_owned();
        let client = environment::spawn_on(thread, "connect", async move {
            let mut client = Client::connect(&url).await?;
            client.run("USE lake.tpch").await?;
            Ok::<_, Error>(client)
        });
        Ok(Self { client: client.await??, thread: thread.clone() })
    }

    async fn query(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        let (mut client, sql) = (self.client.clone(), sql.to_owned());
        let asked =
            environment::spawn_on(&self.thread, "ask", async move { client.query(&sql).await });
        Ok(asked.await??)
    }
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
