//! An S3 server over a folder, for the tests: `s3-server <folder> <access key> <secret key>`.
//!
//! Listens on a free loopback port and prints `s3 is ready: <url>`. Folders below the given one are buckets.
//!
//! `s3s-fs` checks `If-None-Match` before it reads the body and renames afterwards, so two writers of one name may both win.
//! Here conditional writes wait for each other, which makes the check and the rename one step, as S3 promises.

use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::Arc;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, access_key, secret_key] = arguments.as_slice() else {
        return Err("usage: s3-server <folder> <access key> <secret key>".into());
    };
    let files = FileSystem::new(folder).map_err(|error| format!("{folder}: {error:?}"))?;
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(access_key.clone(), secret_key.clone()));
    let s3 = builder.build();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("s3 is ready: http://{}", listener.local_addr()?);
    let conditional = Arc::new(Mutex::new(()));
    loop {
        let (socket, _) = listener.accept().await?;
        let (s3, conditional) = (s3.clone(), Arc::clone(&conditional));
        tokio::spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let (s3, conditional) = (s3.clone(), Arc::clone(&conditional));
                async move {
                    let _alone = match request.headers().contains_key("if-none-match") {
                        true => Some(conditional.lock().await),
                        false => None,
                    };
                    s3.call(request).await
                }
            });
            // A connection that breaks is its client's affair.
            let _ended = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), answer)
                .await;
        });
    }
}
