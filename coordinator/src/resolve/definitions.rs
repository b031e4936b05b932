//! Catalogs and views that statements defined: a log of small records in the object-store root.
//!
//! Record `n` is the object `definitions/<n>.json`, created only if it is absent; the state is the fold of all
//! records in order. Two coordinators that define at the same moment race for one number: the loser reads the
//! winner's record and tries the next. Nothing is ever overwritten.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::object_store::path::Path;
use datafusion::object_store::{
    Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use meshwork_engine::catalog::CatalogDefinition;
use meshwork_engine::environment::within;
use meshwork_engine::{Error, Result};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use ulid::Ulid;

use crate::session::Snapshot;

/// How often a record is tried again because others took its number.
const ATTEMPTS_MAX: usize = 100;

/// How long one request to the object store may take.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// A stored query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Where it is.
    pub catalog: String,
    /// Where it is.
    pub schema: String,
    /// What it is called.
    pub name: String,
    /// Its query.
    pub sql: String,
    /// The catalog of names without one in its query.
    pub default_catalog: Option<String>,
    /// The schema of names without one in its query.
    pub default_schema: Option<String>,
    /// Who defined it.
    pub owner: String,
}

impl View {
    /// Returns the session with the names that the view's query was written for.
    pub(crate) fn session(&self, session: &Snapshot) -> Snapshot {
        let mut session = session.clone();
        session.catalog.clone_from(&self.default_catalog);
        session.schema.clone_from(&self.default_schema);
        session
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Change {
    PutCatalog(CatalogDefinition),
    DropCatalog { name: String },
    PutView(View),
    DropView { catalog: String, schema: String, name: String },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    /// Tells a writer whether the record at its number is its own, whatever the store answered.
    id: String,
    change: Change,
}

#[derive(Debug, Default, Clone)]
struct State {
    next: u64,
    catalogs: BTreeMap<String, CatalogDefinition>,
    views: BTreeMap<(String, String, String), View>,
}

/// The definitions under one root.
#[derive(Debug)]
pub struct Definitions {
    store: Arc<dyn ObjectStore>,
    state: RwLock<State>,
    /// One reader or writer of the log at a time in this process.
    turn: Mutex<()>,
}

impl Definitions {
    /// Reads the log from its beginning.
    ///
    /// # Errors
    /// `Source` when the root cannot be read, `Internal` when a record is damaged.
    pub async fn open(store: Arc<dyn ObjectStore>) -> Result<Arc<Self>> {
        let definitions =
            Self { store, state: RwLock::new(State::default()), turn: Mutex::new(()) };
        definitions.refresh().await?;
        Ok(Arc::new(definitions))
    }

    /// Reads what others have added.
    ///
    /// # Errors
    /// `Source` when the root cannot be read, `Internal` when a record is damaged.
    pub async fn refresh(&self) -> Result<()> {
        self.refresh_then(|_catalogs| ()).await
    }

    /// Reads what others have added, and has the catalogs taken over before this process defines or drops another: a list
    /// that is applied later would bring back what was dropped meanwhile.
    ///
    /// # Errors
    /// `Source` when the root cannot be read, `Internal` when a record is damaged.
    pub async fn refresh_then(&self, apply: impl FnOnce(Vec<CatalogDefinition>)) -> Result<()> {
        let _turn = self.turn.lock().await;
        self.read_new().await?;
        apply(self.catalogs());
        Ok(())
    }

    /// The root that they are kept under.
    pub(super) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Returns the catalogs that statements defined.
    pub fn catalogs(&self) -> Vec<CatalogDefinition> {
        self.state.read().catalogs.values().cloned().collect()
    }

    /// Returns a view.
    pub fn view(&self, catalog: &str, schema: &str, name: &str) -> Option<View> {
        let key = (catalog.to_owned(), schema.to_owned(), name.to_owned());
        self.state.read().views.get(&key).cloned()
    }

    /// Returns the schemas of a catalog that have views.
    pub fn view_schemas(&self, catalog: &str) -> Vec<String> {
        let state = self.state.read();
        let schemas = state.views.keys().filter(|(of, ..)| of == catalog);
        schemas.map(|(_, schema, _)| schema.clone()).collect()
    }

    /// Returns the names of the views in a schema, sorted.
    pub fn view_names(&self, catalog: &str, schema: &str) -> Vec<String> {
        let state = self.state.read();
        let views = state.views.keys().filter(|(c, s, _)| c == catalog && s == schema);
        views.map(|(_, _, name)| name.clone()).collect()
    }

    /// Keeps a catalog.
    ///
    /// # Errors
    /// `Source` when the root cannot be written.
    pub async fn put_catalog(&self, catalog: CatalogDefinition) -> Result<()> {
        self.append(Change::PutCatalog(catalog)).await
    }

    /// Forgets a catalog.
    ///
    /// # Errors
    /// `Source` when the root cannot be written.
    pub async fn drop_catalog(&self, name: &str) -> Result<()> {
        self.append(Change::DropCatalog { name: name.to_owned() }).await
    }

    /// Keeps a view, in place of one of the same name.
    ///
    /// # Errors
    /// `Source` when the root cannot be written.
    pub async fn put_view(&self, view: View) -> Result<()> {
        self.append(Change::PutView(view)).await
    }

    /// Forgets a view.
    ///
    /// # Errors
    /// `Source` when the root cannot be written.
    pub async fn drop_view(&self, catalog: &str, schema: &str, name: &str) -> Result<()> {
        self.append(Change::DropView {
            catalog: catalog.to_owned(),
            schema: schema.to_owned(),
            name: name.to_owned(),
        })
        .await
    }

    async fn append(&self, change: Change) -> Result<()> {
        let _turn = self.turn.lock().await;
        let record = Record { id: Ulid::new().to_string(), change };
        let body = serde_json::to_vec(&record)
            .map_err(|e| Error::internal("a definition cannot be written as JSON").caused_by(&e))?;
        for _attempt in 0..ATTEMPTS_MAX {
            self.read_new().await?;
            let number = self.state.read().next;
            let path = path(number);
            let put = self.store.put_opts(
                &path,
                PutPayload::from(body.clone()),
                PutOptions::from(PutMode::Create),
            );
            let answer = within(REQUEST_DEADLINE, "writing a definition", put).await;
            // Whatever the store answered, only what is there now counts.
            match self.read(number).await? {
                Some(there) if there.id == record.id => return self.read_new().await,
                Some(_others) => {}
                None => {
                    if let Ok(Err(error)) = answer {
                        return Err(unreachable_root(&error));
                    }
                    answer?.map_err(|e| unreachable_root(&e))?;
                }
            }
        }
        Err(Error::resources("DEFINITIONS_BUSY", "others define without a pause")
            .with_hint("Run the statement again."))
    }

    async fn read_new(&self) -> Result<()> {
        loop {
            let number = self.state.read().next;
            let Some(record) = self.read(number).await? else { return Ok(()) };
            let mut state = self.state.write();
            state.apply(record.change);
            state.next = number + 1;
        }
    }

    async fn read(&self, number: u64) -> Result<Option<Record>> {
        let path = path(number);
        let get = async {
            match self.store.get(&path).await {
                Ok(found) => found.bytes().await.map(Some),
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let bytes = within(REQUEST_DEADLINE, "reading a definition", get).await?;
        let Some(bytes) = bytes.map_err(|e| unreachable_root(&e))? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            Error::internal(format!("definition record {path} is damaged")).caused_by(&e)
        })
    }
}

impl State {
    fn apply(&mut self, change: Change) {
        match change {
            Change::PutCatalog(catalog) => {
                self.catalogs.insert(catalog.name.clone(), catalog);
            }
            Change::DropCatalog { name } => {
                self.catalogs.remove(&name);
            }
            Change::PutView(view) => {
                let key = (view.catalog.clone(), view.schema.clone(), view.name.clone());
                self.views.insert(key, view);
            }
            Change::DropView { catalog, schema, name } => {
                self.views.remove(&(catalog, schema, name));
            }
        }
    }
}

fn path(number: u64) -> Path {
    Path::from(format!("definitions/{number:020}.json"))
}

pub(super) fn unreachable_root(error: &StoreError) -> Error {
    Error::source("ROOT_UNAVAILABLE", "the object-store root cannot be used").caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::object_store::memory::InMemory;

    fn catalog(name: &str) -> CatalogDefinition {
        CatalogDefinition { name: name.into(), kind: "tpch".into(), properties: BTreeMap::new() }
    }

    #[tokio::test]
    async fn writers_that_race_lose_nothing() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let (a, b) = tokio::join!(
            Definitions::open(Arc::clone(&store)),
            Definitions::open(Arc::clone(&store))
        );
        let (a, b) = (a.unwrap(), b.unwrap());
        let many = (0..20).map(|n| {
            let definitions = Arc::clone(if n % 2 == 0 { &a } else { &b });
            async move { definitions.put_catalog(catalog(&format!("c{n}"))).await }
        });
        for result in futures::future::join_all(many).await {
            result.unwrap();
        }
        a.drop_catalog("c3").await.unwrap();
        b.refresh().await.unwrap();
        assert_eq!(b.catalogs().len(), 19);
        assert_eq!(Definitions::open(store).await.unwrap().catalogs(), b.catalogs());
    }
}
