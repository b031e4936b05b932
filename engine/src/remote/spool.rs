//! Rows of a scan that are put aside, on disk, so that its connection can serve others.
//!
//! A scan whose rows nobody takes holds its connection, and whoever is to take them may wait for another connection of
//! the same source: the probe side of a join, for one, while the build side has not begun. See [`crate::connections`].
//! What is more than [`BYTES_MAX`] stays at the source, and the connection with it.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{EmptyRecordBatchStream, SpillManager};
use futures::StreamExt;

use crate::environment;

/// What one scan may put aside. The deadlock that this avoids is one of small budgets and of moderate tables; a scan
/// that nobody reads must not fill a disk.
const BYTES_MAX: usize = 2 << 30;

/// Reads a stream to its end and drops it, unless it is very long; returns `first` and its batches, in their order. The
/// disk manager of `runtime` says where the rows are and how many may be there in all.
pub(super) async fn put_aside(
    first: RecordBatch,
    mut rows: SendableRecordBatchStream,
    schema: &SchemaRef,
    runtime: &Arc<RuntimeEnv>,
    metrics: &ExecutionPlanMetricsSet,
    partition: usize,
) -> Result<SendableRecordBatchStream> {
    let metrics = SpillMetrics::new(metrics, partition);
    let spill = SpillManager::new(Arc::clone(runtime), metrics, Arc::clone(schema));
    let mut file = spill.create_in_progress_file("rows of a remote scan")?;
    let (mut next, mut n_bytes) = (Some(first), 0);
    while let Some(batch) = next {
        let append = move || file.append_batch(&batch).map(|n_bytes| (file, n_bytes));
        let appended = environment::spawn_blocking("putting rows aside", append).await??;
        file = appended.0;
        n_bytes += appended.1;
        if n_bytes > BYTES_MAX {
            break;
        }
        next = rows.next().await.transpose()?;
        if next.is_none() {
            rows = Box::pin(EmptyRecordBatchStream::new(Arc::clone(schema)));
        }
    }
    let Some(file) = file.finish()? else { return Ok(rows) };
    let all = spill.read_spill_as_stream(file, None)?.chain(rows);
    Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), all)))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, DictionaryArray, Int32Array, StringViewArray};
    use datafusion::arrow::datatypes::{Int32Type, Schema};
    use datafusion::arrow::record_batch::RecordBatchOptions;
    use futures::{TryStreamExt, stream};

    use super::*;

    async fn back(batches: Vec<RecordBatch>) -> Vec<RecordBatch> {
        let schema = batches[0].schema();
        let rest = stream::iter(batches.clone().into_iter().skip(1).map(Ok));
        let rest = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rest));
        let (runtime, metrics) = (Arc::default(), ExecutionPlanMetricsSet::new());
        let rows = put_aside(batches[0].clone(), rest, &schema, &runtime, &metrics, 0).await;
        rows.unwrap().try_collect().await.unwrap()
    }

    #[tokio::test]
    async fn what_was_put_aside_comes_back_as_it_was() {
        let batch = |words: Vec<Option<&str>>| {
            let enums: DictionaryArray<Int32Type> = words.iter().copied().collect();
            let columns: Vec<(&str, ArrayRef)> = vec![
                ("n", Arc::new(Int32Array::from_iter(0..words.len() as i32))),
                ("s", Arc::new(StringViewArray::from_iter(words))),
                ("e", Arc::new(enums)),
            ];
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
                .unwrap()
        };
        let batches = vec![
            batch(vec![Some("a word that is longer than twelve"), None]),
            batch(vec![Some("b")]),
        ];
        assert_eq!(back(batches.clone()).await, batches);
    }

    #[tokio::test]
    async fn rows_without_columns_are_counted() {
        let schema = Arc::new(Schema::empty());
        let options = RecordBatchOptions::new().with_row_count(Some(7));
        let batch =
            RecordBatch::try_new_with_options(Arc::clone(&schema), Vec::new(), &options).unwrap();
        let n_rows: usize =
            back(vec![batch.clone(), batch]).await.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(n_rows, 14);
    }
}
