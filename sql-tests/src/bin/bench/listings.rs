//! All tables of five catalogs, 10,000 in each, listed by a query, by statements and by a driver: with nothing
//! remembered, and again.

use anyhow::{Result, ensure};
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::listings::{self, Listings};

use super::{n_rounds, say, setting, timed};

/// Measures and prints.
pub(crate) async fn run() -> Result<()> {
    let (there, made_ms) = timed(Listings::start(setting("BENCH_TABLES", 10_000)?)).await?;
    let n_tables = there.n_tables();
    say(&format!("{n_tables} tables made in {:.0} s", made_ms / 1e3));
    let cluster = Cluster::start(Shape::Standalone, &there.files()).await?;
    let mut client = cluster.client().await?;
    for round in 1..=n_rounds()? {
        for state in ["asked", "remembered"] {
            let mut figures = Vec::new();
            for way in ["information_schema", "SHOW TABLES", "GetTables"] {
                if state == "asked" {
                    client.run("CALL system.flush_metadata_cache()").await?;
                }
                let (tables, ms) = timed(async {
                    match way {
                        "information_schema" => listings::by_query(&mut client).await,
                        "SHOW TABLES" => listings::by_show(&mut client).await,
                        _ => listings::by_driver(cluster.url(), false).await,
                    }
                })
                .await?;
                ensure!(listings::n_rows(&tables) >= n_tables, "{way} lists too few");
                figures.push(format!("{way} {ms:.0} ms"));
            }
            say(&format!("round {round}, {state}: {}", figures.join(", ")));
        }
    }
    Ok(())
}
