//! Cases of what a source may do instead of the engine beyond filters: aggregates, and the first rows of an order.

use anyhow::{Result, ensure};

use crate::suite::{STANDARD, Trial};

/// Conditions that leave all rows, some, and none, each of which a source may take, approximate or refuse.
const FILTERS: [&str; 5] = [
    "true",
    "id > 5",
    "id BETWEEN 3 AND 40 AND (name <> 'apple' OR name IS NULL)",
    "amount > 0 OR flag",
    "id < -100",
];

/// Aggregates over each type of column, some of them twice and some of few rows.
const AGGREGATES: [&str; 6] = [
    "count(*), count(name), count(ratio), count(day), count(at)",
    "sum(id), min(id), max(id), sum(amount), min(amount), max(amount)",
    "min(name), max(name), min(day), max(day), min(at), max(at)",
    "sum(amount * (1 - amount)), sum(amount + amount), max(amount * 2), avg(amount)",
    "count(*) FILTER (WHERE id > 10), sum(amount) FILTER (WHERE name LIKE 'a%'), max(id) FILTER (WHERE flag)",
    "count(DISTINCT name), count(DISTINCT id)",
];

/// Orders by each type of column, both ways, with NULLs at either end, made total by `id`.
fn orders() -> Vec<String> {
    let keys = ["ASC NULLS LAST", "ASC NULLS FIRST", "DESC NULLS LAST", "DESC NULLS FIRST"];
    let columns = STANDARD.iter().map(|(name, _)| *name);
    columns.flat_map(|column| keys.map(|key| format!("{column} {key}, id"))).collect()
}

/// The same groups and the same first rows, whether the source gathers them or the engine does.
pub(crate) async fn gathering(trial: &mut Trial) -> Result<()> {
    let t = trial.standard.clone();
    for filter in FILTERS {
        let from = format!("FROM {t} WHERE {filter}");
        for aggregates in AGGREGATES {
            same(trial, &format!("SELECT {aggregates} {from}")).await?;
        }
        for group in STANDARD.map(|(name, _)| name) {
            let aggregates = "count(*), sum(amount), avg(amount), max(id)";
            same(trial, &format!("SELECT {group}, {aggregates} {from} GROUP BY {group}")).await?;
        }
        same(trial, &format!("SELECT DISTINCT flag, day {from}")).await?;
    }
    for (place, order) in orders().iter().enumerate() {
        let filter = FILTERS[place % FILTERS.len()];
        for limit in ["LIMIT 5", "LIMIT 3 OFFSET 4"] {
            same(trial, &format!("SELECT * FROM {t} WHERE {filter} ORDER BY {order} {limit}"))
                .await?;
        }
    }
    Ok(())
}

/// Checks that a query answers the same with pushdown and without, and with workers.
async fn same(trial: &mut Trial, sql: &str) -> Result<()> {
    let pushed = trial.doors.rows(sql).await?;
    let door = trial.doors.first();
    door.change("SET SESSION pushdown = false").await?;
    let unpushed = door.rows(sql).await;
    door.change("RESET SESSION pushdown").await?;
    let unpushed = unpushed?;
    ensure!(pushed == unpushed, "{sql}\npushed: {pushed:?}\nnot pushed: {unpushed:?}");
    Ok(())
}
