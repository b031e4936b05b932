//! One listing: page after page until the source says that this was all, or an error.
//!
//! Ending early without an error is the one thing that must not happen here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use meshwork_engine::remote::RemoteScan;
use meshwork_engine::{Error, Result, environment};
use serde_json::Value;
use serde_json::value::RawValue;
use url::Url;

use super::columns::{self, Column};
use super::http::{Answer, Http, with_query};
use super::json_path::{JsonPath, Place};
use super::manifest::StopKind;
use super::pushdown::{Binding, bindings};
use super::spec::{Paging, Table, Target};

/// A listing in progress.
#[derive(Debug)]
pub(super) struct Listing {
    http: Arc<Http>,
    scan: Arc<RemoteScan>,
    schema: SchemaRef,
    batch_size: usize,
    deadline: Instant,
    next: Option<Url>,
    /// Position of the page behind the current one, for listings that count.
    position: u64,
    page_size: Option<u64>,
    n_pages: u64,
    n_rows: u64,
    n_rows_left: usize,
    rows: VecDeque<Box<RawValue>>,
}

/// What a page says about the listing.
#[derive(Debug)]
struct Marks {
    next: Option<String>,
    total: Option<u64>,
}

impl Listing {
    pub(super) fn new(http: Arc<Http>, scan: RemoteScan, batch_size: usize) -> Result<Self> {
        let table = table_of(&http, &scan)?;
        let deadline = environment::instant() + http.api.limits.total_timeout;
        let next = first_url(&http.api.base, table, &scan)?;
        let (page_size, position) = (page_size(table, &scan), first_position(table));
        Ok(Self {
            schema: scan.output_schema(),
            next: Some(next),
            position,
            page_size,
            batch_size: batch_size.max(1),
            deadline,
            n_pages: 0,
            n_rows: 0,
            n_rows_left: scan.limit.unwrap_or(usize::MAX),
            rows: VecDeque::new(),
            http,
            scan: Arc::new(scan),
        })
    }

