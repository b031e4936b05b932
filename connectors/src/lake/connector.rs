//! The catalog of a lake: names, lookups and statements, put together from the modules beside it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::object_store::ObjectStoreUrl;
use meshwork_engine::connector::{
    Connector, CreateTable, NamedStore, ReadVersion, TableEntry, TableKind,
};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::statistics::TableKey;
use meshwork_engine::{Error, Result};
use object_store::ObjectStore;
use url::Url;

use super::catalog_store::CatalogStore;
use super::format::{Format, Formats};
use super::layout::{Found, Layout, Shape};
use super::location::Location;
use super::partitions::{Partitioned, partition};
use super::schema::{Schemas, declared};
use super::table::LakeTable;
use super::upload::Aborts;
use super::writes::{self, DropRules, Target};

/// One catalog of kind `lake`.
pub(super) struct Lake {
    shared: Arc<Shared>,
    drop_rules: DropRules,
}

/// What lookups need; they may outlive a call.
struct Shared {
    catalog: String,
    url: Url,
    location: Location,
    layout: Layout,
    schemas: Schemas,
    aborts: Arc<Aborts>,
}

impl fmt::Debug for Lake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lake")
            .field("catalog", &self.shared.catalog)
            .field("location", &self.shared.location)
            .finish_non_exhaustive()
    }
}

impl Lake {
    pub(super) fn new(
        catalog: String,
        url: Url,
        location: Location,
        layout: Layout,
        formats: Formats,
        allow_drop: bool,
    ) -> Self {
        let local_root = location.local_root().cloned();
        let schemas = Schemas::new(formats);
        Self {
            shared: Arc::new(Shared {
                catalog,
                url,
                location,
                layout,
                schemas,
                aborts: Arc::default(),
            }),
            drop_rules: DropRules { foreign_too: allow_drop, local_root },
        }
    }
}

#[async_trait]
impl Connector for Lake {
    fn kind(&self) -> &'static str {
        "lake"
    }

    async fn schema_names(&self) -> Result<Vec<String>> {
        self.shared.named(self.shared.location.check())?;
        self.shared.named(self.shared.layout.schemas().await)
    }

    async fn tables(&self, schema: &str) -> Result<Vec<TableEntry>> {
        self.shared.named(self.shared.location.check())?;
        let names = self.shared.named(self.shared.layout.tables(schema).await)?;
        let entry = |name| TableEntry { name, kind: TableKind::Table, comment: None };
        Ok(names.into_iter().map(entry).collect())
    }

    /// The files of a table are listed at its first use in a query; all scans of the query read those.
    async fn table(
        &self,
        schema: &str,
        table: &str,
        version: ReadVersion,
        scope: &Arc<QueryScope>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        version.committed_only("lake")?;
        let key = format!("lake:{}:{schema}/{table}", self.shared.catalog);
        let (shared, schema, table) =
            (Arc::clone(&self.shared), schema.to_owned(), table.to_owned());
        let looked_up = scope
            .resource(&key, || {
                Box::pin(async move { shared.named(shared.look_up(&schema, &table).await) })
            })
            .await;
        match looked_up {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.code == "TABLE_NOT_FOUND" => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn stores(&self) -> Vec<NamedStore> {
        let store: Arc<dyn ObjectStore> = Arc::<CatalogStore>::clone(self.shared.layout.store());
        vec![NamedStore { url: self.shared.url.clone(), store }]
    }

    async fn create_schema(&self, schema: &str, if_not_exists: bool) -> Result<()> {
        self.shared.named(self.shared.location.check())?;
        let created = writes::create_schema(&self.shared.layout, schema, if_not_exists).await;
        self.shared.named(created)
    }

    async fn create_table(&self, table: CreateTable) -> Result<()> {
        self.shared.named(self.shared.location.check())?;
        self.shared.named(writes::create_table(&self.shared.layout, table).await)
    }

    async fn drop_table(&self, schema: &str, table: &str) -> Result<bool> {
        let dropped =
            writes::drop_table(&self.shared.layout, &self.drop_rules, schema, table).await;
        self.shared.named(dropped)
    }
}

impl Shared {
    /// Says in an error's message which catalog it is about.
    fn named<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|mut error| {
            error.message = format!("catalog \"{}\": {}", self.catalog, error.message);
            error
        })
    }

    async fn look_up(&self, schema: &str, table: &str) -> Result<LakeTable> {
        self.location.check()?;
        let name = format!("{schema}.{table}");
        let Some(mut found) = self.layout.find(schema, table).await? else {
            // An error, because a query's scope keeps what it looked up, but not a lack.
            return Err(Error::user("TABLE_NOT_FOUND", name));
        };
        let listed = std::mem::take(&mut found.files);
        let Partitioned { fields, files } = partition(listed, &found.root, &name)?;
        let store: Arc<dyn ObjectStore> = Arc::<CatalogStore>::clone(self.layout.store());
        let format = found.format.unwrap_or(Format::Parquet);
        let columns = match (&found.schema_file, files.is_empty()) {
            (Some(file), _) => declared(&store, file).await?,
            (None, false) => self.schemas.of_files(&store, format, &files, &name).await?,
            (None, true) => return Err(without_files(&name)),
        };
        let file_schema = without(&columns, &fields);
        let all = file_schema.fields().iter().chain(&fields).cloned().collect::<Vec<_>>();
        Ok(LakeTable {
            url: ObjectStoreUrl::parse(self.url.as_str())?,
            store,
            formats: self.schemas.formats().clone(),
            format,
            files,
            file_schema,
            target: target(&found, format, fields.is_empty()),
            partition_fields: fields,
            schema: Arc::new(Schema::new(all)),
            name,
            key: TableKey {
                catalog: self.catalog.clone(),
                schema: schema.to_owned(),
                table: table.to_owned(),
            },
            aborts: Arc::clone(&self.aborts),
        })
    }
}

/// A column that a folder names is taken from the folder, even if the files have it too.
fn without(columns: &SchemaRef, fields: &[FieldRef]) -> SchemaRef {
    let is_kept =
        |field: &&FieldRef| !fields.iter().any(|partition| partition.name() == field.name());
    Arc::new(Schema::new(columns.fields().iter().filter(is_kept).cloned().collect::<Vec<_>>()))
}

fn target(found: &Found, format: Format, unpartitioned: bool) -> Target {
    match (found.shape, format) {
        (Shape::File, _) => Target::Refused("it is a single file"),
        (Shape::Glob, _) => Target::Refused("it is defined by a glob"),
        (Shape::Directory, Format::Csv | Format::Json) => {
            Target::Refused("only Parquet tables take rows")
        }
        (Shape::Directory, Format::Parquet) if unpartitioned => {
            Target::Directory(found.root.clone())
        }
        (Shape::Directory, Format::Parquet) => Target::Refused("it is partitioned by folders"),
    }
}

fn without_files(name: &str) -> Error {
    let what = format!("table \"{name}\" has no files, so its columns are not known");
    Error::user("TABLE_WITHOUT_FILES", what)
}
