//! Reads all of lineitem into Arrow by `datafusion-table-providers`, for `bench read`: what `../read_lineitem.py` is for others.
//!
//! Arguments: `postgres` or `mariadb`, and the ports of both. `PGPASSWORD` and `MYSQL_PWD` are in the environment, and
//! `BENCH_TLS`, which is `prefer` or `disable`. The answer is `{"ms": ..., "cpu_s": ..., "rows": ...}`.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use datafusion::catalog::TableProvider;
use datafusion::prelude::SessionContext;
use datafusion_table_providers_mysql::MySQLTableFactory;
use datafusion_table_providers_mysql::pool::MySQLConnectionPool;
use datafusion_table_providers_postgres::PostgresTableFactory;
use datafusion_table_providers_postgres::pool::PostgresConnectionPool;
use futures::TryStreamExt;
use secrecy::SecretString;
use serde_json::json;

const COLUMNS: &str = "l_orderkey, l_partkey, l_suppkey, l_linenumber, l_quantity, l_extendedprice, l_discount, l_tax, \
    l_returnflag, l_linestatus, l_shipdate, l_commitdate, l_receiptdate, l_shipinstruct, l_shipmode, l_comment";

/// Clock ticks of a second in `/proc`.
const TICKS: f64 = 100.0;

fn main() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [server, postgres_port, mariadb_port] = arguments.as_slice() else {
        bail!("arguments: the server, the ports of PostgreSQL and MariaDB");
    };
    let table = match server.as_str() {
        "postgres" => postgres(postgres_port).await?,
        "mariadb" => mariadb(mariadb_port).await?,
        other => bail!("there is no server {other}"),
    };
    let context = SessionContext::new();
    context.register_table("lineitem", table)?;
    let (since, used_s) = (Instant::now(), cpu_s()?);
    let frame = context.sql(&format!("SELECT {COLUMNS} FROM lineitem")).await?;
    let mut stream = frame.execute_stream().await?;
    let mut n_rows = 0;
    while let Some(batch) = stream.try_next().await? {
        n_rows += batch.num_rows();
    }
    let ms = since.elapsed().as_secs_f64() * 1e3;
    println!("{}", json!({"ms": ms, "cpu_s": cpu_s()? - used_s, "rows": n_rows}));
    Ok(())
}

async fn postgres(port: &str) -> Result<Arc<dyn TableProvider>> {
    let properties = properties(&[
        ("host", "127.0.0.1"),
        ("port", port),
        ("user", "tester"),
        ("pass", &env::var("PGPASSWORD")?),
        ("db", "postgres"),
        ("sslmode", &env::var("BENCH_TLS")?),
    ]);
    let pool = Arc::new(PostgresConnectionPool::new(properties).await?);
    let table = PostgresTableFactory::new(pool).table_provider("lineitem".into()).await;
    table.map_err(|error| anyhow!("PostgreSQL: {error}"))
}

async fn mariadb(port: &str) -> Result<Arc<dyn TableProvider>> {
    let is_plain = env::var("BENCH_TLS")? == "disable";
    let properties = properties(&[
        ("host", "127.0.0.1"),
        ("tcp_port", port),
        ("user", "tester"),
        ("pass", &env::var("MYSQL_PWD")?),
        ("db", "tpch"),
        ("sslmode", if is_plain { "disabled" } else { "preferred" }),
    ]);
    let pool = Arc::new(MySQLConnectionPool::new(properties).await?);
    let table = MySQLTableFactory::new(pool).table_provider("lineitem".into()).await;
    table.map_err(|error| anyhow!("MariaDB: {error}"))
}

fn properties(pairs: &[(&str, &str)]) -> HashMap<String, SecretString> {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), SecretString::from(*value));
    pairs.iter().map(pair).collect()
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
