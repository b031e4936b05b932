//! Queries over two sources: what is known of the small side reaches the large one, on one process and on three.
//!
//! The server's own log says what it was asked.

use anyhow::{Context, Result, ensure};
use arrow::util::pretty::pretty_format_batches;
use meshwork::client::Client;
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::compare::same_rows;
use meshwork_sql_tests::servers::{MariaDb, Postgres};
use meshwork_sql_tests::spread::catalog_file;

/// Rows of the large table: enough for more than one split.
const N_ROWS: usize = 200_000;

/// A large table with an index on a server that logs every statement, and small tables in a lake.
struct Federation {
    server: Postgres,
    cluster: Cluster,
    _lake: tempfile::TempDir,
}

impl Federation {
    async fn start(shape: Shape) -> Result<Self> {
        let server = Postgres::start()?;
        let fill = format!(
            "CREATE TABLE sale AS SELECT n AS id, n % 1000 AS shop, (n % 97)::numeric(8,2) AS amount, \
             DATE '2020-01-01' + n % 2000 AS day, repeat('x', 100) AS pad FROM generate_series(1, {N_ROWS}) n"
        );
        server
            .execute(&[
                &fill,
                "CREATE INDEX ON sale (id)",
                "CREATE TABLE shop AS SELECT n AS id, 'city ' || n % 100 AS city FROM generate_series(0, 999) n",
                "ANALYZE",
                "ALTER SYSTEM SET log_statement = 'all'",
                "SELECT pg_reload_conf()",
            ])
            .await?;
        let lake = tempfile::tempdir()?;
        let location = [("location".to_owned(), lake.path().to_string_lossy().into_owned())];
        let catalogs = [
            ("pg", catalog_file("postgres", server.properties())),
            ("lake", catalog_file("lake", location.into())),
        ];
        let cluster = Cluster::start(shape, &catalogs).await?;
        let mut client = cluster.client().await?;
        for statement in [
            "CREATE SCHEMA lake.web",
            "CREATE TABLE lake.web.visit AS SELECT n * 400 AS sale, n AS visitor FROM (SELECT unnest(range(1, 501)) AS n) AS r",
            "CREATE TABLE lake.web.nobody AS SELECT sale FROM lake.web.visit WHERE visitor < 0",
        ] {
            client.run(statement).await?;
        }
        Ok(Self { server, cluster, _lake: lake })
    }

