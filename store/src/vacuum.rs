//! Vacuum: versions go, and with them the files that nobody needs.
//!
//! ```text
//! record     the oldest version, the deltas that go with those before it, and a moment: a file named before it that no
//!            delta has never comes any more; whoever is late with one has a conflict
//! list       data files that were named before that moment and that no delta has: written down as _gc/<lsn>
//! delete     what the lists name that were written down long ago; then those lists
//! ```
//!
//! So no commit can name a deleted file, however long its writer slept and whatever its clock says: the log decides, as it
//! does between two writers. Only readers are a matter of time: a query of a snapshot that was pinned before the record
//! goes on for as long as files wait, and after that fails by name, never with a wrong answer. How long they have waited
//! is told by the object store's clock alone.
//!
//! The files of the newest export of a table stay as well. Old checkpoints go too, which are only an aid. Records do not.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::database::Database;
use crate::environment::new_ulid;
use crate::error::{Error, Result};
use crate::log::checkpoint;
use crate::log::commit::{Committed, Transaction};
use crate::log::record::{Operation, TableChange, compress, decompress};
use crate::log::state::State;
use crate::names::named_ms;
use crate::sealed::{seal, unseal};
use crate::version::Version;

/// A list of files when unpacked: some ten million of them.
const LIST_BYTES_MAX: usize = 1 << 30;

/// How long an old checkpoint stays at least, and a part that no checkpoint has: nobody is at reading or writing one so long.
const CHECKPOINT_MS: i64 = 60 * 60 * 1000;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a vacuum spares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VacuumOptions {
    /// The oldest version that is served from then on; None leaves it where it is.
    pub oldest: Option<Version>,
    /// For how long a writer may be at a batch or a merge. A commit that rests on older files is a conflict.
    pub writing_max: Duration,
    /// For how long a query may read files that nobody needs any more.
    pub reading_max: Duration,
}

impl Default for VacuumOptions {
    fn default() -> Self {
        Self { oldest: None, writing_max: DAY, reading_max: DAY }
    }
}

/// What a vacuum did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vacuumed {
    /// Where its record stands.
    pub committed: Committed,
    /// The oldest version that is served.
    pub oldest: Version,
    /// Files that were deleted.
    pub files_deleted: u64,
    /// Files that nobody needs and that wait for a later vacuum.
    pub files_waiting: u64,
}

/// Data files that no delta had after a record of the log.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unneeded {
    lsn: u64,
    files: BTreeSet<String>,
}

impl Database {
    /// Makes `oldest` the oldest version that is served, and lets the deltas go that no version from there on needs. Their
    /// files stay until a vacuum.
    ///
    /// # Errors
    /// User if the version is not there yet or no longer; [`Error::Conflict`] if others let deltas go meanwhile; otherwise
    /// as [`crate::Batch::commit`].
    pub async fn expire_before(&self, oldest: Version) -> Result<Committed> {
        let transaction = self.expiry(Some(oldest)).await?;
        self.log().commit(transaction).await
    }

    /// Lets versions go, and deletes the files that nobody has needed for long.
    ///
    /// Any number of processes may do it at any time. One that dies in it has done part of it; the next one goes on.
    ///
    /// # Errors
    /// As [`Self::expire_before`].
    pub async fn vacuum(&self, options: VacuumOptions) -> Result<Vacuumed> {
        let mut transaction = self.expiry(options.oldest).await?;
        let now_ms = self.store_time_ms().await?;
        let writing_max_ms = i64::try_from(options.writing_max.as_millis()).unwrap_or(i64::MAX);
        let writing_since_ms =
            now_ms.min(self.environment().now_us() / 1000).saturating_sub(writing_max_ms);
        let named_since_ms = u64::try_from(writing_since_ms).unwrap_or(0);
        transaction.named_since_ms = Some(named_since_ms);
        let committed = self.log().commit(transaction).await?;
        // Whatever may still come is known now, or was named later.
        let state = self.log().refresh().await?;
        let mut waiting = self.unneeded_lists().await?;
        let listed = self.data_objects().await?;
        let tables = state.tables().map(|table| table.def.id);
        let exported = self.exported_files(tables, &listed).await?;
        let mut files = unneeded(&state, listed, named_since_ms);
        files.retain(|file| !exported.contains(file));
        files.retain(|file| !waiting.iter().any(|(_, list)| list.files.contains(file)));
        if !files.is_empty() {
            let list = Unneeded { lsn: committed.lsn, files };
            self.write_down(&list).await?;
            waiting.push((now_ms, list));
        }
        let reading_max_ms = i64::try_from(options.reading_max.as_millis()).unwrap_or(i64::MAX);
        let (mut files_deleted, mut files_waiting) = (0, 0);
        for (written_ms, list) in waiting {
            let n_files = list.files.len() as u64;
            // An export that was on its way when the list was written has the file.
            let is_exported = list.files.iter().any(|file| exported.contains(file));
            if is_exported || now_ms.saturating_sub(written_ms) < reading_max_ms {
                files_waiting += n_files;
                continue;
            }
            let log = self.log();
            let files = list.files.iter().map(|file| self.object_path(file)).collect();
            log.objects.delete(files).await?;
            log.objects.delete(vec![log.names.unneeded_list(list.lsn)]).await?;
            files_deleted += n_files;
        }
        let before_ms = now_ms.saturating_sub(reading_max_ms.min(CHECKPOINT_MS));
        let log = self.log();
        let checkpoints_deleted = checkpoint::vacuum(&log.objects, &log.names, before_ms).await?;
        tracing::debug!(checkpoints_deleted, "store checkpoints and their parts were let go");
        Ok(Vacuumed { committed, oldest: state.low_water, files_deleted, files_waiting })
    }

