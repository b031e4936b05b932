//! Wrong rules, planted to show that they are found.
//!
//! A referee that finds nothing may be blind. Each fault is one mistake that engines have made: the tests ask that it is
//! found within a bounded number of cases and shrunk to a small example.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use meshwork::connectors;
use meshwork_engine::catalog::{CatalogDefinition, Properties};
use meshwork_engine::connector::{
    Connector, Outcome, Pushdown, ReadVersion, RowSource, Split, TableEntry,
};
use meshwork_engine::remote::{RemoteScan, RemoteTable};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::{Error, Result};

use super::query::{JoinKind, Query};

/// The kind of a catalog whose source says more than it can hold.
pub(super) const OVERCONFIDENT: &str = "overconfident";
/// The property that names the kind of the source that it is made of.
const OF: &str = "overconfident.of";

/// A wrong rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A source says `Exact` where it would say `Inexact`: it compares text without case, say, and nobody looks again.
    InexactAsExact,
    /// The planner moves a condition on the far side of an outer join from WHERE into ON.
    WhereIntoOn,
}

impl Fault {
    /// Returns the definition of a catalog whose source makes this mistake.
    pub(super) fn in_catalog(self, definition: CatalogDefinition) -> CatalogDefinition {
        match self {
            Self::WhereIntoOn => definition,
            // Files are no row source: nobody asks them.
            Self::InexactAsExact if definition.kind == "lake" => definition,
            Self::InexactAsExact => {
                let CatalogDefinition { name, kind, mut properties } = definition;
                properties.insert(OF.to_owned(), kind);
                CatalogDefinition { name, kind: OVERCONFIDENT.to_owned(), properties }
            }
        }
    }

    /// Returns the query that is run in place of this one when pushdown is on.
    pub(super) fn in_query(self, query: &Query) -> Query {
        let mut wrong = query.clone();
        if self == Self::WhereIntoOn {
            for select in &mut wrong.selects {
                let Some(join) = select.joins.iter_mut().find(|join| join.kind == JoinKind::Left)
                else {
                    continue;
                };
                let alias = join.table.alias.clone();
                let is_far = |filter: &super::query::Expr| filter.aliases() == [alias.clone()];
                let (moved, kept) =
                    std::mem::take(&mut select.filters).into_iter().partition(is_far);
                select.filters = kept;
                join.on.extend::<Vec<_>>(moved);
            }
        }
        wrong
    }
}

/// Returns the connector of an overconfident source.
pub(super) fn make(mut properties: Properties) -> Result<Arc<dyn Connector>> {
    let name = properties.catalog().to_owned();
    let kind = properties.required(OF)?;
    let properties: BTreeMap<String, String> = properties.starting_with("");
    let definition = CatalogDefinition { name, kind: kind.clone(), properties };
    let connector = connectors::make(&kind, definition.resolve()?)?;
    let source = connector
        .row_source()
        .ok_or_else(|| Error::not_supported("an overconfident source that reads files"))?;
    Ok(Arc::new(Overconfident { connector, source: Arc::new(Believer { source }) }))
}

/// A catalog like another, but for its source.
#[derive(Debug)]
struct Overconfident {
    connector: Arc<dyn Connector>,
    source: Arc<Believer>,
}

#[async_trait]
impl Connector for Overconfident {
    fn kind(&self) -> &'static str {
        OVERCONFIDENT
    }

    async fn schema_names(&self) -> Result<Vec<String>> {
        self.connector.schema_names().await
    }

    async fn tables(&self, schema: &str) -> Result<Vec<TableEntry>> {
        self.connector.tables(schema).await
    }

    async fn table(
        &self,
        schema: &str,
        table: &str,
        version: ReadVersion,
        scope: &Arc<QueryScope>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        let found = self.connector.table(schema, table, version, scope).await?;
        let remote = |table: Arc<dyn TableProvider>| -> Arc<dyn TableProvider> {
            let Some(remote) = (table.as_ref() as &dyn Any).downcast_ref::<RemoteTable>() else {
                return table;
            };
            let source = Arc::clone(&self.source) as Arc<dyn RowSource>;
            Arc::new(RemoteTable::new(remote.whole().clone(), source, Arc::clone(scope)))
        };
        Ok(found.map(remote))
    }

    fn row_source(&self) -> Option<Arc<dyn RowSource>> {
        Some(Arc::clone(&self.source) as Arc<dyn RowSource>)
    }
}

/// A source that takes its supersets for the right rows.
#[derive(Debug)]
struct Believer {
    source: Arc<dyn RowSource>,
}

#[async_trait]
impl RowSource for Believer {
    fn negotiate(&self, scan: &RemoteScan, offer: Pushdown<'_>) -> Outcome {
        match self.source.negotiate(scan, offer) {
            Outcome::Inexact => Outcome::Exact,
            answer @ (Outcome::Exact | Outcome::Refused(_)) => answer,
        }
    }

    async fn splits(
        &self,
        scan: RemoteScan,
        scope: &Arc<QueryScope>,
        settings: &QuerySettings,
    ) -> Result<(RemoteScan, Vec<Split>)> {
        self.source.splits(scan, scope, settings).await
    }

    fn open(
        &self,
        scan: &RemoteScan,
        split: &Split,
        settings: &QuerySettings,
    ) -> Result<SendableRecordBatchStream> {
        self.source.open(scan, split, settings)
    }

    fn describe(&self, scan: &RemoteScan, split: &Split) -> String {
        self.source.describe(scan, split)
    }
}
