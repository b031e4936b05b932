//! A JSON API, served here: pages of rows by offset, and two listings that do not end.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use meshwork::demo::rest::RestServer;
use meshwork_engine::environment::{self, Task};
use meshwork_sql_tests::servers::free_port;
use serde_json::{Value as JsonValue, json};
use tokio::net::TcpListener;

use crate::doors::Doors;
use crate::source::{
    Away, Broken, CATALOG, Kind, Limits, Properties, Source, Special, Table, Type, Value, Writes,
    name_of, of, special,
};

const SCHEMA: &str = "api";

/// How long a page of the flowing listing takes, and one of the silent.
const PAGE: Duration = Duration::from_millis(20);
const SILENCE: Duration = Duration::from_secs(600);

/// A reader that has asked for nothing in that time is gone.
const GONE: Duration = Duration::from_millis(500);

/// The tables so far and the servers of them.
pub(crate) struct Rest {
    tables: Vec<(String, String)>,
    rows: BTreeMap<String, Vec<JsonValue>>,
    server: RestServer,
    endless: Endless,
}

/// A server of listings that do not end.
struct Endless {
    url: String,
    asked: Arc<Asked>,
    _serving: Task<std::io::Result<()>>,
}

/// What the endless listings are asked.
#[derive(Default)]
struct Asked {
    n_waiting: AtomicI64,
    /// Microseconds since the epoch.
    last_us: AtomicI64,
}

/// Counts a request while it is answered.
struct Waiting(Arc<Asked>);

impl Waiting {
    fn new(asked: &Arc<Asked>) -> Self {
        asked.n_waiting.fetch_add(1, Ordering::SeqCst);
        asked.last_us.store(environment::unix_micros(), Ordering::SeqCst);
        Self(Arc::clone(asked))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.n_waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Endless {
    async fn start() -> Result<Self> {
        let asked: Arc<Asked> = Arc::default();
        let router = Router::new()
            .route("/endless", get(page))
            .route("/silent", get(silent))
            .with_state(Arc::clone(&asked));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let serving =
            environment::spawn("endless API", async move { axum::serve(listener, router).await });
        Ok(Self { url, asked, _serving: serving })
    }
}

async fn page(
    State(asked): State<Arc<Asked>>,
    Query(parameters): Query<BTreeMap<String, String>>,
) -> Json<JsonValue> {
    let _waiting = Waiting::new(&asked);
    tokio::time::sleep(PAGE).await;
    let from: u64 = parameters.get("cursor").and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
    let rows: Vec<JsonValue> = (from..from + 500).map(|n| json!({"n": n})).collect();
    Json(json!({"rows": rows, "next": (from + 500).to_string()}))
}

async fn silent(State(asked): State<Arc<Asked>>) -> Json<JsonValue> {
    let _waiting = Waiting::new(&asked);
    tokio::time::sleep(SILENCE).await;
    Json(json!({"rows": [], "next": null}))
}

impl Rest {
    pub(crate) async fn new() -> Result<Self> {
        let server = RestServer::start(BTreeMap::new()).await?;
        Ok(Self {
            tables: Vec::new(),
            rows: BTreeMap::new(),
            server,
            endless: Endless::start().await?,
        })
    }

    /// Adds a table to the manifest, and tells both clusters.
    async fn add(&mut self, doors: &mut Doors, name: &str, manifest: String) -> Result<()> {
        self.tables.push((name.to_owned(), manifest));
        doors.define(CATALOG, "rest", &self.properties()).await
    }

    fn manifest(&self, base: &str) -> Properties {
        let tables = self.tables.iter().map(|(name, table)| format!("{}: {table}", json!(name)));
        let tables = tables.collect::<Vec<_>>().join(", ");
        let manifest = format!(
            "{{connector: {{name: conformance, version: 1, base_url: \"{base}\", allow_http: true, allow_private: true, \
             allowed_hosts: []}}, retry: {{max: 1, backoff: {{base: 10ms}}}}, tables: {{{tables}}}}}"
        );
        [("manifest_inline".to_owned(), manifest)].into()
    }
}

#[async_trait]
impl Source for Rest {
    fn kind(&self) -> &'static str {
        "rest"
    }

    fn properties(&self) -> Properties {
        self.manifest(&self.server.url())
    }

    fn schema(&self) -> &'static str {
        SCHEMA
    }

