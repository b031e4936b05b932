//! Sources that do not stand still: tables that come, go and change while somebody asks for them, servers that break down,
//! networks that stall, many queries over few connections, rules that turn out to be wrong.

mod budget;
mod changes;
mod metadata;
mod outages;
mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::runtime_env::RuntimeEnv;
use meshwork::connectors;
use meshwork::coordinator::{Coordinator, Identity, Session};
use meshwork_engine::Error;
use meshwork_engine::catalog::{CatalogDefinition, CatalogRegistry};
use meshwork_sql_tests::local;

/// A coordinator of this process, and a session.
#[derive(Clone)]
struct Here {
    coordinator: Arc<Coordinator>,
    session: Arc<Session>,
}

impl Here {
    /// Starts one over these catalogs: name, kind, properties.
    async fn start(catalogs: &[(&str, &str, BTreeMap<String, String>)]) -> Result<Self> {
        let registry = CatalogRegistry::new(connectors::make, Arc::new(RuntimeEnv::default()));
        for (name, kind, properties) in catalogs {
            let (name, kind) = ((*name).to_owned(), (*kind).to_owned());
            registry.define(CatalogDefinition { name, kind, properties: properties.clone() });
        }
        let coordinator = local::coordinator(&Arc::new(registry), 0).await?;
        let session = coordinator.open_session(Identity { user: "tester".to_owned() });
        Ok(Self { coordinator, session })
    }

    /// Runs a statement to its end.
    async fn run(&self, sql: &str) -> local::Answer {
        local::rows(&self.coordinator, &self.session, sql).await
    }

    /// Returns the values of a statement's rows, cells behind each other, rows sorted.
    async fn values(&self, sql: &str) -> Result<Vec<String>> {
        let rows = self.run(sql).await.with_context(|| sql.to_owned())?;
        values(&rows.batches)
    }

    async fn error(&self, sql: &str) -> Result<Error> {
        self.run(sql).await.err().with_context(|| format!("{sql} ended well"))
    }
}

/// Returns the rows as text, sorted.
fn values(batches: &[RecordBatch]) -> Result<Vec<String>> {
    if batches.is_empty() {
        return Ok(Vec::new());
    }
    let table = pretty_format_batches(batches)?.to_string();
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(1);
    let mut rows: Vec<String> = rows
        .map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(" "))
        .collect();
    rows.sort();
    Ok(rows)
}

/// Returns the properties with one more.
fn with(
    mut properties: BTreeMap<String, String>,
    key: &str,
    value: &str,
) -> BTreeMap<String, String> {
    properties.insert(key.to_owned(), value.to_owned());
    properties
}
