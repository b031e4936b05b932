//! What a logical plan becomes: small sides run first, the rest is ordered, planned for the workers that live, and started.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use meshwork_engine::Result;
use meshwork_engine::remote::reading_once;
use meshwork_engine::scope::QueryScope;
use meshwork_engine::settings::{JOIN_KEYS_MAX_FOR_ROW_SOURCES, QuerySettings, set_for_all_nodes};

use super::{Coordinator, Request, StatementKind, again};
use crate::history::QueryRecord;
use crate::plan::Planned;
use crate::schedule::{self, Retry, RunOptions};
use crate::session::Snapshot;
use crate::{fragment, order, pushdown, reduce, results, rollups};

impl Coordinator {
    /// Starts a plan; it is made again when a worker is lost before the first row has left, and from `request` on when
    /// a source is not what it was. A change is never run twice.
    pub(super) async fn run(
        self: &Arc<Self>,
        planned: Arc<Planned>,
        snapshot: &Snapshot,
        scope: &Arc<QueryScope>,
        kind: StatementKind,
        record: &QueryRecord,
        request: Option<Arc<Request>>,
    ) -> Result<SendableRecordBatchStream> {
        let planned = self.reduced(planned, snapshot, scope).await?;
        let first = self.fragment(&planned, snapshot).await?;
        let (n_stages, n_tasks) = fragment::extent(first.plan());
        record.running(n_stages, n_tasks);
        let options = RunOptions {
            deadline: Some(Duration::from_secs(snapshot.query_timeout_s())),
            cluster: self.cluster.clone(),
        };
        let (coordinator, snapshot) = (Arc::clone(self), snapshot.clone());
        let scope = Arc::clone(scope);
        let (query_id, columns) = (record.id.clone(), first.plan().schema());
        let replan = move |retry: Retry| match (kind, &request) {
            (StatementKind::Update, _) => future::ready(Err(retry.cause)).boxed(),
            (StatementKind::Rows, _) if !again::may_help(&retry.cause) => {
                coordinator.fragment(&planned, &snapshot)
            }
            (StatementKind::Rows, None) => future::ready(Err(retry.cause)).boxed(),
            (StatementKind::Rows, Some(request)) => {
                let (coordinator, request) = (Arc::clone(&coordinator), Arc::clone(request));
                let (query_id, columns) = (query_id.clone(), Arc::clone(&columns));
                // The new plan pins anew, and may have to wait for what this one holds.
                scope.let_go();
                let again = async move {
                    coordinator.planned_again(&request, &query_id, &columns, retry.cause).await
                };
                again.boxed()
            }
        };
        let plan = Arc::clone(first.plan());
        let rows = schedule::run(first, options, replan);
        Ok(self.counting.of(rows, &plan, &self.resolver.analyses().counted))
    }

    /// Runs first what a source below is to know: see [`reduce`].
    pub(super) async fn reduced(
        self: &Arc<Self>,
        planned: Arc<Planned>,
        snapshot: &Snapshot,
        scope: &Arc<QueryScope>,
    ) -> Result<Arc<Planned>> {
        if !scope.settings().pushdown {
            return Ok(planned);
        }
        let run = |plan: LogicalPlan| {
            let (coordinator, snapshot) = (Arc::clone(self), snapshot.clone());
            let planned = Arc::new(Planned { plan, state: planned.state.clone() });
            let value = async move {
                let made = coordinator.fragment(&planned, &snapshot).await?;
                let deadline = Some(Duration::from_secs(snapshot.query_timeout_s()));
                let options = RunOptions { deadline, cluster: None };
                let rows = schedule::run(made, options, |retry| {
                    future::ready(Err::<schedule::Planned, _>(retry.cause))
                });
                results::only_value(rows).await
            };
            value.boxed()
        };
        Ok(match reduce::reduced(&planned.plan, &run).await? {
            None => planned,
            Some(plan) => Arc::new(Planned { plan, state: planned.state.clone() }),
        })
    }

    /// Makes the physical plan for the workers that live now.
    pub(super) fn fragment(
        &self,
        planned: &Arc<Planned>,
        snapshot: &Snapshot,
    ) -> BoxFuture<'static, Result<schedule::Planned>> {
        let distribution =
            self.distribution.clone().with_tasks_max(snapshot.tasks_max().unwrap_or(0));
        let planned = Arc::clone(planned);
        Box::pin(async move {
            let Planned { plan, state } = planned.as_ref();
            let mut settings = QuerySettings::of(state.config());
            let mut state = Cow::Borrowed(state);
            if pushdown::reads_row_source(plan)? {
                settings.join_keys_max = JOIN_KEYS_MAX_FOR_ROW_SOURCES;
                set_for_all_nodes(state.to_mut().config_mut().options_mut(), &settings);
            }
            if distribution.keeps(plan)? {
                let plan = optimized(plan, &state).await?;
                let plan =
                    state.query_planner().create_physical_plan(&plan, state.as_ref()).await?;
                return schedule::Planned::new(reading_once(plan)?, context_to_run(&state));
            }
            let builder = SessionStateBuilder::new_from_existing(state.into_owned());
            let state = distribution.configure(builder, &settings)?.build();
            let plan = optimized(plan, &state).await?;
            let plan = state.query_planner().create_physical_plan(&plan, &state).await?;
            schedule::Planned::new(plan, state.task_ctx())
        })
    }
}

/// Returns the optimized plan, with rollups where they answer, and the joins of row sources in the order that costs least.
pub(super) async fn optimized(plan: &LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
    let plan = state.optimize(plan)?;
    if !QuerySettings::of(state.config()).pushdown {
        return Ok(plan);
    }
    let plan = rollups::read_where_cheaper(plan, state)?;
    match pushdown::reads_row_source(&plan)? {
        true => Ok(order::ordered(reduce::joined_by_group_keys(plan)?, state).await?),
        false => Ok(plan),
    }
}

/// Returns what a plan of this process runs with. It names no functions, as such a plan holds its own.
fn context_to_run(state: &SessionState) -> Arc<TaskContext> {
    let (id, config) = (state.session_id().to_owned(), state.config().clone());
    Arc::new(TaskContext::new(
        None,
        id,
        config,
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        Arc::clone(state.runtime_env()),
    ))
}
