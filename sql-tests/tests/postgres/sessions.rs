//! Sessions: how many there are, and what is left of one for the next query.

use std::time::Duration;

use anyhow::{Context, Result};
use datafusion::physical_plan::collect;
use meshwork_engine::Error;
use meshwork_sql_tests::source::{Source, assert_lines};

use super::{count, prepare};

#[tokio::test(flavor = "multi_thread")]
async fn few_connections_serve_many_scans() -> Result<()> {
    let (server, _source) = prepare(
        "budget",
        &["CREATE TABLE big AS SELECT n AS id, repeat('x', 500) AS filler FROM generate_series(1, 50000) n"],
    )
    .await?;
    let mut properties = server.properties();
    properties.insert("connections_max".into(), "2".into());
    let source = Source::new("postgres", properties)?;
    // The build side starts when the probe side already holds what connections there are.
    let sql = "SELECT count(*) FROM t a JOIN t b ON a.id = b.id JOIN t c ON b.id = c.id JOIN t d ON c.id = d.id";
    let rows =
        tokio::time::timeout(Duration::from_secs(60), source.rows("budget", "big", sql)).await??;
    assert_eq!(count(&rows), 50_000);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_used_again_and_keep_nothing() -> Result<()> {
    let (server, source) = prepare(
        "kept",
        &[
            "CREATE TABLE numbers AS SELECT 1 AS n",
            "CREATE VIEW sessions AS SELECT pg_backend_pid()::bigint AS pid",
            "CREATE VIEW leavings AS SELECT pg_advisory_lock(4711)::text AS a, \
             set_config('work_mem', '77MB', false) AS b, set_config('TimeZone', 'Asia/Tokyo', false) AS c",
            "CREATE VIEW asker AS SELECT current_setting('application_name') AS name",
            "CREATE VIEW settings AS SELECT current_setting('work_mem') || current_setting('TimeZone') AS of",
        ],
    )
    .await?;
    let named = source.with(|query| {
        (query.query_id, query.user) = ("q1".to_owned(), "o'ne".to_owned());
    });
    let asker = named.text("kept", "asker", "SELECT name FROM t").await?;
    assert_lines(&asker, &["| meshwork/q1/o?ne |"]);
    let pid = async || -> Result<i64> {
        Ok(count(&source.rows("kept", "sessions", "SELECT pid FROM t").await?))
    };
    let settings = source.text("kept", "settings", "SELECT * FROM t").await?;
    // The one that was used before is kept as soon as its transaction has ended.
    let used_again = async {
        let mut before = Vec::new();
        loop {
            let now = pid().await?;
            if before.contains(&now) {
                return anyhow::Ok(now);
            }
            before.push(now);
        }
    };
    let used = tokio::time::timeout(Duration::from_secs(20), used_again).await??;
    source.rows("kept", "leavings", "SELECT a, b, c FROM t").await?;
    let session = server.connect().await?;
    let asked = async |question: &str| -> Result<bool> {
        Ok(session.client.query_one(question, &[]).await?.get(0))
    };
    let waits_for_nobody = "SELECT count(*) = 0 FROM pg_stat_activity \
                            WHERE application_name = 'meshwork' AND state <> 'idle'";
    for question in ["SELECT pg_try_advisory_lock(4711)", waits_for_nobody] {
        let holds = async {
            while !asked(question).await? {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(4), holds)
            .await
            .context(question.to_owned())??;
    }
    assert_eq!(source.text("kept", "settings", "SELECT * FROM t").await?, settings);
    // One that was refused in the middle of an exchange answers nothing else with what is left of it.
    for _ in 0..3 {
        server.execute(&["CREATE TABLE kept.gone (n int)"]).await?;
        let frame = source.plan("kept", "gone", "SELECT n FROM t").await?;
        let (plan, task) = (frame.clone().create_physical_plan().await?, frame.task_ctx());
        server.execute(&["DROP TABLE kept.gone"]).await?;
        let read = collect(plan, task.into()).await;
        let error = Error::from_datafusion(&read.err().context("it was to fail")?);
        assert!(error.is_schema_changed(), "{error:?}");
        drop(frame);
        for _ in 0..5 {
            let rows = source.rows("kept", "numbers", "SELECT count(*) FROM t WHERE n > 0").await?;
            assert_eq!(count(&rows), 1);
            assert_eq!(source.rows("kept", "numbers", "SELECT n FROM t").await?[0].num_rows(), 1);
        }
    }
    // One that the server has ended meanwhile is replaced by another.
    asked(&format!("SELECT pg_terminate_backend({used}::int)")).await?;
    for _ in 0..3 {
        assert_ne!(pid().await?, used);
    }
    Ok(())
}
