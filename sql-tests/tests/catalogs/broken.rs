//! Catalogs that do not work fail their own queries, soon and clearly, and nobody else's.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arrow::array::{AsArray, RecordBatch};
use arrow::util::pretty::pretty_format_batches;
use meshwork::client::Client;
use meshwork_engine::environment;
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::fixtures;
use meshwork_sql_tests::servers::{Postgres, free_port};
use meshwork_sql_tests::source::{assert_lines, squeeze};
use meshwork_sql_tests::spread::catalog_file;
use tempfile::TempDir;

/// How long a catalog that does not work may keep a query waiting.
const DEADLINE: Duration = Duration::from_secs(10);

/// Each broken catalog, a table of it, the code of its error and what the message names.
const BROKEN: [(&str, &str, &str, &str); 6] = [
    ("pg_refused", "public.t", "SOURCE_AUTHENTICATION", "\"pg_refused\""),
    ("pg_gone", "public.t", "SOURCE_UNAVAILABLE", "\"pg_gone\""),
    ("api", "api.t", "SOURCE_UNAVAILABLE", "\"api\""),
    ("lost", "a.t", "SOURCE_UNAVAILABLE", "\"lost\""),
    ("unset", "public.t", "CATALOG_CONFIGURATION", "NO_SUCH_VARIABLE"),
    ("odd", "a.t", "CONNECTOR_NOT_FOUND", "oracle"),
];

