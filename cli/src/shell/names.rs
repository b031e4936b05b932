//! Names that the server knows, asked for when they are first needed and remembered for a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use meshwork_engine::{Result, environment};

use crate::client::Client;

/// How long a list of names is believed.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// How long completion waits for the server before it offers nothing.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most lists that are remembered.
const LISTS_MAX: usize = 1000;

/// The names under a path: catalogs under none, then schemas, tables and columns.
#[derive(Debug)]
pub(super) struct Names {
    client: Client,
    lists: BTreeMap<Vec<String>, (Instant, Vec<String>)>,
    place: Option<(Option<String>, Option<String>)>,
}

impl Names {
    pub(super) fn new(client: Client) -> Self {
        Self { client, lists: BTreeMap::new(), place: None }
    }

    /// Forgets everything: a statement may have changed it.
    pub(super) fn forget(&mut self) {
        self.lists.clear();
        self.place = None;
    }

    /// Returns the catalog and schema of names without one, as far as they are set.
    pub(super) async fn place(&mut self) -> Vec<String> {
        if self.place.is_none() {
            let asked = environment::within(PATIENCE, "completion", self.client.place()).await;
            self.place = asked.flatten().ok();
        }
        let (catalog, schema) = self.place.clone().unwrap_or_default();
        match (catalog, schema) {
            (Some(catalog), Some(schema)) => vec![catalog, schema],
            (Some(catalog), None) => vec![catalog],
            (None, _) => Vec::new(),
        }
    }

    /// Returns the names under the path; none where the server does not answer in time.
    pub(super) async fn under(&mut self, path: &[String]) -> Vec<String> {
        let now = environment::instant();
        if let Some((asked, names)) = self.lists.get(path)
            && now.duration_since(*asked) < REMEMBERED_FOR
        {
            return names.clone();
        }
        let answer = environment::within(PATIENCE, "completion", self.ask(path)).await;
        let names = answer.flatten().unwrap_or_default();
        if self.lists.len() >= LISTS_MAX {
            self.lists.clear();
        }
        self.lists.insert(path.to_vec(), (now, names.clone()));
        names
    }

    async fn ask(&mut self, path: &[String]) -> Result<Vec<String>> {
        match path {
            [] => self.client.catalogs().await,
            [catalog] => self.client.schemas(catalog).await,
            [catalog, schema] => self.client.tables(catalog, schema).await,
            [catalog, schema, table] => self.client.columns(catalog, schema, table).await,
            _ => Ok(Vec::new()),
        }
    }
}
