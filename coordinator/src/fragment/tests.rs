//! Plans that the runtime alone gets wrong, and what ours become. Only planned, never run: that is done by
//! the cluster's tests.

use std::io::Write as _;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use datafusion::common::DataFusionError;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionConfig, SessionContext};
use datafusion_distributed::{
    DistributedLeafExec, ScaleUpLeafNodeEvent, ScaleUpLeafNodeEventResponse, WorkerChannel,
};
use meshwork_engine::Error;
use meshwork_engine::catalog::Properties;
use meshwork_engine::connector::Connector;
use tempfile::NamedTempFile;

use super::*;

/// As query 15 of TPC-H: an aggregate that is joined, made in one step when there is one partition.
const AGGREGATE_BELOW_A_JOIN: &str = "SELECT t.k, x.c \
    FROM (SELECT k, count(*) AS c FROM t GROUP BY k) x JOIN t ON t.k = x.k WHERE x.c > 1";
/// A limit below a join, of which each task would take its own rows.
const LIMIT_BELOW_A_JOIN: &str = "SELECT t.k FROM t JOIN (SELECT k FROM t LIMIT 3) x ON t.v < x.k";

#[tokio::test]
async fn what_the_runtime_alone_gets_wrong_is_refused() {
    let plan = plan(AGGREGATE_BELOW_A_JOIN, 1, alone).await;
    let refused = verify(&plan).expect_err(&format!("{:#?}", stages(&plan)));
    assert_eq!(refused.code, "INTERNAL");
    assert!(refused.message.contains("AggregateExec needs all rows in one task"), "{refused}");
}

#[tokio::test]
async fn ours_is_distributed_and_passes() {
    for sql in [AGGREGATE_BELOW_A_JOIN, LIMIT_BELOW_A_JOIN] {
        for n_partitions in [1, 2, 8] {
            let plan = plan(sql, n_partitions, ours).await;
            verify(&plan).expect("the planner has verified it before");
            assert!(is_distributed(&plan), "{sql}");
        }
    }
}

#[tokio::test]
async fn a_scan_that_is_dealt_out_twice_is_refused() {
    let plan = plan("SELECT k, count(*) FROM t GROUP BY k", 2, |builder| {
        alone(builder.with_distributed_scale_up_leaf_node_handler(everything_to_everyone))
    });
    let refused = verify(&plan.await).expect_err("every task would read everything");
    assert!(refused.message.contains("was not dealt out exactly once"), "{refused}");
}

#[tokio::test]
async fn stages_are_described_from_the_coordinator_down() {
    let stages = stages(&plan("SELECT k, count(*) FROM t GROUP BY k", 2, ours).await);
    let shape: Vec<_> = stages.iter().map(|s| (s.id, s.n_tasks, s.inputs.clone())).collect();
    assert_eq!(shape, [(0, 1, vec![2]), (1, 2, vec![]), (2, 2, vec![1])]);
    assert!(stages[1].text.contains("AggregateExec: mode=Partial"), "{}", stages[1].text);
    assert!(stages[2].text.contains("NetworkShuffleExec: stage 1, tasks=2"), "{}", stages[2].text);
}

#[tokio::test]
async fn narrow_columns_of_large_files_stay_on_one_worker() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("wide.parquet").to_str().expect("a readable path").to_owned();
    write_wide(&path).await;
    let ours = |builder| distribution(128 << 10).configure(builder, &QuerySettings::default());
    for (column, is_large) in [("k", false), ("pad", true)] {
        let context = context(2, |builder| ours(builder).expect("two workers"));
        context.register_parquet("t", &*path, ParquetReadOptions::new()).await.expect("a table");
        let sql = format!("SELECT {column}, count(*) FROM t GROUP BY {column}");
        assert_eq!(is_distributed(&planned(&context, &sql).await), is_large, "{column}");
    }
}

