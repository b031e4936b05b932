//! Fifty queries at once on a coordinator and three workers, and no source ever has more than four connections of them:
//! the servers themselves would refuse a fifth, and what they say is watched besides.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use meshwork_engine::environment;
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::compare::same_rows;
use meshwork_sql_tests::servers::{MariaDb, Postgres};
use meshwork_sql_tests::spread::catalog_file;
use mysql_async::prelude::Queryable;

const N_QUERIES: usize = 50;
const BUDGET: usize = 4;
const DEADLINE: Duration = Duration::from_secs(240);
const POLL: Duration = Duration::from_millis(5);

/// Joins whose probe sides hold connections while their build sides wait for one; scans of several splits.
const QUERIES: [&str; 5] = [
    "SELECT count(*), sum(a.n) FROM pg.public.big a JOIN pg.public.big b ON a.id = b.other JOIN pg.public.big c ON b.id = c.other",
    "SELECT count(*), max(a.pad) FROM pg.public.big a WHERE a.n % 7 = 3",
    "SELECT count(*), sum(a.n) FROM my.few.big a JOIN my.few.big b ON a.id = b.other JOIN my.few.big c ON b.id = c.other",
    "SELECT a.n, b.pad FROM pg.public.big a JOIN my.few.big b ON a.id = b.other WHERE a.n = 11",
    "SELECT n, count(*) FROM (SELECT n FROM my.few.big UNION ALL SELECT n FROM pg.public.big) u GROUP BY n",
];

#[tokio::test(flavor = "multi_thread")]
async fn fifty_queries_never_open_more_connections_than_the_budget() -> Result<()> {
    let (postgres, mariadb) = (Postgres::start()?, MariaDb::start()?);
    fill(&postgres, &mariadb).await?;
    let budget = |mut properties: BTreeMap<String, String>| {
        for (key, value) in [("user", "few"), ("password", "few"), ("connections_max", "4")] {
            properties.insert(key.to_owned(), value.to_owned());
        }
        properties
    };
    let mut relaxed = budget(mariadb.properties());
    relaxed.insert("read_consistency".to_owned(), "relaxed".to_owned());
    let catalogs = [
        ("pg", catalog_file("postgres", budget(postgres.properties()))),
        ("my", catalog_file("mysql", relaxed)),
    ];
    for shape in [Shape::Standalone, Shape::Workers(3)] {
        let cluster = Cluster::start(shape, &catalogs).await?;
        let mut client = cluster.client().await?;
        let mut expected = Vec::new();
        for sql in QUERIES {
            expected.push(client.query(sql).await.with_context(|| sql.to_owned())?);
        }
        let watching = environment::spawn("watching", watch(&postgres, &mariadb).await?);
        let queries = (0..N_QUERIES).map(|n| {
            let (cluster, expected, sql) =
                (&cluster, &expected[n % QUERIES.len()], QUERIES[n % QUERIES.len()]);
            async move {
                let mut client = cluster.client().await?;
                let rows = client.query(sql).await.with_context(|| format!("{n}: {sql}"))?;
                same_rows(expected, &rows)
            }
        });
        environment::within(DEADLINE, "fifty queries", try_join_all(queries))
            .await?
            .with_context(|| cluster.logs())?;
        // It only ends by finding too many.
        ensure!(!watching.is_finished(), "{:?}", watching.await?);
    }
    Ok(())
}

async fn fill(postgres: &Postgres, mariadb: &MariaDb) -> Result<()> {
    postgres
        .execute(&[
            "CREATE TABLE big AS SELECT n AS id, 60001 - n AS other, n % 97 AS n, repeat('x', 400) AS pad \
             FROM generate_series(1, 60000) n",
            "ANALYZE big",
            "CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 4",
            "GRANT SELECT ON big TO few",
        ])
        .await?;
    mariadb
        .execute(&[
            "CREATE DATABASE few",
            "CREATE TABLE few.big (id int PRIMARY KEY, other int, n int, pad varchar(400))",
            "INSERT INTO few.big SELECT seq, 60001 - seq, seq % 97, repeat('y', 400) FROM few.seq_1_to_60000",
            "ANALYZE TABLE few.big",
            "CREATE USER few IDENTIFIED BY 'few' WITH MAX_USER_CONNECTIONS 4",
            "GRANT SELECT ON few.* TO few",
        ])
        .await
}

/// Looks how many connections there are, again and again; ends with what is too many.
async fn watch(
    postgres: &Postgres,
    mariadb: &MariaDb,
) -> Result<impl Future<Output = Result<String>> + use<>> {
    let session = postgres.connect().await?;
    let mut connection = mariadb.connect().await?;
    Ok(async move {
        // All of it: the client alone would be without its driver.
        let session = &session;
        loop {
            // The server's own parallel workers are no connections.
            let question = "SELECT count(*) FROM pg_stat_activity \
                 WHERE usename = 'few' AND backend_type = 'client backend'";
            let n: i64 = session.client.query_one(question, &[]).await?.get(0);
            let question = "SELECT count(*) FROM information_schema.processlist WHERE user = 'few'";
            let m: Option<u64> = connection.query_first(question).await?;
            let (n, m) = (usize::try_from(n)?, usize::try_from(m.unwrap_or(0))?);
            if n > BUDGET || m > BUDGET {
                return Ok(format!("{n} connections to PostgreSQL, {m} to MariaDB"));
            }
            tokio::time::sleep(POLL).await;
        }
    })
}
