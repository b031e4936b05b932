//! A small REST API over rows held in memory: a source for the demo and the tests.
//!
//! ```text
//! GET /v1/<table>?offset=0&limit=10   ->   {"rows": [{...}, ...], "next_offset": 10, "total": 25}
//! GET /v1/<table>?<column>=<value>         only rows with that value
//! ```
//! `next_offset` is null on the last page. Listens on the loopback interface only.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::json::ArrayWriter;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use meshwork_engine::environment::{self, Task};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The most rows of one page, whatever the client asks for.
const PAGE_ROWS_MAX: usize = 1000;
const PAGE_ROWS_DEFAULT: usize = 10;

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct RestServer {
    address: SocketAddr,
    tables: Arc<Tables>,
    _serving: Task<std::io::Result<()>>,
}

/// The rows of each table, and how many pages were asked for.
#[derive(Debug)]
struct Tables {
    rows: BTreeMap<String, Vec<Value>>,
    n_requests: AtomicU64,
}

impl RestServer {
    /// Serves the tables on a free port.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(rows: BTreeMap<String, Vec<Value>>) -> Result<Self> {
        let tables = Arc::new(Tables { rows, n_requests: AtomicU64::new(0) });
        let router = Router::new().route("/v1/{table}", get(page)).with_state(Arc::clone(&tables));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let serving =
            environment::spawn("rest source", async move { axum::serve(listener, router).await });
        Ok(Self { address, tables, _serving: serving })
    }

    /// The address that paths are appended to, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many pages were asked for so far.
    pub fn n_requests(&self) -> u64 {
        self.tables.n_requests.load(Ordering::Relaxed)
    }
}

/// Returns the rows of batches as JSON objects.
///
/// # Errors
/// When a value has no form in JSON.
pub fn rows_of(batches: &[RecordBatch]) -> Result<Vec<Value>> {
    let mut text = Vec::new();
    let mut writer = ArrayWriter::new(&mut text);
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    drop(writer);
    Ok(serde_json::from_slice(&text)?)
}

async fn page(
    State(tables): State<Arc<Tables>>,
    Path(table): Path<String>,
    Query(parameters): Query<BTreeMap<String, String>>,
) -> Result<Json<Value>, (StatusCode, String)> {
    tables.n_requests.fetch_add(1, Ordering::Relaxed);
    let Some(rows) = tables.rows.get(&table) else {
        return Err((StatusCode::NOT_FOUND, format!("there is no {table}")));
    };
    let number = |name: &str, default: usize| match parameters.get(name) {
        None => Ok(default),
        Some(text) => text
            .parse::<usize>()
            .map_err(|_unreadable| (StatusCode::BAD_REQUEST, format!("{name} is not a number"))),
    };
    let offset = number("offset", 0)?;
    let limit = number("limit", PAGE_ROWS_DEFAULT)?.clamp(1, PAGE_ROWS_MAX);
    let wanted: Vec<&Value> = rows.iter().filter(|row| fits(row, &parameters)).collect();
    let end = wanted.len().min(offset.saturating_add(limit));
    let shown = wanted.get(offset..end).unwrap_or_default();
    let next_offset = (end < wanted.len()).then_some(end);
    Ok(Json(json!({ "rows": shown, "next_offset": next_offset, "total": wanted.len() })))
}

/// Whether the row has all values that the parameters name.
fn fits(row: &Value, parameters: &BTreeMap<String, String>) -> bool {
    parameters.iter().filter(|(name, _)| *name != "offset" && *name != "limit").all(
        |(name, wanted)| match row.get(name) {
            Some(Value::String(text)) => text == wanted,
            Some(value) => {
                serde_json::from_str::<Value>(wanted).is_ok_and(|wanted| wanted == *value)
            }
            None => false,
        },
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::fits;

    #[test]
    fn parameters_choose_rows_by_value() {
        let row = json!({"id": 7, "name": "seven"});
        let with = |name: &str, value: &str| {
            BTreeMap::from([(name.to_owned(), value.to_owned()), ("limit".into(), "3".into())])
        };
        assert!(fits(&row, &with("id", "7")));
        assert!(fits(&row, &with("name", "seven")));
        assert!(!fits(&row, &with("id", "8")));
        assert!(!fits(&row, &with("other", "7")));
    }
}
