//! What is remembered of the names in catalogs, so that listings ask a source once for a while.
//!
//! It serves what lists (`SHOW`, `information_schema`, drivers that draw a tree) and the search for a name that a source
//! spells otherwise. A query never computes with it: the columns of its tables are asked anew for each query, under
//! the snapshot that it reads, and so is a name that is not remembered.
//!
//! ```text
//! Remembered ── one Names per catalog ── schemas, tables, columns ── each a Recent
//! ```
//! A [`Names`] goes as a whole: when its catalog gets another connector, when a statement of ours makes or drops something
//! in it, and when a user says so. What a source answers after that to an older question is kept by nobody.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use meshwork_engine::Result;
use meshwork_engine::catalog::CatalogRegistry;
use meshwork_engine::connector::{Connector, ReadVersion, TableEntry};
use meshwork_engine::environment::{instant, io_runtime, spawn_on};
use meshwork_engine::scope::QueryScope;
use parking_lot::Mutex;

/// Names that are remembered of one catalog in each of three ways: of schemas, of tables, of columns. Some 100 bytes each.
const N_NAMES_MAX: usize = 500_000;

/// How old an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// As old as the catalog's `metadata_freshness` says.
    Remembered,
    /// Asked now.
    New,
}

/// The names of all catalogs of a coordinator.
#[derive(Debug)]
pub(super) struct Remembered {
    catalogs: Arc<CatalogRegistry>,
    names: Mutex<BTreeMap<String, Arc<Names>>>,
}

impl Remembered {
    pub(super) fn new(catalogs: Arc<CatalogRegistry>) -> Self {
        Self { catalogs, names: Mutex::default() }
    }

    /// Returns the names of a catalog, with nothing in them if it is another one than before.
    ///
    /// # Errors
    /// `User` when there is no such catalog, or it has no connector.
    pub(super) fn of(&self, catalog: &str) -> Result<Arc<Names>> {
        let configured = self.catalogs.configured(catalog)?;
        let mut names = self.names.lock();
        match names.get(catalog) {
            Some(kept) if Arc::ptr_eq(&kept.connector, &configured.connector) => {
                Ok(Arc::clone(kept))
            }
            _ => {
                let freshness = configured.metadata_freshness;
                let new = Arc::new(Names {
                    connector: configured.connector,
                    schemas: Recent::new(freshness, |names| names.len()),
                    tables: Recent::new(freshness, |entries| entries.len()),
                    columns: Recent::new(freshness, |columns| columns.fields().len()),
                });
                names.insert(catalog.to_owned(), Arc::clone(&new));
                Ok(new)
            }
        }
    }

    /// Forgets what is remembered of a catalog.
    pub(super) fn forget(&self, catalog: &str) {
        self.names.lock().remove(catalog);
    }

    /// Forgets everything.
    pub(super) fn forget_all(&self) {
        self.names.lock().clear();
    }
}

/// What is remembered of one catalog.
#[derive(Debug)]
pub(super) struct Names {
    connector: Arc<dyn Connector>,
    schemas: Recent<(), Arc<Vec<String>>>,
    tables: Recent<String, Arc<Vec<TableEntry>>>,
    columns: Recent<(String, String), SchemaRef>,
}

impl Names {
    /// Returns the names of all schemas, sorted.
    ///
    /// # Errors
    /// `Source` when the source cannot be asked.
    pub(super) async fn schemas(&self, age: Age) -> Result<Arc<Vec<String>>> {
        let connector = Arc::clone(&self.connector);
        let ask = async move { connector.schema_names().await.map(Arc::new) };
        self.schemas.get((), age, ask.boxed()).await
    }

    /// Returns the tables of a schema, sorted by name; none if there is no such schema.
    ///
    /// # Errors
    /// `Source` when the source cannot be asked.
    pub(super) async fn tables(&self, schema: &str, age: Age) -> Result<Arc<Vec<TableEntry>>> {
        let (connector, key) = (Arc::clone(&self.connector), schema.to_owned());
        let name = key.clone();
        let ask = async move { connector.tables(&name).await.map(Arc::new) };
        self.tables.get(key, age, ask.boxed()).await
    }

