//! A large table of PostgreSQL through one process, beside the server's own `COPY ... TO '/dev/null'` of the
//! same column; then sums over two tables between which money is moved all the time.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arrow::array::{AsArray, RecordBatch};
use arrow::csv::WriterBuilder;
use arrow::datatypes::Int64Type;
use meshwork::demo::tpch::{Part, Table};
use meshwork_engine::environment;
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::servers::Postgres;
use meshwork_sql_tests::spread::{catalog_file, columns_of};

use super::{n_rounds, say, scale, setting, timed};

const QUERY: &str = "SELECT count(*), sum(l_quantity) FROM pg.public.lineitem";

/// What the server can send of that column when nobody reads it.
const CEILING: &str = "COPY (SELECT l_quantity FROM lineitem) TO '/dev/null' (FORMAT binary)";

/// The connections that read for us, as the server sees them.
const READERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND pid <> pg_backend_pid() \
                       AND state = 'active' AND application_name LIKE 'meshwork%'";

/// What both accounts hold together, and rows enough for several splits.
const ACCOUNTS: &[&str] = &[
    "CREATE TABLE a AS SELECT g AS id, 1000::bigint AS v, repeat('x', 500) AS filler FROM generate_series(1, 20000) g",
    "CREATE TABLE b AS SELECT * FROM a",
    "CREATE INDEX ON a (id)",
    "CREATE INDEX ON b (id)",
    "ANALYZE a",
    "ANALYZE b",
];
const TOGETHER: i64 = 2 * 20_000 * 1000;
const SUMS: &str = "SELECT (SELECT sum(v) FROM pg.public.a) + (SELECT sum(v) FROM pg.public.b)";

/// Measures and prints.
pub(crate) async fn run() -> Result<()> {
    let server = Arc::new(Postgres::start()?);
    let file = [("pg", catalog_file("postgres", server.properties()))];
    let n_rows = fill(&server).await?;
    read(&server, &file, n_rows).await?;
    sums(&server, &file).await
}

/// Loads `lineitem` and returns its number of rows.
async fn fill(server: &Postgres) -> Result<i64> {
    let scale = scale()?;
    let path = csv_of_lineitem(scale)?;
    let columns = columns_of(&Table::Lineitem.schema());
    say(&format!("loading lineitem at scale factor {scale}"));
    server
        .execute(&[
            &format!("CREATE UNLOGGED TABLE lineitem ({columns})"),
            &format!("COPY lineitem FROM PROGRAM 'cat {}' (FORMAT csv)", path.display()),
            "ANALYZE lineitem",
        ])
        .await?;
    let session = server.connect().await?;
    Ok(session.client.query_one("SELECT count(*) FROM lineitem", &[]).await?.get(0))
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

async fn read(server: &Arc<Postgres>, file: &[(&str, String)], n_rows: i64) -> Result<()> {
    let cluster = Cluster::start(Shape::Standalone, file).await?;
    let mut client = cluster.client().await?;
    let beside = server.connect().await?;
    let (mut ours_ms, mut ceiling_ms, mut n_connections) = (f64::INFINITY, f64::INFINITY, 0);
    for _ in 0..n_rounds()? {
        let (_, took) = timed(async { Ok(beside.client.batch_execute(CEILING).await?) }).await?;
        ceiling_ms = ceiling_ms.min(took);
        let watch = watch_readers(Arc::clone(server));
        let (rows, took) = timed(async { Ok(client.query(QUERY).await?) }).await?;
        ours_ms = ours_ms.min(took);
        n_connections = n_connections.max(watch.stop().await?);
        ensure!(number(&rows)? == n_rows, "{} rows of {n_rows}", number(&rows)?);
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 rows")]
    let per_second = |ms: f64| n_rows as f64 / ms / 1e3;
    say(&format!("{QUERY}: {n_rows} rows"));
    say(&format!(
        "meshwork: {ours_ms:.0} ms, {:.2} M rows/s, {n_connections} connections",
        per_second(ours_ms)
    ));
    say(&format!("{CEILING}: {ceiling_ms:.0} ms, {:.2} M rows/s", per_second(ceiling_ms)));
    say(&format!("ratio of rows/s: {:.2}", ceiling_ms / ours_ms));
    Ok(())
}

/// Counts the readers while a query runs.
struct Watch {
    ended: Arc<AtomicBool>,
    task: environment::Task<Result<i64>>,
}

fn watch_readers(server: Arc<Postgres>) -> Watch {
    let ended = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&ended);
    let task = environment::spawn("watch", async move {
        let session = server.connect().await?;
        let mut most = 0;
        while !until.load(Ordering::Relaxed) {
            most = most.max(session.client.query_one(READERS, &[]).await?.get(0));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(most)
    });
    Watch { ended, task }
}

impl Watch {
    async fn stop(self) -> Result<i64> {
        self.ended.store(true, Ordering::Relaxed);
        self.task.await?
    }
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
    for _ in 0..n_sums {
        let sum = number(&client.query(SUMS).await?)?;
        n_torn += usize::from(sum != TOGETHER);
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
        let id = n_transfers % 20_000 + 1;
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
