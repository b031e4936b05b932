//! A coordinator and workers that keep everything in a bucket.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use meshwork_sql_tests::cluster::{Cluster, Root, Shape};
use meshwork_sql_tests::servers::S3;
use meshwork_sql_tests::{fixtures, slt};

use crate::harness::{run, with};

/// Cases that read and write a lake and a store.
const CASES: &[&str] = &["joins.slt", "lake_writes.slt", "types.slt", "once/store.slt"];

/// The workers find the secret where the coordinator does: in their environment.
const SECRET: &str = "${ENV:AWS_SECRET_ACCESS_KEY}";

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_on_a_bucket_outlives_its_coordinator() -> Result<()> {
    let server = S3::start()?;
    fixtures::write_lake(&server.folder("lake"))?;
    let root = Root {
        place: format!("s3://{}/the/root", server.bucket()),
        environment: server.environment(),
    };
    let mut cluster = Cluster::start_at(root, Shape::Workers(2), &[]).await?;
    let mut client = cluster.client().await?;
    for kind in ["lake", "store"] {
        let mut properties = server.properties(kind);
        properties.insert("secret_access_key".to_owned(), SECRET.to_owned());
        if kind == "lake" {
            properties.insert("allow_drop".to_owned(), "true".to_owned());
        }
        run(&mut client, &format!("CREATE CATALOG {kind} USING {kind} {}", with(&properties)))
            .await?;
    }
    run(&mut client, "CREATE CATALOG tpch USING tpch").await?;
    for case in CASES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("slt").join(case);
        slt::run_file(cluster.url(), &path, &["USE lake.cases".to_owned()]).await?;
    }

    run(&mut client, "CREATE SCHEMA lake.kept").await?;
    run(&mut client, "CREATE TABLE lake.kept.orders AS SELECT * FROM tpch.tiny.orders").await?;
    run(
        &mut client,
        "CREATE TABLE store.kept.priorities (name VARCHAR, n BIGINT SUM) AGGREGATE KEY (name)",
    )
    .await?;
    let fill = "INSERT INTO store.kept.priorities SELECT o_orderpriority, 1 FROM lake.kept.orders";
    run(&mut client, fill).await?;
    run(&mut client, fill).await?;
    let sql = "SELECT p.name, min(p.n) = 2 * count(*) FROM store.kept.priorities p \
               JOIN lake.kept.orders o ON o.o_orderpriority = p.name GROUP BY p.name ORDER BY p.name";
    let before = run(&mut client, sql).await?;
    assert_eq!(before.len(), 5);
    assert!(before.iter().all(|row| row.ends_with("|true")), "{before:?}");

    cluster.restart_coordinator().await?;
    let mut client = cluster.client().await?;
    assert_eq!(run(&mut client, sql).await?, before);
    let first = "SELECT sum(n) FROM store.kept.priorities";
    assert_eq!(run(&mut client, first).await?, ["30000"]);
    let catalogs = run(&mut client, "SHOW CATALOGS").await?;
    assert_eq!(catalogs, ["lake", "store", "system", "tpch"]);
    let n_definitions = no_secret_in(&server.folder("the/root"), server.secret())?;
    assert!(n_definitions > 0, "the root is in the bucket");
    Ok(())
}

/// Returns how many objects a folder of the bucket has, none of which may hold the secret.
fn no_secret_in(folder: &Path, secret: &str) -> Result<usize> {
    let mut n_objects = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            n_objects += no_secret_in(&path, secret)?;
            continue;
        }
        let content = fs::read(&path)?;
        let holds = content.windows(secret.len()).any(|part| part == secret.as_bytes());
        ensure!(!holds, "{} holds the secret", path.display());
        n_objects += 1;
    }
    Ok(n_objects)
}
