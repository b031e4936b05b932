//! A JSON API as tables, by a manifest and without code.
//!
//! ```text
//! manifest (YAML) ─► spec            checked once, when the catalog is defined
//! filters ─► pushdown                parameters, by the manifest's rules; the engine checks again
//! read: page after page ─► http      credentials, retries, deadlines; guard says where it may go
//!   └─► columns                      JSON rows into declared types, strictly
//! ```
//! A listing that cannot be read to its end is an error, never a short answer. Secrets stand in the
//! catalog's properties and are only referred to in the manifest.

mod columns;
mod guard;
mod http;
mod json_path;
mod manifest;
mod pushdown;
mod read;
mod spec;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use meshwork_engine::catalog::{Properties, Secret};
use meshwork_engine::connector::{
    Connector, Outcome, Pushdown, ReadVersion, RowSource, Split, TableEntry, TableKind,
};
use meshwork_engine::remote::{Reason, ReasonCode, RemoteColumn, RemoteScan, RemoteTable};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::statistics::TableStatistics;
use meshwork_engine::{Error, Result};
use serde_json::Value;

use self::columns::Column;
use self::http::Http;
use self::manifest::Manifest;
use self::read::{Listing, first_url, table_of};
use self::spec::{Api, Table, Values};

/// The one schema of a catalog of this kind.
const SCHEMA: &str = "api";

/// Returns the connector of a catalog of kind `rest`. Reads the manifest's file and asks nobody.
///
/// # Errors
/// `User` when a property or the manifest cannot be used.
pub(crate) fn make(mut properties: Properties) -> Result<Arc<dyn Connector>> {
    let catalog = properties.catalog().to_owned();
    let text = match (properties.optional("manifest"), properties.optional("manifest_inline")) {
        (Some(path), None) => std::fs::read_to_string(&path).map_err(|e| {
            properties.wrong(format!("manifest \"{path}\" could not be read")).caused_by(&e)
        })?,
        (None, Some(text)) => text,
        _ => return Err(properties.wrong("give either \"manifest\" or \"manifest_inline\"")),
    };
    let config = properties.starting_with("config.");
    let secrets = properties.starting_with("secret.").into_iter();
    let secrets = secrets.map(|(name, value)| (name, Secret::from(value))).collect();
    let read =
        Manifest::parse(&text).and_then(|manifest| Api::new(manifest, &Values { config, secrets }));
    let api = read.map_err(|mut e| {
        e.message = format!("catalog \"{catalog}\": {}", e.message);
        e
    })?;
    properties.finish()?;
    let source =
        Arc::new(RestSource { http: Arc::new(Http::new(catalog.clone(), Arc::new(api))?) });
    Ok(Arc::new(Rest { catalog, source }))
}

/// One catalog of kind `rest`.
#[derive(Debug)]
struct Rest {
    catalog: String,
    source: Arc<RestSource>,
}

#[derive(Debug)]
struct RestSource {
    http: Arc<Http>,
}

#[async_trait]
impl Connector for Rest {
    fn kind(&self) -> &'static str {
        "rest"
    }

    async fn schema_names(&self) -> Result<Vec<String>> {
        Ok(vec![SCHEMA.to_owned()])
    }

    async fn tables(&self, schema: &str) -> Result<Vec<TableEntry>> {
        if schema != SCHEMA {
            return Ok(Vec::new());
        }
        let entry = |(name, table): (&String, &Table)| TableEntry {
            name: name.clone(),
            kind: TableKind::Table,
            comment: table.description.clone(),
        };
        Ok(self.source.http.api.tables.iter().map(entry).collect())
    }

    async fn table(
        &self,
        schema: &str,
        table: &str,
        version: ReadVersion,
        scope: &Arc<QueryScope>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        version.committed_only("rest")?;
        let Some(known) = self.source.http.api.tables.get(table).filter(|_| schema == SCHEMA)
        else {
            return Ok(None);
        };
        let columns = known.columns.iter().map(remote_column).collect();
        let scan = RemoteScan::whole(&self.catalog, schema, table, columns);
        let source: Arc<dyn RowSource> = Arc::<RestSource>::clone(&self.source);
        Ok(Some(Arc::new(RemoteTable::new(scan, source, Arc::clone(scope)))))
    }

    fn row_source(&self) -> Option<Arc<dyn RowSource>> {
        Some(Arc::<RestSource>::clone(&self.source))
    }

    async fn check(&self) -> Result<()> {
        self.source.http.reach().await
    }
}

