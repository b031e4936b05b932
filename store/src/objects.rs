//! What the store does with an object store: create if absent, get, list; and delete, for [`crate::vacuum`].
//!
//! Every call has a deadline. Nothing here decides whether a failed creation landed: that is for the caller, who knows
//! what it wrote. No overwrite or rename exists here, on purpose.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::future::{Either, select};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{
    Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};

use crate::environment::{Environment, jitter};
use crate::error::{Error, Result};

/// How long one request may take. `object_store` retries inside, for up to three minutes on S3.
const DEADLINE: Duration = Duration::from_secs(200);

/// How often a failed read is tried. Reads change nothing, so trying again is always right.
const READ_ATTEMPTS_MAX: u32 = 5;

/// The wait before the second attempt; doubles with each one.
const RETRY_WAIT: Duration = Duration::from_millis(20);

/// Objects of one store, reached with deadlines.
#[derive(Debug, Clone)]
pub(crate) struct Objects {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) environment: Arc<dyn Environment>,
}

impl Objects {
    /// Creates an object if there is none. An error is no verdict: the object may be there, even our own.
    pub(crate) async fn create(&self, path: &Path, bytes: Bytes) -> Result<()> {
        let options = PutOptions::from(PutMode::Create);
        let put = self.store.put_opts(path, PutPayload::from_bytes(bytes), options);
        self.within("create", path, put).await.map(|_stored| ())
    }

    /// Creates an object, and looks there when that seems to have failed: says whether the object is there with these bytes, and
    /// not with others. An error means that nothing is there.
    pub(crate) async fn create_or_find(&self, path: &Path, bytes: Bytes) -> Result<bool> {
        let Err(error) = self.create(path, bytes.clone()).await else { return Ok(true) };
        self.get(path).await?.map(|there| there == bytes).ok_or(error)
    }

    /// Returns an object, or None if there is none. Failures are retried.
    pub(crate) async fn get(&self, path: &Path) -> Result<Option<Bytes>> {
        let read = async || self.store.get(path).await?.bytes().await;
        self.retry(|| self.within("get", path, read())).await
    }

    /// Returns the objects right below a folder, none of deeper ones. Failures are retried.
    pub(crate) async fn list_folder(&self, folder: &Path) -> Result<Vec<ObjectMeta>> {
        let list = || {
            self.within("list", folder, async {
                Ok(self.store.list_with_delimiter(Some(folder)).await?.objects)
            })
        };
        Ok(self.retry(list).await?.unwrap_or_default())
    }

    /// Returns all objects below a folder; each page of the listing has a deadline.
    pub(crate) async fn list(&self, folder: &Path) -> Result<Vec<ObjectMeta>> {
        let mut listing = self.store.list(Some(folder));
        let mut listed = Vec::new();
        while let Some(object) = self.within("list", folder, listing.try_next()).await? {
            listed.push(object);
        }
        Ok(listed)
    }

    /// Returns when an object was written, by the store's clock; None if there is none. Failures are retried.
    pub(crate) async fn written_at(&self, path: &Path) -> Result<Option<DateTime<Utc>>> {
        let ask = async || Ok(self.store.head(path).await?.last_modified);
        self.retry(|| self.within("get", path, ask())).await
    }

    /// Deletes objects; those that are not there are no matter.
    pub(crate) async fn delete(&self, paths: Vec<Path>) -> Result<()> {
        let Some(first) = paths.first().cloned() else { return Ok(()) };
        let mut deleted = self.store.delete_stream(stream::iter(paths).map(Ok).boxed());
        loop {
            let next = async {
                match deleted.next().await {
                    Some(Ok(_) | Err(StoreError::NotFound { .. })) => Ok(true),
                    Some(Err(error)) => Err(error),
                    None => Ok(false),
                }
            };
            if !self.within("delete", &first, next).await? {
                return Ok(());
            }
        }
    }

    async fn retry<T, F: Future<Output = Result<T>>>(
        &self,
        mut read: impl FnMut() -> F,
    ) -> Result<Option<T>> {
        let mut wait = RETRY_WAIT;
        for _ in 1..READ_ATTEMPTS_MAX {
            match read().await {
                Ok(found) => return Ok(Some(found)),
                Err(error) if is_not_found(&error) => return Ok(None),
                Err(error) => tracing::debug!(%error, "store read failed, trying again"),
            }
            self.environment.sleep(jitter(self.environment.as_ref(), wait)).await;
            wait *= 2;
        }
        match read().await {
            Err(error) if is_not_found(&error) => Ok(None),
            other => other.map(Some),
        }
    }

    async fn within<T>(
        &self,
        operation: &'static str,
        path: &Path,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T> {
        let timer = self.environment.sleep(DEADLINE);
        match select(Box::pin(request), timer).await {
            Either::Left((Ok(answer), _timer)) => Ok(answer),
            Either::Left((Err(source), _timer)) => {
                Err(Error::Storage { operation, path: path.to_string(), source: Box::new(source) })
            }
            Either::Right(((), _request)) => Err(Error::Deadline {
                operation,
                path: path.to_string(),
                deadline_s: DEADLINE.as_secs(),
            }),
        }
    }
}

fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::Storage { source, .. } if matches!(**source, StoreError::NotFound { .. }))
}
