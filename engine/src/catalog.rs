//! Configured catalogs: their definitions, the secrets in them, and the registry that every node holds.
//!
//! A definition is data and travels between nodes as it was written, `${ENV:NAME}` included; a secret is
//! resolved only where a connector is made. Nothing here prints a property that may be a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::runtime_env::RuntimeEnv;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::connections::{Budgets, Connections, Lender, Shares};
use crate::connector::Connector;
use crate::environment::duration_of;
use crate::{Error, Result};

/// The property of every catalog that says how old its listings may be.
const METADATA_FRESHNESS: &str = "metadata_freshness";
/// So old they may be otherwise: a tool that draws a tree asks a source once, and a person who has made a table elsewhere
/// hardly waits.
const METADATA_FRESHNESS_DEFAULT: Duration = Duration::from_secs(10);
/// Nobody finds a table that was made yesterday missing.
const METADATA_FRESHNESS_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Stands in for a value that is not shown.
const REDACTED: &str = "***";

/// Parts of property names whose values are never shown.
const SECRET_NAME_PARTS: [&str; 8] =
    ["password", "secret", "token", "key", "credential", "auth", "private", "url"];

/// One catalog as it was configured. `Debug` shows no property values.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogDefinition {
    /// The catalog's name in SQL.
    pub name: String,
    /// The kind of connector, as after `USING`.
    pub kind: String,
    /// The connector's properties as written, secrets unresolved.
    pub properties: BTreeMap<String, String>,
}

impl CatalogDefinition {
    /// Returns the properties as they may be shown: secrets replaced, references to the environment kept.
    pub fn shown_properties(&self) -> BTreeMap<String, String> {
        let shown = |key: &str, value: &str| {
            let secret = SECRET_NAME_PARTS.iter().any(|part| key.to_lowercase().contains(part));
            if secret && environment_name(value).is_none() {
                REDACTED.to_owned()
            } else {
                value.to_owned()
            }
        };
        self.properties.iter().map(|(key, value)| (key.clone(), shown(key, value))).collect()
    }

    /// Returns the statement that would define this catalog, without its secrets.
    pub fn shown_statement(&self) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let properties: Vec<String> = self
            .shown_properties()
            .iter()
            .map(|(key, value)| format!("  {} = {}", quoted(key), quoted(value)))
            .collect();
        let name = self.name.replace('"', "\"\"");
        let with = match properties.is_empty() {
            true => String::new(),
            false => format!(" WITH (\n{}\n)", properties.join(",\n")),
        };
        format!("CREATE CATALOG \"{name}\" USING {}{with}", self.kind)
    }

    /// Returns the properties for a connector to read, with references to the environment resolved.
    ///
    /// # Errors
    /// `User` when an environment variable that is referred to is not set on this node.
    pub fn resolve(&self) -> Result<Properties> {
        let mut values = BTreeMap::new();
        for (key, value) in &self.properties {
            let resolved = match environment_name(value) {
                None => value.clone(),
                Some(name) => std::env::var(name).map_err(|_unset| {
                    Error::user(
                        "CATALOG_CONFIGURATION",
                        format!(
                            "property \"{key}\" of catalog \"{}\" refers to environment variable \
                             {name}, which is not set on this node",
                            self.name
                        ),
                    )
                    .with_hint(
                        "Set it on every node that uses the catalog, and start the node again.",
                    )
                })?,
            };
            values.insert(key.clone(), resolved);
        }
        Ok(Properties { catalog: self.name.clone(), values, lender: Arc::<Budgets>::default() })
    }
}

impl fmt::Debug for CatalogDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatalogDefinition")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("properties", &self.shown_properties())
            .finish()
    }
}

