//! The catalog of a store: names, lookups and statements.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::execution::object_store::ObjectStoreUrl;
use meshwork_engine::connector::{
    AlterTable, Batch, ChangeEntry, Connector, CreateTable, DeltaEntry, ExportEntry, FeedEntry,
    NamedStore, ReadVersion, Retention, RowChanger, TableEntry, TableKind,
};
use meshwork_engine::environment;
use meshwork_engine::scope::QueryScope;
use meshwork_engine::versioned::VersionedTable;
use meshwork_engine::{Error, Result};
use meshwork_store::{
    Alteration, AppState, CheckDepth, Database, Error as StoreError, Location, Options, ReadAt,
    Snapshot, TableDef, TableSnapshot, Version,
};
use tokio::sync::OnceCell;
use url::Url;

use super::change_feed::{self, ChangeFeed};
use super::define::{alteration, specification};
use super::maintenance::{self, Maintenance};
use super::table::StoreTable;
use super::writes::StoreBatch;
use super::{errors, listings};

/// One catalog of kind `store`.
#[derive(Debug)]
pub(super) struct Store {
    shared: Arc<Shared>,
}

/// What lookups and batches need; they may outlive a call.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) catalog: String,
    pub(super) url: ObjectStoreUrl,
    location: Location,
    /// Opened at the first use, because making a catalog does no I/O; made by the first schema or table, so that a
    /// mistyped location is found out.
    database: OnceCell<Arc<Database>>,
    /// Merges that go on behind commits of this process.
    pub(super) maintenance: Maintenance,
}

impl Store {
    pub(super) fn new(
        catalog: String,
        url: ObjectStoreUrl,
        location: Location,
        maintenance: Maintenance,
    ) -> Self {
        let database = OnceCell::new();
        Self { shared: Arc::new(Shared { catalog, url, location, database, maintenance }) }
    }
}

impl Shared {
    /// Returns the database, opening it at the first call.
    ///
    /// # Errors
    /// `User` with code `STORE_NOT_FOUND` if there is none.
    pub(super) async fn database(&self) -> Result<&Arc<Database>> {
        let open = || async {
            let opened = Database::open(self.location.clone(), Options::default()).await;
            self.named(opened).map(Arc::new)
        };
        self.database.get_or_try_init(open).await
    }

    /// Returns the database, making it if there is none.
    async fn made_database(&self) -> Result<&Arc<Database>> {
        let make = || async {
            let made = Database::open_or_create(self.location.clone(), Options::default()).await;
            self.named(made).map(Arc::new)
        };
        self.database.get_or_try_init(make).await
    }

    /// Says in an error's message which catalog it is about.
    pub(super) fn named<T>(&self, result: Result<T, StoreError>) -> Result<T> {
        result.map_err(|error| errors::of(&self.catalog, &error))
    }

    async fn snapshot(&self, version: ReadVersion) -> Result<Snapshot> {
        let database = self.database().await?;
        let at = self.read_at(database, version).await?;
        self.named(database.snapshot(at).await)
    }

    async fn read_at(&self, database: &Database, version: ReadVersion) -> Result<ReadAt> {
        match version {
            ReadVersion::Committed => Ok(ReadAt::Committed),
            ReadVersion::At(version) => Ok(ReadAt::Version(Version(version))),
            ReadVersion::AsOf(time) if time > environment::unix_micros() => {
                let message = "nobody knows yet what will have been committed at a time to come";
                Err(Error::user("VERSION_NOT_FOUND", message))
            }
            ReadVersion::AsOf(time) => {
                self.named(database.version_at(time).await).map(ReadAt::Version)
            }
        }
    }

    /// Returns a table as it is now, whatever the running query has pinned.
    pub(super) async fn newest_table(&self, schema: &str, table: &str) -> Result<TableSnapshot> {
        let snapshot = self.snapshot(ReadVersion::Committed).await?;
        self.named(snapshot.table(schema, table))
    }

    /// Returns a table as the running query sees it: all its lookups of one version share one snapshot.
    async fn pinned_table(
        self: &Arc<Self>,
        schema: &str,
        table: &str,
        version: ReadVersion,
        scope: &QueryScope,
    ) -> Result<Option<TableSnapshot>> {
        let key = format!("store:{}:{version}", self.catalog);
        let shared = Arc::clone(self);
        let pin = || -> futures::future::BoxFuture<'static, Result<Snapshot>> {
            Box::pin(async move { shared.snapshot(version).await })
        };
        let snapshot = scope.resource(&key, pin).await?;
        scope.record_version(&self.catalog, &ReadVersion::At(snapshot.version().0));
        let mut found = snapshot.table(schema, table);
        if version == ReadVersion::Committed && found.is_err() {
            // CREATE TABLE ... AS pins the versions of its query before the table is there.
            found = self.snapshot(version).await?.table(schema, table);
        }
        match found {
            Ok(found) => Ok(Some(found)),
            Err(StoreError::TableNotFound { .. }) => Ok(None),
            Err(error) => self.named(Err(error)),
        }
    }
}

