//! Names to tables: configured catalogs, views, `information_schema` and system tables.
//!
//! Every table that a statement names is looked up here, once, before planning; the planner sees only what was
//! found. A name that is not there is an error with its place in the text. What is listed may be remembered for a
//! while ([`remembered`]); what is planned with never is.

mod analyses;
mod definitions;
mod files;
mod information_schema;
mod remembered;
mod system;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider,
    SchemaProvider, TableProvider,
};
use datafusion::common::TableReference;
use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{ObjectName, visit_relations};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use meshwork_engine::catalog::CatalogRegistry;
use meshwork_engine::connector::{Connector, ReadVersion, TableEntry, TableKind};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::{Error, Location, Result};

pub(crate) use analyses::Analyses;
pub use definitions::{Definitions, View};
pub use files::read_catalog_files;
pub(crate) use system::{INFORMATION_SCHEMA, SYSTEM_CATALOG};
pub use system::{NodeRow, Nodes, SystemTables};
pub(crate) use system::{batch_of, texts};

use self::remembered::{Age, Remembered};
use crate::parse::{TableVersions, functions_read, parts_of, statement_of};
use crate::session::Snapshot;

/// Tables of one statement that are looked up at the same time.
const LOOKUPS_MAX: usize = 16;

/// What the planner takes for a catalog and a schema that nobody names.
pub(crate) const PLANNER_CATALOG: &str = "datafusion";
pub(crate) const PLANNER_SCHEMA: &str = "public";

/// The whole name of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TableName {
    pub(crate) catalog: String,
    pub(crate) schema: String,
    pub(crate) table: String,
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.catalog, self.schema, self.table)
    }
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Table(Arc<dyn TableProvider>),
    View(View),
}

/// The tables of one statement, as the planner wants them.
pub(crate) type FoundTables = BTreeMap<TableName, Found>;

/// Looks names up.
#[derive(Debug)]
pub struct Resolver {
    catalogs: Arc<CatalogRegistry>,
    definitions: Arc<Definitions>,
    analyses: Arc<Analyses>,
    remembered: Remembered,
    system: SystemTables,
}

impl Resolver {
    /// Returns the resolver of a coordinator.
    pub fn new(
        catalogs: Arc<CatalogRegistry>,
        definitions: Arc<Definitions>,
        system: SystemTables,
    ) -> Self {
        let analyses = Arc::new(Analyses::new(Arc::clone(definitions.store())));
        let remembered = Remembered::new(Arc::clone(&catalogs));
        Self { catalogs, definitions, analyses, remembered, system }
    }

    /// The durable definitions of catalogs and views.
    pub fn definitions(&self) -> &Arc<Definitions> {
        &self.definitions
    }

    /// What `ANALYZE` kept and what scans counted.
    pub(crate) fn analyses(&self) -> &Arc<Analyses> {
        &self.analyses
    }

    /// Returns a name's parts with the session's catalog and schema filled in.
    pub(crate) fn full_name(&self, parts: &[String], session: &Snapshot) -> Result<TableName> {
        let missing = |what: &str, table: &str| {
            Error::user(
                "NAME_NOT_QUALIFIED",
                format!("table \"{table}\" is named without a {what}"),
            )
            .with_hint("Name it catalog.schema.table, or choose a schema with USE catalog.schema.")
        };
        let name = |catalog: &str, schema: &str, table: &str| TableName {
            catalog: catalog.to_owned(),
            schema: schema.to_owned(),
            table: table.to_owned(),
        };
        match parts {
            [catalog, schema, table] => Ok(name(catalog, schema, table)),
            // `system.nodes` is short for `system.runtime.nodes`.
            [schema, table] if schema == SYSTEM_CATALOG => {
                Ok(name(SYSTEM_CATALOG, system::RUNTIME_SCHEMA, table))
            }
            [schema, table] => {
                let catalog = session.catalog.as_ref().ok_or_else(|| missing("catalog", table))?;
                Ok(name(catalog, schema, table))
            }
            [table] => {
                let catalog = session.catalog.as_ref().ok_or_else(|| missing("catalog", table))?;
                let schema = session.schema.as_ref().ok_or_else(|| missing("schema", table))?;
                Ok(name(catalog, schema, table))
            }
            _ => Err(Error::user("INVALID_NAME", "a table's name has one to three parts")),
        }
    }

