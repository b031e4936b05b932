//! PostgreSQL: `pg_class` and `pg_stats`.

use std::any::Any;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use meshwork_engine::remote::{Literal, RemoteTable};
use meshwork_engine::statistics::TableStatistics;
use meshwork_sql_tests::servers::Postgres;
use meshwork_sql_tests::source::Source;

use super::qerror::{Estimate, estimates, expected, worst};

/// 100,000 rows that the server analyses only when it is told to.
const ORDERS: &str = "CREATE TABLE orders (id int PRIMARY KEY, part int, kind text, day date, \
       at timestamp, amount numeric(10, 2), name text, paid boolean, note int, big int8 NOT NULL) \
       WITH (autovacuum_enabled = false); \
     SELECT setseed(0.42); INSERT INTO orders SELECT n, floor(200 * power(random(), 3))::int, \
       (ARRAY['north', 'south', 'east', 'west', 'far''s \"end\"'])[1 + floor(5 * power(random(), 2))::int], \
       DATE '2020-01-01' + floor(1000 * random())::int, \
       TIMESTAMP '2020-01-01' + random() * INTERVAL '1000 days', \
       (random() * 1000)::numeric(10, 2), \
       chr(97 + floor(8 * random())::int) || md5(n::text), random() < 0.1, \
       CASE WHEN random() < 0.3 THEN NULL ELSE floor(random() * 1000)::int END, 9000000000 + n \
     FROM generate_series(1, 100000) n";

const CONDITIONS: [&str; 14] = [
    "part = 5",
    "part > 100",
    "kind = 'west'",
    "kind IN ('east', 'far''s \"end\"')",
    "NOT (kind = 'north')",
    "day BETWEEN DATE '2021-01-01' AND DATE '2021-03-31'",
    "at >= TIMESTAMP '2022-06-01 00:00:00'",
    "amount < CAST(25.50 AS DECIMAL(10, 2))",
    "name LIKE 'c%'",
    "paid AND part < 3",
    "note IS NULL OR note < 100",
    "note IS NOT NULL",
    "id > 99000 AND amount >= CAST(500 AS DECIMAL(10, 2))",
    "big BETWEEN 9000010000 AND 9000012000",
];

async fn prepare(schema: &str, statements: &[&str]) -> Result<(Arc<Postgres>, Source)> {
    let server = Postgres::shared()?;
    server.execute(&[&format!("CREATE SCHEMA {schema}")]).await?;
    for statement in statements {
        server.execute(&[&format!("SET search_path = {schema}, public; {statement}")]).await?;
    }
    let source = Source::new("postgres", server.properties())?;
    Ok((server, source))
}

