//! Half of an `INSERT` is sent when its node is killed, or its client leaves: nothing of it is there, nothing of it is
//! left running, and who reads meanwhile sees all or nothing.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::future::BoxFuture;
use meshwork::client::Answer;
use meshwork_engine::{Error, environment};
use meshwork_sql_tests::cluster::Shape;
use meshwork_sql_tests::servers::{MariaDb, Postgres, Session};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::TURN;
use crate::trial::Trial;

/// Rows of the whole statement: some seconds.
const INSERT: &str =
    "INSERT INTO there.written.big SELECT l_orderkey, l_comment FROM tpch.\"sf1\".lineitem";
const MAKE: &str =
    "CREATE TABLE there.written.made AS SELECT l_orderkey, l_comment FROM tpch.\"sf1\".lineitem";
/// A small one that ends.
const WHOLE: &str =
    "INSERT INTO there.written.big SELECT l_orderkey, l_comment FROM tpch.\"sf0.01\".lineitem";
/// Until rows are seen on their way, and until nothing is left of them.
const DEADLINE: Duration = Duration::from_secs(60);
/// InnoDB shows the same transactions to whoever asks again within a tenth of a second.
const POLL: Duration = Duration::from_millis(200);

/// The other side, seen past the engine.
trait Witness: Send {
    /// How many rows of a statement that has not ended the server has got.
    fn n_on_their_way(&mut self) -> BoxFuture<'_, Result<u64>>;
    /// How many transactions of the engine there are.
    fn n_open(&mut self) -> BoxFuture<'_, Result<u64>>;
    /// How many rows the table has.
    fn n_rows(&mut self) -> BoxFuture<'_, Result<u64>>;
    /// The tables of the schema.
    fn tables(&mut self) -> BoxFuture<'_, Result<Vec<String>>>;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_half_written_to_postgres_is_not_there() -> Result<()> {
    let _turn = TURN.lock().await;
    let server = Postgres::start()?;
    server
        .execute(&["CREATE SCHEMA written", "CREATE TABLE written.big (k int8 NOT NULL, c text)"])
        .await?;
    let mut witness = OfPostgres(server.connect().await?);
    for shape in [Shape::Standalone, Shape::Workers(2)] {
        let mut trial = Trial::start(shape, "postgres", &server.properties()).await?;
        leave(&mut trial, INSERT, &mut witness).await?;
        kill(&mut trial, INSERT, &mut witness).await?;
        let mut trial = Trial::start(shape, "postgres", &server.properties()).await?;
        kill(&mut trial, MAKE, &mut witness).await?;
        ensure!(witness.tables().await? == ["big"]);
    }
    let mut trial = Trial::start(Shape::Workers(2), "postgres", &server.properties()).await?;
    seen_whole(&mut trial, &mut witness).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_half_written_to_mariadb_is_not_there() -> Result<()> {
    let _turn = TURN.lock().await;
    let server = MariaDb::start()?;
    server
        .execute(&[
            "CREATE DATABASE written",
            "CREATE TABLE written.big (k bigint NOT NULL, c text) ENGINE = InnoDB",
        ])
        .await?;
    let mut witness = OfMariaDb(server.connect().await?);
    for shape in [Shape::Standalone, Shape::Workers(2)] {
        let mut trial = Trial::start(shape, "mysql", &server.properties()).await?;
        leave(&mut trial, INSERT, &mut witness).await?;
        leave(&mut trial, MAKE, &mut witness).await?;
        kill(&mut trial, INSERT, &mut witness).await?;
        let mut trial = Trial::start(shape, "mysql", &server.properties()).await?;
        kill(&mut trial, MAKE, &mut witness).await?;
        ensure!(!witness.tables().await?.contains(&"made".to_owned()));
    }
    let mut trial = Trial::start(Shape::Workers(2), "mysql", &server.properties()).await?;
    seen_whole(&mut trial, &mut witness).await
}

/// Begins a statement and leaves when half of its rows are sent.
async fn leave(trial: &mut Trial, sql: &'static str, witness: &mut dyn Witness) -> Result<()> {
    let mut client = trial.cluster.client().await?;
    let mut asked = environment::spawn("insert", async move { client.run(sql).await });
    half_way(witness, &mut asked).await.with_context(|| trial.cluster.logs())?;
    drop(asked);
    gone(witness).await.with_context(|| trial.cluster.logs())
}

/// Begins a statement and kills its coordinator when half of its rows are sent.
async fn kill(trial: &mut Trial, sql: &'static str, witness: &mut dyn Witness) -> Result<()> {
    let mut client = trial.cluster.client().await?;
    let mut asked = environment::spawn("insert", async move { client.run(sql).await });
    half_way(witness, &mut asked).await.with_context(|| trial.cluster.logs())?;
    trial.cluster.coordinator().kill().await?;
    gone(witness).await?;
    ensure!(asked.await?.is_err());
    Ok(())
}

async fn half_way(
    witness: &mut dyn Witness,
    asked: &mut environment::Task<Result<Answer, Error>>,
) -> Result<()> {
    let since = environment::instant();
    while since.elapsed() < DEADLINE {
        if witness.n_on_their_way().await? > 10_000 {
            return Ok(());
        }
        if asked.is_finished() {
            bail!("the statement ended before it was seen: {:?}", asked.await?);
        }
        tokio::time::sleep(POLL).await;
    }
    bail!("no rows were seen on their way")
}

async fn gone(witness: &mut dyn Witness) -> Result<()> {
    let since = environment::instant();
    while witness.n_open().await? > 0 {
        ensure!(since.elapsed() < DEADLINE, "a transaction is left open");
        tokio::time::sleep(POLL).await;
    }
    let n_rows = witness.n_rows().await?;
    ensure!(n_rows == 0, "{n_rows} rows of half a statement are there");
    Ok(())
}

/// Whoever counts while rows come sees none of them, or all.
async fn seen_whole(trial: &mut Trial, witness: &mut dyn Witness) -> Result<()> {
    let mut client = trial.cluster.client().await?;
    let asked = environment::spawn("insert", async move { client.run(WHOLE).await });
    let mut seen = vec![witness.n_rows().await?];
    while !asked.is_finished() {
        seen.push(witness.n_rows().await?);
    }
    asked.await??;
    let whole = witness.n_rows().await?;
    ensure!(whole > 10_000 && seen.iter().all(|n| *n == 0 || *n == whole), "{seen:?} of {whole}");
    Ok(())
}

struct OfPostgres(Session);

impl OfPostgres {
    fn count(&mut self, sql: &'static str) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let n_rows: i64 = self.0.client.query_one(sql, &[]).await?.get(0);
            Ok(u64::try_from(n_rows)?)
        })
    }
}