    /// Returns the whole names of the tables and views that the statement names.
    pub(crate) fn names(
        &self,
        statement: &DataFusionStatement,
        session: &Snapshot,
    ) -> Result<Vec<TableName>> {
        let (references, _ctes) = resolve_table_references(statement, true)?;
        references.iter().map(|name| self.full_name(&reference_parts(name), session)).collect()
    }

    /// Looks up every table that the statement names. `versions` are those behind `FOR VERSION AS OF`.
    pub(crate) async fn resolve(
        &self,
        statement: &DataFusionStatement,
        versions: &TableVersions,
        session: &Snapshot,
        scope: &Arc<QueryScope>,
    ) -> Result<FoundTables> {
        let (references, _ctes) = resolve_table_references(statement, true)?;
        let functions = functions_read(statement);
        let mut lookups: Vec<BoxFuture<'_, Result<(TableName, Found)>>> = Vec::new();
        for reference in references {
            let parts = reference_parts(&reference);
            if functions.contains(&parts) {
                continue;
            }
            let lookup = async move {
                let found = self.look_up(&parts, versions, session, scope).await;
                let found = found.map_err(|error| match place_of(statement, &parts) {
                    Some(at) if error.location.is_none() => error.at(at),
                    _ => error,
                })?;
                Ok((planner_name(&parts, session), found))
            };
            lookups.push(lookup.boxed());
        }
        // In the order of the statement, so that of several errors it is always the first.
        stream::iter(lookups).buffered(LOOKUPS_MAX).try_collect().await
    }

    async fn look_up(
        &self,
        parts: &[String],
        versions: &TableVersions,
        session: &Snapshot,
        scope: &Arc<QueryScope>,
    ) -> Result<Found> {
        let name = self.full_name(parts, session)?;
        match versions.get(&name.table) {
            Some((table, version)) => {
                let real = TableName { table: table.to_owned(), ..name };
                self.find(&real, version, scope).await
            }
            None => self.find(&name, session.read_version(), scope).await,
        }
    }

    /// Looks one table up.
    ///
    /// # Errors
    /// `User` when catalog, schema or table are not there, `Source` when the source cannot be asked.
    pub(crate) async fn find(
        &self,
        name: &TableName,
        version: ReadVersion,
        scope: &Arc<QueryScope>,
    ) -> Result<Found> {
        if name.catalog == SYSTEM_CATALOG && name.schema != INFORMATION_SCHEMA {
            let counted = &self.analyses.counted;
            let table = self.system.table(&name.schema, &name.table, counted).await?;
            return table.map(Found::Table).ok_or_else(|| table_not_found(name));
        }
        if name.schema == INFORMATION_SCHEMA {
            let table = information_schema::table(self, &name.catalog, &name.table, scope).await?;
            return table.map(Found::Table).ok_or_else(|| table_not_found(name));
        }
        if let Some(view) = self.definitions.view(&name.catalog, &name.schema, &name.table) {
            return Ok(Found::View(view));
        }
        let connector = self.connector(&name.catalog)?;
        if let Some(statement) = statement_of(&name.schema, &name.table) {
            return connector.query(statement, scope).await.map(Found::Table);
        }
        let table = connector.table(&name.schema, &name.table, version, scope).await?;
        if let Some(table) = table {
            return Ok(Found::Table(table));
        }
        // A name that was folded to lower case may stand for one that the source spells otherwise.
        for age in [Age::Remembered, Age::New] {
            if let Some((schema, table)) = self.other_spelling(name, age).await?
                && let Some(table) = connector.table(&schema, &table, version, scope).await?
            {
                return Ok(Found::Table(table));
            }
        }
        Err(self.explain_missing(name).await)
    }

    /// Returns a table's name as its source spells it.
    ///
    /// # Errors
    /// `User` when the table is not there, `Source` when the source cannot be asked.
    pub(crate) async fn spelled(
        &self,
        name: TableName,
        scope: &Arc<QueryScope>,
    ) -> Result<TableName> {
        let connector = self.connector(&name.catalog)?;
        let version = ReadVersion::Committed;
        if connector.table(&name.schema, &name.table, version, scope).await?.is_some() {
            return Ok(name);
        }
        match self.other_spelling(&name, Age::New).await? {
            Some((schema, table)) => Ok(TableName { schema, table, ..name }),
            None => Err(table_not_found(&name)),
        }
    }

