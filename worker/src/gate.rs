//! What stands before the worker's gRPC service: the cluster's secret, no new tasks while draining, and the
//! choice of runtime.
//!
//! A task runs on the runtime for computing. Everything else, the channel by which a query is cancelled and
//! the question whether the worker lives included, stays on the runtime for I/O, where no plan delays it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use datafusion_distributed::TaskKey;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame};
use meshwork_engine::catalog::Secret;
use meshwork_engine::codec::channel::named_task;
use meshwork_engine::environment;
use meshwork_engine::node::{SECRET_HEADER, secret_matches};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::tasks::Tasks;

/// The layer that puts a [`Gate`] before a service.
#[derive(Debug, Clone)]
pub(crate) struct GateLayer {
    pub(crate) secret: Option<Secret>,
    pub(crate) draining: Arc<AtomicBool>,
    pub(crate) tasks: Arc<Tasks>,
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, layer: self.clone() }
    }
}

/// Lets requests in, or answers them itself.
#[derive(Debug, Clone)]
pub(crate) struct Gate<S> {
    inner: S,
    layer: GateLayer,
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let presented = request.headers().get(SECRET_HEADER).map(HeaderValue::as_bytes);
        if !secret_matches(self.layer.secret.as_ref(), presented) {
            return refuse(Status::unauthenticated("the cluster's secret is missing or differs"));
        }
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        if method == "CoordinatorChannel" && self.layer.draining.load(Ordering::Acquire) {
            return refuse(Status::unavailable("the worker is draining"));
        }
        if method == "CoordinatorChannel"
            && let Some(key) = named_task(request.headers())
        {
            let end = QueryEnd { tasks: Arc::clone(&self.layer.tasks), key };
            request = request.map(|body| Body::new(Ending { body, _end: end }));
        }
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        let computes = method == "ExecuteTask";
        let answer = self.inner.call(request);
        if !computes {
            return answer.boxed();
        }
        let answer = environment::spawn_on(&environment::cpu_runtime(), "fragment", answer);
        answer.map(|ended| ended.unwrap_or_else(|e| Ok(internal(&e).into_http()))).boxed()
    }
}

/// Ends a task when it is dropped: with the channel over which its coordinator holds it.
pub(crate) struct QueryEnd {
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) key: TaskKey,
}

impl Drop for QueryEnd {
    fn drop(&mut self) {
        self.tasks.end(&self.key);
    }
}

/// The body of a request with what happens when nobody reads it any more.
struct Ending {
    body: Body,
    _end: QueryEnd,
}

impl HttpBody for Ending {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

fn refuse(status: Status) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
    std::future::ready(Ok(status.into_http())).boxed()
}

fn internal(error: &meshwork_engine::Error) -> Status {
    Status::internal(error.to_string())
}
