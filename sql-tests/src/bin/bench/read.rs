//! All rows and columns of `lineitem` in PostgreSQL and in MariaDB, read into Arrow by this process; beside them what others
//! make of the same table, where `BENCH_PYTHON` names a Python that has them (see `sql-tests/clients/read_lineitem.py`) and
//! `BENCH_TABLE_PROVIDERS` the program built in `sql-tests/clients/table-providers`.
//! `BENCH_TLS` is how everybody reads: `prefer`, which encrypts, or `disable`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::csv::WriterBuilder;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::TryStreamExt;
use meshwork::connectors;
use meshwork::coordinator::{Coordinator, Identity};
use meshwork::demo::tpch::{Part, Table};
use meshwork_engine::catalog::{CatalogDefinition, CatalogRegistry};
use meshwork_sql_tests::local::coordinator;
use meshwork_sql_tests::servers::{MariaDb, Postgres};
use meshwork_sql_tests::spread::columns_of;
use serde_json::Value;
use tokio::process::Command;

use super::{n_rounds, say, scale, setting, timed};

/// What the servers do when nobody reads what they send.
const COPY: &str = "COPY (SELECT * FROM lineitem) TO '/dev/null' (FORMAT binary)";

/// The reader that is a program of its own.
const TABLE_PROVIDERS: &str = "datafusion-table-providers";

/// Clock ticks of a second in `/proc`.
const TICKS: f64 = 100.0;

/// The fastest round of one reader.
#[derive(Debug, Clone, Copy)]
struct Figure {
    ms: f64,
    cpu_s: f64,
    n_rows: u64,
}

/// Measures and prints.
pub(crate) async fn run() -> Result<()> {
    let (scale, n_rounds) = (scale()?, n_rounds()?);
    let (postgres, mariadb) = (Postgres::start()?, MariaDb::start_large()?);
    say(&format!("loading lineitem at scale factor {scale} into PostgreSQL and MariaDB"));
    fill(&postgres, &mariadb, &csv_of_lineitem(scale)?).await?;
    let catalogs =
        Arc::new(CatalogRegistry::new(connectors::make, Arc::new(RuntimeEnv::default())));
    let tls: String = setting("BENCH_TLS", "prefer".to_owned())?;
    let relaxed = ("read_consistency".to_owned(), "relaxed".to_owned());
    let splits = mariadb.properties().into_iter().chain([relaxed]).collect();
    for (name, kind, mut properties) in [
        ("pg", "postgres", postgres.properties()),
        ("my", "mysql", mariadb.properties()),
        ("my2", "mysql", splits),
    ] {
        let (name, kind) = (name.to_owned(), kind.to_owned());
        properties.insert("tls".to_owned(), tls.clone());
        catalogs.define(CatalogDefinition { name, kind, properties });
    }
    let coordinator = coordinator(&catalogs, 1).await?;
    let ports = [postgres.port(), mariadb.port()];
    let password_of = |properties: BTreeMap<String, String>| {
        properties.get("password").cloned().unwrap_or_default()
    };
    let told = [
        ("PGPASSWORD", password_of(postgres.properties())),
        ("MYSQL_PWD", password_of(mariadb.properties())),
        ("BENCH_TLS", tls),
    ];
    let mut figures: BTreeMap<(&str, String), Figure> = BTreeMap::new();
    for round in 1..=n_rounds {
        let session = postgres.connect().await?;
        let (_, ms) = timed(async { Ok(session.client.batch_execute(COPY).await?) }).await?;
        note(
            &mut figures,
            "postgres",
            "server's own COPY to /dev/null",
            Figure { ms, cpu_s: 0.0, n_rows: 0 },
        );
        let ((), ms) = timed(drained(mariadb.port(), &told)).await?;
        note(
            &mut figures,
            "mariadb",
            "server's own client to /dev/null",
            Figure { ms, cpu_s: 0.0, n_rows: 0 },
        );
        for (server, reader, table) in [
            ("postgres", "meshwork", "pg.public.lineitem"),
            ("mariadb", "meshwork", "my.tpch.lineitem"),
            ("mariadb", "meshwork, read_consistency = relaxed", "my2.tpch.lineitem"),
        ] {
            let figure = ours(&coordinator, &format!("SELECT * FROM {table}")).await;
            note(&mut figures, server, reader, figure.with_context(|| table.to_owned())?);
        }
        for (server, reader) in [
            ("postgres", "duckdb"),
            ("postgres", "connectorx"),
            ("postgres", "adbc"),
            ("postgres", TABLE_PROVIDERS),
            ("mariadb", "duckdb"),
            ("mariadb", "connectorx"),
            ("mariadb", TABLE_PROVIDERS),
        ] {
            if let Some(figure) = theirs(server, reader, ports, &told).await? {
                note(&mut figures, server, reader, figure);
            }
        }
        say(&format!("round {round} of {n_rounds} done"));
    }
    report(&figures);
    Ok(())
}

