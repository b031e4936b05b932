//! Generated tables: nobody makes one, and nothing of them can be away.

use anyhow::Result;
use async_trait::async_trait;

use crate::doors::Doors;
use crate::source::{Away, Broken, CATALOG, Limits, Properties, Source, Type, Writes, name_of};

/// The generator.
pub(crate) struct Tpch;

#[async_trait]
impl Source for Tpch {
    fn kind(&self) -> &'static str {
        "tpch"
    }

    fn properties(&self) -> Properties {
        Properties::new()
    }

    fn schema(&self) -> &'static str {
        "tiny"
    }

    fn types(&self) -> Vec<Type> {
        Vec::new()
    }

    fn limits(&self) -> Limits {
        Limits {
            writes: Writes::Never,
            n_columns: 0,
            // Generating a row costs more than testing it.
            pushed_marks: &[" WHERE "],
            n_pushed_min: 0,
            names_refused: &[],
        }
    }

    async fn standard(&mut self, _doors: &mut Doors) -> Result<String> {
        let moment =
            "arrow_cast(to_timestamp_seconds(s_suppkey * 8640000), 'Timestamp(Microsecond, None)')";
        let supplier = name_of(self.schema(), "supplier");
        Ok(format!(
            "(SELECT s_suppkey AS id, s_name AS name, s_acctbal AS amount, CAST(s_acctbal AS DOUBLE) AS ratio, \
             s_nationkey > 10 AS flag, CAST({moment} AS DATE) AS day, {moment} AS at FROM {supplier})"
        ))
    }

    fn requests(&self) -> Vec<(&'static str, &'static str)> {
        vec![("SELECT name FROM {t}", "supplier"), ("SELECT name FROM {t} LIMIT 3", "limit 3")]
    }

    async fn endless(&mut self, _doors: &mut Doors) -> Result<Vec<String>> {
        Ok(vec![format!("{CATALOG}.sf1000.lineitem")])
    }

    fn away(&self) -> Result<Away, &'static str> {
        Err("rows are generated where they are read")
    }

    async fn broken(&mut self, _doors: &mut Doors) -> Result<Vec<Broken>> {
        // A scale beyond the bounds is all that cannot be read.
        let relation = name_of("sf99999", "supplier");
        Ok(vec![Broken { relation, code: "SCHEMA_NOT_FOUND", names: "sf99999".to_owned() }])
    }
}
