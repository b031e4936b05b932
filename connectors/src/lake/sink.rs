//! Writes the rows of one INSERT as one Parquet file that is there when it is complete, and not before.
//!
//! DataFusion's own sink closes its file also when its input fails, and the file then shows the rows that
//! came before the failure. Here a failure, or a query that ends early, drops the upload, which aborts it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result as DataFusionResult;
use datafusion::datasource::sink::DataSink;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType};
use futures::StreamExt;
use meshwork_engine::Error;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::AsyncArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::upload::{Aborts, Upload};

/// A row group is closed at that size, so that a writer's memory has a bound.
const ROW_GROUP_BYTES_MAX: usize = 128 * 1024 * 1024;

/// A file to be.
#[derive(Debug)]
pub(super) struct OneFile {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) path: Path,
    pub(super) schema: SchemaRef,
    pub(super) aborts: Arc<Aborts>,
}

impl DisplayAs for OneFile {
    fn fmt_as(&self, _type: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OneFile: {}", self.path)
    }
}

#[async_trait]
impl DataSink for OneFile {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(
        &self,
        mut rows: SendableRecordBatchStream,
        _context: &Arc<TaskContext>,
    ) -> DataFusionResult<u64> {
        let store = Arc::clone(&self.store);
        let upload = Upload::new(store, self.path.clone(), Arc::clone(&self.aborts));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let mut writer =
            AsyncArrowWriter::try_new(upload, Arc::clone(&self.schema), Some(properties))?;
        let mut n_rows = 0;
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            n_rows += batch.num_rows() as u64;
            writer.write(&batch).await.map_err(|e| self.failed(&e))?;
            if writer.in_progress_size() > ROW_GROUP_BYTES_MAX {
                writer.flush().await.map_err(|e| self.failed(&e))?;
            }
        }
        if n_rows > 0 {
            writer.close().await.map_err(|e| self.failed(&e))?;
        }
        Ok(n_rows)
    }
}

impl OneFile {
    fn failed(&self, cause: &(dyn std::error::Error + 'static)) -> Error {
        Error::source("SOURCE_WRITE_FAILED", format!("file \"{}\" could not be written", self.path))
            .caused_by(cause)
    }
}
