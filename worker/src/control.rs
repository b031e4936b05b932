//! What a worker asks its coordinator: to be known, every second, the catalogs when they changed, and connections.

use std::sync::Arc;
use std::time::Duration;

use meshwork_engine::catalog::{CatalogRegistry, Secret};
use meshwork_engine::codec::channel::secret_header;
use meshwork_engine::node::{
    ANNOUNCE_PATH, Announced, Announcement, CATALOGS_PATH, CatalogList, LEASE_PATH, Refusal,
    SECRET_HEADER, WorkerLease,
};
use meshwork_engine::{Error, Result};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use url::Url;

/// How long the coordinator may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The worker's side of the protocol between nodes.
#[derive(Debug)]
pub(crate) struct Control {
    coordinator: Url,
    secret: Option<Secret>,
    client: Client,
    /// For answers that last.
    lasting: Client,
    catalogs: Arc<CatalogRegistry>,
    /// Held while the list is fetched, so that many tasks that need it fetch it once.
    fetching: Mutex<()>,
}

impl Control {
    pub(crate) fn new(
        coordinator: Url,
        secret: Option<Secret>,
        catalogs: Arc<CatalogRegistry>,
    ) -> Result<Self> {
        let client = || Client::builder().connect_timeout(ANSWER_TIMEOUT).no_proxy();
        let unusable = |e| Error::internal("HTTP client").caused_by(&e);
        let lasting = client().build().map_err(unusable)?;
        let client = client().timeout(ANSWER_TIMEOUT).build().map_err(unusable)?;
        Ok(Self { coordinator, secret, client, lasting, catalogs, fetching: Mutex::default() })
    }

    pub(crate) fn coordinator(&self) -> &Url {
        &self.coordinator
    }

    /// Makes the worker known, and takes over the catalogs if they changed.
    pub(crate) async fn announce(&self, announcement: &Announcement) -> Result<()> {
        let request = self.client.post(self.address(ANNOUNCE_PATH)?).json(announcement);
        let announced: Announced = self.ask(request).await?;
        if announced.catalogs_generation != self.catalogs.generation() {
            self.fetch_catalogs(announced.catalogs_generation).await?;
        }
        Ok(())
    }

    /// Waits until the catalogs are those of a query that was planned with this generation.
    pub(crate) async fn catalogs_at(&self, generation: u64) -> Result<()> {
        if self.catalogs.generation() == generation {
            return Ok(());
        }
        self.fetch_catalogs(generation).await
    }

    async fn fetch_catalogs(&self, wanted: u64) -> Result<()> {
        let _alone = self.fetching.lock().await;
        if self.catalogs.generation() == wanted {
            return Ok(());
        }
        let list: CatalogList = self.ask(self.client.get(self.address(CATALOGS_PATH)?)).await?;
        tracing::info!(
            generation = list.generation,
            n = list.definitions.len(),
            "catalogs changed"
        );
        self.catalogs.replace(list.generation, list.definitions);
        Ok(())
    }

    fn address(&self, path: &str) -> Result<Url> {
        self.coordinator.join(path).map_err(|e| {
            Error::user("CLUSTER_CONFIGURATION", format!("coordinator {}", self.coordinator))
                .caused_by(&e)
        })
    }

    /// Waits for the right to a connection, which lasts as long as the answer. The caller sets a deadline.
    pub(crate) async fn lease(&self, lease: &WorkerLease) -> Result<Response> {
        self.answer(self.lasting.post(self.address(LEASE_PATH)?).json(lease)).await
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        self.answer(request).await?.json().await.map_err(|e| self.silent(&e))
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Response> {
        let request = match &self.secret {
            None => request,
            Some(secret) => request.header(SECRET_HEADER, secret_header(secret)?),
        };
        let answer = request.send().await.map_err(|e| self.silent(&e))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let why = answer.json::<Refusal>().await.map(|refusal| refusal.message);
        let why = why.unwrap_or_else(|_no_reason| status.to_string());
        let message = format!("coordinator {} refused this worker: {why}", self.coordinator);
        Err(match status {
            StatusCode::CONFLICT | StatusCode::UNAUTHORIZED => {
                Error::user("WORKER_REFUSED", message)
            }
            _ => Error::resources("COORDINATOR_UNAVAILABLE", message),
        })
    }

    fn silent(&self, cause: &reqwest::Error) -> Error {
        let message = format!("coordinator {} did not answer", self.coordinator);
        Error::resources("COORDINATOR_UNAVAILABLE", message).caused_by(cause)
    }
}
