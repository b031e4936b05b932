//! The versioned store of the demo: ad clicks per day and nation, filled in batches through SQL.
//!
//! Each batch is one version; rows of the same key are added up by the table itself.

use anyhow::Result;

use super::say;
use crate::client::Client;

/// How many days are loaded, each as one version.
pub(super) const N_DAYS: u32 = 3;

/// Nations of TPC-H.
const N_NATIONS: u32 = 25;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS ads.web.clicks \
     (day DATE, nation BIGINT, clicks BIGINT SUM, cost DECIMAL(18,2) SUM) \
     AGGREGATE KEY (day, nation)";

/// Makes the table and loads three days and a late correction, unless an earlier run did.
pub(super) async fn fill(client: &mut Client) -> Result<()> {
    client.run("CREATE SCHEMA IF NOT EXISTS ads.web").await?;
    client.run(TABLE).await?;
    if !is_empty(client).await? {
        say("  store   ad clicks, as an earlier run left them");
        return Ok(());
    }
    for day in 1..=N_DAYS {
        let rows: Vec<String> = (0..N_NATIONS).map(|nation| row(day, nation)).collect();
        insert(client, &rows).await?;
    }
    // Clicks of the first day that came in late: added to what is there.
    insert(client, &["(DATE '2026-01-01', 6, 5000, 250.00)".to_owned()]).await?;
    say(&format!("  store   ad clicks of {N_DAYS} days and a late correction, a version each"));
    Ok(())
}

async fn insert(client: &mut Client, rows: &[String]) -> Result<()> {
    client.run(&format!("INSERT INTO ads.web.clicks VALUES {}", rows.join(", "))).await?;
    Ok(())
}

async fn is_empty(client: &mut Client) -> Result<bool> {
    let found = client.query("SELECT day FROM ads.web.clicks LIMIT 1").await?;
    Ok(found.iter().all(|batch| batch.num_rows() == 0))
}

/// Numbers that differ by day and nation and are the same in every run.
fn row(day: u32, nation: u32) -> String {
    let clicks = 100 * day + 37 * ((nation * 7 + day) % N_NATIONS);
    let cents = clicks * 5;
    format!("(DATE '2026-01-0{day}', {nation}, {clicks}, {}.{:02})", cents / 100, cents % 100)
}
