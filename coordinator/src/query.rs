//! One query from text to stream: the only caller of the steps.
//!
//! ```text
//! text ─parse─► statement ─resolve─► tables ─plan─► logical plan ─► physical plan ─results─► rows
//! ```
//! Front doors only encode what comes back; they never plan or execute anything themselves.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::logical_expr::{DmlStatement, LogicalPlan};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::sql::parser::Statement as DataFusionStatement;
use meshwork_engine::catalog::CatalogRegistry;
use meshwork_engine::connector::TableEntry;
use meshwork_engine::scope::QueryScope;
use meshwork_engine::{Error, Result, functions};

use crate::cluster::Cluster;
use crate::fragment::Distribution;
use crate::history::{History, QueryRecord};
use crate::parse::{ExplainMode, Parsed, Statement, TableVersions, parse};
use crate::plan::{Planned, Planner, base_config};
use crate::resolve::{Found, Resolver};
use crate::results::{self, EndGuard, Kept};
use crate::schedule::{self, Admission, Admitted, Retry, RunOptions};
use crate::session::{Identity, Session, Snapshot};
use crate::{explain, fragment, statements};

/// Queries that run at the same time; more make each other slower.
const N_RUNNING_MAX: usize = 100;
/// Queries that wait for that.
const N_WAITING_MAX: usize = 1_000;
/// How long one waits.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// What a coordinator is made of.
#[derive(Debug)]
pub struct CoordinatorParts {
    /// The catalogs of this node.
    pub catalogs: Arc<CatalogRegistry>,
    /// Looks names up.
    pub resolver: Resolver,
    /// Remembers queries.
    pub history: Arc<History>,
    /// The catalog and schema of new sessions.
    pub session_defaults: Snapshot,
    /// How plans are distributed over workers.
    pub distribution: Distribution,
    /// The workers of other processes, if there are any to ask.
    pub cluster: Option<Arc<Cluster>>,
}

/// Plans and runs queries. Shared by all front doors.
pub struct Coordinator {
    pub(crate) catalogs: Arc<CatalogRegistry>,
    pub(crate) resolver: Resolver,
    history: Arc<History>,
    session_defaults: Snapshot,
    distribution: Distribution,
    cluster: Option<Arc<Cluster>>,
    admission: Admission,
    base: Base,
}

/// Gives each query the state that it starts from: functions, rules, the runtime.
///
/// Behind a `dyn`, because the compiler otherwise proves for every method of every door that DataFusion's state
/// can move between threads, which takes minutes.
type Base = Box<dyn Fn() -> SessionState + Send + Sync>;

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator").field("catalogs", &self.catalogs).finish_non_exhaustive()
    }
}

/// Whether a statement returns rows or changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementKind {
    /// It returns rows.
    Rows,
    /// It changes something; its stream is one batch with one column `rows`, the number of changed rows.
    Update,
}

/// A statement that was planned but not run.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// What it is.
    pub kind: StatementKind,
    /// The columns that it returns; none for an update.
    pub schema: SchemaRef,
    /// Its parameters `$1`, `$2`, ... in order; text where the type is not known.
    pub parameters: SchemaRef,
}

/// A query that runs. Dropping `rows` cancels it.
pub struct Running {
    /// What is known of it; `record.id` is the id that users know it by.
    pub record: Arc<QueryRecord>,
    /// What it is.
    pub kind: StatementKind,
    /// The columns of `rows`.
    pub schema: SchemaRef,
    /// Its rows, as they are computed.
    pub rows: SendableRecordBatchStream,
    /// The versions of versioned catalogs that it reads.
    pub versions: BTreeMap<String, String>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("record", &self.record).finish_non_exhaustive()
    }
}

/// One query while it is being planned: everything the steps share.
pub(crate) struct QueryContext<'a> {
    pub(crate) coordinator: &'a Arc<Coordinator>,
    pub(crate) session: &'a Arc<Session>,
    pub(crate) snapshot: Snapshot,
    pub(crate) scope: Arc<QueryScope>,
    pub(crate) base: SessionState,
}

