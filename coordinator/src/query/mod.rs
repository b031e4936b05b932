//! One query from text to stream: the only caller of the steps.
//!
//! ```text
//! text ─parse─► statement ─resolve─► tables ─plan─► logical plan ─► physical plan ─results─► rows
//! ```
//! Front doors only encode what comes back; they never plan or execute anything themselves. [`context`] is one
//! statement on this way, [`run`] what a logical plan becomes, [`again`] a query that is planned a second time, [`verify`]
//! asks some queries again.

mod again;
mod context;
mod counting;
mod run;
mod verify;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::execution::config::SessionConfig;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::memory::MemoryStream;
use futures::FutureExt;
use futures::future::BoxFuture;
use meshwork_engine::catalog::CatalogRegistry;
use meshwork_engine::connector::TableEntry;
use meshwork_engine::scope::QueryScope;
use meshwork_engine::{Error, Result, environment, functions};

use self::again::Again;
use self::context::Answer;
pub(crate) use self::context::QueryContext;
use self::counting::Counting;
use self::verify::Asked;
use crate::cluster::Cluster;
use crate::fragment::Distribution;
use crate::history::{History, QueryRecord};
use crate::parse::{Parsed, Statement, parse, shown_text};
use crate::plan::{Base, Planned, base_config, optimizer_rules};
use crate::quarantine::Quarantine;
use crate::resolve::{Analyses, Resolver};
use crate::results::{self, EndGuard, Kept};
use crate::schedule::{Admission, Admitted};
use crate::session::{Identity, Session, Snapshot};
use crate::{explain, fragment, pushdown, statements};

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
    /// Rules of pushdown that were found to be wrong.
    pub quarantine: Arc<Quarantine>,
}

/// Plans and runs queries. Shared by all front doors.
pub struct Coordinator {
    pub(crate) catalogs: Arc<CatalogRegistry>,
    pub(crate) resolver: Resolver,
    history: Arc<History>,
    session_defaults: Snapshot,
    distribution: Distribution,
    cluster: Option<Arc<Cluster>>,
    quarantine: Arc<Quarantine>,
    counting: Arc<Counting>,
    admission: Admission,
    pub(crate) base: Base,
    config: SessionConfig,
}

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
#[derive(Debug)]
pub struct Prepared {
    /// What it is.
    pub kind: StatementKind,
    /// The columns that it returns; none for an update.
    pub schema: SchemaRef,
    /// Its parameters `$1`, `$2`, ... in order; text where the type is not known.
    pub parameters: SchemaRef,
    /// The plan of a query without parameters; other statements are planned when they run.
    pub plan: Option<PreparedPlan>,
}

/// A plan that waits to be run, once and soon: it holds what the query pins in its sources.
pub struct PreparedPlan {
    query_id: String,
    planned: Arc<Planned>,
    snapshot: Snapshot,
    scope: Arc<QueryScope>,
}

impl fmt::Debug for PreparedPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedPlan").field("query_id", &self.query_id).finish_non_exhaustive()
    }
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

/// What a client asked for: enough to plan it again.
struct Request {
    session: Arc<Session>,
    sql: String,
    parameters: Vec<ScalarValue>,
}

/// A statement that has begun to answer.
struct Begun {
    kind: StatementKind,
    rows: SendableRecordBatchStream,
    scope: Arc<QueryScope>,
}

