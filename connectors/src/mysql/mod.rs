//! MySQL and MariaDB servers as catalogs; a database there is a schema here.
//!
//! ```text
//! options   properties, the pinned session    types     type there -> type here
//! client    connections: few, killed if left  values    value -> cell
//! metadata  databases, tables, columns        pushdown  what the server may filter
//! splits    ranges of the key                 read      split -> statement -> batches
//! statistics  rows, distinct values           histogram   how the values lie
//! text      text compared by bytes
//! ```
//! Nothing is ever written to the server: each session is read-only. There is no snapshot that two
//! connections share, so a scan is one split unless the catalog says `read_consistency = relaxed`.

mod client;
mod histogram;
mod metadata;
mod options;
mod pushdown;
mod read;
mod splits;
mod statistics;
mod text;
mod types;
mod values;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use meshwork_engine::Result;
use meshwork_engine::catalog::Properties;
use meshwork_engine::connector::{
    Connector, Outcome, Pushdown, ReadVersion, RowSource, Split, TableEntry,
};
use meshwork_engine::remote::{RemoteScan, RemoteTable};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::statistics::TableStatistics;

use self::client::Client;
use self::options::{Options, ReadConsistency};
use crate::relational::{Dialect, negotiate};

/// Returns the connector of one server. Does no I/O.
///
/// # Errors
/// `User` when a property is wrong.
pub(crate) fn make(properties: Properties) -> Result<Arc<dyn Connector>> {
    let client = Client::new(Options::new(properties)?);
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

    fn row_source(&self) -> Option<Arc<dyn RowSource>> {
        Some(Arc::clone(&self.source) as Arc<dyn RowSource>)
    }
}

/// Reads scans of one server.
#[derive(Debug)]
struct MySqlSource {
    client: Arc<Client>,
}

impl MySqlSource {
    /// Returns ranges of the key, or the whole where there is no key or nothing to gain.
    async fn cut(&self, scan: &RemoteScan, splits_max: usize) -> Result<Vec<Split>> {
        let splits_max = splits_max.min(self.client.options.connections_max);
        let relaxed = self.client.options.read_consistency == ReadConsistency::Relaxed;
        let Some(key) = splits::key(scan) else { return Ok(vec![Split::whole()]) };
        if !relaxed || scan.limit.is_some() || splits_max < 2 {
            return Ok(vec![Split::whole()]);
        }
        let n_rows = metadata::rows_estimated(&self.client, &scan.schema, &scan.table).await?;
        let worth = n_rows.unwrap_or(0) / splits::ROWS_PER_SPLIT_MIN;
        let n_splits = usize::try_from(worth).unwrap_or(usize::MAX).min(splits_max);
        if n_splits < 2 {
            return Ok(vec![Split::whole()]);
        }
        match key_ends(&self.client, scan, key).await? {
            Some((least, greatest)) => Ok(splits::ranges(key, least, greatest, n_splits)),
            None => Ok(vec![Split::whole()]),
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
        read::open(&self.client, scan, split, settings.batch_size)
    }

    fn describe(&self, scan: &RemoteScan, split: &Split) -> String {
        read::statement(scan, split).unwrap_or_else(|error| error.message)
    }
}
