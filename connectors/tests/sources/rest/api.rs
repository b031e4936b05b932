//! The API that the tests ask: each path behaves in its own way, and all that was asked is noted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::DateTime;
use meshwork_engine::Error;
use meshwork_engine::environment::{self, Task};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::harness::Catalogs;

const N_ITEMS: u64 = 10;

/// A server on a free port, what it was asked, and a catalog `rest` over it.
pub(super) struct Api {
    pub(super) catalogs: Catalogs,
    asked: Arc<Mutex<Vec<String>>>,
    pub(super) address: SocketAddr,
    _server: Task<()>,
}

type Asked = State<Arc<Mutex<Vec<String>>>>;

impl Api {
    /// Starts the server; `tables` is the part of the manifest below `tables:`.
    pub(super) async fn new(head: &str, tables: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let router = router(Arc::clone(&asked));
        let server = environment::spawn("test API", async move {
            axum::serve(listener, router).await.unwrap();
        });
        let api = Self { catalogs: Catalogs::new(), asked, address, _server: server };
        api.define("rest", head, tables);
        api
    }

    pub(super) fn define(&self, name: &str, head: &str, tables: &str) {
        let manifest = format!(
            "connector: {{name: test, version: 1, base_url: \"{{{{config.base}}}}/v1\", \
             allow_http: true, allow_private: true}}\n{head}\ntables:\n{tables}"
        );
        let base = format!("http://{}", self.address);
        self.catalogs.define(
            name,
            "rest",
            &[
                ("manifest_inline", &manifest),
                ("config.base", &base),
                ("secret.key", "s3cr3t-value"),
            ],
        );
    }

    pub(super) async fn rows(&self, sql: &str) -> Vec<String> {
        self.catalogs.rows(sql).await
    }

    pub(super) async fn error(&self, sql: &str) -> Error {
        self.catalogs.error(sql).await
    }

    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock())
    }
}

fn router(asked: Arc<Mutex<Vec<String>>>) -> Router {
    Router::new()
        .route("/v1/cursor", get(cursor))
        .route("/v1/offset", get(offset))
        .route("/v1/page", get(page))
        .route("/v1/linked", get(linked))
        .route("/v1/next", get(next_url))
        .route("/v1/endless", get(endless))
        .route("/v1/filtered", get(filtered))
        .route("/v1/customers/{id}/orders", get(orders))
        .route("/v1/busy", get(busy))
        .route("/v1/slow", get(slow))
        .route("/v1/typed", get(typed))
        .route("/v1/exact", get(exact))
        .route("/v1/moments", get(moments))
        .route("/v1/guarded", get(guarded))
        .route("/v1/echo", get(echo))
        .route("/v1/away", get(away))
        .route("/v1/large", get(large))
        .route("/v1/broken", get(|| async { "<html>" }))
        .route("/v1/shapeless", get(|| async { json_text(&json!({"items": []})) }))
        .route("/elsewhere", get(elsewhere))
        .with_state(asked)
}

fn json_text(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn items(from: u64, count: u64) -> Vec<Value> {
    let item = |id| json!({"id": id, "name": format!("item {id}"), "even": id % 2 == 0});
    (from..(from + count).min(N_ITEMS)).map(item).collect()
}

fn param(query: &Option<String>, name: &str) -> Option<String> {
    let query = query.as_deref().unwrap_or_default();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn number(query: &Option<String>, name: &str, default: u64) -> u64 {
    param(query, name).map_or(default, |text| text.parse().unwrap())
}

fn record(asked: &Asked, path: &str, query: &Option<String>) -> usize {
    let mut asked = asked.lock();
    asked.push(format!("{path}?{}", query.as_deref().unwrap_or_default()));
    asked.len()
}

async fn cursor(asked: Asked, RawQuery(query): RawQuery) -> Response {
    record(&asked, "cursor", &query);
    let from = number(&query, "cursor", 0);
    let rows = items(from, number(&query, "limit", 3).min(3));
    let next = from + rows.len() as u64;
    let next = if next < N_ITEMS { json!(next.to_string()) } else { Value::Null };
    json_text(&json!({"data": rows, "paging": {"next": next}}))
}

/// Returns fewer rows than asked for, as real servers do.
async fn offset(asked: Asked, RawQuery(query): RawQuery) -> Response {
    record(&asked, "offset", &query);
    let rows = items(number(&query, "offset", 0), number(&query, "limit", 4).min(4));
    let total = number(&query, "claimed", N_ITEMS);
    json_text(&json!({"data": {"rows": rows}, "total": total}))
}

async fn page(asked: Asked, RawQuery(query): RawQuery) -> Response {
    record(&asked, "page", &query);
    let page = number(&query, "page", 1);
    json_text(&Value::Array(items((page - 1) * 5, 5)))
}

async fn linked(asked: Asked, RawQuery(query): RawQuery) -> Response {
    record(&asked, "linked", &query);
    let from = number(&query, "from", 0);
    let body = Value::Array(items(from, 4));
    if from + 4 >= N_ITEMS {
        return json_text(&body);
    }
    let link = format!("<linked?from={}>; rel=\"next\"", from + 4);
    ([(header::LINK, link)], body.to_string()).into_response()
}

async fn next_url(asked: Asked, RawQuery(query): RawQuery) -> Response {
    record(&asked, "next", &query);
    let from = number(&query, "from", 0);
    let next = if from == 8 { json!("") } else { json!(format!("/v1/next?from={}", from + 4)) };
    json_text(&json!({"data": items(from, 4), "next": next}))
}

async fn endless(asked: Asked, RawQuery(query): RawQuery) -> Response {
    let n_asked = record(&asked, "endless", &query);
    json_text(&json!({"data": items(0, 1), "paging": {"next": n_asked}}))
}

async fn filtered(asked: Asked, RawQuery(query): RawQuery) -> Response {
    record(&asked, "filtered", &query);
    // Knows `ids` and ignores everything else.
    let ids = param(&query, "ids");
    let wanted = |item: &Value| {
        ids.as_ref().is_none_or(|ids| {
            ids.split(',').any(|id| item["id"] == serde_json::json!(id.parse::<u64>().ok()))
        })
    };
    json_text(&Value::Array(items(0, N_ITEMS).into_iter().filter(wanted).collect()))
}

async fn orders(asked: Asked, Path(id): Path<String>) -> Response {
    record(&asked, &format!("orders of {id}"), &None);
    json_text(&json!([{"customer": id, "total": "12.50"}]))
}

async fn busy(asked: Asked, RawQuery(query): RawQuery) -> Response {
    match (record(&asked, "busy", &query), param(&query, "wait")) {
        (1 | 2, wait) => {
            let wait = wait.unwrap_or_else(|| "1".to_owned());
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, wait)]).into_response()
        }
        _ => json_text(&Value::Array(items(0, 2))),
    }
}

