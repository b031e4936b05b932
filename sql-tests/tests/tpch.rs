//! TPC-H: the 22 queries on one process and on a cluster answer what plain DataFusion answers over the same
//! files, and tables spread over four kinds of sources answer what the files answer.
//!
//! `MESHWORK_TEST_TPCH_SCALE=0.1` makes the tables larger than the usual 0.01.

use std::path::Path;

use anyhow::{Context, Result, bail};
use meshwork::client::Client;
use meshwork::demo::tpch::Extent;
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::oracle::Oracle;
use meshwork_sql_tests::spread::{Spread, relocate};
use meshwork_sql_tests::{compare, tpch};

/// Files of each large table: more than workers, so that every worker has some.
const N_FILES: i32 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn one_process_answers_what_datafusion_answers() -> Result<()> {
    let bench = Bench::new().await?;
    let cluster = Cluster::start(Shape::Standalone, &bench.catalogs()).await?;
    bench.compare(&cluster, &["USE lake.tpch"], str::to_owned).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_answer_what_datafusion_answers() -> Result<()> {
    let bench = Bench::new().await?;
    let cluster = Cluster::start(Shape::Workers(2), &bench.catalogs()).await?;
    bench.compare(&cluster, &["USE lake.tpch"], str::to_owned).await?;
    // One partition a task: where the distributed runtime, left alone, answers q11 and q15 wrongly.
    let narrow = ["USE lake.tpch", "SET SESSION target_partitions = 1"];
    bench.compare(&cluster, &narrow, str::to_owned).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_spread_over_sources_answer_the_same() -> Result<()> {
    let bench = Bench::new().await?;
    let spread = Spread::start(scale()?).await?;
    let catalogs: Vec<_> = bench.catalogs().into_iter().chain(spread.catalogs()).collect();
    let cluster = Cluster::start(Shape::Workers(2), &catalogs).await?;
    bench.compare(&cluster, &[], relocate).await
}

fn scale() -> Result<f64> {
    match std::env::var("MESHWORK_TEST_TPCH_SCALE") {
        Ok(text) => text.parse().with_context(|| format!("MESHWORK_TEST_TPCH_SCALE={text}")),
        Err(_unset) => Ok(0.01),
    }
}

/// The tables as Parquet, and what plain DataFusion says of them.
struct Bench {
    home: tempfile::TempDir,
    oracle: Oracle,
}

impl Bench {
    async fn new() -> Result<Self> {
        let home = tempfile::tempdir()?;
        tpch::write_lake(home.path(), Extent { scale: scale()?, n_files: N_FILES })?;
        let oracle = Oracle::over(&home.path().join("tpch")).await?;
        Ok(Self { home, oracle })
    }

    fn catalogs(&self) -> Vec<(&'static str, String)> {
        vec![("lake", lake_file(self.home.path()))]
    }

    /// Runs all 22 queries in a session of their own and names each that differs.
    async fn compare(
        &self,
        cluster: &Cluster,
        settings: &[&str],
        written: fn(&str) -> String,
    ) -> Result<()> {
        let mut client = cluster.client().await?;
        for setting in settings {
            client.run(setting).await?;
        }
        let mut failures = Vec::new();
        for number in 1..=tpch::N_QUERIES {
            let sql = tpch::query(number)?;
            if let Err(error) = self.compare_one(&mut client, &sql, &written(&sql)).await {
                failures.push(format!("q{number:02}: {error:?}"));
            }
        }
        match failures.is_empty() {
            true => Ok(()),
            false => bail!("{} of 22 differ:\n{}", failures.len(), failures.join("\n")),
        }
    }

    async fn compare_one(&self, client: &mut Client, sql: &str, moved: &str) -> Result<()> {
        let expected = self.oracle.query(sql).await?;
        compare::same_rows(&expected, &client.query(moved).await?)
    }
}

fn lake_file(location: &Path) -> String {
    format!("connector = \"lake\"\nlocation = {:?}\n", location.to_string_lossy())
}
