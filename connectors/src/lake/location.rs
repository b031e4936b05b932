//! Where a catalog's files are, and the object store that reads them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meshwork_engine::catalog::{Properties, Secret};
use meshwork_engine::{Error, Result, environment};
use object_store::aws::AmazonS3Builder;
use object_store::client::SpawnedReqwestConnector;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::catalog_store::CatalogStore;

/// How often one request to an object store is tried again, and for how long in all.
const S3_RETRIES_MAX: usize = 4;
const S3_RETRY_TIMEOUT: Duration = Duration::from_secs(20);
/// A store that does not take a connection in that time is down.
const S3_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One request with its body.
const S3_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A catalog's place.
#[derive(Debug)]
pub(crate) enum Location {
    /// A directory that all nodes see under the same path.
    Local(PathBuf),
    /// A bucket of an S3-compatible store and a prefix in it.
    S3(Box<S3>),
}

#[derive(Debug)]
pub(crate) struct S3 {
    bucket: String,
    prefix: Path,
    endpoint: Option<String>,
    region: String,
    allow_http: bool,
    credentials: Option<Credentials>,
}

#[derive(Debug)]
struct Credentials {
    access_key_id: String,
    secret_access_key: Secret,
    session_token: Option<Secret>,
}

impl Location {
    pub(crate) fn from_properties(properties: &mut Properties) -> Result<Self> {
        let location = properties.required("location")?;
        match location.strip_prefix("s3://") {
            Some(rest) => s3(rest, properties),
            None if location.contains("://") => Err(properties
                .wrong("property \"location\" is neither a directory nor an s3:// address")),
            None => std::path::absolute(&location).map(Self::Local).map_err(|e| {
                properties.wrong("property \"location\" is not a directory's path").caused_by(&e)
            }),
        }
    }

    /// Returns the store of this place; does no I/O.
    pub(super) fn store(&self, properties: &Properties) -> Result<Arc<CatalogStore>> {
        let catalog = properties.catalog();
        match self {
            Self::Local(directory) => {
                let prefix = Path::from_absolute_path(directory).map_err(|e| {
                    properties.wrong("property \"location\" cannot be used").caused_by(&e)
                })?;
                let disk = Arc::new(LocalFileSystem::new());
                Ok(Arc::new(CatalogStore::new(disk, catalog, prefix)))
            }
            Self::S3(s3) => {
                let store = s3.store(properties)?;
                Ok(Arc::new(CatalogStore::new(store, catalog, s3.prefix.clone())))
            }
        }
    }

    /// The directory on this node's disk, if it is one.
    pub(super) fn local_root(&self) -> Option<&PathBuf> {
        match self {
            Self::Local(directory) => Some(directory),
            Self::S3(_) => None,
        }
    }

    /// Fails when the place is not there: an object store would say that it is empty.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Local(directory) if !directory.is_dir() => Err(Error::source(
                "SOURCE_UNAVAILABLE",
                format!("directory \"{}\" is not there", directory.display()),
            )
            .with_hint("Every node must see the catalog's location under the same path.")),
            Self::Local(_) | Self::S3(_) => Ok(()),
        }
    }
}

/// Returns what an S3 server's refusal means, as a code and words for the end of a message; `None` if it is none.
pub(crate) fn refusal(cause: &object_store::Error) -> Option<(&'static str, &'static str)> {
    // The server's answer is text in the error, with a code that all servers share.
    let text = cause.to_string();
    let says = |code: &str| text.contains(code);
    if says("NoSuchBucket") {
        return Some(("SOURCE_UNAVAILABLE", "the bucket does not exist"));
    }
    if says("SignatureDoesNotMatch") || says("InvalidAccessKeyId") {
        return Some(("SOURCE_AUTHENTICATION", "the access key and its secret are not accepted"));
    }
    says("AccessDenied").then_some(("SOURCE_PERMISSION_DENIED", "the access key may not do that"))
}

fn s3(rest: &str, properties: &mut Properties) -> Result<Location> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(properties.wrong("property \"location\" names no bucket"));
    }
    let prefix = Path::parse(prefix.trim_end_matches('/')).map_err(|e| {
        properties.wrong("property \"location\" has a prefix that is no path").caused_by(&e)
    })?;
    let anonymous = properties.parsed("anonymous", false)?;
    let access_key_id = properties.optional("access_key_id");
    let secret_access_key = properties.secret("secret_access_key");
    let session_token = properties.secret("session_token");
    let credentials = match (access_key_id, secret_access_key) {
        (Some(access_key_id), Some(secret_access_key)) if !anonymous => {
            Some(Credentials { access_key_id, secret_access_key, session_token })
        }
        (None, None) if anonymous => None,
        _ => {
            return Err(properties.wrong(
                "give \"access_key_id\" and \"secret_access_key\", or \"anonymous\" = 'true'",
            ));
        }
    };
    Ok(Location::S3(Box::new(S3 {
        bucket: bucket.to_owned(),
        prefix,
        endpoint: properties.optional("endpoint"),
        region: properties.optional("region").unwrap_or_else(|| "us-east-1".to_owned()),
        allow_http: properties.parsed("allow_http", false)?,
        credentials,
    })))
}

impl S3 {
    /// Returns the store of the bucket; does no I/O.
    pub(crate) fn store(&self, properties: &Properties) -> Result<Arc<dyn ObjectStore>> {
        self.open()
            .map_err(|e| properties.wrong("the S3 properties do not fit together").caused_by(&e))
    }

    /// Where in the bucket the catalog is.
    pub(crate) fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Returns the place as it may be shown.
    pub(crate) fn address(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix)
    }

    /// Nothing is taken from the process's environment: two catalogs may have two owners.
    fn open(&self) -> object_store::Result<Arc<dyn ObjectStore>> {
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&self.bucket)
            .with_region(&self.region)
            .with_client_options(
                ClientOptions::new()
                    .with_allow_http(self.allow_http)
                    .with_connect_timeout(S3_CONNECT_TIMEOUT)
                    .with_timeout(S3_REQUEST_TIMEOUT),
            )
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: S3_RETRIES_MAX,
                retry_timeout: S3_RETRY_TIMEOUT,
            });
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint).with_virtual_hosted_style_request(false);
        }
        builder = match &self.credentials {
            None => builder.with_skip_signature(true),
            Some(credentials) => {
                let signed = builder
                    .with_access_key_id(&credentials.access_key_id)
                    .with_secret_access_key(credentials.secret_access_key.expose());
                match &credentials.session_token {
                    Some(token) => signed.with_token(token.expose()),
                    None => signed,
                }
            }
        };
        if let Some(runtime) = environment::named_io_runtime() {
            builder = builder.with_http_connector(SpawnedReqwestConnector::new(runtime));
        }
        Ok(Arc::new(builder.build()?))
    }
}
