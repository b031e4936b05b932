//! Workers and a coordinator over real gRPC and HTTP on free ports, in this process: the distributed answer
//! is the answer of one node, lost and frozen workers cost a retry, and whatever is cancelled is gone.
//!
//! `harness` is the cluster, `process` a worker that can be killed, `numbers` the source that they read.

mod harness;
mod numbers;
mod process;

use std::time::Duration;

use anyhow::Result;
use futures::StreamExt;
use meshwork_engine::environment;
use meshwork_engine::node::TaskState;
use meshwork_sql_tests::compare::same_rows;
use meshwork_sql_tests::tpch;

use harness::{Cluster, eventually, on_runtimes};
use process::Process;

/// Statements over `numbers (n)` and `few (n)` that each rely on all rows being seen exactly once.
const STATEMENTS: &[&str] = &[
    "SELECT count(*), sum(n), min(n), max(n) FROM numbers",
    "SELECT n % 10 AS k, count(*), sum(n) FROM numbers GROUP BY n % 10",
    "SELECT count(DISTINCT n % 1000) FROM numbers",
    "SELECT n FROM numbers ORDER BY n DESC LIMIT 7",
    "SELECT n FROM numbers WHERE n % 999 = 0 ORDER BY n",
    "SELECT count(*) FROM (SELECT n FROM numbers LIMIT 77)",
    "SELECT count(*) FROM (SELECT n FROM few LIMIT 3) f JOIN numbers b ON b.n > f.n - 1000",
    "SELECT a.n, b.n FROM few a JOIN numbers b ON a.n = b.n",
    "SELECT count(*), count(b.n) FROM numbers a LEFT JOIN few b ON a.n = b.n",
    "SELECT count(*), count(a.n) FROM few a RIGHT JOIN numbers b ON a.n = b.n + 5",
    "SELECT count(*) FROM numbers a FULL JOIN few b ON a.n = b.n + 39995",
    "SELECT count(*) FROM few a CROSS JOIN few b",
    "SELECT count(*) FROM few a JOIN few b ON a.n < b.n",
    "SELECT count(*) FROM few a LEFT JOIN few b ON a.n > b.n + 5",
    "SELECT count(*) FROM numbers WHERE n NOT IN (SELECT n FROM few)",
    "SELECT count(*) FROM numbers a WHERE EXISTS (SELECT 1 FROM few b WHERE a.n = b.n)",
    "SELECT n FROM few WHERE n > (SELECT avg(n) FROM few)",
    "SELECT sum(n) FROM (SELECT n FROM numbers UNION ALL SELECT n FROM few UNION ALL SELECT 1)",
    "SELECT n FROM few UNION SELECT n % 20 FROM numbers",
    "SELECT n % 3, sum(n) OVER (PARTITION BY n % 3 ORDER BY n) FROM few",
    "SELECT n, row_number() OVER (ORDER BY n) FROM few",
    "SELECT max(r) FROM (SELECT rank() OVER (PARTITION BY n % 7 ORDER BY n) AS r FROM numbers)",
    "SELECT avg(s) FROM (SELECT n % 100 AS k, sum(n) AS s FROM numbers GROUP BY 1) WHERE s > 0",
    "SELECT k, count(*) FROM (SELECT n % 5 AS k FROM numbers) GROUP BY k HAVING count(*) > 1",
    "WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t WHERE i < 9) SELECT sum(i) FROM t",
    "SELECT n FROM few INTERSECT SELECT n FROM numbers",
    "SELECT n FROM few EXCEPT SELECT n * 2 FROM few",
    "SELECT x, count(*) FROM (VALUES (1), (2)) v (x) JOIN numbers ON n % 3 = x GROUP BY x",
    "SELECT count(*) FROM (SELECT n FROM numbers WHERE n < 50 UNION ALL VALUES (1), (2))",
    "SELECT count(*) FROM numbers WHERE n < 0",
    "SELECT n % 4, array_agg(n ORDER BY n) FROM few GROUP BY 1",
    "SELECT n FROM numbers ORDER BY n % 100, n LIMIT 5 OFFSET 50",
    "SELECT 1",
];

