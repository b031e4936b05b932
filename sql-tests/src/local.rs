//! A coordinator in this process, without doors.

use std::sync::Arc;

use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use meshwork::coordinator::fragment::Distribution;
use meshwork::coordinator::{
    Coordinator, CoordinatorParts, Definitions, History, Nodes, Quarantine, Resolver, Session,
    Snapshot, SystemTables,
};
use meshwork::worker;
use meshwork_engine::catalog::CatalogRegistry;
use meshwork_engine::{Error, functions};
use object_store::memory::InMemory;

/// What a query answered: its columns and rows, or why there are none.
pub type Answer = std::result::Result<Rows, Error>;

/// The rows of an answer.
#[derive(Debug)]
pub struct Rows {
    /// Their columns.
    pub schema: SchemaRef,
    /// The rows, in the order in which they came.
    pub batches: Vec<RecordBatch>,
}

/// Returns a coordinator over these catalogs. With two workers or more, which are of this process as well, plans are
/// distributed.
///
/// # Errors
/// When a worker does not start.
pub async fn coordinator(
    catalogs: &Arc<CatalogRegistry>,
    n_workers: usize,
) -> Result<Arc<Coordinator>> {
    let workers = worker::local(n_workers, catalogs, &[], Some(functions::register))?;
    let distribution =
        Distribution::among(workers.resolver(), workers.channels(), Arc::clone(catalogs));
    let history = Arc::new(History::default());
    let quarantine = Arc::new(Quarantine::default());
    // It owns the workers, as long as the coordinator lives.
    let nodes: Nodes = Arc::new(move || {
        let _workers = &workers;
        Vec::new()
    });
    let system = SystemTables::new(
        Arc::clone(catalogs),
        Arc::clone(&history),
        Arc::clone(&quarantine),
        nodes,
    );
    let definitions = Definitions::open(Arc::new(InMemory::new())).await?;
    Ok(Coordinator::new(CoordinatorParts {
        catalogs: Arc::clone(catalogs),
        resolver: Resolver::new(Arc::clone(catalogs), definitions, system),
        history,
        session_defaults: Snapshot::default(),
        distribution,
        cluster: None,
        quarantine,
    }))
}

/// Runs a query to its end.
///
/// # Errors
/// Those of the query.
pub async fn rows(coordinator: &Arc<Coordinator>, session: &Arc<Session>, sql: &str) -> Answer {
    let running = coordinator.execute(session, sql, Vec::new(), None).await?;
    let schema = running.schema;
    let batches = running.rows.try_collect().await.map_err(|e| Error::from_datafusion(&e))?;
    Ok(Rows { schema, batches })
}