/// Writes 20,000 rows of 8 bytes, and of 64 that hardly compress.
async fn write_wide(path: &str) {
    let keys = 0..20_000_u64;
    let step = |x: &u64| Some(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    let pad = |key: u64| -> String {
        std::iter::successors(Some(key), step)
            .skip(1)
            .take(4)
            .map(|x| format!("{x:016x}"))
            .collect()
    };
    let columns: [(&str, ArrayRef); 2] = [
        ("k", Arc::new(UInt64Array::from_iter_values(keys.clone()))),
        ("pad", Arc::new(StringArray::from_iter_values(keys.map(pad)))),
    ];
    let rows = RecordBatch::try_from_iter(columns).expect("two columns");
    let rows = SessionContext::new().read_batch(rows).expect("a table");
    rows.write_parquet(path, DataFrameWriteOptions::new(), None).await.expect("a file");
}

/// The runtime with nothing of ours.
fn alone(builder: SessionStateBuilder) -> SessionStateBuilder {
    builder
        .with_distributed_worker_resolver(Two)
        .with_distributed_file_scan_config_bytes_per_partition(1)
        .and_then(|builder| builder.with_distributed_children_isolator_unions(false))
        .expect("settings that exist")
        .with_distributed_planner()
}

fn ours(builder: SessionStateBuilder) -> SessionStateBuilder {
    distribution(1).configure(builder, &QuerySettings::default()).expect("two workers")
}

fn distribution(file_bytes_per_partition: usize) -> Distribution {
    let catalogs = CatalogRegistry::new(no_connector, Arc::new(RuntimeEnv::default()));
    Distribution::among(Arc::new(Two), Arc::new(Nowhere), Arc::new(catalogs))
        .with_file_bytes_per_partition(file_bytes_per_partition)
}

async fn plan(
    sql: &str,
    n_partitions: usize,
    configure: impl Fn(SessionStateBuilder) -> SessionStateBuilder,
) -> Arc<dyn ExecutionPlan> {
    let mut file = NamedTempFile::with_suffix(".csv").expect("a scratch file");
    writeln!(file, "k,v").expect("a header");
    for row in 0..1000 {
        writeln!(file, "{},{row}", row % 7).expect("a row");
    }
    let context = context(n_partitions, configure);
    let path = file.path().to_str().expect("a readable path");
    context.register_csv("t", path, CsvReadOptions::new()).await.expect("a table");
    planned(&context, sql).await
}

fn context(
    n_partitions: usize,
    configure: impl Fn(SessionStateBuilder) -> SessionStateBuilder,
) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(n_partitions);
    let builder = SessionStateBuilder::new().with_config(config).with_default_features();
    SessionContext::new_with_state(configure(builder).build())
}

async fn planned(context: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
    let state = context.state();
    let logical = state.create_logical_plan(sql).await.expect("a statement");
    state.create_physical_plan(&logical).await.expect("a plan")
}

fn everything_to_everyone(
    event: ScaleUpLeafNodeEvent<'_>,
) -> Option<DataFusionResult<ScaleUpLeafNodeEventResponse>> {
    let variants = vec![Arc::clone(event.plan); event.task_count];
    let leaf = DistributedLeafExec::try_new(Arc::clone(event.plan), variants);
    Some(leaf.map(|leaf| ScaleUpLeafNodeEventResponse::new(Arc::new(leaf))))
}

fn no_connector(kind: &str, _properties: Properties) -> Result<Arc<dyn Connector>> {
    Err(Error::not_supported(kind))
}

/// Two workers that nobody ever reaches.
struct Two;

impl WorkerResolver for Two {
    fn get_urls(&self) -> DataFusionResult<Vec<Url>> {
        ["http://one/", "http://two/"]
            .into_iter()
            .map(|url| Url::parse(url).map_err(|e| DataFusionError::External(Box::new(e))))
            .collect()
    }
}

struct Nowhere;

#[async_trait]
impl ChannelResolver for Nowhere {
    async fn get_worker_client_for_url(
        &self,
        url: &Url,
    ) -> DataFusionResult<Box<dyn WorkerChannel>> {
        Err(Error::internal(format!("{url} is not to be reached")).into())
    }
}
