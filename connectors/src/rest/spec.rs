//! A manifest made sense of: templates filled, paths parsed, rules checked against each other.
//!
//! What is here can be asked for without surprises; every mistake of a manifest is found when its catalog
//! is defined.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meshwork_engine::catalog::Secret;
use meshwork_engine::{Error, Result};
use reqwest::StatusCode;
use url::Url;

use super::columns::{Column, ColumnType};
use super::json_path::JsonPath;
use super::manifest::{
    AuthKind, AuthPart, ColumnPart, InStyle, KeyPlace, LimitsPart, ListPart, Manifest, Method,
    OnMax, Op, PaginateKind, PaginatePart, PushdownPart, RetryOn, RetryPart, SchemaMode, Semantics,
    StopKind, TablePart, TimeFormat,
};

/// Pages of one listing unless the manifest says otherwise.
const MAX_PAGES: u64 = 10_000;

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

#[derive(Debug)]
pub(super) struct Table {
    pub(super) description: Option<String>,
    /// May hold `{{filter.x}}`.
    pub(super) path: String,
    pub(super) rows: JsonPath,
    pub(super) params: Vec<(String, String)>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) paging: Paging,
    pub(super) page_size: Option<PageSize>,
    pub(super) total: Option<JsonPath>,
    pub(super) max_pages: u64,
    pub(super) columns: Vec<Column>,
    pub(super) rules: Vec<Rule>,
    pub(super) pushes_limit: bool,
}

/// How the next page is asked for.
#[derive(Debug)]
pub(super) enum Paging {
    None,
    Cursor { next: JsonPath, param: String },
    NextUrl { next: JsonPath },
    LinkHeader,
    Offset { param: String, first: u64, stop: StopKind },
    Page { param: String, first: u64, stop: StopKind },
}

#[derive(Debug)]
pub(super) struct PageSize {
    pub(super) param: String,
    pub(super) max: u64,
}

/// What a filter on a column becomes.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) column: usize,
    /// The place of each operation that the source knows.
    pub(super) targets: BTreeMap<Op, Target>,
    pub(super) in_style: InStyle,
    pub(super) format: TimeFormat,
    pub(super) exact: bool,
    pub(super) required: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Query(String),
    Path(String),
}

/// What a manifest's templates may refer to.
#[derive(Debug)]
pub(super) struct Values {
    pub(super) config: BTreeMap<String, String>,
    pub(super) secrets: BTreeMap<String, Secret>,
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

impl Values {
    /// Fills `{{config.x}}`; other templates are errors.
    fn filled(&self, part: &str, text: &str) -> Result<String> {
        let filled = self.filled_config(part, text)?;
        match filled.contains("{{") || filled.contains("${") {
            true => Err(wrong(part, "has a template that may not stand here")),
            false => Ok(filled),
        }
    }

