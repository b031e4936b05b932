//! Updates of one aggregate table of the store, and what it answers while it has a delta for each of them, then those that its
//! policy keeps, then one; beside `DuckDB` in its own format, where `BENCH_PYTHON` names a Python that has it.
//!
//! ```text
//! key      40 days x 5,000 publishers (Zipf, s = 0.8) x 10 countries
//! values   clicks SUM, cost SUM; every seventh update takes back
//! rollup   (day, country), if BENCH_ROLLUP is true: comes into being with each update
//! updates  BENCH_UPDATES (50) of BENCH_UPDATE_ROWS (200,000) rows, as Parquet files that both load
//! ```
//! `DuckDB` keeps what was loaded, folded by update, as many engines without aggregate tables do, and folds it when asked; and
//! in one table that is folded and sorted.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use meshwork::client::Client;
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::spread::catalog_file;
use parquet::arrow::ArrowWriter;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::duckdb::DuckDb;
use super::{folder, n_rounds, say, setting, timed};

const SEED: u64 = 42;

/// The first day, as days since 1970: 2026-01-01.
const FIRST_DAY: i32 = 20_454;
const N_DAYS: i32 = 40;
const N_PUBLISHERS: u32 = 5_000;
const ZIPF: f64 = 0.8;
const COUNTRIES: [&str; 10] = ["at", "br", "ch", "cn", "de", "fr", "in", "jp", "uk", "us"];

/// Every so many updates one takes back.
const NEGATIVE_EVERY: usize = 7;

/// Points that are asked for.
const N_POINTS: usize = 100;

/// A question, to a folded table and to one with rows for each update.
struct Question {
    name: &'static str,
    folded: &'static str,
    /// The same where rows have to be folded first; None where folding twice is the same.
    unfolded: Option<&'static str>,
}

const QUESTIONS: [Question; 5] = [
    Question {
        name: "seven days by country",
        folded: "SELECT country, sum(clicks), sum(cost) FROM t WHERE day BETWEEN DATE '2026-01-11' AND DATE '2026-01-17' \
                 GROUP BY country ORDER BY country",
        unfolded: None,
    },
    Question {
        name: "all by day",
        folded: "SELECT day, sum(clicks), sum(cost) FROM t GROUP BY day ORDER BY day",
        unfolded: None,
    },
    Question {
        name: "one publisher",
        folded: "SELECT sum(clicks), sum(cost) FROM t WHERE publisher = 17",
        unfolded: None,
    },
    Question {
        name: "keys with many clicks",
        folded: "SELECT count(*) FROM t WHERE clicks > 20",
        unfolded: Some(
            "SELECT count(*) FROM (SELECT sum(clicks) AS clicks FROM t GROUP BY day, publisher, country) WHERE clicks > 20",
        ),
    },
    Question {
        name: "all keys",
        folded: "SELECT count(*), sum(clicks), sum(cost) FROM t",
        unfolded: Some(
            "SELECT count(*), sum(clicks), sum(cost) FROM \
             (SELECT sum(clicks) AS clicks, sum(cost) AS cost FROM t GROUP BY day, publisher, country)",
        ),
    },
];

/// Measures and prints.
pub(crate) async fn run() -> Result<()> {
    let n_updates: usize = setting("BENCH_UPDATES", 50)?;
    let n_rows: usize = setting("BENCH_UPDATE_ROWS", 200_000)?;
    let home = folder()?.join(format!("updates-{n_updates}x{n_rows}"));
    let raw = home.join("raw");
    (1..=n_updates).try_for_each(|number| write_update(&raw, number, n_rows))?;
    let facts = tempfile::tempdir_in(&home)?;
    let at = |path: &Path| ("location".to_owned(), path.to_string_lossy().into_owned());
    let off = ("maintenance".to_owned(), "off".to_owned());
    let catalogs = [
        ("lake", catalog_file("lake", [at(&home)].into())),
        ("facts", catalog_file("store", [at(facts.path()), off].into())),
    ];
    let cluster = Cluster::start(Shape::Standalone, &catalogs).await?;
    let mut client = cluster.client().await?;
    let mut duckdb = DuckDb::start("duckdb_store.py", [raw.as_os_str()], &[])?;

    client
        .run(
            "CREATE TABLE facts.ads.t (day DATE, publisher BIGINT, country VARCHAR, clicks BIGINT SUM, cost BIGINT SUM) \
             AGGREGATE KEY (day, publisher, country)",
        )
        .await?;
    client.run("USE facts.ads").await?;
    if setting("BENCH_ROLLUP", false)? {
        client.run("CREATE ROLLUP by_country ON t (day, country, clicks, cost)").await?;
    }
    load(&mut client, duckdb.as_mut(), n_updates, n_rows).await?;
    for step in ["", "OPTIMIZE facts.ads.t", "OPTIMIZE facts.ads.t FULL"] {
        if !step.is_empty() {
            let (_rows, took) = timed(async { Ok(client.run(step).await?) }).await?;
            say(&format!("\n{step}: {took:.0} ms"));
        }
        answer(&mut client, duckdb.as_mut()).await?;
    }
    Ok(())
}

