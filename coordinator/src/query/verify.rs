//! Checks queries of users: asked again with nothing moved into sources, they must have the same rows.
//!
//! ```text
//! query ─► rows to the client
//!      └─► (a sample, later) with pushdown ══ without?  ── no, twice ─► each rule switched off by itself: which one mends it?
//! ```
//! Both ways see one snapshot where the source has such a thing; elsewhere rows may change in between, so that only what
//! differs twice in the same way counts. A query whose answer is not determined is not checked: see [`is_determined`].

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, Volatility};
use futures::{StreamExt, future};
use meshwork_engine::remote::{RemoteScanExec, Rule, encoded_rules, rules_of, rules_of_keys};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::{Error, Result, environment};
use rand::Rng;

use super::context::Answer;
use super::{Coordinator, Request, StatementKind};
use crate::fragment;
use crate::history::QueryRecord;
use crate::parse::{Parsed, parse};
use crate::schedule::{self, RunOptions};
use crate::session::Snapshot;

/// Rules that are tried one by one.
const SUSPECTS_MAX: usize = 24;

/// A query to be asked again.
pub(super) struct Asked {
    pub(super) request: Arc<Request>,
    pub(super) snapshot: Snapshot,
    pub(super) scope: Arc<QueryScope>,
    pub(super) record: Arc<QueryRecord>,
}

/// How a query is asked.
struct Way {
    pushdown: bool,
    off: BTreeSet<Rule>,
}

/// What came of it.
struct Outcome {
    rows: Fingerprint,
    used: BTreeSet<Rule>,
}

impl Coordinator {
    /// Whether the session wants a query like this one checked, this time.
    pub(super) fn is_sampled(&self, snapshot: &Snapshot) -> bool {
        let share = snapshot.verify_pushdown();
        share > 0.0
            && snapshot.query_settings("", "", 0).pushdown
            && rand::rng().random::<f64>() < share
    }

    /// Checks a query, later and by itself, unless another one is being checked.
    pub(super) fn check_later(self: &Arc<Self>, asked: Asked) {
        let coordinator = Arc::clone(self);
        self.quarantine.check(move || {
            environment::spawn_on(&environment::cpu_runtime(), "verify pushdown", async move {
                let query_id = asked.record.id.clone();
                // The query itself may have failed, too; nobody waits for this.
                if let Err(error) = coordinator.check(&asked).await {
                    tracing::debug!(query_id, %error, "a query could not be checked");
                }
            })
        });
    }

    async fn check(self: &Arc<Self>, asked: &Asked) -> Result<()> {
        let off = self.quarantine.off();
        let pushed = || Way { pushdown: true, off: off.clone() };
        let plain = || Way { pushdown: false, off: BTreeSet::new() };
        let Some(with) = self.ask_again(asked, pushed()).await? else { return Ok(()) };
        if with.used.is_empty() {
            return Ok(());
        }
        let Some(without) = self.ask_again(asked, plain()).await? else { return Ok(()) };
        if with.rows == without.rows {
            self.quarantine.same(&with.used);
            return Ok(());
        }
        for (way, before) in [(pushed(), &with), (plain(), &without)] {
            let again = self.ask_again(asked, way).await?;
            if again.is_none_or(|again| again.rows != before.rows) {
                tracing::debug!(
                    query_id = asked.record.id,
                    "rows changed while a query was checked"
                );
                return Ok(());
            }
        }
        let mut to_blame = None;
        for rule in with.used.iter().take(SUSPECTS_MAX) {
            let mut way = pushed();
            way.off.insert(rule.clone());
            let mended = self.ask_again(asked, way).await?;
            if mended.is_some_and(|mended| mended.rows == without.rows) {
                to_blame = Some(rule.clone());
                break;
            }
        }
        self.quarantine.wrong(to_blame, &with.used, &asked.record);
        Ok(())
    }

