//! The `system` catalog: what this cluster is and does, as tables.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use meshwork_engine::catalog::CatalogRegistry;
use meshwork_engine::connector::{
    ChangeEntry, Connector, DeltaEntry, ExportEntry, TableEntry, TableKind,
};
use meshwork_engine::environment::within;
use meshwork_engine::node::TaskStatus;
use meshwork_engine::statistics::{Counted, Counts, TableKey};
use meshwork_engine::{Error, Result};

use crate::history::History;
use crate::quarantine::{Quarantine, Wrong};

/// The catalog of Meshwork itself.
pub(crate) const SYSTEM_CATALOG: &str = "system";
/// The schema of its tables; `system.nodes` is short for `system.runtime.nodes`.
pub(super) const RUNTIME_SCHEMA: &str = "runtime";
/// The schema that every catalog has.
pub(crate) const INFORMATION_SCHEMA: &str = "information_schema";

/// How long `system.catalogs` waits for one source to show that it lives.
const CHECK_DEADLINE: Duration = Duration::from_secs(5);

/// One node of the cluster, as `system.nodes` shows it.
#[derive(Debug, Clone)]
pub struct NodeRow {
    /// The node's own id, new at every start.
    pub id: String,
    /// Where other nodes reach it.
    pub url: String,
    /// Its version of Meshwork.
    pub version: String,
    /// `active`, `draining` or `suspected`.
    pub state: String,
    /// Whether it is a coordinator.
    pub coordinator: bool,
    /// Tasks that it runs now.
    pub n_tasks: u64,
    /// How far they are, as it said last.
    pub tasks: Vec<TaskStatus>,
}

/// Returns the nodes of the cluster now.
pub type Nodes = Arc<dyn Fn() -> Vec<NodeRow> + Send + Sync>;

/// Makes the system tables.
pub struct SystemTables {
    catalogs: Arc<CatalogRegistry>,
    history: Arc<History>,
    quarantine: Arc<Quarantine>,
    nodes: Nodes,
}

impl fmt::Debug for SystemTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemTables").finish_non_exhaustive()
    }
}

impl SystemTables {
    /// Returns the system tables over a coordinator's parts.
    pub fn new(
        catalogs: Arc<CatalogRegistry>,
        history: Arc<History>,
        quarantine: Arc<Quarantine>,
        nodes: Nodes,
    ) -> Self {
        Self { catalogs, history, quarantine, nodes }
    }

    pub(super) async fn table(
        &self,
        schema: &str,
        table: &str,
        counted: &Counted,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        if schema != RUNTIME_SCHEMA {
            return Ok(None);
        }
        match table {
            "changes" => self.changes().await.map(Some),
            "deltas" => self.deltas().await.map(Some),
            "exports" => self.exports().await.map(Some),
            "feeds" => self.feeds().await.map(Some),
            "nodes" => self.nodes().map(Some),
            "observed_stats" => observed_stats(counted).map(Some),
            "tasks" => self.tasks().map(Some),
            "pushdown_rules" => self.pushdown_rules().map(Some),
            "queries" => self.queries().map(Some),
            "catalogs" => self.catalogs().await.map(Some),
            _ => Ok(None),
        }
    }

    fn nodes(&self) -> Result<Arc<dyn TableProvider>> {
        let rows = (self.nodes)();
        table_of(vec![
            ("node_id", texts(rows.iter().map(|row| Some(row.id.clone())))),
            ("url", texts(rows.iter().map(|row| Some(row.url.clone())))),
            ("version", texts(rows.iter().map(|row| Some(row.version.clone())))),
            ("coordinator", truths(rows.iter().map(|row| row.coordinator))),
            ("state", texts(rows.iter().map(|row| Some(row.state.clone())))),
            ("tasks", numbers(rows.iter().map(|row| row.n_tasks))),
        ])
    }

