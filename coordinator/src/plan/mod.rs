//! Statement to optimized logical plan: the only place that makes a DataFusion session state.
//!
//! Each query gets a state of its own that knows only the tables that were resolved for it; nothing is shared
//! between users but the functions and the object stores.

mod inserts;
mod keys;
mod multisets;
mod subqueries;
mod types;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::datasource::ViewTable;
use datafusion::execution::config::SessionConfig;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as DataFusionStatement;
use futures::future::BoxFuture;
use meshwork_engine::scope::QueryScope;
use meshwork_engine::settings::{QuerySettings, set_for_all_nodes};
use meshwork_engine::{Error, Result};

use crate::parse::{Statement, TableVersions, parse};
use crate::resolve::{
    Found, FoundTables, PLANNER_CATALOG, PLANNER_SCHEMA, Resolver, TableName, View, as_catalogs,
};
use crate::session::Snapshot;

pub(crate) use self::types::optimizer_rules;

/// How deep views may stand on views.
const VIEW_DEPTH_MAX: usize = 16;

/// Gives each query the state that it starts from: functions, rules, the runtime.
///
/// Behind a `dyn`, because the compiler otherwise proves for every method of every door that DataFusion's state
/// can move between threads, which takes minutes.
pub(crate) type Base = Box<dyn Fn() -> SessionState + Send + Sync>;

/// Returns the configuration that every state of this coordinator starts from.
pub(crate) fn base_config() -> SessionConfig {
    let mut config = SessionConfig::new().with_information_schema(false);
    let options = config.options_mut();
    // As in Trino: NULLs come last whichever way a column is ordered, unless the statement says otherwise.
    options.sql_parser.default_null_ordering = "nulls_last".to_owned();
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.collect_spans = true;
    options.sql_parser.parse_float_as_decimal = true;
    set_for_all_nodes(options, &QuerySettings::default());
    options.catalog.create_default_catalog_and_schema = false;
    // In DataFusion 55.2 the greatest value so far skips files that another aggregate of the query still needs.
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    // Its table for the first groups of an order does not find a NaN again that it has, and fails.
    options.optimizer.enable_topk_aggregation = false;
    config
}

/// Plans the statements of one query.
pub(crate) struct Planner<'a> {
    pub(crate) resolver: &'a Resolver,
    pub(crate) scope: &'a Arc<QueryScope>,
    pub(crate) session: &'a Snapshot,
    /// Makes a state of functions, rules and the runtime; the tables are put into it here.
    pub(crate) base: &'a Base,
    /// The settings of the query.
    pub(crate) config: &'a SessionConfig,
}

/// A plan together with the state that made it: only that state can go on with it.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) plan: LogicalPlan,
    pub(crate) state: SessionState,
}

impl Planner<'_> {
    /// Resolves and plans a statement; optimizes nothing yet.
    pub(crate) async fn plan(
        &self,
        statement: &DataFusionStatement,
        versions: &TableVersions,
    ) -> Result<Planned> {
        self.plan_at(statement, versions, self.session, 0).await
    }

    /// Returns the plan of a definition, whose only name is of a table that is not there yet.
    pub(crate) async fn plan_definition(
        &self,
        statement: &DataFusionStatement,
    ) -> Result<LogicalPlan> {
        let state = self.state(self.session, BTreeMap::new())?;
        Ok(state.statement_to_plan(statement.clone()).await?)
    }

    async fn plan_at(
        &self,
        statement: &DataFusionStatement,
        versions: &TableVersions,
        session: &Snapshot,
        depth: usize,
    ) -> Result<Planned> {
        let found = self.resolver.resolve(statement, versions, session, self.scope).await?;
        let tables = self.plan_views(found, depth).await?;
        let state = self.state(session, tables)?;
        let plan = inserts::with_nulls(state.statement_to_plan(statement.clone()).await?)?;
        let plan = subqueries::three_valued(multisets::counted(plan)?)?;
        Ok(Planned { plan, state })
    }

    fn plan_views(
        &self,
        found: FoundTables,
        depth: usize,
    ) -> BoxFuture<'_, Result<BTreeMap<TableName, Arc<dyn TableProvider>>>> {
        Box::pin(async move {
            let mut tables = BTreeMap::new();
            for (name, found) in found {
                let table = match found {
                    Found::Table(table) => table,
                    Found::View(view) => self.plan_view(&view, depth + 1).await?,
                };
                tables.insert(name, table);
            }
            Ok(tables)
        })
    }

    /// Plans a view's query with the names as they were when it was defined.
    pub(crate) async fn plan_view(
        &self,
        view: &View,
        depth: usize,
    ) -> Result<Arc<dyn TableProvider>> {
        let shown = format!("{}.{}.{}", view.catalog, view.schema, view.name);
        if depth > VIEW_DEPTH_MAX {
            let message = format!("view \"{shown}\" stands on more than {VIEW_DEPTH_MAX} views");
            return Err(Error::user("VIEW_TOO_DEEP", message));
        }
        let session = view.session(self.session);
        let parsed = parse(&view.sql)?;
        let Statement::Plan(statement) = parsed.statement else {
            return Err(Error::internal(format!("view \"{shown}\" is not a query")));
        };
        // A position inside the view's text would point into the user's statement.
        let planned =
            self.plan_at(&statement, &parsed.versions, &session, depth).await.map_err(|e| {
                Error { location: None, message: format!("view \"{shown}\": {}", e.message), ..e }
            })?;
        Ok(Arc::new(ViewTable::new(planned.plan, Some(view.sql.clone()))))
    }

    fn state(
        &self,
        session: &Snapshot,
        tables: BTreeMap<TableName, Arc<dyn TableProvider>>,
    ) -> Result<SessionState> {
        let mut state = (self.base)();
        *state.config_mut() = self.config.clone();
        let options = state.config_mut().options_mut();
        let name = |given: &Option<String>, default: &str| {
            given.clone().unwrap_or_else(|| default.to_owned())
        };
        options.catalog.default_catalog = name(&session.catalog, PLANNER_CATALOG);
        options.catalog.default_schema = name(&session.schema, PLANNER_SCHEMA);
        state.register_catalog_list(as_catalogs(tables)?);
        // The one moment that all of now() and current_date in this query mean.
        state.mark_start_execution();
        Ok(state)
    }
}