async fn said(source: &Source, schema: &str, table: &str) -> Result<Arc<TableStatistics>> {
    let table = source.table(schema, table).await?;
    let table = (table.as_ref() as &dyn Any).downcast_ref::<RemoteTable>();
    Ok(table.context("a table of a row source")?.statistics().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn estimates_of_an_analysed_table_are_near() -> Result<()> {
    let (server, source) = prepare("qerror", &[ORDERS]).await?;
    let before = estimates(&source, "qerror", "orders", &CONDITIONS).await?;
    worst("never analysed", &before);
    server.execute(&["ANALYZE qerror.orders"]).await?;
    let after = estimates(&source, "qerror", "orders", &CONDITIONS).await?;
    let worst = worst("analysed", &after);
    assert!(after.iter().all(|estimate: &Estimate| estimate.is_pushed), "{after:#?}");
    assert!(worst < 3.0, "{after:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_each_type_are_read() -> Result<()> {
    let (server, source) = prepare("kinds_said", &[ORDERS]).await?;
    server.execute(&["ANALYZE kinds_said.orders"]).await?;
    let said = said(&source, "kinds_said", "orders").await?;
    assert_eq!(said.n_rows, Some(100_000.0));
    let column = |name: &str| said.columns.get(name).context("it was analysed");
    for name in ["id", "part", "kind", "day", "at", "amount", "name", "paid", "note", "big"] {
        let column = column(name)?;
        assert!(
            column.min.is_some() && column.max.is_some() && column.n_distinct.is_some(),
            "{name}"
        );
    }
    // The ends of what the server sampled.
    assert!(matches!(column("id")?.min, Some(Literal::Int(1..1000))), "{:?}", column("id")?.min);
    assert!(matches!(column("id")?.max, Some(Literal::Int(99_000..=100_000))));
    assert_eq!(column("id")?.n_distinct, Some(100_000.0));
    assert_eq!(column("kind")?.n_distinct, Some(5.0));
    assert!(
        column("kind")?.common.iter().any(|c| c.value == Literal::Text("far's \"end\"".into()))
    );
    let nulls = column("note")?.null_fraction.context("it has NULLs")?;
    assert!((0.25..0.35).contains(&nulls), "{nulls}");
    assert!(matches!(column("amount")?.max, Some(Literal::Decimal { scale: 2, .. })));
    assert!(matches!(column("day")?.min, Some(Literal::Date(18_262..18_300))));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_table_are_put_together() -> Result<()> {
    let (server, source) = prepare(
        "parts_said",
        &["CREATE TABLE sale (k int, day date, kind int) PARTITION BY RANGE (day); \
           CREATE TABLE \"Sale 20\" PARTITION OF sale FOR VALUES FROM ('2020-01-01') TO ('2021-01-01') \
             WITH (autovacuum_enabled = false); \
           CREATE TABLE sale_21 PARTITION OF sale FOR VALUES FROM ('2021-01-01') TO ('2022-01-01') \
             PARTITION BY LIST (kind); \
           CREATE TABLE sale_21_a PARTITION OF sale_21 FOR VALUES IN (0, 1) WITH (autovacuum_enabled = false); \
           CREATE TABLE sale_21_b PARTITION OF sale_21 DEFAULT WITH (autovacuum_enabled = false); \
           CREATE TABLE never PARTITION OF sale DEFAULT WITH (autovacuum_enabled = false); \
           INSERT INTO sale SELECT n, DATE '2020-01-01' + n % 366, n % 4 FROM generate_series(1, 30000) n; \
           INSERT INTO sale SELECT n, DATE '2021-01-01' + n % 365, n % 10 FROM generate_series(1, 90000) n"],
    )
    .await?;
    let conditions = [
        "k > 0",
        "day >= DATE '2021-01-01'",
        "day BETWEEN DATE '2020-06-01' AND DATE '2020-06-30'",
        "day = DATE '2021-05-05'",
        "kind = 3",
        "kind > 4",
        "k < 1000",
    ];
    for (state, statement) in [
        (
            "each partition analysed",
            "ANALYZE parts_said.\"Sale 20\", parts_said.sale_21_a, parts_said.sale_21_b, parts_said.never",
        ),
        ("all analysed together", "ANALYZE parts_said.sale"),
    ] {
        server.execute(&[statement]).await?;
        let all = estimates(&source, "parts_said", "sale", &conditions).await?;
        assert!(worst(state, &all) < 3.0, "{state}: {all:#?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_table_that_nobody_analysed_follow_its_size() -> Result<()> {
    let (server, source) = prepare(
        "grown",
        &[
            "CREATE TABLE grown (a int, b int, c int, d int) WITH (autovacuum_enabled = false); \
             INSERT INTO grown SELECT n, n, n, n FROM generate_series(1, 200000) n",
            "CREATE TABLE empty (a int) WITH (autovacuum_enabled = false)",
            "CREATE VIEW seen AS SELECT * FROM grown",
        ],
    )
    .await?;
    let near = |expected: Option<usize>, counted: f64| {
        expected.is_some_and(|n_rows| (0.5..2.0).contains(&(n_rows as f64 / counted)))
    };
    let whole = "SELECT * FROM t";
    let never = expected(&source, "grown", "grown", whole).await?;
    assert!(near(never, 200_000.0), "{never:?}");
    // Whatever is guessed of conditions does not make a side small.
    let guessed =
        expected(&source, "grown", "grown", "SELECT * FROM t WHERE a = 1 AND b = 2 AND c = 3")
            .await?;
    assert!(guessed.is_some_and(|n_rows| n_rows > 10_000), "{guessed:?}");
    let empty = expected(&source, "grown", "empty", whole).await?;
    assert!(empty.is_some_and(|n_rows| n_rows > 1_000), "it may be filled at any time: {empty:?}");
    assert_eq!(expected(&source, "grown", "seen", whole).await?, None, "a view says nothing");
    server.execute(&["ANALYZE grown.grown; INSERT INTO grown.grown SELECT n FROM generate_series(1, 200000) n"]).await?;
    let grown = expected(&source, "grown", "grown", whole).await?;
    assert!(near(grown, 400_000.0), "{grown:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_user_may_not_see_is_not_known() -> Result<()> {
    let (server, _source) = prepare(
        "hidden",
        &[
            "CREATE TABLE pay (id int, salary int) WITH (autovacuum_enabled = false); \
             INSERT INTO pay SELECT n, n % 7 FROM generate_series(1, 1000) n; ANALYZE pay",
            "CREATE ROLE half LOGIN PASSWORD 'half'; GRANT USAGE ON SCHEMA hidden TO half; \
             GRANT SELECT (id) ON pay TO half",
        ],
    )
    .await?;
    let mut properties = server.properties();
    properties.extend(
        [("user", "half"), ("password", "half")].map(|(k, v)| (k.to_owned(), v.to_owned())),
    );
    let source = Source::new("postgres", properties)?;
    let said = said(&source, "hidden", "pay").await?;
    assert_eq!(said.n_rows, Some(1000.0));
    assert_eq!(said.columns.keys().collect::<Vec<_>>(), ["id"]);
    let few = expected(&source, "hidden", "pay", "SELECT id FROM t WHERE id < 101").await?;
    ensure!(few.is_some_and(|n_rows| (90..110).contains(&n_rows)), "{few:?}");
    Ok(())
}
