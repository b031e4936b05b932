//! Checkpoints: the fold of the log, written down, so that opening reads one checkpoint and few records.
//!
//! A checkpoint is derived: the log alone is the truth, and losing every checkpoint loses nothing but time. A root names,
//! per table, parts that together hold the table's deltas in the order in which they came. Parts are shared between
//! checkpoints. A new checkpoint writes the deltas that came since, and rewrites older parts only when they are small
//! against them, so the work per delta grows with the logarithm of their number; or when some of their deltas are gone.
//!
//! ```text
//! _chk/100.json ──► part A (100 deltas)
//! _chk/200.json ──► part A, part B (100)  ->  A and B rewritten as C (200)
//! _chk/300.json ──► part C (200), part D (100)
//! ```
//!
//! Parts are JSON lines, one delta each, under zstd for now; the design foresees Parquet once a table has a million files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectMeta;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::checksum::Checksum;
use crate::environment::new_ulid;
use crate::error::{Error, Result};
use crate::log::deltas::{Delta, Deltas};
use crate::log::reader;
use crate::log::record::{TransactionId, compress, decompress};
use crate::log::state::{AppState, Applied, State, TableState};
use crate::names::{Names, checkpoint_part};
use crate::objects::Objects;
use crate::sealed::{seal, unseal};
use crate::table::{TableDef, TableId};
use crate::version::{Version, VersionRange};

/// A checkpoint stands at every position that is a multiple of this.
pub(crate) const RECORDS_PER_CHECKPOINT: u64 = 100;

/// How many of the newest checkpoints a vacuum leaves in any case.
const KEPT: usize = 10;

/// The format of checkpoints.
const FORMAT: u32 = 1;

/// The size of a part when unpacked; bounds what a hostile object can make us allocate.
const PART_BYTES_MAX: usize = 1 << 30;

/// Parts read at the same time.
const PARTS_AT_ONCE: usize = 8;

