//! One statement on its way to an answer: a plan to run, rows that are there already, or a number of changed
//! rows.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::config::SessionConfig;
use datafusion::logical_expr::{DmlStatement, LogicalPlan};
use datafusion::sql::parser::Statement as DataFusionStatement;
use futures::future;
use meshwork_engine::scope::QueryScope;
use meshwork_engine::{Error, Result};

use super::run::optimized;
use super::{Coordinator, StatementKind};
use crate::parse::{ExplainMode, Statement, TableVersions};
use crate::plan::{Planned, Planner};
use crate::resolve::{Found, TableName};
use crate::results;
use crate::schedule::{self, Retry, RunOptions};
use crate::session::{Session, Snapshot};
use crate::{explain, statements};

/// How often an `UPDATE` or `DELETE` looks for its rows while others change the table under it.
const CHANGE_ATTEMPTS_MAX: usize = 5;

/// One query while it is being planned: everything the steps share.
pub(crate) struct QueryContext<'a> {
    pub(crate) coordinator: &'a Arc<Coordinator>,
    pub(crate) session: &'a Arc<Session>,
    pub(crate) snapshot: Snapshot,
    pub(crate) scope: Arc<QueryScope>,
    pub(crate) config: SessionConfig,
}

/// What a statement became.
pub(super) enum Answer {
    /// A plan to run.
    Plan(Arc<Planned>, StatementKind),
    /// Rows that are there already.
    Batch(RecordBatch),
    /// So many rows were changed.
    Changed(u64),
}

