//! What a catalog of kind `mysql` may say, and how that becomes the driver's options.

use std::path::PathBuf;
use std::time::Duration;

use meshwork_engine::Result;
use meshwork_engine::catalog::{Properties, Secret};
use meshwork_engine::connections::{Connections, Shares};
use mysql_async::{Opts, OptsBuilder, SslOpts};

/// The port of MySQL and MariaDB.
const PORT: u16 = 3306;

/// Connections that all nodes together open to one catalog at a time, unless configured.
const CONNECTIONS_MAX: usize = 16;

/// A split that reads fewer rows costs more than it saves, unless configured.
const SPLIT_ROWS_MIN: u64 = 50_000;

/// How long one statement may run, streaming included, unless configured.
const STATEMENT_SECONDS_MAX: u64 = 3600;

/// The server ends a statement first, and says so; only then is it given up here.
const STATEMENT_GRACE: Duration = Duration::from_secs(5);

/// Rows up to the protocol's own limit are read.
pub(super) const PACKET_BYTES_MAX: usize = 1 << 30;

/// How long a silent connection lives before the network is asked whether it still stands.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// The driver wants to know after how long the server drops an idle connection; ours are checked on reuse.
const WAIT_TIMEOUT_SECONDS: usize = 28_800;

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tls {
    /// Not at all.
    Disable,
    /// If the server can.
    Prefer,
    /// Always, whoever the server is.
    Require,
    /// Always, and the server's certificate must be trusted and name the host.
    Verify,
}

/// What a date is that no calendar has (`0000-00-00`, `2024-02-00`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ZeroDates {
    /// It is read as NULL.
    Null,
    /// The query fails and names the column.
    Error,
    /// All dates and times of day on a date are read as text, so that each is what it is.
    Text,
}

/// What the parts of one scan see of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadConsistency {
    /// One snapshot: a scan is read over one connection.
    Snapshot,
    /// One snapshot a connection: large tables are read over several.
    Relaxed,
}

/// The configuration of one catalog.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub catalog: String,
    pub host: String,
    pub port: u16,
    /// The only database that is shown; `None` shows all.
    pub database: Option<String>,
    pub user: String,
    pub password: Option<Secret>,
    pub tls: Tls,
    /// Certificates to trust beside the public ones.
    pub tls_ca: Option<PathBuf>,
    pub statement_max: Duration,
    pub zero_dates: ZeroDates,
    pub read_consistency: ReadConsistency,
    /// Parts of a table are not made smaller.
    pub split_rows_min: u64,
    /// Whether tables may be changed, made and dropped.
    pub writable: bool,
}

impl Options {
    /// Reads the properties of a catalog.
    pub(super) fn new(mut properties: Properties) -> Result<(Self, Connections)> {
        let tls = match properties.optional("tls").as_deref() {
            Some("disable") => Tls::Disable,
            None | Some("prefer") => Tls::Prefer,
            Some("require") => Tls::Require,
            Some("verify") => Tls::Verify,
            Some(_) => {
                return Err(properties
                    .wrong("property \"tls\" is none of disable, prefer, require, verify"));
            }
        };
        let zero_dates = match properties.optional("zero_dates").as_deref() {
            None | Some("null") => ZeroDates::Null,
            Some("error") => ZeroDates::Error,
            Some("text") => ZeroDates::Text,
            Some(_) => {
                return Err(
                    properties.wrong("property \"zero_dates\" is none of null, error, text")
                );
            }
        };
        let read_consistency = match properties.optional("read_consistency").as_deref() {
            None | Some("snapshot") => ReadConsistency::Snapshot,
            Some("relaxed") => ReadConsistency::Relaxed,
            Some(_) => {
                return Err(properties
                    .wrong("property \"read_consistency\" is neither snapshot nor relaxed"));
            }
        };
        let seconds = properties.parsed("statement_seconds_max", STATEMENT_SECONDS_MAX)?;
        let options = Self {
            catalog: properties.catalog().to_owned(),
            host: properties.required("host")?,
            port: properties.parsed("port", PORT)?,
            database: properties.optional("database"),
            user: properties.required("user")?,
            password: properties.secret("password"),
            tls,
            tls_ca: properties.optional("tls_ca").map(PathBuf::from),
            statement_max: Duration::from_secs(seconds),
            zero_dates,
            read_consistency,
            split_rows_min: properties.parsed("split_rows_min", SPLIT_ROWS_MIN)?.max(1),
            writable: properties.parsed("writable", false)?,
        };
        if seconds == 0 {
            return Err(properties.wrong("property \"statement_seconds_max\" must be at least 1"));
        }
        let connections_max = properties.parsed("connections_max", CONNECTIONS_MAX)?;
        let shares = shares(connections_max, options.writable).ok_or_else(|| {
            properties.wrong(
                "property \"connections_max\" must be at least 2: one asks about tables and ends statements, one \
                 reads; and 3 where the catalog is writable",
            )
        })?;
        let connections = properties.connections(shares);
        properties.finish()?;
        Ok((options, connections))
    }

