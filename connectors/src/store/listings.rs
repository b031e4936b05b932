//! What `system.deltas`, `system.exports` and `system.changes` say of a store.

use std::collections::BTreeSet;

use meshwork_engine::connector::{ChangeEntry, DeltaEntry, ExportEntry};
use meshwork_store::policy::BASE_LEVEL;
use meshwork_store::{
    Database, DeltaId, EXPORT_DELTA, EXPORT_PROPERTY, Error as StoreError, ReadAt, Record,
    Snapshot, TableSnapshot,
};

/// Changes that are listed: each is an object to be read.
const CHANGES_MAX: u64 = 1000;

/// Returns what all tables are made of.
pub(super) fn deltas(snapshot: &Snapshot) -> Result<Vec<DeltaEntry>, StoreError> {
    let mut entries = Vec::new();
    for namespace in snapshot.namespaces() {
        for def in snapshot.tables(namespace) {
            let table = snapshot.table(namespace, &def.name)?;
            let orders = table.orders();
            let read: BTreeSet<DeltaId> =
                orders.iter().flat_map(TableSnapshot::chosen).map(|delta| delta.id).collect();
            entries.extend(table.deltas().iter().map(|delta| DeltaEntry {
                schema: namespace.to_owned(),
                table: def.name.clone(),
                rollup: def.rollup(delta.id.index).map(|rollup| rollup.name.clone()),
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
                is_read: read.contains(&delta.id),
            }));
        }
    }
    Ok(entries)
}

/// Returns what others read of tables.
pub(super) async fn exports(database: &Database) -> Result<Vec<ExportEntry>, StoreError> {
    let snapshot = database.snapshot(ReadAt::Committed).await?;
    let mut entries = Vec::new();
    for namespace in snapshot.namespaces() {
        let asked = snapshot.tables(namespace);
        for def in asked.filter(|def| def.properties.contains_key(EXPORT_PROPERTY)) {
            let Some(exported) = database.exported(def.id).await? else { continue };
            entries.push(ExportEntry {
                schema: namespace.to_owned(),
                table: def.name.clone(),
                format: EXPORT_DELTA.to_owned(),
                location: format!("{}/{}", database.location().name, exported.folder),
                version: exported.version.0,
            });
        }
    }
    Ok(entries)
}

/// Returns the last changes, the newest first.
pub(super) async fn changes(database: &Database) -> Result<Vec<ChangeEntry>, StoreError> {
    let records = database.history(CHANGES_MAX).await?;
    let state = database.state();
    let name = |id| {
        let table = state.tables().find(|table| table.def.id == id);
        table.map_or_else(|| id.to_string(), |table| table.def.full_name())
    };
    let entry = |record: Record| {
        let define = &record.define;
        let defined = define.tables.iter().chain(&define.altered).map(|def| def.full_name());
        let dropped = record.drop.tables.iter().map(ToString::to_string);
        let changed = record.tables.iter().map(|change| name(change.id));
        let files = || record.tables.iter().flat_map(|change| &change.add);
        ChangeEntry {
            position: record.lsn,
            version: record.version.0,
            operation: record.op.name().to_owned(),
            committed_us: record.ts_us,
            writer: record.writer.clone(),
            tables: defined.chain(dropped).chain(changed).collect(),
            files: files().count() as u64,
            rows: files().map(|file| file.rows).sum(),
        }
    };
    Ok(records.into_iter().map(entry).collect())
}
