//! Many readers of two tables and a rollup while a writer updates both, is killed and begins again: at no version do they see
//! half of an update, and every acknowledged one counts once.
//!
//! `MESHWORK_READERS=1000` makes it longer: 200 updates, 20 kills.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, UInt64Type};
use meshwork::client::Client;
use meshwork_engine::environment;
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::spread::catalog_file;
use tempfile::TempDir;

/// The sums of a table, of its rollup and of the other table: only the first looks at the part of the key that no rollup has.
const SUMS: &str = "SELECT (SELECT sum(n) FROM facts.t.a WHERE k >= 0), (SELECT sum(n) FROM facts.t.a), \
    (SELECT sum(n) FROM facts.t.b)";

/// Rows of one update, in each table.
const N_ROWS: i64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_no_half_while_the_writer_is_killed() -> Result<()> {
    let _turn = super::TURN.lock().await;
    let n_readers: u64 = std::env::var("MESHWORK_READERS").map_or(Ok(40), |text| text.parse())?;
    let (n_updates, n_kills) = ((n_readers / 5).max(20), (n_readers / 50).max(3));
    let folder = TempDir::new()?;
    let location = ("location".to_owned(), folder.path().to_string_lossy().into_owned());
    let store = catalog_file("store", [location].into());
    let mut writer = Cluster::start(Shape::Workers(1), &[("facts", store.clone())]).await?;
    let reader = Cluster::start(Shape::Standalone, &[("facts", store)]).await?;
    let mut client = writer.client().await?;
    for statement in [
        "CREATE TABLE facts.t.a (k BIGINT, site INT, n BIGINT SUM) AGGREGATE KEY (k, site)",
        "CREATE TABLE facts.t.b (k BIGINT, site INT, n BIGINT SUM) AGGREGATE KEY (k, site)",
        "CREATE ROLLUP sites ON facts.t.a (site, n)",
    ] {
        client.run(statement).await?;
    }

    let seen = Arc::new(Seen::default());
    let mut readers = Vec::new();
    for number in 0..n_readers {
        let reading = read(reader.client().await?, number, Arc::clone(&seen));
        readers.push(environment::spawn("reader", reading));
    }
    let killed = write(&mut writer, n_updates, n_kills, &seen).await;
    seen.is_over.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await??;
    }
    let n_killed = killed?;

    let mut client = reader.client().await?;
    let sums = sums(&mut client, SUMS).await?;
    let expected = i64::try_from(n_updates)? * N_ROWS;
    ensure!(sums == [expected; 3], "{sums:?}, {expected} are acknowledged");
    let plan = client.query(&format!("EXPLAIN {SUMS}")).await?;
    let is_used =
        |row| plan[0].column(1).as_string::<i32>().value(row).contains("rollup \"sites\"");
    ensure!((0..plan[0].num_rows()).any(is_used), "the rollup is not read");
    let problems = client.query("CHECK TABLE facts.t.a FULL").await?;
    ensure!(problems.iter().all(|batch| batch.num_rows() == 0), "{problems:?}");
    let n_reads = seen.n_reads.load(Ordering::SeqCst);
    println!("{n_updates} updates, {n_killed} kills, {n_readers} readers, {n_reads} reads");
    ensure!(n_killed == n_kills && n_reads >= n_readers);
    Ok(())
}

/// What readers and the writer tell each other.
#[derive(Debug, Default)]
struct Seen {
    is_over: AtomicBool,
    n_reads: AtomicU64,
    /// The newest version that the writer knows of.
    newest: AtomicU64,
}

/// Sends each update until it is acknowledged; kills the coordinator now and then in the middle of one. Returns how often.
async fn write(cluster: &mut Cluster, n_updates: u64, n_kills: u64, seen: &Seen) -> Result<u64> {
    let mut n_killed = 0;
    let mut client = cluster.client().await?;
    for number in 1..=n_updates {
        if n_killed * n_updates < (number - 1) * n_kills {
            let half = environment::spawn("update", update(client, number));
            // Another moment of the update each time.
            tokio::time::sleep(Duration::from_millis(n_killed * 7 % 60)).await;
            cluster.coordinator().kill().await?;
            drop(half.await?);
            n_killed += 1;
            cluster.restart_coordinator().await?;
            client = cluster.client().await?;
        }
        let sent;
        (client, sent) = update(client, number).await;
        seen.newest.store(sent?, Ordering::SeqCst);
    }
    Ok(n_killed)
}

/// Sends an update as a feed that may have sent it before; returns a version that has it.
async fn update(mut client: Client, number: u64) -> (Client, Result<u64>) {
    let rows = |table: &str| {
        format!(
            "INSERT INTO facts.t.{table} SELECT {number} * 5 + v, v % 7, 1 \
             FROM (SELECT CAST(unnest(range(0, {N_ROWS})) AS BIGINT) AS v)"
        )
    };
    let commit = format!("COMMIT AS APP 'feed' SEQ {number}");
    let mut steps = async || -> Result<u64> {
        for step in ["BEGIN UPDATE BATCH", &rows("a"), &rows("b"), &commit] {
            client.run(step).await?;
        }
        let newest = "SELECT max(version) FROM system.changes WHERE catalog = 'facts'";
        Ok(client.query(newest).await?[0].column(0).as_primitive::<UInt64Type>().value(0))
    };
    let sent = steps().await;
    (client, sent)
}

/// Compares the sums of the newest version, or of an earlier one, until all is over.
async fn read(mut client: Client, number: u64, seen: Arc<Seen>) -> Result<()> {
    let mut n_reads = number;
    loop {
        let newest = seen.newest.load(Ordering::SeqCst);
        let sql = if n_reads.is_multiple_of(2) || newest == 0 {
            SUMS.to_owned()
        } else {
            // The tables and the rollup are there from version 1 on.
            let version = format!(" FOR VERSION AS OF {}", 1 + n_reads * 31 % newest);
            SUMS.replace(".a", &format!(".a{version}")).replace(".b", &format!(".b{version}"))
        };
        let sums = sums(&mut client, &sql).await?;
        ensure!(sums.iter().all(|sum| *sum == sums[0] && sum % N_ROWS == 0), "{sql}: {sums:?}");
        n_reads += 1;
        seen.n_reads.fetch_add(1, Ordering::SeqCst);
        if seen.is_over.load(Ordering::SeqCst) {
            return Ok(());
        }
    }
}

async fn sums(client: &mut Client, sql: &str) -> Result<Vec<i64>> {
    let rows = client.query(sql).await?;
    let [rows] = rows.as_slice() else { anyhow::bail!("{sql}: {rows:?}") };
    // NULL while there are no rows.
    let columns = rows.columns().iter().map(AsArray::as_primitive::<Int64Type>);
    Ok(columns.map(|sums| sums.iter().next().flatten().unwrap_or(0)).collect())
}
