//! MySQL and MariaDB servers as catalogs; a database there is a schema here.
//!
//! ```text
//! options   properties, the pinned session    types     type there -> type here
//! client    connections: few, killed if left  protocol  a connection that reads rows without the driver
//! values    value -> cell
//! metadata  databases, tables, columns        pushdown  what the server may filter
//! splits    ranges of the key                 read      split -> statement -> batches
//! statistics  rows, distinct values           histogram   how the values lie
//! text      text compared by bytes
//! query     columns of a query in the server's own words
//! write     rows into a table                 define    type here -> type there
//! ```
//! Each session is read-only, but for those of `write`, which a catalog that is not `writable` never opens. There is no snapshot that two
//! connections share, so a scan is one split unless the catalog says `read_consistency = relaxed`.

mod client;
mod define;
mod histogram;
mod metadata;
mod options;
mod protocol;
mod pushdown;
mod query;
mod read;
mod splits;
mod statistics;
mod text;
mod types;
mod values;
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
use meshwork_engine::remote::{RemoteScan, RemoteTable, RowWriter};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::statistics::TableStatistics;
use meshwork_engine::{Error, Result};
use tokio::sync::watch;

use self::client::Client;
use self::options::{Options, ReadConsistency};
use self::write::{Work, Writer};
use crate::relational::{Dialect, negotiate, qualified, read_only};

/// Returns the connector of one server. Does no I/O.
///
/// # Errors
/// `User` when a property is wrong.
pub(crate) fn make(properties: Properties) -> Result<Arc<dyn Connector>> {
    let (options, connections) = Options::new(properties)?;
    let client = Client::new(options, connections);
    Ok(Arc::new(MySql { source: Arc::new(MySqlSource { client }) }))
}

/// One server as a catalog.
#[derive(Debug)]
struct MySql {
    source: Arc<MySqlSource>,
}

#[async_trait]
impl Connector for MySql {
    fn kind(&self) -> &'static str {
        "mysql"
    }

    async fn schema_names(&self) -> Result<Vec<String>> {
        metadata::schema_names(&self.source.client).await
    }

    async fn tables(&self, schema: &str) -> Result<Vec<TableEntry>> {
        match metadata::shown(&self.source.client, schema) {
            true => metadata::tables(&self.source.client, schema).await,
            false => Ok(Vec::new()),
        }
    }

    async fn table(
        &self,
        schema: &str,
        table: &str,
        version: ReadVersion,
        scope: &Arc<QueryScope>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        let client = &self.source.client;
        if !metadata::shown(client, schema) {
            return Ok(None);
        }
        version.committed_only("mysql")?;
        let Some(columns) = metadata::columns(client, schema, table).await? else {
            return Ok(None);
        };
        let whole = RemoteScan::whole(&client.options.catalog, schema, table, columns);
        let source = Arc::clone(&self.source) as Arc<dyn RowSource>;
        Ok(Some(Arc::new(RemoteTable::new(whole, source, Arc::clone(scope)))))
    }

    async fn query(
        &self,
        statement: &str,
        scope: &Arc<QueryScope>,
    ) -> Result<Arc<dyn TableProvider>> {
        let client = &self.source.client;
        let columns = query::columns(client, statement).await?;
        let whole = RemoteScan::of_query(&client.options.catalog, statement, columns);
        let source = Arc::clone(&self.source) as Arc<dyn RowSource>;
        Ok(Arc::new(RemoteTable::new(whole, source, Arc::clone(scope))))
    }

    fn row_source(&self) -> Option<Arc<dyn RowSource>> {
        Some(Arc::clone(&self.source) as Arc<dyn RowSource>)
    }

    async fn create_schema(&self, schema: &str, if_not_exists: bool) -> Result<()> {
        let mut work = self.work(schema, None).await?;
        let condition = if if_not_exists { "IF NOT EXISTS " } else { "" };
        let name = pushdown::MySql.identifier(schema)?;
        work.run(&format!("CREATE DATABASE {condition}{name}")).await?;
        work.finish().await;
        Ok(())
    }

    async fn create_table(&self, table: CreateTable) -> Result<()> {
        let mut work = self.work(&table.schema, Some(&table.table)).await?;
        let to_be = define::to_be(&self.source.client, &table)?;
        let relation = qualified(&pushdown::MySql, &table.schema, &table.table)?;
        let made = work.run(&define::statement(&relation, &to_be.columns)?).await;
        work.finish().await;
        match made {
            Err(error) if table.if_not_exists && error.code == "TABLE_ALREADY_EXISTS" => Ok(()),
            other => other.map(|_rows| ()),
        }
    }

    async fn table_to_be(
        &self,
        table: &CreateTable,
        scope: &Arc<QueryScope>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        self.refuse_change(&table.schema)?;
        let whole = define::to_be(&self.source.client, table)?;
        let source = Arc::clone(&self.source) as Arc<dyn RowSource>;
        Ok(Some(Arc::new(RemoteTable::to_be(whole, source, Arc::clone(scope)))))
    }

    async fn drop_table(&self, schema: &str, table: &str) -> Result<bool> {
        let mut work = self.work(schema, Some(table)).await?;
        let relation = qualified(&pushdown::MySql, schema, table)?;
        let dropped = work.run(&format!("DROP TABLE {relation}")).await;
        work.finish().await;
        match dropped {
            Err(error) if error.code == "TABLE_NOT_FOUND" => Ok(false),
            Err(error) if error.code == "SCHEMA_NOT_FOUND" => Ok(false),
            other => other.map(|_rows| true),
        }
    }
}

