//! What is listed is as old as a catalog says, what is queried never; one catalog's trouble is not another's.

use std::time::Duration;

use anyhow::{Result, ensure};
use meshwork_engine::environment;
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::listings::{self, Listings};
use meshwork_sql_tests::servers::Postgres;
use meshwork_sql_tests::spread::catalog_file;
use tokio::net::TcpListener;

use crate::{Here, with};

/// Longer than any test: what is remembered stays so.
const AGES: &str = "1h";
/// A catalog that hangs is given up after 15 s; `system.catalogs`, whose columns are listed too, waits 5 s for it.
const HANGING_MAX: Duration = Duration::from_secs(24);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_listed_is_remembered_and_what_is_asked_for_is_not() -> Result<()> {
    let server = Postgres::start()?;
    server.execute(&["CREATE SCHEMA a", "CREATE TABLE a.one AS SELECT 1 AS n"]).await?;
    let writable = with(server.properties(), "writable", "true");
    let here = Here::start(&[
        ("aged", "postgres", with(writable.clone(), "metadata_freshness", AGES)),
        ("fresh", "postgres", with(writable, "metadata_freshness", "0s")),
    ])
    .await?;
    let listed = "SELECT table_name FROM aged.information_schema.tables WHERE table_schema = 'a'";
    let columns =
        "SELECT column_name FROM aged.information_schema.columns WHERE table_name = 'one'";
    for catalog in ["aged", "fresh"] {
        let show = format!("SHOW TABLES FROM {catalog}.a");
        ensure!(here.values(&show).await? == ["one"], "{catalog}");
    }
    ensure!(here.values(columns).await? == ["n"]);

    server
        .execute(&[
            "CREATE TABLE a.\"Two\" AS SELECT 2 AS n",
            "CREATE SCHEMA b",
            "CREATE TABLE b.three AS SELECT 3 AS n",
            "ALTER TABLE a.one ADD COLUMN m int DEFAULT 7",
        ])
        .await?;
    // A listing is as old as it may be.
    ensure!(here.values("SHOW TABLES FROM aged.a").await? == ["one"]);
    ensure!(here.values(listed).await? == ["one"]);
    ensure!(here.values(columns).await? == ["n"]);
    ensure!(here.values("SHOW TABLES FROM fresh.a").await? == ["Two", "one"]);
    // Whoever asks for a name gets what is there now, spelled otherwise as well.
    ensure!(here.values("SELECT * FROM aged.a.one").await? == ["1 7"]);
    ensure!(here.values("SELECT n FROM aged.a.two").await? == ["2"]);
    ensure!(here.values("SELECT n FROM aged.b.three").await? == ["3"]);
    ensure!(here.values("SHOW TABLES FROM aged.b").await? == ["three"]);
    ensure!(here.values("DESCRIBE aged.a.one").await?.len() == 2);
    here.run("USE aged.b").await?;
    ensure!(here.values("SELECT n FROM three").await? == ["3"]);
    let missing = here.error("SELECT * FROM aged.c.one").await?;
    ensure!(missing.code == "SCHEMA_NOT_FOUND", "{missing:?}");

    // Forgotten when a user says so, and by what we make and drop ourselves.
    here.run("CALL aged.system.flush_metadata_cache()").await?;
    ensure!(here.values(listed).await? == ["Two", "one"]);
    ensure!(here.values(columns).await? == ["m", "n"]);
    here.run("CREATE TABLE aged.a.four AS SELECT 4 AS n").await?;
    ensure!(here.values(listed).await? == ["Two", "four", "one"]);
    here.run("DROP TABLE aged.a.four").await?;
    ensure!(here.values(listed).await? == ["Two", "one"]);
    here.run("CREATE SCHEMA aged.d").await?;
    ensure!(here.values("SHOW SCHEMAS FROM aged LIKE 'd'").await? == ["d"]);
    ensure!(here.values(listed).await? == ["Two", "one"]);
    server.execute(&["DROP TABLE a.\"Two\""]).await?;
    ensure!(here.values(listed).await? == ["Two", "one"]);
    here.run("CALL system.flush_metadata_cache()").await?;
    ensure!(here.values(listed).await? == ["one"]);
    let unknown = here.error("CALL nothing.system.flush_metadata_cache()").await?;
    ensure!(unknown.code == "CATALOG_NOT_FOUND", "{unknown:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_of_the_same_name_remembers_nothing() -> Result<()> {
    let server = Postgres::start()?;
    server
        .execute(&[
            "CREATE SCHEMA a",
            "CREATE TABLE a.one ()",
            "CREATE SCHEMA b",
            "CREATE TABLE b.two ()",
        ])
        .await?;
    let here = Here::start(&[]).await?;
    for (schema, table) in [("a", "one"), ("b", "two")] {
        let mut properties = with(server.properties(), "metadata_freshness", AGES);
        properties.insert("schemas".to_owned(), schema.to_owned());
        let properties: Vec<String> = properties
            .iter()
            .map(|(key, value)| format!("'{key}' = '{}'", value.replace('\'', "''")))
            .collect();
        let create = format!("CREATE CATALOG pg USING postgres WITH ({})", properties.join(", "));
        here.run(&create).await?;
        let listed = "SELECT table_name FROM pg.information_schema.tables \
                      WHERE table_schema <> 'information_schema'";
        ensure!(here.values(listed).await? == [table]);
        here.run("DROP CATALOG pg").await?;
    }
    let wrong = "CREATE CATALOG pg USING tpch WITH (metadata_freshness = 'soon')";
    let error = here.error(wrong).await?;
    ensure!(error.code == "CATALOG_CONFIGURATION", "{error:?}");
    ensure!(error.message.contains("metadata_freshness"), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tables_are_listed_in_every_way() -> Result<()> {
    let there = Listings::start(200).await?;
    let cluster = Cluster::start(Shape::Standalone, &there.files()).await?;
    let mut client = cluster.client().await?;
    for _asked_then_remembered in 0..2 {
        let n_tables = there.n_tables();
        ensure!(listings::n_rows(&listings::by_query(&mut client).await?) == n_tables);
        ensure!(listings::n_rows(&listings::by_show(&mut client).await?) == n_tables);
        for include_schema in [false, true] {
            let listed = listings::by_driver(cluster.url(), include_schema).await?;
            ensure!(listings::n_rows(&listed) > n_tables, "beside them there are our own");
        }
    }
    Ok(())
}

/// A catalog that takes connections and never says anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_hangs_holds_up_no_other() -> Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let server = Postgres::start()?;
    server.execute(&["CREATE TABLE one ()"]).await?;
    let port = silent.local_addr()?.port().to_string();
    let hanging = with(server.properties(), "port", &port);
    let catalogs = [
        ("hanging", catalog_file("postgres", with(hanging, "connect_deadline_seconds", "60"))),
        ("healthy", catalog_file("postgres", server.properties())),
    ];
    let cluster = Cluster::start(Shape::Standalone, &catalogs).await?;
    let since = environment::instant();
    let listed = listings::by_driver(cluster.url(), true).await?;
    let took = since.elapsed();
    ensure!(took < HANGING_MAX, "{took:?}");
    let names = format!("{listed:?}");
    ensure!(names.contains("healthy") && !names.contains("hanging"), "{names}");
    let logs = cluster.logs();
    ensure!(logs.contains("left out of a listing") && logs.contains("hanging"), "{logs}");
    Ok(())
}
