//! What workers call on the internal address. Every request is checked for the cluster's secret first.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::{Stream, stream};
use meshwork_engine::connections::{Lease, Wanted};
use meshwork_engine::environment::within;
use meshwork_engine::node::{
    ANNOUNCE_PATH, Announced, Announcement, CATALOGS_PATH, CatalogList, LEASE_PATH, Refusal,
    SECRET_HEADER, WorkerLease, wanted_byte,
};
use meshwork_engine::{Error, Result};
use tokio::net::TcpListener;
use tokio::sync::watch;
use url::Url;

use super::Cluster;

/// How often a worker that holds a lease hears of it.
const LEASE_INTERVAL: Duration = Duration::from_secs(2);

/// Returns the routes between nodes, to be merged into whatever serves the internal address.
pub fn routes(cluster: Arc<Cluster>) -> Router {
    Router::new()
        .route(ANNOUNCE_PATH, post(announce))
        .route(CATALOGS_PATH, get(catalogs))
        .route(LEASE_PATH, post(lease))
        .layer(middleware::from_fn_with_state(Arc::clone(&cluster), let_in))
        .with_state(cluster)
}

/// Serves the routes between nodes until it is dropped.
pub async fn serve(cluster: Arc<Cluster>, listener: TcpListener) -> Result<()> {
    axum::serve(listener, routes(cluster))
        .await
        .map_err(|e| Error::internal("the internal address could not be served").caused_by(&e))
}

async fn let_in(State(cluster): State<Arc<Cluster>>, request: Request, next: Next) -> Response {
    let presented = request.headers().get(SECRET_HEADER).map(HeaderValue::as_bytes);
    if cluster.lets_in(presented) {
        return next.run(request).await;
    }
    refused(StatusCode::UNAUTHORIZED, "the cluster's secret is missing or differs".to_owned())
}

async fn announce(
    State(cluster): State<Arc<Cluster>>,
    Json(announcement): Json<Announcement>,
) -> Response {
    match cluster.announce(announcement) {
        Ok(()) => {
            let catalogs_generation = cluster.catalogs().generation();
            Json(Announced { catalogs_generation }).into_response()
        }
        Err(error) => refused(StatusCode::CONFLICT, error.message),
    }
}

async fn catalogs(State(cluster): State<Arc<Cluster>>) -> Json<CatalogList> {
    // The generation is read first: a list that is newer than it says is only asked for again.
    let generation = cluster.catalogs().generation();
    Json(CatalogList { generation, definitions: cluster.catalogs().definitions() })
}

/// Answers when there is a connection. A worker that goes away meanwhile drops this, and its request with it.
async fn lease(State(cluster): State<Arc<Cluster>>, Json(asked): Json<WorkerLease>) -> Response {
    let lender = cluster.catalogs().lender();
    match lender.lease(&asked.request).await {
        Ok(lease) => {
            let wanted = lender.wanted(&asked.request.catalog);
            let held = Held { cluster, worker: asked.worker, wanted, _lease: lease };
            Body::from_stream(held.signals()).into_response()
        }
        Err(error) => refused(StatusCode::SERVICE_UNAVAILABLE, error.message),
    }
}

/// A lease that a worker holds.
struct Held {
    cluster: Arc<Cluster>,
    worker: Url,
    wanted: watch::Receiver<Wanted>,
    _lease: Lease,
}

impl Held {
    /// Says at once, at every change and every two seconds who waits; ends when the worker was
    /// forgotten. Whoever drops the stream drops the lease.
    fn signals(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold((self, true), |(mut held, first)| async move {
            if !first {
                // Too late only means that nothing has changed.
                let changed = within(LEASE_INTERVAL, "a change", held.wanted.changed()).await;
                if matches!(changed, Ok(Err(_))) || !held.cluster.knows(&held.worker) {
                    return None;
                }
            }
            let said = wanted_byte(*held.wanted.borrow_and_update());
            Some((Ok(Bytes::copy_from_slice(&[said])), (held, false)))
        })
    }
}

fn refused(status: StatusCode, message: String) -> Response {
    (status, Json(Refusal { message })).into_response()
}