fn remote_column(column: &Column) -> RemoteColumn {
    RemoteColumn {
        name: column.name.clone(),
        data_type: column.column_type.data_type(),
        nullable: column.nullable,
        remote_type: column.declared.clone(),
        detail: Value::Null,
    }
}

fn refused(message: &str) -> Outcome {
    Outcome::Refused(Reason::new(ReasonCode::Source, message))
}

#[async_trait]
impl RowSource for RestSource {
    fn negotiate(&self, scan: &RemoteScan, offer: Pushdown<'_>) -> Outcome {
        let table = match table_of(&self.http, scan) {
            Ok(table) => table,
            Err(error) => {
                return Outcome::Refused(Reason::new(ReasonCode::Source, error.message));
            }
        };
        match offer {
            Pushdown::Filter(filter) => pushdown::negotiate(table, scan, filter),
            Pushdown::Limit(_) if table.pushes_limit => Outcome::Inexact,
            Pushdown::Limit(_) => refused("the manifest does not push limits"),
            Pushdown::Top { .. } => refused("the API is not asked for an order"),
            Pushdown::Aggregate(_) => refused("the API gathers no rows"),
            Pushdown::Join(_) => refused("the API joins nothing"),
        }
    }

    /// An API says nothing before it is read; whoever writes the manifest may know.
    async fn statistics(
        &self,
        whole: &RemoteScan,
        _scope: &Arc<QueryScope>,
    ) -> Result<TableStatistics> {
        let n_rows = table_of(&self.http, whole)?.rows_estimated.map(|rows| rows as f64);
        Ok(TableStatistics { n_rows, ..TableStatistics::default() })
    }

    /// One listing is one split: its pages follow from each other.
    async fn splits(
        &self,
        scan: RemoteScan,
        _scope: &Arc<QueryScope>,
        _settings: &QuerySettings,
    ) -> Result<(RemoteScan, Vec<Split>)> {
        let table = table_of(&self.http, &scan)?;
        if let Some(column) = pushdown::missing_filter(table, &scan) {
            let name = scan.display_name();
            let what = format!("table \"{name}\" needs a filter on column \"{column}\"");
            return Err(Error::user("FILTER_REQUIRED", what)
                .with_hint(format!("Add WHERE {column} = and a value, as the API asks for it.")));
        }
        // A value that cannot stand in the path is the statement's fault: said now, not on a worker.
        first_url(&self.http.api.base, table, &scan)?;
        Ok((scan, vec![Split::whole()]))
    }

    fn open(
        &self,
        scan: &RemoteScan,
        _split: &Split,
        settings: &QuerySettings,
    ) -> Result<SendableRecordBatchStream> {
        let listing = Listing::new(Arc::clone(&self.http), scan.clone(), settings.batch_size)?;
        let batches = futures::stream::try_unfold(listing, |mut listing| async move {
            let batch = listing.next_batch().await?;
            Ok::<_, DataFusionError>(batch.map(|batch| (batch, listing)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(scan.output_schema(), batches)))
    }

    fn describe(&self, scan: &RemoteScan, _split: &Split) -> String {
        let url = table_of(&self.http, scan)
            .and_then(|table| first_url(&self.http.api.base, table, scan));
        match url {
            Ok(url) => self.http.shown(&url),
            Err(error) => error.message,
        }
    }
}
