//! The TPC-H tables at any scale, generated while they are read.
//!
//! A schema is a scale factor: `tiny` (0.01), `sf0.01`, `sf0.1`, `sf1`, and any other `sf<number>` when it
//! is named. Nothing is stored and nothing is cached; a split is one part of the generator, which yields
//! the same rows on every node.

pub mod generate;
mod source;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::FieldRef;
use datafusion::catalog::TableProvider;
use meshwork_engine::Result;
use meshwork_engine::catalog::Properties;
use meshwork_engine::connector::{Connector, ReadVersion, RowSource, TableEntry, TableKind};
use meshwork_engine::remote::{RemoteColumn, RemoteScan, RemoteTable};
use meshwork_engine::scope::QueryScope;
use serde_json::Value;

use self::generate::Table;
use self::source::TpchSource;

/// The schemas that listings show; others exist when they are named.
const SCHEMAS_SHOWN: [&str; 4] = ["sf0.01", "sf0.1", "sf1", "tiny"];

/// Below this scale factor some tables of the generator would have no rows to refer to.
const SCALE_MIN: f64 = 0.001;

/// Above this scale factor the generator's keys have not been proven right.
const SCALE_MAX: f64 = 10_000.0;

/// Returns the connector of a catalog of kind `tpch`; it has no properties.
///
/// # Errors
/// `User` when there is a property.
pub(crate) fn make(properties: Properties) -> Result<Arc<dyn Connector>> {
    let catalog = properties.catalog().to_owned();
    properties.finish()?;
    Ok(Arc::new(Tpch { catalog, source: Arc::new(TpchSource) }))
}

#[derive(Debug)]
struct Tpch {
    catalog: String,
    source: Arc<TpchSource>,
}

#[async_trait]
impl Connector for Tpch {
    fn kind(&self) -> &'static str {
        "tpch"
    }

    async fn schema_names(&self) -> Result<Vec<String>> {
        Ok(SCHEMAS_SHOWN.map(str::to_owned).to_vec())
    }

    async fn tables(&self, schema: &str) -> Result<Vec<TableEntry>> {
        if scale_of(schema).is_none() {
            return Ok(Vec::new());
        }
        let entry = |table: Table| TableEntry {
            name: table.name().to_owned(),
            kind: TableKind::Table,
            comment: None,
        };
        Ok(Table::ALL.map(entry).to_vec())
    }

    async fn table(
        &self,
        schema: &str,
        table: &str,
        version: ReadVersion,
        scope: &Arc<QueryScope>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        version.committed_only("tpch")?;
        let (Some(_scale), Some(known)) = (scale_of(schema), Table::named(table)) else {
            return Ok(None);
        };
        let scan = RemoteScan::whole(&self.catalog, schema, table, columns(known));
        let source: Arc<dyn RowSource> = Arc::<TpchSource>::clone(&self.source);
        Ok(Some(Arc::new(RemoteTable::new(scan, source, Arc::clone(scope)))))
    }

    fn row_source(&self) -> Option<Arc<dyn RowSource>> {
        Some(Arc::<TpchSource>::clone(&self.source))
    }
}

fn columns(table: Table) -> Vec<RemoteColumn> {
    let column = |field: &FieldRef| RemoteColumn {
        name: field.name().clone(),
        data_type: field.data_type().clone(),
        nullable: field.is_nullable(),
        remote_type: field.data_type().to_string(),
        detail: Value::Null,
    };
    table.schema().fields().iter().map(column).collect()
}

/// Returns the scale factor that a schema's name says.
fn scale_of(schema: &str) -> Option<f64> {
    if schema == "tiny" {
        return Some(0.01);
    }
    let digits = schema.strip_prefix("sf")?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let scale: f64 = if plain { digits.parse().ok()? } else { return None };
    (SCALE_MIN..=SCALE_MAX).contains(&scale).then_some(scale)
}

#[cfg(test)]
mod tests {
    use super::scale_of;

    #[test]
    fn schema_names_are_scale_factors() {
        assert_eq!(scale_of("tiny"), Some(0.01));
        assert_eq!(scale_of("sf0.1"), Some(0.1));
        assert_eq!(scale_of("sf30"), Some(30.0));
        for other in ["sf", "sf0", "sf-1", "sf1e3", "sfinf", "sf99999", "public", "sf1.2.3"] {
            assert_eq!(scale_of(other), None, "{other}");
        }
    }
}