/// Returns `NAME` for `${ENV:NAME}`.
fn environment_name(value: &str) -> Option<&str> {
    value.strip_prefix("${ENV:")?.strip_suffix('}')
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Returns the secret itself: only for handing it to a driver.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// The resolved properties of one catalog, taken out one by one by its connector.
pub struct Properties {
    catalog: String,
    values: BTreeMap<String, String>,
    lender: Arc<dyn Lender>,
}

impl Properties {
    /// Returns the catalog's connections to its source, under this budget.
    pub fn connections(&self, shares: Shares) -> Connections {
        Connections::new(Arc::clone(&self.lender), &self.catalog, shares)
    }

    /// The catalog's name.
    pub fn catalog(&self) -> &str {
        &self.catalog
    }

    /// Takes a property that need not be there.
    pub fn optional(&mut self, key: &str) -> Option<String> {
        self.values.remove(key)
    }

    /// Takes a property that must be there.
    ///
    /// # Errors
    /// `User` when it is missing.
    pub fn required(&mut self, key: &str) -> Result<String> {
        self.optional(key).ok_or_else(|| self.wrong(format!("property \"{key}\" is missing")))
    }

    /// Takes a secret that need not be there.
    pub fn secret(&mut self, key: &str) -> Option<Secret> {
        self.optional(key).map(Secret)
    }

    /// Takes a property of a type with a default.
    ///
    /// # Errors
    /// `User` when the text cannot be read as that type.
    pub fn parsed<T: FromStr>(&mut self, key: &str, default: T) -> Result<T> {
        let Some(text) = self.optional(key) else { return Ok(default) };
        text.parse().map_err(|_unreadable| {
            let wanted = std::any::type_name::<T>();
            self.wrong(format!("property \"{key}\" cannot be read as {wanted}"))
        })
    }

    /// Takes all properties whose names start with `prefix`, by the rest of their names.
    pub fn starting_with(&mut self, prefix: &str) -> BTreeMap<String, String> {
        let rest = |key: &String| key.strip_prefix(prefix).map(str::to_owned);
        let keys: Vec<String> =
            self.values.keys().filter(|key| rest(key).is_some()).cloned().collect();
        keys.iter().filter_map(|key| Some((rest(key)?, self.values.remove(key)?))).collect()
    }

    /// Refuses whatever nobody took.
    ///
    /// # Errors
    /// `User` when a property is left, naming it.
    pub fn finish(self) -> Result<()> {
        match self.values.keys().next() {
            None => Ok(()),
            Some(key) => Err(self.wrong(format!("property \"{key}\" does not exist"))),
        }
    }

    /// Returns the error for a wrong property; `what` names the property, never its value.
    pub fn wrong(&self, what: impl fmt::Display) -> Error {
        Error::user("CATALOG_CONFIGURATION", format!("catalog \"{}\": {what}", self.catalog))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Properties")
            .field("catalog", &self.catalog)
            .field("keys", &self.values.keys())
            .finish()
    }
}

/// Makes the connector of a kind; does no I/O, so that a source that is down stops nobody.
pub type MakeConnector = fn(kind: &str, properties: Properties) -> Result<Arc<dyn Connector>>;

/// A catalog as a node holds it: what its properties make, or why they make nothing.
#[derive(Debug, Clone)]
struct Entry {
    definition: CatalogDefinition,
    configured: Result<Configured>,
}

/// What the properties of a catalog make.
#[derive(Debug, Clone)]
pub struct Configured {
    /// Speaks to the source.
    pub connector: Arc<dyn Connector>,
    /// How old may be what is listed of the catalog's schemas, tables and columns; zero asks the source each time.
    pub metadata_freshness: Duration,
}

/// The catalogs of one node. All nodes agree on them by generation.
pub struct CatalogRegistry {
    make: MakeConnector,
    runtime: Arc<RuntimeEnv>,
    lender: RwLock<Arc<dyn Lender>>,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    generation: u64,
    entries: BTreeMap<String, Entry>,
}

impl fmt::Debug for CatalogRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatalogRegistry").field("state", &self.state).finish_non_exhaustive()
    }
}

impl CatalogRegistry {
    /// Returns an empty registry, generation 0. Object stores of catalogs are registered in `runtime`.
    pub fn new(make: MakeConnector, runtime: Arc<RuntimeEnv>) -> Self {
        let lender = RwLock::new(Arc::<Budgets>::default() as Arc<dyn Lender>);
        Self { make, runtime, lender, state: RwLock::default() }
    }

    /// Returns who gives out the connections to the sources.
    pub fn lender(&self) -> Arc<dyn Lender> {
        Arc::clone(&self.lender.read())
    }

    /// Lets connectors that are made from now on ask another lender: on a worker, the cluster's.
    pub fn borrow_from(&self, lender: Arc<dyn Lender>) {
        *self.lender.write() = lender;
    }

    /// The runtime in which the object stores of all catalogs are registered.
    pub fn runtime(&self) -> &Arc<RuntimeEnv> {
        &self.runtime
    }

