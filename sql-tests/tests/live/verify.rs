//! A session that has its queries verified finds a rule that moves work wrongly, and the rule moves nothing any more.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arrow::util::display::array_value_to_string;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::runtime_env::RuntimeEnv;
use meshwork::connectors;
use meshwork::coordinator::{Coordinator, Identity, Session};
use meshwork_engine::catalog::{CatalogDefinition, CatalogRegistry, Properties};
use meshwork_engine::connector::{
    Connector, Outcome, Pushdown, ReadVersion, RowSource, Split, TableEntry,
};
use meshwork_engine::environment;
use meshwork_engine::remote::{Predicate, RemoteScan, RemoteTable};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::settings::QuerySettings;
use meshwork_sql_tests::local;
use rusqlite::Connection;
use tempfile::TempDir;

/// A query is checked by itself, and one at a time.
const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// What is right and what is not: all that begins with `a` and more is expected of the wrong rule.
const QUERIES: [&str; 5] = [
    "SELECT id, name FROM forgetful.main.t WHERE id < 40",
    "SELECT count(*) FROM forgetful.main.t WHERE id > 10 AND name IS NOT NULL",
    "SELECT name FROM forgetful.main.t WHERE name LIKE 'a%' AND id > 3",
    "SELECT id FROM forgetful.main.t ORDER BY id LIMIT 3",
    "SELECT max(id) FROM forgetful.main.t WHERE id IN (3, 5, 7)",
];

/// Whether rules were checked that are right.
const TRUSTED: &str = "SELECT count(*) > 1 FROM system.runtime.pushdown_rules WHERE state = 'trusted' AND queries_same > 0";

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_rule_is_found_and_switched_off_and_no_other() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("t.db");
    Connection::open(&file)?.execute_batch(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT);
         INSERT INTO t VALUES (1, 'anna'), (2, 'bert'), (5, 'alma'), (7, 'carl'), (30, 'abel'), (50, NULL), (60, 'dora')",
    )?;
    let catalogs = Arc::new(CatalogRegistry::new(make, Arc::new(RuntimeEnv::default())));
    let path = ("path".to_owned(), file.to_string_lossy().into_owned());
    catalogs.define(CatalogDefinition {
        name: "forgetful".to_owned(),
        kind: "forgetful".to_owned(),
        properties: BTreeMap::from([path]),
    });
    let coordinator = local::coordinator(&catalogs, 1).await?;
    let session = coordinator.open_session(Identity { user: "ana".to_owned() });
    let wrong = text(&coordinator, &session, QUERIES[2]).await?;
    ensure!(wrong.len() > 2, "the rule that is planted does nothing: {wrong:?}");

    session.set("verify_pushdown", "1")?;
    let found = async {
        loop {
            for sql in QUERIES {
                text(&coordinator, &session, sql).await?;
            }
            let rules =
                "SELECT rule, query FROM system.runtime.pushdown_rules WHERE state = 'quarantined'";
            let rules = text(&coordinator, &session, rules).await?;
            // One query is checked at a time, whichever comes first; some of the right ones have to be among them.
            let trusted = text(&coordinator, &session, TRUSTED).await?;
            if !rules.is_empty() && trusted == [["true"]] {
                return anyhow::Ok(rules);
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let found = environment::within(DEADLINE, "finding a wrong rule", found).await??;
    assert_eq!(found, [["like(text)", QUERIES[2]]]);

    let right = text(&coordinator, &session, QUERIES[2]).await?;
    assert_eq!(right.len(), 2, "{right:?}");
    let explained = text(&coordinator, &session, &format!("EXPLAIN {}", QUERIES[2])).await?;
    let explained = explained.concat().join("\n");
    ensure!(explained.contains("QUARANTINED: rule like(text)"), "{explained}");
    // What is right is moved as before.
    ensure!(explained.contains("`id` > 3"), "{explained}");
    Ok(())
}

async fn text(
    coordinator: &Arc<Coordinator>,
    session: &Arc<Session>,
    sql: &str,
) -> Result<Vec<Vec<String>>> {
    let rows = local::rows(coordinator, session, sql).await.with_context(|| sql.to_owned())?;
    let mut lines = Vec::new();
    for batch in &rows.batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| array_value_to_string(column, row));
            lines.push(cells.collect::<Result<Vec<_>, _>>()?);
        }
    }
    Ok(lines)
}

/// Returns the connector of a source that says of patterns that it looks for them, and does not.
fn make(kind: &str, properties: Properties) -> meshwork_engine::Result<Arc<dyn Connector>> {
    let inner = connectors::make(if kind == "forgetful" { "sqlite" } else { kind }, properties)?;
    let inner_source = inner.row_source().expect("a file of SQLite is a row source");
    Ok(Arc::new(Forgetful { inner, source: Arc::new(ForgetfulSource(inner_source)) }))
}

#[derive(Debug)]
struct Forgetful {
    inner: Arc<dyn Connector>,
    source: Arc<ForgetfulSource>,
}

#[async_trait]
impl Connector for Forgetful {
    fn kind(&self) -> &'static str {
        "forgetful"
    }

    async fn schema_names(&self) -> meshwork_engine::Result<Vec<String>> {
        self.inner.schema_names().await
    }

    async fn tables(&self, schema: &str) -> meshwork_engine::Result<Vec<TableEntry>> {
        self.inner.tables(schema).await
    }

    async fn table(
        &self,
        schema: &str,
        table: &str,
        version: ReadVersion,
        scope: &Arc<QueryScope>,
    ) -> meshwork_engine::Result<Option<Arc<dyn TableProvider>>> {
        let Some(found) = self.inner.table(schema, table, version, scope).await? else {
            return Ok(None);
        };
        let remote = (found.as_ref() as &dyn Any).downcast_ref::<RemoteTable>();
        let whole = remote.expect("a table of SQLite is a remote one").whole().clone();
        let source = Arc::clone(&self.source) as Arc<dyn RowSource>;
        Ok(Some(Arc::new(RemoteTable::new(whole, source, Arc::clone(scope)))))
    }

    fn row_source(&self) -> Option<Arc<dyn RowSource>> {
        Some(Arc::clone(&self.source) as Arc<dyn RowSource>)
    }
}

#[derive(Debug)]
struct ForgetfulSource(Arc<dyn RowSource>);

fn without_patterns(scan: &RemoteScan) -> RemoteScan {
    let mut scan = scan.clone();
    scan.filters.retain(|filter| !matches!(filter, Predicate::Like { .. }));
    scan
}

#[async_trait]
impl RowSource for ForgetfulSource {
    fn negotiate(&self, scan: &RemoteScan, offer: Pushdown<'_>) -> Outcome {
        match offer {
            Pushdown::Filter(Predicate::Like { .. }) => Outcome::Exact,
            other => self.0.negotiate(scan, other),
        }
    }

    async fn splits(
        &self,
        scan: RemoteScan,
        scope: &Arc<QueryScope>,
        settings: &QuerySettings,
    ) -> meshwork_engine::Result<(RemoteScan, Vec<Split>)> {
        self.0.splits(scan, scope, settings).await
    }

    fn open(
        &self,
        scan: &RemoteScan,
        split: &Split,
        settings: &QuerySettings,
    ) -> meshwork_engine::Result<SendableRecordBatchStream> {
        self.0.open(&without_patterns(scan), split, settings)
    }

    fn describe(&self, scan: &RemoteScan, split: &Split) -> String {
        self.0.describe(&without_patterns(scan), split)
    }
}