impl MySql {
    /// Opens a session that makes or drops something, if the catalog lets it.
    async fn work(&self, schema: &str, table: Option<&str>) -> Result<Work> {
        self.refuse_change(schema)?;
        let client = &self.source.client;
        let catalog = &client.options.catalog;
        let name = match table {
            Some(table) => format!("{catalog}.{schema}.{table}"),
            None => format!("{catalog}.{schema}"),
        };
        Work::begin(client, name).await
    }

    fn refuse_change(&self, schema: &str) -> Result<()> {
        let client = &self.source.client;
        if !client.options.writable {
            return Err(read_only(&client.options.catalog));
        }
        match metadata::shown(client, schema) {
            true => Ok(()),
            false => {
                let message = format!("schema \"{schema}\" is not one of the catalog's");
                Err(Error::user("SCHEMA_NOT_FOUND", message))
            }
        }
    }
}

/// Reads scans of one server.
#[derive(Debug)]
struct MySqlSource {
    client: Arc<Client>,
}

impl MySqlSource {
    /// Returns ranges of the key, or the whole where there is no key or nothing to gain. Of a join they are those of the side
    /// that is cut.
    async fn cut(&self, scan: &RemoteScan, splits_max: usize) -> Result<Vec<Split>> {
        let whole = vec![Split::whole()];
        let splits_max = splits_max.min(self.client.connections.n_readers_max());
        let relaxed = self.client.options.read_consistency == ReadConsistency::Relaxed;
        let table = scan.base();
        if !relaxed || scan.limit.is_some() || table.query.is_some() || splits_max < 2 {
            return Ok(whole);
        }
        let n_rows = metadata::rows_estimated(&self.client, &table.schema, &table.table).await?;
        let worth = n_rows.unwrap_or(0) / self.client.options.split_rows_min;
        let n_splits = usize::try_from(worth).unwrap_or(usize::MAX).min(splits_max);
        if n_splits < 2 {
            return Ok(whole);
        }
        let name = metadata::leading_key(&self.client, &table.schema, &table.table).await?;
        let Some(key) = name.and_then(|name| splits::key(table, &name)) else { return Ok(whole) };
        match key_ends(&self.client, table, key).await? {
            Some((least, greatest)) => Ok(splits::ranges(key, least, greatest, n_splits)),
            None => Ok(whole),
        }
    }
}

/// Returns the least and the greatest key; none of an empty table.
async fn key_ends(
    client: &Arc<Client>,
    scan: &RemoteScan,
    key: usize,
) -> Result<Option<(i128, i128)>> {
    let Some(column) = scan.columns.get(key) else { return Ok(None) };
    let dialect = pushdown::MySql;
    let column = dialect.identifier(&column.name)?;
    let (schema, table) = (dialect.identifier(&scan.schema)?, dialect.identifier(&scan.table)?);
    // As text, because the key may be signed or not.
    let question = format!(
        "SELECT CAST(min({column}) AS CHAR), CAST(max({column}) AS CHAR) FROM {schema}.{table}"
    );
    let ends: Vec<(Option<String>, Option<String>)> =
        client.ask("finding the ends of a key", &question, Vec::new()).await?;
    let number = |end: &Option<String>| end.as_ref().and_then(|text| text.parse::<i128>().ok());
    Ok(ends.first().and_then(|(least, greatest)| Some((number(least)?, number(greatest)?))))
}

#[async_trait]
impl RowSource for MySqlSource {
    fn negotiate(&self, scan: &RemoteScan, offer: Pushdown<'_>) -> Outcome {
        negotiate::answer(&pushdown::MySql, scan, offer, &pushdown::MySql)
    }

    async fn statistics(
        &self,
        whole: &RemoteScan,
        _scope: &Arc<QueryScope>,
    ) -> Result<TableStatistics> {
        if whole.query.is_some() {
            return Ok(TableStatistics::default());
        }
        statistics::of_table(&self.client, whole).await
    }

    async fn splits(
        &self,
        scan: RemoteScan,
        _scope: &Arc<QueryScope>,
        settings: &QuerySettings,
    ) -> Result<(RemoteScan, Vec<Split>)> {
        let splits = self.cut(&scan, settings.splits_max).await?;
        Ok((scan, splits))
    }

    fn open(
        &self,
        scan: &RemoteScan,
        split: &Split,
        settings: &QuerySettings,
    ) -> Result<SendableRecordBatchStream> {
        read::open(&self.client, scan, split, settings)
    }

    fn wanted(&self) -> Option<watch::Receiver<Wanted>> {
        Some(self.client.connections.wanted())
    }

    fn snapshot(&self) -> SnapshotScope {
        SnapshotScope::Split
    }

    fn describe(&self, scan: &RemoteScan, split: &Split) -> String {
        read::statement(scan, split).unwrap_or_else(|error| error.message)
    }

    fn writer(&self, table: &RemoteScan) -> Result<Arc<dyn RowWriter>> {
        if !self.client.options.writable {
            return Err(read_only(&self.client.options.catalog));
        }
        if table.query.is_some() {
            return Err(Error::not_supported("a change of a query's rows"));
        }
        Ok(Arc::new(Writer { client: Arc::clone(&self.client) }))
    }
}
