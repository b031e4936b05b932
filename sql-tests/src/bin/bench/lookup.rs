//! A few keys of a lake against a large indexed table of PostgreSQL: what the server was asked, what it sent, how long it took.

use anyhow::{Context, Result};
use arrow::array::{AsArray, RecordBatch};
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::servers::Postgres;
use meshwork_sql_tests::spread::catalog_file;

use super::{n_rounds, say, setting, timed};

/// The keys lie apart, so that each is in a page of its own.
const N_KEYS: usize = 500;

/// Measures and prints.
pub(crate) async fn run() -> Result<()> {
    let n_rows: usize = setting("BENCH_ROWS", 10_000_000)?;
    let server = Postgres::start()?;
    say(&format!("loading {n_rows} rows"));
    server
        .execute(&[
            &format!(
                "CREATE UNLOGGED TABLE large AS SELECT n::bigint AS id, n % 1000 AS shop, (n % 977)::numeric(10,2) AS amount \
                 FROM generate_series(1, {n_rows}) n"
            ),
            "CREATE UNIQUE INDEX ON large (id)",
            "ANALYZE large",
            "ALTER SYSTEM SET log_statement = 'all'",
            "SELECT pg_reload_conf()",
        ])
        .await?;
    let lake = tempfile::tempdir()?;
    let location = [("location".to_owned(), lake.path().to_string_lossy().into_owned())];
    let catalogs = [
        ("pg", catalog_file("postgres", server.properties())),
        ("lake", catalog_file("lake", location.into())),
    ];
    let cluster = Cluster::start(Shape::Standalone, &catalogs).await?;
    let mut client = cluster.client().await?;
    client.run("CREATE SCHEMA lake.web").await?;
    let keys = format!(
        "CREATE TABLE lake.web.keys AS SELECT n * {} AS id FROM (SELECT unnest(range(1, {})) AS n) AS r",
        n_rows / N_KEYS,
        N_KEYS + 1
    );
    client.run(&keys).await?;
    let sql =
        "SELECT l.id, l.shop, l.amount FROM pg.public.large l JOIN lake.web.keys k ON l.id = k.id";
    let (mut fastest_ms, mut n_statements, mut n_found) = (f64::INFINITY, 0, 0);
    for _ in 0..n_rounds()? {
        let before = server.log()?.len();
        let (rows, ms) = timed(async { Ok(client.query(sql).await?) }).await?;
        fastest_ms = fastest_ms.min(ms);
        n_found = rows.iter().map(RecordBatch::num_rows).sum();
        let log = server.log()?;
        let said = log.get(before..).context("a log only grows")?;
        n_statements = said.lines().filter(|line| line.contains("execute rows: SELECT")).count();
    }
    say(&format!("{sql}: {n_found} rows, {fastest_ms:.0} ms, {n_statements} statements that read"));
    for batch in client.query(&format!("EXPLAIN ANALYZE {sql}")).await? {
        for text in batch.column(1).as_string::<i32>().iter().flatten() {
            for line in text.lines().filter(|line| line.contains("RemoteScanExec")) {
                say(&format!("{}...", line.trim().chars().take(220).collect::<String>()));
                say(line.rsplit_once("metrics=").map_or("", |(_, metrics)| metrics));
            }
        }
    }
    Ok(())
}
