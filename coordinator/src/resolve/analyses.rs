//! What `ANALYZE` found, kept in the object-store root: `statistics/<catalog>/<schema>/<table>.json`.
//!
//! An object is written whole, and the newest one wins: who analyses later has seen more. Reading one is a
//! request, so what was read serves for a while, what is not there as well; estimates may be that old. Nothing
//! here fails a query.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::object_store::path::{Path, PathPart};
use datafusion::object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutPayload};
use meshwork_engine::environment::{instant, within};
use meshwork_engine::statistics::{Counted, Counts, KeptStatistics, TableKey, TableStatistics};
use meshwork_engine::{Error, Result};
use parking_lot::Mutex;

/// For so long other coordinators may plan with what was kept before.
const STALENESS_MAX: Duration = Duration::from_secs(30);
/// How long a query waits for one object.
const READ_DEADLINE: Duration = Duration::from_secs(1);
/// How long `ANALYZE` waits for the object store.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// Tables that are remembered, those without statistics as well.
const N_REMEMBERED_MAX: usize = 10_000;

/// The kept statistics under one root.
#[derive(Debug)]
pub(crate) struct Analyses {
    /// What scans counted, on this coordinator, since it began.
    pub(crate) counted: Arc<Counted>,
    store: Arc<dyn ObjectStore>,
    remembered: Mutex<BTreeMap<TableKey, Remembered>>,
}

#[derive(Debug, Clone)]
struct Remembered {
    since: Instant,
    statistics: Option<Arc<TableStatistics>>,
}

impl Analyses {
    /// Returns those of a root.
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { counted: Arc::default(), store, remembered: Mutex::default() }
    }

    /// Keeps the statistics of a table in place of older ones.
    ///
    /// # Errors
    /// `Source` when the root cannot be written.
    pub(crate) async fn keep(&self, table: &TableKey, statistics: TableStatistics) -> Result<()> {
        let body = serde_json::to_vec(&statistics)
            .map_err(|e| Error::internal("statistics cannot be written as JSON").caused_by(&e))?;
        let (path, payload) = (path(table), PutPayload::from(body));
        let put = self.store.put(&path, payload);
        within(WRITE_DEADLINE, "keeping statistics", put)
            .await?
            .map_err(|e| super::definitions::unreachable_root(&e))?;
        self.remember(table.clone(), Some(Arc::new(statistics)));
        Ok(())
    }

    /// Forgets the statistics of a table that is gone.
    ///
    /// # Errors
    /// `Source` when the root cannot be written.
    pub(crate) async fn forget(&self, table: &TableKey) -> Result<()> {
        let path = path(table);
        let deleted =
            within(WRITE_DEADLINE, "forgetting statistics", self.store.delete(&path)).await?;
        self.remember(table.clone(), None);
        match deleted {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(super::definitions::unreachable_root(&error)),
        }
    }

    fn remember(&self, table: TableKey, statistics: Option<Arc<TableStatistics>>) {
        let mut remembered = self.remembered.lock();
        if remembered.len() >= N_REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(table, Remembered { since: instant(), statistics });
    }

    async fn read(&self, table: &TableKey) -> Result<Option<TableStatistics>> {
        let path = path(table);
        let get = async {
            match self.store.get(&path).await {
                Ok(found) => found.bytes().await.map(Some),
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let bytes = within(READ_DEADLINE, "reading statistics", get).await?;
        let Some(bytes) = bytes.map_err(|e| super::definitions::unreachable_root(&e))? else {
            return Ok(None);
        };
        let damaged = |e| Error::internal(format!("statistics {path} are damaged")).caused_by(&e);
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }
}

#[async_trait]
impl KeptStatistics for Analyses {
    async fn of_table(&self, table: &TableKey) -> Option<Arc<TableStatistics>> {
        let known = self.remembered.lock().get(table).cloned();
        let before = match known {
            Some(known) if instant().duration_since(known.since) < STALENESS_MAX => {
                return known.statistics;
            }
            Some(known) => known.statistics,
            None => None,
        };
        let statistics = match self.read(table).await {
            Ok(statistics) => statistics.map(Arc::new),
            Err(error) => {
                tracing::warn!(%table, %error, "planned without the statistics that ANALYZE kept");
                before
            }
        };
        self.remember(table.clone(), statistics.clone());
        statistics
    }

    fn counts(&self, table: &TableKey) -> Counts {
        self.counted.of_table(table)
    }
}

/// Names may hold anything; the path has them encoded.
fn path(table: &TableKey) -> Path {
    let file = format!("{}.json", table.table);
    let parts = ["statistics", &table.catalog, &table.schema, &file];
    parts.into_iter().map(PathPart::from).collect()
}

#[cfg(test)]
mod tests {
    use datafusion::object_store::memory::InMemory;

    use super::*;

    fn table(name: &str) -> TableKey {
        TableKey { catalog: "c".into(), schema: "../s".into(), table: name.into() }
    }

    fn of_rows(n_rows: f64) -> TableStatistics {
        TableStatistics { n_rows: Some(n_rows), taken_us: Some(7), ..TableStatistics::default() }
    }

    #[tokio::test]
    async fn the_newest_statistics_are_found_by_name() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let analyses = Analyses::new(Arc::clone(&store));
        for name in ["t", "T", "t/t", "..", "é?*"] {
            assert!(analyses.of_table(&table(name)).await.is_none(), "{name}");
        }
        for (name, n_rows) in
            [("t", 1.0), ("T", 2.0), ("t/t", 3.0), ("..", 4.0), ("é?*", 5.0), ("t", 6.0)]
        {
            analyses.keep(&table(name), of_rows(n_rows)).await.unwrap();
        }
        for analyses in [&analyses, &Analyses::new(Arc::clone(&store))] {
            for (name, n_rows) in [("t", 6.0), ("T", 2.0), ("t/t", 3.0), ("..", 4.0), ("é?*", 5.0)]
            {
                let found = analyses.of_table(&table(name)).await;
                assert_eq!(found.as_deref(), Some(&of_rows(n_rows)), "{name}");
            }
        }
        analyses.forget(&table("t")).await.unwrap();
        analyses.forget(&table("t")).await.unwrap();
        assert!(analyses.of_table(&table("t")).await.is_none());
        assert!(Analyses::new(store).of_table(&table("t")).await.is_none());
    }

    #[tokio::test]
    async fn damaged_statistics_are_none() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        store.put(&path(&table("t")), PutPayload::from_static(b"{")).await.unwrap();
        assert!(Analyses::new(store).of_table(&table("t")).await.is_none());
    }
}
