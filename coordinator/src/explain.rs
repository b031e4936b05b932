//! A plan as text: what is computed where, what was moved into sources, and why the rest was not.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::array::StringArray;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Filter, LogicalPlan, LogicalPlanBuilder, TableScan};
use datafusion::physical_plan::ExecutionPlan;
use meshwork_engine::remote::{Refusal, RemoteScanExec, RemoteTable};
use meshwork_engine::versioned::{Reads, VersionedTable};
use meshwork_engine::{Error, Result, functions};

use crate::fragment;
use crate::parse::{ExplainMode, shown_text};

/// Deltas of a scan that EXPLAIN names.
const DELTAS_SHOWN: usize = 20;

/// The columns of every EXPLAIN: which plan, and its text.
pub(crate) fn schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, false);
    Arc::new(Schema::new(vec![text("plan_type"), text("plan")]))
}

/// Returns the plans that the mode asks for; `steps` come before them.
pub(crate) fn explained(
    mode: ExplainMode,
    steps: Vec<(String, String)>,
    optimized: &LogicalPlan,
    physical: &Arc<dyn ExecutionPlan>,
    state: &SessionState,
) -> Result<RecordBatch> {
    // Overflow checks are functions of ours; people read the operators that they wrote.
    let optimized = functions::with_plain_operators(optimized.clone())?;
    let logical = || ("logical_plan", optimized.display_indent().to_string());
    let distributed = || ("distributed_plan", stages_text(physical));
    let plans = match mode {
        ExplainMode::Logical => vec![logical()],
        ExplainMode::Distributed => vec![distributed()],
        ExplainMode::Full | ExplainMode::Verbose | ExplainMode::Analyze => vec![
            logical(),
            distributed(),
            ("versions", versions(&optimized, state)?),
            ("pushed", pushed(physical)),
            ("not_pushed", not_pushed(&optimized, physical)?),
        ],
    };
    let plans = plans.into_iter().map(|(kind, text)| (kind.to_owned(), text));
    batch(steps.into_iter().chain(plans))
}

/// Returns the plan as it came from the text, and after each rule that changed it.
pub(crate) fn steps(plan: &LogicalPlan, state: &SessionState) -> Result<Vec<(String, String)>> {
    let explain = LogicalPlanBuilder::from(plan.clone()).explain(true, false)?.build()?;
    let LogicalPlan::Explain(explained) = state.optimize(&explain)? else {
        return Err(Error::internal("the plan of an EXPLAIN became another one"));
    };
    let mut steps: Vec<(String, String)> = Vec::new();
    for step in explained.stringified_plans {
        if steps.last().is_none_or(|(_, before)| *before != *step.plan) {
            steps.push((step.plan_type.to_string(), step.plan.to_string()));
        }
    }
    Ok(steps)
}

/// Returns the plan with what each operator did, on all nodes.
pub(crate) async fn analyzed(physical: Arc<dyn ExecutionPlan>, rows: u64) -> Result<RecordBatch> {
    let pushed = pushed(&physical);
    let text = fragment::analyzed(physical).await?;
    let rows = [("analyzed_plan", text), ("rows", rows.to_string()), ("pushed", pushed)];
    batch(rows.map(|(kind, text)| (kind.to_owned(), text)))
}

fn batch(rows: impl IntoIterator<Item = (String, String)>) -> Result<RecordBatch> {
    let rows: Vec<_> = rows.into_iter().filter(|(_, text)| !text.is_empty()).collect();
    let kinds = StringArray::from_iter_values(rows.iter().map(|(kind, _)| kind));
    let texts =
        StringArray::from_iter_values(rows.iter().map(|(_, text)| shown_text(text.trim_end())));
    Ok(RecordBatch::try_new(schema(), vec![Arc::new(kinds), Arc::new(texts)])?)
}

fn stages_text(physical: &Arc<dyn ExecutionPlan>) -> String {
    let stage = |stage: fragment::Stage| {
        let fragment::Stage { id, n_tasks, n_partitions, text, .. } = stage;
        format!("stage {id}: tasks={n_tasks}, partitions={n_partitions}\n{text}")
    };
    fragment::stages(physical).into_iter().map(stage).collect()
}

/// Returns, for each scan of a versioned table, what it reads.
fn versions(plan: &LogicalPlan, state: &SessionState) -> Result<String> {
    let mut text = String::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
            && let Some(table) = VersionedTable::of(provider.as_ref())
        {
            let reads = table.reads(&scan.filters, state)?;
            text.push_str(&format!("{}: {}\n", scan.table_name, shown(&reads)));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(text)
}

fn shown(reads: &Reads) -> String {
    let rollup = reads.rollup.as_ref().map(|name| format!("rollup \"{name}\", "));
    let (deltas, n_pruned) = (&reads.deltas, reads.n_deltas - reads.deltas.len());
    let shown: Vec<String> =
        deltas.iter().take(DELTAS_SHOWN).map(|(lo, hi)| format!("[{lo},{hi}]")).collect();
    let more = if deltas.len() > DELTAS_SHOWN { " ..." } else { "" };
    let ((files, all_files), (rows, all_rows)) = (reads.files, reads.rows);
    format!(
        "{}version {}, deltas={} pruned={n_pruned} {}{more}, files={files} of {all_files}, rows={rows} of {all_rows}",
        rollup.unwrap_or_default(),
        reads.version,
        reads.n_deltas,
        shown.join(" "),
    )
}

/// Returns, for each scan of a row source, the request that its first split becomes.
fn pushed(physical: &Arc<dyn ExecutionPlan>) -> String {
    let mut text = String::new();
    for leaf in fragment::leaves(physical) {
        let Some(leaf) = leaf.downcast_ref::<RemoteScanExec>() else { continue };
        let n_splits = leaf.splits().count();
        let first = leaf.splits().next();
        let request =
            first.map_or_else(String::new, |split| leaf.source().describe(leaf.scan(), split));
        let (name, snapshot) = (leaf.scan().display_name(), leaf.source().snapshot());
        text.push_str(&format!("{name} [splits={n_splits}, snapshot={snapshot}]: {request}\n"));
    }
    text
}

/// Returns, for each piece of work that stands right above a scan of a row source, why the source did not take it.
fn not_pushed(plan: &LogicalPlan, physical: &Arc<dyn ExecutionPlan>) -> Result<String> {
    let mut text = String::new();
    let mut add = |table: &str, refusal: &Refusal| {
        text.push_str(&format!("{table}: {}: {}\n", refusal.work, refusal.reason));
    };
    for leaf in fragment::leaves(physical) {
        let Some(leaf) = leaf.downcast_ref::<RemoteScanExec>() else { continue };
        leaf.refusals().iter().for_each(|refusal| add(&leaf.scan().display_name(), refusal));
    }
    plan.apply(|node| {
        if let LogicalPlan::Filter(Filter { predicate, input, .. }) = node
            && let LogicalPlan::TableScan(TableScan { source, table_name, .. }) = input.as_ref()
            && let Ok(provider) = source_as_provider(source)
            && let Some(table) = (provider.as_ref() as &dyn Any).downcast_ref::<RemoteTable>()
        {
            for refusal in table.refusals(&split_conjunction(predicate)) {
                add(&table_name.to_string(), &refusal);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(text)
}
