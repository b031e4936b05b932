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
use datafusion::common::DataFusionError;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::MemTable;
use datafusion::execution::config::SessionConfig;
use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::SessionContext;
use meshwork::connectors;
use meshwork_engine::Error;
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
        self.table_in(&QueryScope::new(self.settings.clone()), schema, table).await
    }

    async fn table_in(
        &self,
        scope: &Arc<QueryScope>,
        schema: &str,
        table: &str,
    ) -> Result<Arc<dyn TableProvider>> {
        let found = self.connector.table(schema, table, ReadVersion::Committed, scope).await?;
        found.with_context(|| format!("table {schema}.{table} does not exist"))
    }

    /// Returns the plan of a statement in which `t` is the table.
    pub async fn plan(&self, schema: &str, table: &str, sql: &str) -> Result<DataFrame> {
        statement(&self.context(schema, table).await?, sql).await
    }

    /// Returns a session in which `t` is the table, in a query of its own.
    async fn context(&self, schema: &str, table: &str) -> Result<SessionContext> {
        self.context_in(&QueryScope::new(self.settings.clone()), schema, table).await
    }

    #[expect(clippy::disallowed_methods, reason = "a test of one connector has no coordinator")]
    async fn context_in(
        &self,
        scope: &Arc<QueryScope>,
        schema: &str,
        table: &str,
    ) -> Result<SessionContext> {
        let mut config = SessionConfig::new().with_target_partitions(2);
        config.options_mut().extensions.insert(self.settings.clone());
        let context = SessionContext::new_with_config(config);
        context.register_table(TABLE, self.table_in(scope, schema, table).await?)?;
        Ok(context)
    }

    /// Returns the rows of a statement in which `t` is the table.
    pub async fn rows(&self, schema: &str, table: &str, sql: &str) -> Result<Vec<RecordBatch>> {
        self.rows_in(&QueryScope::new(self.settings.clone()), schema, table, sql).await
    }

    /// Returns the rows of a statement that is one part of a query: all its parts share what the scope holds.
    pub async fn rows_in(
        &self,
        scope: &Arc<QueryScope>,
        schema: &str,
        table: &str,
        sql: &str,
    ) -> Result<Vec<RecordBatch>> {
        let context = self.context_in(scope, schema, table).await?;
        Ok(statement(&context, sql).await?.collect().await?)
    }

    /// Returns the rows as the lines of a table, in the order in which they came.
    pub async fn text(&self, schema: &str, table: &str, sql: &str) -> Result<String> {
        Ok(pretty_format_batches(&self.rows(schema, table, sql).await?)?.to_string())
    }

    /// Returns the physical plan, which names what the source is asked.
    pub async fn explain(&self, schema: &str, table: &str, sql: &str) -> Result<String> {
        let plan = self.plan(schema, table, sql).await?.create_physical_plan().await?;
        Ok(displayable(plan.as_ref()).indent(false).to_string())
    }

    /// Returns a session whose table `t` holds all rows in memory, read without any pushdown.
    #[expect(clippy::disallowed_methods, reason = "a test of one connector has no coordinator")]
    async fn copy(&self, schema: &str, table: &str) -> Result<SessionContext> {
        let without = self.with(|settings| settings.pushdown = false);
        let rows = without.rows(schema, table, "SELECT * FROM t").await?;
        let columns = self.table(schema, table).await?.schema();
        let context = SessionContext::new();
        context.register_table(TABLE, Arc::new(MemTable::try_new(columns, vec![rows])?))?;
        Ok(context)
    }

    /// Checks for each condition that the rows are the same whether the source filters or the engine does.
    /// Returns how many conditions the source took.
    pub async fn check_filters(
        &self,
        schema: &str,
        table: &str,
        conditions: &[String],
    ) -> Result<usize> {
        let with = self.context(schema, table).await?;
        let without = self.copy(schema, table).await?;
        let mut n_pushed = 0;
        for condition in conditions {
            let sql = format!("SELECT * FROM t WHERE {condition}");
            let (pushed, plan) = sorted_rows(&with, &sql).await.with_context(|| sql.clone())?;
            let (local, _) = sorted_rows(&without, &sql).await.with_context(|| sql.clone())?;
            ensure!(pushed == local, "{sql}\npushed: {pushed:#?}\nlocal: {local:#?}\n{plan}");
            n_pushed += usize::from(plan.contains(" WHERE "));
        }
        Ok(n_pushed)
    }
}

