//! The object-store root: everything durable of a Meshwork is an object under it.

use std::sync::Arc;

use anyhow::Context;
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use url::Url;

/// Opens the root: a folder, made if it is not there, or `s3://bucket/prefix` with the credentials of the
/// usual `AWS_*` environment variables.
///
/// # Errors
/// When the folder cannot be made or the URL is none.
pub(super) fn open(root: &str) -> anyhow::Result<Arc<dyn ObjectStore>> {
    if !root.starts_with("s3://") {
        std::fs::create_dir_all(root)
            .with_context(|| format!("cannot make the root folder {root}"))?;
        let folder = LocalFileSystem::new_with_prefix(root)
            .with_context(|| format!("cannot use the root folder {root}"))?;
        return Ok(Arc::new(folder));
    }
    let url = Url::parse(root).with_context(|| format!("the root {root} is no URL"))?;
    let bucket = AmazonS3Builder::from_env()
        .with_url(root)
        .build()
        .with_context(|| format!("cannot use the root {root}"))?;
    Ok(Arc::new(PrefixStore::new(bucket, url.path().trim_matches('/'))))
}