impl Store {
    /// Makes the schema that a new table was missing; returns whether the table should be tried again.
    async fn schema_came(&self, made: &Result<Arc<TableDef>, StoreError>) -> Result<bool> {
        let Err(StoreError::NamespaceNotFound { namespace }) = made else { return Ok(false) };
        self.create_schema(namespace, true).await?;
        Ok(true)
    }
}

/// Returns what was looked up in the database; None if there is no database yet.
fn found<T>(looked_up: Result<T>) -> Result<Option<T>> {
    match looked_up {
        Err(error) if error.code == "STORE_NOT_FOUND" => Ok(None),
        other => other.map(Some),
    }
}

#[async_trait]
impl Connector for Store {
    fn kind(&self) -> &'static str {
        "store"
    }

    async fn schema_names(&self) -> Result<Vec<String>> {
        let snapshot = self.shared.snapshot(ReadVersion::Committed).await?;
        Ok(snapshot.namespaces().map(str::to_owned).collect())
    }

    /// No database has no tables, so that `CREATE TABLE`, which looks first, can make it.
    async fn tables(&self, schema: &str) -> Result<Vec<TableEntry>> {
        let pinned = self.shared.snapshot(ReadVersion::Committed).await;
        let Some(snapshot) = found(pinned)? else { return Ok(Vec::new()) };
        let tables = snapshot.tables(schema);
        Ok(tables
            .map(|def| TableEntry { name: def.name.clone(), kind: TableKind::Table, comment: None })
            .collect())
    }

    async fn table(
        &self,
        schema: &str,
        table: &str,
        version: ReadVersion,
        scope: &Arc<QueryScope>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(found) = self.shared.pinned_table(schema, table, version, scope).await? {
            let table = StoreTable::new(Arc::clone(&self.shared), found);
            return Ok(Some(Arc::new(VersionedTable::new(Arc::new(table)))));
        }
        let Some(changed) = table.strip_suffix(change_feed::SUFFIX) else { return Ok(None) };
        match self.shared.pinned_table(schema, changed, version, scope).await? {
            Some(found) => Ok(Some(Arc::new(ChangeFeed::new(Arc::clone(&self.shared), found)?))),
            None => Ok(None),
        }
    }

    fn stores(&self) -> Vec<NamedStore> {
        let url: &Url = self.shared.url.as_ref();
        vec![NamedStore { url: url.clone(), store: Arc::clone(&self.shared.location.store) }]
    }

    async fn create_schema(&self, schema: &str, if_not_exists: bool) -> Result<()> {
        match self.shared.made_database().await?.create_namespace(schema).await {
            Err(StoreError::NamespaceExists { .. }) if if_not_exists => Ok(()),
            other => self.shared.named(other).map(|_committed| ()),
        }
    }

    /// A schema that is not there comes with its first table.
    async fn create_table(&self, table: CreateTable) -> Result<()> {
        let spec = specification(&table)?;
        let database = self.shared.made_database().await?;
        let mut created = database.create_table(spec.clone()).await;
        if self.schema_came(&created).await? {
            created = database.create_table(spec).await;
        }
        match created {
            Err(StoreError::TableExists { .. }) if table.if_not_exists => Ok(()),
            other => self.shared.named(other).map(|_def| ()),
        }
    }

    async fn drop_table(&self, schema: &str, table: &str) -> Result<bool> {
        match self.shared.database().await?.drop_table(schema, table).await {
            Ok(_committed) => Ok(true),
            Err(StoreError::TableNotFound { .. }) => Ok(false),
            Err(error) => Err(errors::of(&self.shared.catalog, &error)),
        }
    }

    async fn alter_table(&self, schema: &str, table: &str, change: AlterTable) -> Result<()> {
        let alteration = alteration(schema, table, change)?;
        let database = self.shared.database().await?;
        let altered = database.alter_table(schema, table, &alteration).await;
        let def = self.shared.named(altered)?;
        if matches!(alteration, Alteration::AddRollup { .. }) {
            self.shared.named(maintenance::fill_rollups(database, def.id).await)?;
        }
        Ok(())
    }

    fn changer(&self, table: &dyn TableProvider, name: &str) -> Result<Box<dyn RowChanger>> {
        let table = VersionedTable::of(table).map(|table| table.as_ref() as &dyn Any);
        match table.and_then(|table| table.downcast_ref::<StoreTable>()) {
            Some(table) => Ok(Box::new(table.changer()?)),
            // The stream of a table's changes, which is no table.
            None => Err(Error::not_supported(format!("UPDATE and DELETE of \"{name}\""))),
        }
    }

    async fn optimize(&self, schema: &str, table: &str, full: bool) -> Result<u64> {
        let table = self.shared.newest_table(schema, table).await?;
        let database = self.shared.database().await?;
        let id = table.def().id;
        let done = match full {
            true => maintenance::into_one(database, id).await,
            false => maintenance::as_asked(database, id).await,
        };
        Ok(self.shared.named(done)?.iter().map(|done| done.rows_written).sum())
    }

    async fn clone_table(
        &self,
        of: (&str, &str),
        version: ReadVersion,
        name: (&str, &str),
    ) -> Result<()> {
        let database = self.shared.database().await?;
        let at = self.shared.read_at(database, version).await?;
        let mut cloned = database.clone_table(of, at, name).await;
        if self.schema_came(&cloned).await? {
            cloned = database.clone_table(of, at, name).await;
        }
        self.shared.named(cloned).map(|_def| ())
    }

    async fn restore(&self, tables: &[(&str, &str)], version: ReadVersion) -> Result<u64> {
        let database = self.shared.database().await?;
        let at = self.shared.read_at(database, version).await?;
        let restored = database.restore(tables, at).await;
        Ok(self.shared.named(restored)?.version.0)
    }

    async fn check_table(
        &self,
        schema: &str,
        table: &str,
        full: bool,
    ) -> Result<Vec<(String, String)>> {
        let table = self.shared.newest_table(schema, table).await?;
        let depth = if full { CheckDepth::Full } else { CheckDepth::Quick };
        let found = self.shared.database().await?.check(&table, depth).await;
        let problems = self.shared.named(found)?.into_iter();
        Ok(problems.map(|problem| (problem.object, problem.evidence)).collect())
    }

    async fn vacuum(&self, keep: Option<Retention>) -> Result<u64> {
        let database = self.shared.database().await?;
        let vacuumed = self.shared.maintenance.vacuum(database, keep).await;
        Ok(self.shared.named(vacuumed)?.files_deleted)
    }

    async fn back_up(&self, to: &dyn Connector) -> Result<u64> {
        let Some(to) = (to as &dyn Any).downcast_ref::<Self>() else {
            return Err(Error::not_supported(format!("BACKUP to a catalog of kind {}", to.kind())));
        };
        let database = self.shared.database().await?;
        let copied = database.back_up(to.shared.location.clone(), &Options::default()).await;
        Ok(self.shared.named(copied)?.objects)
    }

    async fn deltas(&self) -> Result<Vec<DeltaEntry>> {
        match found(self.shared.snapshot(ReadVersion::Committed).await)? {
            Some(snapshot) => self.shared.named(listings::deltas(&snapshot)),
            None => Ok(Vec::new()),
        }
    }

    async fn exports(&self) -> Result<Vec<ExportEntry>> {
        match found(self.shared.database().await)? {
            Some(database) => self.shared.named(listings::exports(database).await),
            None => Ok(Vec::new()),
        }
    }

    async fn changes(&self) -> Result<Vec<ChangeEntry>> {
        match found(self.shared.database().await)? {
            Some(database) => self.shared.named(listings::changes(database).await),
            None => Ok(Vec::new()),
        }
    }

    async fn feeds(&self) -> Result<Vec<FeedEntry>> {
        let Some(database) = found(self.shared.database().await)? else { return Ok(Vec::new()) };
        // Looks for commits of others first.
        self.shared.named(database.snapshot(ReadAt::Committed).await)?;
        let state = database.state();
        let entry = |(feed, state): (&str, &AppState)| FeedEntry {
            feed: feed.to_owned(),
            number: state.seq,
            version: state.applied.version.0,
        };
        Ok(state.feeds().map(entry).collect())
    }

    async fn begin_batch(&self) -> Result<Box<dyn Batch>> {
        let batch = self.shared.database().await?.batch();
        Ok(Box::new(StoreBatch::new(Arc::clone(&self.shared), batch)))
    }
}

/// The error for an option or a type that a table of a store does not have.
pub(super) fn refused_table(schema: &str, table: &str, reason: &str) -> Error {
    let what = format!("table \"{schema}.{table}\" cannot be defined so: {reason}");
    Error::user("INVALID_TABLE", what)
}
