//! Backup: a database copied to another place, where it is a database like this one.
//!
//! ```text
//! data files      those that deltas of the log name, each against its digest
//! parts           of the checkpoints
//! records         in their order: a log that ends early is an older state, never a broken one
//! checkpoints
//! _db.json        last: what is there of a first copy before that is no database
//! ```
//! A copy that is there already is brought up to date: objects never change, so what has the name has the bytes, and only new
//! ones are copied. It has to be a copy of this database that nobody has written to. To restore it is to open it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;

use crate::checksum::Checksum;
use crate::database::{Database, Options, at};
use crate::error::{Error, Result};
use crate::location::Location;
use crate::log::record::FileEntry;
use crate::log::state::State;
use crate::names::Names;
use crate::objects::Objects;

/// Files copied at the same time; each is in memory.
const FILES_AT_ONCE: usize = 4;

/// What a backup did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackedUp {
    /// The last record that the copy has.
    pub lsn: u64,
    /// Objects that were copied.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Database {
    /// Copies the database as it is now to another location, or brings the copy there up to date.
    ///
    /// One that dies in it has copied a part; the next one goes on. What others commit meanwhile is left to the next one.
    ///
    /// # Errors
    /// [`Error::NoBackup`] if there is something else at the location; [`Error::Conflict`] if a vacuum deleted files meanwhile;
    /// Internal if an object is not what the log says, which is not copied; Source if an object store fails.
    pub async fn back_up(&self, to: Location, options: &Options) -> Result<BackedUp> {
        let state = self.log().refresh().await?;
        let (objects, names) = at(&to, options);
        let mut copy = Copy { from: self, objects, names, there: BTreeMap::new(), done: (0, 0) };
        copy.check(&state, &to).await?;
        copy.files(&state).await?;
        copy.log(&state).await?;
        let (objects, bytes) = copy.done;
        Ok(BackedUp { lsn: state.lsn, objects, bytes })
    }
}

struct Copy<'a> {
    from: &'a Database,
    objects: Objects,
    names: Names,
    /// Sizes of the objects that are there, by their names relative to the root.
    there: BTreeMap<String, u64>,
    /// Objects and bytes that were copied.
    done: (u64, u64),
}

impl Copy<'_> {
    /// Looks at what is there, and refuses what is no copy of this database that only lacks its end.
    async fn check(&mut self, state: &State, to: &Location) -> Result<()> {
        let refuse = |reason: String| Err(Error::NoBackup { location: to.name.clone(), reason });
        for object in self.objects.list(self.names.root()).await? {
            self.there
                .extend(self.names.relative(&object.location).map(|name| (name, object.size)));
        }
        if self.from.location().name == to.name {
            return refuse("it is the database itself".to_owned());
        }
        if let Some(identity) = self.objects.get(&self.names.database()).await?
            && Some(identity) != self.source(&self.from.log().names.database()).await?
        {
            return refuse("there is another database".to_owned());
        }
        let records = self.there.keys().filter_map(|name| Names::record_lsn(name));
        let Some(newest) = records.max() else { return Ok(()) };
        if newest > state.lsn {
            return refuse(format!("it has record {newest}, the database ends with {}", state.lsn));
        }
        let here = self.source(&self.from.log().names.record(newest)).await?;
        match self.objects.get(&self.names.record(newest)).await? == here {
            true => Ok(()),
            false => refuse(format!("it has another record {newest}: somebody has written to it")),
        }
    }

    async fn source(&self, path: &Path) -> Result<Option<Bytes>> {
        self.from.log().objects.get(path).await
    }

    async fn files(&mut self, state: &State) -> Result<()> {
        let mut files: BTreeMap<&str, Arc<FileEntry>> = BTreeMap::new();
        files.extend(state.files().map(|file| (file.path.as_str(), Arc::clone(file))));
        files.retain(|name, file| self.there.get(*name) != Some(&file.bytes));
        let files: Vec<Arc<FileEntry>> = files.into_values().collect();
        let copied: Vec<u64> = stream::iter(files)
            .map(|file| self.file(file))
            .buffer_unordered(FILES_AT_ONCE)
            .try_collect()
            .await?;
        self.count(copied);
        Ok(())
    }

    async fn file(&self, file: Arc<FileEntry>) -> Result<u64> {
        let bytes = self.from.file_bytes(&file).await?;
        if Checksum::of(&bytes) != file.ck.file {
            let evidence = "its digest is not the one in the log";
            return Err(Error::corrupt(file.path.as_str(), evidence));
        }
        self.put(&file.path, bytes).await
    }

    /// Copies records and checkpoints up to a state.
    async fn log(&mut self, state: &State) -> Result<()> {
        let log = self.from.log();
        let mut checkpoints = BTreeSet::new();
        let mut parts = Vec::new();
        for object in log.objects.list(&log.names.checkpoints()).await? {
            let Some(name) = log.names.relative(&object.location) else { continue };
            if self.there.get(&name) == Some(&object.size) {
                continue;
            }
            match Names::checkpoint_lsn(&object.location) {
                Some(lsn) if lsn <= state.lsn => drop(checkpoints.insert(name)),
                Some(_) => {}
                // Parts of later checkpoints do no harm.
                None => parts.push(name),
            }
        }
        for name in parts {
            self.object(&name).await?;
        }
        let known = self.there.keys().filter_map(|name| Names::record_lsn(name)).max();
        for lsn in known.unwrap_or(0) + 1..=state.lsn {
            if let Some(name) = log.names.relative(&log.names.record(lsn)) {
                self.object(&name).await?;
            }
        }
        for name in checkpoints {
            self.object(&name).await?;
        }
        if let Some(name) = log.names.relative(&log.names.database())
            && !self.there.contains_key(&name)
        {
            self.object(&name).await?;
        }
        Ok(())
    }

    async fn object(&mut self, name: &str) -> Result<()> {
        let Some(bytes) = self.source(&self.from.log().names.absolute(name)).await? else {
            return Err(match name.starts_with("_log/") {
                true => Error::corrupt(name, "the log goes on after it"),
                false => Error::Conflict { reason: format!("\"{name}\" went meanwhile") },
            });
        };
        let copied = self.put(name, bytes).await?;
        self.count([copied]);
        Ok(())
    }

    fn count(&mut self, copied: impl IntoIterator<Item = u64>) {
        for bytes in copied {
            self.done.0 += 1;
            self.done.1 += bytes;
        }
    }

    /// Creates an object at the other place; returns its size.
    async fn put(&self, name: &str, bytes: Bytes) -> Result<u64> {
        let path = self.names.absolute(name);
        let size = bytes.len() as u64;
        match self.objects.create_or_find(&path, bytes).await? {
            true => Ok(size),
            false => {
                Err(Error::corrupt(name, "the copy has an object of that name with other bytes"))
            }
        }
    }
}