/// What a statement became.
enum Answer {
    /// A plan to run.
    Plan(Box<Planned>, StatementKind),
    /// Rows that are there already.
    Batch(RecordBatch),
    /// So many rows were changed.
    Changed(u64),
}

impl Coordinator {
    /// Puts a coordinator together.
    pub fn new(parts: CoordinatorParts) -> Arc<Self> {
        let builder = SessionStateBuilder::new()
            .with_default_features()
            .with_config(base_config())
            .with_runtime_env(Arc::clone(parts.catalogs.runtime()));
        let base = functions::register(builder).build();
        Arc::new(Self {
            catalogs: parts.catalogs,
            resolver: parts.resolver,
            history: parts.history,
            session_defaults: parts.session_defaults,
            distribution: parts.distribution,
            cluster: parts.cluster,
            admission: Admission::new(N_RUNNING_MAX, N_WAITING_MAX, WAIT_MAX),
            base: Box::new(move || base.clone()),
        })
    }

    /// Opens a session for a client that a front door let in.
    pub fn open_session(&self, identity: Identity) -> Arc<Session> {
        Session::new(identity, self.session_defaults.clone())
    }

    /// Plans a statement without running it.
    ///
    /// # Errors
    /// Those of parsing, resolving and planning.
    pub async fn prepare(self: &Arc<Self>, session: &Arc<Session>, sql: &str) -> Result<Prepared> {
        let context = self.context(session, "prepare");
        let Parsed { statement, versions } = parse(sql)?;
        let none = || Arc::new(Schema::empty());
        let rows = |schema| Prepared { kind: StatementKind::Rows, schema, parameters: none() };
        match statement {
            Statement::Plan(statement) => {
                let planned = context.plan(&statement, &versions).await?;
                prepared(&planned.plan)
            }
            Statement::Explain { .. } => Ok(rows(explain::schema())),
            Statement::Show(show) => Ok(rows(statements::show(&context, &show).await?.schema())),
            _ => Ok(Prepared { kind: StatementKind::Update, schema: none(), parameters: none() }),
        }
    }

    /// Runs a statement. `parameters` stand for `$1`, `$2`, ... in order.
    ///
    /// # Errors
    /// Those of parsing, resolving and planning, and of statements that are no queries. What fails later
    /// comes through the stream.
    pub async fn execute(
        self: &Arc<Self>,
        session: &Arc<Session>,
        sql: &str,
        parameters: Vec<ScalarValue>,
    ) -> Result<Running> {
        let record = self.history.begin(session.user(), sql);
        let guard = EndGuard::new(Arc::clone(&self.history), Arc::clone(&record));
        // Boxed: the future of planning is large, and doors hold many.
        let start = Box::pin(self.start(session, sql, parameters, &record));
        let started = record.cancel.run_until_cancelled(start);
        match started.await.unwrap_or_else(|| Err(Error::cancelled("the query was cancelled"))) {
            Ok((answer, context, admitted)) => {
                self.deliver(answer, &context, Kept::new(guard, &context.scope, admitted)).await
            }
            Err(error) => {
                guard.end(Some(&error));
                Err(error)
            }
        }
    }

    /// Cancels a query; returns whether it was running.
    pub fn cancel(&self, query_id: &str) -> bool {
        let record = self.history.get(query_id);
        record.is_some_and(|record| {
            let running = !record.cancel.is_cancelled();
            record.cancel.cancel();
            running
        })
    }

    /// The queries of this coordinator.
    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// Returns the names of all catalogs, sorted.
    pub fn catalog_names(&self) -> Vec<String> {
        self.resolver.catalog_names()
    }

    /// Returns the names of a catalog's schemas, sorted.
    ///
    /// # Errors
    /// `User` when there is no such catalog, `Source` when it cannot be asked.
    pub async fn schema_names(&self, catalog: &str) -> Result<Vec<String>> {
        self.resolver.schema_names(catalog).await
    }

    /// Returns the tables and views of a schema, sorted by name.
    ///
    /// # Errors
    /// `User` when there is no such catalog, `Source` when it cannot be asked.
    pub async fn tables(&self, catalog: &str, schema: &str) -> Result<Vec<TableEntry>> {
        self.resolver.tables(catalog, schema).await
    }

