//! Rows of a store's table that several sessions change at the same time, and what is told of these changes.

use anyhow::{Result, ensure};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use meshwork::client::{Answer, Client};
use meshwork_engine::environment;
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::spread::catalog_file;
use tempfile::TempDir;

const N_SESSIONS: usize = 4;
const N_CHANGES: usize = 15;
const COUNT_UP: &str = "UPDATE facts.t.counters SET n = n + 1 WHERE id = 1";

#[tokio::test(flavor = "multi_thread")]
async fn each_change_of_a_row_counts_once() -> Result<()> {
    let _turn = super::TURN.lock().await;
    let folder = TempDir::new()?;
    let location = ("location".to_owned(), folder.path().to_string_lossy().into_owned());
    let store = catalog_file("store", [location].into());
    let cluster = Cluster::start(Shape::Standalone, &[("facts", store)]).await?;
    let mut client = cluster.client().await?;
    client.run("CREATE TABLE facts.t.counters (id BIGINT, n BIGINT) UNIQUE KEY (id)").await?;
    client.run("INSERT INTO facts.t.counters VALUES (1, 0), (2, 0)").await?;

    let mut sessions = Vec::new();
    for _session in 0..N_SESSIONS {
        sessions.push(environment::spawn("session", count_up(cluster.client().await?)));
    }
    let mut n_counted = 0;
    for session in sessions {
        n_counted += session.await??;
    }
    ensure!(n_counted > i64::try_from(N_CHANGES)?, "{n_counted} changes");
    ensure!(counters(&mut client).await? == [n_counted, 0]);

    client.run("SET SESSION read_version = 1").await?;
    ensure!(counters(&mut client).await? == [0, 0]);
    let Err(error) = client.run(COUNT_UP).await else { panic!("an old version was changed") };
    ensure!(error.code == "CHANGE_REFUSED", "{error}");

    client.run("RESET SESSION read_version").await?;
    client.run("RESTORE TABLE facts.t.counters TO VERSION AS OF 1").await?;
    let updates = "SELECT count(*) FROM facts.t.\"counters$changes\"";
    let Err(error) = client.query(updates).await else { panic!("a restore has no rows") };
    ensure!(error.code == "NOT_SUPPORTED" && error.message.contains("restored"), "{error}");
    // The first update has two rows, each of the others one.
    let before = format!("{updates} WHERE _version <= {}", n_counted + 1);
    let found = client.query(&before).await?;
    ensure!(found[0].column(0).as_primitive::<Int64Type>().value(0) == n_counted + 2);
    Ok(())
}

/// Returns how often it counted; others may be faster too often.
async fn count_up(mut client: Client) -> Result<i64> {
    let mut n_counted = 0;
    for _change in 0..N_CHANGES {
        match client.run(COUNT_UP).await {
            Ok(Answer::Changed(1)) => n_counted += 1,
            Ok(other) => ensure!(false, "{other:?}"),
            Err(error) => ensure!(error.code == "COMMIT_CONFLICT", "{error}"),
        }
    }
    Ok(n_counted)
}

async fn counters(client: &mut Client) -> Result<Vec<i64>> {
    let batches = client.query("SELECT n FROM facts.t.counters ORDER BY id").await?;
    let values = batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>());
    Ok(values.flatten().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_a_catalog() -> Result<()> {
    let _turn = super::TURN.lock().await;
    let (folder, elsewhere) = (TempDir::new()?, TempDir::new()?);
    let store = |folder: &TempDir| {
        let location = ("location".to_owned(), folder.path().to_string_lossy().into_owned());
        catalog_file("store", [location].into())
    };
    let files = ("location".to_owned(), elsewhere.path().to_string_lossy().into_owned());
    let files = catalog_file("lake", [files].into());
    let catalogs = [("facts", store(&folder)), ("saved", store(&elsewhere)), ("files", files)];
    let cluster = Cluster::start(Shape::Workers(2), &catalogs).await?;
    let mut client = cluster.client().await?;
    client.run("CREATE TABLE facts.t.counters (id BIGINT, n BIGINT) UNIQUE KEY (id)").await?;
    client.run("INSERT INTO facts.t.counters VALUES (1, 1), (2, 0)").await?;
    client.run(COUNT_UP).await?;
    let first = copied(&mut client).await?;
    ensure!(copied(&mut client).await? == 0);
    client.run("DELETE FROM facts.t.counters WHERE id = 2").await?;
    let second = copied(&mut client).await?;
    ensure!(second > 0 && second < first, "{second} after {first}");
    for (version, expected) in [(1, vec![1, 0]), (2, vec![2, 0]), (3, vec![2])] {
        let sql = format!("SELECT n FROM saved.t.counters FOR VERSION AS OF {version} ORDER BY id");
        let found = client.query(&sql).await?;
        let found = found.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values());
        ensure!(found.copied().collect::<Vec<i64>>() == expected, "version {version}");
    }
    client.run("INSERT INTO saved.t.counters VALUES (9, 9)").await?;
    for (statement, code) in [
        ("BACKUP facts TO saved", "BACKUP_REFUSED"),
        ("BACKUP facts TO facts", "BACKUP_REFUSED"),
        ("BACKUP facts TO files", "NOT_SUPPORTED"),
        ("BACKUP files TO saved", "NOT_SUPPORTED"),
    ] {
        let Err(error) = client.run(statement).await else { panic!("{statement}") };
        ensure!(error.code == code, "{statement}: {error}");
    }
    Ok(())
}

async fn copied(client: &mut Client) -> Result<u64> {
    match client.run("BACKUP facts TO saved").await? {
        Answer::Changed(n_objects) => Ok(n_objects),
        Answer::Rows(_) => anyhow::bail!("BACKUP answers rows"),
    }
}
