//! An object that is there when all its bytes are, and not before.
//!
//! A small one is a single request; a larger one goes in parts while it grows. One that is dropped before it is
//! complete, because its rows failed or its query was cancelled, is aborted at the object store, which would else keep
//! its parts for good. `object_store`'s own `BufWriter` forgets its upload while it is opened or completed.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use meshwork_engine::environment::{self, Task};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayloadMut};
use parking_lot::Mutex;
use parquet::arrow::async_writer::AsyncFileWriter;
use parquet::errors::{ParquetError, Result as ParquetResult};
use tokio::runtime::Handle;

/// Bytes of each part but the last. S3 takes 10,000 parts, so an object may have 100 GiB.
const PART_BYTES: usize = 10 * 1024 * 1024;

/// Parts that are on their way at once.
const PARTS_AT_ONCE: usize = 4;

/// How long ending an upload may take.
const ABORT_DEADLINE: Duration = Duration::from_secs(60);

type Result<T, E = Box<dyn StdError + Send + Sync>> = std::result::Result<T, E>;

/// Owns the tasks that end abandoned uploads.
#[derive(Debug, Default)]
pub(super) struct Aborts(Mutex<Vec<Task<()>>>);

impl Aborts {
    fn own(&self, task: Task<()>) {
        let mut tasks = self.0.lock();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }
}

/// An object that grows.
#[derive(Debug)]
pub(super) struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    aborts: Arc<Aborts>,
    runtime: Handle,
    buffered: PutPayloadMut,
    parts: Parts,
    sending: VecDeque<Task<object_store::Result<()>>>,
}

/// An upload in parts. What has been asked of the store is kept until it answers, whoever stops waiting for it.
#[derive(Debug)]
enum Parts {
    /// There are none: all bytes are buffered, or the object is complete.
    None,
    Asked(Task<object_store::Result<Box<dyn MultipartUpload>>>),
    Open(Box<dyn MultipartUpload>),
}

impl Upload {
    /// Begins an object; does no I/O.
    pub(super) fn new(store: Arc<dyn ObjectStore>, path: Path, aborts: Arc<Aborts>) -> Self {
        Self {
            store,
            path,
            aborts,
            runtime: environment::io_runtime(),
            buffered: PutPayloadMut::new(),
            parts: Parts::None,
            sending: VecDeque::new(),
        }
    }

    async fn add(&mut self, mut bytes: Bytes) -> Result<()> {
        loop {
            let missing = PART_BYTES - self.buffered.content_length();
            if bytes.len() < missing {
                self.buffered.push(bytes);
                return Ok(());
            }
            self.buffered.push(bytes.split_to(missing));
            self.send_part().await?;
        }
    }

    async fn finish(&mut self) -> Result<()> {
        if matches!(self.parts, Parts::None) {
            let all = std::mem::take(&mut self.buffered).freeze();
            self.store.put(&self.path, all).await?;
            return Ok(());
        }
        if self.buffered.content_length() > 0 {
            self.send_part().await?;
        }
        while !self.sending.is_empty() {
            self.wait_for_part().await?;
        }
        self.opened().await?.complete().await?;
        self.parts = Parts::None;
        Ok(())
    }

    async fn send_part(&mut self) -> Result<()> {
        while self.sending.len() >= PARTS_AT_ONCE {
            self.wait_for_part().await?;
        }
        let payload = std::mem::take(&mut self.buffered).freeze();
        let part = self.opened().await?.put_part(payload);
        self.sending.push_back(environment::spawn_on(&self.runtime, "upload of a part", part));
        Ok(())
    }

    async fn wait_for_part(&mut self) -> Result<()> {
        let Some(oldest) = self.sending.front_mut() else { return Ok(()) };
        let sent = oldest.await;
        self.sending.pop_front();
        Ok(sent??)
    }

    async fn opened(&mut self) -> Result<&mut Box<dyn MultipartUpload>> {
        if matches!(self.parts, Parts::None) {
            let (store, path) = (Arc::clone(&self.store), self.path.clone());
            let ask = async move { store.put_multipart(&path).await };
            let asked = environment::spawn_on(&self.runtime, "begin of an upload", ask);
            self.parts = Parts::Asked(asked);
        }
        if let Parts::Asked(asked) = &mut self.parts {
            let answer = asked.await;
            self.parts = Parts::None;
            self.parts = Parts::Open(answer??);
        }
        match &mut self.parts {
            Parts::Open(upload) => Ok(upload),
            Parts::None | Parts::Asked(_) => Err("an upload is open once it was asked for".into()),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let parts = std::mem::replace(&mut self.parts, Parts::None);
        if matches!(parts, Parts::None) {
            return;
        }
        let (path, sending) = (self.path.clone(), std::mem::take(&mut self.sending));
        let ending = async move {
            match environment::within(ABORT_DEADLINE, "an abort", abort(parts, sending)).await {
                Ok(Ok(())) => tracing::debug!(%path, "upload was aborted"),
                Ok(Err(error)) => tracing::warn!(%path, %error, "upload was not aborted"),
                Err(error) => tracing::warn!(%path, %error, "upload was not aborted"),
            }
        };
        self.aborts.own(environment::spawn_on(&self.runtime, "abort of an upload", ending));
    }
}

async fn abort(parts: Parts, sending: VecDeque<Task<object_store::Result<()>>>) -> Result<()> {
    // A part that arrives after the abort would stay; how it fares does not matter.
    for part in sending {
        drop(part.await);
    }
    match parts {
        Parts::None => Ok(()),
        Parts::Asked(asked) => Ok(asked.await??.abort().await?),
        Parts::Open(mut upload) => Ok(upload.abort().await?),
    }
}

impl AsyncFileWriter for Upload {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, ParquetResult<()>> {
        self.add(bytes).map(|added| added.map_err(ParquetError::External)).boxed()
    }

    fn complete(&mut self) -> BoxFuture<'_, ParquetResult<()>> {
        self.finish().map(|finished| finished.map_err(ParquetError::External)).boxed()
    }
}