    /// Returns the next batch; `None` when the listing is complete.
    pub(super) async fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        while self.rows.is_empty() && self.n_rows_left > 0 {
            let Some(url) = self.next.take() else { return Ok(None) };
            self.fetch(&url).await?;
        }
        let n_rows = self.rows.len().min(self.batch_size).min(self.n_rows_left);
        if n_rows == 0 {
            return Ok(None);
        }
        self.n_rows_left -= n_rows;
        let rows: Vec<Box<RawValue>> = self.rows.drain(..n_rows).collect();
        let table = table_of(&self.http, &self.scan)?;
        let columns: Vec<&Column> =
            self.scan.projection.iter().filter_map(|index| table.columns.get(*index)).collect();
        columns::batch(&columns, &self.schema, &rows, &self.scan.display_name()).map(Some)
    }

    async fn fetch(&mut self, url: &Url) -> Result<()> {
        let http = Arc::clone(&self.http);
        let table = table_of(&http, &self.scan)?;
        if self.n_pages >= table.max_pages {
            return Err(self.truncated(&format!("it has more than {} pages", table.max_pages)));
        }
        let answer = http.get(url, &table.headers, self.deadline).await?;
        let marks = self.marks(table, &answer)?;
        let rows = table
            .rows
            .all(&answer.body)
            .ok_or_else(|| self.unusable(url, &format!("has no list of rows at {}", table.rows)))?;
        if rows.iter().any(|row| !row.get().starts_with('{')) {
            return Err(self.unusable(url, "has a row that is no object"));
        }
        self.n_pages += 1;
        self.n_rows += rows.len() as u64;
        self.rows = rows.iter().map(|row| (*row).to_owned()).collect();
        if self.rows.len() >= self.n_rows_left {
            // The limit is reached: what else the source has is nobody's question.
            return Ok(());
        }
        self.next = self.following(table, url, &answer.url, &marks, rows.len() as u64)?;
        if let (None, Some(total)) = (&self.next, marks.total)
            && self.n_rows < total
        {
            let n_rows = self.n_rows;
            return Err(self.truncated(&format!("it ended after {n_rows} of {total} rows")));
        }
        Ok(())
    }

    fn marks(&self, table: &Table, answer: &Answer) -> Result<Marks> {
        let next = match &table.paging {
            Paging::Cursor { next, .. } | Paging::NextUrl { next } => self.mark(next, answer)?,
            Paging::LinkHeader | Paging::None => answer.link_next.clone(),
            Paging::Offset { .. } | Paging::Page { .. } => None,
        };
        let total = match &table.total {
            None => None,
            Some(path) => {
                let count = match path.one(&answer.body) {
                    Ok(Place::Value(value)) => value.get().parse().ok(),
                    Ok(Place::Missing) | Err(_) => None,
                };
                let what = || format!("has no count of rows at {path}");
                Some(count.ok_or_else(|| self.unusable(&answer.url, &what()))?)
            }
        };
        Ok(Marks { next, total })
    }

    /// Reads where the listing goes on; nothing, null, false and the empty text mean that it does not.
    fn mark(&self, path: &JsonPath, answer: &Answer) -> Result<Option<String>> {
        let unreadable = |e| self.unusable(&answer.url, "cannot be read").caused_by(&e);
        let Place::Value(text) = path.one(&answer.body).map_err(unreadable)? else {
            return Ok(None);
        };
        match serde_json::from_str(text.get()).map_err(unreadable)? {
            Value::Null | Value::Bool(false) => Ok(None),
            Value::String(text) if text.is_empty() => Ok(None),
            Value::String(text) => Ok(Some(text)),
            // As it was sent: a cursor may have more digits than a number here.
            Value::Number(_) => Ok(Some(text.get().to_owned())),
            Value::Bool(true) | Value::Array(_) | Value::Object(_) => {
                Err(self.unusable(&answer.url, &format!("has neither text nor number at {path}")))
            }
        }
    }

    fn following(
        &mut self,
        table: &Table,
        asked: &Url,
        answered: &Url,
        marks: &Marks,
        n_rows: u64,
    ) -> Result<Option<Url>> {
        let next = match (&table.paging, &marks.next) {
            (Paging::None, None) => return Ok(None),
            (Paging::None, Some(_)) => {
                let why = "its answer links to a next page, and the manifest does not say how to ask for it";
                return Err(self.truncated(why));
            }
            (Paging::Cursor { .. } | Paging::NextUrl { .. } | Paging::LinkHeader, None) => {
                return Ok(None);
            }
            (Paging::Cursor { param, .. }, Some(cursor)) => with_query(asked, param, cursor),
            (Paging::NextUrl { .. } | Paging::LinkHeader, Some(link)) => answered
                .join(link)
                .map_err(|e| self.unusable(asked, "links to what is no URL").caused_by(&e))?,
            (Paging::Offset { param, stop, .. }, _) => {
                if self.has_ended(*stop, marks, n_rows) {
                    return Ok(None);
                }
                self.position += n_rows;
                with_query(asked, param, &self.position.to_string())
            }
            (Paging::Page { param, stop, .. }, _) => {
                if self.has_ended(*stop, marks, n_rows) {
                    return Ok(None);
                }
                self.position += 1;
                with_query(asked, param, &self.position.to_string())
            }
        };
        if next == *asked {
            return Err(self.truncated("a page names itself as the next one"));
        }
        Ok(Some(next))
    }

    fn has_ended(&self, stop: StopKind, marks: &Marks, n_rows: u64) -> bool {
        if let Some(total) = marks.total {
            return n_rows == 0 || self.n_rows >= total;
        }
        match (stop, self.page_size) {
            (StopKind::Short, Some(asked)) => n_rows < asked,
            (StopKind::Short | StopKind::Empty | StopKind::Missing, _) => n_rows == 0,
        }
    }

    fn truncated(&self, why: &str) -> Error {
        let name = self.scan.display_name();
        let what = format!("the listing of table \"{name}\" could not be read to its end: {why}");
        Error::source("SOURCE_TRUNCATED", what)
            .with_hint("A part of the rows is no answer; filter more, or change the manifest.")
    }

    fn unusable(&self, url: &Url, why: &str) -> Error {
        let what = format!("the answer to {} {why}", self.http.shown(url));
        self.http.named(Error::source("SOURCE_FORMAT", what))
    }
}

