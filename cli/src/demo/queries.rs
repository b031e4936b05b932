//! The three queries of the demo, and how to go on from them.

use anyhow::{Result, bail};
use arrow::array::{AsArray, RecordBatch};
use arrow::util::pretty::pretty_format_batches;
use meshwork_engine::environment;

use super::say;
use crate::client::Client;

/// Joins five sources: Parquet files, SQLite, a REST API, the versioned store, and a generator.
const FIVE_SOURCES: &str = "\
SELECT n.n_name AS nation,
       count(*) AS orders,
       sum(o.o_totalprice) AS ordered,
       max(a.clicks) AS clicks,
       max(s.suppliers) AS suppliers
FROM lake.tpch.orders AS o
JOIN shop.main.customer AS c ON o.o_custkey = c.c_custkey
JOIN geo.api.nation AS n ON c.c_nationkey = n.n_nationkey
JOIN (SELECT nation, sum(clicks) AS clicks FROM ads.web.clicks GROUP BY nation) AS a
  ON a.nation = n.n_nationkey
JOIN (SELECT s_nationkey, count(*) AS suppliers FROM tpch.tiny.supplier GROUP BY s_nationkey) AS s
  ON s.s_nationkey = n.n_nationkey
WHERE o.o_orderdate >= DATE '1997-01-01'
GROUP BY n.n_name
ORDER BY ordered DESC
LIMIT 5";

/// What the last query explains: filters go to the sources that can take them.
const EXPLAINED: &str = "\
EXPLAIN
SELECT n.n_name, sum(o.o_totalprice) AS ordered
FROM lake.tpch.orders AS o
JOIN shop.main.customer AS c ON o.o_custkey = c.c_custkey
JOIN geo.api.nation AS n ON c.c_nationkey = n.n_nationkey
WHERE c.c_custkey < 100 AND n.n_regionkey = 3 AND o.o_orderdate >= DATE '1998-01-01'
GROUP BY n.n_name";

/// Runs and prints the three queries.
pub(super) async fn show(client: &mut Client) -> Result<()> {
    ask(client, "1. five sources in one query", FIVE_SOURCES).await?;
    let newest = newest_version(client).await?;
    let versions = two_versions(newest);
    ask(client, "2. one table at two versions: clicks that came in late", &versions).await?;
    ask(client, "3. what runs where, and what each source is asked", EXPLAINED).await
}

async fn ask(client: &mut Client, title: &str, sql: &str) -> Result<()> {
    let since = environment::instant();
    let rows = client.query(sql).await.map_err(explained)?;
    let took = since.elapsed().as_millis();
    say(&format!("\n{title}\n\n{sql}\n\n{}\n({took} ms)", text_of(&rows)?));
    Ok(())
}

/// A table for rows, plain text for plans.
fn text_of(rows: &[RecordBatch]) -> Result<String> {
    let plans = rows.iter().all(|batch| batch.schema().field(0).name() == "plan_type");
    if !plans {
        return Ok(pretty_format_batches(rows)?.to_string());
    }
    let mut text = String::new();
    for batch in rows {
        let kinds = batch.column(0).as_string::<i32>();
        let plans = batch.column(1).as_string::<i32>();
        for (kind, plan) in kinds.iter().zip(plans) {
            text.push_str(&format!("{}:\n{}\n\n", kind.unwrap_or(""), plan.unwrap_or("")));
        }
    }
    Ok(text.trim_end().to_owned())
}

/// The version of the store is the largest number that can be read at.
async fn newest_version(client: &mut Client) -> Result<u64> {
    for version in (1..=VERSIONS_MAX).rev() {
        let sql = format!("SELECT count(*) FROM ads.web.clicks FOR VERSION AS OF {version}");
        if client.query(&sql).await.is_ok() {
            return Ok(version);
        }
    }
    bail!("the store of the demo has no version that can be read")
}

/// The demo makes fewer versions than this.
const VERSIONS_MAX: u64 = 16;

fn two_versions(newest: u64) -> String {
    let before = newest - 1;
    format!(
        "\
SELECT day, old.clicks AS clicks_at_{before}, new.clicks AS clicks_at_{newest}, new.clicks - old.clicks AS late
FROM (SELECT day, sum(clicks) AS clicks FROM ads.web.clicks FOR VERSION AS OF {before} GROUP BY day) AS old
JOIN (SELECT day, sum(clicks) AS clicks FROM ads.web.clicks FOR VERSION AS OF {newest} GROUP BY day) AS new
USING (day)
ORDER BY day"
    )
}

fn explained(error: meshwork_engine::Error) -> anyhow::Error {
    let text = match &error.hint {
        Some(hint) => format!("{}: {error}. {hint}", error.code),
        None => format!("{}: {error}", error.code),
    };
    anyhow::anyhow!(text)
}

/// Says how to connect.
pub(super) fn invite(url: &str) {
    let address = url.split_once("://").map_or(url, |(_, address)| address);
    say(&format!(
        "
The cluster stays up; end it with Ctrl-C. From another terminal:

  shell    meshwork sql --server {url}
  one line meshwork sql --server {url} -c \"SELECT count(*) FROM lineitem\"
  Python   pip install adbc-driver-flightsql pyarrow
           import adbc_driver_flightsql.dbapi as flight
           connection = flight.connect(\"grpc://{address}\")
           cursor = connection.cursor(); cursor.execute(\"SHOW CATALOGS\"); print(cursor.fetchall())
  JDBC     jdbc:arrow-flight-sql://{address}?useEncryption=false
           (org.apache.arrow:flight-sql-jdbc-driver)"
    ));
}
