//! The table that all row sources show to the planner.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result as DataFusionResult, SchemaExt};
use datafusion::datasource::sink::DataSinkExec;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExecBuilder;

use super::write::{self, RemoteSink};
use super::{
    Change, ChangeKind, Predicate, Reason, ReasonCode, Refusal, RemoteScan, RemoteScanExec, rules,
    statistics,
};
use crate::Error;
use crate::connector::{Outcome, Pushdown, RowSource};
use crate::scope::QueryScope;
use crate::settings::QuerySettings;
use crate::statistics::TableStatistics;

/// A remote table in one query.
#[derive(Debug)]
pub struct RemoteTable {
    whole: RemoteScan,
    source: Arc<dyn RowSource>,
    scope: Arc<QueryScope>,
    schema: SchemaRef,
    /// What stands for a column that an `INSERT` does not name.
    omitted: BTreeMap<String, Expr>,
    /// Whether rows make the table.
    is_to_be: bool,
}

impl RemoteTable {
    /// Returns the table that `whole` describes (see [`RemoteScan::whole`]), read through `source`.
    pub fn new(whole: RemoteScan, source: Arc<dyn RowSource>, scope: Arc<QueryScope>) -> Self {
        let source = rules::guarded(source, scope.settings());
        let schema = whole.table_schema();
        let omitted = write::omitted_values(&whole.columns);
        Self { whole, source, scope, schema, omitted, is_to_be: false }
    }

    /// Returns a table that is not there yet: the rows that are inserted make it, in one step.
    pub fn to_be(whole: RemoteScan, source: Arc<dyn RowSource>, scope: Arc<QueryScope>) -> Self {
        Self { is_to_be: true, ..Self::new(whole, source, scope) }
    }

    /// Returns the scan of all columns and rows.
    pub fn whole(&self) -> &RemoteScan {
        &self.whole
    }

    /// Returns what is known of the whole table's values; asked once per query, never an error.
    pub async fn statistics(&self) -> Arc<TableStatistics> {
        statistics::of_table(&self.whole, &self.source, &self.scope).await
    }

    /// Returns the filters that the source would not take, each with its reason.
    pub fn refusals(&self, filters: &[&Expr]) -> Vec<Refusal> {
        let answers = self.offer(filters);
        let refusal = |(filter, answer): (&&Expr, Outcome)| match answer {
            Outcome::Exact | Outcome::Inexact => None,
            Outcome::Refused(reason) => Some(Refusal { work: filter.to_string(), reason }),
        };
        filters.iter().zip(answers).filter_map(refusal).collect()
    }

    /// Offers the filters one by one; each sees what was agreed before it.
    fn offer(&self, filters: &[&Expr]) -> Vec<Outcome> {
        let mut agreed = self.whole.clone();
        filters.iter().map(|filter| self.offer_one(&mut agreed, filter)).collect()
    }

    /// Offers one more filter; `agreed` grows by it if the source takes it.
    fn offer_one(&self, agreed: &mut RemoteScan, filter: &Expr) -> Outcome {
        if !self.scope.settings().pushdown {
            return Outcome::Refused(switched_off());
        }
        let predicate = match Predicate::from_expr(filter, &agreed.columns) {
            Ok(predicate) => predicate,
            Err(reason) => return Outcome::Refused(reason),
        };
        let answer = self.source.negotiate(agreed, Pushdown::Filter(&predicate));
        if !matches!(answer, Outcome::Refused(_)) {
            agreed.filters.push(predicate);
        }
        answer
    }

    /// Returns the change of the rows that pass all filters: of the columns in `values`, or their deletion if there are none.
    /// A change is made by the source alone or not at all, so whatever it does not do exactly refuses the whole.
    ///
    /// # Errors
    /// The first piece of work that the source does not do, and why.
    pub fn change(
        &self,
        filters: &[Expr],
        values: Option<&[(String, Expr)]>,
    ) -> Result<Change, Refusal> {
        let mut table = self.whole.clone();
        for filter in filters {
            let reason = match self.offer_one(&mut table, filter) {
                Outcome::Exact => continue,
                Outcome::Inexact => {
                    let message = "the source would find more rows than the condition does";
                    Reason::new(ReasonCode::Superset, message)
                }
                Outcome::Refused(reason) => reason,
            };
            return Err(Refusal { work: filter.to_string(), reason });
        }
        let kind = match values {
            None => ChangeKind::Delete,
            Some(values) => ChangeKind::Update(write::assignments(values, &table.columns)?),
        };
        Ok(Change { table, kind })
    }

