//! MariaDB: `information_schema`, and `mysql.column_stats` where somebody analysed a table.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use meshwork_engine::remote::{Literal, RemoteTable};
use meshwork_engine::statistics::TableStatistics;
use meshwork_sql_tests::servers::MariaDb;
use meshwork_sql_tests::source::Source;

use super::qerror::{estimates, expected, worst};

const CONDITIONS: [&str; 10] = [
    "part = 5",
    "part > 100",
    "kind = 3",
    "kind IN (1, 4)",
    "NOT (kind = 0)",
    "day BETWEEN DATE '2021-01-01' AND DATE '2021-03-31'",
    "amount < CAST(25.50 AS DECIMAL(10, 2))",
    "note IS NULL",
    "id > 29000",
    "kind = 2 AND id <= 15000",
];

async fn prepare(name: &str) -> Result<Arc<MariaDb>> {
    let server = MariaDb::shared()?;
    server
        .execute(&[
            &format!("DROP DATABASE IF EXISTS {name}"),
            &format!("CREATE DATABASE {name}"),
            &format!("USE {name}"),
            "SET sql_mode = ''",
            "CREATE TABLE orders (id int PRIMARY KEY, part int, kind int, day date, amount decimal(10, 2), \
             note int, KEY (part))",
            // The same rows each time, without a pattern that statistics could see.
            "INSERT INTO orders SELECT seq, floor(200 * power(seq * 7919 % 30011 / 30011, 3)), \
             floor(6 * power(seq * 104729 % 30013 / 30013, 2)), \
             DATE '2020-01-01' + INTERVAL seq * 1299709 % 30029 DIV 31 DAY, seq * 15485863 % 100003 / 100, \
             IF(seq * 611953 % 10 < 3, NULL, seq * 32452843 % 1000) FROM seq_1_to_30000",
            "CREATE VIEW seen AS SELECT * FROM orders",
        ])
        .await?;
    Ok(server)
}

fn source(server: &MariaDb, others: &[(&str, &str)]) -> Result<Source> {
    let mut properties: BTreeMap<String, String> = server.properties();
    properties.extend(others.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    Source::new("mysql", properties)
}

async fn said(source: &Source, schema: &str, table: &str) -> Result<Arc<TableStatistics>> {
    let table = source.table(schema, table).await?;
    let table = (table.as_ref() as &dyn Any).downcast_ref::<RemoteTable>();
    Ok(table.context("a table of a row source")?.statistics().await)
}

#[tokio::test]
async fn estimates_with_histograms_are_near() -> Result<()> {
    let server = prepare("qerror").await?;
    // Lets the server count the rows that have just come.
    server.execute(&["ANALYZE TABLE qerror.orders"]).await?;
    let source = source(&server, &[])?;
    let before = estimates(&source, "qerror", "orders", &CONDITIONS).await?;
    worst("MariaDB, without column_stats", &before);
    // The older kind knows a common value only if it fills a part of its own.
    for (kind, bound) in [("JSON_HB", 3.0), ("DOUBLE_PREC_HB", 4.0)] {
        let set = format!("SET SESSION histogram_type = '{kind}'");
        let connection = [
            "SET SESSION histogram_size = 254",
            &set,
            "ANALYZE TABLE qerror.orders PERSISTENT FOR ALL",
        ];
        server.execute(&connection).await?;
        let after = estimates(&source, "qerror", "orders", &CONDITIONS).await?;
        let worst = worst(&format!("MariaDB, with column_stats by {kind}"), &after);
        assert!(worst < bound, "{kind}: {after:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn without_histograms_indexes_say_something() -> Result<()> {
    let server = prepare("bare").await?;
    server.execute(&["ANALYZE TABLE bare.orders"]).await?;
    let source = source(&server, &[])?;
    let table = said(&source, "bare", "orders").await?;
    let n_rows = table.n_rows.context("the server estimates rows")?;
    assert!((15_000.0..60_000.0).contains(&n_rows), "{n_rows}");
    let key = &table.columns["id"];
    assert_eq!((&key.min, &key.max), (&Some(Literal::Int(1)), &Some(Literal::Int(30_000))));
    assert_eq!(key.n_distinct, Some(n_rows));
    let of_index = table.columns["part"].n_distinct.context("an index begins with it")?;
    // It looks at a few pages only.
    assert!((50.0..2000.0).contains(&of_index), "{of_index}");
    assert!(!table.columns.contains_key("kind"), "{:?}", table.columns);
    assert_eq!(
        expected(&source, "bare", "seen", "SELECT * FROM t").await?,
        None,
        "a view says nothing"
    );
    Ok(())
}

#[tokio::test]
async fn what_the_user_may_not_see_is_not_known() -> Result<()> {
    let server = prepare("hidden_stats").await?;
    server
        .execute(&[
            "ANALYZE TABLE hidden_stats.orders PERSISTENT FOR ALL",
            "DROP USER IF EXISTS half",
            "CREATE USER half IDENTIFIED BY 'half'",
            "GRANT SELECT ON hidden_stats.orders TO half",
        ])
        .await?;
    let source = source(&server, &[("user", "half"), ("password", "half")])?;
    let table = said(&source, "hidden_stats", "orders").await?;
    assert!(table.n_rows.is_some());
    assert!(!table.columns.contains_key("kind"), "{:?}", table.columns);
    // Seeing the table of statistics is not reading all of it.
    server.execute(&["GRANT SELECT (db_name) ON mysql.column_stats TO half"]).await?;
    let table = said(&source, "hidden_stats", "orders").await?;
    assert!(table.n_rows.is_some() && !table.columns.contains_key("kind"), "{table:?}");
    Ok(())
}
