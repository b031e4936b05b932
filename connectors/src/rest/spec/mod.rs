//! A manifest made sense of: templates filled, paths parsed, rules checked against each other.
//!
//! What is here can be asked for without surprises; every mistake of a manifest is found when its catalog
//! is defined. [`table`] is one listing, [`values`] fills templates.

mod table;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meshwork_engine::catalog::Secret;
use meshwork_engine::environment::duration_of;
use meshwork_engine::{Error, Result};
use reqwest::StatusCode;
use url::Url;

pub(super) use self::table::{Paging, Rule, Table, Target};
pub(super) use self::values::Values;
use super::manifest::{
    AuthKind, AuthPart, KeyPlace, LimitsPart, Manifest, RetryOn, RetryPart, TablePart,
};

/// An API as a catalog asks it.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) name: String,
    pub(super) base: Url,
    /// Further hosts that may be asked, as `host` or `host:port`; never with credentials.
    pub(super) allowed_hosts: BTreeSet<String>,
    pub(super) allow_http: bool,
    pub(super) allow_private: bool,
    pub(super) auth: Auth,
    pub(super) limits: Limits,
    pub(super) retry: Retry,
    pub(super) tables: BTreeMap<String, Table>,
}

#[derive(Debug)]
pub(super) enum Auth {
    None,
    Basic { username: String, password: Secret },
    Bearer { token: Secret },
    KeyInHeader { name: String, value: Secret },
    KeyInQuery { name: String, value: Secret },
}

#[derive(Debug)]
pub(super) struct Limits {
    pub(super) request_timeout: Duration,
    pub(super) total_timeout: Duration,
    pub(super) body_bytes_max: u64,
}

#[derive(Debug)]
pub(super) struct Retry {
    pub(super) max: u32,
    pub(super) statuses: BTreeSet<u16>,
    pub(super) on_timeout: bool,
    pub(super) backoff_base: Duration,
    pub(super) backoff_max: Duration,
    pub(super) retry_after_max: Duration,
}

impl Api {
    /// Checks a manifest.
    ///
    /// # Errors
    /// `User`, naming the part of the manifest that cannot be used.
    pub(super) fn new(manifest: Manifest, values: &Values) -> Result<Self> {
        let Manifest { connector, auth, limits, retry, tables } = manifest;
        if connector.version != 1 {
            return Err(wrong("connector.version", "is not 1, the one version that exists"));
        }
        let base = base_url(&values.filled("connector.base_url", &connector.base_url)?)?;
        if base.scheme() == "http" && !connector.allow_http {
            return Err(wrong("connector.base_url", "is http, which needs allow_http: true"));
        }
        let allowed_hosts = connector
            .allowed_hosts
            .iter()
            .map(|host| values.filled("connector.allowed_hosts", host).map(|h| h.to_lowercase()))
            .collect::<Result<_>>()?;
        let table = |(name, part): (String, TablePart)| {
            let table = Table::new(part, values).map_err(|mut e| {
                e.message = format!("table \"{name}\": {}", e.message);
                e
            })?;
            Ok((name, table))
        };
        Ok(Self {
            name: connector.name,
            base,
            allowed_hosts,
            allow_http: connector.allow_http,
            allow_private: connector.allow_private,
            auth: Auth::new(auth, values)?,
            limits: Limits::new(&limits)?,
            retry: Retry::new(retry)?,
            tables: tables.into_iter().map(table).collect::<Result<_>>()?,
        })
    }
}

