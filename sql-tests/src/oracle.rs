//! The oracle: plain DataFusion in this process, over the same Parquet files.

use std::path::Path;

use anyhow::Result;
use arrow::array::RecordBatch;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};

const DECIMAL_LITERALS: &str = "datafusion.sql_parser.parse_float_as_decimal";

/// Plain DataFusion with tables by name.
pub struct Oracle {
    context: SessionContext,
}

impl std::fmt::Debug for Oracle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Oracle").finish_non_exhaustive()
    }
}

impl Oracle {
    /// Returns an oracle that knows each folder of Parquet files below `schema_folder` as a table.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub async fn over(schema_folder: &Path) -> Result<Self> {
        // Meshwork reads 0.1 as a decimal, as the SQL standard does; so does its oracle.
        let config = SessionConfig::new().set_bool(DECIMAL_LITERALS, true);
        let context = SessionContext::new_with_config(config);
        for entry in std::fs::read_dir(schema_folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') {
                let location = path.to_string_lossy().into_owned();
                context.register_parquet(name, location, ParquetReadOptions::default()).await?;
            }
        }
        Ok(Self { context })
    }

    /// Answers a query.
    ///
    /// # Errors
    /// DataFusion's.
    #[expect(clippy::disallowed_methods, reason = "the oracle is DataFusion without us")]
    pub async fn query(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        Ok(self.context.sql(sql).await?.collect().await?)
    }
}