async fn slow(asked: Asked, RawQuery(query): RawQuery) -> Response {
    record(&asked, "slow", &query);
    tokio::time::sleep(Duration::from_secs(30)).await;
    json_text(&json!([]))
}

async fn typed(RawQuery(query): RawQuery) -> Response {
    let good = json!({
        "text": "a", "small": 1, "big": 9_007_199_254_740_993_i64, "ratio": 0.5, "yes": true,
        "money": "1234.50", "day": "2024-02-29", "local": "2024-02-29T12:00:00.25",
        "at": "2024-02-29T12:00:00+02:00", "any": {"x": [1, null]}, "deep": {"er": "found"}
    });
    let mut bad = good.clone();
    if let Some(name) = param(&query, "spoil") {
        bad[name] = json!(["unfit"]);
    }
    json_text(&json!([good, {"text": "b"}, bad]))
}

/// Numbers that a float does not hold, in an order of its own.
async fn exact(RawQuery(query): RawQuery) -> Response {
    let money = param(&query, "money").unwrap_or_else(|| "99999999.999999999999".to_owned());
    let body = format!(
        "[{{\"id\": 0, \"money\": {money}, \"any\": {{\"b\": 1.10, \"a\": 12345678901234567890123}}}}, \
         {{\"id\": 1, \"money\": 123456.123456789012, \"any\": [1.0]}}, \
         {{\"id\": 2, \"money\": -1.5e-7, \"any\": \"x\"}}, \
         {{\"id\": 3, \"money\": 1.25E+2, \"any\": null}}]"
    );
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Has times finer than a microsecond, and compares them to the last digit.
async fn moments(asked: Asked, RawQuery(query): RawQuery) -> Response {
    record(&asked, "moments", &query);
    let time = |text: &str| DateTime::parse_from_rfc3339(text).unwrap();
    let passes = |at: &str| {
        ["eq", "ge", "gt", "le", "lt"].into_iter().all(|op| {
            let Some(bound) = param(&query, op) else { return true };
            let order = time(at).cmp(&time(&bound));
            match op {
                "eq" => order.is_eq(),
                "ge" => order.is_ge(),
                "gt" => order.is_gt(),
                "le" => order.is_le(),
                _ => order.is_lt(),
            }
        })
    };
    let all = ["2024-01-01T00:00:00.0000005Z", "2024-01-01T00:00:01Z"];
    let rows = all.into_iter().enumerate().filter(|(_, at)| passes(at));
    json_text(&rows.map(|(id, at)| json!({"id": id, "at": at})).collect())
}

async fn guarded(asked: Asked, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    record(&asked, "guarded", &query);
    let text = |name: &str| {
        headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    let basic = "Basic bWU6czNjcjN0LXZhbHVl";
    let known = [
        text("authorization") == "Bearer s3cr3t-value",
        text("authorization") == basic,
        text("x-key") == "s3cr3t-value",
        param(&query, "api_key").as_deref() == Some("s3cr3t-value"),
    ];
    match known.contains(&true) {
        true => json_text(&Value::Array(items(0, 1))),
        false => StatusCode::UNAUTHORIZED.into_response(),
    }
}

/// Redirects to the same server under another name.
async fn away(headers: HeaderMap) -> Response {
    let host = headers[header::HOST].to_str().unwrap().replace("127.0.0.1", "localhost");
    (StatusCode::FOUND, [(header::LOCATION, format!("http://{host}/elsewhere"))]).into_response()
}

/// Names a next page on another host, with the key that it was asked with.
async fn echo(asked: Asked, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    let host = headers[header::HOST].to_str().unwrap();
    record(&asked, host.split(':').next().unwrap(), &query);
    let key = param(&query, "api_key").unwrap_or_default();
    let to = param(&query, "to").unwrap_or_else(|| "v1/echo".to_owned());
    let next = host.starts_with("127").then(|| {
        format!("http://{}/{to}?api_key={key}&from=5", host.replace("127.0.0.1", "localhost"))
    });
    json_text(&json!({"data": items(number(&query, "from", 0), 5), "next": next}))
}

async fn elsewhere(asked: Asked, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    record(&asked, "elsewhere", &query);
    let carried = headers.contains_key("authorization") || headers.contains_key("x-key");
    json_text(&json!([{"id": 1, "name": if carried { "leaked" } else { "clean" }}]))
}

async fn large() -> Response {
    json_text(&json!([{"id": 1, "name": "x".repeat(200_000)}]))
}