#[test]
fn the_distributed_answer_is_the_answer_of_one_node() -> Result<()> {
    on_runtimes(async {
        for n_workers in [1, 2, 3, 7] {
            let cluster = Cluster::start(n_workers).await?;
            for n_partitions in [1, 2, 8] {
                for sql in STATEMENTS {
                    let asked = format!("{sql} ({n_workers} workers, {n_partitions} partitions)");
                    let expected = cluster.plain(sql).await?;
                    let actual = cluster.query(sql, n_partitions).await;
                    let actual = actual.map_err(|e| anyhow::anyhow!("{asked}: {e}"))?;
                    same_rows(&expected, &actual).map_err(|e| e.context(asked))?;
                }
            }
            cluster.is_idle_within(Duration::from_secs(5)).await?;
        }
        Ok(())
    })
}

/// The runtime alone answers 15,381 rows for 1,048 to query 11 with one partition, and none to query 15.
#[test]
fn tpch_is_right_even_with_one_partition() -> Result<()> {
    on_runtimes(async {
        let cluster = Cluster::start(2).await?;
        for number in 1..=tpch::N_QUERIES {
            let sql = tpch::query(number)?;
            let expected = cluster.plain(&sql).await?;
            for n_partitions in [1, 2] {
                let actual = cluster.query(&sql, n_partitions).await;
                let actual =
                    actual.map_err(|e| anyhow::anyhow!("q{number}: {e} {:?}", e.causes))?;
                same_rows(&expected, &actual).map_err(|e| e.context(format!("q{number}")))?;
            }
        }
        Ok(())
    })
}

#[test]
fn one_worker_runs_the_plan_of_one_node() -> Result<()> {
    on_runtimes(async {
        let cluster = Cluster::start(1).await?;
        let plan = cluster.plan("SELECT n % 10, sum(n) FROM numbers GROUP BY 1", 2).await?;
        assert!(!meshwork::coordinator::fragment::is_distributed(plan.plan()));
        Ok(())
    })
}

/// Not a test: what [`Process`] runs.
#[test]
fn a_worker_process() -> Result<()> {
    match std::env::var(Process::COORDINATOR) {
        Ok(coordinator) => on_runtimes(Process::serve(coordinator.parse()?)),
        Err(_not_a_worker) => Ok(()),
    }
}

#[test]
fn a_worker_that_is_killed_costs_a_retry() -> Result<()> {
    on_runtimes(async {
        let cluster = Cluster::start(2).await?;
        let process = Process::start(&cluster).await?;
        let expected = cluster.plain("SELECT count(*), sum(n) FROM slow").await?;
        let running = cluster.start_query("SELECT count(*), sum(n) FROM slow", 2).await?;
        process.busy(&cluster).await?;
        process.signal("KILL")?;
        let started = environment::instant();
        let actual = running.collect().await?;
        same_rows(&expected, &actual)?;
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        assert_eq!(cluster.active().len(), 2);
        Ok(())
    })
}

