//! Rollups of a store's table: which queries they answer, and that they answer as the table does.

use anyhow::{Result, ensure};
use arrow::array::AsArray;
use arrow::util::pretty::pretty_format_batches;
use meshwork::client::Client;
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::spread::catalog_file;
use tempfile::TempDir;

const TABLE: &str = "CREATE TABLE facts.t.clicks (day INT, site INT, page INT, n BIGINT SUM, \
    best INT MAX, last INT REPLACE) AGGREGATE KEY (day, site, page)";

const ROLLUPS: [&str; 3] = [
    "CREATE ROLLUP sites ON facts.t.clicks (site, n, best)",
    "CREATE ROLLUP site_days ON facts.t.clicks (site, day, n)",
    "CREATE ROLLUP pages ON facts.t.clicks (page, site, day, n, last)",
];

/// Queries over `clicks`, and over `sites` joined with it, each with the rollup that answers it.
const QUERIES: [(&str, Option<&str>); 20] = [
    ("SELECT sum(n) FROM clicks", Some("sites")),
    ("SELECT DISTINCT site FROM clicks", Some("sites")),
    ("SELECT site, sum(n), max(best) FROM clicks GROUP BY site", Some("sites")),
    ("SELECT site % 3, sum(n) FROM clicks WHERE site > 4 GROUP BY 1", Some("sites")),
    ("SELECT max(site), min(site + 1), sum(DISTINCT site) FROM clicks", Some("sites")),
    ("SELECT sum(n) FILTER (WHERE site > 4), sum(n) FROM clicks", Some("sites")),
    ("SELECT day, sum(n) FROM clicks WHERE site IN (1, 2) GROUP BY day", Some("site_days")),
    ("SELECT day, site, sum(n) FROM clicks GROUP BY ROLLUP (day, site)", Some("site_days")),
    (
        "SELECT count(*), sum(s) FROM (SELECT site, sum(n) AS s FROM clicks GROUP BY site)",
        Some("sites"),
    ),
    (
        "SELECT max(s) FROM (SELECT day, sum(n) AS s FROM clicks GROUP BY day) WHERE day > 3",
        Some("site_days"),
    ),
    (
        "SELECT k.name, sum(c.n) FROM clicks c JOIN sites k ON c.site = k.id GROUP BY k.name",
        Some("sites"),
    ),
    (
        "SELECT k.name, sum(c.n) FROM sites k LEFT JOIN clicks c ON c.site = k.id AND c.day = k.id GROUP BY k.name",
        Some("site_days"),
    ),
    ("SELECT day, site, n, last FROM clicks WHERE page = 3", Some("pages")),
    ("SELECT count(*), count(last) FROM clicks WHERE page < 2", Some("pages")),
    // Only one with the whole key can answer these; it was merged once, and so has fewer rows than the table.
    ("SELECT count(*) FROM clicks", Some("pages")),
    ("SELECT site, avg(n) FROM clicks GROUP BY site", Some("pages")),
    (
        "SELECT c.site, sum(k.id) FROM clicks c JOIN sites k ON c.site = k.id GROUP BY c.site",
        Some("pages"),
    ),
    (
        "SELECT sum(n) FROM (SELECT site, n FROM clicks ORDER BY n, site, day, page LIMIT 5)",
        Some("pages"),
    ),
    // None can.
    ("SELECT site, min(n), sum(best) FROM clicks GROUP BY site", None),
    ("SELECT site, sum(n) FROM clicks WHERE best > 5 GROUP BY site", None),
];

#[tokio::test(flavor = "multi_thread")]
async fn rollups_answer_what_they_can() -> Result<()> {
    let _turn = super::TURN.lock().await;
    for shape in [Shape::Standalone, Shape::Workers(3)] {
        let folder = TempDir::new()?;
        let location = ("location".to_owned(), folder.path().to_string_lossy().into_owned());
        let settings = [location, ("maintenance".to_owned(), "off".to_owned())];
        let store = catalog_file("store", settings.into());
        let cluster = Cluster::start(shape, &[("facts", store)]).await?;
        let mut client = cluster.client().await?;
        client.run(TABLE).await?;
        client.run("CREATE TABLE facts.t.sites (id INT, name VARCHAR) DUPLICATE KEY (id)").await?;
        client
            .run("INSERT INTO facts.t.sites VALUES (1, 'a'), (1, 'b'), (2, 'b'), (3, 'c'), (99, 'z')")
            .await?;
        client.run("USE facts.t").await?;
        for (at, rollup) in ROLLUPS.iter().enumerate() {
            insert(&mut client, at).await?;
            client.run(rollup).await?;
            insert(&mut client, at + 7).await?;
        }
        for (query, rollup) in QUERIES {
            let found = read(&mut client, query).await?;
            ensure!(found.as_deref() == rollup, "{query} reads {found:?}");
            let answer = sorted(&mut client, query).await?;
            client.run("SET SESSION pushdown = false").await?;
            ensure!(read(&mut client, query).await?.is_none());
            ensure!(answer == sorted(&mut client, query).await?, "{query}: {answer:#?}");
            client.run("RESET SESSION pushdown").await?;
        }
        // Versions from before they came.
        client.run("SET SESSION read_version = 2").await?;
        ensure!(read(&mut client, QUERIES[0].0).await?.is_none());
    }
    Ok(())
}

/// Rows that meet others of the same key, and cancel some of them.
async fn insert(client: &mut Client, round: usize) -> Result<()> {
    let rows = format!(
        "INSERT INTO clicks SELECT v % 5, v % 7, v % 11, v % 13 - 6, v % 17, v + {round} \
         FROM (SELECT CAST(unnest(range(0, {})) AS INT) AS v)",
        200 + 90 * round
    );
    client.run(&rows).await?;
    Ok(())
}

/// Returns the rollup that a query reads.
async fn read(client: &mut Client, query: &str) -> Result<Option<String>> {
    for batch in client.query(&format!("EXPLAIN {query}")).await? {
        let (kinds, plans) =
            (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        if let Some(row) = (0..batch.num_rows()).find(|row| kinds.value(*row) == "versions") {
            let rollup = plans.value(row).split("rollup \"").nth(1);
            return Ok(rollup.and_then(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }
    anyhow::bail!("EXPLAIN of {query} says nothing of versions")
}

async fn sorted(client: &mut Client, query: &str) -> Result<Vec<String>> {
    let text = pretty_format_batches(&client.query(query).await?)?.to_string();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    Ok(lines)
}
