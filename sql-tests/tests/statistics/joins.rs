//! What statistics make of joins: the smaller side is built, and nobody sends a side to everybody whose size is not
//! known or known to be large.

use anyhow::{Context, Result, bail};
use arrow::array::AsArray;
use meshwork::client::{Answer, Client};
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::servers::Postgres;
use meshwork_sql_tests::spread::catalog_file;

/// `large` is more than what is broadcast; `unknown` is a view on it, of which the server says nothing.
const TABLES: &str = "CREATE SCHEMA joined; SET search_path = joined; \
     CREATE TABLE small WITH (autovacuum_enabled = false) AS \
       SELECT n AS id, 'name ' || n AS name FROM generate_series(1, 100) n; \
     CREATE TABLE large WITH (autovacuum_enabled = false) AS \
       SELECT n AS id, n % 100 AS small_id, repeat('x', 100) AS filler FROM generate_series(1, 200000) n; \
     CREATE TABLE never WITH (autovacuum_enabled = false) AS \
       SELECT large.* FROM large, generate_series(1, 3); \
     CREATE VIEW unknown AS SELECT * FROM large; \
     CREATE VIEW unknown_small AS SELECT * FROM small; \
     ANALYZE small; ANALYZE large";

/// How a join of two sides is planned.
#[derive(Debug, PartialEq, Eq)]
enum Join {
    /// The table of this side is built, whole in each task.
    Built(&'static str),
    /// Both sides are dealt out by their keys.
    Dealt,
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_side_known_to_be_small_is_broadcast() -> Result<()> {
    let server = Postgres::shared()?;
    server.execute(&[TABLES]).await?;
    let catalog = [("pg", catalog_file("postgres", server.properties()))];
    for shape in [Shape::Standalone, Shape::Workers(2)] {
        let cluster = Cluster::start(shape, &catalog).await?;
        let mut client = cluster.client().await?;
        for (left, right, expected) in [
            ("small", "large", Join::Built("small")),
            ("large", "small", Join::Built("small")),
            ("small", "unknown", Join::Built("small")),
            ("unknown", "small", Join::Built("small")),
            ("unknown", "large", Join::Dealt),
            ("large", "unknown", Join::Dealt),
            ("unknown_small", "unknown", Join::Dealt),
            ("unknown", "unknown_small", Join::Dealt),
            ("never", "large", Join::Dealt),
            ("never", "small", Join::Built("small")),
        ] {
            let sql = format!(
                "SELECT * FROM pg.joined.{left} a JOIN pg.joined.{right} b ON a.id = b.id \
                 WHERE a.id + b.id <> 7"
            );
            let plan = plan(&mut client, &sql).await?;
            let found = join_of(&plan).with_context(|| format!("{left}, {right}:\n{plan}"))?;
            assert_eq!(found, expected, "{shape:?}, {left} and {right}:\n{plan}");
        }
        // The same with conditions of which nothing is known: guesses do not make a large side small.
        let sql = "SELECT * FROM pg.joined.never a JOIN pg.joined.large b ON a.id = b.id \
                   WHERE a.small_id > 7 AND a.id > 3 AND a.id + b.id <> 7";
        let plan = plan(&mut client, sql).await?;
        assert_eq!(join_of(&plan)?, Join::Dealt, "{shape:?}:\n{plan}");
    }
    Ok(())
}

async fn plan(client: &mut Client, sql: &str) -> Result<String> {
    match client.run(&format!("EXPLAIN (TYPE DISTRIBUTED) {sql}")).await? {
        Answer::Rows(batches) => {
            let texts = batches.first().context("a plan")?.column(1).as_string::<i32>();
            Ok(texts.iter().flatten().collect())
        }
        Answer::Changed(_) => bail!("EXPLAIN changed something"),
    }
}

/// Reads the one join of a plan.
fn join_of(plan: &str) -> Result<Join> {
    let lines: Vec<&str> = plan.lines().collect();
    let join = lines.iter().position(|line| line.contains("HashJoinExec")).context("no join")?;
    if lines[join].contains("mode=Partitioned") {
        return Ok(Join::Dealt);
    }
    // The build side comes first, in the same stage or in the one that is broadcast.
    let broadcast = lines.iter().position(|line| line.starts_with("BroadcastExec"));
    let from = broadcast.unwrap_or(join);
    let scans = lines.iter().skip(from);
    let scan = scans.filter(|line| line.contains("RemoteScanExec: pg.joined.")).map(|line| {
        let name = line.split("pg.joined.").nth(1).unwrap_or_default();
        name.split(',').next().unwrap_or_default()
    });
    match scan.into_iter().next() {
        Some("small") => Ok(Join::Built("small")),
        Some("large") => Ok(Join::Built("large")),
        Some("never") => Ok(Join::Built("never")),
        Some("unknown") => Ok(Join::Built("unknown")),
        other => bail!("a build side that nobody made: {other:?}"),
    }
}