    /// Returns the columns of a table; none if there is no such table.
    ///
    /// # Errors
    /// `Source` when the source cannot be asked.
    pub(super) async fn columns(
        &self,
        schema: &str,
        table: &str,
        scope: &Arc<QueryScope>,
    ) -> Result<SchemaRef> {
        let key = (schema.to_owned(), table.to_owned());
        let (connector, scope) = (Arc::clone(&self.connector), Arc::clone(scope));
        let (schema, table) = key.clone();
        let ask = async move {
            let found = connector.table(&schema, &table, ReadVersion::Committed, &scope).await?;
            Ok(found.map_or_else(|| Arc::new(Schema::empty()), |table| table.schema()))
        };
        self.columns.get(key, Age::Remembered, ask.boxed()).await
    }
}

/// Answers of a source to questions of one kind, each as long as it is fresh.
struct Recent<K, V> {
    freshness: Duration,
    /// How many names an answer holds. One without any is not kept: what is missing may be there the next moment.
    n_names: fn(&V) -> usize,
    state: Arc<Mutex<State<K, V>>>,
}

struct State<K, V> {
    kept: BTreeMap<K, Kept<V>>,
    n_names: usize,
    /// Questions that are under way; who asks the same meanwhile waits for the same answer.
    asked: BTreeMap<K, Shared<BoxFuture<'static, Result<V>>>>,
}

struct Kept<V> {
    /// When it was asked for: the source may have changed since.
    since: Instant,
    n_names: usize,
    answer: V,
}

impl<K, V> Recent<K, V>
where
    K: Ord + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn new(freshness: Duration, n_names: fn(&V) -> usize) -> Self {
        let state = State { kept: BTreeMap::new(), n_names: 0, asked: BTreeMap::new() };
        Self { freshness, n_names, state: Arc::new(Mutex::new(state)) }
    }

    /// Returns a kept answer that is young enough, or what `ask` returns.
    async fn get(&self, key: K, age: Age, ask: BoxFuture<'static, Result<V>>) -> Result<V> {
        if self.freshness.is_zero() {
            return ask.await;
        }
        if age == Age::New {
            let since = instant();
            let answer = ask.await?;
            self.state.lock().keep(key, since, self.freshness, (self.n_names)(&answer), &answer);
            return Ok(answer);
        }
        let asked = {
            let mut state = self.state.lock();
            if let Some(kept) = state.kept.get(&key)
                && kept.since.elapsed() < self.freshness
            {
                return Ok(kept.answer.clone());
            }
            match state.asked.get(&key) {
                Some(asked) => asked.clone(),
                None => {
                    let asked = self.ask(key.clone(), ask);
                    state.asked.insert(key.clone(), asked.clone());
                    asked
                }
            }
        };
        let answer = asked.await;
        if answer.is_err() {
            // Who comes later asks anew, also where the task died and could not say so itself.
            self.state.lock().asked.remove(&key);
        }
        answer
    }

    /// Asks in a task of its own: the answer is there for all who wait, whoever of them goes away.
    fn ask(
        &self,
        key: K,
        ask: BoxFuture<'static, Result<V>>,
    ) -> Shared<BoxFuture<'static, Result<V>>> {
        let (state, freshness, n_names) = (Arc::clone(&self.state), self.freshness, self.n_names);
        let since = instant();
        let task = spawn_on(&io_runtime(), "metadata", async move {
            let answer = ask.await;
            let mut state = state.lock();
            state.asked.remove(&key);
            if let Ok(answer) = &answer {
                state.keep(key, since, freshness, n_names(answer), answer);
            }
            answer
        });
        task.map(Result::flatten).boxed().shared()
    }
}