    /// Returns the catalog's connector.
    pub(crate) fn connector(&self, catalog: &str) -> Result<Arc<dyn Connector>> {
        self.catalogs.connector(catalog)
    }

    /// Returns the names of all catalogs, sorted.
    pub fn catalog_names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.catalogs.definitions().into_iter().map(|definition| definition.name).collect();
        names.push(SYSTEM_CATALOG.to_owned());
        names.sort();
        names
    }

    /// Returns the names of a catalog's schemas, sorted; as old as its `metadata_freshness` says.
    ///
    /// # Errors
    /// `User` when there is no such catalog, `Source` when it cannot be asked.
    pub async fn schema_names(&self, catalog: &str) -> Result<Vec<String>> {
        self.schema_names_of(catalog, Age::Remembered).await
    }

    /// Whether a catalog has a schema; a name that is not remembered is asked for.
    ///
    /// # Errors
    /// `User` when there is no such catalog, `Source` when it cannot be asked.
    pub(crate) async fn has_schema(&self, catalog: &str, schema: &str) -> Result<bool> {
        for age in [Age::Remembered, Age::New] {
            if self.schema_names_of(catalog, age).await?.iter().any(|name| name == schema) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn schema_names_of(&self, catalog: &str, age: Age) -> Result<Vec<String>> {
        let mut names = if catalog == SYSTEM_CATALOG {
            system::schema_names()
        } else {
            self.remembered.of(catalog)?.schemas(age).await?.to_vec()
        };
        names.push(INFORMATION_SCHEMA.to_owned());
        names.extend(self.definitions.view_schemas(catalog));
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Returns the tables and views of a schema, sorted by name; as old as the catalog's `metadata_freshness` says.
    ///
    /// # Errors
    /// `User` when there is no such catalog, `Source` when it cannot be asked.
    pub async fn tables(&self, catalog: &str, schema: &str) -> Result<Vec<TableEntry>> {
        if schema == INFORMATION_SCHEMA {
            return Ok(information_schema::entries());
        }
        if catalog == SYSTEM_CATALOG {
            return Ok(system::entries(schema));
        }
        let mut tables =
            self.remembered.of(catalog)?.tables(schema, Age::Remembered).await?.to_vec();
        let views = self.definitions.view_names(catalog, schema);
        tables.extend(views.into_iter().map(|name| TableEntry {
            name,
            kind: TableKind::View,
            comment: None,
        }));
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tables)
    }

    /// Returns the columns of a listed table; as old as the catalog's `metadata_freshness` says. Those of a view are not
    /// known before it is planned, and none if there is no such table.
    pub(crate) async fn listed_columns(
        &self,
        name: &TableName,
        scope: &Arc<QueryScope>,
    ) -> Result<Option<SchemaRef>> {
        let TableName { catalog, schema, table } = name;
        let is_view = self.definitions.view(catalog, schema, table).is_some();
        if catalog == SYSTEM_CATALOG || schema == INFORMATION_SCHEMA || is_view {
            return match self.find(name, ReadVersion::Committed, scope).await? {
                Found::Table(table) => Ok(Some(table.schema())),
                Found::View(_) => Ok(None),
            };
        }
        self.remembered.of(catalog)?.columns(schema, table, scope).await.map(Some)
    }

    /// Forgets what is remembered of a catalog's names: something was made or dropped in it.
    pub(crate) fn forget(&self, catalog: &str) {
        self.remembered.forget(catalog);
    }

    /// Forgets what is remembered of all catalogs' names.
    pub(crate) fn forget_all(&self) {
        self.remembered.forget_all();
    }

    async fn other_spelling(&self, name: &TableName, age: Age) -> Result<Option<(String, String)>> {
        let names = self.remembered.of(&name.catalog)?;
        let schemas = names.schemas(age).await?;
        let Some(schema) = only_match(schemas.iter(), &name.schema) else { return Ok(None) };
        let tables = names.tables(schema, age).await?;
        let table = only_match(tables.iter().map(|entry| &entry.name), &name.table);
        Ok(table.map(|table| (schema.clone(), table.clone())))
    }

    async fn explain_missing(&self, name: &TableName) -> Error {
        let schemas = match self.remembered.of(&name.catalog) {
            Ok(names) => names.schemas(Age::New).await.unwrap_or_default(),
            Err(_without_connector) => Arc::default(),
        };
        if only_match(schemas.iter(), &name.schema).is_some() {
            return table_not_found(name);
        }
        Error::user(
            "SCHEMA_NOT_FOUND",
            format!("schema \"{}\" does not exist in catalog \"{}\"", name.schema, name.catalog),
        )
        .with_hint(format!("SHOW SCHEMAS FROM {} lists the schemas that exist.", name.catalog))
    }
}

/// Returns the exact match, or the only one that differs in case alone.
fn only_match<'a>(
    names: impl Iterator<Item = &'a String> + Clone,
    wanted: &str,
) -> Option<&'a String> {
    if let Some(exact) = names.clone().find(|name| *name == wanted) {
        return Some(exact);
    }
    let mut alike = names.filter(|name| name.to_lowercase() == wanted.to_lowercase());
    alike.next().filter(|_first| alike.next().is_none())
}

