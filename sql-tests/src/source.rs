//! Asks one connector in SQL, with its pushdown on or off.
//!
//! The plan is DataFusion's own on one node, so that what is tested is the connector. The differential
//! check is the test of every pushdown rule: the same rows, whether the source filters or the engine does.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::record_batch::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::TableProvider;
use datafusion::dataframe::DataFrame;
use datafusion::execution::config::SessionConfig;
use datafusion::prelude::SessionContext;
use meshwork::connectors;
use meshwork_engine::catalog::CatalogDefinition;
use meshwork_engine::connector::{Connector, ReadVersion};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::settings::QuerySettings;

/// The name under which statements know the table that is asked.
const TABLE: &str = "t";

/// One configured catalog.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its connector.
    pub connector: Arc<dyn Connector>,
    settings: QuerySettings,
}

impl Source {
    /// Makes the connector of a catalog named `source`.
    pub fn new(kind: &str, properties: BTreeMap<String, String>) -> Result<Self> {
        let definition =
            CatalogDefinition { name: "source".to_owned(), kind: kind.to_owned(), properties };
        let connector = connectors::make(kind, definition.resolve()?)?;
        // Small batches, so that more than one is made.
        let mut settings = QuerySettings::default();
        settings.batch_size = 100;
        Ok(Self { connector, settings })
    }

    /// Returns the same source with another setting.
    #[must_use]
    pub fn with(&self, change: impl FnOnce(&mut QuerySettings)) -> Self {
        let mut changed = self.clone();
        change(&mut changed.settings);
        changed
    }

    /// Returns a table as the planner sees it.
    pub async fn table(&self, schema: &str, table: &str) -> Result<Arc<dyn TableProvider>> {
        let scope = QueryScope::new(self.settings.clone());
        let found = self.connector.table(schema, table, ReadVersion::Committed, &scope).await?;
        found.with_context(|| format!("table {schema}.{table} does not exist"))
    }

    /// Returns the plan of a statement in which `t` is the table.
    #[expect(clippy::disallowed_methods, reason = "a test of one connector has no coordinator")]
    pub async fn plan(&self, schema: &str, table: &str, sql: &str) -> Result<DataFrame> {
        let mut config = SessionConfig::new().with_target_partitions(2);
        config.options_mut().extensions.insert(self.settings.clone());
        let context = SessionContext::new_with_config(config);
        context.register_table(TABLE, self.table(schema, table).await?)?;
        Ok(context.sql(sql).await?)
    }

    /// Returns the rows of a statement in which `t` is the table.
    pub async fn rows(&self, schema: &str, table: &str, sql: &str) -> Result<Vec<RecordBatch>> {
        Ok(self.plan(schema, table, sql).await?.collect().await?)
    }

    /// Returns the rows as the lines of a table, in the order in which they came.
    pub async fn text(&self, schema: &str, table: &str, sql: &str) -> Result<String> {
        Ok(pretty_format_batches(&self.rows(schema, table, sql).await?)?.to_string())
    }

    /// Returns the physical plan, which names what the source is asked.
    pub async fn explain(&self, schema: &str, table: &str, sql: &str) -> Result<String> {
        let plan = self.plan(schema, table, sql).await?.create_physical_plan().await?;
        Ok(datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string())
    }

    /// Checks for each condition that the rows are the same whether the source filters or the engine does.
    /// Returns how many conditions the source took.
    pub async fn check_filters(
        &self,
        schema: &str,
        table: &str,
        conditions: &[String],
    ) -> Result<usize> {
        let without = self.with(|settings| settings.pushdown = false);
        let mut n_pushed = 0;
        for condition in conditions {
            let sql = format!("SELECT * FROM t WHERE {condition} ORDER BY 1");
            let pushed = self.text(schema, table, &sql).await.with_context(|| sql.clone())?;
            let local = without.text(schema, table, &sql).await.with_context(|| sql.clone())?;
            let plan = self.explain(schema, table, &sql).await?;
            ensure!(pushed == local, "{sql}\npushed:\n{pushed}\nlocal:\n{local}\n{plan}");
            n_pushed += usize::from(plan.contains(" WHERE "));
        }
        Ok(n_pushed)
    }
}
