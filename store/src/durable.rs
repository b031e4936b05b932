//! A local directory as an object store that survives a power cut.
//!
//! `object_store`'s own `LocalFileSystem` creates atomically but never calls fsync, so an acknowledged commit could be
//! gone after a crash of the machine. Here an object is there for good when `put` returns:
//!
//! ```text
//! write <name>#<digits>  ->  fsync it  ->  hard-link it to <name>  ->  unlink the temporary  ->  fsync the folder
//! ```
//!
//! The link fails if the name exists: that is the put-if-absent of the commit protocol. A disk whose fsync fails is beyond
//! this module: the put is an error then, yet the object can be read. Names with `#` and digits are
//! what `LocalFileSystem` hides from listings, so leftovers of a killed process are never seen.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetRange, GetResult, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result as StoreResult,
};
use parking_lot::Mutex;

use crate::environment::{Environment, blocking};
use crate::error::{Error, Result};

const STORE_NAME: &str = "DurableLocal";

/// How many folders are remembered as durable; the set is emptied when full, which costs a few fsyncs.
const DURABLE_FOLDERS_MAX: usize = 10_000;

/// A directory of objects with fsync; only creation of new objects writes. Objects are named by their absolute paths.
#[derive(Debug)]
pub struct DurableLocal {
    directory: PathBuf,
    files: LocalFileSystem,
    environment: Arc<dyn Environment>,
    /// Folders whose own entries in their parents this process has brought to disk.
    durable_folders: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl DurableLocal {
    /// Names a directory, which is created with the first object. Does no I/O.
    ///
    /// # Errors
    /// Source if the working directory, from which a relative path starts, is gone.
    pub fn new(directory: &FilePath, environment: Arc<dyn Environment>) -> Result<Self> {
        let absolute = std::path::absolute(directory)
            .map_err(|source| Error::Directory { path: directory.display().to_string(), source })?;
        let files = LocalFileSystem::new();
        Ok(Self { directory: absolute, files, environment, durable_folders: Arc::default() })
    }

    /// Returns the directory as an absolute path; the paths of objects start with it.
    pub fn directory(&self) -> &FilePath {
        &self.directory
    }
}

impl std::fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{STORE_NAME}({})", self.directory.display())
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        if options.mode != PutMode::Create {
            return Err(not_implemented("put over an existing object"));
        }
        let write = CreateFile {
            root: self.directory.clone(),
            target: self.files.path_to_filesystem(location)?,
            suffix: self.environment.random(),
            payload,
            durable_folders: Arc::clone(&self.durable_folders),
        };
        let written = blocking(self.environment.as_ref(), move || write.run())
            .await
            .map_err(|source| generic(Box::new(source)))?;
        match written {
            Ok(()) => Ok(PutResult { e_tag: None, version: None }),
            Err(source) if source.kind() == ErrorKind::AlreadyExists => {
                Err(StoreError::AlreadyExists { path: location.to_string(), source: source.into() })
            }
            Err(source) => Err(generic(source.into())),
        }
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        Err(not_implemented("upload in parts"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        let wanted = options.range.clone();
        let found = self.files.get_opts(location, options).await?;
        match wanted {
            // A file that lost its end would answer with fewer bytes, and readers rely on getting all.
            Some(GetRange::Bounded(wanted)) if wanted != found.range => {
                let size = found.meta.size;
                Err(generic(
                    format!("\"{location}\" has {size} bytes, less than it once had").into(),
                ))
            }
            _ => Ok(found),
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.files.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> StoreResult<()> {
        Err(not_implemented("copy"))
    }
}

fn not_implemented(operation: &str) -> StoreError {
    StoreError::NotImplemented {
        operation: operation.to_owned(),
        implementer: STORE_NAME.to_owned(),
    }
}

fn generic(source: Box<dyn std::error::Error + Send + Sync>) -> StoreError {
    StoreError::Generic { store: STORE_NAME, source }
}

/// One creation, as it runs on the blocking pool.
struct CreateFile {
    root: PathBuf,
    target: PathBuf,
    suffix: u64,
    payload: PutPayload,
    durable_folders: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl CreateFile {
    fn run(self) -> io::Result<()> {
        let Some(folder) = self.target.parent() else {
            return Err(io::Error::new(ErrorKind::InvalidInput, "object has no folder"));
        };
        self.make_folder_durable(folder)?;

        let mut name = self.target.clone().into_os_string();
        name.push(format!("#{}", self.suffix));
        let temporary = PathBuf::from(name);
        let linked = self.write(&temporary).and_then(|()| fs::hard_link(&temporary, &self.target));
        // A leftover is hidden from listings and harms nobody, so failing to remove it is no failure.
        let removed = fs::remove_file(&temporary);
        if let Err(error) = removed {
            tracing::debug!(%error, "temporary file of the store could not be removed");
        }
        match linked {
            Ok(()) => sync_folder(folder),
            // Whoever is told that the object is there may build on it, so its name must be on disk as well.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                sync_folder(folder).and(Err(error))
            }
            Err(error) => Err(error),
        }
    }

    fn write(&self, temporary: &FilePath) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(temporary)?;
        for piece in &self.payload {
            file.write_all(piece)?;
        }
        file.sync_all()
    }

    /// Creates the folder if need be and brings every entry on the way from the root to disk. A folder that somebody
    /// else created may not be on disk yet, so the first use by this process syncs it whoever created it.
    fn make_folder_durable(&self, folder: &FilePath) -> io::Result<()> {
        if self.durable_folders.lock().contains(folder) {
            return Ok(());
        }
        let missing: Vec<&FilePath> = self.root.ancestors().take_while(|up| !up.exists()).collect();
        fs::create_dir_all(folder)?;
        for parent in missing.into_iter().filter_map(FilePath::parent) {
            sync_folder(parent)?;
        }
        let ancestors = folder.ancestors().take_while(|ancestor| *ancestor != self.root);
        for ancestor in ancestors {
            if let Some(parent) = ancestor.parent()
                && !self.durable_folders.lock().contains(ancestor)
            {
                sync_folder(parent)?;
            }
        }
        let mut known = self.durable_folders.lock();
        if known.len() >= DURABLE_FOLDERS_MAX {
            known.clear();
        }
        known.extend(
            folder
                .ancestors()
                .take_while(|ancestor| *ancestor != self.root)
                .map(FilePath::to_path_buf),
        );
        Ok(())
    }
}

fn sync_folder(folder: &FilePath) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;

    use super::*;
    use crate::environment::SystemEnvironment;

    #[tokio::test]
    async fn second_creation_of_a_name_fails_and_changes_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("new/root");
        let store = DurableLocal::new(&root, Arc::new(SystemEnvironment::new())).unwrap();
        let path = Path::from_absolute_path(root.join("a/b/c.json")).unwrap();
        let create = PutOptions::from(PutMode::Create);
        store.put_opts(&path, "first".into(), create.clone()).await.unwrap();
        let again = store.put_opts(&path, "second".into(), create).await;
        assert!(matches!(again, Err(StoreError::AlreadyExists { .. })), "{again:?}");
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "first");
        assert!(store.put(&path, "third".into()).await.is_err());
        let folder = Path::from_absolute_path(&root).unwrap();
        let listed: Vec<_> = store.list(Some(&folder)).try_collect().await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(fs::read_dir(root.join("a/b")).unwrap().count(), 1);
    }
}