/// Writes the rows of one update, unless they are there.
fn write_update(raw: &Path, number: usize, n_rows: usize) -> Result<()> {
    let table = raw.join(format!("b{number}"));
    let file = table.join("rows.parquet");
    if file.exists() {
        return Ok(());
    }
    let mut random = StdRng::seed_from_u64(SEED + u64::try_from(number)?);
    let mut weight = 0.0;
    let weights: Vec<f64> = (1..=N_PUBLISHERS)
        .map(|rank| {
            weight += f64::from(rank).powf(-ZIPF);
            weight
        })
        .collect();
    let (mut days, mut publishers, mut countries) = (Vec::new(), Vec::new(), Vec::new());
    let (mut clicks, mut cost) = (Vec::new(), Vec::new());
    let sign = if number.is_multiple_of(NEGATIVE_EVERY) { -1 } else { 1 };
    for _ in 0..n_rows {
        let drawn = random.random_range(0.0..weight);
        let publisher = weights.partition_point(|weight| *weight <= drawn);
        days.push(FIRST_DAY + random.random_range(0..N_DAYS));
        publishers.push(i64::try_from(publisher)?);
        countries.push(COUNTRIES[random.random_range(0..COUNTRIES.len())]);
        clicks.push(sign * random.random_range(1..10_i64));
        cost.push(sign * random.random_range(1..1_000_i64));
    }
    let columns: [(&str, ArrayRef); 5] = [
        ("day", Arc::new(Date32Array::from(days))),
        ("publisher", Arc::new(Int64Array::from(publishers))),
        ("country", Arc::new(StringArray::from(countries))),
        ("clicks", Arc::new(Int64Array::from(clicks))),
        ("cost", Arc::new(Int64Array::from(cost))),
    ];
    let rows = RecordBatch::try_from_iter(columns)?;
    fs::create_dir_all(&table)?;
    let staged = raw.join(format!("b{number}.staged"));
    let mut writer = ArrowWriter::try_new(File::create(&staged)?, rows.schema(), None)?;
    writer.write(&rows)?;
    writer.close()?;
    Ok(fs::rename(staged, file)?)
}

/// Loads all updates into both, each in turn.
async fn load(
    client: &mut Client,
    mut duckdb: Option<&mut DuckDb>,
    n_updates: usize,
    n_rows: usize,
) -> Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for number in 1..=n_updates {
        let insert = format!("INSERT INTO facts.ads.t SELECT * FROM lake.raw.b{number}");
        ours.push(timed(async { Ok(client.run(&insert).await?) }).await?.1);
        if let Some(duckdb) = duckdb.as_deref_mut() {
            theirs.push(duckdb.ask(&json!({ "load": number })).await?.1);
        }
    }
    report_loads("Meshwork", ours, n_rows);
    if let Some(duckdb) = duckdb {
        report_loads("DuckDB", theirs, n_rows);
        let (_answer, took) = duckdb.ask(&json!({ "compact": true })).await?;
        say(&format!("DuckDB, folded into one: {took:.0} ms"));
    }
    Ok(())
}

fn report_loads(who: &str, mut took_ms: Vec<f64>, n_rows: usize) {
    #[expect(clippy::cast_precision_loss, reason = "few enough to count")]
    let rows_per_s = (n_rows * took_ms.len()) as f64 / took_ms.iter().sum::<f64>() * 1e3;
    let (median, slow) = percentiles(&mut took_ms);
    say(&format!(
        "{who}: {} updates, {:.2} M rows/s; {median:.0} ms each, 99th of 100 {slow:.0} ms",
        took_ms.len(),
        rows_per_s / 1e6
    ));
}

