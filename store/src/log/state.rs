//! The state of a database: the fold of its log.
//!
//! Everything that a reader sees comes from here. [`State::apply`] is the only way to change it, and it refuses a record
//! that breaks an invariant: better no answer than one from a broken log.
//!
//! ```text
//! I1  positions have no gaps, and each record names the digest of the one before
//! I2  time grows from record to record
//! I3  an update or a restore makes exactly the next version; nothing else makes one
//! I4  a file comes with the update that made it, with a merge of deltas that are there and hold the same updates, or with
//!     a restore; always for a table and definition that are there
//! I5  names of namespaces and tables are unique; what goes was there
//! I6  a transaction stands once in the log, a feed's batches in their order
//! I7  deltas go only while every retained version can still be read
//! I8  new rows come in all sort orders of their table, with the same sums
//! I9  a file comes only if it was named after the last vacuum looked for files to delete, or if a delta has it
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::sync::Arc;

use crate::checksum::Checksum;
use crate::compact::same_sums;
use crate::error::{Error, Result};
use crate::log::checkpoint::PartRef;
use crate::log::deltas::{Delta, DeltaId, Deltas, PRIMARY};
use crate::log::record::{App, CloneOf, FileEntry, Operation, Record, TableChange, TransactionId};
use crate::names::named_ms;
use crate::policy::BASE_LEVEL;
use crate::table::{TableDef, TableId};
use crate::version::{Version, VersionRange};

/// For how many records a transaction is remembered. A writer that has lost its place looks at newer records only, and
/// gives up long before others can have written that many.
pub(crate) const TXN_MEMORY_RECORDS: u64 = 1024;

/// Where a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The position of its record.
    pub lsn: u64,
    /// The newest version after it.
    pub version: Version,
}

/// The last batch of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppState {
    /// Its number.
    pub seq: u64,
    /// Where it stands.
    pub applied: Applied,
}

/// One table's part of the state.
#[derive(Debug, Clone)]
pub struct TableState {
    /// The definition.
    pub def: Arc<TableDef>,
    /// Earlier ones, each with the last version that had it, in their order.
    pub earlier: Vec<(Version, Arc<TableDef>)>,
    /// The version at which the table was created: the first at which it can be read.
    pub begins: Version,
    /// The position of the last record with rows for it, or of its creation.
    pub changed_lsn: u64,
    /// All its deltas.
    pub deltas: Deltas,
    /// Parts of checkpoints that hold the first of them.
    pub(crate) parts: Vec<PartRef>,
}

impl TableState {
    /// Returns the definition that a version had.
    pub fn def_at(&self, version: Version) -> &Arc<TableDef> {
        let earlier = self.earlier.iter().find(|(last, _def)| version <= *last);
        earlier.map_or(&self.def, |(_last, def)| def)
    }

    /// Returns the version with whose definition a rollup came.
    pub(crate) fn rollup_begins(&self, index: u32) -> Version {
        let without = self.earlier.iter().rfind(|(_last, def)| def.rollup(index).is_none());
        without.map_or(self.begins, |(last, _def)| last.next())
    }

    /// Returns the definition that files of a change have to follow: those of a merge, that of its newest version.
    pub(crate) fn def_for(&self, change: &TableChange) -> &Arc<TableDef> {
        change.merge.as_ref().map_or(&self.def, |merge| self.def_at(merge.into.v.hi))
    }
}

/// A database after one record of its log.
#[derive(Debug, Clone)]
pub struct State {
    /// The position of the last record; 0 in a new database.
    pub lsn: u64,
    /// The newest version.
    pub version: Version,
    /// The time of the last record.
    pub ts_us: i64,
    /// The oldest retained version.
    pub low_water: Version,
    /// Milliseconds since 1970: files named before then come no more, unless a delta has them already.
    pub(crate) named_since_ms: u64,
    /// The checkpoint that its tables share parts with; 0 if there is none.
    pub(crate) checkpoint: u64,
    /// The digest of the last record as stored.
    pub(crate) last: Checksum,
    pub(crate) namespaces: BTreeSet<String>,
    pub(crate) tables: BTreeMap<TableId, Arc<TableState>>,
    pub(crate) names: BTreeMap<(String, String), TableId>,
    pub(crate) apps: BTreeMap<String, AppState>,
    pub(crate) txns: BTreeMap<TransactionId, Applied>,
}

impl State {
    /// Returns the state of a database without records, whose `_db.json` has this digest.
    pub(crate) fn empty(database: Checksum) -> Self {
        Self {
            lsn: 0,
            version: Version(0),
            ts_us: 0,
            low_water: Version(0),
            named_since_ms: 0,
            checkpoint: 0,
            last: database,
            namespaces: BTreeSet::new(),
            tables: BTreeMap::new(),
            names: BTreeMap::new(),
            apps: BTreeMap::new(),
            txns: BTreeMap::new(),
        }
    }