#[expect(clippy::disallowed_methods, reason = "a test of one connector has no coordinator")]
async fn statement(context: &SessionContext, sql: &str) -> Result<DataFrame> {
    Ok(context.sql(sql).await?)
}

/// Returns the printed rows of a statement, sorted, and its plan.
async fn sorted_rows(context: &SessionContext, sql: &str) -> Result<(Vec<String>, String)> {
    let frame = statement(context, sql).await?;
    let task = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await?;
    let shown = displayable(plan.as_ref()).indent(false).to_string();
    let rows = pretty_format_batches(&collect(plan, task).await?)?.to_string();
    let mut lines: Vec<String> = rows.lines().map(squeeze).collect();
    lines.sort();
    Ok((lines, shown))
}

/// Returns the error of a statement that was to fail, as its user would see it.
///
/// # Panics
/// When it did not fail, or with an error that is not ours.
pub fn failure<T: std::fmt::Debug>(outcome: Result<T>) -> Error {
    let error = outcome.expect_err("it was to fail");
    match error.downcast_ref::<DataFusionError>() {
        Some(error) => Error::from_datafusion(error),
        None => error.downcast::<Error>().expect("errors of the connector are ours"),
    }
}

/// Checks that a printed table has these lines, whatever the widths of its columns.
///
/// # Panics
/// When one is missing.
pub fn assert_lines(text: &str, lines: &[&str]) {
    let found = squeeze(text);
    for line in lines {
        assert!(found.contains(&squeeze(line)), "no line {line} in\n{text}");
    }
}

/// Returns a text with one space between its words.
pub fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns conditions on a column of text that collations and parsers may see in another way.
pub fn conditions_on_text(column: &str) -> Vec<String> {
    let mut conditions = Vec::new();
    for (place, value) in nasty_texts().iter().enumerate() {
        let literal = format!("'{}'", value.replace('\'', "''"));
        conditions.push(format!("{column} = {literal}"));
        conditions.push(format!("{column} IN ({literal}, 'zebra')"));
        // The rest asks the same of each value, so that some values serve.
        if place % 4 == 0 {
            conditions.extend(["<>", "<", ">="].map(|op| format!("{column} {op} {literal}")));
            conditions.push(format!("{column} NOT IN ({literal}, 'zebra')"));
            conditions.push(format!("NOT ({column} = {literal})"));
            conditions.push(format!("starts_with({column}, {literal})"));
        }
    }
    for pattern in ["app%", "c\\%", "c\\\\%", "%", "''%", "*%", "[a%", "?%", "é%", "a_b", "APP%"] {
        conditions.push(format!("{column} LIKE '{pattern}'"));
    }
    for letters in ["'ap', 'Ap', 'äp', '\\\\'", "'a ', '  ', '🦀?', ''''''", "'é', 'Z'"] {
        conditions.push(format!("substr({column}, 1, 2) IN ({letters})"));
        conditions.push(format!("left({column}, 2) NOT IN ({letters})"));
    }
    conditions.push(format!("{column} IS NULL OR {column} = 'apple'"));
    conditions.push(format!("{column} IS NOT NULL AND {column} <> 'Apple'"));
    conditions
}

/// Returns values that mean something to a collation, a pattern or a parser.
pub fn nasty_texts() -> Vec<String> {
    [
        "apple",
        "Apple",
        "APPLE",
        "apple ",
        " apple",
        "apple  ",
        "äpple",
        "a\u{308}pple",
        "Äpple",
        "",
        " ",
        "\t",
        "c\\d",
        "cd",
        "\\",
        "\\\\",
        "'",
        "''",
        "\"",
        "`",
        "a'b",
        "a\"b",
        "ab",
        "\\' OR 1=1 -- ",
        "' OR '1'='1",
        "x' -- ",
        "x /* ",
        "%",
        "_",
        "a%",
        "a_b",
        "NULL",
        "0",
        "00",
        "1",
        "1.0",
        "straße",
        "strasse",
        "ﬁ",
        "fi",
        "İ",
        "i",
        "I",
        "ı",
        "🦀",
        "?",
        "日本",
        "ｱ",
        "ア",
        "a\nb",
        "a\u{a0}b",
        "a b",
        "\u{200d}",
        "e",
        "é",
        "zebra",
        "Zebra",
        "_x",
        ";",
        "--",
        "#",
    ]
    .map(str::to_owned)
    .to_vec()
}