    fn types(&self) -> Vec<Type> {
        vec![
            of(
                "utf8",
                "varchar",
                &[("\"Grüße 🦀\"", "Grüße 🦀"), ("\"\"", ""), ("\"NULL\"", "NULL")],
            ),
            of("int32", "integer", &[("-2147483648", "-2147483648"), ("2147483647", "2147483647")]),
            of(
                "int64",
                "bigint",
                &[
                    ("-9223372036854775808", "-9223372036854775808"),
                    ("9223372036854775807", "9223372036854775807"),
                ],
            ),
            of(
                "float64",
                "double",
                &[
                    ("0.5", "0.5"),
                    ("-1.7976931348623157e308", "-1.7976931348623157e308"),
                    ("7", "7.0"),
                ],
            ),
            of("bool", "boolean", &[("true", "true"), ("false", "false")]),
            of(
                "decimal(10,2)",
                "decimal(10,2)",
                &[("\"1234.50\"", "1234.50"), ("-12.5", "-12.50")],
            ),
            of(
                "decimal(38,0)",
                "decimal(38,0)",
                &[(
                    "\"99999999999999999999999999999999999999\"",
                    "99999999999999999999999999999999999999",
                )],
            ),
            of(
                "date",
                "date",
                &[("\"0001-01-01\"", "0001-01-01"), ("\"9999-12-31\"", "9999-12-31")],
            ),
            of(
                "timestamp_us",
                "timestamp(6)",
                &[
                    ("\"2024-02-29T12:00:00.25\"", "2024-02-29T12:00:00.250"),
                    ("\"9999-12-31T23:59:59.999999\"", "9999-12-31T23:59:59.999999"),
                ],
            ),
            of(
                "timestamp_us_utc",
                "timestamp(6) with time zone",
                &[("\"2024-02-29T12:00:00+02:00\"", "2024-02-29T10:00:00Z")],
            ),
            of(
                "json",
                "varchar",
                &[("{\"x\": [1, null]}", "{\"x\":[1,null]}"), ("\"text\"", "\"text\"")],
            ),
        ]
    }

    fn specials(&self) -> Vec<Special> {
        let becomes = ["SOURCE_VALUE_MISMATCH"];
        vec![
            special("int32", "2147483648", &becomes),
            special("int64", "\"seven\"", &becomes),
            special("int64", "1.5", &becomes),
            special("utf8", "7", &becomes),
            special("bool", "1", &becomes),
            special("decimal(10,2)", "\"1.005\"", &becomes),
            special("date", "\"2024-02-30\"", &becomes),
            special("timestamp_us", "\"noon\"", &becomes),
        ]
    }

