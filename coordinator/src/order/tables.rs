//! What is known of the tables that a plan reads.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, TableScan, TableSource};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use meshwork_engine::remote::{RemoteColumn, RemoteTable};
use meshwork_engine::statistics::{TableStatistics, of_plan};

/// A table as far as its rows can be estimated.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) columns: Vec<RemoteColumn>,
    pub(super) known: Arc<TableStatistics>,
    /// The catalog of a row source; `None` for files and what Meshwork makes itself.
    pub(super) catalog: Option<String>,
}

/// The tables of a plan, each asked once.
#[derive(Debug, Default)]
pub(super) struct Tables(BTreeMap<usize, Table>);

impl Tables {
    /// Asks all tables of a plan what is known of them.
    pub(super) async fn of(plan: &LogicalPlan, state: &SessionState) -> Result<Self> {
        let mut sources: BTreeMap<usize, Arc<dyn TableSource>> = BTreeMap::new();
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                sources.insert(place(scan), Arc::clone(&scan.source));
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        let asked = sources.into_iter().map(|(place, source)| async move {
            Ok::<_, datafusion::error::DataFusionError>((place, known(&source, state).await?))
        });
        Ok(Self(futures::future::try_join_all(asked).await?.into_iter().collect()))
    }

    /// Returns the table that a scan reads.
    pub(super) fn get(&self, scan: &TableScan) -> Option<&Table> {
        self.0.get(&place(scan))
    }
}

/// Two scans of one table share its source.
fn place(scan: &TableScan) -> usize {
    Arc::as_ptr(&scan.source).cast::<()>() as usize
}

async fn known(source: &Arc<dyn TableSource>, state: &SessionState) -> Result<Table> {
    let provider = source_as_provider(source)?;
    if let Some(remote) = (provider.as_ref() as &dyn Any).downcast_ref::<RemoteTable>() {
        let (whole, known) = (remote.whole(), remote.statistics().await);
        let catalog = Some(whole.catalog.clone());
        return Ok(Table { columns: whole.columns.clone(), known, catalog });
    }
    let leaf = provider.scan(state as &dyn Session, None, &[], None).await?;
    let said = StatisticsContext::new().compute(leaf.as_ref(), &StatisticsArgs::new())?;
    let schema = provider.schema();
    let columns = schema.fields().iter().map(|field| RemoteColumn::of_field(field)).collect();
    Ok(Table { columns, known: Arc::new(of_plan(&said, &schema)), catalog: None })
}
