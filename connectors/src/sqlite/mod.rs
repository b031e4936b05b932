//! SQLite files as catalogs: the relational source that needs no server.
//!
//! ```text
//! file      opens the file                   types     declaration -> type of the engine
//! metadata  tables and columns               values    value -> cell, held to the declaration
//! statistics  what SQLite's own ANALYZE found
//! pushdown  what SQLite may filter           read      scan -> statement -> batches, on its own thread
//! write     rows into a table                define    tables that are made and dropped
//! ```
//! The file is never created, and opened for writing only if the catalog is `writable`. SQLite checks no types, so a value that breaks its column's
//! declaration is an error (or NULL, if the catalog says so), never a silent guess.

mod define;
mod file;
mod metadata;
mod pushdown;
mod read;
mod statistics;
mod types;
mod values;
mod write;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use meshwork_engine::catalog::Properties;
use meshwork_engine::connector::{
    Connector, CreateTable, Outcome, Pushdown, ReadVersion, RowSource, SnapshotScope, Split,
    TableEntry,
};
use meshwork_engine::remote::{RemoteScan, RemoteTable, RowWriter};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::statistics::TableStatistics;
use meshwork_engine::{Error, Result, environment};

use self::file::File;
use self::write::{Failed, Writer, in_transaction};
use crate::relational::{negotiate, read_only};

/// The one schema of a SQLite file, by SQLite's own name.
const SCHEMA: &str = "main";

/// What becomes of a value that breaks its column's declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mismatch {
    /// The query fails and names the column.
    Error,
    /// It is read as NULL.
    Null,
}

/// Returns the connector of one SQLite file. Does no I/O.
///
/// # Errors
/// `User` when a property is wrong.
pub(crate) fn make(mut properties: Properties) -> Result<Arc<dyn Connector>> {
    let path = PathBuf::from(properties.required("path")?);
    let mismatch = match properties.optional("mismatch").as_deref() {
        None | Some("error") => Mismatch::Error,
        Some("null") => Mismatch::Null,
        Some(_) => return Err(properties.wrong("property \"mismatch\" is neither error nor null")),
    };
    let writable = properties.parsed("writable", false)?;
    let file = File { catalog: properties.catalog().to_owned(), path };
    properties.finish()?;
    Ok(Arc::new(Sqlite { source: Arc::new(SqliteSource { file, mismatch, writable }) }))
}

/// One SQLite file as a catalog.
#[derive(Debug)]
struct Sqlite {
    source: Arc<SqliteSource>,
}

#[async_trait]
impl Connector for Sqlite {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    async fn schema_names(&self) -> Result<Vec<String>> {
        let file = self.source.file.clone();
        environment::spawn_blocking("sqlite open", move || file.open().map(drop)).await??;
        Ok(vec![SCHEMA.to_owned()])
    }

    async fn tables(&self, schema: &str) -> Result<Vec<TableEntry>> {
        if schema != SCHEMA {
            return Ok(Vec::new());
        }
        let file = self.source.file.clone();
        environment::spawn_blocking("sqlite tables", move || metadata::tables(&file)).await?
    }

    async fn table(
        &self,
        schema: &str,
        table: &str,
        version: ReadVersion,
        scope: &Arc<QueryScope>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        if schema != SCHEMA {
            return Ok(None);
        }
        version.committed_only("sqlite")?;
        let source = Arc::clone(&self.source);
        let (name, mismatch) = (table.to_owned(), source.mismatch);
        let file = source.file.clone();
        let columns = environment::spawn_blocking("sqlite columns", move || {
            metadata::columns(&file, &name, mismatch)
        })
        .await??;
        let Some(columns) = columns else { return Ok(None) };
        let whole = RemoteScan::whole(&source.file.catalog, schema, table, columns);
        Ok(Some(Arc::new(RemoteTable::new(whole, source, Arc::clone(scope)))))
    }

    async fn query(
        &self,
        statement: &str,
        scope: &Arc<QueryScope>,
    ) -> Result<Arc<dyn TableProvider>> {
        let (file, query) = (self.source.file.clone(), statement.to_owned());
        let describe = move || metadata::columns_of_query(&file, &query);
        let columns = environment::spawn_blocking("sqlite query", describe).await??;
        let whole = RemoteScan::of_query(&self.source.file.catalog, statement, columns);
        let source = Arc::clone(&self.source) as Arc<dyn RowSource>;
        Ok(Arc::new(RemoteTable::new(whole, source, Arc::clone(scope))))
    }