    /// Carries a change out; returns how many rows the source found.
    ///
    /// # Errors
    /// `User` when the table is only read, or does not take the values; `Source` when it cannot be asked.
    pub async fn carry_out(&self, change: &Change) -> crate::Result<u64> {
        let writer = self.source.writer(&self.whole)?;
        writer.change(change, self.scope.settings()).await
    }

    /// Asks nothing of the source.
    ///
    /// # Errors
    /// `User` when the table is only read.
    pub fn refuse_if_read_only(&self) -> crate::Result<()> {
        self.source.writer(&self.whole).map(|_writer| ())
    }

    /// Returns the scan with the filters that the source takes together, and the filters left to check.
    ///
    /// The planner gathers `filters` over several passes, and each pass was answered as if there were no
    /// other: a source may have said of two filters that it does them, and cannot do both.
    fn agree(&self, filters: &[Expr]) -> (RemoteScan, Vec<Expr>) {
        let mut scan = self.whole.clone();
        let mut left = Vec::new();
        for filter in filters {
            let is_settled = match self.offer_one(&mut scan, filter) {
                Outcome::Exact => true,
                // The planner checks it again, unless the answer was another one before.
                Outcome::Inexact => self.offer(&[filter]) != [Outcome::Exact],
                Outcome::Refused(_) => false,
            };
            if !is_settled {
                left.push(filter.clone());
            }
        }
        (scan, left)
    }
}

/// Why nothing is offered while the session says so.
fn switched_off() -> Reason {
    Reason::new(ReasonCode::SwitchedOff, "pushdown is switched off in this session")
}

/// Adds the columns that `filters` need behind those that are returned anyway.
fn add_columns(scan: &mut RemoteScan, filters: &[Expr]) {
    for (index, column) in scan.columns.iter().enumerate() {
        let needs = |filter: &Expr| filter.column_refs().iter().any(|c| c.name == column.name);
        if !scan.projection.contains(&index) && filters.iter().any(needs) {
            scan.projection.push(index);
        }
    }
}

/// Puts the check of `filters` above a leaf, of which the first `n_columns` columns are returned.
fn checked(
    leaf: RemoteScanExec,
    filters: Vec<Expr>,
    n_columns: usize,
    state: &dyn Session,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let leaf: Arc<dyn ExecutionPlan> = Arc::new(leaf);
    let Some(predicate) = conjunction(filters) else { return Ok(leaf) };
    let schema = DFSchema::try_from(leaf.schema())?;
    let predicate = state.create_physical_expr(predicate, &schema)?;
    let is_narrower = n_columns < leaf.schema().fields().len();
    let filter = FilterExecBuilder::new(predicate, leaf)
        .apply_projection(is_narrower.then(|| (0..n_columns).collect()))?
        .with_batch_size(state.config().batch_size())
        .build()?;
    Ok(Arc::new(filter))
}

#[async_trait]
impl TableProvider for RemoteTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let answer = |outcome| match outcome {
            Outcome::Exact => TableProviderFilterPushDown::Exact,
            Outcome::Inexact => TableProviderFilterPushDown::Inexact,
            Outcome::Refused(_) => TableProviderFilterPushDown::Unsupported,
        };
        Ok(self.offer(filters).into_iter().map(answer).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let settings = QuerySettings::of(state.config());
        let (mut scan, left) = self.agree(filters);
        if let Some(projection) = projection {
            scan.projection.clone_from(projection);
        }
        let n_columns = scan.projection.len();
        add_columns(&mut scan, &left);
        // A limit counts rows that pass all filters, so the source may stop only if none is left.
        if let Some(limit) = limit
            && settings.pushdown
            && left.is_empty()
            && !matches!(self.source.negotiate(&scan, Pushdown::Limit(limit)), Outcome::Refused(_))
        {
            scan.limit = Some(limit);
        }
        let (cut, known) =
            futures::join!(self.source.splits(scan, &self.scope, &settings), self.statistics());
        let (scan, splits) = cut?;
        let leaf = RemoteScanExec::new(scan, splits, Arc::clone(&self.source)).expecting(&known);
        checked(leaf, left, n_columns, state)
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.omitted.get(column)
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        operation: InsertOp,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let InsertOp::Append = operation else {
            let what = format!("{operation} {}", self.whole.display_name());
            return Err(Error::not_supported(what).into());
        };
        let writer = self.source.writer(&self.whole)?;
        self.schema.logically_equivalent_names_and_types(&input.schema())?;
        let (table, settings) = (self.whole.clone(), self.scope.settings().clone());
        let sink = RemoteSink::new(table, self.is_to_be, &input.schema(), writer, settings)?;
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), None)))
    }
}