    fn tasks(&self) -> Result<Arc<dyn TableProvider>> {
        let nodes = (self.nodes)();
        let of_node = |node: &NodeRow| {
            let tasks = node.tasks.iter().cloned();
            tasks.map(|task| (node.id.clone(), task)).collect::<Vec<_>>()
        };
        let rows: Vec<(String, TaskStatus)> = nodes.iter().flat_map(of_node).collect();
        let number = |value: fn(&TaskStatus) -> u64| numbers(rows.iter().map(|(_, t)| value(t)));
        table_of(vec![
            ("query_id", texts(rows.iter().map(|(_, task)| Some(task.query_id.clone())))),
            ("stage", number(|task| task.stage)),
            ("task", number(|task| task.task)),
            ("node_id", texts(rows.iter().map(|(node, _)| Some(node.clone())))),
            ("state", texts(rows.iter().map(|(_, task)| Some(task.state.name().to_owned())))),
            ("rows", number(|task| task.rows)),
            ("bytes", number(|task| task.bytes)),
            ("elapsed_ms", number(|task| task.elapsed_ms)),
        ])
    }

    fn pushdown_rules(&self) -> Result<Arc<dyn TableProvider>> {
        let rows = self.quarantine.records();
        let state = |wrong: bool| if wrong { "quarantined" } else { "trusted" }.to_owned();
        let found = rows.iter().map(|(_, record)| record.wrong.as_ref().map(|w| w.found_us));
        let of_wrong = |text: fn(&Wrong) -> &String| {
            texts(
                rows.iter().map(move |(_, record)| record.wrong.as_ref().map(|w| text(w).clone())),
            )
        };
        table_of(vec![
            ("catalog", texts(rows.iter().map(|(rule, _)| Some(rule.catalog.clone())))),
            ("rule", texts(rows.iter().map(|(rule, _)| Some(rule.name.clone())))),
            ("state", texts(rows.iter().map(|(_, r)| Some(state(r.wrong.is_some()))))),
            ("queries_same", numbers(rows.iter().map(|(_, record)| record.n_same))),
            ("found", Arc::new(found.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))),
            ("query_id", of_wrong(|wrong| &wrong.query_id)),
            ("query", of_wrong(|wrong| &wrong.sql)),
        ])
    }

    fn queries(&self) -> Result<Arc<dyn TableProvider>> {
        let records = self.history.all();
        let progress: Vec<_> = records.iter().map(|record| record.progress()).collect();
        let error = |text: fn(&Error) -> String| {
            texts(progress.iter().map(move |p| p.error.as_ref().map(text)))
        };
        table_of(vec![
            ("query_id", texts(records.iter().map(|record| Some(record.id.clone())))),
            ("user", texts(records.iter().map(|record| Some(record.user.clone())))),
            ("state", texts(progress.iter().map(|p| Some(p.state.name().to_owned())))),
            ("query", texts(records.iter().map(|record| Some(record.sql.clone())))),
            ("created", times(records.iter().map(|record| record.created_us))),
            ("elapsed_ms", numbers(progress.iter().map(|p| p.elapsed_ms))),
            ("rows", numbers(progress.iter().map(|p| p.rows))),
            ("stages", numbers(progress.iter().map(|p| p.n_stages))),
            ("tasks", numbers(progress.iter().map(|p| p.n_tasks))),
            ("error_code", error(|e| e.code.clone())),
            ("error", error(|e| e.message.clone())),
        ])
    }

    /// What tables of versioned stores are made of.
    async fn deltas(&self) -> Result<Arc<dyn TableProvider>> {
        let deltas =
            |connector: Arc<dyn Connector>| async move { connector.deltas().await }.boxed();
        let rows = self.of_catalogs("listing deltas", deltas).await?;
        table_of(vec![
            ("catalog", texts(rows.iter().map(|(catalog, _)| Some(catalog.clone())))),
            ("schema", texts(rows.iter().map(|(_, delta)| Some(delta.schema.clone())))),
            ("table", texts(rows.iter().map(|(_, delta)| Some(delta.table.clone())))),
            ("rollup", texts(rows.iter().map(|(_, delta)| delta.rollup.clone()))),
            ("first_version", of_deltas(&rows, |delta| delta.first_version)),
            ("last_version", of_deltas(&rows, |delta| delta.last_version)),
            ("made_by", texts(rows.iter().map(|(_, delta)| Some(delta.made_by.clone())))),
            ("files", of_deltas(&rows, |delta| delta.files)),
            ("rows", of_deltas(&rows, |delta| delta.rows)),
            ("bytes", of_deltas(&rows, |delta| delta.bytes)),
            ("is_read", truths(rows.iter().map(|(_, delta)| delta.is_read))),
        ])
    }

    /// What others read of versioned stores.
    async fn exports(&self) -> Result<Arc<dyn TableProvider>> {
        let exports =
            |connector: Arc<dyn Connector>| async move { connector.exports().await }.boxed();
        let rows = self.of_catalogs("listing exports", exports).await?;
        let text =
            |of: fn(&ExportEntry) -> &String| texts(rows.iter().map(|(_, e)| Some(of(e).clone())));
        table_of(vec![
            ("catalog", texts(rows.iter().map(|(catalog, _)| Some(catalog.clone())))),
            ("schema", text(|export| &export.schema)),
            ("table", text(|export| &export.table)),
            ("format", text(|export| &export.format)),
            ("location", text(|export| &export.location)),
            ("version", numbers(rows.iter().map(|(_, export)| export.version))),
        ])
    }

    /// How versioned stores became what they are.
    async fn changes(&self) -> Result<Arc<dyn TableProvider>> {
        let changes =
            |connector: Arc<dyn Connector>| async move { connector.changes().await }.boxed();
        let rows = self.of_catalogs("listing changes", changes).await?;
        let number = |of: fn(&ChangeEntry) -> u64| numbers(rows.iter().map(|(_, c)| of(c)));
        table_of(vec![
            ("catalog", texts(rows.iter().map(|(catalog, _)| Some(catalog.clone())))),
            ("position", number(|change| change.position)),
            ("version", number(|change| change.version)),
            ("operation", texts(rows.iter().map(|(_, c)| Some(c.operation.clone())))),
            ("committed", times(rows.iter().map(|(_, change)| change.committed_us))),
            ("writer", texts(rows.iter().map(|(_, change)| Some(change.writer.clone())))),
            ("tables", texts(rows.iter().map(|(_, change)| Some(change.tables.join(", "))))),
            ("files", number(|change| change.files)),
            ("rows", number(|change| change.rows)),
        ])
    }

    /// How far feeds of versioned stores have come.
    async fn feeds(&self) -> Result<Arc<dyn TableProvider>> {
        let feeds = |connector: Arc<dyn Connector>| async move { connector.feeds().await }.boxed();
        let rows = self.of_catalogs("listing feeds", feeds).await?;
        table_of(vec![
            ("catalog", texts(rows.iter().map(|(catalog, _)| Some(catalog.clone())))),
            ("feed", texts(rows.iter().map(|(_, feed)| Some(feed.feed.clone())))),
            ("number", numbers(rows.iter().map(|(_, feed)| feed.number))),
            ("version", numbers(rows.iter().map(|(_, feed)| feed.version))),
        ])
    }

    /// Asks all catalogs the same at once. Those that cannot be made, which `catalogs` shows, have no answer.
    async fn of_catalogs<T>(
        &self,
        doing: &str,
        question: impl Fn(Arc<dyn Connector>) -> BoxFuture<'static, Result<Vec<T>>>,
    ) -> Result<Vec<(String, T)>> {
        let definitions = self.catalogs.definitions();
        let questions = definitions.iter().map(|definition| async {
            let Ok(connector) = self.catalogs.connector(&definition.name) else {
                return Ok(Vec::new());
            };
            within(CHECK_DEADLINE, doing, question(connector)).await?
        });
        let answers: Vec<Result<Vec<T>>> = join_all(questions).await;
        let mut rows = Vec::new();
        for (definition, answer) in definitions.iter().zip(answers) {
            rows.extend(answer?.into_iter().map(|row| (definition.name.clone(), row)));
        }
        Ok(rows)
    }

    async fn catalogs(&self) -> Result<Arc<dyn TableProvider>> {
        let definitions = self.catalogs.definitions();
        let checks = definitions.iter().map(|definition| async {
            let connector = self.catalogs.connector(&definition.name)?;
            within(CHECK_DEADLINE, "checking the source", connector.check()).await?
        });
        let answers: Vec<Result<()>> = join_all(checks).await;
        let state = |answer: &Result<()>| match answer {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.code.clone(),
        };
        table_of(vec![
            ("catalog", texts(definitions.iter().map(|d| Some(d.name.clone())))),
            ("connector", texts(definitions.iter().map(|d| Some(d.kind.clone())))),
            ("state", texts(answers.iter().map(|answer| Some(state(answer))))),
            ("error", texts(answers.iter().map(|a| a.as_ref().err().map(|e| e.message.clone())))),
        ])
    }
}