#[tokio::test(flavor = "multi_thread")]
async fn broken_catalogs_disturb_nobody_on_one_process() -> Result<()> {
    check(Shape::Standalone).await
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_catalogs_disturb_nobody_with_workers() -> Result<()> {
    check(Shape::Workers(2)).await
}

async fn check(shape: Shape) -> Result<()> {
    let _turn = crate::TURN.lock().await;
    let sources = Sources::new().await?;
    let cluster = Cluster::start(shape, &sources.catalogs()?).await?;
    let mut client = cluster.client().await?;
    let outcome = async {
        the_broken_are_named(&mut client).await?;
        a_broken_table_hides_no_other(&mut client).await?;
        the_healthy_work(&mut client).await
    };
    outcome.await.with_context(|| cluster.logs())
}

async fn the_broken_are_named(client: &mut Client) -> Result<()> {
    for (catalog, table, code, named) in BROKEN {
        let schema = table.split('.').next().unwrap_or_default();
        for sql in [
            format!("SELECT * FROM {catalog}.{table}"),
            format!("SELECT count(*) FROM lake.cases.plain, {catalog}.{table}"),
            format!("SHOW TABLES FROM {catalog}.{schema}"),
            format!("SELECT * FROM {catalog}.information_schema.tables"),
        ] {
            // A manifest says its tables without asking anybody.
            let lists = catalog == "api" && !sql.contains("api.t");
            if lists {
                client.query(&sql).await.with_context(|| sql.clone())?;
                continue;
            }
            let since = environment::instant();
            let error = client.query(&sql).await.err().with_context(|| sql.clone())?;
            ensure!(since.elapsed() < DEADLINE, "{sql} took {:?}", since.elapsed());
            let clear = error.code == code && error.message.contains(named);
            ensure!(clear, "{sql}\n{error:?}");
            ensure!(error.message.contains(catalog), "{sql} does not name its catalog\n{error:?}");
            ensure!(error.hint.is_some(), "{sql} has no hint\n{error:?}");
        }
    }
    let sql = "SELECT catalog, state FROM system.runtime.catalogs";
    let since = environment::instant();
    let states = text(&client.query(sql).await?)?;
    ensure!(since.elapsed() < DEADLINE, "{sql} took {:?}", since.elapsed());
    for (catalog, _, code, _) in BROKEN {
        assert_lines(&states, &[&format!("| {catalog} | {code} |")]);
    }
    for healthy in ["lake", "pg", "torn", "tpch"] {
        assert_lines(&states, &[&format!("| {healthy} | ok |")]);
    }
    Ok(())
}

/// A file cut in half, and a type that nobody knows.
async fn a_broken_table_hides_no_other(client: &mut Client) -> Result<()> {
    let error = client.query("SELECT * FROM torn.cases.cut").await.err().context("cut")?;
    ensure!(error.code == "CORRUPT_FILE" && error.message.contains("cases/cut/"), "{error:?}");
    ensure!(error.hint.is_some(), "{error:?}");
    let whole = text(&client.query("SELECT count(*) FROM torn.cases.plain").await?)?;
    let same = text(&client.query("SELECT count(*) FROM lake.cases.plain").await?)?;
    ensure!(whole == same, "{whole}\n{same}");
    let rows = text(&client.query("SELECT * FROM pg.public.odd ORDER BY id").await?)?;
    assert_lines(&rows, &["| 1 | (7,\"a b\") | {\"(1,x)\"} |", "| 2 | | |"]);
    let rows =
        text(&client.query("SELECT id FROM pg.public.odd WHERE twin = '(7,\"a b\")'").await?)?;
    assert_lines(&rows, &["| 1 |"]);
    let columns = "SELECT table_name, count(*) FROM torn.information_schema.columns \
                   WHERE table_schema = 'cases' AND table_name IN ('cut', 'plain') GROUP BY 1";
    let columns = squeeze(&text(&client.query(columns).await?)?);
    ensure!(columns.contains("| plain |") && !columns.contains("| cut |"), "{columns}");
    Ok(())
}

async fn the_healthy_work(client: &mut Client) -> Result<()> {
    let catalogs = names(&client.query("SHOW CATALOGS").await?);
    for catalog in BROKEN.iter().map(|broken| broken.0).chain(["lake", "pg", "torn", "tpch"]) {
        ensure!(catalogs.iter().any(|name| name == catalog), "{catalog} is not in {catalogs:?}");
    }
    let tables = names(&client.query("SHOW TABLES FROM lake.cases").await?);
    ensure!(tables.iter().any(|name| name == "plain"), "{tables:?}");
    let tables = names(&client.query("SHOW TABLES FROM torn.cases").await?);
    ensure!(tables.iter().any(|name| name == "cut"), "{tables:?}");
    let sql = "SELECT table_name FROM pg.information_schema.tables WHERE table_schema = 'public'";
    ensure!(names(&client.query(sql).await?) == ["odd"]);
    let sql = "SELECT count(*) FROM tpch.tiny.region, pg.public.odd";
    assert_lines(&text(&client.query(sql).await?)?, &["| 10 |"]);
    Ok(())
}

/// The sources that are there.
struct Sources {
    postgres: Arc<Postgres>,
    folder: TempDir,
}

impl Sources {
    async fn new() -> Result<Self> {
        let postgres = Postgres::shared()?;
        postgres
            .execute(&[
                "DROP TABLE IF EXISTS odd",
                "DROP TYPE IF EXISTS pair",
                "CREATE TYPE pair AS (a int, b text)",
                "CREATE TABLE odd (id int, twin pair, many pair[])",
                "INSERT INTO odd VALUES (1, ROW(7, 'a b'), ARRAY[ROW(1, 'x')::pair]), (2, NULL, NULL)",
            ])
            .await?;
        let folder = tempfile::tempdir()?;
        for lake in ["lake", "torn"] {
            fixtures::write_lake(&folder.path().join(lake))?;
        }
        let (from, to) = ("torn/cases/plain", "torn/cases/cut");
        fs::create_dir(folder.path().join(to))?;
        for file in fs::read_dir(folder.path().join(from))? {
            let file = file?;
            let whole = fs::read(file.path())?;
            fs::write(folder.path().join(to).join(file.file_name()), &whole[..whole.len() / 2])?;
        }
        Ok(Self { postgres, folder })
    }

    fn catalogs(&self) -> Result<Vec<(&'static str, String)>> {
        let with = |changes: &[(&str, &str)]| {
            let mut properties = self.postgres.properties();
            properties
                .extend(changes.iter().map(|(key, value)| (key.to_string(), value.to_string())));
            catalog_file("postgres", properties)
        };
        let at = |folder: &str| {
            let location = self.folder.path().join(folder).to_string_lossy().into_owned();
            catalog_file("lake", BTreeMap::from([("location".to_owned(), location)]))
        };
        let free = free_port()?.to_string();
        let manifest = format!(
            "{{connector: {{name: down, version: 1, base_url: \"http://127.0.0.1:{free}\", allow_http: true, \
             allow_private: true}}, retry: {{max: 1, backoff: {{base: 10ms}}}}, tables: {{t: {{list: {{path: /t, \
             rows: \"$[*]\"}}, schema: {{columns: {{id: int64}}}}}}}}}}"
        );
        let api = BTreeMap::from([("manifest_inline".to_owned(), manifest)]);
        Ok(vec![
            ("pg", with(&[])),
            ("pg_refused", with(&[("password", "a wrong one")])),
            ("pg_gone", with(&[("port", &free)])),
            ("unset", with(&[("password", "${ENV:NO_SUCH_VARIABLE}")])),
            ("api", catalog_file("rest", api)),
            ("lake", at("lake")),
            ("torn", at("torn")),
            ("lost", at("no such folder")),
            ("odd", catalog_file("oracle", BTreeMap::new())),
            ("tpch", catalog_file("tpch", BTreeMap::new())),
        ])
    }
}

fn text(batches: &[RecordBatch]) -> Result<String> {
    Ok(pretty_format_batches(batches)?.to_string())
}

/// The first column, which holds names.
fn names(batches: &[RecordBatch]) -> Vec<String> {
    let columns = batches.iter().map(|batch| batch.column(0).as_string::<i32>());
    columns
        .flat_map(|names| names.iter().flatten().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}
