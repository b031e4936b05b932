//! What statistics make of joins: the smaller side is built, and nobody sends a side to everybody whose size is not
//! known or known to be large.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use arrow::array::AsArray;
use arrow::util::pretty::pretty_format_batches;
use meshwork::client::{Answer, Client};
use meshwork_engine::environment;
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

/// Each column of `alike` has a hundred values, and both of a row are the same.
const ALIKE: &str = "CREATE SCHEMA counted; SET search_path = counted; \
     CREATE TABLE alike WITH (autovacuum_enabled = false) AS \
       SELECT n AS id, n % 100 AS a, n % 100 AS b FROM generate_series(1, 200000) n; \
     CREATE TABLE middle WITH (autovacuum_enabled = false) AS \
       SELECT n AS id, 'name ' || n AS name FROM generate_series(1, 500) n; \
     ANALYZE alike; ANALYZE middle";

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

/// Conditions on columns that follow from each other leave a hundred times the rows that statistics of each column let expect.
#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_was_larger_than_expected_is_not_built_again() -> Result<()> {
    const SQL: &str = "SELECT count(*) FROM pg.counted.alike x JOIN pg.counted.middle y ON x.id = y.id \
                       WHERE x.a = 5 AND x.b = 5 AND x.id + y.id <> 7";
    const SEEN: &str = "SELECT \"rows\" FROM system.observed_stats \
                        WHERE \"table\" = 'alike' AND conditions = '\"a\" = 5 AND \"b\" = 5'";
    let server = Postgres::shared()?;
    server.execute(&[ALIKE]).await?;
    let catalog = [("pg", catalog_file("postgres", server.properties()))];
    for shape in [Shape::Standalone, Shape::Workers(2)] {
        let cluster = Cluster::start(shape, &catalog).await?;
        let mut client = cluster.client().await?;
        let before = plan(&mut client, SQL).await?;
        assert_eq!(join_of(&before)?, Join::Built("alike"), "{shape:?}:\n{before}");
        client.query(SQL).await?;
        // What workers did is noted behind the query.
        let deadline = environment::instant() + Duration::from_secs(20);
        let seen = loop {
            let seen = client.query(SEEN).await?;
            if seen.iter().any(|batch| batch.num_rows() > 0) || environment::instant() > deadline {
                break pretty_format_batches(&seen)?.to_string();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert!(seen.contains("| 2000 |"), "{shape:?}:\n{seen}");
        let after = plan(&mut client, SQL).await?;
        assert_eq!(join_of(&after)?, Join::Built("middle"), "{shape:?}:\n{after}");
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
    let scan = scans.filter_map(|line| {
        let (_, scan) = line.split_once("RemoteScanExec: pg.")?;
        scan.split(',').next()?.split('.').nth(1)
    });
    match scan.into_iter().next() {
        Some("small") => Ok(Join::Built("small")),
        Some("large") => Ok(Join::Built("large")),
        Some("alike") => Ok(Join::Built("alike")),
        Some("middle") => Ok(Join::Built("middle")),
        Some("never") => Ok(Join::Built("never")),
        Some("unknown") => Ok(Join::Built("unknown")),
        other => bail!("a build side that nobody made: {other:?}"),
    }
}