impl Auth {
    fn new(part: AuthPart, values: &Values) -> Result<Self> {
        let AuthPart { kind, username, password, token, place, name, value } = part;
        let given = [
            ("username", username.is_some()),
            ("password", password.is_some()),
            ("token", token.is_some()),
            ("in", place.is_some()),
            ("name", name.is_some()),
            ("value", value.is_some()),
        ];
        let taken: &[&str] = match kind {
            AuthKind::None => &[],
            AuthKind::Basic => &["username", "password"],
            AuthKind::Bearer => &["token"],
            AuthKind::ApiKey => &["in", "name", "value"],
        };
        if let Some((key, _)) = given.iter().find(|(key, given)| *given && !taken.contains(key)) {
            return Err(wrong(&format!("auth.{key}"), "does not belong to this type"));
        }
        Ok(match kind {
            AuthKind::None => Self::None,
            AuthKind::Basic => {
                let username = username.ok_or_else(|| wrong("auth.username", "is missing"))?;
                Self::Basic {
                    username: values.filled("auth.username", &username)?,
                    password: values.secret("auth.password", password.as_ref())?,
                }
            }
            AuthKind::Bearer => {
                Self::Bearer { token: values.secret("auth.token", token.as_ref())? }
            }
            AuthKind::ApiKey => {
                let name = name.ok_or_else(|| wrong("auth.name", "is missing"))?;
                let value = values.secret("auth.value", value.as_ref())?;
                match place.ok_or_else(|| wrong("auth.in", "is missing"))? {
                    KeyPlace::Header => Self::KeyInHeader { name, value },
                    KeyPlace::Query => Self::KeyInQuery { name, value },
                }
            }
        })
    }
}

impl Limits {
    fn new(part: &LimitsPart) -> Result<Self> {
        let seconds = Duration::from_secs;
        Ok(Self {
            request_timeout: duration(
                "limits.request_timeout",
                part.request_timeout.as_ref(),
                seconds(30),
            )?,
            total_timeout: duration(
                "limits.total_timeout",
                part.total_timeout.as_ref(),
                seconds(600),
            )?,
            body_bytes_max: part.body_bytes_max.unwrap_or(64 * 1024 * 1024),
        })
    }
}

impl Retry {
    fn new(part: RetryPart) -> Result<Self> {
        let usual = [429, 502, 503, 504].map(RetryOn::Status);
        let on = part.on.unwrap_or_else(|| {
            usual.into_iter().chain([RetryOn::Word("timeout".to_owned())]).collect()
        });
        let mut retry = Self {
            max: part.max.unwrap_or(5),
            statuses: BTreeSet::new(),
            on_timeout: false,
            backoff_base: duration(
                "retry.backoff.base",
                part.backoff.base.as_ref(),
                Duration::from_millis(500),
            )?,
            backoff_max: duration(
                "retry.backoff.max",
                part.backoff.max.as_ref(),
                Duration::from_secs(30),
            )?,
            retry_after_max: duration(
                "retry.retry_after_max",
                part.retry_after_max.as_ref(),
                Duration::from_secs(60),
            )?,
        };
        for on in on {
            match on {
                RetryOn::Word(word) if word == "timeout" => retry.on_timeout = true,
                RetryOn::Status(status) if StatusCode::from_u16(status).is_ok() => {
                    retry.statuses.insert(status);
                }
                RetryOn::Word(_) | RetryOn::Status(_) => {
                    return Err(wrong("retry.on", "holds neither a status nor the word timeout"));
                }
            }
        }
        Ok(retry)
    }
}

fn base_url(text: &str) -> Result<Url> {
    let part = "connector.base_url";
    let url = Url::parse(text).map_err(|e| wrong(part, "is not a URL").caused_by(&e))?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    match (url.scheme(), url.host_str(), url.query()) {
        ("https" | "http", Some(_), None) if plain => Ok(url),
        _ => Err(wrong(part, "is not a plain https URL without user, query and fragment")),
    }
}

fn duration(part: &str, text: Option<&String>, default: Duration) -> Result<Duration> {
    let Some(text) = text else { return Ok(default) };
    duration_of(text).ok_or_else(|| wrong(part, "is not a time like 500ms, 30s or 5m"))
}

fn wrong(part: &str, what: &str) -> Error {
    Error::user("MANIFEST", format!("{part} of the manifest {what}"))
}
