//! Where a database lies: a local directory with fsync, or a prefix of an S3-compatible bucket.

use std::path::Path as FilePath;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;

use crate::durable::DurableLocal;
use crate::environment::Environment;
use crate::error::{Error, Result};

/// An object store and the folder in it that is the root of a database.
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
    /// Returns a local directory, created if need be, with every write brought to disk before it is acknowledged.
    ///
    /// # Errors
    /// Source if the directory cannot be used.
    pub fn local(directory: &FilePath, environment: Arc<dyn Environment>) -> Result<Self> {
        let store = DurableLocal::new(directory, environment)?;
        let name = store.directory().display().to_string();
        Ok(Self { store: Arc::new(store), root: Path::default(), name })
    }

    /// Returns a prefix of an S3-compatible bucket. The store has to honour `If-None-Match: *`.
    ///
    /// `options` are `object_store`'s settings of S3: `access_key_id`, `secret_access_key`, `region`, `endpoint`, ...
    ///
    /// # Errors
    /// User if a setting is unknown or does not fit the others.
    pub fn s3(bucket: &str, prefix: &str, options: &[(String, String)]) -> Result<Self> {
        let settings = |source| Error::Settings { source: Box::new(source) };
        let mut builder = AmazonS3Builder::new().with_bucket_name(bucket);
        for (key, value) in options {
            let key: AmazonS3ConfigKey = key.parse().map_err(settings)?;
            builder = builder.with_config(key, value);
        }
        let store = builder.build().map_err(settings)?;
        let root = Path::from(prefix);
        let name = format!("s3://{bucket}/{root}");
        Ok(Self { store: Arc::new(store), root, name })
    }
}
