//! Where a database lies: any object store, and a folder in it.

use std::path::Path as FilePath;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

use crate::durable::DurableLocal;
use crate::environment::Environment;
use crate::error::{Error, Result};

/// An object store and the folder in it that is the root of a database.
///
/// The object store must honour creation if absent (`If-None-Match: *` on S3), and must have brought an object to where
/// it stays before it acknowledges it; [`Location::local`] does.
#[derive(Debug, Clone)]
pub struct Location {
    /// The object store.
    pub store: Arc<dyn ObjectStore>,
    /// The root of the database in it.
    pub root: Path,
    /// What to call the place in messages; holds no secret.
    pub name: String,
}

impl Location {
    /// Returns a local directory, in which every write is on disk before it is acknowledged. Does no I/O.
    ///
    /// # Errors
    /// Source if the working directory, from which a relative path starts, is gone; User if the path has parts that no
    /// object's name can have.
    pub fn local(directory: &FilePath, environment: Arc<dyn Environment>) -> Result<Self> {
        let store = DurableLocal::new(directory, environment)?;
        let root = Path::from_absolute_path(store.directory())
            .map_err(|source| Error::Settings { source: Box::new(source.into()) })?;
        let name = store.directory().display().to_string();
        Ok(Self { store: Arc::new(store), root, name })
    }
}
