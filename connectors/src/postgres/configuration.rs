//! The properties of a catalog of kind `postgres`. See `docs/connectors/postgres.md`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use datafusion::arrow::datatypes::DECIMAL256_MAX_PRECISION;
use meshwork_engine::Result;
use meshwork_engine::catalog::{Properties, Secret};
use meshwork_engine::connections::{Connections, Shares};

const PORT: u16 = 5432;
/// Connections of all nodes to one catalog, less than a fifth of what a default server takes.
const CONNECTIONS_MAX: usize = 16;
const CONNECT_DEADLINE_SECONDS: u64 = 10;
/// Long enough for a join whose other side takes many minutes to build while this side waits.
const STATEMENT_DEADLINE_SECONDS: u64 = 3600;

/// A smaller part of a table is read faster than a connection is opened.
const SPLIT_KB_MIN: u32 = 8 << 10;

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsMode {
    /// Never.
    Disable,
    /// If the server offers it; the certificate is not checked.
    Prefer,
    /// Always; the certificate is not checked.
    Require,
    /// Always; the certificate must be of a known authority and name the host.
    Verify,
}

impl FromStr for TlsMode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "disable" => Ok(Self::Disable),
            "prefer" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify" => Ok(Self::Verify),
            _ => Err(()),
        }
    }
}

/// What happens to a value that its Arrow type cannot hold: NaN in a decimal, an infinite date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unrepresentable {
    /// The query fails, naming the column.
    Error,
    /// The value is read as NULL.
    Null,
}

impl FromStr for Unrepresentable {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "error" => Ok(Self::Error),
            "null" => Ok(Self::Null),
            _ => Err(()),
        }
    }
}

/// How a `numeric` arrives that has no bounds, or more digits than Arrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unbounded {
    /// As text, with all its digits.
    Text,
    /// As the nearest float.
    Double,
    /// As a decimal; what does not fit has no counterpart, and nothing is rounded.
    Decimal { precision: u8, scale: i8 },
}

impl FromStr for Unbounded {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "text" => Ok(Self::Text),
            "double" => Ok(Self::Double),
            other => {
                let digits = other.strip_prefix("decimal(").and_then(|rest| rest.strip_suffix(')'));
                let (precision, scale) =
                    digits.and_then(|digits| digits.split_once(',')).ok_or(())?;
                let precision = precision.trim().parse().map_err(drop)?;
                let scale = scale.trim().parse().map_err(drop)?;
                let fits = (1..=DECIMAL256_MAX_PRECISION).contains(&precision)
                    && u8::try_from(scale).is_ok_and(|scale| scale <= precision);
                fits.then_some(Self::Decimal { precision, scale }).ok_or(())
            }
        }
    }
}

/// One catalog as configured.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) catalog: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
    pub(super) user: String,
    pub(super) password: Option<Secret>,
    /// The only schemas that exist for the engine; `None` means all.
    pub(super) schemas: Option<Vec<String>>,
    pub(super) tls: TlsMode,
    /// Authorities to trust instead of the usual ones.
    pub(super) tls_ca: Option<PathBuf>,
    pub(super) connect_deadline: Duration,
    pub(super) statement_deadline: Duration,
    pub(super) unrepresentable: Unrepresentable,
    pub(super) unbounded: Unbounded,
    /// Whether arrays of simple types are lists; otherwise they are text.
    pub(super) arrays_as_lists: bool,
    pub(super) pushdown: bool,
    /// Whether tables may be changed, made and dropped.
    pub(super) writable: bool,
    /// Parts of a table are not made smaller, in KiB.
    pub(super) split_kb_min: u32,
}

impl Configuration {
    /// Takes the properties; refuses those that do not exist.
    pub(super) fn read(mut properties: Properties) -> Result<(Self, Connections)> {
        let schemas = properties
            .optional("schemas")
            .map(|names| names.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>());
        let configuration = Self {
            catalog: properties.catalog().to_owned(),
            host: properties.required("host")?,
            port: properties.parsed("port", PORT)?,
            database: properties.required("database")?,
            user: properties.required("user")?,
            password: properties.secret("password"),
            schemas,
            tls: one_of(
                &mut properties,
                "tls",
                TlsMode::Prefer,
                "disable, prefer, require, verify",
            )?,
            tls_ca: properties.optional("tls_ca").map(PathBuf::from),
            connect_deadline: seconds(
                &mut properties,
                "connect_deadline_seconds",
                CONNECT_DEADLINE_SECONDS,
            )?,
            statement_deadline: seconds(
                &mut properties,
                "statement_deadline_seconds",
                STATEMENT_DEADLINE_SECONDS,
            )?,
            unrepresentable: one_of(
                &mut properties,
                "unrepresentable",
                Unrepresentable::Error,
                "error, null",
            )?,
            unbounded: one_of(
                &mut properties,
                "numeric_without_bounds",
                Unbounded::Text,
                "text, double, decimal(precision, scale)",
            )?,
            arrays_as_lists: properties.parsed("arrays_as_lists", true)?,
            pushdown: properties.parsed("pushdown", true)?,
            writable: properties.parsed("writable", false)?,
            split_kb_min: properties.parsed("split_kb_min", SPLIT_KB_MIN)?.max(1),
        };
        let connections_max = properties.parsed("connections_max", CONNECTIONS_MAX)?;
        let shares = shares(connections_max, configuration.writable).ok_or_else(|| {
            properties.wrong(
                "property \"connections_max\" must be at least 2: one keeps a query's snapshot, one reads; \
                 and 3 where the catalog is writable",
            )
        })?;
        let connections = properties.connections(shares);
        if configuration.tls_ca.is_some() && configuration.tls != TlsMode::Verify {
            return Err(properties.wrong("property \"tls_ca\" needs tls = verify"));
        }
        properties.finish()?;
        Ok((configuration, connections))
    }

    /// Whether the schema exists for the engine.
    pub(super) fn shows_schema(&self, schema: &str) -> bool {
        match &self.schemas {
            None => true,
            Some(shown) => shown.iter().any(|name| name == schema),
        }
    }

    /// Names the source in messages: catalog and address, nothing secret.
    pub(super) fn display_name(&self) -> String {
        format!("catalog \"{}\" (PostgreSQL at {}:{})", self.catalog, self.host, self.port)
    }
}

/// Half of the connections keep snapshots and plan, one for each running query; a quarter where some must write.
fn shares(connections_max: usize, writable: bool) -> Option<Shares> {
    let (plan, write) = match writable {
        false => ((connections_max / 2).max(1), 0),
        true => ((connections_max / 4).max(1), (connections_max / 4).max(1)),
    };
    let read = connections_max.checked_sub(plan + write).filter(|read| *read > 0)?;
    Some(Shares { plan, write, read })
}

fn one_of<T: FromStr>(
    properties: &mut Properties,
    key: &str,
    default: T,
    allowed: &str,
) -> Result<T> {
    let Some(text) = properties.optional(key) else { return Ok(default) };
    text.parse()
        .map_err(|_other| properties.wrong(format!("property \"{key}\" must be one of {allowed}")))
}

fn seconds(properties: &mut Properties, key: &str, default: u64) -> Result<Duration> {
    let seconds = properties.parsed(key, default)?;
    if seconds == 0 || seconds > i32::MAX.unsigned_abs().into() {
        return Err(properties.wrong(format!("property \"{key}\" must be at least 1")));
    }
    Ok(Duration::from_secs(seconds))
}