/// Returns the median, and what 99 of 100 do not exceed.
fn percentiles(took_ms: &mut [f64]) -> (f64, f64) {
    took_ms.sort_by(f64::total_cmp);
    let at = |hundredth: usize| took_ms[(took_ms.len() * hundredth / 100).min(took_ms.len() - 1)];
    (at(50), at(99))
}

/// Asks everything of both and prints the fastest rounds.
async fn answer(client: &mut Client, mut duckdb: Option<&mut DuckDb>) -> Result<()> {
    let deltas = "SELECT count(*), sum(\"rows\"), sum(bytes) FROM system.deltas WHERE is_read AND rollup IS NULL";
    let deltas = texts(&client.query(deltas).await?)?;
    let [row] = deltas.as_slice() else { anyhow::bail!("deltas: {deltas:?}") };
    say(&format!("\n{} deltas, {} rows, {} bytes", row[0], row[1], row[2]));
    say("| question | Meshwork ms | DuckDB, by update | DuckDB, one |");
    say("|---|---:|---:|---:|");
    for question in &QUESTIONS {
        let Question { name, folded, unfolded } = question;
        let mut fastest_ms = [f64::INFINITY; 3];
        for _ in 0..n_rounds()? {
            let (rows, took) = timed(async { Ok(client.query(folded).await?) }).await?;
            fastest_ms[0] = fastest_ms[0].min(took);
            let Some(duckdb) = duckdb.as_deref_mut() else { continue };
            let asked = [("loaded", unfolded.unwrap_or(folded)), ("folded", folded)];
            for (place, (schema, sql)) in asked.into_iter().enumerate() {
                let (answer, took) = duckdb.ask(&json!({ "schema": schema, "sql": sql })).await?;
                fastest_ms[place + 1] = fastest_ms[place + 1].min(took);
                let expected: Vec<Vec<String>> = serde_json::from_value(answer["rows"].clone())?;
                ensure!(texts(&rows)? == expected, "{name}: {rows:?}, DuckDB {expected:?}");
            }
        }
        say(&format!(
            "| {name} | {:.1} | {:.1} | {:.1} |",
            fastest_ms[0], fastest_ms[1], fastest_ms[2]
        ));
    }
    points(client, duckdb).await
}

/// Asks for single keys.
async fn points(client: &mut Client, mut duckdb: Option<&mut DuckDb>) -> Result<()> {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut took_ms = [const { Vec::new() }; 3];
    for number in 0..N_POINTS {
        // Every other one is of a publisher that is in every update.
        let publishers = if number.is_multiple_of(2) { 10 } else { N_PUBLISHERS };
        let sql = format!(
            "SELECT sum(clicks), sum(cost) FROM t WHERE day = DATE '2026-01-01' + INTERVAL '{}' DAY \
             AND publisher = {} AND country = '{}'",
            random.random_range(0..N_DAYS),
            random.random_range(0..publishers),
            COUNTRIES[random.random_range(0..COUNTRIES.len())]
        );
        took_ms[0].push(timed(async { Ok(client.query(&sql).await?) }).await?.1);
        let Some(duckdb) = duckdb.as_deref_mut() else { continue };
        for (place, schema) in ["loaded", "folded"].into_iter().enumerate() {
            let (_answer, took) = duckdb.ask(&json!({ "schema": schema, "sql": sql })).await?;
            took_ms[place + 1].push(took);
        }
    }
    let shown = took_ms.map(|mut took_ms| match took_ms.as_slice() {
        [] => "-".to_owned(),
        _ => {
            let (median, slow) = percentiles(&mut took_ms);
            format!("{median:.1} / {slow:.1}")
        }
    });
    say(&format!("| one key, median / 99th | {} |", shown.join(" | ")));
    Ok(())
}

/// Returns rows as text.
fn texts(batches: &[RecordBatch]) -> Result<Vec<Vec<String>>> {
    let options = FormatOptions::default();
    let mut rows = Vec::new();
    for batch in batches {
        let columns =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let columns = columns.collect::<Result<Vec<_>, _>>().context("a column has no text")?;
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|column| column.value(row).to_string()).collect());
        }
    }
    Ok(rows)
}
