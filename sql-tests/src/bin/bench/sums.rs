//! Sums over two tables of PostgreSQL between which money is moved all the time: a sum that moves was torn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use meshwork_engine::environment;
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::servers::Postgres;
use meshwork_sql_tests::spread::catalog_file;

use super::{say, setting};

/// What both accounts hold together, and pages enough for eight splits of each, with room for the new versions of rows.
const ACCOUNTS: &[&str] = &[
    "CREATE TABLE a (id int PRIMARY KEY, v bigint, filler text) WITH (fillfactor = 50)",
    "CREATE TABLE b (id int PRIMARY KEY, v bigint, filler text) WITH (fillfactor = 50)",
    "INSERT INTO a SELECT g, 1000, repeat('x', 500) FROM generate_series(1, 16000) g",
    "INSERT INTO b SELECT * FROM a",
    "ANALYZE a",
    "ANALYZE b",
];
const N_ACCOUNTS: u64 = 16_000;
const TOGETHER: i64 = 2 * 16_000 * 1000;
/// A split is not smaller than that, in KiB.
const SPLIT_KB_MIN: &str = "1024";
const SUMS: &str = "SELECT (SELECT sum(v) FROM pg.public.a) + (SELECT sum(v) FROM pg.public.b)";
/// After so many sums it is said how far they are.
const SUMS_PER_LINE: usize = 1000;

/// Measures and prints.
pub(crate) async fn run() -> Result<()> {
    let server = Arc::new(Postgres::start()?);
    let mut properties = server.properties();
    properties.insert("split_kb_min".to_owned(), SPLIT_KB_MIN.to_owned());
    let file = [("pg", catalog_file("postgres", properties))];
    sums(&server, &file).await
}

/// Adds the accounts up `BENCH_SUMS` (1000) times while transfers run.
async fn sums(server: &Arc<Postgres>, file: &[(&str, String)]) -> Result<()> {
    let n_sums: usize = setting("BENCH_SUMS", 1000)?;
    server.execute(ACCOUNTS).await?;
    let cluster = Cluster::start(Shape::Workers(2), file).await?;
    let mut client = cluster.client().await?;
    let ended = Arc::new(AtomicBool::new(false));
    let moving = environment::spawn("transfers", transfer(Arc::clone(server), Arc::clone(&ended)));
    let mut n_torn = 0;
    for n_done in 1..=n_sums {
        let sum = number(&client.query(SUMS).await?)?;
        n_torn += usize::from(sum != TOGETHER);
        if n_done % SUMS_PER_LINE == 0 {
            say(&format!("{n_done} sums, {n_torn} torn"));
        }
    }
    ended.store(true, Ordering::Relaxed);
    let n_transfers = moving.await??;
    say(&format!("{n_torn} of {n_sums} sums torn while {n_transfers} transfers were committed"));
    Ok(())
}

/// Moves money from the one table to the other until told to end; returns how often.
async fn transfer(server: Arc<Postgres>, ended: Arc<AtomicBool>) -> Result<u64> {
    let session = server.connect().await?;
    let mut n_transfers = 0;
    while !ended.load(Ordering::Relaxed) {
        let id = n_transfers % N_ACCOUNTS + 1;
        let moved = format!(
            "BEGIN; UPDATE a SET v = v - 7 WHERE id = {id}; UPDATE b SET v = v + 7 WHERE id = {id}; COMMIT"
        );
        session.client.batch_execute(&moved).await?;
        n_transfers += 1;
    }
    Ok(n_transfers)
}

/// The first column of the only row.
fn number(rows: &[RecordBatch]) -> Result<i64> {
    let row = rows.iter().find(|batch| batch.num_rows() == 1).context("one row")?;
    match row.column(0).as_primitive_opt::<Int64Type>() {
        Some(column) => Ok(column.value(0)),
        None => {
            let text = arrow::util::display::array_value_to_string(row.column(0), 0)?;
            text.parse().with_context(|| format!("{text} is no whole number"))
        }
    }
}
