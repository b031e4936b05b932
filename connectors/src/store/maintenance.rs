//! Deltas merged: behind the commits of this process, and by `OPTIMIZE`.
//!
//! A merge changes nothing that is read and stands in nobody's way. One that is given up, because the process ends, leaves
//! files that nobody knows of; the next commit begins it anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshwork_engine::Result;
use meshwork_engine::catalog::Properties;
use meshwork_engine::connector::DeltaEntry;
use meshwork_engine::environment::{self, Task};
use meshwork_store::policy::{BASE_LEVEL, Policy};
use meshwork_store::{
    CompactOptions, Compacted, Database, DeltaId, Error as StoreError, ReadAt, Snapshot, TableId,
};
use parking_lot::Mutex;

/// How often a merge of all deltas is begun before others are said to be faster.
const ATTEMPTS_MAX: u32 = 5;

/// Whether a process merges the deltas of tables that it writes, and what it is at.
#[derive(Debug)]
pub(super) struct Maintenance {
    is_on: bool,
    running: Mutex<BTreeMap<TableId, Task<()>>>,
}

impl Maintenance {
    /// Reads the property `maintenance`.
    ///
    /// # Errors
    /// `User` if it is neither `auto` nor `off`.
    pub(super) fn from_properties(properties: &mut Properties) -> Result<Self> {
        let is_on = match properties.optional("maintenance").as_deref() {
            None | Some("auto") => true,
            Some("off") => false,
            Some(_) => {
                return Err(properties.wrong("property \"maintenance\" is neither auto nor off"));
            }
        };
        Ok(Self { is_on, running: Mutex::default() })
    }

    /// Begins to merge the deltas of tables that have got rows, unless that is under way.
    pub(super) fn after_commit(&self, database: &Arc<Database>, tables: Vec<TableId>) {
        if !self.is_on {
            return;
        }
        let mut running = self.running.lock();
        running.retain(|_, task| !task.is_finished());
        for table in tables {
            running.entry(table).or_insert_with(|| {
                let database = Arc::clone(database);
                environment::spawn("store maintenance", async move {
                    if let Err(error) = as_asked(&database, table).await {
                        tracing::warn!(%table, %error, "deltas were not merged");
                    }
                })
            });
        }
    }
}

/// Does the merges that the policy asks for.
pub(super) async fn as_asked(
    database: &Database,
    table: TableId,
) -> Result<Vec<Compacted>, StoreError> {
    database.maintain(table, &Policy::default(), CompactOptions::default()).await
}

/// Merges all deltas into one; begins again when another merge came first.
pub(super) async fn into_one(
    database: &Database,
    table: TableId,
) -> Result<Vec<Compacted>, StoreError> {
    let options = CompactOptions { level: BASE_LEVEL, ..CompactOptions::default() };
    let mut attempt = 1;
    loop {
        let snapshot = database.snapshot(ReadAt::Committed).await?;
        let Some(newest) = snapshot.table_of(table)? else { return Ok(Vec::new()) };
        let from: Vec<DeltaId> = newest.chosen().iter().map(|delta| delta.id).collect();
        if from.len() < 2 {
            return Ok(Vec::new());
        }
        match database.compact(table, &from, options).await {
            Err(StoreError::Conflict { .. }) if attempt < ATTEMPTS_MAX => attempt += 1,
            done => return Ok(vec![done?]),
        }
    }
}

/// Returns what all tables are made of.
pub(super) fn entries(snapshot: &Snapshot) -> Result<Vec<DeltaEntry>, StoreError> {
    let mut entries = Vec::new();
    for namespace in snapshot.namespaces() {
        for def in snapshot.tables(namespace) {
            let table = snapshot.table(namespace, &def.name)?;
            entries.extend(table.deltas().iter().map(|delta| DeltaEntry {
                schema: namespace.to_owned(),
                table: def.name.clone(),
                first_version: delta.id.v.lo.0,
                last_version: delta.id.v.hi.0,
                made_by: match delta.level {
                    0 => "update".to_owned(),
                    BASE_LEVEL => "base".to_owned(),
                    level => format!("merge {level}"),
                },
                files: delta.files.len() as u64,
                rows: delta.rows(),
                bytes: delta.bytes(),
                is_read: table.chosen().iter().any(|chosen| chosen.id == delta.id),
            }));
        }
    }
    Ok(entries)
}