/// Deltas of one table that lie in one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartRef {
    path: String,
    ck: Checksum,
    /// The last log position whose deltas it holds.
    lsn: u64,
    /// How many they are.
    deltas: usize,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Root {
    format: u32,
    lsn: u64,
    version: Version,
    ts_us: i64,
    low_water: Version,
    #[serde(default)]
    named_since_ms: u64,
    record: Checksum,
    namespaces: Vec<String>,
    apps: BTreeMap<String, (u64, u64, Version)>,
    txns: Vec<(TransactionId, u64, Version)>,
    tables: Vec<TableRoot>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableRoot {
    def: Arc<TableDef>,
    /// Earlier definitions, each with the last version that had it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<(Version, Arc<TableDef>)>,
    begins: Version,
    changed_lsn: u64,
    deltas: usize,
    rows: u64,
    bytes: u64,
    /// The versions in which rows came.
    updates: Vec<VersionRange>,
    parts: Vec<PartRef>,
}

/// Parts of a state's tables, to be remembered so that the next checkpoint can share them.
pub(crate) type Parts = BTreeMap<TableId, Vec<PartRef>>;

/// Writes the checkpoint of `state`, or compares it with the one that somebody else wrote.
///
/// # Errors
/// Internal if the other one says something else: then the log was not folded the same way by both.
pub(crate) async fn write(objects: &Objects, names: &Names, state: &State) -> Result<Parts> {
    let path = names.checkpoint(state.lsn);
    // Parts of a checkpoint that is gone may be gone as well.
    let shares = match state.checkpoint {
        0 => false,
        lsn => objects.written_at(&names.checkpoint(lsn)).await?.is_some(),
    };
    let mut parts = Parts::new();
    for (id, table) in &state.tables {
        let shared = if shares { table.parts.as_slice() } else { &[] };
        parts.insert(*id, write_parts(objects, names, state.lsn, table, shared).await?);
    }
    let root = root_of(state, &parts);
    let sealed: Bytes = seal(path.as_ref(), &root)?.into();
    let Err(error) = objects.create(&path, sealed).await else { return Ok(parts) };
    // Ours or another's, it has to say what we say.
    let Some(stored) = objects.get(&path).await? else { return Err(error) };
    let theirs: Root = unseal(path.as_ref(), &stored)?;
    if summary(&theirs) != summary(&root) {
        return Err(Error::corrupt(path.as_ref(), "two writers folded the log differently"));
    }
    Ok(parts)
}

/// Returns the state of the newest checkpoint that is there with all its parts, or None if there is none.
///
/// # Errors
/// Internal if the checkpoint, its parts and the log do not fit together.
pub(crate) async fn read_newest(objects: &Objects, names: &Names) -> Result<Option<State>> {
    let listed = objects.list_folder(&names.checkpoints()).await?;
    let mut lsns: Vec<u64> =
        listed.iter().filter_map(|object| Names::checkpoint_lsn(&object.location)).collect();
    lsns.sort_unstable();
    for lsn in lsns.into_iter().rev() {
        match read(objects, names, lsn).await? {
            Some(state) => return Ok(Some(state)),
            // A vacuum was faster. What is lost is time.
            None => tracing::info!(lsn, "store checkpoint is gone, an older one is read"),
        }
    }
    Ok(None)
}

/// Returns the state of a checkpoint; None if it or one of its parts is not there.
async fn read(objects: &Objects, names: &Names, lsn: u64) -> Result<Option<State>> {
    let path = names.checkpoint(lsn);
    let Some(stored) = objects.get(&path).await? else { return Ok(None) };
    let root: Root = unseal(path.as_ref(), &stored)?;
    if root.format != FORMAT {
        return Err(Error::FormatNotSupported {
            what: format!("checkpoint format {}", root.format),
        });
    }
    check_against_log(objects, names, &root, path.as_ref()).await?;
    let mut state = State::empty(root.record);
    state.lsn = root.lsn;
    state.checkpoint = root.lsn;
    state.version = root.version;
    state.ts_us = root.ts_us;
    state.low_water = root.low_water;
    state.named_since_ms = root.named_since_ms;
    state.namespaces = root.namespaces.into_iter().collect();
    state.txns =
        root.txns.into_iter().map(|(txn, lsn, version)| (txn, Applied { lsn, version })).collect();
    state.apps = root
        .apps
        .into_iter()
        .map(|(app, (seq, lsn, version))| {
            (app, AppState { seq, applied: Applied { lsn, version } })
        })
        .collect();
    for table in root.tables {
        let name = (table.def.namespace.clone(), table.def.name.clone());
        state.names.insert(name, table.def.id);
        let Some(table) = read_table(objects, names, path.as_ref(), table).await? else {
            return Ok(None);
        };
        state.tables.insert(table.def.id, Arc::new(table));
    }
    Ok(Some(state))
}

/// The record at the checkpoint's position must be the one that the checkpoint was made after.
async fn check_against_log(
    objects: &Objects,
    names: &Names,
    root: &Root,
    object: &str,
) -> Result<()> {
    let Some((record, digest)) = reader::read(objects, names, root.lsn).await? else {
        return Err(Error::corrupt(object, format!("the log has no record {}", root.lsn)));
    };
    let says = (root.record, root.version, root.ts_us);
    if says != (digest, record.version, record.ts_us) {
        return Err(Error::corrupt(object, format!("it contradicts log record {}", root.lsn)));
    }
    Ok(())
}

fn root_of(state: &State, parts: &Parts) -> Root {
    let table = |(id, table): (&TableId, &Arc<TableState>)| TableRoot {
        def: Arc::clone(&table.def),
        earlier: table.earlier.clone(),
        begins: table.begins,
        changed_lsn: table.changed_lsn,
        deltas: table.deltas.len(),
        rows: table.deltas.iter().map(|delta| delta.rows()).sum(),
        bytes: table.deltas.iter().map(|delta| delta.bytes()).sum(),
        updates: table.deltas.updates().to_vec(),
        parts: parts.get(id).cloned().unwrap_or_default(),
    };
    let app = |(id, app): (&String, &AppState)| {
        (id.clone(), (app.seq, app.applied.lsn, app.applied.version))
    };
    Root {
        format: FORMAT,
        lsn: state.lsn,
        version: state.version,
        ts_us: state.ts_us,
        low_water: state.low_water,
        named_since_ms: state.named_since_ms,
        record: state.last,
        namespaces: state.namespaces.iter().cloned().collect(),
        apps: state.apps.iter().map(app).collect(),
        txns: state.txns.iter().map(|(txn, at)| (*txn, at.lsn, at.version)).collect(),
        tables: state.tables.iter().map(table).collect(),
    }
}

/// What two checkpoints of one position must agree on. Parts may be cut differently.
fn summary(root: &Root) -> impl PartialEq + use<'_> {
    let tables: Vec<_> = root
        .tables
        .iter()
        .map(|table| {
            (&table.def, &table.earlier, table.begins, table.deltas, table.rows, table.bytes)
        })
        .collect();
    let moments = (root.version, root.ts_us, root.low_water, root.named_since_ms);
    (root.record, moments, &root.namespaces, &root.apps, &root.txns, tables)
}

