//! Two clusters over one catalog `there`, and beside it a lake and generated rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::RecordBatch;
use meshwork::client::{Answer, Client};
use meshwork_engine::Error;
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::compare::same_rows;
use meshwork_sql_tests::spread::catalog_file;
use tempfile::TempDir;

/// A cluster with a session.
pub(crate) struct Trial {
    pub(crate) cluster: Cluster,
    pub(crate) client: Client,
    _lake: Arc<TempDir>,
}

impl Trial {
    /// Starts a cluster of a shape whose catalog `there` may be written, and `sealed` not.
    pub(crate) async fn start(
        shape: Shape,
        kind: &str,
        properties: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let lake = Arc::new(tempfile::tempdir()?);
        let location = [("location".to_owned(), lake.path().to_string_lossy().into_owned())];
        let mut writable = properties.clone();
        writable.insert("writable".to_owned(), "true".to_owned());
        let catalogs = [
            ("there", catalog_file(kind, writable)),
            ("sealed", catalog_file(kind, properties.clone())),
            ("lake", catalog_file("lake", location.into())),
            ("tpch", catalog_file("tpch", BTreeMap::new())),
        ];
        let cluster = Cluster::start(shape, &catalogs).await?;
        let client = cluster.client().await?;
        Ok(Self { cluster, client, _lake: lake })
    }

    /// Starts one of each shape.
    pub(crate) async fn both(
        kind: &str,
        properties: &BTreeMap<String, String>,
    ) -> Result<[Self; 2]> {
        Ok([
            Self::start(Shape::Standalone, kind, properties).await?,
            Self::start(Shape::Workers(2), kind, properties).await?,
        ])
    }

    /// Runs a statement that changes something; returns how many rows.
    pub(crate) async fn change(&mut self, sql: &str) -> Result<u64> {
        match self.client.run(sql).await.with_context(|| sql.to_owned())? {
            Answer::Changed(n_rows) => Ok(n_rows),
            Answer::Rows(_) => anyhow::bail!("{sql} returned rows"),
        }
    }

    pub(crate) async fn rows(&mut self, sql: &str) -> Result<Vec<RecordBatch>> {
        self.client.query(sql).await.with_context(|| sql.to_owned())
    }

    /// Holds two queries to the same rows.
    pub(crate) async fn same(&mut self, one: &str, other: &str) -> Result<()> {
        let (one_rows, other_rows) = (self.rows(one).await?, self.rows(other).await?);
        same_rows(&one_rows, &other_rows).with_context(|| format!("{one}\n{other}"))
    }

    /// Runs a statement that fails, with that code and those words in its message or hint.
    pub(crate) async fn fails(&mut self, sql: &str, code: &str, words: &[&str]) -> Result<Error> {
        let error =
            self.client.run(sql).await.err().with_context(|| format!("{sql} ended well"))?;
        ensure!(error.code == code, "{sql}\n{error:?}");
        let text = format!("{} {}", error.message, error.hint.clone().unwrap_or_default());
        for word in words {
            ensure!(text.contains(word), "{sql}: \"{word}\" is not in: {text}");
        }
        Ok(error)
    }
}
