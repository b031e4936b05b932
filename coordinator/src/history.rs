//! What runs and what ran: the states of queries, for `system.runtime.queries`, progress and cancellation.
//!
//! Kept in memory, bounded; a coordinator that restarts forgets it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use meshwork_engine::{Error, environment};
use parking_lot::Mutex;
use rand::Rng;
use tokio_util::sync::CancellationToken;

use crate::frontend::sql_text::without_properties;

/// Ended queries that are remembered.
const ENDED_MAX: usize = 1_000;

/// Characters of a statement that are remembered.
const SQL_CHARS_MAX: usize = 10_000;

/// Where a query is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryState {
    /// Being parsed, resolved and planned.
    Planning,
    /// Rows are being computed or fetched.
    Running,
    /// All rows have been fetched.
    Finished,
    /// It ended with an error.
    Failed,
    /// Somebody cancelled it, or its client went away.
    Cancelled,
}

impl QueryState {
    /// The state as users see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Planning => "PLANNING",
            Self::Running => "RUNNING",
            Self::Finished => "FINISHED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

/// One query, from its first moment to long after its end.
#[derive(Debug)]
pub struct QueryRecord {
    /// The id that users, logs and workers know it by.
    pub id: String,
    /// Who runs it.
    pub user: String,
    /// Its text, without the properties of a catalog, cut at 10,000 characters.
    pub sql: String,
    /// When it came in, microseconds since the Unix epoch.
    pub created_us: i64,
    /// Ends it.
    pub cancel: CancellationToken,
    started: Instant,
    rows: AtomicU64,
    n_tasks: AtomicU64,
    n_stages: AtomicU64,
    end: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    state: QueryState,
    elapsed_ms: Option<u64>,
    error: Option<Error>,
}

/// A query at one moment.
#[derive(Debug, Clone)]
pub struct ProgressSnapshot {
    /// Where it is.
    pub state: QueryState,
    /// Rows that went to the client so far.
    pub rows: u64,
    /// Stages of its plan.
    pub n_stages: u64,
    /// Tasks of its plan.
    pub n_tasks: u64,
    /// Since it came in; until its end, if it has ended.
    pub elapsed_ms: u64,
    /// Why it failed.
    pub error: Option<Error>,
}

impl QueryRecord {
    /// The query now.
    pub fn progress(&self) -> ProgressSnapshot {
        let end = self.end.lock();
        ProgressSnapshot {
            state: end.state,
            rows: self.rows.load(Ordering::Relaxed),
            n_stages: self.n_stages.load(Ordering::Relaxed),
            n_tasks: self.n_tasks.load(Ordering::Relaxed),
            elapsed_ms: end.elapsed_ms.unwrap_or_else(|| self.elapsed_ms()),
            error: end.error.clone(),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn running(&self, n_stages: usize, n_tasks: usize) {
        self.n_stages.store(n_stages as u64, Ordering::Relaxed);
        self.n_tasks.store(n_tasks as u64, Ordering::Relaxed);
        self.end.lock().state = QueryState::Running;
    }

    pub(crate) fn add_rows(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Ends the query; only the first end counts.
    fn ended(&self, state: QueryState, error: Option<Error>) -> bool {
        let mut end = self.end.lock();
        if end.elapsed_ms.is_some() {
            return false;
        }
        *end = Progress { state, elapsed_ms: Some(self.elapsed_ms()), error };
        true
    }
}

/// All queries of this coordinator.
#[derive(Debug, Default)]
pub struct History {
    running: Mutex<BTreeMap<String, Arc<QueryRecord>>>,
    ended: Mutex<VecDeque<Arc<QueryRecord>>>,
    n_queries: AtomicU64,
}

impl History {
    /// Enters a new query.
    pub(crate) fn begin(&self, id: String, user: &str, sql: &str) -> Arc<QueryRecord> {
        let record = Arc::new(QueryRecord {
            id,
            user: user.to_owned(),
            sql: without_properties(sql).chars().take(SQL_CHARS_MAX).collect(),
            created_us: environment::unix_micros(),
            cancel: CancellationToken::new(),
            started: environment::instant(),
            rows: AtomicU64::new(0),
            n_tasks: AtomicU64::new(0),
            n_stages: AtomicU64::new(0),
            end: Mutex::new(Progress {
                state: QueryState::Planning,
                elapsed_ms: None,
                error: None,
            }),
        });
        self.running.lock().insert(record.id.clone(), Arc::clone(&record));
        record
    }

    /// Ends a query: `None` means that all its rows were fetched.
    pub(crate) fn end(&self, record: &Arc<QueryRecord>, error: Option<Error>) {
        use meshwork_engine::ErrorKind;
        let state = match error.as_ref().map(|error| error.kind) {
            None => QueryState::Finished,
            Some(ErrorKind::Cancelled) => QueryState::Cancelled,
            Some(
                ErrorKind::User | ErrorKind::Source | ErrorKind::Resources | ErrorKind::Internal,
            ) => QueryState::Failed,
        };
        if !record.ended(state, error) {
            return;
        }
        self.running.lock().remove(&record.id);
        let mut ended = self.ended.lock();
        if ended.len() == ENDED_MAX {
            ended.pop_front();
        }
        ended.push_back(Arc::clone(record));
    }

    /// Returns a query that runs, or that ended not long ago.
    pub fn get(&self, id: &str) -> Option<Arc<QueryRecord>> {
        let running = self.running.lock().get(id).cloned();
        running.or_else(|| self.ended.lock().iter().rev().find(|record| record.id == id).cloned())
    }

    /// Returns all remembered queries, oldest first.
    pub fn all(&self) -> Vec<Arc<QueryRecord>> {
        let mut all: Vec<_> = self.ended.lock().iter().cloned().collect();
        all.extend(self.running.lock().values().cloned());
        all.sort_by(|a, b| (a.created_us, &a.id).cmp(&(b.created_us, &b.id)));
        all
    }

    /// Ids sort by time and differ between coordinators: `20261120_093001_00042_k3x9q`.
    pub(crate) fn next_id(&self) -> String {
        let now = chrono::DateTime::from_timestamp_micros(environment::unix_micros());
        let time = now.unwrap_or_default().format("%Y%m%d_%H%M%S");
        let number = self.n_queries.fetch_add(1, Ordering::Relaxed) % 100_000;
        let letters = b"abcdefghijkmnpqrstuvwxyz23456789";
        let mut random = rand::rng();
        let suffix: String =
            (0..5).map(|_| char::from(letters[random.random_range(0..letters.len())])).collect();
        format!("{time}_{number:05}_{suffix}")
    }
}
