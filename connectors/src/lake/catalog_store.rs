//! The object store of one catalog, with the catalog's name in front of every path.
//!
//! DataFusion caches footers and statistics of files by path, size and time, for all stores of a node. Two catalogs
//! may well hold `sales/orders/1.parquet` of one size and one time, so a path must say whose it is. And a file may be
//! replaced by one of its size and its time, which some stores tell to the second only, so the time says the `e_tag` too.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Timelike, Utc};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Maps `<catalog>/rest` to `<prefix>/rest` of the store below.
#[derive(Debug, Clone)]
pub(super) struct CatalogStore {
    inner: Arc<dyn ObjectStore>,
    paths: Paths,
}

/// The two names of one folder.
#[derive(Debug, Clone)]
struct Paths {
    /// As the engine sees it: the catalog's name.
    seen: Path,
    /// As the store below knows it.
    real: Path,
}

impl Paths {
    fn to_real(&self, location: &Path) -> Path {
        replaced(location, &self.seen, &self.real)
    }

    fn prefix_to_real(&self, prefix: Option<&Path>) -> Path {
        prefix.map_or_else(|| self.real.clone(), |prefix| self.to_real(prefix))
    }

    fn to_seen(&self, location: &Path) -> Path {
        replaced(location, &self.real, &self.seen)
    }

    fn meta_to_seen(&self, meta: ObjectMeta) -> ObjectMeta {
        let (location, last_modified) = (self.to_seen(&meta.location), time_to_seen(&meta));
        ObjectMeta { location, last_modified, ..meta }
    }
}

/// Returns the time to the second, and behind that what tells apart files of that time.
fn time_to_seen(meta: &ObjectMeta) -> DateTime<Utc> {
    let Some(e_tag) = &meta.e_tag else { return meta.last_modified };
    let mut hasher = DefaultHasher::new();
    (e_tag, meta.last_modified.nanosecond()).hash(&mut hasher);
    let told = u32::try_from(hasher.finish() % NANOS_PER_SECOND).unwrap_or_default();
    meta.last_modified.with_nanosecond(told).unwrap_or(meta.last_modified)
}

/// A path outside `from` is below `to` as it stands: nothing leads out of the folder.
fn replaced(location: &Path, from: &Path, to: &Path) -> Path {
    let rest: Path = match location.prefix_match(from) {
        Some(rest) => rest.collect(),
        None => location.clone(),
    };
    to.parts().chain(rest.parts()).collect()
}

impl CatalogStore {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, catalog: &str, prefix: Path) -> Self {
        Self { inner, paths: Paths { seen: Path::from_iter([catalog]), real: prefix } }
    }

    /// The folder that all paths of this catalog begin with.
    pub(super) fn root(&self) -> &Path {
        &self.paths.seen
    }
}

impl fmt::Display for CatalogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at \"{}\" in {}", self.paths.seen, self.paths.real, self.inner)
    }
}

#[async_trait]
impl ObjectStore for CatalogStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.inner.put_opts(&self.paths.to_real(location), payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(&self.paths.to_real(location), opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut result = self.inner.get_opts(&self.paths.to_real(location), options).await?;
        result.meta.location = location.clone();
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(&self.paths.to_real(location), ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (before, after) = (self.paths.clone(), self.paths.clone());
        let real = locations.map_ok(move |location| before.to_real(&location)).boxed();
        self.inner.delete_stream(real).map_ok(move |location| after.to_seen(&location)).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let real = self.paths.prefix_to_real(prefix);
        let paths = self.paths.clone();
        self.inner.list(Some(&real)).map_ok(move |meta| paths.meta_to_seen(meta)).boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let real = self.paths.prefix_to_real(prefix);
        let offset = self.paths.to_real(offset);
        let paths = self.paths.clone();
        self.inner
            .list_with_offset(Some(&real), &offset)
            .map_ok(move |meta| paths.meta_to_seen(meta))
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let real = self.paths.prefix_to_real(prefix);
        let listed = self.inner.list_with_delimiter(Some(&real)).await?;
        Ok(ListResult {
            common_prefixes: listed.common_prefixes.iter().map(|p| self.paths.to_seen(p)).collect(),
            objects: listed.objects.into_iter().map(|m| self.paths.meta_to_seen(m)).collect(),
        })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(&self.paths.to_real(from), &self.paths.to_real(to), options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(&self.paths.to_real(from), &self.paths.to_real(to), options).await
    }
}