impl QueryContext<'_> {
    pub(crate) fn planner(&self) -> Planner<'_> {
        Planner {
            resolver: &self.coordinator.resolver,
            scope: &self.scope,
            session: &self.snapshot,
            base: &self.coordinator.base,
            config: &self.config,
        }
    }

    /// Resolves and plans a query or an insert.
    pub(crate) async fn plan(
        &self,
        statement: &DataFusionStatement,
        versions: &TableVersions,
    ) -> Result<Planned> {
        self.planner().plan(statement, versions).await
    }

    /// Returns the columns of a table, or of a view by planning it.
    pub(crate) async fn columns_of(&self, parts: &[String]) -> Result<SchemaRef> {
        let resolver = &self.coordinator.resolver;
        let name = resolver.full_name(parts, &self.snapshot)?;
        let version = self.snapshot.read_version();
        match resolver.find(&name, version, &self.scope).await? {
            Found::Table(table) => Ok(table.schema()),
            Found::View(view) => Ok(self.planner().plan_view(&view, 0).await?.schema()),
        }
    }

    /// Returns the columns of a table that was listed; as old as the catalog's `metadata_freshness` says.
    pub(crate) async fn listed_columns(&self, name: TableName) -> Result<SchemaRef> {
        match self.coordinator.resolver.listed_columns(&name, &self.scope).await? {
            Some(columns) => Ok(columns),
            None => self.columns_of(&[name.catalog, name.schema, name.table]).await,
        }
    }

    pub(super) async fn answer(
        &self,
        statement: Statement,
        versions: &TableVersions,
        parameters: Vec<ScalarValue>,
    ) -> Result<Answer> {
        match statement {
            Statement::Plan(statement) => self.answer_plan(&statement, versions, parameters).await,
            Statement::Explain { mode, statement } => {
                let Statement::Plan(statement) = *statement else {
                    return Err(Error::not_supported("EXPLAIN of a statement that is no query"));
                };
                self.explain(mode, &statement, versions).await.map(Answer::Batch)
            }
            Statement::Show(show) => statements::show(self, &show).await.map(Answer::Batch),
            other => statements::change(self, other, versions).await.map(Answer::Changed),
        }
    }

    async fn answer_plan(
        &self,
        statement: &DataFusionStatement,
        versions: &TableVersions,
        parameters: Vec<ScalarValue>,
    ) -> Result<Answer> {
        let planned = || async {
            let Planned { plan, state } = self.plan(statement, versions).await?;
            Ok::<_, Error>(Planned { plan: with_parameters(plan, parameters.clone())?, state })
        };
        let Planned { plan, state } = planned().await?;
        let kind = match &plan {
            LogicalPlan::Dml(change) if statements::changes_rows(change) => {
                let mut changed = self.change_rows(Planned { plan, state }).await;
                // Others changed the table meanwhile: it is read anew.
                for _again in 1..CHANGE_ATTEMPTS_MAX {
                    if !changed.as_ref().is_err_and(|error| error.code == "COMMIT_CONFLICT") {
                        break;
                    }
                    self.scope.let_go();
                    changed = self.change_rows(planned().await?).await;
                }
                return changed.map(Answer::Changed);
            }
            LogicalPlan::Dml(insert) => {
                refuse_other_than_inserts(insert)?;
                if self.session.batch.lock().await.is_some() {
                    let changed = statements::insert_into_batch(self, insert, &state).await;
                    return changed.map(Answer::Changed);
                }
                StatementKind::Update
            }
            _ => StatementKind::Rows,
        };
        Ok(Answer::Plan(Arc::new(Planned { plan, state }), kind))
    }

    /// Carries out an `UPDATE` or `DELETE` once; what a subquery of one value says is known before.
    async fn change_rows(&self, planned: Planned) -> Result<u64> {
        if self.session.batch.lock().await.is_some() {
            return Err(Error::not_supported("UPDATE and DELETE while an update batch is open"));
        }
        let planned = self.reduced(planned).await?;
        match &planned.plan {
            LogicalPlan::Dml(change) => statements::change_rows(self, change, &planned.state).await,
            _ => Err(Error::internal("a change of rows became another plan")),
        }
    }

    async fn explain(
        &self,
        mode: ExplainMode,
        statement: &DataFusionStatement,
        versions: &TableVersions,
    ) -> Result<RecordBatch> {
        let Planned { plan, state } = self.plan(statement, versions).await?;
        if let LogicalPlan::Dml(change) = &plan
            && statements::changes_rows(change)
        {
            return Err(Error::not_supported("EXPLAIN of UPDATE and DELETE"));
        }
        if let (ExplainMode::Analyze, LogicalPlan::Dml(insert)) = (mode, &plan) {
            refuse_other_than_inserts(insert)?;
            if self.session.batch.lock().await.is_some() {
                return Err(Error::not_supported(
                    "EXPLAIN ANALYZE of an INSERT while an update batch is open",
                ));
            }
        }
        let steps = match mode {
            ExplainMode::Verbose => explain::steps(&plan, &state)?,
            _ => Vec::new(),
        };
        let optimized = optimized(&plan, &state).await?;
        let planned = Planned { plan, state };
        if mode == ExplainMode::Analyze {
            let made = self.fragment(self.reduced(planned).await?).await?;
            let plan = Arc::clone(made.plan());
            let rows = results::count_rows(self.run_once(made)).await?;
            return explain::analyzed(plan, rows).await;
        }
        let planned = Arc::new(planned);
        let made = self.fragment(Arc::clone(&planned)).await?;
        explain::explained(mode, steps, &optimized, made.plan(), &planned.state)
    }

    /// Runs a query that is a part of this statement and returns its rows.
    pub(crate) async fn rows(&self, query: Planned) -> Result<SendableRecordBatchStream> {
        Ok(self.run_once(self.fragment(self.reduced(query).await?).await?))
    }

    async fn reduced(&self, planned: Planned) -> Result<Arc<Planned>> {
        self.coordinator.reduced(Arc::new(planned), &self.snapshot, &self.scope).await
    }

    async fn fragment(&self, planned: Arc<Planned>) -> Result<schedule::Planned> {
        self.coordinator.fragment(&planned, &self.snapshot).await
    }

    /// Never runs it again: who reads the rows here cannot take back what it did with them.
    fn run_once(&self, made: schedule::Planned) -> SendableRecordBatchStream {
        let deadline = Some(Duration::from_secs(self.snapshot.query_timeout_s()));
        let options = RunOptions { deadline, cluster: None };
        schedule::run(made, options, |retry: Retry| future::ready(Err(retry.cause)))
    }
}

/// Only whole-row appends are inserts; what else DataFusion plans as DML is refused by name.
fn refuse_other_than_inserts(statement: &DmlStatement) -> Result<()> {
    use datafusion::logical_expr::WriteOp;
    use datafusion::logical_expr::dml::InsertOp;
    match &statement.op {
        WriteOp::Insert(InsertOp::Append) => Ok(()),
        other => Err(Error::not_supported(format!("the statement {other}"))),
    }
}

fn with_parameters(plan: LogicalPlan, parameters: Vec<ScalarValue>) -> Result<LogicalPlan> {
    let wanted = plan.get_parameter_names()?.len();
    if wanted != parameters.len() {
        let message =
            format!("the statement has {wanted} parameters, {} were given", parameters.len());
        return Err(Error::user("WRONG_PARAMETER_COUNT", message));
    }
    if wanted == 0 {
        return Ok(plan);
    }
    Ok(plan.with_param_values(ParamValues::from(parameters))?)
}