    fn row_source(&self) -> Option<Arc<dyn RowSource>> {
        Some(Arc::clone(&self.source) as Arc<dyn RowSource>)
    }

    async fn create_table(&self, table: CreateTable) -> Result<()> {
        let to_be = define::to_be(&self.source.file, &table)?;
        let statement = define::statement(&to_be)?;
        let make = move |connection: &rusqlite::Connection| Ok(connection.execute(&statement, [])?);
        match self.source.change(&table.table, make).await {
            Err(error) if table.if_not_exists && error.code == "TABLE_ALREADY_EXISTS" => Ok(()),
            other => other.map(|_rows| ()),
        }
    }

    async fn table_to_be(
        &self,
        table: &CreateTable,
        scope: &Arc<QueryScope>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        self.source.refuse_change()?;
        let whole = define::to_be(&self.source.file, table)?;
        let source = Arc::clone(&self.source) as Arc<dyn RowSource>;
        Ok(Some(Arc::new(RemoteTable::to_be(whole, source, Arc::clone(scope)))))
    }

    async fn drop_table(&self, schema: &str, table: &str) -> Result<bool> {
        self.source.refuse_change()?;
        if schema != SCHEMA {
            return Ok(false);
        }
        let name = table.to_owned();
        self.source.change(table, move |connection| define::drop_table(connection, &name)).await
    }
}

/// Reads scans of one SQLite file.
#[derive(Debug)]
struct SqliteSource {
    file: File,
    mismatch: Mismatch,
    /// Whether tables may be changed, made and dropped.
    writable: bool,
}

impl SqliteSource {
    fn refuse_change(&self) -> Result<()> {
        match self.writable {
            true => Ok(()),
            false => Err(read_only(&self.file.catalog)),
        }
    }

    /// Makes or drops a table, on a blocking thread.
    async fn change<T: Send + 'static>(
        &self,
        table: &str,
        work: impl FnOnce(&rusqlite::Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T> {
        self.refuse_change()?;
        let file = self.file.clone();
        let name = format!("{}.{SCHEMA}.{table}", file.catalog);
        environment::spawn_blocking("sqlite change", move || in_transaction(&file, &name, work))
            .await?
    }
}

#[async_trait]
impl RowSource for SqliteSource {
    fn negotiate(&self, scan: &RemoteScan, offer: Pushdown<'_>) -> Outcome {
        let rules = pushdown::SqliteRules(self.mismatch);
        negotiate::answer(&pushdown::Sqlite, scan, offer, &rules)
    }

    async fn statistics(
        &self,
        whole: &RemoteScan,
        _scope: &Arc<QueryScope>,
    ) -> Result<TableStatistics> {
        if whole.query.is_some() {
            return Ok(TableStatistics::default());
        }
        let (file, table) = (self.file.clone(), whole.table.clone());
        let ask = move || statistics::of_table(&file, &table);
        environment::spawn_blocking("sqlite statistics", ask).await?
    }

    /// One split: one statement is one consistent read, several would not be.
    async fn splits(
        &self,
        scan: RemoteScan,
        _scope: &Arc<QueryScope>,
        _settings: &QuerySettings,
    ) -> Result<(RemoteScan, Vec<Split>)> {
        Ok((scan, vec![Split::whole()]))
    }

    fn open(
        &self,
        scan: &RemoteScan,
        _split: &Split,
        settings: &QuerySettings,
    ) -> Result<SendableRecordBatchStream> {
        read::open(self, scan, settings.batch_size)
    }

    fn snapshot(&self) -> SnapshotScope {
        SnapshotScope::Split
    }

    fn describe(&self, scan: &RemoteScan, _split: &Split) -> String {
        read::statement(scan).unwrap_or_else(|error| error.message)
    }

    fn writer(&self, table: &RemoteScan) -> Result<Arc<dyn RowWriter>> {
        self.refuse_change()?;
        if table.query.is_some() {
            return Err(Error::not_supported("a change of a query's rows"));
        }
        Ok(Arc::new(Writer { file: self.file.clone() }))
    }
}
