//! The properties of a catalog of kind `flight`. See `docs/connectors/flight.md`.

use std::path::PathBuf;
use std::time::Duration;

use meshwork_engine::Result;
use meshwork_engine::catalog::{Properties, Secret};
use url::Url;

const CONNECT_DEADLINE_SECONDS: u64 = 10;
/// How long the server may let us wait for an answer, or for the next rows of a result.
const ANSWER_DEADLINE_SECONDS: u64 = 600;

/// How a caller shows who it is.
#[derive(Debug, Clone)]
pub(super) enum Credentials {
    /// Not at all.
    None,
    /// By a token that the server knows.
    Token(Secret),
    /// By logging in, which returns a token.
    Login {
        /// Who.
        user: String,
        /// Never shown.
        password: Secret,
    },
}

/// One catalog as configured.
#[derive(Debug, Clone)]
pub(super) struct Options {
    /// The catalog's name here.
    pub(super) catalog: String,
    /// Where the server is, as `http` or `https`.
    pub(super) url: Url,
    /// The only catalog of the server that is shown, with its schemas by their own names.
    pub(super) shown: Option<String>,
    pub(super) credentials: Credentials,
    /// Authorities to trust instead of those of the web.
    pub(super) tls_ca: Option<PathBuf>,
    /// Other servers, as `host:port`, that a result may lie on.
    pub(super) allowed_hosts: Vec<String>,
    pub(super) connect_deadline: Duration,
    pub(super) answer_deadline: Duration,
    pub(super) pushdown: bool,
}

impl Options {
    /// Takes the properties; refuses those that do not exist.
    pub(super) fn read(mut properties: Properties) -> Result<Self> {
        let text = properties.required("url")?;
        let url = address(&text).ok_or_else(|| {
            properties.wrong(
                "property \"url\" is not of the form grpc://host:port or grpc+tls://host:port",
            )
        })?;
        let token = properties.secret("token");
        let user = properties.optional("user");
        let password = properties.secret("password");
        let credentials = match (token, user, password) {
            (None, None, None) => Credentials::None,
            (Some(token), None, None) => Credentials::Token(token),
            (None, Some(user), Some(password)) => Credentials::Login { user, password },
            _ => {
                return Err(
                    properties.wrong("set token, or both user and password, or none of them")
                );
            }
        };
        let hosts = properties.optional("allowed_hosts").unwrap_or_default();
        let hosts = hosts.split(',').map(|host| host.trim().to_lowercase());
        let options = Self {
            catalog: properties.catalog().to_owned(),
            shown: properties.optional("catalog"),
            credentials,
            tls_ca: properties.optional("tls_ca").map(PathBuf::from),
            allowed_hosts: hosts.filter(|host| !host.is_empty()).collect(),
            connect_deadline: seconds(
                &mut properties,
                "connect_deadline_seconds",
                CONNECT_DEADLINE_SECONDS,
            )?,
            answer_deadline: seconds(
                &mut properties,
                "answer_deadline_seconds",
                ANSWER_DEADLINE_SECONDS,
            )?,
            pushdown: properties.parsed("pushdown", true)?,
            url,
        };
        if options.tls_ca.is_some() && !is_encrypted(&options.url) {
            return Err(
                properties.wrong("property \"tls_ca\" needs a url that begins with grpc+tls")
            );
        }
        properties.finish()?;
        Ok(options)
    }

    /// Names the source in messages: catalog and address, nothing secret.
    pub(super) fn display_name(&self) -> String {
        format!("catalog \"{}\" (Flight SQL at {})", self.catalog, host_of(&self.url))
    }
}

/// Returns the address of a server as the transport wants it; `None` for what is none, or holds a secret.
pub(super) fn address(text: &str) -> Option<Url> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = match scheme {
        "grpc" | "grpc+tcp" | "http" => "http",
        "grpc+tls" | "https" => "https",
        _ => return None,
    };
    let url = Url::parse(&format!("{scheme}://{rest}")).ok()?;
    let is_bare = url.username().is_empty() && url.password().is_none() && url.path() == "/";
    (is_bare && url.query().is_none() && url.has_host()).then_some(url)
}

/// Whether a server is spoken to by TLS.
pub(super) fn is_encrypted(url: &Url) -> bool {
    url.scheme() == "https"
}

/// Returns `host:port`.
pub(super) fn host_of(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}:{port}", url.host_str().unwrap_or_default())
}

fn seconds(properties: &mut Properties, key: &str, default: u64) -> Result<Duration> {
    let seconds = properties.parsed(key, default)?;
    if seconds == 0 || seconds > i32::MAX.unsigned_abs().into() {
        return Err(properties.wrong(format!("property \"{key}\" must be at least 1")));
    }
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_nothing_else() {
        let host = |text: &str| address(text).map(|url| (is_encrypted(&url), host_of(&url)));
        assert_eq!(host("grpc://db:8815"), Some((false, "db:8815".into())));
        assert_eq!(host("grpc+tcp://db:1"), Some((false, "db:1".into())));
        assert_eq!(host("grpc+tls://db"), Some((true, "db:443".into())));
        for wrong in
            ["db:8815", "ftp://db", "grpc://user:secret@db:1", "grpc://db:1/a", "grpc://db:1?a=b"]
        {
            assert_eq!(host(wrong), None, "{wrong}");
        }
    }
}
