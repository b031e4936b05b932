//! An S3 server over a folder, for the tests: `meshwork-s3-server <folder> <access key> <secret key>`.
//!
//! Listens on a free loopback port and prints `s3 is ready: <url>`. Folders of the given one are the buckets.
//!
//! What `s3s-fs` leaves open is closed here. It looks whether an object is there, then takes the body in, then
//! renames, so of two conditional writes to one name both may win: here bodies are taken in first, and then writes
//! to one name wait for each other. And it makes the bucket of an object that is written to none: here that is
//! `NoSuchBucket`, as in S3.

use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError, S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

/// Names share a lock with few others.
const N_LOCKS: usize = 256;

#[tokio::main]
#[expect(clippy::disallowed_methods, reason = "connections end with the process")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, access_key, secret_key] = arguments.as_slice() else {
        return Err("usage: meshwork-s3-server <folder> <access key> <secret key>".into());
    };
    let files = FileSystem::new(folder).map_err(|error| format!("{folder}: {error:?}"))?;
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(access_key.clone(), secret_key.clone()));
    builder.set_access(SignedAndThere { folder: folder.into() });
    let s3 = builder.build();
    let locks: Arc<[Mutex<()>]> = (0..N_LOCKS).map(|_| Mutex::new(())).collect();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("s3 is ready: http://{}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        let (s3, locks) = (s3.clone(), Arc::clone(&locks));
        tokio::spawn(async move {
            let answers =
                service_fn(move |request| answer(s3.clone(), Arc::clone(&locks), request));
            // A connection that breaks is its client's affair.
            let _ended = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), answers)
                .await;
        });
    }
}

async fn answer(
    s3: S3Service,
    locks: Arc<[Mutex<()>]>,
    request: Request<Incoming>,
) -> Result<Response<Body>, HttpError> {
    let (head, body) = request.into_parts();
    // Whole before anything else: who is refused has been listened to, and is not cut off while it speaks; who
    // speaks slowly keeps nobody waiting.
    let body = body.collect().await.map_err(|broken| HttpError::new(Box::new(broken)))?.to_bytes();
    let _alone = match head.method {
        Method::GET | Method::HEAD => None,
        _ => Some(locks[lock_of(head.uri.path())].lock().await),
    };
    s3.call(Request::from_parts(head, Body::from(body))).await
}

/// Returns which lock the writes to a name take.
fn lock_of(path: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish() as usize % N_LOCKS
}

/// Lets signed requests for buckets that exist through.
struct SignedAndThere {
    folder: PathBuf,
}

#[async_trait::async_trait]
impl S3Access for SignedAndThere {
    async fn check(&self, request: &mut S3AccessContext<'_>) -> S3Result<()> {
        if request.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "the request is not signed"));
        }
        match request.s3_path().as_object() {
            Some((bucket, _key)) if !self.folder.join(bucket).is_dir() => {
                Err(s3_error!(NoSuchBucket))
            }
            _ => Ok(()),
        }
    }
}