    /// Returns the names of all namespaces.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.iter().map(String::as_str)
    }

    /// Returns all tables.
    pub fn tables(&self) -> impl Iterator<Item = &TableState> {
        self.tables.values().map(Arc::as_ref)
    }

    /// Returns feeds by name, each with its last batch.
    pub fn feeds(&self) -> impl Iterator<Item = (&str, &AppState)> {
        self.apps.iter().map(|(feed, state)| (feed.as_str(), state))
    }

    /// Returns the files of all deltas.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Arc<FileEntry>> {
        self.tables().flat_map(|table| table.deltas.iter()).flat_map(|delta| &delta.files)
    }

    /// Returns the table of a name.
    pub fn table(&self, namespace: &str, name: &str) -> Option<&Arc<TableState>> {
        // Keys are owned pairs; the allocation is nothing beside what a query does next.
        let id = self.names.get(&(namespace.to_owned(), name.to_owned()))?;
        self.tables.get(id)
    }

    /// Returns where a transaction stands, if it is one of the last ones.
    pub(crate) fn applied(&self, txn: TransactionId) -> Option<Applied> {
        self.txns.get(&txn).copied()
    }

    /// Takes the next record in, or refuses it; after a refusal the state is to be thrown away.
    pub(crate) fn apply(&mut self, object: &str, record: &Record, stored: Checksum) -> Result<()> {
        let refuse = |evidence: String| Err(Error::corrupt(object, evidence));
        if record.lsn != self.lsn + 1 {
            return refuse(format!(
                "it says position {}, it stands at {}",
                record.lsn,
                self.lsn + 1
            ));
        }
        if record.prev != self.last {
            return refuse(format!("it follows record {}, not {}", record.prev, self.last));
        }
        if record.ts_us <= self.ts_us {
            return refuse(format!("its time {} is not after {}", record.ts_us, self.ts_us));
        }
        if record.version != self.version_after(record.op) {
            return refuse(format!("version {} cannot follow {}", record.version, self.version));
        }
        if self.txns.contains_key(&record.txn) {
            return refuse(format!("transaction {} stands twice in the log", record.txn));
        }
        self.apply_content(record).or_else(refuse)?;

        self.lsn = record.lsn;
        self.version = record.version;
        self.ts_us = record.ts_us;
        self.last = stored;
        let applied = Applied { lsn: record.lsn, version: record.version };
        self.txns.insert(record.txn, applied);
        let forget_until = record.lsn.saturating_sub(TXN_MEMORY_RECORDS);
        self.txns.retain(|_, applied| applied.lsn > forget_until);
        Ok(())
    }

    /// Returns the newest version after an operation.
    pub(crate) fn version_after(&self, operation: Operation) -> Version {
        match operation {
            Operation::Update | Operation::Restore | Operation::Schema => self.version.next(),
            Operation::Table | Operation::Compact | Operation::Vacuum => self.version,
        }
    }

    fn apply_content(&mut self, record: &Record) -> Result<(), String> {
        for id in &record.drop.tables {
            let Some(gone) = self.tables.remove(id) else {
                return Err(format!("table {id} was dropped but is not there"));
            };
            self.names.remove(&(gone.def.namespace.clone(), gone.def.name.clone()));
        }
        for namespace in &record.drop.namespaces {
            if !self.namespaces.remove(namespace) {
                return Err(format!("schema \"{namespace}\" was dropped but is not there"));
            }
            if self.names.keys().any(|(holder, _)| holder == namespace) {
                return Err(format!("schema \"{namespace}\" was dropped with tables in it"));
            }
        }
        for namespace in &record.define.namespaces {
            if !self.namespaces.insert(namespace.clone()) {
                return Err(format!("schema \"{namespace}\" was created twice"));
            }
        }
        for def in &record.define.tables {
            self.define(record, def)?;
        }
        for def in &record.define.altered {
            self.alter(record, def)?;
        }
        for clone in &record.define.clones {
            let deltas = self.deltas_of(clone)?.since(record.lsn);
            let Some(table) = self.tables.get_mut(&clone.table) else {
                return Err(format!("table {} was cloned without a definition", clone.table));
            };
            Arc::make_mut(table).deltas = deltas;
        }
        if let Some(app) = &record.app {
            self.advance_app(record, app)?;
        }
        if let Some(low_water) = record.low_water {
            if low_water < self.low_water || low_water > record.version {
                return Err(format!("oldest version {low_water} is not in {}..", self.low_water));
            }
            self.low_water = low_water;
        }
        record.tables.iter().try_for_each(|change| self.change_table(record, change))?;
        // A clock that went back asks for less than there is.
        self.named_since_ms = self.named_since_ms.max(record.named_since_ms.unwrap_or_default());
        Ok(())
    }

    fn define(&mut self, record: &Record, def: &Arc<TableDef>) -> Result<(), String> {
        let name = (def.namespace.clone(), def.name.clone());
        if !self.namespaces.contains(&def.namespace) {
            return Err(format!("table \"{}\" came without its schema", def.full_name()));
        }
        if self.names.insert(name, def.id).is_some() || self.tables.contains_key(&def.id) {
            return Err(format!("table \"{}\" was created twice", def.full_name()));
        }
        let table = TableState {
            def: Arc::clone(def),
            earlier: Vec::new(),
            begins: record.version,
            changed_lsn: record.lsn,
            deltas: Deltas::default(),
            parts: Vec::new(),
        };
        self.tables.insert(def.id, Arc::new(table));
        Ok(())
    }

    fn alter(&mut self, record: &Record, def: &Arc<TableDef>) -> Result<(), String> {
        let Some(table) = self.tables.get_mut(&def.id) else {
            return Err(format!("table {} got a definition and is not there", def.id));
        };
        let before = Arc::clone(&table.def);
        if def.schema != before.schema + 1 || def.namespace != before.namespace {
            return Err(format!("definition {} of table {} came", def.schema, before.full_name()));
        }
        let table = Arc::make_mut(table);
        // The versions before this record keep theirs; two definitions of one version leave it the last.
        let last = Version(record.version.0.saturating_sub(1));
        table.earlier.push((last, Arc::clone(&before)));
        table.def = Arc::clone(def);
        table.changed_lsn = record.lsn;
        table.deltas.keep_orders(|index| index == PRIMARY || def.rollup(index).is_some());
        if def.name != before.name {
            self.names.remove(&(before.namespace.clone(), before.name.clone()));
            let name = (def.namespace.clone(), def.name.clone());
            if self.names.insert(name, def.id).is_some() {
                return Err(format!("table \"{}\" was there when another came", def.full_name()));
            }
        }
        Ok(())
    }

    /// Returns what a clone begins with, or why there is no such thing.
    pub(crate) fn deltas_of(&self, clone: &CloneOf) -> Result<Deltas, String> {
        let CloneOf { of, version, .. } = clone;
        let Some(table) = self.tables.get(of) else {
            return Err(format!("table {of} was cloned and is not there"));
        };
        let deltas = table.deltas.up_to(*version);
        let is_there = (self.low_water.max(table.begins)..=self.version).contains(version);
        match is_there && deltas.spanning(PRIMARY, *version, Delta::rows).is_some() {
            true => Ok(deltas),
            false => Err(format!("version {version} of table {of} was cloned and is not there")),
        }
    }

    fn change_table(&mut self, record: &Record, change: &TableChange) -> Result<(), String> {
        let Some(table) = self.tables.get_mut(&change.id) else {
            return Err(format!("files came for table {}, which is not there", change.id));
        };
        if table.def_for(change).schema != change.schema {
            return Err(format!(
                "files follow definition {} of table {}",
                change.schema, change.id
            ));
        }
        if let Some(file) = too_old(self.named_since_ms, record.op, change, &table.deltas) {
            return Err(format!("file {} came although it may be deleted", file.path));
        }
        check_orders(&table.def, record.op, change)?;
        let table = Arc::make_mut(table);
        match (record.op, &change.merge) {
            (Operation::Update, None) => {
                table.changed_lsn = record.lsn;
                table.deltas.updated(record.version);
                let v = VersionRange::single(record.version);
                for (index, files) in by_index(&change.add) {
                    let id = DeltaId { index, v };
                    let rows_from = files.iter().map(|file| file.rows).sum();
                    let delta = Delta { id, lsn: record.lsn, level: 0, rows_from, files };
                    table.deltas.add(checked(delta)?)?;
                }
            }
            (Operation::Restore, None) => {
                table.changed_lsn = record.lsn;
                table.deltas.updated(record.version);
                // What came before it is read for earlier versions only: no other delta holds this update.
                let v = restored(record.version);
                let mut files = by_index(&change.add);
                let rollups = table.def.rollups.iter().map(|rollup| rollup.index);
                for index in iter::once(PRIMARY).chain(rollups) {
                    let files = files.remove(&index).unwrap_or_default();
                    let id = DeltaId { index, v };
                    let rows_from = files.iter().map(|file| file.rows).sum();
                    let delta = Delta { id, lsn: record.lsn, level: BASE_LEVEL, rows_from, files };
                    table.deltas.add(checked(delta)?)?;
                }
            }
            (Operation::Compact, Some(merge)) => {
                let into = merge.into;
                if into.v.hi > record.version {
                    return Err(format!("delta {into} came with version {}", record.version));
                }
                table.deltas.tile_merge(merge)?;
                let inputs = merge.from.iter().filter_map(|id| table.deltas.get(*id));
                let delta = Delta {
                    id: into,
                    lsn: record.lsn,
                    level: merge.level,
                    rows_from: inputs.map(|delta| delta.rows()).sum(),
                    files: change.add.clone(),
                };
                table.deltas.add(checked(delta)?)?;
            }
            (Operation::Vacuum, None) if change.add.is_empty() => {}
            (op, _) => return Err(format!("files came with {}", op.name())),
        }
        for id in &change.drop {
            table.deltas.remove(*id)?;
        }
        // Only where deltas go can a version be lost; looking at all of them is not for every update.
        if !change.drop.is_empty()
            && let Some(version) = table.deltas.lost(self.low_water)
        {
            return Err(format!("version {version} of table {} cannot be read then", change.id));
        }
        if record.op == Operation::Vacuum {
            table.deltas.forget_updates(self.low_water);
        }
        Ok(())
    }

    fn advance_app(&mut self, record: &Record, app: &App) -> Result<(), String> {
        let applied = Applied { lsn: record.lsn, version: record.version };
        let before = self.apps.insert(app.id.clone(), AppState { seq: app.seq, applied });
        match before {
            Some(before) if before.seq >= app.seq => {
                Err(format!("feed \"{}\" went from batch {} to {}", app.id, before.seq, app.seq))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Checks that new rows come in all sort orders of a table, with the same sums.
pub(crate) fn check_orders(
    def: &Arc<TableDef>,
    operation: Operation,
    change: &TableChange,
) -> Result<(), String> {
    let mut files = by_index(&change.add);
    let brings_rows = operation == Operation::Update || operation == Operation::Restore;
    if !brings_rows || (def.rollups.is_empty() && files.keys().all(|index| *index == PRIMARY)) {
        return Ok(());
    }
    let of_table = files.remove(&PRIMARY).unwrap_or_default();
    for rollup in &def.rollups {
        let of_rollup = files.remove(&rollup.index).unwrap_or_default();
        same_sums(&def.of_rollup(rollup), &of_table, &of_rollup)
            .map_err(|evidence| format!("rollup \"{}\": {evidence}", rollup.name))?;
    }
    match files.keys().next() {
        Some(index) => Err(format!("files of the unknown order {index} came")),
        None => Ok(()),
    }
}

/// Returns the versions of the delta that a restore makes: it stands for all that there was.
pub(crate) fn restored(version: Version) -> VersionRange {
    VersionRange { lo: Version(0), hi: version }
}

/// Returns a file of a change that may have been deleted: it was named before `named_since_ms`, and the deltas that the change
/// merges or restores do not have it.
pub(crate) fn too_old<'a>(
    named_since_ms: u64,
    operation: Operation,
    change: &'a TableChange,
    deltas: &Deltas,
) -> Option<&'a FileEntry> {
    let is_old = |file: &&Arc<FileEntry>| named_ms(&file.path).is_none_or(|ms| ms < named_since_ms);
    let mut old = change.add.iter().filter(is_old).peekable();
    old.peek()?;
    let is_from = |delta: &&Arc<Delta>| match &change.merge {
        Some(merge) => merge.from.contains(&delta.id),
        None => operation == Operation::Restore,
    };
    let inputs = deltas.iter().filter(is_from).flat_map(|delta| &delta.files);
    let known: BTreeSet<&str> = inputs.map(|file| file.path.as_str()).collect();
    old.find(|file| !known.contains(file.path.as_str())).map(Arc::as_ref)
}

/// Returns files by the sort order that they belong to.
fn by_index(files: &[Arc<FileEntry>]) -> BTreeMap<u32, Vec<Arc<FileEntry>>> {
    let mut found: BTreeMap<u32, Vec<Arc<FileEntry>>> = BTreeMap::new();
    for file in files {
        found.entry(file.index).or_default().push(Arc::clone(file));
    }
    found
}

fn checked(delta: Delta) -> Result<Arc<Delta>, String> {
    let id = delta.id;
    match delta.files.iter().find(|file| (file.index, file.v) != (id.index, id.v)) {
        Some(file) => {
            let VersionRange { lo, hi } = file.v;
            Err(format!("file of versions [{lo},{hi}] came with delta {id}"))
        }
        None => Ok(Arc::new(delta)),
    }
}
