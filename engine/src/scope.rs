//! What belongs to one query on the coordinator and ends with it: pinned snapshots and versions.
//!
//! A connector asks the scope of the running query for its resource; the first asker creates it, all scans
//! of the same catalog in the same query share it, and it is dropped when the query ends.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::execution::config::SessionConfig;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::connector::ReadVersion;
use crate::settings::QuerySettings;
use crate::statistics::{Counts, KeptStatistics, TableKey, TableStatistics};
use crate::{Error, Result};

type Slot = Arc<OnceCell<Arc<dyn Any + Send + Sync>>>;

/// The lifetime of one query on its coordinator.
#[derive(Debug, Default)]
pub struct QueryScope {
    settings: QuerySettings,
    kept: Option<Arc<dyn KeptStatistics>>,
    slots: Arc<Mutex<BTreeMap<String, Slot>>>,
    versions: Mutex<BTreeMap<String, String>>,
}

impl QueryScope {
    /// Returns the scope of a new query.
    pub fn new(settings: QuerySettings) -> Arc<Self> {
        Arc::new(Self { settings, ..Self::default() })
    }

    /// Returns the scope of a new query that may use the statistics that outlast queries.
    pub fn with_statistics(settings: QuerySettings, kept: Arc<dyn KeptStatistics>) -> Arc<Self> {
        Arc::new(Self { settings, kept: Some(kept), ..Self::default() })
    }

    /// Returns the scope of the same query run in another way: it shares what this one pins.
    pub fn run_with(&self, settings: QuerySettings) -> Arc<Self> {
        let (kept, slots) = (self.kept.clone(), Arc::clone(&self.slots));
        Arc::new(Self { settings, kept, slots, ..Self::default() })
    }

    /// Lets go of what the query has pinned, so that it can be begun anew.
    pub fn let_go(&self) {
        self.slots.lock().clear();
    }

    /// Returns the scope of the session's running query; a scope of its own where there is none.
    pub fn of(config: &SessionConfig) -> Arc<Self> {
        config.get_extension::<Self>().unwrap_or_default()
    }

    /// The settings of the query: its id and user among them.
    pub fn settings(&self) -> &QuerySettings {
        &self.settings
    }

    /// Returns what `ANALYZE` kept of a table, if it did and can be read in time.
    pub async fn kept_statistics(&self, table: TableKey) -> Option<Arc<TableStatistics>> {
        self.kept.as_ref()?.of_table(&table).await
    }

    /// Returns what scans of a table counted before.
    pub fn counts(&self, table: &TableKey) -> Counts {
        self.kept.as_ref().map(|kept| kept.counts(table)).unwrap_or_default()
    }

    /// Returns the query's resource named `key`, creating it by `create` if this is its first use.
    ///
    /// # Errors
    /// Those of `create`; a failed creation leaves nothing behind.
    pub async fn resource<T, F>(&self, key: &str, create: F) -> Result<Arc<T>>
    where
        T: Send + Sync + 'static,
        F: FnOnce() -> BoxFuture<'static, Result<T>> + Send,
    {
        let slot = Arc::clone(self.slots.lock().entry(key.to_owned()).or_default());
        let made = slot
            .get_or_try_init(|| async {
                create().await.map(|made| Arc::new(made) as Arc<dyn Any + Send + Sync>)
            })
            .await?;
        Arc::clone(made)
            .downcast::<T>()
            .map_err(|_other| Error::internal(format!("resource \"{key}\" has another type")))
    }

    /// Records the version of a catalog that this query reads; it comes back with the result.
    pub fn record_version(&self, catalog: &str, version: &ReadVersion) {
        self.versions.lock().insert(catalog.to_owned(), version.to_string());
    }

    /// Returns the recorded versions, by catalog.
    pub fn versions(&self) -> BTreeMap<String, String> {
        self.versions.lock().clone()
    }
}