impl Coordinator {
    /// Puts a coordinator together.
    pub fn new(parts: CoordinatorParts) -> Arc<Self> {
        let builder = SessionStateBuilder::new()
            .with_default_features()
            .with_config(base_config())
            .with_optimizer_rules(optimizer_rules())
            .with_runtime_env(Arc::clone(parts.catalogs.runtime()));
        let mut rules = fragment::physical_rules();
        rules.extend([fragment::few_rows(), fragment::yielding_joins()]);
        let builder = builder.with_physical_optimizer_rules(pushdown::around(rules));
        let base = functions::register(builder).build();
        Arc::new(Self {
            catalogs: parts.catalogs,
            resolver: parts.resolver,
            history: parts.history,
            session_defaults: parts.session_defaults,
            distribution: parts.distribution,
            cluster: parts.cluster,
            quarantine: parts.quarantine,
            counting: Arc::default(),
            admission: Admission::new(N_RUNNING_MAX, N_WAITING_MAX, WAIT_MAX),
            config: base.config().clone(),
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
        let (coordinator, session) = (Arc::clone(self), Arc::clone(session));
        let sql = sql.to_owned();
        computed(async move { coordinator.prepare_here(&session, &sql).await }.boxed()).await
    }

    async fn prepare_here(self: &Arc<Self>, session: &Arc<Session>, sql: &str) -> Result<Prepared> {
        let query_id = self.history.next_id();
        let context = self.context(session, &query_id);
        let Parsed { statement, versions } = parse(sql)?;
        let none = || Arc::new(Schema::empty());
        let without_plan = |kind, schema| Prepared { kind, schema, parameters: none(), plan: None };
        let rows = |schema| without_plan(StatementKind::Rows, schema);
        match statement {
            Statement::Plan(statement) => {
                let planned = context.plan(&statement, &versions).await?;
                let mut prepared = prepared(&planned.plan)?;
                if prepared.kind == StatementKind::Rows && prepared.parameters.fields().is_empty() {
                    let QueryContext { snapshot, scope, .. } = context;
                    let planned = Arc::new(planned);
                    prepared.plan = Some(PreparedPlan { query_id, planned, snapshot, scope });
                }
                Ok(prepared)
            }
            Statement::Explain { .. } => Ok(rows(explain::schema())),
            Statement::Show(show) => Ok(rows(statements::show(&context, &show).await?.schema())),
            _ => Ok(without_plan(StatementKind::Update, none())),
        }
    }

    /// Runs a statement. `parameters` stand for `$1`, `$2`, ... in order; `plan` is what preparing this text made of
    /// it, so that it is not planned twice.
    ///
    /// # Errors
    /// Those of parsing, resolving and planning, and of statements that are no queries. What fails later
    /// comes through the stream.
    pub async fn execute(
        self: &Arc<Self>,
        session: &Arc<Session>,
        sql: &str,
        parameters: Vec<ScalarValue>,
        plan: Option<PreparedPlan>,
    ) -> Result<Running> {
        let coordinator = Arc::clone(self);
        let request =
            Arc::new(Request { session: Arc::clone(session), sql: sql.to_owned(), parameters });
        // Boxed: the futures of planning are large, and doors hold many.
        let executed = async move { Box::pin(coordinator.execute_here(&request, plan)).await };
        computed(executed.boxed()).await
    }

    async fn execute_here(
        self: &Arc<Self>,
        request: &Arc<Request>,
        plan: Option<PreparedPlan>,
    ) -> Result<Running> {
        let query_id = match &plan {
            Some(plan) => plan.query_id.clone(),
            None => self.history.next_id(),
        };
        let record = self.history.begin(query_id, request.session.user(), &request.sql);
        let guard = EndGuard::new(Arc::clone(&self.history), Arc::clone(&record));
        let is_sampled = self.is_sampled(&request.session.snapshot());
        let begin = Box::pin(self.admit(request, plan, &record));
        let begun = record.cancel.run_until_cancelled(begin);
        match begun.await.unwrap_or_else(|| Err(Error::cancelled("the query was cancelled"))) {
            Ok((Begun { kind, rows, scope }, admitted)) => {
                if is_sampled && kind == StatementKind::Rows {
                    let (request, record) = (Arc::clone(request), Arc::clone(&record));
                    let (snapshot, scope) = (request.session.snapshot(), Arc::clone(&scope));
                    self.check_later(Asked { request, snapshot, scope, record });
                }
                let kept = Kept::new(guard, &scope, admitted);
                let rows = results::deliver(rows, kept);
                let versions = scope.versions();
                Ok(Running { record, kind, schema: rows.schema(), rows, versions })
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

    /// Returns what a statement or a listing asks with: what it pins in a source, it pins once for all its tables.
    pub(crate) fn context<'a>(
        self: &'a Arc<Self>,
        session: &'a Arc<Session>,
        query_id: &str,
    ) -> QueryContext<'a> {
        let snapshot = session.snapshot();
        let generation = self.catalogs.generation();
        let mut settings = snapshot.query_settings(query_id, session.user(), generation);
        settings.rules_off = self.quarantine.rules_off();
        let kept = Arc::<Analyses>::clone(self.resolver.analyses());
        self.context_of(session, snapshot, QueryScope::with_statistics(settings, kept))
    }

    fn context_of<'a>(
        self: &'a Arc<Self>,
        session: &'a Arc<Session>,
        snapshot: Snapshot,
        scope: Arc<QueryScope>,
    ) -> QueryContext<'a> {
        let settings = scope.settings().clone();
        let config = self.config.clone().with_extension(Arc::clone(&scope));
        let mut config = config.with_batch_size(settings.batch_size);
        if let Some(partitions) = snapshot.target_partitions() {
            config = config.with_target_partitions(partitions);
        }
        config.options_mut().extensions.insert(settings);
        QueryContext { coordinator: self, session, snapshot, scope, config }
    }

    /// Begins a statement when its turn comes; a query that its source does not know any more once more.
    async fn admit(
        self: &Arc<Self>,
        request: &Arc<Request>,
        plan: Option<PreparedPlan>,
        record: &QueryRecord,
    ) -> Result<(Begun, Admitted)> {
        let admitted = self.admission.admit().await?;
        let first = self.begin(request, plan, record, Again::Once).await;
        let begun = match first {
            Err(error) if error.is_schema_changed() && again::only_reads(&request.sql) => {
                tracing::info!(query_id = record.id, %error, "query is planned again");
                let second = self.begin(request, None, record, Again::Never).await;
                second.map_err(|later| again::both(error, later))?
            }
            other => other?,
        };
        Ok((begun, admitted))
    }

    async fn begin(
        self: &Arc<Self>,
        request: &Arc<Request>,
        plan: Option<PreparedPlan>,
        record: &QueryRecord,
        again: Again,
    ) -> Result<Begun> {
        let (answer, snapshot, scope) = match plan {
            Some(PreparedPlan { planned, snapshot, scope, .. }) => {
                (Answer::Plan(planned, StatementKind::Rows), snapshot, scope)
            }
            None => {
                let Parsed { statement, versions } = parse(&request.sql)?;
                let context = self.context(&request.session, &record.id);
                let parameters = request.parameters.clone();
                let answer = context.answer(statement, &versions, parameters).await?;
                (answer, context.snapshot, context.scope)
            }
        };
        let (kind, rows) = match answer {
            Answer::Plan(planned, kind) => {
                let request = (again == Again::Once).then(|| Arc::clone(request));
                let rows = self.run(planned, &snapshot, &scope, kind, record, request).await?;
                (kind, if kind == StatementKind::Update { results::as_count(rows) } else { rows })
            }
            Answer::Batch(batch) => (StatementKind::Rows, one_batch(batch)?),
            Answer::Changed(rows) => {
                (StatementKind::Update, one_batch(results::count_batch(rows)?)?)
            }
        };
        Ok(Begun { kind, rows, scope })
    }
}

/// Runs what plans where queries compute: folding constants can take long, and connections must not wait for it.
async fn computed<T: Send + 'static>(work: BoxFuture<'static, Result<T>>) -> Result<T> {
    let done = environment::spawn_on(&environment::cpu_runtime(), "plan", work).await?;
    done.map_err(|error| Error { message: shown_text(&error.message), ..error })
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
            let schema = Arc::new(Schema::empty());
            Prepared { kind: StatementKind::Update, schema, parameters, plan: None }
        }
        // Whatever is no DML returns rows.
        _ => Prepared {
            kind: StatementKind::Rows,
            schema: results::shown(plan.schema().inner()),
            parameters,
            plan: None,
        },
    })
}

fn one_batch(batch: RecordBatch) -> Result<SendableRecordBatchStream> {
    let schema = batch.schema();
    Ok(Box::pin(MemoryStream::try_new(vec![batch], schema, None)?))
}