    /// Returns where the server is, for messages.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Returns how long the answer to a statement is waited for.
    pub(super) fn answer_deadline(&self) -> Duration {
        self.statement_max + STATEMENT_GRACE
    }

    /// Returns the driver's options; they hold the password and must not be kept or printed.
    pub(super) fn driver(&self, encrypted: bool) -> Opts {
        let protection = encrypted.then(|| {
            let trusting = self.tls != Tls::Verify;
            let roots = self.tls_ca.iter().cloned().map(Into::into).collect();
            SslOpts::default()
                .with_root_certs(roots)
                .with_danger_accept_invalid_certs(trusting)
                .with_danger_skip_domain_validation(trusting)
        });
        OptsBuilder::default()
            .ip_or_hostname(self.host.clone())
            .tcp_port(self.port)
            .user(Some(self.user.clone()))
            .pass(self.password.as_ref().map(|password| password.expose().to_owned()))
            .ssl_opts(protection)
            .prefer_socket(false)
            // An UPDATE that changes nothing in a row has found it all the same.
            .client_found_rows(true)
            .tcp_keepalive(Some(KEEPALIVE))
            .max_allowed_packet(Some(PACKET_BYTES_MAX))
            .wait_timeout(Some(WAIT_TIMEOUT_SECONDS))
            .into()
    }

    /// Returns the statement that pins what a session of this catalog means by its values.
    ///
    /// Comments that only one of MySQL and MariaDB reads carry the variables that only one of them has.
    pub(super) fn pin_session(&self) -> String {
        let seconds = self.statement_max.as_secs();
        format!(
            "SET NAMES utf8mb4, time_zone = '+00:00', sql_mode = 'NO_BACKSLASH_ESCAPES', \
             sql_select_limit = 18446744073709551615, sql_big_selects = 1, \
             net_write_timeout = {seconds} \
             /*M!100108 , max_statement_time = {seconds} */ \
             /*!50708 , max_execution_time = {} */",
            seconds.saturating_mul(1000)
        )
    }
}

/// Most of the connections read. Questions are short.
fn shares(connections_max: usize, writable: bool) -> Option<Shares> {
    let quarter = (connections_max / 4).max(1);
    let write = if writable { quarter } else { 0 };
    let read = connections_max.checked_sub(quarter + write).filter(|read| *read > 0)?;
    Some(Shares { plan: quarter, write, read })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use meshwork_engine::catalog::CatalogDefinition;

    use super::*;

    fn options(extra: &[(&str, &str)]) -> Result<Options> {
        let base = [("host", "db"), ("user", "u"), ("password", "hunter2")];
        let properties: BTreeMap<String, String> =
            base.iter().chain(extra).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let definition = CatalogDefinition { name: "my".into(), kind: "mysql".into(), properties };
        Options::new(definition.resolve()?).map(|(options, _connections)| options)
    }

    #[test]
    fn options_never_show_the_password() {
        let options = options(&[("tls", "require")]).unwrap();
        assert!(!format!("{options:?}").contains("hunter2"));
        assert_eq!(options.address(), "db:3306");
    }

    #[test]
    fn wrong_properties_are_named() {
        let wrong = [
            ("tls", "maybe"),
            ("zero_dates", "1970"),
            ("read_consistency", "none"),
            ("port", "x"),
            ("connections_max", "1"),
            ("colour", "red"),
        ];
        for (key, value) in wrong {
            let error = options(&[(key, value)]).unwrap_err();
            assert_eq!(error.code, "CATALOG_CONFIGURATION");
            assert!(error.message.contains(key), "{error}");
        }
    }
}
