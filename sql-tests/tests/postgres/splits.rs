//! One table over several connections: each row once, under one snapshot, whatever others write meanwhile.

use anyhow::{Context, Result};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::physical_plan::collect;
use meshwork_engine::scope::QueryScope;
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::{Error, environment};
use meshwork_sql_tests::servers::Postgres;

use super::{count, prepare};

/// Runs a statement for each number from one on, until it is dropped or one fails.
async fn keeps_changing(
    server: &Postgres,
    statement: impl Fn(i32) -> String + Send + 'static,
) -> Result<environment::Task<()>> {
    let session = server.connect().await?;
    Ok(environment::spawn("changes", async move {
        // All of it: the client alone would be without its driver.
        let session = &session;
        for number in 1.. {
            if session.client.batch_execute(&statement(number)).await.is_err() {
                return;
            }
        }
    }))
}

/// Returns the three numbers of the only row.
fn three_of(rows: &[RecordBatch]) -> (i64, i64, i64) {
    let value = |column: usize| rows[0].column(column).as_primitive::<Int64Type>().value(0);
    (value(0), value(1), value(2))
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_cover_a_table_once_while_others_write() -> Result<()> {
    let (server, source) = prepare(
        "splits",
        &[
            "CREATE TABLE account (id int PRIMARY KEY, balance int8, filler char(500) DEFAULT 'x')",
            "CREATE TABLE other (id int PRIMARY KEY, balance int8)",
            "INSERT INTO account SELECT n, 100 FROM generate_series(1, 60000) n",
            "INSERT INTO other SELECT n, 100 FROM generate_series(1, 100) n",
        ],
    )
    .await?;
    let sql = "SELECT count(*), count(DISTINCT id), sum(balance) FROM t";
    let plan = source.explain("splits", "account", sql).await?;
    assert!(plan.contains("splits=4") && plan.contains("ctid < "), "{plan}");
    let indexed = source.explain("splits", "account", "SELECT * FROM t WHERE id = 5").await?;
    assert!(indexed.contains("splits=1") && !indexed.contains("ctid"), "{indexed}");

    // Moves rows to other pages, and money to another table, in one transaction each.
    let moving = keeps_changing(&server, |n| {
        let id = n % 60_000 + 1;
        format!(
            "BEGIN; UPDATE splits.account SET balance = balance - 1 WHERE id BETWEEN {id} AND {id} + 300; \
             UPDATE splits.other SET balance = balance + \
               (SELECT count(*) FROM splits.account WHERE id BETWEEN {id} AND {id} + 300) \
               WHERE id = {id} % 100 + 1; COMMIT"
        )
    })
    .await?;
    for _round in 0..20 {
        let scope = QueryScope::new(QuerySettings::default());
        let sum_of = async |table: &str| -> Result<(i64, i64, i64)> {
            Ok(three_of(&source.rows_in(&scope, "splits", table, sql).await?))
        };
        let (account, other) = (sum_of("account").await?, sum_of("other").await?);
        assert_eq!((account.0, account.1), (60_000, 60_000));
        assert_eq!(account.2 + other.2, 6_010_000, "both tables are read under one snapshot");
    }
    assert!(!moving.is_finished());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_read_in_ranges_of_their_pages() -> Result<()> {
    let (server, source) = prepare(
        "partitions",
        &[
            "CREATE TABLE whole (id int, place int, balance int8, filler char(500) DEFAULT 'x') PARTITION BY RANGE (place)",
            "CREATE TABLE low PARTITION OF whole FOR VALUES FROM (0) TO (2)",
            "CREATE TABLE high PARTITION OF whole FOR VALUES FROM (2) TO (9) PARTITION BY LIST (place)",
            "CREATE TABLE two (balance int8, place int, id int, filler char(500) DEFAULT 'x')",
            "ALTER TABLE high ATTACH PARTITION two FOR VALUES IN (2)",
            "CREATE TABLE rest PARTITION OF high DEFAULT",
            "CREATE TABLE more (LIKE whole)",
            "INSERT INTO more SELECT n, 9, 100 FROM generate_series(1, 10) n",
            "INSERT INTO whole SELECT n, n % 5, 100 FROM generate_series(1, 60000) n",
        ],
    )
    .await?;
    let sql = "SELECT count(*), count(DISTINCT id), sum(balance) FROM t";
    let plan = source.explain("partitions", "whole", sql).await?;
    assert!(plan.contains("splits=4") && plan.contains("ctid < "), "{plan}");
    // Moves rows from one partition to another, and from one page to another.
    let moving = keeps_changing(&server, |n| {
        format!(
            "UPDATE partitions.whole SET place = (place + {n}) % 5, balance = balance + CASE WHEN id % 2 = 0 THEN 1 ELSE -1 END \
             WHERE id BETWEEN {0} + 1 AND {0} + 300",
            n * 300 % 60_000
        )
    })
    .await?;
    for _round in 0..10 {
        let rows = source.rows("partitions", "whole", sql).await?;
        assert_eq!(three_of(&rows), (60_000, 60_000, 6_000_000));
    }
    assert!(!moving.is_finished());
    drop(moving);
    // Parts that come or go between planning and reading.
    for (change, how) in [
        ("ALTER TABLE partitions.high DETACH PARTITION partitions.two", "has lost a partition"),
        (
            "ALTER TABLE partitions.whole ATTACH PARTITION partitions.more FOR VALUES FROM (9) TO (10)",
            "has a new partition",
        ),
    ] {
        let frame = source.plan("partitions", "whole", "SELECT id, place FROM t").await?;
        let (plan, task) = (frame.clone().create_physical_plan().await?, frame.task_ctx());
        server.execute(&[change]).await?;
        let read = collect(plan, task.into()).await;
        let error = Error::from_datafusion(&read.err().context("it was to fail")?);
        assert!(error.is_schema_changed() && error.message.contains(how), "{error:?}");
    }
    let rows = source.rows("partitions", "whole", "SELECT count(*) FROM t WHERE place = 9").await?;
    assert_eq!(count(&rows), 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_from_which_others_inherit_is_not_cut() -> Result<()> {
    let (_server, source) = prepare(
        "heirs",
        &[
            "CREATE TABLE whole (id int, filler char(500) DEFAULT 'x')",
            "CREATE TABLE part (more int) INHERITS (whole)",
            "INSERT INTO whole SELECT n FROM generate_series(1, 60000) n",
            "INSERT INTO part SELECT n FROM generate_series(60001, 120000) n",
        ],
    )
    .await?;
    let plan = source.explain("heirs", "whole", "SELECT id FROM t").await?;
    assert!(plan.contains("splits=1") && !plan.contains("ctid"), "{plan}");
    let part = source.explain("heirs", "part", "SELECT id FROM t").await?;
    assert!(part.contains("ctid < "), "{part}");
    let rows = source.rows("heirs", "whole", "SELECT count(DISTINCT id) FROM t").await?;
    assert_eq!(count(&rows), 120_000);
    Ok(())
}
