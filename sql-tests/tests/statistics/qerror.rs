//! How far an estimate is off: the q-error, by which factor it is too high or too low.

use anyhow::{Context, Result};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use meshwork_sql_tests::source::Source;

/// A condition, and its estimate and truth.
#[derive(Debug)]
pub(crate) struct Estimate {
    pub(crate) condition: String,
    pub(crate) estimated: usize,
    pub(crate) counted: i64,
    pub(crate) is_pushed: bool,
}

impl Estimate {
    /// Returns the q-error; no rows count as one.
    pub(crate) fn q_error(&self) -> f64 {
        let (estimated, counted) = (self.estimated.max(1) as f64, self.counted.max(1) as f64);
        (estimated / counted).max(counted / estimated)
    }
}

/// Returns how many rows the plan of a statement expects; `None` if it does not know.
pub(crate) async fn expected(
    source: &Source,
    schema: &str,
    table: &str,
    sql: &str,
) -> Result<Option<usize>> {
    let plan = source.plan(schema, table, sql).await?.create_physical_plan().await?;
    let said = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new())?;
    Ok(said.num_rows.get_value().copied())
}

/// Estimates each condition, and counts the rows that pass it.
pub(crate) async fn estimates(
    source: &Source,
    schema: &str,
    table: &str,
    conditions: &[&str],
) -> Result<Vec<Estimate>> {
    let mut all = Vec::new();
    for condition in conditions {
        let sql = format!("SELECT * FROM t WHERE {condition}");
        let estimated = expected(source, schema, table, &sql).await?;
        let is_pushed = !source.explain(schema, table, &sql).await?.contains("FilterExec");
        let count = format!("SELECT count(*) FROM t WHERE {condition}");
        let rows = source.rows(schema, table, &count).await?;
        let counted = rows[0].column(0).as_primitive::<Int64Type>().value(0);
        all.push(Estimate {
            condition: (*condition).to_owned(),
            estimated: estimated.with_context(|| format!("nothing is known of {condition}"))?,
            counted,
            is_pushed,
        });
    }
    Ok(all)
}

/// Prints the estimates and returns the greatest q-error.
#[expect(clippy::print_stdout, reason = "the figures are what the test is read for")]
pub(crate) fn worst(what: &str, estimates: &[Estimate]) -> f64 {
    println!("{what}");
    for estimate in estimates {
        let Estimate { condition, estimated, counted, .. } = estimate;
        println!("  {:>8.2}  {estimated:>8} of {counted:>8}  {condition}", estimate.q_error());
    }
    estimates.iter().map(Estimate::q_error).fold(1.0, f64::max)
}
