//! Files in a bucket as tables.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use meshwork_engine::{Error, ErrorKind};
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::servers::S3;
use parquet::arrow::ArrowWriter;

use crate::harness::{catalog, error_of, eventually, run, with};

/// How long a place that cannot be used may take to be an error.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(30);
/// How long an INSERT may take until its first parts are sent.
const PARTS_DEADLINE: Duration = Duration::from_secs(120);
/// How long it may take to abort an upload whose client has gone.
const ABORT_DEADLINE: Duration = Duration::from_secs(10);
/// How long an INSERT may go on when nobody takes its parts.
const DOWN_DEADLINE: Duration = Duration::from_secs(90);

/// Enough rows for several parts.
const MANY_ROWS: &str =
    "INSERT INTO lake.made.t SELECT l_orderkey, l_extendedprice, l_comment FROM tpch.sf1.lineitem";

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_bucket_are_tables() -> Result<()> {
    let server = S3::start()?;
    parquet(&server, "in/sales/orders/a.parquet", &[1, 2])?;
    parquet(&server, "in/sales/orders/deep/b.parquet", &[3])?;
    parquet(&server, "in/sales/orders/_temporary/c.parquet", &[99])?;
    parquet(&server, "in/sales/by_year/year=2024/a.parquet", &[10])?;
    parquet(&server, "in/sales/by_year/year=2025/b.parquet", &[20, 21])?;
    parquet(&server, "in/drop/2026-01/clicks-1.parquet", &[5])?;
    parquet(&server, "in/drop/2026-02/clicks-2.parquet", &[6])?;
    parquet(&server, "in/drop/2026-02/views-2.parquet", &[7])?;
    parquet(&server, "elsewhere/sales/hidden/a.parquet", &[1])?;
    text(&server, "in/sales/people.csv", "id,name,born\n1,Ann,1999-12-31\n2,\"Bo, the\n2nd\",\n")?;
    text(
        &server,
        "in/sales/events.jsonl",
        "{\"id\": 1, \"tag\": \"x\"}\n{\"id\": 2, \"n\": 2.5}\n",
    )?;
    let mut properties = server.properties("in");
    properties.insert("tables.raw.clicks".to_owned(), "drop/2026-*/clicks-*.parquet".to_owned());
    let cluster = standalone(&properties).await?;
    let mut client = cluster.client().await?;
    for (sql, rows) in [
        ("SHOW TABLES FROM lake.sales", vec!["by_year", "events", "orders", "people"]),
        (
            "SELECT id, name FROM lake.sales.orders ORDER BY id",
            vec!["1|name 1", "2|name 2", "3|name 3"],
        ),
        ("SELECT name FROM lake.sales.orders WHERE id > 2", vec!["name 3"]),
        ("SELECT id, born FROM lake.sales.people ORDER BY id", vec!["1|1999-12-31", "2|"]),
        ("SELECT id, tag, n FROM lake.sales.events ORDER BY id", vec!["1|x|", "2||2.5"]),
        ("SELECT id FROM lake.raw.clicks ORDER BY id", vec!["5", "6"]),
        (
            "SELECT id, year FROM lake.sales.by_year ORDER BY id",
            vec!["10|2024", "20|2025", "21|2025"],
        ),
        ("SELECT sum(id) FROM lake.sales.by_year WHERE year = 2025 AND id > 20", vec!["21"]),
    ] {
        assert_eq!(run(&mut client, sql).await?, rows, "{sql}");
    }
    let pruned = "EXPLAIN SELECT name FROM lake.sales.by_year WHERE year = 2025";
    let pruned = run(&mut client, pruned).await?.join("\n");
    assert!(pruned.contains("year=2025") && !pruned.contains("year=2024/a"), "{pruned}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_made_filled_and_dropped_in_a_bucket() -> Result<()> {
    let server = S3::start()?;
    let cluster = standalone(&server.properties("made/here")).await?;
    let mut client = cluster.client().await?;
    let orders = "SELECT o_orderkey AS id, o_totalprice AS price FROM tpch.tiny.orders";
    run(&mut client, "CREATE SCHEMA lake.made").await?;
    let made = format!("CREATE TABLE lake.made.t AS {orders}");
    assert_eq!(run(&mut client, &made).await?, ["15000"]);
    let again = format!("INSERT INTO lake.made.t {orders} WHERE o_orderkey < 8");
    assert_eq!(run(&mut client, &again).await?, ["7"]);
    let both = format!(
        "SELECT count(*), count(DISTINCT id), sum(price) = (SELECT sum(price) FROM ({orders} UNION ALL \
         {orders} WHERE o_orderkey < 8)) FROM lake.made.t"
    );
    assert_eq!(run(&mut client, &both).await?, ["15007|15000|true"]);
    assert_eq!(fs::read_dir(server.folder("made/here/made/t"))?.count(), 3);
    let exists = error_of(&mut client, &made, REFUSAL_DEADLINE).await?;
    assert_eq!(exists.code, "TABLE_ALREADY_EXISTS");
    run(&mut client, "DROP TABLE lake.made.t").await?;
    assert_eq!(run(&mut client, "SHOW TABLES FROM lake.made").await?, Vec::<String>::new());
    assert_eq!(server.n_unfinished_uploads()?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_cannot_be_used_is_said_soon_and_without_its_secret() -> Result<()> {
    let mut server = S3::start()?;
    parquet(&server, "in/s/t/a.parquet", &[1])?;
    let changed = |key: &str, value: &str| {
        let mut properties = server.properties("in");
        properties.insert(key.to_owned(), value.to_owned());
        properties
    };
    let cluster = standalone(&server.properties("in")).await?;
    let mut client = cluster.client().await?;
    for (name, properties) in [
        ("nowhere", changed("location", "s3://nowhere/in")),
        ("stranger", changed("secret_access_key", "guess-of-a-stranger")),
        ("down", server.properties("in")),
    ] {
        for kind in ["lake", "store"] {
            let create = format!("CREATE CATALOG {name}_{kind} USING {kind} {}", with(&properties));
            run(&mut client, &create).await?;
        }
    }
    assert_eq!(run(&mut client, "SELECT id FROM lake.s.t").await?, ["1"]);
    let secret = server.secret();
    let shows_no_secret = |error: &Error| {
        let shown = format!("{error:?}");
        assert!(!shown.contains(secret) && !shown.contains("guess-of"), "{shown}");
    };
    for (catalog, sql, code, words) in [
        ("nowhere_lake", "SELECT * FROM {}.s.t", "SOURCE_UNAVAILABLE", "the bucket does not exist"),
        ("nowhere_lake", "SHOW SCHEMAS FROM {}", "SOURCE_UNAVAILABLE", "the bucket does not exist"),
        ("nowhere_lake", "CREATE SCHEMA {}.s", "SOURCE_UNAVAILABLE", "the bucket does not exist"),
        ("nowhere_store", "SELECT * FROM {}.s.t", "STORE_NOT_FOUND", "s3://nowhere/in"),
        ("nowhere_store", "CREATE SCHEMA {}.s", "SOURCE_UNAVAILABLE", "the bucket does not exist"),
        ("stranger_lake", "SELECT * FROM {}.s.t", "SOURCE_AUTHENTICATION", "not accepted"),
        ("stranger_lake", "SHOW SCHEMAS FROM {}", "SOURCE_AUTHENTICATION", "not accepted"),
        ("stranger_store", "SELECT * FROM {}.s.t", "SOURCE_AUTHENTICATION", "not accepted"),
        ("stranger_store", "CREATE SCHEMA {}.s", "SOURCE_AUTHENTICATION", "not accepted"),
    ] {
        let sql = sql.replace("{}", catalog);
        let error = error_of(&mut client, &sql, REFUSAL_DEADLINE).await?;
        assert_eq!(error.code, code, "{sql}: {error:?}");
        assert!(error.message.contains(words), "{sql}: {error:?}");
        assert!(error.message.contains(catalog), "{sql}: {error:?}");
        shows_no_secret(&error);
    }
    server.stop();
    for catalog in ["down_lake", "down_store", "lake"] {
        let sql = format!("SELECT * FROM {catalog}.s.t");
        let error = error_of(&mut client, &sql, REFUSAL_DEADLINE).await?;
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Source, "SOURCE_UNAVAILABLE"));
        assert!(error.message.contains(catalog), "{error:?}");
        shows_no_secret(&error);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_that_is_cancelled_leaves_no_upload() -> Result<()> {
    let server = S3::start()?;
    let cluster = standalone(&server.properties("in")).await?;
    let mut client = cluster.client().await?;
    make_table(&mut client).await?;
    tokio::select! {
        outcome = client.run(MANY_ROWS) => bail!("the INSERT was not cancelled: {outcome:?}"),
        begun = parts_are_sent(&server) => begun?,
    }
    // What lost the race is dropped: the client has gone.
    let aborted = || Ok(server.n_unfinished_uploads()? == 0);
    eventually(ABORT_DEADLINE, "the upload to be aborted", aborted).await?;
    let mut client = cluster.client().await?;
    assert_eq!(run(&mut client, "SELECT count(*) FROM lake.made.t").await?, ["0"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_ends_when_nobody_takes_its_parts() -> Result<()> {
    let mut server = S3::start()?;
    let cluster = standalone(&server.properties("in")).await?;
    let mut client = cluster.client().await?;
    make_table(&mut client).await?;
    let insert = error_of(&mut client, MANY_ROWS, PARTS_DEADLINE + DOWN_DEADLINE);
    let stop = async {
        parts_are_sent(&server).await?;
        server.stop();
        Ok::<_, anyhow::Error>(())
    };
    let (error, stopped) = tokio::join!(insert, stop);
    stopped?;
    let error = error?;
    assert_eq!(error.code, "SOURCE_WRITE_FAILED", "{error:?}");
    assert!(error.message.contains("lake/made/t/"), "{error:?}");
    Ok(())
}

async fn make_table(client: &mut meshwork::client::Client) -> Result<()> {
    run(client, "CREATE SCHEMA lake.made").await?;
    let table = "CREATE TABLE lake.made.t (k BIGINT, price DECIMAL(15, 2), note VARCHAR)";
    run(client, table).await.map(drop)
}

async fn parts_are_sent(server: &S3) -> Result<()> {
    let begun = || Ok(server.n_unfinished_uploads()? > 0);
    eventually(PARTS_DEADLINE, "an upload in parts", begun).await
}

/// One node with the catalog `lake` of these properties, and `tpch`.
async fn standalone(lake: &BTreeMap<String, String>) -> Result<Cluster> {
    let catalogs = [("lake", catalog("lake", lake)), ("tpch", catalog("tpch", &BTreeMap::new()))];
    Cluster::start(Shape::Standalone, &catalogs).await
}

fn text(server: &S3, key: &str, content: &str) -> Result<()> {
    Ok(fs::write(server.object(key)?, content)?)
}

fn parquet(server: &S3, key: &str, ids: &[i64]) -> Result<()> {
    let names: Vec<String> = ids.iter().map(|id| format!("name {id}")).collect();
    let columns: [(&str, ArrayRef); 2] = [
        ("id", Arc::new(Int64Array::from(ids.to_vec()))),
        ("name", Arc::new(StringArray::from(names))),
    ];
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut writer =
        ArrowWriter::try_new(File::create(server.object(key)?)?, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}
