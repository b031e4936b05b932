//! Plans that the runtime alone gets wrong, and what ours become. Only planned, never run: that is done by
//! the cluster's tests.

use std::io::Write as _;

use async_trait::async_trait;
use datafusion::common::DataFusionError;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::{CsvReadOptions, SessionConfig, SessionContext};
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
    let catalogs = CatalogRegistry::new(no_connector, Arc::new(RuntimeEnv::default()));
    Distribution::among(Arc::new(Two), Arc::new(Nowhere), Arc::new(catalogs))
        .with_file_bytes_per_partition(1)
        .configure(builder, &QuerySettings::default())
        .expect("two workers")
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
    let config = SessionConfig::new().with_target_partitions(n_partitions);
    let builder = SessionStateBuilder::new().with_config(config).with_default_features();
    let context = SessionContext::new_with_state(configure(builder).build());
    let path = file.path().to_str().expect("a readable path");
    context.register_csv("t", path, CsvReadOptions::new()).await.expect("a table");
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