impl<K: Ord, V: Clone> State<K, V> {
    fn keep(&mut self, key: K, since: Instant, freshness: Duration, n_names: usize, answer: &V) {
        if self.kept.get(&key).is_some_and(|kept| kept.since > since) {
            return;
        }
        self.n_names -= self.kept.remove(&key).map_or(0, |kept| kept.n_names);
        if n_names == 0 {
            return;
        }
        if self.n_names + n_names > N_NAMES_MAX {
            self.kept.retain(|_key, kept| kept.since.elapsed() < freshness);
            self.n_names = self.kept.values().map(|kept| kept.n_names).sum();
        }
        if self.n_names + n_names > N_NAMES_MAX {
            // What is asked more often than this is asked anew.
            self.kept.clear();
            self.n_names = 0;
        }
        if n_names <= N_NAMES_MAX {
            self.n_names += n_names;
            self.kept.insert(key, Kept { since, n_names, answer: answer.clone() });
        }
    }
}

impl<K, V> fmt::Debug for Recent<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recent")
            .field("n_names", &self.state.lock().n_names)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use meshwork_engine::Error;

    use super::*;

    type Answers = Recent<u32, Arc<Vec<u32>>>;

    fn answers(freshness: Duration) -> Answers {
        Recent::new(freshness, |names| names.len())
    }

    /// Asks for as many names; returns how many there are and counts the question.
    async fn ask(recent: &Answers, age: Age, n_names: usize, n_asked: &Arc<AtomicUsize>) -> usize {
        let n_asked = Arc::clone(n_asked);
        let ask = async move {
            tokio::task::yield_now().await;
            n_asked.fetch_add(1, Ordering::Relaxed);
            Ok(Arc::new(vec![0; n_names]))
        };
        recent.get(1, age, ask.boxed()).await.unwrap().len()
    }

    #[tokio::test]
    async fn many_who_ask_at_once_ask_once() {
        let (recent, n_asked) = (answers(Duration::from_secs(3600)), Arc::default());
        let all = (0..50).map(|_n| ask(&recent, Age::Remembered, 2, &n_asked));
        assert_eq!(futures::future::join_all(all).await, vec![2; 50]);
        assert_eq!(n_asked.load(Ordering::Relaxed), 1);
        assert_eq!(ask(&recent, Age::New, 3, &n_asked).await, 3);
        assert_eq!(ask(&recent, Age::Remembered, 9, &n_asked).await, 3);
        assert_eq!(n_asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn what_is_missing_or_may_not_be_kept_is_asked_again() {
        for (freshness, n_names) in [(Duration::from_secs(3600), 0), (Duration::ZERO, 2)] {
            let (recent, n_asked) = (answers(freshness), Arc::default());
            for _again in 0..3 {
                ask(&recent, Age::Remembered, n_names, &n_asked).await;
            }
            assert_eq!(n_asked.load(Ordering::Relaxed), 3);
        }
    }

    #[tokio::test]
    async fn an_error_is_kept_for_nobody() {
        let recent = answers(Duration::from_secs(3600));
        let failed = async { Err(Error::source("SOURCE_UNAVAILABLE", "away")) };
        assert!(recent.get(1, Age::Remembered, failed.boxed()).await.is_err());
        assert_eq!(ask(&recent, Age::Remembered, 4, &Arc::default()).await, 4);
    }

    #[tokio::test]
    async fn what_is_kept_has_a_bound() {
        let (recent, n_asked) = (answers(Duration::from_secs(3600)), Arc::default());
        for key in 0..5 {
            let many = async { Ok(Arc::new(vec![0; N_NAMES_MAX / 2])) };
            recent.get(key, Age::Remembered, many.boxed()).await.unwrap();
            assert!(recent.state.lock().n_names <= N_NAMES_MAX);
        }
        assert_eq!(ask(&recent, Age::New, N_NAMES_MAX + 1, &n_asked).await, N_NAMES_MAX + 1);
        assert!(recent.state.lock().n_names <= N_NAMES_MAX);
    }
}
