//! Reads the generator as a row source: projection and limit, nothing else.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use meshwork_engine::connector::{Outcome, Pushdown, RowSource, SnapshotScope, Split};
use meshwork_engine::remote::{Reason, ReasonCode, RemoteScan};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::statistics::{ColumnStatistics, TableStatistics};
use meshwork_engine::{Error, Result};
use serde::{Deserialize, Serialize};

use super::generate::{Part, Table};
use super::scale_of;

/// Fewer units than that are not worth a split of their own.
const UNITS_PER_SPLIT_MIN: i64 = 5_000;

/// Batches that the generator may run ahead of its reader.
const BATCHES_AHEAD: usize = 2;

#[derive(Debug)]
pub(super) struct TpchSource;

/// What a split says: a part of the generator, counted from one.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Payload {
    part: i32,
    n_parts: i32,
}

#[async_trait]
impl RowSource for TpchSource {
    fn negotiate(&self, _scan: &RemoteScan, offer: Pushdown<'_>) -> Outcome {
        match offer {
            Pushdown::Filter(_)
            | Pushdown::Top { .. }
            | Pushdown::Aggregate(_)
            | Pushdown::Join(_) => {
                let message = "rows are generated, not searched";
                Outcome::Refused(Reason::new(ReasonCode::Source, message))
            }
            // Every split stops on its own; the engine cuts what they return together.
            Pushdown::Limit(_) => Outcome::Inexact,
        }
    }

    async fn statistics(
        &self,
        whole: &RemoteScan,
        _scope: &Arc<QueryScope>,
    ) -> Result<TableStatistics> {
        let (table, scale) = named(whole)?;
        let n_rows = table.n_rows(scale);
        let column = |name: &String| ColumnStatistics {
            null_fraction: Some(0.0),
            n_distinct: table.n_distinct(name, scale).map(|n| n.min(n_rows)),
            ..ColumnStatistics::default()
        };
        let names = whole.columns.iter().map(|column| &column.name);
        let columns = names.map(|name| (name.clone(), column(name))).collect();
        Ok(TableStatistics { n_rows: Some(n_rows), columns, ..TableStatistics::default() })
    }

    async fn splits(
        &self,
        scan: RemoteScan,
        _scope: &Arc<QueryScope>,
        settings: &QuerySettings,
    ) -> Result<(RemoteScan, Vec<Split>)> {
        let (table, scale) = named(&scan)?;
        let n_parts = n_parts(table, scale, settings.splits_max);
        let split = |part| {
            Ok(Split {
                description: format!("part {part} of {n_parts}"),
                payload: serde_json::to_value(Payload { part, n_parts })
                    .map_err(|e| Error::internal("split cannot be encoded").caused_by(&e))?,
            })
        };
        let splits = (1..=n_parts).map(split).collect::<Result<_>>()?;
        Ok((scan, splits))
    }

    /// The generator computes, so it runs on a thread for blocking work, not between I/O tasks.
    fn open(
        &self,
        scan: &RemoteScan,
        split: &Split,
        settings: &QuerySettings,
    ) -> Result<SendableRecordBatchStream> {
        let (table, scale) = named(scan)?;
        let Payload { part, n_parts } = serde_json::from_value(split.payload.clone())
            .map_err(|e| Error::internal("split cannot be decoded").caused_by(&e))?;
        let wanted = Part { scale, part, n_parts, batch_size: settings.batch_size.max(1) };
        let projection = scan.projection.clone();
        let mut n_rows_left = scan.limit.unwrap_or(usize::MAX);
        let mut builder =
            RecordBatchReceiverStreamBuilder::new(scan.output_schema(), BATCHES_AHEAD);
        let sender = builder.tx();
        builder.spawn_blocking(move || {
            for batch in table.batches(wanted) {
                let batch = batch?.project(&projection)?;
                let batch = batch.slice(0, batch.num_rows().min(n_rows_left));
                n_rows_left -= batch.num_rows();
                if sender.blocking_send(Ok(batch)).is_err() || n_rows_left == 0 {
                    return Ok(());
                }
            }
            Ok(())
        });
        Ok(builder.build())
    }

    fn snapshot(&self) -> SnapshotScope {
        SnapshotScope::Query
    }

    fn describe(&self, scan: &RemoteScan, split: &Split) -> String {
        let limit = scan.limit.map(|limit| format!(", limit {limit}")).unwrap_or_default();
        format!("generate {}.{}, {}{limit}", scan.schema, scan.table, split.description)
    }
}

fn named(scan: &RemoteScan) -> Result<(Table, f64)> {
    Table::named(&scan.table)
        .zip(scale_of(&scan.schema))
        .ok_or_else(|| Error::internal(format!("no generator for table {}", scan.display_name())))
}

fn n_parts(table: Table, scale: f64, splits_max: usize) -> i32 {
    let Some(n_units) = table.n_units(scale) else { return 1 };
    let worthwhile = (n_units / UNITS_PER_SPLIT_MIN).max(1);
    let allowed = i32::try_from(splits_max).unwrap_or(i32::MAX).max(1);
    i32::try_from(worthwhile).unwrap_or(i32::MAX).min(allowed)
}
