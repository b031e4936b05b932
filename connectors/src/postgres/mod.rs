//! PostgreSQL: rows in binary, straight into Arrow, over several connections under one snapshot.
//!
//! ```text
//! configuration   the properties of a catalog
//! connection      one server session: TLS, pinned settings, budget, deadlines, cancellation
//! snapshot        one transaction per query and catalog: looks up tables, exports what all splits read
//! listing         schemas and tables
//! columns         the columns of a table and how each arrives (wire); values become arrays
//! statistics      what the server knows of a table's rows and values
//! pushdown        which conditions mean the same on both sides; how they are written
//! splits          cuts a table into ranges of pages
//! unchanged       whether the tables of a scan are still what it was planned for
//! protocol        a session that reads rows without the driver
//! reader          one split: rows -> decode -> batches
//! write           rows into a table: batches -> encode -> COPY, one transaction
//! define          what is made and dropped, and of which types
//! ```
//! Only `write` and `define` send statements that write, in sessions of their own, and only if the catalog is writable.
//! No value reaches a statement but through the dialect or a `COPY`.

mod columns;
mod configuration;
mod connection;
mod decode;
mod define;
mod encode;
mod error;
mod listing;
mod numeric;
mod protocol;
mod pushdown;
mod reader;
mod snapshot;
mod splits;
mod statistics;
mod tls;
mod unchanged;
mod values;
mod wire;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use meshwork_engine::catalog::Properties;
use meshwork_engine::connections::Wanted;
use meshwork_engine::connector::{
    Connector, CreateTable, Outcome, Pushdown, ReadVersion, RowSource, SnapshotScope, Split,
    TableEntry,
};
use meshwork_engine::remote::{Reason, ReasonCode, RemoteScan, RemoteTable, RowWriter};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::statistics::TableStatistics;
use meshwork_engine::{Error, Result};
use tokio::sync::watch;

use self::configuration::Configuration;
use self::connection::Server;
use self::snapshot::Snapshot;
use self::write::{Work, Writer};
use crate::relational::{negotiate, qualified, read_only};

/// Returns the connector of one catalog; does no I/O.
pub(crate) fn make(properties: Properties) -> Result<Arc<dyn Connector>> {
    let (configuration, connections) = Configuration::read(properties)?;
    let server = Arc::new(Server::new(configuration, connections));
    let source = Arc::new(PostgresSource { server: Arc::clone(&server) });
    Ok(Arc::new(PostgresConnector { server, source }))
}

/// One catalog of kind `postgres`.
#[derive(Debug)]
struct PostgresConnector {
    server: Arc<Server>,
    source: Arc<PostgresSource>,
}

#[async_trait]
impl Connector for PostgresConnector {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    async fn schema_names(&self) -> Result<Vec<String>> {
        listing::schema_names(&self.server).await
    }

    async fn tables(&self, schema: &str) -> Result<Vec<TableEntry>> {
        listing::tables(&self.server, schema).await
    }

    async fn table(
        &self,
        schema: &str,
        table: &str,
        version: ReadVersion,
        scope: &Arc<QueryScope>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        version.committed_only("postgres")?;
        if !self.server.configuration.shows_schema(schema) {
            return Ok(None);
        }
        let snapshot = Snapshot::of_query(&self.server, scope).await?;
        let Some(columns) = columns::of_table(&self.server, &snapshot, schema, table).await? else {
            return Ok(None);
        };
        let whole = RemoteScan::whole(&self.server.configuration.catalog, schema, table, columns);
        let source = Arc::clone(&self.source) as Arc<dyn RowSource>;
        Ok(Some(Arc::new(RemoteTable::new(whole, source, Arc::clone(scope)))))
    }

    async fn query(
        &self,
        statement: &str,
        scope: &Arc<QueryScope>,
    ) -> Result<Arc<dyn TableProvider>> {
        let snapshot = Snapshot::of_query(&self.server, scope).await?;
        let columns = columns::of_query(&self.server, &snapshot, statement).await?;
        let whole = RemoteScan::of_query(&self.server.configuration.catalog, statement, columns);
        let source = Arc::clone(&self.source) as Arc<dyn RowSource>;
        Ok(Arc::new(RemoteTable::new(whole, source, Arc::clone(scope))))
    }

    fn row_source(&self) -> Option<Arc<dyn RowSource>> {
        Some(Arc::clone(&self.source) as Arc<dyn RowSource>)
    }

    async fn create_schema(&self, schema: &str, if_not_exists: bool) -> Result<()> {
        let mut work = self.work(schema, None).await?;
        work.run_alone(&define::schema_statement(schema, if_not_exists)?).await?;
        work.commit().await
    }