/// Returns a number of each delta as a column.
fn of_deltas(rows: &[(String, DeltaEntry)], count: impl Fn(&DeltaEntry) -> u64) -> ArrayRef {
    numbers(rows.iter().map(|(_, delta)| count(delta)))
}

fn observed_stats(counted: &Counted) -> Result<Arc<dyn TableProvider>> {
    let tables = counted.all();
    let of_table = |(key, counts): &(TableKey, Counts)| {
        counts.iter().map(|(text, n)| (key.clone(), text.clone(), *n)).collect::<Vec<_>>()
    };
    let rows: Vec<(TableKey, String, u64)> = tables.iter().flat_map(of_table).collect();
    table_of(vec![
        ("catalog", texts(rows.iter().map(|(key, ..)| Some(key.catalog.clone())))),
        ("schema", texts(rows.iter().map(|(key, ..)| Some(key.schema.clone())))),
        ("table", texts(rows.iter().map(|(key, ..)| Some(key.table.clone())))),
        ("conditions", texts(rows.iter().map(|(_, conditions, _)| Some(conditions.clone())))),
        ("rows", numbers(rows.iter().map(|(.., n_rows)| *n_rows))),
    ])
}

pub(super) fn schema_names() -> Vec<String> {
    vec![RUNTIME_SCHEMA.to_owned()]
}

pub(super) fn entries(schema: &str) -> Vec<TableEntry> {
    if schema != RUNTIME_SCHEMA {
        return Vec::new();
    }
    entries_of(&[
        "catalogs",
        "changes",
        "deltas",
        "exports",
        "feeds",
        "nodes",
        "observed_stats",
        "pushdown_rules",
        "queries",
        "tasks",
    ])
}

pub(super) fn entries_of(names: &[&str]) -> Vec<TableEntry> {
    let entry = |name: &&str| TableEntry {
        name: (*name).to_owned(),
        kind: TableKind::System,
        comment: None,
    };
    names.iter().map(entry).collect()
}

/// Returns a table that holds these columns.
pub(super) fn table_of(columns: Vec<(&str, ArrayRef)>) -> Result<Arc<dyn TableProvider>> {
    let batch = batch_of(columns)?;
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}

/// Returns the rows that these columns hold.
pub(crate) fn batch_of(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    let field =
        |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), true);
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    Ok(RecordBatch::try_new(schema, arrays)?)
}

pub(crate) fn texts(values: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

pub(super) fn numbers(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

fn truths(values: impl Iterator<Item = bool>) -> ArrayRef {
    Arc::new(BooleanArray::from_iter(values.map(Some)))
}

fn times(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}
