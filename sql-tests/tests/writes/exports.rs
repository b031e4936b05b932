//! Tables of a store that others read: `system.exports` says where, and what is there is the table.
//!
//! `MESHWORK_TEST_PYTHON` names a Python with the packages deltalake and pyarrow, which then reads them too.

use std::process::Command;

use anyhow::{Result, ensure};
use arrow::array::{Array, AsArray};
use arrow::datatypes::UInt64Type;
use meshwork::client::Client;
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::spread::catalog_file;
use tempfile::TempDir;

const TABLE: &str = "CREATE TABLE facts.t.visits (day DATE, site VARCHAR, at TIMESTAMP(6) MAX, n BIGINT SUM, \
    cost DECIMAL(18,4) SUM, rate DOUBLE MAX, hot BOOLEAN BOOL_OR) AGGREGATE KEY (day, site) WITH ('export' = 'delta')";

const ROWS: [&str; 3] = [
    "(DATE '2024-01-01', 'Grüße', TIMESTAMP '2024-01-01 12:00:00.000001', 1, 1.5, 0.5, true)",
    "(DATE '2024-01-01', 'Grüße', TIMESTAMP '2024-01-02 00:00:00', 2, -0.5, 1.5, NULL), (NULL, '', NULL, NULL, NULL, NULL, NULL)",
    "(DATE '1969-12-31', 'b', NULL, -9, 0.0001, 2.5, false)",
];

/// All values as the script of `clients/delta.py` writes them, columns by name.
const SHOWN: &str = "SELECT CAST(at AS VARCHAR), CAST(cost AS VARCHAR), CAST(day AS VARCHAR), CAST(hot AS VARCHAR), \
    CAST(n AS VARCHAR), CAST(rate AS VARCHAR), site FROM facts.t.visits";

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_the_table() -> Result<()> {
    let _turn = super::TURN.lock().await;
    let folder = TempDir::new()?;
    let location = ("location".to_owned(), folder.path().to_string_lossy().into_owned());
    let off = ("maintenance".to_owned(), "off".to_owned());
    let store = catalog_file("store", [location, off].into());
    let cluster = Cluster::start(Shape::Standalone, &[("facts", store)]).await?;
    let mut client = cluster.client().await?;
    client.run(TABLE).await?;
    ensure!(exported(&mut client).await?.is_none());
    for rows in ROWS {
        client.run(&format!("INSERT INTO facts.t.visits VALUES {rows}")).await?;
    }
    client.run("OPTIMIZE facts.t.visits FULL").await?;
    let Some((place, version)) = exported(&mut client).await? else {
        anyhow::bail!("nothing is exported")
    };
    ensure!(version == 3, "version {version} is exported");
    ensure!(std::path::Path::new(&place).join("_delta_log").is_dir(), "{place}");
    if let Ok(python) = std::env::var("MESHWORK_TEST_PYTHON") {
        let expected = shown(&mut client).await?;
        let read = Command::new(python).args(["clients/delta.py", &place]).output()?;
        let errors = String::from_utf8_lossy(&read.stderr);
        ensure!(read.status.success(), "{errors}");
        let text = String::from_utf8(read.stdout)?;
        let mut found: Vec<Vec<Option<String>>> =
            text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        found.sort();
        ensure!(found == expected, "{found:#?} is read, {expected:#?} is there");
        println!("{} rows are read by deltalake", found.len());
    }
    Ok(())
}

async fn exported(client: &mut Client) -> Result<Option<(String, u64)>> {
    let sql = "SELECT location, version FROM system.exports WHERE \"table\" = 'visits' AND format = 'delta'";
    let found = client.query(sql).await?;
    let row = found.iter().find(|batch| batch.num_rows() > 0);
    Ok(row.map(|row| {
        let version = row.column(1).as_primitive::<UInt64Type>().value(0);
        (row.column(0).as_string::<i32>().value(0).to_owned(), version)
    }))
}

async fn shown(client: &mut Client) -> Result<Vec<Vec<Option<String>>>> {
    let mut rows = Vec::new();
    for batch in client.query(SHOWN).await? {
        for row in 0..batch.num_rows() {
            let value = |column: &arrow::array::ArrayRef| {
                let column = column.as_string::<i32>();
                column.is_valid(row).then(|| as_python(column.value(row)))
            };
            rows.push(batch.columns().iter().map(value).collect());
        }
    }
    rows.sort();
    Ok(rows)
}

/// A value as Python writes it.
fn as_python(value: &str) -> String {
    match value {
        "true" => "True".to_owned(),
        "false" => "False".to_owned(),
        other => other.replace('T', " "),
    }
}