    /// Fills `{{config.x}}` and leaves `{{filter.x}}`.
    fn filled_config(&self, part: &str, text: &str) -> Result<String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) =
                after.split_once("}}").ok_or_else(|| wrong(part, "has a {{ without its }}"))?;
            filled.push_str(before);
            match name.trim().split_once('.') {
                Some(("config", key)) => {
                    filled.push_str(self.config.get(key).ok_or_else(|| {
                        wrong(
                            part,
                            &format!("refers to property \"config.{key}\", which is not set"),
                        )
                    })?);
                }
                Some(("filter", key)) => filled.push_str(&format!("{{{{filter.{key}}}}}")),
                _ => {
                    return Err(wrong(
                        part,
                        &format!("has the template {{{{{name}}}}}, which does not exist"),
                    ));
                }
            }
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// A secret is given by reference only: manifests are shown to people.
    fn secret(&self, part: &str, text: Option<&String>) -> Result<Secret> {
        let text = text.ok_or_else(|| wrong(part, "is missing"))?;
        let name = text
            .strip_prefix("${secret:")
            .and_then(|rest| rest.strip_suffix('}'))
            .ok_or_else(|| wrong(part, "is no reference like ${secret:name}"))?;
        self.secrets.get(name).cloned().ok_or_else(|| {
            wrong(part, &format!("refers to property \"secret.{name}\", which is not set"))
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

impl Table {
    fn new(part: TablePart, values: &Values) -> Result<Self> {
        let TablePart { description, list, paginate, pushdown, schema } = part;
        let ListPart { method: Method::Get, path, rows, params, headers } = list;
        let SchemaMode::Declared = schema.mode;
        let columns = columns(schema.columns)?;
        let path = values.filled_config("list.path", &path)?;
        if !path.starts_with('/') {
            return Err(wrong("list.path", "does not begin with /"));
        }
        let filled = |part: &str, pairs: BTreeMap<String, String>| {
            let pair = |(key, value): (String, String)| Ok((key, values.filled(part, &value)?));
            pairs.into_iter().map(pair).collect::<Result<Vec<_>>>()
        };
        let (pushes_limit, rules) = rules(pushdown, &columns)?;
        check_path_params(&path, &rules)?;
        let total = paginate.total.as_deref().map(|text| path_to_one("paginate.total", text));
        let max_pages = paginate.max_pages.unwrap_or(MAX_PAGES).max(1);
        let page_size = paginate
            .page_size
            .as_ref()
            .map(|part| PageSize { param: part.query.clone(), max: part.max.max(1) });
        // The one action that exists; a short answer is no choice.
        let (Some(OnMax::Error) | None) = paginate.on_max;
        Ok(Self {
            description,
            path,
            rows: rows.parse().map_err(|e: String| wrong("list.rows", &e))?,
            params: filled("list.params", params)?,
            headers: filled("list.headers", headers)?,
            total: total.transpose()?,
            paging: paging(paginate)?,
            page_size,
            max_pages,
            columns,
            rules,
            pushes_limit,
        })
    }
}

fn paging(part: PaginatePart) -> Result<Paging> {
    let PaginatePart { kind, next, send, first, stop, page_size, .. } = part;
    let next = |wanted| match (next.as_deref(), wanted) {
        (Some(text), true) => path_to_one("paginate.next", text).map(Some),
        (None, false) => Ok(None),
        (Some(_), false) => Err(wrong("paginate.next", "does not belong to this type")),
        (None, true) => Err(wrong("paginate.next", "is missing")),
    };
    let send = |wanted| match (&send, wanted) {
        (Some(send), true) => Ok(send.query.clone()),
        (None, false) => Ok(String::new()),
        (Some(_), false) => Err(wrong("paginate.send", "does not belong to this type")),
        (None, true) => Err(wrong("paginate.send", "is missing")),
    };
    let counts = matches!(kind, PaginateKind::Offset | PaginateKind::Page);
    if !counts && first.is_some() {
        return Err(wrong("paginate.first", "does not belong to this type"));
    }
    if stop.is_some_and(|stop| (stop == StopKind::Missing) == counts) {
        return Err(wrong("paginate.stop", "does not belong to this type"));
    }
    if stop == Some(StopKind::Short) && page_size.is_none() {
        return Err(wrong("paginate.stop", "is short, which needs a page_size"));
    }
    let stop = stop.unwrap_or(StopKind::Empty);
    let missing = || wrong("paginate.next", "is missing");
    let (next, param) = match kind {
        PaginateKind::None | PaginateKind::LinkHeader => (next(false)?, send(false)?),
        PaginateKind::Cursor => (next(true)?, send(true)?),
        PaginateKind::NextUrl => (next(true)?, send(false)?),
        PaginateKind::Offset | PaginateKind::Page => (next(false)?, send(true)?),
    };
    Ok(match kind {
        PaginateKind::None => Paging::None,
        PaginateKind::LinkHeader => Paging::LinkHeader,
        PaginateKind::Cursor => Paging::Cursor { next: next.ok_or_else(missing)?, param },
        PaginateKind::NextUrl => Paging::NextUrl { next: next.ok_or_else(missing)? },
        PaginateKind::Offset => Paging::Offset { param, first: first.unwrap_or(0), stop },
        PaginateKind::Page => Paging::Page { param, first: first.unwrap_or(1), stop },
    })
}

fn columns(declared: serde_yaml_ng::Mapping) -> Result<Vec<Column>> {
    let mut columns = Vec::new();
    for (name, value) in declared {
        let name = name.as_str().map(str::to_owned).ok_or_else(|| {
            wrong("schema.columns", "has a name that is no text; put it in quotes")
        })?;
        let part = format!("schema.columns.{name}");
        let (declared, path) = match value {
            serde_yaml_ng::Value::String(declared) => (declared, None),
            other => {
                let column: ColumnPart = serde_yaml_ng::from_value(other)
                    .map_err(|e| wrong(&part, &format!("cannot be used: {e}")))?;
                (column.data_type, column.path)
            }
        };
        let (column_type, nullable) = ColumnType::parse(&declared).ok_or_else(|| {
            wrong(&part, &format!("has type \"{declared}\", which does not exist")).with_hint(
                "Types: utf8, int32, int64, float64, bool, decimal(p,s), date, timestamp_us, \
                 timestamp_us_utc, json; ! behind one means not null.",
            )
        })?;
        let path = match path {
            Some(text) => path_to_one(&part, &text)?,
            None => JsonPath::field(&name),
        };
        columns.push(Column { name, column_type, nullable, declared, path });
    }
    match columns.is_empty() {
        true => Err(wrong("schema.columns", "is empty")),
        false => Ok(columns),
    }
}

fn path_to_one(part: &str, text: &str) -> Result<JsonPath> {
    let path: JsonPath = text.parse().map_err(|e: String| wrong(part, &e))?;
    match path.is_many() {
        true => Err(wrong(part, "is a path to many values")),
        false => Ok(path),
    }
}

fn rules(parts: Vec<PushdownPart>, columns: &[Column]) -> Result<(bool, Vec<Rule>)> {
    let mut pushes_limit = false;
    let mut rules = Vec::new();
    for part in parts {
        match (&part.column, part.limit) {
            (None, Some(limit)) => pushes_limit = limit,
            (Some(name), None) => {
                let column = columns.iter().position(|column| column.name == *name);
                let column = column.ok_or_else(|| {
                    wrong("pushdown", &format!("names column \"{name}\", which is not declared"))
                })?;
                rules.push(rule(part, column)?);
            }
            _ => return Err(wrong("pushdown", "has an entry that is neither a column nor limit")),
        }
    }
    Ok((pushes_limit, rules))
}

fn rule(part: PushdownPart, column: usize) -> Result<Rule> {
    let PushdownPart { ops, param, mut params, path_param, in_style, format, semantics, .. } = part;
    let name = part.column.unwrap_or_default();
    let what = format!("pushdown of column \"{name}\"");
    if let Some(param) = &path_param
        && (ops != [Op::Eq] || !part.required || !params.is_empty())
    {
        let need = format!("has path_param \"{param}\", which needs ops: [eq] and required: true");
        return Err(wrong(&what, &need));
    }
    let mut targets = BTreeMap::new();
    for op in ops {
        let target = match (&path_param, params.remove(&op), &param) {
            (Some(name), None, None) => Target::Path(name.clone()),
            (None, Some(name), None) => Target::Query(name),
            (None, None, Some(name)) => Target::Query(name.clone()),
            _ => return Err(wrong(&what, "needs exactly one parameter for each of its ops")),
        };
        targets.insert(op, target);
    }
    if targets.is_empty() || !params.is_empty() {
        return Err(wrong(&what, "has ops and params that do not go together"));
    }
    let ranges: Vec<_> = targets.iter().filter(|(op, _)| !matches!(op, Op::Eq | Op::In)).collect();
    let distinct: BTreeSet<_> = ranges.iter().map(|(_, target)| target).collect();
    if distinct.len() < ranges.len() || targets.get(&Op::Eq).is_some_and(|t| distinct.contains(&t))
    {
        return Err(wrong(&what, "uses one parameter for several comparisons"));
    }
    Ok(Rule {
        column,
        targets,
        in_style: in_style.unwrap_or(InStyle::Comma),
        format: format.unwrap_or(TimeFormat::Rfc3339),
        exact: semantics == Some(Semantics::Exact),
        required: part.required,
    })
}

fn check_path_params(path: &str, rules: &[Rule]) -> Result<()> {
    let targets = rules.iter().flat_map(|rule| rule.targets.values());
    let params: BTreeSet<&str> = targets
        .filter_map(|target| match target {
            Target::Path(name) => Some(name.as_str()),
            Target::Query(_) => None,
        })
        .collect();
    let used: BTreeSet<&str> = path
        .split("{{filter.")
        .skip(1)
        .filter_map(|rest| rest.split_once("}}").map(|(name, _)| name))
        .collect();
    match params.symmetric_difference(&used).next() {
        None => Ok(()),
        Some(name) => {
            let what = format!("and pushdown do not agree on path_param \"{name}\"");
            Err(wrong("list.path", &what))
        }
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

/// Reads `500ms`, `30s` or `5m`.
fn duration(part: &str, text: Option<&String>, default: Duration) -> Result<Duration> {
    let Some(text) = text else { return Ok(default) };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.strip_prefix(digits).unwrap_or_default();
    let millis = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        _ => None,
    };
    let count: Option<u64> = digits.parse().ok();
    let millis = count.zip(millis).and_then(|(count, millis)| count.checked_mul(millis));
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| wrong(part, "is not a time like 500ms, 30s or 5m"))
}

fn wrong(part: &str, what: &str) -> Error {
    Error::user("MANIFEST", format!("{part} of the manifest {what}"))
}