    /// Runs a query with everything moved that can be, and with nothing; returns the reads of the large table that the
    /// server saw of the first.
    async fn reads(&self, client: &mut Client, sql: &str) -> Result<Vec<String>> {
        client.run("SET SESSION pushdown = false").await?;
        client.run("SET SESSION dynamic_filter_wait_ms = 0").await?;
        let expected = client.query(sql).await?;
        client.run("RESET SESSION pushdown").await?;
        client.run("RESET SESSION dynamic_filter_wait_ms").await?;
        let before = self.server.log()?.len();
        let found = client.query(sql).await?;
        same_rows(&expected, &found).with_context(|| sql.to_owned())?;
        let log = self.server.log()?;
        let said = log.get(before..).context("a log only grows")?;
        // The statement whose rows are read has this name.
        let is_read = |line: &&str| line.contains("execute rows: SELECT");
        Ok(said.lines().filter(is_read).map(str::to_owned).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_small_side_reaches_the_large_one() -> Result<()> {
    for shape in [Shape::Standalone, Shape::Workers(2)] {
        let federation = Federation::start(shape).await?;
        let mut client = federation.cluster.client().await?;

        let joined = "SELECT count(*), sum(s.amount) FROM pg.public.sale s JOIN lake.web.visit v ON s.id = v.sale";
        let reads = federation.reads(&mut client, joined).await?;
        ensure!(
            !reads.is_empty() && reads.iter().all(|read| read.contains("\"id\" IN (")),
            "{reads:?}"
        );
        // One statement finds the keys by the index; where several nodes read, each has its part of the table.
        ensure!(shape != Shape::Standalone || reads.len() == 1, "{reads:?}");

        let semi = "SELECT amount FROM pg.public.sale WHERE id IN (SELECT sale FROM lake.web.visit WHERE visitor < 20)";
        let reads = federation.reads(&mut client, semi).await?;
        ensure!(
            !reads.is_empty() && reads.iter().all(|read| read.contains("\"id\" IN (")),
            "{reads:?}"
        );

        let nobody =
            "SELECT s.amount FROM pg.public.sale s JOIN lake.web.nobody n ON s.id = n.sale";
        let reads = federation.reads(&mut client, nobody).await?;
        ensure!(reads.is_empty(), "nothing joins, and yet {reads:?}");

        // Outer joins keep rows that match nothing: those of the large side have to come.
        let kept = "SELECT count(*), count(v.visitor) FROM pg.public.sale s LEFT JOIN lake.web.visit v ON s.id = v.sale";
        let reads = federation.reads(&mut client, kept).await?;
        ensure!(!reads.is_empty() && reads.iter().all(|read| !read.contains(" IN (")), "{reads:?}");

        let latest = "SELECT count(*), min(id) FROM pg.public.sale WHERE id > (SELECT max(sale) FROM lake.web.visit WHERE visitor <= 300)";
        let reads = federation.reads(&mut client, latest).await?;
        ensure!(
            !reads.is_empty() && reads.iter().all(|read| read.contains("\"id\" > 120000")),
            "{reads:?}"
        );
    }
    Ok(())
}

/// Two tables of one source meet there if that leaves less to send; the large one is still read in splits.
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_one_source_meets_there() -> Result<()> {
    for shape in [Shape::Standalone, Shape::Workers(2)] {
        let federation = Federation::start(shape).await?;
        let mut client = federation.cluster.client().await?;
        let (sale, shop) = ("pg.public.sale s", "pg.public.shop h");

        let gathered = format!(
            "SELECT h.city, count(*), sum(s.amount) FROM {sale} JOIN {shop} ON s.shop = h.id \
             WHERE h.city LIKE '%7' GROUP BY h.city"
        );
        let reads = federation.reads(&mut client, &gathered).await?;
        ensure!(reads.len() > 1, "the larger side is cut: {reads:?}");
        let is_whole = |read: &String| read.contains(" JOIN ") && read.contains(" GROUP BY ");
        ensure!(reads.iter().all(is_whole), "{reads:?}");

        let semi = format!(
            "SELECT s.id FROM {sale} WHERE s.shop IN (SELECT id FROM {shop} WHERE h.city = 'city 7') AND s.amount > 90"
        );
        let reads = federation.reads(&mut client, &semi).await?;
        ensure!(
            !reads.is_empty() && reads.iter().all(|read| read.contains("EXISTS (SELECT 1 FROM")),
            "{reads:?}"
        );

        // Nothing is left out, so meeting there would send each shop with each of its sales.
        let wide = format!("SELECT max(h.city || s.pad) FROM {sale} JOIN {shop} ON s.shop = h.id");
        let reads = federation.reads(&mut client, &wide).await?;
        ensure!(reads.iter().all(|read| !read.contains(" JOIN ")), "{reads:?}");
    }
    Ok(())
}

/// The keys of a small side pass an aggregation that rows are grouped by them for, also when more than the keys is compared.
#[tokio::test(flavor = "multi_thread")]
async fn keys_pass_groups() -> Result<()> {
    let federation = Federation::start(Shape::Standalone).await?;
    let mut client = federation.cluster.client().await?;
    let sql = "SELECT count(*) FROM lake.web.visit v JOIN pg.public.sale s ON s.id = v.sale \
               WHERE s.amount = (SELECT max(i.amount) FROM pg.public.sale i WHERE i.id = v.sale)";
    let reads = federation.reads(&mut client, sql).await?;
    ensure!(reads.len() == 2 && reads.iter().all(|read| read.contains("\"id\" IN (")), "{reads:?}");
    Ok(())
}

/// A sum that is compared with its parts: what was read for the one serves the others.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_rows_are_read_once() -> Result<()> {
    let federation = Federation::start(Shape::Standalone).await?;
    let mut client = federation.cluster.client().await?;
    let sold = "pg.public.sale s JOIN lake.web.visit v ON s.id = v.sale";
    let sql = format!(
        "SELECT s.shop, sum(s.amount) FROM {sold} GROUP BY s.shop \
         HAVING sum(s.amount) > (SELECT sum(s.amount) * 0.21 FROM {sold})"
    );
    let reads = federation.reads(&mut client, &sql).await?;
    ensure!(reads.len() == 1 && reads[0].contains("\"id\" IN ("), "{reads:?}");
    Ok(())
}

/// What a part of a table adds up to may have a digit more than the whole; a whole with a digit too many is an error.
#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_sum_may_be_larger_than_the_sum() -> Result<()> {
    let (postgres, mariadb) = (Postgres::start()?, MariaDb::start()?);
    postgres
        .execute(&[
            "CREATE TABLE sums (n numeric(38,2), filler char(500) DEFAULT 'x')",
            "INSERT INTO sums SELECT CASE WHEN id <= 15000 THEN 86000000000000000000000000000000.25 \
               WHEN id > 45000 THEN -86000000000000000000000000000000 ELSE 0 END FROM generate_series(1, 60000) id",
        ])
        .await?;
    mariadb
        .execute(&[
            "CREATE DATABASE large",
            "USE large",
            "CREATE TABLE large.sums (id int PRIMARY KEY, n decimal(38,2))",
            "INSERT INTO large.sums SELECT seq, CASE WHEN seq <= 4 THEN 300000000000000000000000000000000000.25 \
               ELSE -300000000000000000000000000000000000 END FROM seq_1_to_8",
            "INSERT INTO large.sums VALUES (0, 1), (9, 1)",
            "ANALYZE TABLE large.sums",
        ])
        .await?;
    let mut in_ranges = mariadb.properties();
    in_ranges.insert("read_consistency".to_owned(), "relaxed".to_owned());
    in_ranges.insert("split_rows_min".to_owned(), "4".to_owned());
    let catalogs = [
        ("pg", catalog_file("postgres", postgres.properties())),
        ("my", catalog_file("mysql", in_ranges)),
    ];
    let cluster = Cluster::start(Shape::Standalone, &catalogs).await?;
    let mut client = cluster.client().await?;
    for (table, total) in [("pg.public.sums", "3750"), ("my.large.sums", "3")] {
        let sql = format!("SELECT sum(n) FROM {table}");
        let too_large = format!("{sql} WHERE n >= 0");
        for asked in [&sql, &too_large] {
            let plan = client.query(&format!("EXPLAIN {asked}")).await?;
            let plan = pretty_format_batches(&plan)?.to_string();
            let is_pushed = plan.contains("SELECT sum(") && !plan.contains("splits=1");
            ensure!(is_pushed, "{plan}");
        }
        let expected = client.query(&format!("SELECT CAST({total} AS DECIMAL(38,2))")).await?;
        same_rows(&expected, &client.query(&sql).await?).with_context(|| sql.clone())?;
        for pushdown in ["true", "false"] {
            client.run(&format!("SET SESSION pushdown = {pushdown}")).await?;
            let error = client.query(&too_large).await.err().with_context(|| too_large.clone())?;
            ensure!(error.code == "NUMERIC_OVERFLOW", "{too_large}: {error:?}");
        }
        client.run("RESET SESSION pushdown").await?;
    }
    Ok(())
}

/// As it is written, the query reads all sales; in the order that is chosen, those of the visits.
#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_joins_is_chosen() -> Result<()> {
    for shape in [Shape::Standalone, Shape::Workers(2)] {
        let federation = Federation::start(shape).await?;
        let mut client = federation.cluster.client().await?;
        let sql = "SELECT h.city, count(*), sum(s.amount) FROM pg.public.sale s, pg.public.shop h, lake.web.visit v \
                   WHERE s.shop = h.id AND s.id = v.sale GROUP BY h.city";
        let reads = federation.reads(&mut client, sql).await?;
        let of_sales: Vec<&String> =
            reads.iter().filter(|read| read.contains("\"sale\"")).collect();
        ensure!(
            !of_sales.is_empty() && of_sales.iter().all(|read| read.contains("\"id\" IN (")),
            "{reads:?}"
        );
    }
    Ok(())
}

