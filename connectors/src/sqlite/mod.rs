//! SQLite files as catalogs: the relational source that needs no server.
//!
//! ```text
//! file      opens the file, read-only        types     declaration -> type of the engine
//! metadata  tables and columns               values    value -> cell, held to the declaration
//! statistics  what SQLite's own ANALYZE found
//! pushdown  what SQLite may filter           read      scan -> statement -> batches, on its own thread
//! ```
//! The file is never written to or created. SQLite checks no types, so a value that breaks its column's
//! declaration is an error (or NULL, if the catalog says so), never a silent guess.

mod file;
mod metadata;
mod pushdown;
mod read;
mod statistics;
mod types;
mod values;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use meshwork_engine::catalog::Properties;
use meshwork_engine::connector::{
    Connector, Outcome, Pushdown, ReadVersion, RowSource, Split, TableEntry,
};
use meshwork_engine::remote::{RemoteScan, RemoteTable};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::statistics::TableStatistics;
use meshwork_engine::{Result, environment};

use self::file::File;
use crate::relational::negotiate;

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
    let file = File { catalog: properties.catalog().to_owned(), path };
    properties.finish()?;
    Ok(Arc::new(Sqlite { source: Arc::new(SqliteSource { file, mismatch }) }))
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

    fn row_source(&self) -> Option<Arc<dyn RowSource>> {
        Some(Arc::clone(&self.source) as Arc<dyn RowSource>)
    }
}

/// Reads scans of one SQLite file.
#[derive(Debug)]
struct SqliteSource {
    file: File,
    mismatch: Mismatch,
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

    fn describe(&self, scan: &RemoteScan, _split: &Split) -> String {
        read::statement(scan).unwrap_or_else(|error| error.message)
    }
}
