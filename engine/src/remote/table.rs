//! The table that all row sources show to the planner.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::{Predicate, RemoteScan, RemoteScanExec};
use crate::Error;
use crate::connector::{Outcome, Pushdown, RowSource};
use crate::scope::QueryScope;
use crate::settings::QuerySettings;

/// A filter that stays with the engine, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The filter as the planner prints it.
    pub filter: String,
    /// The source's reason.
    pub reason: String,
}

/// A remote table in one query.
#[derive(Debug)]
pub struct RemoteTable {
    whole: RemoteScan,
    source: Arc<dyn RowSource>,
    scope: Arc<QueryScope>,
    schema: SchemaRef,
}

impl RemoteTable {
    /// Returns the table that `whole` describes (see [`RemoteScan::whole`]), read through `source`.
    pub fn new(whole: RemoteScan, source: Arc<dyn RowSource>, scope: Arc<QueryScope>) -> Self {
        let schema = whole.table_schema();
        Self { whole, source, scope, schema }
    }

    /// Returns the filters that the source would not take, each with its reason.
    pub fn refusals(&self, filters: &[&Expr]) -> Vec<Refusal> {
        let answers = self.offer(filters);
        let refusal = |(filter, answer): (&&Expr, Outcome)| match answer {
            Outcome::Exact | Outcome::Inexact => None,
            Outcome::Refused(reason) => Some(Refusal { filter: filter.to_string(), reason }),
        };
        filters.iter().zip(answers).filter_map(refusal).collect()
    }

    /// Offers the filters one by one; each sees what was agreed before it.
    fn offer(&self, filters: &[&Expr]) -> Vec<Outcome> {
        let mut agreed = self.whole.clone();
        let offer = |filter: &&Expr| {
            if !self.scope.settings().pushdown {
                return Outcome::Refused("pushdown is switched off in this session".to_owned());
            }
            let Some(predicate) = Predicate::from_expr(filter, &agreed.columns) else {
                return Outcome::Refused("the expression is not one that sources share".to_owned());
            };
            let answer = self.source.negotiate(&agreed, Pushdown::Filter(&predicate));
            if !matches!(answer, Outcome::Refused(_)) {
                agreed.filters.push(predicate);
            }
            answer
        };
        filters.iter().map(offer).collect()
    }

    fn agree(&self, projection: Option<&Vec<usize>>, filters: &[Expr]) -> RemoteScan {
        let mut scan = self.whole.clone();
        if let Some(projection) = projection {
            scan.projection.clone_from(projection);
        }
        for filter in filters {
            // Only accepted filters arrive here; one that no longer fits is checked by the engine anyway,
            // because the planner keeps every filter that was not answered with Exact.
            if let Some(predicate) = Predicate::from_expr(filter, &scan.columns) {
                scan.filters.push(predicate);
            }
        }
        scan
    }
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
        let mut scan = self.agree(projection, filters);
        if let Some(limit) = limit
            && settings.pushdown
            && !matches!(self.source.negotiate(&scan, Pushdown::Limit(limit)), Outcome::Refused(_))
        {
            scan.limit = Some(limit);
        }
        let (scan, splits) = self.source.splits(scan, &self.scope, &settings).await?;
        Ok(Arc::new(RemoteScanExec::new(scan, splits, Arc::clone(&self.source))))
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        _input: Arc<dyn ExecutionPlan>,
        _operation: InsertOp,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let name = self.whole.display_name();
        Err(Error::not_supported(format!("INSERT INTO {name}, which is only read")).into())
    }
}