/// The text is the source's own, the columns are the planner's: what is asked of them is moved like any other work.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_in_the_words_of_a_source_is_a_table() -> Result<()> {
    for shape in [Shape::Standalone, Shape::Workers(2)] {
        let federation = Federation::start(shape).await?;
        let mut client = federation.cluster.client().await?;
        let query = "SELECT shop, count(*) AS n, sum(amount)::numeric(12,2) AS total FROM sale GROUP BY shop -- its end";
        let table = format!("TABLE(pg.system.query(query => '{query}'))");
        let direct = "SELECT shop, count(*) AS n, sum(amount) AS total FROM pg.public.sale WHERE shop < 5 GROUP BY shop";
        let asked = format!(
            "SELECT q.shop, q.n, q.total FROM {table} AS q WHERE q.shop < 5 ORDER BY q.shop"
        );
        let expected = client
            .query(&format!(
                "SELECT shop, n, CAST(total AS DECIMAL(12,2)) FROM ({direct}) d ORDER BY 1"
            ))
            .await?;
        same_rows(&expected, &client.query(&asked).await?)?;
        let joined =
            format!("SELECT count(*) FROM {table} JOIN lake.web.visit v ON shop = v.visitor");
        let counted = client.query(&joined).await?;
        same_rows(&client.query("SELECT CAST(500 AS BIGINT)").await?, &counted)?;
        for (wrong, code) in [
            ("SELECT 1 AS a, 2 AS a", "INVALID_QUERY"),
            ("SELECT no_such_column FROM sale", "SOURCE_QUERY_FAILED"),
            ("DELETE FROM sale RETURNING id", "SOURCE_QUERY_FAILED"),
        ] {
            let sql = format!("SELECT * FROM TABLE(pg.system.query(query => '{wrong}'))");
            let error = client.query(&sql).await.err().with_context(|| sql.clone())?;
            ensure!(error.code == code, "{wrong}: {error:?}");
        }
        let refused = client
            .query("SELECT * FROM lake.system.query('SELECT 1')")
            .await
            .err()
            .context("refused")?;
        ensure!(refused.code == "NOT_SUPPORTED", "{refused:?}");
        let rows = client.query("SELECT sum(value) FROM generate_series(1, 10)").await?;
        same_rows(&client.query("SELECT CAST(55 AS BIGINT)").await?, &rows)?;
    }
    Ok(())
}