/// Writes the deltas that no part holds yet, and returns all parts.
async fn write_parts(
    objects: &Objects,
    names: &Names,
    lsn: u64,
    table: &TableState,
    shared: &[PartRef],
) -> Result<Vec<PartRef>> {
    let mut deltas: Vec<&Arc<Delta>> = table.deltas.iter().collect();
    deltas.sort_by_key(|delta| (delta.lsn, delta.id));
    let mut parts = Vec::with_capacity(shared.len() + 1);
    for part in plan_parts(shared, &deltas, lsn) {
        parts.push(match part {
            Planned::Kept(part) => part,
            Planned::New(lsn, deltas) => write_part(objects, names, table, lsn, deltas).await?,
        });
    }
    Ok(parts)
}

/// A part of the next checkpoint.
enum Planned<'a> {
    /// One of the last checkpoint's.
    Kept(PartRef),
    /// One to be written, up to a log position.
    New(u64, &'a [&'a Arc<Delta>]),
}

/// Decides which parts stay. `deltas` stand in the order in which they came.
fn plan_parts<'a>(parts: &[PartRef], deltas: &'a [&'a Arc<Delta>], lsn: u64) -> Vec<Planned<'a>> {
    let mut planned: Vec<(Planned<'a>, usize)> = Vec::new();
    let mut start = 0;
    for part in parts {
        let end = deltas.partition_point(|delta| delta.lsn <= part.lsn);
        let n = end - start;
        match deltas.get(start..end) {
            _ if n == part.deltas => planned.push((Planned::Kept(part.clone()), n)),
            Some(left @ [_, ..]) => planned.push((Planned::New(part.lsn, left), n)),
            Some([]) | None => {}
        }
        start = end;
    }
    let mut n_new = deltas.len() - start;
    if n_new > 0 {
        while let Some((_, n)) = planned.last()
            && *n <= 2 * n_new
        {
            n_new += n;
            planned.pop();
        }
        let last = deltas.get(deltas.len() - n_new..).unwrap_or_default();
        planned.push((Planned::New(lsn, last), n_new));
    }
    planned.into_iter().map(|(part, _)| part).collect()
}

async fn write_part(
    objects: &Objects,
    names: &Names,
    table: &TableState,
    lsn: u64,
    deltas: &[&Arc<Delta>],
) -> Result<PartRef> {
    let path = checkpoint_part(&table.def.id, lsn, new_ulid(objects.environment.as_ref()));
    let mut lines = Vec::new();
    for delta in deltas {
        serde_json::to_writer(&mut lines, delta.as_ref())
            .map_err(|error| Error::corrupt(path.as_str(), error.to_string()))?;
        lines.push(b'\n');
    }
    let packed: Bytes = compress(&path, &lines)?.into();
    let ck = Checksum::of(&packed);
    objects.create(&names.absolute(&path), packed).await?;
    Ok(PartRef { path, ck, lsn, deltas: deltas.len() })
}

async fn read_table(
    objects: &Objects,
    names: &Names,
    object: &str,
    root: TableRoot,
) -> Result<Option<TableState>> {
    let parts: Vec<Option<Vec<Arc<Delta>>>> = stream::iter(root.parts.clone())
        .map(|part| read_part(objects, names, part))
        .buffered(PARTS_AT_ONCE)
        .try_collect()
        .await?;
    let Some(parts) = parts.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
    let mut deltas = Deltas::default();
    deltas.set_updates(root.updates);
    for delta in parts.into_iter().flatten() {
        deltas.add(delta).map_err(|reason| Error::corrupt(object, reason))?;
    }
    let rows: u64 = deltas.iter().map(|delta| delta.rows()).sum();
    let bytes: u64 = deltas.iter().map(|delta| delta.bytes()).sum();
    if (deltas.len(), rows, bytes) != (root.deltas, root.rows, root.bytes) {
        let name = root.def.full_name();
        let evidence = format!("its totals of table \"{name}\" are not the sums of its parts");
        return Err(Error::corrupt(object, evidence));
    }
    Ok(Some(TableState {
        def: root.def,
        earlier: root.earlier,
        begins: root.begins,
        changed_lsn: root.changed_lsn,
        deltas,
        parts: root.parts,
    }))
}

/// Returns the deltas of a part; None if it is not there.
async fn read_part(
    objects: &Objects,
    names: &Names,
    part: PartRef,
) -> Result<Option<Vec<Arc<Delta>>>> {
    let Some(packed) = objects.get(&names.absolute(&part.path)).await? else { return Ok(None) };
    if Checksum::of(&packed) != part.ck {
        return Err(Error::corrupt(part.path, "its digest is not the one in the checkpoint"));
    }
    let lines = decompress(&part.path, &packed, PART_BYTES_MAX)?;
    let deltas = serde_json::Deserializer::from_slice(&lines).into_iter::<Arc<Delta>>();
    let deltas: Vec<_> = deltas
        .collect::<Result<_, _>>()
        .map_err(|error| Error::corrupt(part.path.as_str(), error.to_string()))?;
    if deltas.len() != part.deltas {
        let evidence = format!("it holds {} deltas, not {}", deltas.len(), part.deltas);
        return Err(Error::corrupt(part.path, evidence));
    }
    Ok(Some(deltas))
}

/// Deletes checkpoints that are neither among the newest nor younger than a moment of the object store's clock, and parts that
/// none of those needs which are left. Returns how many objects.
///
/// Whoever writes a checkpoint shares parts only with one that is there; whoever has read a list of them before they went reads an
/// older one, or the log.
pub(crate) async fn vacuum(objects: &Objects, names: &Names, before_ms: i64) -> Result<u64> {
    let is_old = |object: &ObjectMeta| object.last_modified.timestamp_millis() <= before_ms;
    let mut roots: Vec<(u64, ObjectMeta)> = Vec::new();
    for object in objects.list_folder(&names.checkpoints()).await? {
        roots.extend(Names::checkpoint_lsn(&object.location).map(|lsn| (lsn, object)));
    }
    roots.sort_by_key(|(lsn, _)| *lsn);
    let n_older = roots.len().saturating_sub(KEPT);
    let mut gone: Vec<Path> = Vec::new();
    let mut needed = BTreeSet::new();
    for (place, (_lsn, object)) in roots.into_iter().enumerate() {
        if place < n_older && is_old(&object) {
            gone.push(object.location);
        } else if let Some(stored) = objects.get(&object.location).await? {
            let root: Root = unseal(object.location.as_ref(), &stored)?;
            let parts = root.tables.into_iter().flat_map(|table| table.parts);
            needed.extend(parts.map(|part| names.absolute(&part.path)));
        }
    }
    let parts = objects.list_folder(&names.checkpoint_parts()).await?;
    let unneeded =
        parts.into_iter().filter(|part| is_old(part) && !needed.contains(&part.location));
    let unneeded: Vec<Path> = unneeded.map(|part| part.location).collect();
    let n_gone = (gone.len() + unneeded.len()) as u64;
    // A root goes before its parts.
    objects.delete(gone).await?;
    objects.delete(unneeded).await?;
    Ok(n_gone)
}
