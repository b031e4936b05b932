//! The catalog that holds the local copies: tables in memory, as DataFusion itself keeps them.
//!
//! A connector is made by a plain function from properties, so the tables wait on a shelf under a name until the
//! catalog of that name is made.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use meshwork_engine::Result;
use meshwork_engine::catalog::Properties;
use meshwork_engine::connector::{Connector, ReadVersion, TableEntry, TableKind};
use meshwork_engine::scope::QueryScope;

/// The kind of this catalog.
pub(super) const KIND: &str = "memory";

/// Tables by schema and name.
type Tables = BTreeMap<(String, String), Arc<dyn TableProvider>>;

/// The tables of catalogs that exist, by the catalog's name.
static SHELF: LazyLock<Mutex<BTreeMap<String, Arc<Tables>>>> = LazyLock::new(Mutex::default);

/// Lays tables down for the catalog of that name.
pub(super) fn keep(catalog: &str, tables: Tables) {
    shelf().insert(catalog.to_owned(), Arc::new(tables));
}

/// Lets go of the tables of that catalog.
pub(super) fn forget(catalog: &str) {
    shelf().remove(catalog);
}

fn shelf() -> std::sync::MutexGuard<'static, BTreeMap<String, Arc<Tables>>> {
    SHELF.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the connector of the tables that were laid down under the catalog's name.
pub(super) fn make(properties: Properties) -> Result<Arc<dyn Connector>> {
    let tables = shelf().get(properties.catalog()).map(Arc::clone).unwrap_or_default();
    properties.finish()?;
    Ok(Arc::new(Memory { tables }))
}

#[derive(Debug)]
struct Memory {
    tables: Arc<Tables>,
}

#[async_trait]
impl Connector for Memory {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn schema_names(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = self.tables.keys().map(|(schema, _)| schema.clone()).collect();
        names.dedup();
        Ok(names)
    }

    async fn tables(&self, schema: &str) -> Result<Vec<TableEntry>> {
        let entry = |name: &String| TableEntry {
            name: name.clone(),
            kind: TableKind::Table,
            comment: None,
        };
        let here = self.tables.keys().filter(|(of, _)| of == schema);
        Ok(here.map(|(_, name)| entry(name)).collect())
    }

    async fn table(
        &self,
        schema: &str,
        table: &str,
        _version: ReadVersion,
        _scope: &Arc<QueryScope>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.tables.get(&(schema.to_owned(), table.to_owned())).map(Arc::clone))
    }
}
