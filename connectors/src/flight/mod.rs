//! Flight SQL: any server that speaks it, another Meshwork included.
//!
//! ```text
//! options    the properties of a catalog          client    calls: who asks, deadlines, connections, other hosts
//! listing    catalogs, schemas, tables            peer      who the server is, and the columns of a table
//! pushdown   what it is asked to do               read      scan -> statement -> endpoints -> batches
//! error      what the server says, in our words
//! ```
//! Rows arrive as Arrow and stay what they are. Nothing is written, and nothing is believed of a server that does not say
//! that it is a Meshwork, but what no database does otherwise.

mod client;
mod error;
mod listing;
mod options;
mod peer;
mod pushdown;
mod read;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use meshwork_engine::catalog::Properties;
use meshwork_engine::connector::{
    Connector, Outcome, Pushdown, ReadVersion, RowSource, Split, TableEntry,
};
use meshwork_engine::remote::{Reason, ReasonCode, RemoteColumn, RemoteScan, RemoteTable};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::{Error, Result};
use tokio::sync::OnceCell;

use self::client::Client;
use self::options::Options;
use self::peer::{Detail, Peer, peer, remote_columns};

/// Returns the connector of one catalog; does no I/O.
pub(crate) fn make(properties: Properties) -> Result<Arc<dyn Connector>> {
    let client = Arc::new(Client::new(Options::read(properties)?));
    Ok(Arc::new(Flight { source: Arc::new(FlightSource { client }), peer: OnceCell::new() }))
}

/// One server as a catalog.
#[derive(Debug)]
struct Flight {
    source: Arc<FlightSource>,
    /// Who the server is, asked once.
    peer: OnceCell<Peer>,
}

impl Flight {
    async fn peer(&self) -> Result<&Peer> {
        self.peer.get_or_try_init(|| peer(&self.source.client)).await
    }

    fn table_of(&self, whole: RemoteScan, scope: &Arc<QueryScope>) -> Arc<dyn TableProvider> {
        let source = Arc::clone(&self.source) as Arc<dyn RowSource>;
        Arc::new(RemoteTable::new(whole, source, Arc::clone(scope)))
    }
}

#[async_trait]
impl Connector for Flight {
    fn kind(&self) -> &'static str {
        "flight"
    }

    async fn schema_names(&self) -> Result<Vec<String>> {
        Ok(listing::places(&self.source.client).await?.into_keys().collect())
    }

    async fn tables(&self, schema: &str) -> Result<Vec<TableEntry>> {
        let client = &self.source.client;
        match listing::place(client, schema).await? {
            Some(place) => listing::tables(client, &place).await,
            None => Ok(Vec::new()),
        }
    }

    async fn table(
        &self,
        schema: &str,
        table: &str,
        version: ReadVersion,
        scope: &Arc<QueryScope>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        version.committed_only("flight")?;
        let client = &self.source.client;
        let Some(place) = listing::place(client, schema).await? else { return Ok(None) };
        let detail = Detail::new(self.peer().await?, &place);
        let catalog = &client.options.catalog;
        let select = format!("SELECT * FROM {}", pushdown::relation(&detail, table)?);
        let Some(columns) = listing::columns(client, &place, table, &select).await? else {
            return Ok(None);
        };
        let columns = remote_columns(&columns, &detail)?;
        Ok(Some(self.table_of(RemoteScan::whole(catalog, schema, table, columns), scope)))
    }

    async fn query(
        &self,
        statement: &str,
        scope: &Arc<QueryScope>,
    ) -> Result<Arc<dyn TableProvider>> {
        let peer = self.peer().await?;
        if !peer.is_meshwork {
            // Whether it runs one statement or several, and whether it only reads, nobody knows.
            let what = "TABLE(system.query(...)) of a Flight SQL server that is no Meshwork";
            return Err(Error::not_supported(what));
        }
        let client = &self.source.client;
        let catalog = &client.options.catalog;
        let whole = RemoteScan::of_query(catalog, statement, Vec::new());
        let inside = whole.query.clone().unwrap_or_default();
        // As a table of FROM it can only be a query.
        let wrapped = format!("SELECT * FROM (\n{inside}\n) AS query");
        let schema = listing::query_columns(client, &wrapped).await?;
        let detail = Detail { peer: peer.clone(), ..Detail::default() };
        let columns: Vec<RemoteColumn> = remote_columns(&schema, &detail)?;
        Ok(self.table_of(RemoteScan::of_query(catalog, statement, columns), scope))
    }

    fn row_source(&self) -> Option<Arc<dyn RowSource>> {
        Some(Arc::clone(&self.source) as Arc<dyn RowSource>)
    }
}

/// Reads scans of one server.
#[derive(Debug)]
struct FlightSource {
    client: Arc<Client>,
}

#[async_trait]
impl RowSource for FlightSource {
    fn negotiate(&self, scan: &RemoteScan, offer: Pushdown<'_>) -> Outcome {
        match self.client.options.pushdown {
            true => pushdown::answer(scan, offer),
            false => Outcome::Refused(Reason::new(
                ReasonCode::SwitchedOff,
                "pushdown is switched off for this catalog",
            )),
        }
    }

    /// One split: where the rows lie is known only when the final statement is asked, and only in the session that asks.
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
        read::open(&self.client, scan, settings.batch_size)
    }

    fn describe(&self, scan: &RemoteScan, _split: &Split) -> String {
        read::statement(scan).unwrap_or_else(|error| error.message)
    }
}
