//! Reading: a database pinned at one version.
//!
//! A snapshot never changes and needs no object store to be asked what it holds; commits that come later do not touch
//! it. Since nothing is deleted yet, it can be kept for as long as one likes.

use std::sync::Arc;

use crate::database::Database;
use crate::delta::merge::MergeRuns;
use crate::error::{Error, Result};
use crate::log::record::FileEntry;
use crate::log::state::{State, TableState};
use crate::table::TableDef;
use crate::version::Version;

/// Which version to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadAt {
    /// The newest committed one.
    Committed,
    /// Exactly this one.
    Version(Version),
}

/// A database at one version.
#[derive(Debug, Clone)]
pub struct Snapshot {
    state: Arc<State>,
    version: Version,
}

impl Snapshot {
    pub(crate) fn pin(state: Arc<State>, at: ReadAt) -> Result<Self> {
        let version = match at {
            ReadAt::Committed => state.version,
            ReadAt::Version(asked) if asked > state.version => {
                return Err(Error::VersionNotFound { asked, newest: state.version });
            }
            ReadAt::Version(asked) if asked < state.low_water => {
                return Err(Error::VersionExpired { asked, oldest: state.low_water });
            }
            ReadAt::Version(asked) => asked,
        };
        Ok(Self { state, version })
    }

    /// Returns the version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the log position that was the newest when the version was pinned.
    pub fn lsn(&self) -> u64 {
        self.state.lsn
    }

    /// Returns the names of all namespaces, sorted.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.state.namespaces()
    }

    /// Says whether there is such a namespace.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.state.namespaces.contains(namespace)
    }

    /// Returns the definitions of a namespace's tables that exist at the version, sorted by name.
    pub fn tables(&self, namespace: &str) -> impl Iterator<Item = &Arc<TableDef>> {
        let of_namespace = move |(holder, _): &&(String, String)| holder == namespace;
        let ids = self.state.names.iter().filter(move |(name, _)| of_namespace(name));
        ids.filter_map(|(_, id)| self.state.tables.get(id))
            .filter(|table| table.begins <= self.version)
            .map(|table| &table.def)
    }

    /// Returns a table as of the version.
    ///
    /// # Errors
    /// User if there is no such table, or not yet at that version.
    pub fn table(&self, namespace: &str, name: &str) -> Result<TableSnapshot> {
        let full_name = || format!("{namespace}.{name}");
        let Some(table) = self.state.table(namespace, name) else {
            return Err(Error::TableNotFound { table: full_name() });
        };
        if table.begins > self.version {
            return Err(Error::TableNotYet {
                table: full_name(),
                asked: self.version,
                begins: table.begins,
            });
        }
        Ok(TableSnapshot { table: Arc::clone(table), version: self.version })
    }
}

/// A table at one version.
#[derive(Debug, Clone)]
pub struct TableSnapshot {
    table: Arc<TableState>,
    version: Version,
}

impl TableSnapshot {
    /// Returns the definition.
    pub fn def(&self) -> &Arc<TableDef> {
        &self.table.def
    }

    /// Returns the version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the live files, oldest version first. Together they hold every update up to the version exactly once.
    pub fn files(&self) -> &[Arc<FileEntry>] {
        // Files come in version order, so the live ones are a prefix.
        let n_live = self.table.files.partition_point(|file| file.v.hi <= self.version);
        self.table.files.get(..n_live).unwrap_or_default()
    }

    /// Reads a whole aggregate table through the store's own merge: keys ascending, each once. For checks and maintenance;
    /// queries plan their own scans over [`Self::files`].
    ///
    /// # Errors
    /// As [`Database::read_file`].
    pub async fn merge(&self, database: &Database) -> Result<MergeRuns> {
        let mut runs = Vec::with_capacity(self.files().len());
        for file in self.files() {
            runs.push(database.read_file(self.def(), file).await?);
        }
        MergeRuns::new(Arc::clone(self.def()), runs)
    }
}