impl Witness for OfPostgres {
    fn n_on_their_way(&mut self) -> BoxFuture<'_, Result<u64>> {
        self.count("SELECT COALESCE(max(tuples_processed), 0) FROM pg_stat_progress_copy")
    }

    fn n_open(&mut self) -> BoxFuture<'_, Result<u64>> {
        self.count("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'meshwork/%'")
    }

    fn n_rows(&mut self) -> BoxFuture<'_, Result<u64>> {
        self.count("SELECT count(*) FROM written.big")
    }

    fn tables(&mut self) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(async move {
            let sql =
                "SELECT tablename::text FROM pg_tables WHERE schemaname = 'written' ORDER BY 1";
            Ok(self.0.client.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
        })
    }
}

struct OfMariaDb(Conn);

impl OfMariaDb {
    fn count(&mut self, sql: &'static str) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move { Ok(self.0.query_first::<u64, _>(sql).await?.unwrap_or(0)) })
    }
}

impl Witness for OfMariaDb {
    fn n_on_their_way(&mut self) -> BoxFuture<'_, Result<u64>> {
        self.count("SELECT COALESCE(max(TRX_ROWS_MODIFIED), 0) FROM information_schema.INNODB_TRX")
    }

    fn n_open(&mut self) -> BoxFuture<'_, Result<u64>> {
        self.count("SELECT count(*) FROM information_schema.INNODB_TRX WHERE TRX_ROWS_MODIFIED > 0")
    }

    fn n_rows(&mut self) -> BoxFuture<'_, Result<u64>> {
        self.count("SELECT count(*) FROM written.big")
    }

    fn tables(&mut self) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(async move { Ok(self.0.query("SHOW TABLES FROM written").await?) })
    }
}