    /// Returns the columns of a table or view; `None` if there is none of that name.
    ///
    /// # Errors
    /// `Source` when the source cannot be asked.
    pub async fn table_schema(
        self: &Arc<Self>,
        session: &Arc<Session>,
        catalog: &str,
        schema: &str,
        table: &str,
    ) -> Result<Option<SchemaRef>> {
        let context = self.context(session, "metadata");
        let parts = [catalog, schema, table].map(str::to_owned);
        match context.columns_of(&parts).await {
            Ok(schema) => Ok(Some(schema)),
            Err(error) if error.code.ends_with("_NOT_FOUND") => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn context<'a>(
        self: &'a Arc<Self>,
        session: &'a Arc<Session>,
        query_id: &str,
    ) -> QueryContext<'a> {
        let snapshot = session.snapshot();
        let generation = self.catalogs.generation();
        let settings = snapshot.query_settings(query_id, session.user(), generation);
        let scope = QueryScope::new(settings.clone());
        let base = (self.base)();
        let mut config = base.config().clone().with_extension(Arc::clone(&scope));
        config = config.with_batch_size(settings.batch_size);
        if let Some(partitions) = snapshot.target_partitions() {
            config = config.with_target_partitions(partitions);
        }
        config.options_mut().extensions.insert(settings);
        let base = SessionStateBuilder::new_from_existing(base).with_config(config).build();
        QueryContext { coordinator: self, session, snapshot, scope, base }
    }

    async fn start<'a>(
        self: &'a Arc<Self>,
        session: &'a Arc<Session>,
        sql: &str,
        parameters: Vec<ScalarValue>,
        record: &QueryRecord,
    ) -> Result<(Answer, QueryContext<'a>, Admitted)> {
        let admitted = self.admission.admit().await?;
        let Parsed { statement, versions } = parse(sql)?;
        let context = self.context(session, &record.id);
        let answer = context.answer(statement, &versions, parameters).await?;
        Ok((answer, context, admitted))
    }

    async fn deliver(
        self: &Arc<Self>,
        answer: Answer,
        context: &QueryContext<'_>,
        kept: Kept,
    ) -> Result<Running> {
        let record = Arc::clone(kept.guard.record());
        let versions = context.scope.versions();
        let (kind, rows) = match answer {
            Answer::Plan(planned, kind) => {
                let rows = match self.run(*planned, context, kind, &record).await {
                    Ok(rows) => rows,
                    Err(error) => {
                        kept.guard.end(Some(&error));
                        return Err(error);
                    }
                };
                (kind, if kind == StatementKind::Update { results::as_count(rows) } else { rows })
            }
            Answer::Batch(batch) => (StatementKind::Rows, one_batch(batch)?),
            Answer::Changed(rows) => {
                (StatementKind::Update, one_batch(results::count_batch(rows)?)?)
            }
        };
        let rows = results::deliver(rows, kept);
        Ok(Running { record, kind, schema: rows.schema(), rows, versions })
    }

    /// Starts a plan; it is made again when a worker is lost before the first row has left. A change is never
    /// run twice.
    async fn run(
        self: &Arc<Self>,
        planned: Planned,
        context: &QueryContext<'_>,
        kind: StatementKind,
        record: &QueryRecord,
    ) -> Result<SendableRecordBatchStream> {
        let first = self.fragment(&planned, &context.snapshot, &context.scope).await?;
        let stages = fragment::stages(first.plan());
        record.running(stages.len(), stages.iter().map(|stage| stage.n_tasks).sum());
        let options = RunOptions {
            deadline: Some(Duration::from_secs(context.snapshot.query_timeout_s())),
            cluster: self.cluster.clone(),
        };
        let again = (
            Arc::clone(self),
            Arc::new(planned),
            context.snapshot.clone(),
            Arc::clone(&context.scope),
        );
        let replan = move |retry: Retry| {
            let (coordinator, planned, snapshot, scope) = again.clone();
            async move {
                if kind == StatementKind::Update {
                    return Err(retry.cause);
                }
                coordinator.fragment(&planned, &snapshot, &scope).await
            }
        };
        Ok(schedule::run(first, options, replan))
    }

    /// Makes the physical plan for the workers that live now.
    pub(crate) async fn fragment(
        &self,
        planned: &Planned,
        snapshot: &Snapshot,
        scope: &QueryScope,
    ) -> Result<schedule::Planned> {
        let distribution =
            self.distribution.clone().with_tasks_max(snapshot.tasks_max().unwrap_or(0));
        let builder = SessionStateBuilder::new_from_existing(planned.state.clone());
        let state = distribution.configure(builder, scope.settings())?.build();
        let plan = state.create_physical_plan(&planned.plan).await?;
        schedule::Planned::new(plan, state.task_ctx())
    }
}