    async fn expiry(&self, oldest: Option<Version>) -> Result<Transaction> {
        let mut transaction = self.transaction(Operation::Vacuum).await?;
        transaction.low_water = oldest;
        let state = self.state();
        for table in state.tables() {
            let drop = table.deltas.superseded(oldest.unwrap_or(state.low_water));
            if !drop.is_empty() {
                let change = TableChange::of(table.def.id, table.def.schema);
                transaction.tables.push(TableChange { drop, ..change });
            }
        }
        Ok(transaction)
    }

    /// Returns the names of all objects of tables, relative to the root.
    async fn data_objects(&self) -> Result<BTreeSet<String>> {
        let log = self.log();
        let listed = log.objects.list(&log.names.data()).await?;
        let names = listed.iter().filter_map(|object| log.names.relative(&object.location));
        Ok(names.collect())
    }

    async fn write_down(&self, list: &Unneeded) -> Result<()> {
        let log = self.log();
        let path = log.names.unneeded_list(list.lsn);
        let packed: Bytes = compress(path.as_ref(), &seal(path.as_ref(), list)?)?.into();
        log.objects.create(&path, packed).await
    }

    /// Returns the lists, each with when it was written by the object store's clock, in milliseconds since 1970.
    async fn unneeded_lists(&self) -> Result<Vec<(i64, Unneeded)>> {
        let log = self.log();
        let mut lists = Vec::new();
        for object in log.objects.list_folder(&log.names.unneeded_lists()).await? {
            let name = object.location.as_ref();
            // Another vacuum may just have done with it.
            let Some(packed) = log.objects.get(&object.location).await? else { continue };
            let list: Unneeded = unseal(name, &decompress(name, &packed, LIST_BYTES_MAX)?)?;
            if object.location != log.names.unneeded_list(list.lsn) {
                return Err(Error::corrupt(name, format!("it is of record {}", list.lsn)));
            }
            lists.push((object.last_modified.timestamp_millis(), list));
        }
        Ok(lists)
    }

    /// Returns milliseconds since 1970 by the object store's clock.
    async fn store_time_ms(&self) -> Result<i64> {
        let log = self.log();
        let path = log.names.clock(new_ulid(self.environment().as_ref()));
        log.objects.create(&path, Bytes::new()).await?;
        let written = log.objects.written_at(&path).await?;
        log.objects.delete(vec![path.clone()]).await?;
        let missing = || Error::corrupt(path.as_ref(), "it was written and is not there");
        Ok(written.ok_or_else(missing)?.timestamp_millis())
    }
}

/// Returns the data files that were named before a moment and that no delta has.
fn unneeded(state: &State, listed: BTreeSet<String>, named_since_ms: u64) -> BTreeSet<String> {
    let needed: BTreeSet<&str> = state.files().map(|file| file.path.as_str()).collect();
    let is_old = |name: &String| named_ms(name).is_some_and(|ms| ms < named_since_ms);
    listed.into_iter().filter(is_old).filter(|name| !needed.contains(name.as_str())).collect()
}
