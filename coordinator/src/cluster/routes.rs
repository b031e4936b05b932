//! What workers call on the internal address. Every request is checked for the cluster's secret first.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use meshwork_engine::node::{
    ANNOUNCE_PATH, Announced, Announcement, CATALOGS_PATH, CatalogList, Refusal, SECRET_HEADER,
};
use meshwork_engine::{Error, Result};
use tokio::net::TcpListener;

use super::Cluster;

/// Returns the routes between nodes, to be merged into whatever serves the internal address.
pub fn routes(cluster: Arc<Cluster>) -> Router {
    Router::new()
        .route(ANNOUNCE_PATH, post(announce))
        .route(CATALOGS_PATH, get(catalogs))
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

fn refused(status: StatusCode, message: String) -> Response {
    (status, Json(Refusal { message })).into_response()
}
