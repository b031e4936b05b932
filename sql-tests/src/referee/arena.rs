//! What queries run in: coordinators of this process, the sources, and one more kind of catalog for the copies.
//!
//! There are two coordinators over one list of catalogs: one asks the sources, alone or with workers in this process,
//! the other asks the copies and is always alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use datafusion::execution::runtime_env::RuntimeEnv;
use meshwork::connectors;
use meshwork::coordinator::{Coordinator, Identity, Session};
use meshwork_engine::catalog::{CatalogRegistry, Properties};
use meshwork_engine::connector::Connector;
use tempfile::TempDir;

use super::sites::{self, Kind, Site};
use super::{faults, memory};
use crate::local::coordinator;
pub(super) use crate::local::{Answer, Rows, rows};

/// A query that runs longer is an error, and so a difference.
const QUERY_TIMEOUT_S: &str = "120";

/// Everything that rounds share.
#[derive(Debug)]
pub struct Arena {
    pub(super) catalogs: Arc<CatalogRegistry>,
    pub(super) coordinator: Arc<Coordinator>,
    pub(super) copies: Arc<Coordinator>,
    sites: BTreeMap<Kind, Arc<dyn Site>>,
    n_labels: AtomicU64,
    _folder: TempDir,
}

impl Arena {
    /// Starts the sources of these kinds. With two workers or more, plans over sources are distributed among them.
    pub async fn open(kinds: &[Kind], n_workers: usize) -> Result<Arc<Self>> {
        let folder = TempDir::with_prefix("referee-").context("no scratch folder")?;
        let mut open = BTreeMap::new();
        for kind in kinds {
            open.insert(*kind, sites::open(*kind, folder.path()).await?);
        }
        let catalogs = Arc::new(CatalogRegistry::new(make, Arc::new(RuntimeEnv::default())));
        Ok(Arc::new(Self {
            coordinator: coordinator(&catalogs, n_workers).await?,
            copies: coordinator(&catalogs, 1).await?,
            catalogs,
            sites: open,
            n_labels: AtomicU64::new(0),
            _folder: folder,
        }))
    }

    /// Returns the kinds that were started.
    pub fn kinds(&self) -> Vec<Kind> {
        self.sites.keys().copied().collect()
    }

    pub(super) fn site(&self, kind: Kind) -> Result<&Arc<dyn Site>> {
        self.sites.get(&kind).with_context(|| format!("{} was not started", kind.name()))
    }

    /// Returns a name that nothing in this arena had before.
    pub(super) fn label(&self) -> String {
        format!("r{}", self.n_labels.fetch_add(1, Ordering::Relaxed))
    }
}

/// Opens a session with these settings.
pub(super) fn session(
    coordinator: &Arc<Coordinator>,
    settings: &[(&'static str, String)],
) -> Result<Arc<Session>> {
    let session = coordinator.open_session(Identity { user: "referee".to_owned() });
    session.set("query_timeout_s", QUERY_TIMEOUT_S)?;
    for (name, value) in settings {
        session.set(name, value)?;
    }
    Ok(session)
}

/// The connectors that exist, and those of the referee.
fn make(kind: &str, properties: Properties) -> meshwork_engine::Result<Arc<dyn Connector>> {
    match kind {
        memory::KIND => memory::make(properties),
        faults::OVERCONFIDENT => faults::make(properties),
        other => connectors::make(other, properties),
    }
}