    fn declared(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Integer => "int64",
            Kind::Text => "utf8",
            Kind::Decimal => "decimal(12,2)",
            Kind::Double => "float64",
            Kind::Truth => "bool",
            Kind::Date => "date",
            Kind::Moment => "timestamp_us",
        }
    }

    fn literal(&self, value: &Value) -> String {
        match value {
            Value::Null => "null".to_owned(),
            Value::Integer(number) => number.to_string(),
            Value::Text(text) => json!(text).to_string(),
            Value::Double(number) => (*number).to_owned(),
            Value::Truth(truth) => truth.to_string(),
            Value::Decimal(text) | Value::Date(text) => json!(text).to_string(),
            Value::Moment(text) => json!(text.replace(' ', "T")).to_string(),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            writes: Writes::No,
            n_columns: 300,
            pushed_marks: &["id=", "name="],
            n_pushed_min: 60,
            names_refused: &[],
        }
    }

    async fn make(&mut self, doors: &mut Doors, table: &Table) -> Result<()> {
        let path = format!("table{}", self.tables.len());
        let columns = table
            .columns
            .iter()
            .map(|column| format!("{}: {}", json!(column.name), json!(column.declared)));
        let columns = columns.collect::<Vec<_>>().join(", ");
        // The server compares values of these columns as SQL does.
        let rules = ["id", "name"].into_iter().filter(|_| table.name == "standard");
        let rules = rules.map(|column| {
            format!("{{column: {column}, ops: [eq], param: {column}, semantics: exact}}, ")
        });
        let manifest = format!(
            "{{list: {{path: /v1/{path}, rows: \"$.rows[*]\"}}, \
              paginate: {{type: offset, send: {{query: offset}}, page_size: {{query: limit, max: 25}}, total: $.total}}, \
              pushdown: [{}{{limit: true}}], schema: {{columns: {{{columns}}}}}}}",
            rules.collect::<String>()
        );
        let mut rows = Vec::new();
        for values in &table.rows {
            let mut row = serde_json::Map::new();
            for (column, value) in table.columns.iter().zip(values) {
                let value = value.as_deref().unwrap_or("null");
                row.insert(column.name.clone(), serde_json::from_str(value)?);
            }
            rows.push(JsonValue::Object(row));
        }
        self.rows.insert(path, rows);
        self.server = RestServer::start(self.rows.clone()).await?;
        self.add(doors, &table.name, manifest).await
    }

    fn requests(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("SELECT day FROM {t} WHERE id = 7", "/v1/table0?id=7"),
            ("SELECT id FROM {t} WHERE name = 'a b'", "name=a+b"),
            ("SELECT id FROM {t} LIMIT 3", "limit=3"),
        ]
    }

    async fn endless(&mut self, doors: &mut Doors) -> Result<Vec<String>> {
        let base = self.endless.url.clone();
        let listing = |path: &str| {
            format!(
                "{{list: {{path: /{path}, rows: \"$.rows[*]\"}}, schema: {{columns: {{n: int64}}}}, \
                 paginate: {{type: cursor, next: $.next, send: {{query: cursor}}, max_pages: 1000000}}}}"
            )
        };
        let tables = ["endless", "silent"].map(|path| (path.to_owned(), listing(path))).to_vec();
        let kept = std::mem::replace(&mut self.tables, tables);
        let properties = self.manifest(&base);
        self.tables = kept;
        doors.define("flood", "rest", &properties).await?;
        Ok(vec!["flood.api.endless".to_owned(), "flood.api.silent".to_owned()])
    }

    async fn is_read(&self, _ids: &[u32]) -> Result<Option<bool>> {
        let asked = &self.endless.asked;
        let since_us = environment::unix_micros() - asked.last_us.load(Ordering::SeqCst);
        let recent = i128::from(since_us) < i128::try_from(GONE.as_micros())?;
        Ok(Some(asked.n_waiting.load(Ordering::SeqCst) > 0 || recent))
    }

    fn away(&self) -> Result<Away, &'static str> {
        let base = format!("http://127.0.0.1:{}", free_port().unwrap());
        Ok(Away { properties: self.manifest(&base), code: "SOURCE_UNAVAILABLE" })
    }

    async fn broken(&mut self, doors: &mut Doors) -> Result<Vec<Broken>> {
        let listing = |path: &str, rows: &str, column: &str| {
            format!(
                "{{list: {{path: {path}, rows: \"{rows}\"}}, schema: {{columns: {{{column}}}}}}}"
            )
        };
        self.add(doors, "shapeless", listing("/v1/table0", "$.nothing[*]", "id: int64")).await?;
        self.add(doors, "missing", listing("/v1/missing", "$.rows[*]", "id: int64")).await?;
        self.add(doors, "mistyped", listing("/v1/table0", "$.rows[*]", "name: int64")).await?;
        let broken = |table, code, names: &str| Broken {
            relation: name_of(SCHEMA, table),
            code,
            names: names.to_owned(),
        };
        Ok(vec![
            broken("shapeless", "SOURCE_FORMAT", "/v1/table0"),
            broken("missing", "SOURCE_HTTP_ERROR", "/v1/missing"),
            broken("mistyped", "SOURCE_VALUE_MISMATCH", "\"name\""),
        ])
    }
}