#[test]
fn a_worker_that_is_killed_after_rows_have_left_is_named_in_the_error() -> Result<()> {
    on_runtimes(async {
        let cluster = Cluster::start(1).await?;
        let process = Process::start(&cluster).await?;
        let mut running = cluster.start_query("SELECT n FROM slow", 2).await?;
        running.rows.next().await.expect("there are rows")?;
        process.signal("KILL")?;
        let started = environment::instant();
        let error = running.collect().await.expect_err("the result would be short");
        assert_eq!((error.code.as_str(), error.retryable), ("WORKER_LOST", true), "{error}");
        assert!(error.message.contains(process.url.as_str()), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
        Ok(())
    })
}

#[test]
fn a_worker_that_is_frozen_costs_a_retry() -> Result<()> {
    on_runtimes(async {
        let cluster = Cluster::start(2).await?;
        let process = Process::start(&cluster).await?;
        let expected = cluster.plain("SELECT sum(n) FROM slow").await?;
        let running = cluster.start_query("SELECT sum(n) FROM slow", 2).await?;
        process.busy(&cluster).await?;
        process.signal("STOP")?;
        let started = environment::instant();
        let actual = running.collect().await?;
        same_rows(&expected, &actual)?;
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        process.signal("CONT")?;
        cluster.has_active(3, Duration::from_secs(10)).await
    })
}

#[test]
fn a_silent_worker_is_out_of_planning_before_ten_seconds() -> Result<()> {
    on_runtimes(async {
        let cluster = Cluster::start(1).await?;
        let process = Process::start(&cluster).await?;
        process.signal("STOP")?;
        cluster.has_active(1, Duration::from_secs(10)).await
    })
}

/// Accepts connections, announces itself, and never answers.
#[test]
fn a_worker_that_never_answers_costs_a_retry() -> Result<()> {
    on_runtimes(async {
        let cluster = Cluster::start(2).await?;
        let _mute = cluster.add_mute_worker().await?;
        let started = environment::instant();
        let expected = cluster.plain("SELECT sum(n) FROM numbers").await?;
        let actual = cluster.query("SELECT sum(n) FROM numbers", 2).await?;
        same_rows(&expected, &actual)?;
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        Ok(())
    })
}

#[test]
fn a_dropped_stream_leaves_all_workers_idle() -> Result<()> {
    on_runtimes(async {
        let cluster = Cluster::start(2).await?;
        for sql in [
            "SELECT sum(n) FROM slow",
            "SELECT sum(n) FROM stuck",
            // Each row meets thousands: the join makes rows for minutes without reading any.
            "SELECT sum(a.n + b.n) FROM numbers a JOIN numbers b ON a.n % 2 = b.n % 2",
            "SELECT count(*) FROM numbers a JOIN numbers b ON a.n < b.n",
        ] {
            let running = cluster.start_query(sql, 2).await?;
            cluster.busy().await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
            drop(running);
            let gone = cluster.is_idle_within(Duration::from_secs(2)).await;
            gone.map_err(|e| e.context(sql))?;
        }
        Ok(())
    })
}

/// No row passes: the joins compute for minutes without making any, and no thread is left for others.
#[test]
fn a_join_without_matches_ends_with_its_query() -> Result<()> {
    on_runtimes(async {
        let cluster = Cluster::start(0).await?;
        let workers = [Process::start(&cluster).await?, Process::start(&cluster).await?];
        for sql in [
            "SELECT count(*) FROM numbers a JOIN numbers b ON a.n + b.n < -1",
            "SELECT count(*) FROM numbers a JOIN numbers b ON a.n % 2 = b.n % 2 AND a.n + b.n < -1",
        ] {
            let running = cluster.start_query(sql, 2).await?;
            workers[0].busy(&cluster).await?;
            drop(running);
            // Two seconds, and one until the workers say so.
            let idle = || cluster.nodes().iter().all(|node| node.n_tasks_running == 0);
            eventually(Duration::from_secs(3), sql, idle).await?;
            assert_eq!(cluster.active().len(), 2, "they announced themselves all the time");
        }
        Ok(())
    })
}

#[test]
fn a_join_without_matches_ends_with_its_query_on_one_node() -> Result<()> {
    on_runtimes(async {
        let cluster = Cluster::start(0).await?;
        let sql = "SELECT count(*) FROM numbers a JOIN numbers b ON a.n + b.n < -1";
        for _ in 0..5 {
            let running = cluster.start_query(sql, 2).await?;
            tokio::time::sleep(Duration::from_millis(300)).await;
            drop(running);
        }
        // Joins that went on would leave no thread to compute this.
        let started = environment::instant();
        cluster.plain("SELECT sum(n) FROM numbers").await?;
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        Ok(())
    })
}

#[test]
fn workers_say_how_far_their_tasks_are() -> Result<()> {
    on_runtimes(async {
        let cluster = Cluster::start(2).await?;
        let mut running = cluster.start_query("SELECT n + 1 FROM slow", 2).await?;
        running.rows.next().await.expect("rows")?;
        let told = || cluster.nodes().into_iter().flat_map(|node| node.tasks).collect::<Vec<_>>();
        let rows =
            || told().iter().any(|t| t.state == TaskState::Running && t.rows > 0 && t.bytes > 0);
        eventually(Duration::from_secs(10), "tasks to make rows", rows).await?;
        let waits = told().iter().any(|task| task.elapsed_ms > 0);
        assert!(waits, "{:?}", told());
        drop(running);
        eventually(Duration::from_secs(4), "tasks to be gone", || told().is_empty()).await
    })
}

/// In-process workers share everything but plans.
#[test]
fn local_workers_answer_as_one_node() -> Result<()> {
    on_runtimes(async {
        let cluster = Cluster::start(0).await?;
        let local = cluster.local_workers(3)?;
        for n_partitions in [1, 2, 8] {
            for sql in STATEMENTS {
                let expected = cluster.plain(sql).await?;
                let actual = cluster.query_local(&local, sql, n_partitions).await?;
                same_rows(&expected, &actual).map_err(|e| e.context(*sql))?;
            }
        }
        eventually(Duration::from_secs(2), "tasks to end", || local.n_tasks_running() == 0).await
    })
}

/// The runtime forgets a task that nobody asked for in ten minutes; run it by name when that matters.
#[test]
#[ignore = "takes eleven minutes"]
fn a_build_side_may_take_eleven_minutes() -> Result<()> {
    on_runtimes(async {
        let cluster = Cluster::start(2).await?;
        let sql = "SELECT count(*) FROM sleepy a JOIN numbers b ON a.n = b.n";
        let actual = cluster.query(sql, 2).await?;
        let expected =
            cluster.plain("SELECT count(*) FROM few a JOIN numbers b ON a.n = b.n").await?;
        same_rows(&expected, &actual)
    })
}

#[test]
fn a_draining_worker_finishes_its_tasks_and_gets_no_new_ones() -> Result<()> {
    on_runtimes(async {
        let mut cluster = Cluster::start(3).await?;
        let expected = cluster.plain("SELECT count(*), sum(n) FROM slow").await?;
        let running = cluster.start_query("SELECT count(*), sum(n) FROM slow", 2).await?;
        cluster.busy().await?;
        let drained = cluster.drain_worker();
        let (cut_off, actual) = tokio::join!(drained, running.collect());
        assert_eq!(cut_off, 0);
        same_rows(&expected, &actual?)?;
        assert_eq!(cluster.active().len(), 2);
        Ok(())
    })
}

#[test]
fn only_workers_of_the_same_version_and_secret_are_let_in() -> Result<()> {
    on_runtimes(async {
        let cluster = Cluster::start(1).await?;
        let stranger = cluster.worker_with_secret("another").await?;
        let error = stranger.refused().await;
        assert_eq!(error.code, "WORKER_REFUSED");
        assert!(error.message.contains("secret") && !error.message.contains("another"), "{error}");
        assert_eq!(cluster.active().len(), 1);
        Ok(())
    })
}

#[test]
fn a_catalog_made_at_run_time_is_known_to_all_workers() -> Result<()> {
    on_runtimes(async {
        let cluster = Cluster::start(2).await?;
        cluster.define("later");
        let actual = cluster.query_catalog("later", "SELECT sum(n) FROM numbers", 2).await?;
        same_rows(&cluster.plain("SELECT sum(n) FROM numbers").await?, &actual)
    })
}