pub(crate) fn table_not_found(name: &TableName) -> Error {
    let TableName { catalog, schema, table } = name;
    Error::user(
        "TABLE_NOT_FOUND",
        format!("table \"{schema}.{table}\" does not exist in catalog \"{catalog}\""),
    )
    .with_hint(format!("SHOW TABLES FROM {catalog}.{schema} lists the tables that exist."))
}

/// Returns the name under which the planner looks for a table that a statement names by these parts.
fn planner_name(parts: &[String], session: &Snapshot) -> TableName {
    let defaults = [
        session.catalog.as_deref().unwrap_or(PLANNER_CATALOG),
        session.schema.as_deref().unwrap_or(PLANNER_SCHEMA),
    ];
    let missing = 3_usize.saturating_sub(parts.len()).min(defaults.len());
    let whole = defaults[..missing].iter().map(|part| (*part).to_owned());
    let mut whole = whole.chain(parts.iter().cloned());
    let mut next = || whole.next().unwrap_or_default();
    TableName { catalog: next(), schema: next(), table: next() }
}

/// Returns the parts of a name that the planner read.
pub(crate) fn reference_parts(reference: &TableReference) -> Vec<String> {
    let parts = [reference.catalog(), reference.schema(), Some(reference.table())];
    parts.into_iter().flatten().map(str::to_owned).collect()
}

/// Returns where the statement first names the table.
fn place_of(statement: &DataFusionStatement, parts: &[String]) -> Option<Location> {
    let DataFusionStatement::Statement(statement) = statement else { return None };
    let found = visit_relations(statement.as_ref(), |name: &ObjectName| {
        match parts_of(name).as_slice() == parts {
            true => ControlFlow::Break(location_of(name)),
            false => ControlFlow::Continue(()),
        }
    });
    match found {
        ControlFlow::Break(at) => at,
        ControlFlow::Continue(()) => None,
    }
}

fn location_of(name: &ObjectName) -> Option<Location> {
    let start = name.0.first()?.as_ident()?.span.start;
    (start.line > 0).then_some(Location { line: start.line, column: start.column })
}

/// Returns the found tables as the planner looks them up.
pub(crate) fn as_catalogs(
    tables: BTreeMap<TableName, Arc<dyn TableProvider>>,
) -> Result<Arc<MemoryCatalogProviderList>> {
    use datafusion::catalog::CatalogProviderList;
    let list = Arc::new(MemoryCatalogProviderList::new());
    for (name, table) in tables {
        let catalog = list.catalog(&name.catalog).unwrap_or_else(|| {
            let catalog: Arc<dyn CatalogProvider> = Arc::new(MemoryCatalogProvider::new());
            list.register_catalog(name.catalog.clone(), Arc::clone(&catalog));
            catalog
        });
        let schema = match catalog.schema(&name.schema) {
            Some(schema) => schema,
            None => {
                let schema: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
                catalog.register_schema(&name.schema, Arc::clone(&schema))?;
                schema
            }
        };
        schema.register_table(name.table, table)?;
    }
    Ok(list)
}

/// Returns whether `text` is like the pattern: `%` stands for anything, `_` for one character.
pub fn like(text: &str, pattern: &str) -> bool {
    fn matches(text: &[char], pattern: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('%', rest)) => (0..=text.len()).any(|skip| matches(&text[skip..], rest)),
            Some(('_', rest)) => !text.is_empty() && matches(&text[1..], rest),
            Some((letter, rest)) => text.first() == Some(letter) && matches(&text[1..], rest),
        }
    }
    let chars = |text: &str| text.chars().collect::<Vec<_>>();
    matches(&chars(text), &chars(pattern))
}
