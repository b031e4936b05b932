//! A manifest as it is written: YAML, every key known by name.
//!
//! Nothing is checked here beyond names and kinds of values; `spec` makes sense of it.

use std::collections::BTreeMap;

use meshwork_engine::{Error, Result};
use serde::Deserialize;
use serde_yaml_ng::Mapping;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) connector: ConnectorPart,
    #[serde(default)]
    pub(super) auth: AuthPart,
    #[serde(default)]
    pub(super) limits: LimitsPart,
    #[serde(default)]
    pub(super) retry: RetryPart,
    pub(super) tables: BTreeMap<String, TablePart>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConnectorPart {
    pub(super) name: String,
    pub(super) version: u32,
    pub(super) base_url: String,
    #[serde(default)]
    pub(super) allowed_hosts: Vec<String>,
    #[serde(default)]
    pub(super) allow_http: bool,
    #[serde(default)]
    pub(super) allow_private: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthPart {
    #[serde(rename = "type", default)]
    pub(super) kind: AuthKind,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) token: Option<String>,
    #[serde(rename = "in")]
    pub(super) place: Option<KeyPlace>,
    pub(super) name: Option<String>,
    pub(super) value: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AuthKind {
    #[default]
    None,
    Basic,
    Bearer,
    ApiKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KeyPlace {
    Header,
    Query,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsPart {
    pub(super) request_timeout: Option<String>,
    pub(super) total_timeout: Option<String>,
    pub(super) body_bytes_max: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryPart {
    pub(super) max: Option<u32>,
    pub(super) on: Option<Vec<RetryOn>>,
    #[serde(default)]
    pub(super) backoff: BackoffPart,
    /// The longest `Retry-After` that is waited for.
    pub(super) retry_after_max: Option<String>,
}

/// A status, or `timeout`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum RetryOn {
    Status(u16),
    Word(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackoffPart {
    pub(super) base: Option<String>,
    pub(super) max: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TablePart {
    pub(super) description: Option<String>,
    /// About how many rows a listing without filters has.
    pub(super) rows_estimated: Option<u64>,
    pub(super) list: ListPart,
    #[serde(default)]
    pub(super) paginate: PaginatePart,
    #[serde(default)]
    pub(super) pushdown: Vec<PushdownPart>,
    pub(super) schema: SchemaPart,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListPart {
    #[serde(default)]
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) rows: String,
    #[serde(default)]
    pub(super) params: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) enum Method {
    #[default]
    #[serde(rename = "GET")]
    Get,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PaginatePart {
    #[serde(rename = "type", default)]
    pub(super) kind: PaginateKind,
    pub(super) next: Option<String>,
    pub(super) send: Option<SendPart>,
    pub(super) first: Option<u64>,
    pub(super) page_size: Option<PageSizePart>,
    pub(super) total: Option<String>,
    pub(super) stop: Option<StopKind>,
    pub(super) max_pages: Option<u64>,
    pub(super) on_max: Option<OnMax>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PaginateKind {
    #[default]
    None,
    Cursor,
    NextUrl,
    LinkHeader,
    Offset,
    Page,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SendPart {
    pub(super) query: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageSizePart {
    pub(super) query: String,
    pub(super) max: u64,
}

/// When a listing has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StopKind {
    /// A page that does not say how to go on: for cursors and links, which know no other end.
    Missing,
    /// A page without rows: right even if the source returns smaller pages than asked for.
    Empty,
    /// A page with fewer rows than asked for.
    Short,
}

/// There is one answer to a listing that goes on too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnMax {
    Error,
}

/// Either `limit: true`, or a rule for one column.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PushdownPart {
    pub(super) limit: Option<bool>,
    pub(super) column: Option<String>,
    #[serde(default)]
    pub(super) ops: Vec<Op>,
    pub(super) param: Option<String>,
    #[serde(default)]
    pub(super) params: BTreeMap<Op, String>,
    pub(super) path_param: Option<String>,
    pub(super) in_style: Option<InStyle>,
    pub(super) format: Option<TimeFormat>,
    pub(super) semantics: Option<Semantics>,
    #[serde(default)]
    pub(super) required: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Op {
    Eq,
    In,
    Ge,
    Gt,
    Le,
    Lt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum InStyle {
    Comma,
    Repeat,
}

/// How a time stands in a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TimeFormat {
    Rfc3339,
    Date,
    Unix,
    UnixMs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Semantics {
    Exact,
    Inexact,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SchemaPart {
    #[serde(default)]
    pub(super) mode: SchemaMode,
    /// Name to type, or to `{type, path}`; the order is that of the table.
    pub(super) columns: Mapping,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SchemaMode {
    #[default]
    Declared,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ColumnPart {
    #[serde(rename = "type")]
    pub(super) data_type: String,
    pub(super) path: Option<String>,
}

impl Manifest {
    /// Reads a manifest's text.
    ///
    /// # Errors
    /// `User`, naming the key that does not exist or what is missing.
    pub(super) fn parse(text: &str) -> Result<Self> {
        serde_yaml_ng::from_str(text)
            .map_err(|e| Error::user("MANIFEST", format!("the manifest cannot be used: {e}")))
    }
}
