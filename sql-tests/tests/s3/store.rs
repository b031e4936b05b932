//! The native store in a bucket, with several writers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use futures::future::try_join_all;
use meshwork::client::Client;
use meshwork_engine::{Error, environment};
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::servers::S3;

use crate::harness::{catalog, run};

/// Processes that know nothing of each other but the bucket.
const N_PROCESSES: usize = 3;
const N_WRITERS: usize = 2;
const N_BATCHES: usize = 6;

const VACUUM_PAUSE: Duration = Duration::from_millis(300);
const VACUUM_DEADLINE: Duration = Duration::from_secs(30);

/// How often a batch is sent again that was refused because others were faster.
const ATTEMPTS_MAX: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_batch_is_there_once_whoever_wrote_it() -> Result<()> {
    let server = S3::start()?;
    let store = [("s", catalog("store", &server.properties("deep/db")))];
    let mut processes = Vec::new();
    for _ in 0..N_PROCESSES {
        processes.push(Cluster::start(Shape::Standalone, &store).await?);
    }
    let mut client = processes[0].client().await?;
    run(
        &mut client,
        "CREATE TABLE s.ads.clicks (site BIGINT, n BIGINT SUM, last VARCHAR REPLACE) AGGREGATE KEY (site)",
    )
    .await?;
    run(&mut client, "CREATE TABLE s.ads.batches (name VARCHAR)").await?;

    let mut writers = Vec::new();
    for (process, cluster) in processes.iter().enumerate() {
        for writer in 0..N_WRITERS {
            writers.push(write(cluster.client().await?, format!("{process}.{writer}")));
        }
    }
    let acknowledged: BTreeSet<String> =
        try_join_all(writers).await?.into_iter().flatten().collect();
    assert_eq!(acknowledged.len(), N_PROCESSES * N_WRITERS * N_BATCHES);

    let n_versions = acknowledged.len();
    for cluster in &processes {
        let mut client = cluster.client().await?;
        let stored = run(&mut client, "SELECT name FROM s.ads.batches ORDER BY name").await?;
        assert_eq!(stored, acknowledged.iter().cloned().collect::<Vec<_>>());
        let sums = run(&mut client, "SELECT site, n FROM s.ads.clicks ORDER BY site").await?;
        let each = n_versions / N_BATCHES;
        let expected: Vec<_> = (0..N_BATCHES).map(|site| format!("{site}|{each}")).collect();
        assert_eq!(sums, expected);
    }
    // Each version is one batch more, in both tables at once.
    for version in 0..=n_versions {
        let sql = format!(
            "SELECT (SELECT count(*) FROM s.ads.batches FOR VERSION AS OF {version}), \
             (SELECT coalesce(sum(n), 0) FROM s.ads.clicks FOR VERSION AS OF {version})"
        );
        assert_eq!(run(&mut client, &sql).await?, [format!("{version}|{version}")]);
    }
    let newest = "SELECT last FROM s.ads.clicks FOR VERSION AS OF 1";
    let first = run(&mut client, newest).await?;
    assert!(first.len() == 1 && acknowledged.contains(&first[0]), "{first:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_go_with_the_versions_that_need_them() -> Result<()> {
    let server = S3::start()?;
    let mut properties = server.properties("deep/db");
    for (key, value) in [("maintenance", "off"), ("grace", "0h")] {
        properties.insert(key.to_owned(), value.to_owned());
    }
    let store = [("s", catalog("store", &properties))];
    let cluster = Cluster::start(Shape::Standalone, &store).await?;
    let mut client = cluster.client().await?;
    run(&mut client, "CREATE TABLE s.ads.t (k BIGINT, n BIGINT SUM) AGGREGATE KEY (k)").await?;
    for n in 1..=3 {
        run(&mut client, &format!("INSERT INTO s.ads.t VALUES (1, {n})")).await?;
    }
    run(&mut client, "OPTIMIZE s.ads.t FULL").await?;
    let data = server.folder("deep/db/t");
    assert_eq!(n_files(&data)?, 4);
    assert_eq!(run(&mut client, "VACUUM s").await?, ["0"]);
    assert_eq!(run(&mut client, "SELECT n FROM s.ads.t FOR VERSION AS OF 1").await?, ["1"]);
    // The server tells the time in whole seconds.
    let gone = async {
        while n_files(&data)? > 1 {
            tokio::time::sleep(VACUUM_PAUSE).await;
            run(&mut client, "VACUUM s RETAIN 0 VERSIONS").await?;
        }
        anyhow::Ok(())
    };
    environment::within(VACUUM_DEADLINE, "old objects to go", gone).await??;
    assert_eq!(n_files(&data)?, 1);
    assert_eq!(run(&mut client, "SELECT n FROM s.ads.t").await?, ["6"]);
    assert_eq!(run(&mut client, "CHECK TABLE s.ads.t FULL").await?, Vec::<String>::new());
    Ok(())
}

fn n_files(folder: &Path) -> Result<usize> {
    let mut n = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        n += if path.is_dir() { n_files(&path)? } else { 1 };
    }
    Ok(n)
}

/// Writes batches over two tables; returns the names of those that were acknowledged.
async fn write(mut client: Client, writer: String) -> Result<Vec<String>> {
    let mut acknowledged = Vec::new();
    for number in 0..N_BATCHES {
        let name = format!("{writer}.{number}");
        let mut attempts = 0;
        while let Err(error) = write_batch(&mut client, &name, number).await {
            attempts += 1;
            if attempts == ATTEMPTS_MAX || error.code != "COMMIT_CONTENTION" {
                bail!("batch {name}: {error:?}");
            }
        }
        acknowledged.push(name);
    }
    Ok(acknowledged)
}

async fn write_batch(client: &mut Client, name: &str, site: usize) -> Result<(), Error> {
    client.run("BEGIN UPDATE BATCH").await?;
    client.run(&format!("INSERT INTO s.ads.clicks VALUES ({site}, 1, '{name}')")).await?;
    client.run(&format!("INSERT INTO s.ads.batches VALUES ('{name}')")).await?;
    client.run("COMMIT").await?;
    Ok(())
}