async fn fill(postgres: &Postgres, mariadb: &MariaDb, csv: &Path) -> Result<()> {
    let columns = columns_of(&Table::Lineitem.schema());
    postgres
        .execute(&[
            &format!("CREATE UNLOGGED TABLE lineitem ({columns})"),
            &format!("COPY lineitem FROM PROGRAM 'cat {}' (FORMAT csv)", csv.display()),
            "VACUUM ANALYZE lineitem",
        ])
        .await?;
    mariadb
        .execute(&[
            // The other readers do not ask for whole tables.
            "SET GLOBAL sql_select_limit = DEFAULT",
            "CREATE DATABASE tpch",
            &format!(
                "CREATE TABLE tpch.lineitem (row_id BIGINT AUTO_INCREMENT PRIMARY KEY, {columns})"
            ),
            &format!(
                "LOAD DATA INFILE '{}' INTO TABLE tpch.lineitem FIELDS TERMINATED BY ',' \
                 OPTIONALLY ENCLOSED BY '\"' ({})",
                csv.display(),
                names()
            ),
            "ANALYZE TABLE tpch.lineitem",
        ])
        .await
}

/// Writes the table once; the server's user may read it.
fn csv_of_lineitem(scale: f64) -> Result<PathBuf> {
    // The server runs as another user, who may not enter our folders.
    let path = std::env::temp_dir().join(format!("meshwork-bench-lineitem-sf{scale}.csv"));
    if path.exists() {
        return Ok(path);
    }
    let aside = path.with_extension("new");
    let mut writer = WriterBuilder::new().with_header(false).build(File::create(&aside)?);
    let whole = Part { scale, part: 1, n_parts: 1, batch_size: 8192 };
    for batch in Table::Lineitem.batches(whole) {
        writer.write(&batch?)?;
    }
    drop(writer);
    fs::rename(&aside, &path)?;
    Ok(path)
}

fn names() -> String {
    let schema = Table::Lineitem.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    names.join(", ")
}

/// Lets MariaDB's own client read the table and forget it.
async fn drained(port: u16, told: &[(&'static str, String)]) -> Result<()> {
    let is_plain =
        told.iter().any(|(name, value)| (*name, value.as_str()) == ("BENCH_TLS", "disable"));
    let ended = Command::new("mariadb")
        .args(["--no-defaults", "--host=127.0.0.1", "--user=tester", "--batch", "--quick"])
        .arg(format!("--port={port}"))
        .arg(if is_plain { "--skip-ssl" } else { "--ssl" })
        .args(["--execute", &format!("SELECT {} FROM tpch.lineitem", names())])
        .envs(told.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::null())
        .status();
    ensure!(ended.await?.success(), "MariaDB's own client failed");
    Ok(())
}

/// Reads a table in this process, batch by batch, and keeps none.
async fn ours(coordinator: &Arc<Coordinator>, sql: &str) -> Result<Figure> {
    let session = coordinator.open_session(Identity { user: "bench".to_owned() });
    let before = cpu_s()?;
    let read = async {
        let mut running = coordinator.execute(&session, sql, Vec::new(), None).await?;
        let mut n_rows = 0;
        while let Some(batch) = running.rows.try_next().await? {
            n_rows += batch.num_rows() as u64;
        }
        Ok(n_rows)
    };
    let (n_rows, ms) = timed(read).await?;
    Ok(Figure { ms, cpu_s: cpu_s()? - before, n_rows })
}

/// Returns what another reader says of itself; `None` where it is not at hand.
async fn theirs(
    server: &str,
    reader: &str,
    ports: [u16; 2],
    told: &[(&'static str, String)],
) -> Result<Option<Figure>> {
    let is_program = reader == TABLE_PROVIDERS;
    let named = if is_program { "BENCH_TABLE_PROVIDERS" } else { "BENCH_PYTHON" };
    let program: PathBuf = setting(named, PathBuf::new())?;
    if program.as_os_str().is_empty() {
        return Ok(None);
    }
    let mut command = Command::new(program);
    if is_program {
        command.arg(server);
    } else {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join("read_lineitem.py");
        command.arg(script).args([server, reader]);
    }
    let output = command
        .args(ports.map(|port| port.to_string()))
        .envs(told.iter().map(|(name, value)| (name, value)))
        .stderr(Stdio::inherit())
        .output()
        .await?;
    ensure!(output.status.success(), "{reader} failed at {server}");
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    let number = |name: &str| answer[name].as_f64().with_context(|| format!("no {name}"));
    let n_rows = answer["rows"].as_u64().context("no rows")?;
    Ok(Some(Figure { ms: number("ms")?, cpu_s: number("cpu_s")?, n_rows }))
}

fn note(
    figures: &mut BTreeMap<(&'static str, String), Figure>,
    server: &'static str,
    reader: &str,
    figure: Figure,
) {
    let known = figures.entry((server, reader.to_owned())).or_insert(figure);
    if figure.ms < known.ms {
        *known = figure;
    }
}

/// Seconds of processor time that this process has used.
fn cpu_s() -> Result<f64> {
    let said = fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = said.rsplit_once(')').context("the form of /proc/self/stat")?;
    let ticks = |place: usize| -> Result<f64> {
        Ok(rest.split_whitespace().nth(place).context("a figure is missing")?.parse()?)
    };
    Ok((ticks(11)? + ticks(12)?) / TICKS)
}

fn report(figures: &BTreeMap<(&str, String), Figure>) {
    let most = figures.values().map(|figure| figure.n_rows).max().unwrap_or_default();
    say("\n| server | reader | ms | M rows/s | CPU s of a million rows |");
    say("|---|---|---:|---:|---:|");
    for ((server, reader), Figure { ms, cpu_s, n_rows }) in figures {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 rows")]
        let millions = if *n_rows == 0 { most } else { *n_rows } as f64 / 1e6;
        say(&format!(
            "| {server} | {reader} | {ms:.0} | {:.2} | {:.2} |",
            millions / ms * 1e3,
            cpu_s / millions
        ));
    }
}