    /// Counts changes of the list; a worker with a smaller one must ask for the list again.
    pub fn generation(&self) -> u64 {
        self.state.read().generation
    }

    /// Returns the definitions, sorted by name.
    pub fn definitions(&self) -> Vec<CatalogDefinition> {
        self.state.read().entries.values().map(|entry| entry.definition.clone()).collect()
    }

    /// Returns the catalog's connector.
    ///
    /// # Errors
    /// `User` when there is no such catalog, or why its connector could not be made.
    pub fn connector(&self, name: &str) -> Result<Arc<dyn Connector>> {
        self.configured(name).map(|configured| configured.connector)
    }

    /// Returns what the catalog's properties make.
    ///
    /// # Errors
    /// `User` when there is no such catalog, or why its connector could not be made.
    pub fn configured(&self, name: &str) -> Result<Configured> {
        match self.state.read().entries.get(name) {
            Some(entry) => entry.configured.clone(),
            None => Err(catalog_not_found(name)),
        }
    }

    /// Makes a connector without adding it: what `CREATE CATALOG` checks before it is kept.
    ///
    /// # Errors
    /// `User` when kind or properties are wrong.
    pub fn try_make(&self, definition: &CatalogDefinition) -> Result<Configured> {
        let mut properties = Properties { lender: self.lender(), ..definition.resolve()? };
        let metadata_freshness = metadata_freshness(&mut properties)?;
        let connector = (self.make)(&definition.kind, properties)?;
        Ok(Configured { connector, metadata_freshness })
    }

    /// Adds or replaces one catalog. A wrong definition is kept with its error.
    pub fn define(&self, definition: CatalogDefinition) {
        let entry = self.entry(definition);
        let mut state = self.state.write();
        state.entries.insert(entry.definition.name.clone(), entry);
        state.generation += 1;
    }

    /// Removes a catalog; returns whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        let mut state = self.state.write();
        let removed = state.entries.remove(name).is_some();
        state.generation += u64::from(removed);
        removed
    }

    /// Takes over another node's whole list. Catalogs that did not change keep their connectors.
    pub fn replace(&self, generation: u64, definitions: Vec<CatalogDefinition>) {
        // The old list stays in use until the new one is made.
        let kept = self.state.read().entries.clone();
        let entries = definitions.into_iter().map(|definition| {
            let entry = match kept.get(&definition.name) {
                Some(entry) if entry.definition == definition => entry.clone(),
                _ => self.entry(definition),
            };
            (entry.definition.name.clone(), entry)
        });
        *self.state.write() = State { generation, entries: entries.collect() };
    }

    fn entry(&self, definition: CatalogDefinition) -> Entry {
        let configured = self.try_make(&definition);
        match &configured {
            Ok(configured) => {
                for named in configured.connector.stores() {
                    self.runtime.register_object_store(&named.url, named.store);
                }
            }
            Err(error) => {
                tracing::warn!(catalog = %definition.name, %error, "catalog is not usable");
            }
        }
        Entry { definition, configured }
    }
}

/// Takes what all kinds of catalogs have.
fn metadata_freshness(properties: &mut Properties) -> Result<Duration> {
    let Some(text) = properties.optional(METADATA_FRESHNESS) else {
        return Ok(METADATA_FRESHNESS_DEFAULT);
    };
    duration_of(&text).filter(|freshness| *freshness <= METADATA_FRESHNESS_MAX).ok_or_else(|| {
        let wanted = "is not a time like 0s, 30s or 5m, of a day at most";
        properties.wrong(format!("property \"{METADATA_FRESHNESS}\" {wanted}"))
    })
}

/// The error for a name that is no catalog.
pub fn catalog_not_found(name: &str) -> Error {
    Error::user("CATALOG_NOT_FOUND", format!("catalog \"{name}\" does not exist"))
        .with_hint("SHOW CATALOGS lists the catalogs that exist.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown_and_references_are() {
        let definition = CatalogDefinition {
            name: "pg".into(),
            kind: "postgres".into(),
            properties: BTreeMap::from([
                ("host".into(), "db".into()),
                ("password".into(), "hunter2".into()),
                ("api_token".into(), "${ENV:TOKEN}".into()),
            ]),
        };
        let shown = format!("{definition:?} {}", definition.shown_statement());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("${ENV:TOKEN}") && shown.contains("'host' = 'db'"), "{shown}");
    }
}
