//! Reading: a database pinned at one version.
//!
//! A snapshot never changes and needs no object store to be asked what it holds; commits that come later do not touch
//! it. It can be read while its version is retained, and after that as long as a vacuum spares what nobody needs.

use std::iter;
use std::sync::Arc;

use crate::database::Database;
use crate::delta::merge::MergeRuns;
use crate::error::{Error, Result};
use crate::log::deltas::{Delta, DeltaId, Deltas, PRIMARY};
use crate::log::record::FileEntry;
use crate::log::state::{State, TableState};
use crate::table::{Rollup, TableDef, TableId};
use crate::version::{Version, VersionRange};

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
            .map(|table| table.def_at(self.version))
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
        TableSnapshot::new(Arc::clone(table), self.version, self.state.low_water)
    }

    /// Returns the table of an identity as of the version; None if there is none, or not yet.
    ///
    /// # Errors
    /// As [`Self::table`].
    pub fn table_of(&self, id: TableId) -> Result<Option<TableSnapshot>> {
        let found = self.state.tables.get(&id).filter(|table| table.begins <= self.version);
        found
            .map(|table| TableSnapshot::new(Arc::clone(table), self.version, self.state.low_water))
            .transpose()
    }
}

/// What opening a file costs, in rows that could be read meanwhile.
const FILE_COST_ROWS: u64 = 4096;

/// What reading a delta costs, in rows.
fn cost(delta: &Delta) -> u64 {
    delta.rows() + delta.files.len() as u64 * FILE_COST_ROWS
}

/// A table at one version.
#[derive(Debug, Clone)]
pub struct TableSnapshot {
    table: Arc<TableState>,
    /// The definition that the version had, as the sort order has it.
    def: Arc<TableDef>,
    /// The sort order that it is read in.
    index: u32,
    version: Version,
    low_water: Version,
    chosen: Vec<Arc<Delta>>,
}

impl TableSnapshot {
    pub(crate) fn new(
        table: Arc<TableState>,
        version: Version,
        low_water: Version,
    ) -> Result<Self> {
        let Some(chosen) = table.deltas.spanning(PRIMARY, version, cost) else {
            let evidence = format!("no deltas hold the updates up to {version}");
            return Err(Error::corrupt(table.def.full_name(), evidence));
        };
        let def = Arc::clone(table.def_at(version));
        Ok(Self { table, def, index: PRIMARY, version, low_water, chosen })
    }

    /// Returns the table as its rollups have it at the version, each with its name: those that hold all updates up to it. Their
    /// sums are those of the table.
    pub fn rollups(&self) -> Vec<(String, Self)> {
        let of_rollup = |rollup: &Rollup| {
            let index = rollup.index;
            let chosen = self.table.deltas.spanning(index, self.version, cost)?;
            let def = Arc::new(self.def.of_rollup(rollup));
            Some((rollup.name.clone(), Self { def, index, chosen, ..self.clone() }))
        };
        self.def.rollups.iter().filter_map(of_rollup).collect()
    }

    /// Returns the table itself, and as its rollups have it.
    pub fn orders(&self) -> Vec<Self> {
        let rollups = self.rollups().into_iter().map(|(_name, rollup)| rollup);
        iter::once(self.clone()).chain(rollups).collect()
    }

    /// Returns the same read from other deltas: for checks, because the rows are the same.
    ///
    /// # Errors
    /// User if they do not hold each update up to the version exactly once.
    pub fn read_from(&self, deltas: &[DeltaId]) -> Result<Self> {
        let all = &self.table.deltas;
        let range = VersionRange { lo: Version(0), hi: self.version };
        let refuse = |reason| Error::Rows { table: self.def().full_name(), reason };
        all.tile(self.index, range, deltas).map_err(refuse)?;
        let mut chosen: Vec<_> = deltas.iter().filter_map(|id| all.get(*id).cloned()).collect();
        chosen.sort_by_key(|delta| delta.id);
        Ok(Self { chosen, ..self.clone() })
    }

    /// Returns the definition that the version had.
    pub fn def(&self) -> &Arc<TableDef> {
        &self.def
    }

    /// Returns the definition that files of a delta have to follow, as its sort order has it.
    pub(crate) fn def_of(&self, delta: DeltaId) -> Result<Arc<TableDef>> {
        self.table.def_at(delta.v.hi).of_order(delta.index)
    }

    /// Returns the definition of an earlier version.
    pub(crate) fn def_at(&self, version: Version) -> Arc<TableDef> {
        Arc::clone(self.table.def_at(version))
    }

    /// Returns the last version up to this one in which rows came; the one at which the table was made if there is none.
    pub(crate) fn last_update(&self) -> Version {
        let newest = self.table.deltas.updates().iter().rfind(|range| range.lo <= self.version);
        newest.map_or(self.table.begins, |range| range.hi.min(self.version))
    }

    /// Whether one delta holds all updates of the table up to its last.
    pub(crate) fn is_whole(&self, delta: DeltaId) -> bool {
        let range = VersionRange { lo: Version(0), hi: delta.v.hi };
        delta.index == PRIMARY && self.table.deltas.tile(PRIMARY, range, &[delta]).is_ok()
    }

    /// Returns the number of the sort order that it is read in: 0 for the table itself.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Returns the version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the log position of the last record with rows for it: what was computed from the rows rests on it.
    pub fn changed_lsn(&self) -> u64 {
        self.table.changed_lsn
    }

    /// Returns the version at which the table was made.
    pub fn begins(&self) -> Version {
        self.table.begins
    }

    /// Returns the version after which each update of the table can still be told from the others.
    pub fn updates_are_known_after(&self) -> Version {
        self.low_water.max(self.table.begins)
    }

    /// Returns the versions after that one, up to this, in which rows came.
    pub fn updates_after(&self, version: Version) -> Vec<Version> {
        let within = |range: &VersionRange| {
            (range.lo.0.max(version.0 + 1)..=range.hi.0.min(self.version.0)).map(Version)
        };
        self.table.deltas.updates().iter().flat_map(within).collect()
    }

    /// Returns the rows that came in a version; None if it was no update, or is not known any more.
    pub fn update(&self, version: Version) -> Option<&Arc<Delta>> {
        self.table.deltas.get(DeltaId { index: PRIMARY, v: VersionRange::single(version) })
    }

    /// Returns all deltas of the table, also those that this version is not read from.
    pub fn deltas(&self) -> &Deltas {
        &self.table.deltas
    }

    /// Returns the deltas that the version is read from, oldest first. Together they hold every update up to it exactly
    /// once.
    pub fn chosen(&self) -> &[Arc<Delta>] {
        &self.chosen
    }

    /// Returns the files that the version is read from, oldest first.
    pub fn files(&self) -> Vec<Arc<FileEntry>> {
        self.chosen.iter().flat_map(|delta| delta.files.iter().map(Arc::clone)).collect()
    }

    /// Reads a whole aggregate table through the store's own merge: keys ascending, each once. For checks and maintenance;
    /// queries plan their own scans over [`Self::files`].
    ///
    /// # Errors
    /// As [`Database::read_file`].
    pub async fn merge(&self, database: &Database) -> Result<MergeRuns> {
        let mut runs = Vec::with_capacity(self.chosen.len());
        for file in self.files() {
            runs.push(database.read_file(self.def(), &file).await?);
        }
        MergeRuns::new(Arc::clone(self.def()), runs)
    }
}
