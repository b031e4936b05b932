//! Update batches: inserts into many tables of one catalog that become visible together.

use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::DmlStatement;
use meshwork_engine::{Error, Result};

use crate::plan::Planned;
use crate::query::QueryContext;
use crate::resolve::reference_parts;
use crate::session::OpenBatch;

pub(super) async fn begin_batch(context: &QueryContext<'_>) -> Result<u64> {
    let mut batch = context.session.batch.lock().await;
    if batch.is_some() {
        return Err(Error::user("BATCH_OPEN", "an update batch is open already")
            .with_hint("COMMIT or ROLLBACK it first."));
    }
    *batch = Some(OpenBatch::default());
    Ok(0)
}

/// Makes the open batch visible, unless it is of a feed that has committed its number before; returns no count, because a
/// batch spans tables.
pub(super) async fn commit_batch(
    context: &QueryContext<'_>,
    feed: Option<(String, u64)>,
) -> Result<u64> {
    let batch = context.session.batch.lock().await.take().ok_or_else(no_batch)?;
    if batch.target.is_none() && feed.is_some() {
        return Err(Error::user("NO_BATCH", "an update batch without INSERT is of no catalog")
            .with_hint("A feed counts in the catalog that its batches are of: INSERT first."));
    }
    if let Some((catalog, mut batch)) = batch.target {
        if let Some((feed, number)) = &feed {
            batch.of_feed(feed, *number);
        }
        let version = batch.commit().await?;
        tracing::info!(catalog, version, "update batch committed");
    }
    Ok(0)
}

pub(super) async fn rollback_batch(context: &QueryContext<'_>) -> Result<u64> {
    context.session.batch.lock().await.take().map(|_batch| 0).ok_or_else(no_batch)
}

/// Adds an insert to the session's open batch; the first insert chooses the catalog.
pub(crate) async fn insert_into_batch(
    context: &QueryContext<'_>,
    insert: &DmlStatement,
    state: &SessionState,
) -> Result<u64> {
    let resolver = &context.coordinator.resolver;
    let name = resolver.full_name(&reference_parts(&insert.table_name), &context.snapshot)?;
    let mut open = context.session.batch.lock().await;
    let open = open.as_mut().ok_or_else(no_batch)?;
    if open.target.is_none() {
        let batch = resolver.connector(&name.catalog)?.begin_batch().await?;
        open.target = Some((name.catalog.clone(), batch));
    }
    let Some((catalog, batch)) = open.target.as_mut() else { return Err(no_batch()) };
    if *catalog != name.catalog {
        let message =
            format!("the open update batch is of catalog \"{catalog}\", not \"{}\"", name.catalog);
        return Err(Error::user("BATCH_OF_OTHER_CATALOG", message)
            .with_hint("One update batch changes tables of one catalog."));
    }
    let rows = Planned { plan: insert.input.as_ref().clone(), state: state.clone() };
    let rows = context.rows(rows).await?;
    batch.insert(state, &name.schema, &name.table, rows).await
}

fn no_batch() -> Error {
    Error::user("NO_BATCH", "no update batch is open").with_hint("BEGIN UPDATE BATCH opens one.")
}
