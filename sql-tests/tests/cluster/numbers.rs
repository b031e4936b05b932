//! A source of whole numbers, cut into many splits; some of its tables are slow on purpose.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::DataType;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, stream};
use meshwork::connectors;
use meshwork_engine::catalog::Properties;
use meshwork_engine::connector::{
    Connector, Outcome, Pushdown, ReadVersion, RowSource, Split, TableEntry, TableKind,
};
use meshwork_engine::remote::{Reason, ReasonCode, RemoteColumn, RemoteScan, RemoteTable};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::{Error, Result};
use serde_json::{Value, json};

/// Rows of a batch.
const BATCH: i64 = 500;

/// A table: how many rows, in how many splits, and how long a batch takes.
struct Table {
    name: &'static str,
    n_rows: i64,
    n_splits: i64,
    pause: Duration,
}

const TABLES: [Table; 5] = [
    Table { name: "few", n_rows: 30, n_splits: 3, pause: Duration::ZERO },
    Table { name: "numbers", n_rows: 40_000, n_splits: 8, pause: Duration::ZERO },
    Table { name: "sleepy", n_rows: 30, n_splits: 3, pause: Duration::from_secs(660) },
    Table { name: "slow", n_rows: 40_000, n_splits: 8, pause: Duration::from_millis(200) },
    Table { name: "stuck", n_rows: 8, n_splits: 8, pause: Duration::from_secs(3600) },
];

/// Makes catalogs of numbers, and all others as in production.
pub(crate) fn make(kind: &str, properties: Properties) -> Result<Arc<dyn Connector>> {
    match kind {
        "numbers" => Ok(Arc::new(Numbers { catalog: properties.catalog().to_owned() })),
        _ => connectors::make(kind, properties),
    }
}

#[derive(Debug)]
struct Numbers {
    catalog: String,
}

#[async_trait]
impl Connector for Numbers {
    fn kind(&self) -> &'static str {
        "numbers"
    }

    async fn schema_names(&self) -> Result<Vec<String>> {
        Ok(vec!["public".to_owned()])
    }

    async fn tables(&self, _schema: &str) -> Result<Vec<TableEntry>> {
        let entry = |table: &Table| TableEntry {
            name: table.name.to_owned(),
            kind: TableKind::Table,
            comment: None,
        };
        Ok(TABLES.iter().map(entry).collect())
    }

    async fn table(
        &self,
        schema: &str,
        table: &str,
        _version: ReadVersion,
        scope: &Arc<QueryScope>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        if !TABLES.iter().any(|known| known.name == table) {
            return Ok(None);
        }
        let column = RemoteColumn {
            name: "n".to_owned(),
            data_type: DataType::Int64,
            nullable: false,
            remote_type: "bigint".to_owned(),
            detail: Value::Null,
        };
        let whole = RemoteScan::whole(&self.catalog, schema, table, vec![column]);
        Ok(Some(Arc::new(RemoteTable::new(whole, Arc::new(Source), Arc::clone(scope)))))
    }

    fn row_source(&self) -> Option<Arc<dyn RowSource>> {
        Some(Arc::new(Source))
    }
}

#[derive(Debug)]
struct Source;

#[async_trait]
impl RowSource for Source {
    fn negotiate(&self, _scan: &RemoteScan, _offer: Pushdown<'_>) -> Outcome {
        Outcome::Refused(Reason::new(ReasonCode::Source, "numbers are counted, not searched"))
    }

    async fn splits(
        &self,
        scan: RemoteScan,
        _scope: &Arc<QueryScope>,
        _settings: &QuerySettings,
    ) -> Result<(RemoteScan, Vec<Split>)> {
        let table = named(&scan)?;
        let split = |index: i64| {
            let bound = |index: i64| table.n_rows * index / table.n_splits;
            Split {
                description: format!("part {index}"),
                payload: json!([bound(index), bound(index + 1)]),
            }
        };
        let splits = (0..table.n_splits).map(split).collect();
        Ok((scan, splits))
    }

    fn open(
        &self,
        scan: &RemoteScan,
        split: &Split,
        _settings: &QuerySettings,
    ) -> Result<SendableRecordBatchStream> {
        let pause = named(scan)?.pause;
        let (start, end): (i64, i64) = serde_json::from_value(split.payload.clone())
            .map_err(|e| Error::internal("split of numbers").caused_by(&e))?;
        let schema = scan.output_schema();
        let batch_schema = Arc::clone(&schema);
        let starts: Vec<i64> = (start..end).step_by(500).collect();
        let batches = stream::iter(starts).then(move |from| {
            let schema = Arc::clone(&batch_schema);
            async move {
                tokio::time::sleep(pause).await;
                let rows = from..end.min(from + BATCH);
                let options = RecordBatchOptions::new()
                    .with_row_count(Some(usize::try_from(rows.end - rows.start).unwrap_or(0)));
                let column = || Arc::new(Int64Array::from_iter_values(rows.clone())) as ArrayRef;
                let columns = schema.fields().iter().map(|_n| column()).collect();
                RecordBatch::try_new_with_options(schema, columns, &options)
                    .map_err(DataFusionError::from)
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    fn describe(&self, scan: &RemoteScan, split: &Split) -> String {
        format!("{} {}", scan.table, split.description)
    }
}

fn named(scan: &RemoteScan) -> Result<&'static Table> {
    let found = TABLES.iter().find(|table| table.name == scan.table);
    found.ok_or_else(|| Error::internal(format!("no numbers named {}", scan.table)))
}