    /// Runs the query to its end; `None` if it is none that can be checked.
    async fn ask_again(self: &Arc<Self>, asked: &Asked, way: Way) -> Result<Option<Outcome>> {
        let mut settings = asked.scope.settings().clone();
        settings.pushdown = way.pushdown;
        settings.rules_off = encoded_rules(&way.off);
        let scope = asked.scope.run_with(settings);
        let context = self.context_of(&asked.request.session, asked.snapshot.clone(), scope);
        let Parsed { statement, versions } = parse(&asked.request.sql)?;
        let answer = context.answer(statement, &versions, asked.request.parameters.clone()).await?;
        let Answer::Plan(planned, StatementKind::Rows) = answer else { return Ok(None) };
        if !is_determined(&planned.plan)? {
            return Ok(None);
        }
        let planned = self.reduced(planned, &asked.snapshot, &context.scope).await?;
        let made = self.fragment(&planned, &asked.snapshot).await?;
        let mut used = BTreeSet::new();
        for leaf in fragment::leaves(made.plan()) {
            if let Some(leaf) = leaf.downcast_ref::<RemoteScanExec>() {
                used.extend(rules_of_leaf(leaf));
            }
        }
        let deadline = Some(Duration::from_secs(asked.snapshot.query_timeout_s()));
        let options = RunOptions { deadline, cluster: None };
        let rows = schedule::run(made, options, |retry| {
            future::ready(Err::<schedule::Planned, _>(retry.cause))
        });
        Ok(Some(Outcome { rows: Fingerprint::of(rows).await?, used }))
    }
}

/// Keys that become known while it runs are conditions like others; which ones is not known before.
fn rules_of_leaf(leaf: &RemoteScanExec) -> BTreeSet<Rule> {
    let mut rules = rules_of(leaf.scan());
    if !leaf.dynamic_filters().is_empty() {
        rules.extend(rules_of_keys(leaf.scan()));
    }
    rules
}

/// Whether an answer is the same however it is computed: no row is left out that might as well be there, no function has
/// another value each time, nothing depends on the order of rows.
fn is_determined(plan: &LogicalPlan) -> Result<bool> {
    let mut determined = true;
    plan.apply_with_subqueries(|node| {
        // Nodes that are not named return what their inputs and expressions say.
        match node {
            LogicalPlan::Limit(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::RecursiveQuery(_)
            | LogicalPlan::Distinct(Distinct::On(_)) => determined = false,
            LogicalPlan::Sort(sort) if sort.fetch.is_some() => determined = false,
            LogicalPlan::Aggregate(aggregate) => {
                let schema = &aggregate.schema;
                let computed = schema.fields().iter().skip(aggregate.group_expr_len()?);
                determined &= computed.clone().all(|field| !field.data_type().is_floating());
                determined &= computed.clone().all(|field| !field.data_type().is_nested());
                determined &= aggregate.aggr_expr.iter().all(is_of_any_order);
            }
            LogicalPlan::TableScan(scan) => {
                let provider = source_as_provider(&scan.source);
                let view = provider.ok().and_then(|p| p.get_logical_plan().map(Cow::into_owned));
                if let Some(view) = view {
                    determined &= is_determined(&view)?;
                }
            }
            _ => {}
        }
        node.apply_expressions(|expr| {
            determined &= !has_many_values(expr)?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(if determined { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(determined)
}

fn is_of_any_order(expr: &Expr) -> bool {
    const OF_ANY_ORDER: [&str; 7] = ["count", "sum", "min", "max", "avg", "bool_and", "bool_or"];
    match expr {
        Expr::Alias(alias) => is_of_any_order(&alias.expr),
        Expr::AggregateFunction(call) => OF_ANY_ORDER.contains(&call.func.name()),
        // An aggregate is an aggregate function, or one with another name.
        _ => false,
    }
}

fn has_many_values(expr: &Expr) -> datafusion::common::Result<bool> {
    expr.exists(|part| {
        Ok(match part {
            Expr::ScalarFunction(call) => call.func.signature().volatility != Volatility::Immutable,
            // Whatever else there is has one value.
            _ => false,
        })
    })
}

/// A multiset of rows, nearly for sure: their number, and the sums of two hashes of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Fingerprint {
    n_rows: u64,
    sums: [u64; 2],
}

impl Fingerprint {
    async fn of(mut rows: SendableRecordBatchStream) -> Result<Self> {
        let schema = rows.schema();
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone()));
        let converter = RowConverter::new(fields.collect())
            .map_err(|e| Error::not_supported("a check of rows of these types").caused_by(&e))?;
        let mut all = Self::default();
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            all.n_rows += batch.num_rows() as u64;
            if batch.num_columns() == 0 {
                continue;
            }
            let encoded = converter
                .convert_columns(batch.columns())
                .map_err(|e| Error::internal("rows could not be encoded").caused_by(&e))?;
            for row in &encoded {
                for (place, sum) in (0_u8..).zip(&mut all.sums) {
                    let mut hasher = DefaultHasher::new();
                    (place, row.as_ref()).hash(&mut hasher);
                    *sum = sum.wrapping_add(hasher.finish());
                }
            }
        }
        Ok(all)
    }
}