impl QueryContext<'_> {
    pub(crate) fn planner(&self) -> Planner<'_> {
        Planner {
            resolver: &self.coordinator.resolver,
            scope: &self.scope,
            session: &self.snapshot,
            base: &self.base,
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

    async fn answer(
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
        let Planned { plan, state } = self.plan(statement, versions).await?;
        let plan = with_parameters(plan, parameters)?;
        let LogicalPlan::Dml(insert) = &plan else {
            return Ok(Answer::Plan(Box::new(Planned { plan, state }), StatementKind::Rows));
        };
        if self.session.batch.lock().await.is_some() {
            return statements::insert_into_batch(self, insert, &state).await.map(Answer::Changed);
        }
        let insert = insert_of(plan)?;
        Ok(Answer::Plan(Box::new(Planned { plan: insert, state }), StatementKind::Update))
    }

    async fn explain(
        &self,
        mode: ExplainMode,
        statement: &DataFusionStatement,
        versions: &TableVersions,
    ) -> Result<RecordBatch> {
        let Planned { plan, state } = self.plan(statement, versions).await?;
        let optimized = state.optimize(&plan)?;
        let planned = Planned { plan, state };
        let coordinator = self.coordinator;
        let made = coordinator.fragment(&planned, &self.snapshot, &self.scope).await?;
        if mode == ExplainMode::Analyze {
            let plan = Arc::clone(made.plan());
            let never_again = |retry: Retry| async { Err(retry.cause) };
            let rows = schedule::run(made, RunOptions::default(), never_again);
            let rows = results::count_rows(rows).await?;
            return explain::analyzed(plan, rows).await;
        }
        explain::explained(mode, &optimized, made.plan())
    }
}

/// Only whole-row appends are inserts; what else DataFusion plans as DML is refused by name.
fn insert_of(plan: LogicalPlan) -> Result<LogicalPlan> {
    use datafusion::logical_expr::WriteOp;
    use datafusion::logical_expr::dml::InsertOp;
    let LogicalPlan::Dml(DmlStatement { op, .. }) = &plan else { return Ok(plan) };
    match op {
        WriteOp::Insert(InsertOp::Append) => Ok(plan),
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

fn prepared(plan: &LogicalPlan) -> Result<Prepared> {
    let types: BTreeMap<_, _> = plan.get_parameter_types()?.into_iter().collect();
    let mut numbered = BTreeMap::new();
    for (name, data_type) in types {
        let number: u32 = name.trim_start_matches('$').parse().map_err(|_named| {
            Error::not_supported(format!("the parameter {name}: parameters are $1, $2, ... or ?"))
        })?;
        numbered.insert(number, Field::new(name, data_type.unwrap_or(DataType::Utf8), true));
    }
    let parameters = Arc::new(Schema::new(numbered.into_values().collect::<Vec<_>>()));
    Ok(match plan {
        LogicalPlan::Dml(_) => {
            Prepared { kind: StatementKind::Update, schema: Arc::new(Schema::empty()), parameters }
        }
        // Whatever is no DML returns rows.
        _ => Prepared {
            kind: StatementKind::Rows,
            schema: Arc::clone(plan.schema().inner()),
            parameters,
        },
    })
}

fn one_batch(batch: RecordBatch) -> Result<SendableRecordBatchStream> {
    let schema = batch.schema();
    Ok(Box::pin(MemoryStream::try_new(vec![batch], schema, None)?))
}
