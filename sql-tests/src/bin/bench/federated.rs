//! TPC-H spread over Parquet, PostgreSQL, MariaDB and REST, beside ourselves over Parquet alone; and `DuckDB` over both, where
//! `BENCH_PYTHON` names a Python that has it (see `sql-tests/clients/duckdb_tpch.py`). One interleaved run on the same cores, of
//! all queries or of those that `BENCH_QUERIES` numbers: `16,22`. `BENCH_RELAXED=true` reads MariaDB over several connections.

use anyhow::{Context, Result};
use arrow::array::{AsArray, RecordBatch};
use meshwork::client::Client;
use meshwork::demo::tpch::Extent;
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::spread::{Spread, catalog_file, relocate};
use meshwork_sql_tests::{compare, tpch};
use serde_json::json;

use super::duckdb::DuckDb;
use super::{folder, n_rounds, say, scale, setting, timed};

/// Files of each large table.
const N_FILES: i32 = 4;

/// Milliseconds of the fastest round for one query, and whether the spread tables answered as the files did.
#[derive(Debug, Clone, Copy)]
struct Figures {
    files_ms: f64,
    spread_ms: f64,
    duckdb_files_ms: f64,
    duckdb_spread_ms: f64,
    equal: bool,
}

/// Measures and prints.
pub(crate) async fn run() -> Result<()> {
    let (scale, n_rounds) = (scale()?, n_rounds()?);
    say(&format!("TPC-H at scale factor {scale} over four sources, {n_rounds} rounds"));
    let lake = folder()?.join(format!("sf{scale}"));
    tpch::write_lake(&lake, Extent { scale, n_files: N_FILES })?;
    let spread = Spread::start(scale).await?;
    spread.without_limits().await?;
    let location = [("location".to_owned(), lake.to_string_lossy().into_owned())];
    let mut catalogs = spread.catalogs();
    if setting("BENCH_RELAXED", false)? {
        let mariadb = catalogs.iter_mut().filter(|(name, _)| *name == "my");
        mariadb.for_each(|(_, file)| file.push_str("read_consistency = \"relaxed\"\n"));
    }
    catalogs.push(("lake", catalog_file("lake", location.into())));
    let cluster = Cluster::start(Shape::Standalone, &catalogs).await?;
    let mut client = cluster.client().await?;
    client.run("USE lake.tpch").await?;
    let (files, ports) = (lake.join("tpch"), spread.ports().map(|port| port.to_string()));
    let arguments = [files.as_os_str(), ports[0].as_ref(), ports[1].as_ref()];
    let mut duckdb = DuckDb::start("duckdb_tpch.py", arguments, &spread.passwords())?;
    let numbers = numbers()?;
    if setting("BENCH_PLANS", false)? {
        plans(&mut client, &numbers).await?;
    }
    let slowest = f64::INFINITY;
    let nothing = Figures {
        files_ms: slowest,
        spread_ms: slowest,
        duckdb_files_ms: slowest,
        duckdb_spread_ms: slowest,
        equal: true,
    };
    let mut figures: Vec<(usize, Figures)> = numbers.into_iter().map(|n| (n, nothing)).collect();
    for round in 1..=n_rounds {
        for (number, figure) in &mut figures {
            let sql = tpch::query(*number)?;
            let asked = ask_all(&mut client, duckdb.as_mut(), &sql, figure).await;
            asked.with_context(|| format!("q{number:02}"))?;
        }
        say(&format!("round {round} of {n_rounds} done"));
    }
    report(&figures, duckdb.is_some());
    Ok(())
}

/// Returns which queries are asked.
fn numbers() -> Result<Vec<usize>> {
    let wanted: String = setting("BENCH_QUERIES", String::new())?;
    if wanted.is_empty() {
        return Ok((1..=tpch::N_QUERIES).collect());
    }
    wanted.split(',').map(|number| number.trim().parse().context("BENCH_QUERIES")).collect()
}

/// Prints what each query became over the spread tables, with what each step took.
async fn plans(client: &mut Client, numbers: &[usize]) -> Result<()> {
    for number in numbers {
        let sql = format!("EXPLAIN ANALYZE {}", relocate(&tpch::query(*number)?));
        say(&format!("-- q{number:02}"));
        for batch in client.query(&sql).await? {
            for text in batch.column(1).as_string::<i32>().iter().flatten() {
                say(text);
            }
        }
    }
    Ok(())
}

async fn ask_all(
    client: &mut Client,
    duckdb: Option<&mut DuckDb>,
    sql: &str,
    figure: &mut Figures,
) -> Result<()> {
    let (expected, took) = ask(client, sql).await?;
    figure.files_ms = figure.files_ms.min(took);
    let (found, took) = ask(client, &relocate(sql)).await?;
    figure.spread_ms = figure.spread_ms.min(took);
    figure.equal &= compare::same_rows(&expected, &found).is_ok();
    if let Some(duckdb) = duckdb {
        let (_rows, took) = duckdb.ask(&json!({ "schema": "files", "sql": sql })).await?;
        figure.duckdb_files_ms = figure.duckdb_files_ms.min(took);
        let (_rows, took) = duckdb.ask(&json!({ "schema": "spread", "sql": sql })).await?;
        figure.duckdb_spread_ms = figure.duckdb_spread_ms.min(took);
    }
    Ok(())
}

async fn ask(client: &mut Client, sql: &str) -> Result<(Vec<RecordBatch>, f64)> {
    timed(async { Ok(client.query(sql).await?) }).await
}

fn report(figures: &[(usize, Figures)], with_duckdb: bool) {
    say(
        "\n| query | files ms | spread ms | spread/files | DuckDB files ms | DuckDB spread ms | ours/DuckDB, spread |",
    );
    say("|---|---:|---:|---:|---:|---:|---:|");
    for (number, figure) in figures {
        let Figures { files_ms, spread_ms, duckdb_files_ms, duckdb_spread_ms, equal } = figure;
        let differs = if *equal { "" } else { " (rows differ)" };
        say(&format!(
            "| q{number:02}{differs} | {files_ms:.0} | {spread_ms:.0} | {:.2} | {duckdb_files_ms:.0} | \
             {duckdb_spread_ms:.0} | {:.2} |",
            spread_ms / files_ms,
            spread_ms / duckdb_spread_ms
        ));
    }
    let figures: Vec<&Figures> = figures.iter().map(|(_number, figure)| figure).collect();
    let n_equal = figures.iter().filter(|figure| figure.equal).count();
    let mean = |ratio: fn(&Figures) -> f64| {
        let logs: f64 = figures.iter().map(|figure| ratio(figure).ln()).sum();
        #[expect(clippy::cast_precision_loss, reason = "there are few queries")]
        let mean = (logs / figures.len() as f64).exp();
        mean
    };
    let slowest = figures.iter().map(|f| f.spread_ms / f.files_ms).fold(0.0, f64::max);
    say(&format!(
        "{n_equal} of {} equal; spread over files: geometric mean {:.2}, slowest {slowest:.2}",
        figures.len(),
        mean(|f| f.spread_ms / f.files_ms)
    ));
    if with_duckdb {
        say(&format!(
            "DuckDB spread over files {:.2}; ours over DuckDB: files {:.2}, spread {:.2}",
            mean(|f| f.duckdb_spread_ms / f.duckdb_files_ms),
            mean(|f| f.files_ms / f.duckdb_files_ms),
            mean(|f| f.spread_ms / f.duckdb_spread_ms)
        ));
    }
}