/// Returns the manifest's table of a scan.
pub(super) fn table_of<'a>(http: &'a Http, scan: &RemoteScan) -> Result<&'a Table> {
    http.api.tables.get(&scan.table).ok_or_else(|| {
        let name = scan.display_name();
        Error::user("TABLE_NOT_FOUND", format!("table \"{name}\" is not in this node's manifest"))
    })
}

fn page_size(table: &Table, scan: &RemoteScan) -> Option<u64> {
    let max = table.page_size.as_ref()?.max;
    let limit = scan.limit.and_then(|limit| u64::try_from(limit).ok());
    Some(limit.map_or(max, |limit| limit.clamp(1, max)))
}

fn first_position(table: &Table) -> u64 {
    match &table.paging {
        Paging::Offset { first, .. } | Paging::Page { first, .. } => *first,
        Paging::None | Paging::Cursor { .. } | Paging::NextUrl { .. } | Paging::LinkHeader => 0,
    }
}

/// Returns the URL of the first page, without credentials.
pub(super) fn first_url(base: &Url, table: &Table, scan: &RemoteScan) -> Result<Url> {
    let bindings = bindings(table, scan);
    let mut url = base.clone();
    {
        let mut segments = url
            .path_segments_mut()
            .map_err(|()| Error::internal("the base URL of an API takes no path"))?;
        segments.pop_if_empty();
        for segment in table.path.split('/').skip(1) {
            segments.push(&filled(segment, &bindings)?);
        }
    }
    let mut params: Vec<(&str, String)> = Vec::new();
    for binding in &bindings {
        if let Target::Query(name) = &binding.target {
            params.push((name, binding.value.clone()));
        }
    }
    let is_bound = |name: &str| {
        bindings.iter().any(|binding| binding.target == Target::Query(name.to_owned()))
    };
    let fixed = table.params.iter().filter(|(name, _value)| !is_bound(name));
    let mut all: Vec<(&str, String)> =
        fixed.map(|(name, value)| (name.as_str(), value.clone())).collect();
    all.append(&mut params);
    if let (Some(part), Some(size)) = (&table.page_size, page_size(table, scan)) {
        all.push((&part.param, size.to_string()));
    }
    if let Paging::Offset { param, first, .. } | Paging::Page { param, first, .. } = &table.paging {
        all.push((param, first.to_string()));
    }
    if !all.is_empty() {
        url.query_pairs_mut().extend_pairs(all);
    }
    Ok(url)
}

/// Fills `{{filter.x}}` once: a value that looks like a template stays what it is.
fn filled(segment: &str, bindings: &[Binding]) -> Result<String> {
    let mut filled = String::new();
    let mut rest = segment;
    while let Some((before, after)) = rest.split_once("{{filter.") {
        let Some((name, behind)) = after.split_once("}}") else { break };
        let is_it = |binding: &&Binding| binding.target == Target::Path(name.to_owned());
        filled.push_str(before);
        match bindings.iter().find(is_it) {
            Some(binding) => filled.push_str(path_value(&binding.value)?),
            // Only EXPLAIN shows a scan that lacks a required filter.
            None => filled.push_str(&format!("{{{{filter.{name}}}}}")),
        }
        rest = behind;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// A value becomes one part of a path, percent-encoded; one that would be another path is refused.
fn path_value(value: &str) -> Result<&str> {
    match value {
        "" | "." | ".." => {
            Err(Error::user("FILTER_VALUE", format!("value \"{value}\" cannot stand in a path")))
        }
        _ => Ok(value),
    }
}