    async fn create_table(&self, table: CreateTable) -> Result<()> {
        let mut work = self.work(&table.schema, Some(&table.table)).await?;
        let to_be = define::to_be(&self.server, &table)?;
        match work.run_alone(&define::statement(&to_be)?).await {
            Err(error) if table.if_not_exists && error.code == "TABLE_ALREADY_EXISTS" => Ok(()),
            Err(error) => Err(error),
            Ok(_rows) => work.commit().await,
        }
    }

    async fn table_to_be(
        &self,
        table: &CreateTable,
        scope: &Arc<QueryScope>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        self.refuse_change(&table.schema)?;
        let whole = define::to_be(&self.server, table)?;
        let source = Arc::clone(&self.source) as Arc<dyn RowSource>;
        Ok(Some(Arc::new(RemoteTable::to_be(whole, source, Arc::clone(scope)))))
    }

    async fn drop_table(&self, schema: &str, table: &str) -> Result<bool> {
        let mut work = self.work(schema, Some(table)).await?;
        let relation = qualified(&pushdown::Postgres, schema, table)?;
        match work.run_alone(&format!("DROP TABLE {relation}")).await {
            Err(error) if error.code == "TABLE_NOT_FOUND" => Ok(false),
            Err(error) if error.code == "SCHEMA_NOT_FOUND" => Ok(false),
            Err(error) => Err(error),
            Ok(_rows) => work.commit().await.map(|()| true),
        }
    }
}

impl PostgresConnector {
    /// Opens a transaction that makes or drops something of a name, if the catalog lets it.
    async fn work(&self, schema: &str, table: Option<&str>) -> Result<Work> {
        self.refuse_change(schema)?;
        let catalog = &self.server.configuration.catalog;
        let name = match table {
            Some(table) => format!("{catalog}.{schema}.{table}"),
            None => format!("{catalog}.{schema}"),
        };
        Work::begin(&self.server, name, None).await
    }

    fn refuse_change(&self, schema: &str) -> Result<()> {
        let configuration = &self.server.configuration;
        if !configuration.writable {
            return Err(read_only(&configuration.catalog));
        }
        match configuration.shows_schema(schema) {
            true => Ok(()),
            false => {
                let message = format!("schema \"{schema}\" is not one of the catalog's");
                Err(Error::user("SCHEMA_NOT_FOUND", message))
            }
        }
    }
}

/// Reads the tables of one catalog.
#[derive(Debug)]
struct PostgresSource {
    server: Arc<Server>,
}

#[async_trait]
impl RowSource for PostgresSource {
    fn negotiate(&self, scan: &RemoteScan, offer: Pushdown<'_>) -> Outcome {
        if !self.server.configuration.pushdown {
            let message = "pushdown is switched off for this catalog";
            return Outcome::Refused(Reason::new(ReasonCode::SwitchedOff, message));
        }
        negotiate::answer(&pushdown::Postgres, scan, offer, &pushdown::Postgres)
    }

    async fn statistics(
        &self,
        whole: &RemoteScan,
        scope: &Arc<QueryScope>,
    ) -> Result<TableStatistics> {
        let snapshot = Snapshot::of_query(&self.server, scope).await?;
        statistics::of_table(&snapshot, whole).await
    }

    async fn splits(
        &self,
        scan: RemoteScan,
        scope: &Arc<QueryScope>,
        settings: &QuerySettings,
    ) -> Result<(RemoteScan, Vec<Split>)> {
        let snapshot = Snapshot::of_query(&self.server, scope).await?;
        splits::cut(&self.server, &snapshot, scan, settings).await
    }

    fn recut(&self, scan: &RemoteScan, splits: Vec<Split>) -> Vec<Split> {
        match splits::is_found_by_index(scan) {
            true => vec![Split::whole()],
            false => splits,
        }
    }

    fn open(
        &self,
        scan: &RemoteScan,
        split: &Split,
        settings: &QuerySettings,
    ) -> Result<SendableRecordBatchStream> {
        reader::open(&self.server, scan, split, settings)
    }

    fn wanted(&self) -> Option<watch::Receiver<Wanted>> {
        Some(self.server.connections.wanted())
    }

    fn snapshot(&self) -> SnapshotScope {
        SnapshotScope::Query
    }

    fn describe(&self, scan: &RemoteScan, split: &Split) -> String {
        splits::statement(scan, split).unwrap_or_else(|error| error.message)
    }

    fn writer(&self, table: &RemoteScan) -> Result<Arc<dyn RowWriter>> {
        let configuration = &self.server.configuration;
        if !configuration.writable {
            return Err(read_only(&configuration.catalog));
        }
        if table.query.is_some() {
            return Err(Error::not_supported("a change of a query's rows"));
        }
        Ok(Arc::new(Writer { server: Arc::clone(&self.server) }))
    }
}
