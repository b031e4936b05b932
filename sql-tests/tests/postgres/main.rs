//! The connector `postgres` against a real server whose defaults are none that it may rely on.

mod sessions;
mod splits;

use std::time::Duration;

use anyhow::{Context, Result};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use futures::StreamExt;
use meshwork_engine::connector::{ReadVersion, TableKind};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::{Error, ErrorKind};
use meshwork_sql_tests::servers::Postgres;
use meshwork_sql_tests::source::{Source, failure};

/// Text that has a meaning in some literal, pattern or collation.
const NASTY: &[&str] = &[
    "",
    " ",
    "a",
    "A",
    "ab",
    "ab ",
    "ab   ",
    "abc",
    "äpple",
    "apple",
    "Apple",
    "APPLE",
    "a'b",
    "a\"b",
    "a\\b",
    "c\\d",
    "cd",
    "\\' OR 1=1 -- ",
    "'; DROP TABLE x; --",
    "100%",
    "100_",
    "a%b",
    "a_b",
    "Zebra",
    "cherry",
    "_x",
    "😀",
    "ÿ",
    "\u{7f}",
    "tab\there",
    "line\nbreak",
    "NULL",
    "ﬀ",
    "ß",
    "ss",
];

/// Makes a schema of the test's own; returns the source that reads it.
async fn prepare(schema: &str, statements: &[&str]) -> Result<(std::sync::Arc<Postgres>, Source)> {
    let server = Postgres::shared()?;
    let fresh = format!("CREATE SCHEMA {schema}");
    server.execute(&[&fresh]).await?;
    for statement in statements {
        let statement = format!("SET search_path = {schema}, public; {statement}");
        server.execute(&[&statement]).await?;
    }
    let source = Source::new("postgres", server.properties())?;
    Ok((server, source))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn count(batches: &[RecordBatch]) -> i64 {
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn values_without_a_counterpart_are_errors_or_null() -> Result<()> {
    let (server, source) = prepare(
        "infinite",
        &[
            "CREATE TABLE v (id int NOT NULL, d date, n numeric(5,2), t timestamptz NOT NULL, a int[])",
            "INSERT INTO v VALUES (1, '2024-01-01', 1, '2024-01-01', '{1}'), \
             (2, 'infinity', 2, '-infinity', '{{1,2},{3,4}}'), (3, NULL, 'NaN', '2024-01-02', '{}')",
        ],
    )
    .await?;
    for (column, said) in
        [("d", "an infinite date"), ("n", "NaN"), ("t", "infinite timestamp"), ("a", "dimensions")]
    {
        let sql = format!("SELECT {column} FROM t");
        let error = failure(source.rows("infinite", "v", &sql).await);
        assert_eq!(error.code, "VALUE_NOT_REPRESENTABLE");
        let names =
            error.message.contains(&format!("\"{column}\"")) && error.message.contains(said);
        assert!(names, "{}", error.message);
    }
    assert_eq!(count(&source.rows("infinite", "v", "SELECT count(*) FROM t").await?), 3);
    let mut properties = server.properties();
    properties.insert("unrepresentable".into(), "null".into());
    let lenient = Source::new("postgres", properties)?;
    let text = lenient.text("infinite", "v", "SELECT id, d, n, t, a FROM t ORDER BY id").await?;
    assert!(text.contains("| 2  |            | 2.00 |                      |     |"), "{text}");
    let conditions = [
        "d > date '2000-01-01'",
        "d IS NULL",
        "d IS NOT NULL",
        "n <> 5",
        "NOT (n > 5)",
        "t < timestamptz '2024-01-01 12:00:00+00'",
        "t IS NULL",
        "n IN (1, 2)",
    ];
    lenient.check_filters("infinite", "v", &conditions.map(str::to_owned)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn text_filters_mean_the_same_on_both_sides() -> Result<()> {
    let (server, source) = prepare(
        "texts",
        &[
            "CREATE EXTENSION citext SCHEMA public",
            "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false)",
            "CREATE TABLE x (id int, plain text, bytes text COLLATE \"C\", \
             icu text COLLATE \"en-US-x-icu\", loose text COLLATE loose, padded char(40), ci citext, \
             short varchar(40))",
        ],
    )
    .await?;
    let session = server.connect().await?;
    for (id, text) in NASTY.iter().enumerate() {
        let id = i32::try_from(id)?;
        session
            .client
            .execute(
                "INSERT INTO texts.x VALUES ($1, $2, $2, $2, $2, $2::text::bpchar, $2::text::citext, $2)",
                &[&id, text],
            )
            .await?;
    }
    session.client.execute("INSERT INTO texts.x (id) VALUES (1000)", &[]).await?;
    let mut equal = Vec::new();
    let mut ranges = Vec::new();
    for (place, text) in NASTY.iter().enumerate() {
        let literal = quoted(text);
        for column in ["plain", "loose", "padded"] {
            equal.push(format!("{column} = {literal}"));
        }
        // The others follow the same rules, so that some values serve.
        if place % 4 != 0 {
            continue;
        }
        for column in ["bytes", "icu", "ci", "short"] {
            equal.push(format!("{column} = {literal}"));
        }
        for column in ["plain", "bytes", "icu"] {
            ranges.push(format!("{column} < {literal}"));
            ranges.push(format!("{column} <> {literal}"));
        }
        ranges.push(format!("bytes >= {literal}"));
        ranges.push(format!("starts_with(icu, {literal})"));
        let pattern = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        ranges.push(format!("plain LIKE {}", quoted(&format!("{pattern}%"))));
    }
    let n_equal = source.check_filters("texts", "x", &equal).await?;
    assert_eq!(n_equal, equal.len(), "equality is pushed for all kinds of text");
    let n_ranges = source.check_filters("texts", "x", &ranges).await?;
    assert!(n_ranges > NASTY.len(), "{n_ranges}");
    let list = NASTY.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ");
    let mut mixed = Vec::new();
    for column in ["plain", "loose", "padded", "ci"] {
        mixed.push(format!("{column} IN ({list})"));
        mixed.push(format!("{column} NOT IN ('apple', 'ab', 'a''b')"));
        mixed.push(format!("NOT ({column} = 'apple')"));
        mixed.push(format!("NOT ({column} = 'apple' OR id = 3)"));
        mixed.push(format!("{column} = 'Apple' AND (id < 5 OR id > 8)"));
        mixed.push(format!("{column} = 'apple' OR {column} = 'ab' OR id IS NULL"));
        mixed.push(format!("{column} LIKE 'a%'"));
        mixed.push(format!("{column} IS NULL"));
        mixed.push(format!("{column} IS NOT NULL AND {column} BETWEEN 'A' AND 'b'"));
    }
    source.check_filters("texts", "x", &mixed).await?;
    let kept = source.explain("texts", "x", "SELECT id FROM t WHERE icu < 'Z'").await?;
    assert!(!kept.contains("WHERE"), "an ICU order is not ours: {kept}");
    let pushed = source.explain("texts", "x", "SELECT id FROM t WHERE bytes < 'Z'").await?;
    assert!(pushed.contains("WHERE \"bytes\" < 'Z'") && !pushed.contains("FilterExec"), "{pushed}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn other_filters_mean_the_same_on_both_sides() -> Result<()> {
    let (_server, source) = prepare(
        "others",
        &[
            "CREATE TYPE pair AS (a int, b text)",
            "CREATE TABLE x (id int, i2 int2, i8 int8, n numeric(12,4), w numeric(50,5), f float8, g float4, \
             b bool, d date, ts timestamp, tz timestamptz, u uuid, y bytea, free numeric, o oid, c pair)",
            "INSERT INTO x VALUES \
             (1, 1, 1, 1.5, 1.5, 0.0, 0.1, true, '2024-03-10', '2024-03-10 05:00', \
              '2024-03-10 05:00+00', '00000000-0000-0000-0000-00000000000a', decode('00', 'hex'), 1.50, 0, NULL), \
             (2, -1, -9223372036854775808, -1.5, -1.5, '-0', '-0', false, '0001-01-01', \
              '1969-12-31 23:59:59.999999', '2024-03-10 00:00-05', \
              'ffffffff-ffff-ffff-ffff-ffffffffffff', decode('ff00', 'hex'), 1.5, 1, (NULL, NULL)), \
             (3, 0, 9223372036854775807, 99999999.9999, 5e44, 'NaN', 'NaN', NULL, '9999-12-31', \
              '294246-12-31', '0044-03-15 BC', NULL, '', NULL, 4294967295, (1, NULL)), \
             (4, NULL, 0, NULL, 0, 'Infinity', '-Infinity', true, NULL, NULL, NULL, \
              'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', NULL, 'NaN', 2147483648, (1, 'x')), \
             (5, 32767, 5, 0.0001, 0.00001, -2.5e300, 3e-40, false, '1969-12-31', \
              '2024-03-10 05:00:00.000001', '2024-03-10 05:00:00.000001+00', \
              'ffffffff-ffff-ffff-ffff-fffffffffff0', decode('27', 'hex'), 0, NULL, NULL)",
        ],
    )
    .await?;
    let mut conditions = Vec::new();
    let values: &[(&str, &[&str])] = &[
        ("i2", &["0", "-1", "32767", "40000"]),
        ("i8", &["0", "9223372036854775807", "-9223372036854775808", "5"]),
        ("n", &["1.5", "-1.5", "0.0001", "99999999.9999", "0"]),
        ("w", &["1.5", "0", "-1.5"]),
        ("f", &["0.0", "-0.0", "1.5", "-2.5e300", "1e308", "cast('NaN' as double)"]),
        ("g", &["cast(0.1 as real)", "cast(0 as real)", "cast(3e-40 as real)", "0.1"]),
        ("b", &["true", "false"]),
        ("d", &["date '2024-03-10'", "date '0001-01-01'", "date '9999-12-31'"]),
        ("ts", &["timestamp '2024-03-10 05:00:00'", "timestamp '1969-12-31 23:59:59.999999'"]),
        (
            "tz",
            &["timestamp '2024-03-10 05:00:00'", "timestamptz '2024-03-10 05:00:00.000001+00:00'"],
        ),
        (
            "u",
            &[
                "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
                "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
                "'x'",
            ],
        ),
        ("y", &["x'00'", "x'27'", "x'ff00'", "x''"]),
        ("free", &["'1.5'", "'NaN'"]),
        ("o", &["0", "1", "-1", "4294967295", "5000000000"]),
    ];
    for (column, values) in values {
        for value in *values {
            for operator in ["=", "<>", "<", "<=", ">", ">="] {
                conditions.push(format!("{column} {operator} {value}"));
            }
            conditions.push(format!("NOT ({column} > {value}) AND id <> 2"));
            conditions.push(format!("{value} < {column} OR {column} IS NULL"));
        }
        let list = values.join(", ");
        conditions.push(format!("{column} IN ({list})"));
        conditions.push(format!("{column} NOT IN ({list})"));
        conditions.push(format!("{column} BETWEEN {} AND {}", values[0], values[values.len() - 1]));
        conditions.push(format!("{column} IS NULL"));
        conditions.push(format!("{column} IS NOT NULL"));
    }
    conditions.push("b".to_owned());
    conditions.push("NOT b".to_owned());
    conditions.push("b IS TRUE".to_owned());
    conditions.push("c IS NULL".to_owned());
    conditions.push("c IS NOT NULL".to_owned());
    let n_pushed = source.check_filters("others", "x", &conditions).await?;
    assert!(n_pushed > conditions.len() / 2, "{n_pushed} of {}", conditions.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn not_null_of_a_parent_is_not_believed_for_its_children() -> Result<()> {
    let (_server, source) = prepare(
        "family",
        &[
            "CREATE TABLE parent (id int, v int NOT NULL); INSERT INTO parent VALUES (1, 1)",
            "CREATE TABLE child () INHERITS (parent); ALTER TABLE child ALTER v DROP NOT NULL; \
             INSERT INTO child VALUES (2, NULL), (3, 3)",
        ],
    )
    .await?;
    let without = "SELECT count(*) FROM t WHERE v IS NULL";
    assert_eq!(count(&source.rows("family", "parent", without).await?), 1);
    assert_eq!(count(&source.rows("family", "parent", "SELECT sum(v) FROM t").await?), 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn views_parts_and_tables_without_columns_are_listed_and_read() -> Result<()> {
    let (server, source) = prepare(
        "kinds",
        &[
            "CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES",
            "CREATE TABLE plain (id int, n bigint); INSERT INTO plain VALUES (1, 7), (2, 7)",
            "CREATE VIEW seen AS SELECT id, n FROM plain",
            "CREATE MATERIALIZED VIEW kept AS SELECT id FROM plain",
            "CREATE TABLE parted (k bigint, v text) PARTITION BY RANGE (k); \
             CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10); \
             CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20); \
             INSERT INTO parted SELECT n, n::text FROM generate_series(0, 19) n",
            "COMMENT ON TABLE plain IS 'a few rows'",
        ],
    )
    .await?;
    let schema = "kinds";
    let listed = source.connector.tables(schema).await?;
    let names: Vec<&str> = listed.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["kept", "nothing", "parted", "plain", "seen"]);
    assert_eq!(listed[4].kind, TableKind::View);
    assert_eq!(listed[3].comment.as_deref(), Some("a few rows"));
    let schemas = source.connector.schema_names().await?;
    assert!(schemas.iter().any(|name| name == schema) && schemas.is_sorted(), "{schemas:?}");
    assert!(!schemas.iter().any(|name| name.starts_with("pg_")), "{schemas:?}");
    for (table, n_rows) in [("nothing", 1), ("kept", 2), ("parted", 20), ("parted_2", 10)] {
        let rows = source.rows(schema, table, "SELECT count(*) FROM t").await?;
        assert_eq!(count(&rows), n_rows, "{table}");
    }
    assert_eq!(count(&source.rows(schema, "seen", "SELECT sum(n) FROM t").await?), 14);
    assert_eq!(count(&source.rows(schema, "parted_2", "SELECT min(k) FROM t").await?), 10);
    let scope = QueryScope::new(QuerySettings::default());
    let none = source.connector.table(schema, "absent", ReadVersion::Committed, &scope).await?;
    assert!(none.is_none());
    let refused = source.connector.table(schema, "plain", ReadVersion::At(3), &scope).await;
    assert_eq!(refused.unwrap_err().code, "NOT_SUPPORTED");

    let mut properties = server.properties();
    properties.insert("schemas".into(), "public, other".into());
    let filtered = Source::new("postgres", properties)?;
    assert_eq!(filtered.connector.schema_names().await?, ["public"]);
    assert!(filtered.connector.tables(schema).await?.is_empty());
    assert!(filtered.table(schema, "plain").await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_refuses_says_why_and_no_secret() -> Result<()> {
    let server = Postgres::shared()?;
    let with = |changes: &[(&str, &str)]| -> Result<Source> {
        let mut properties = server.properties();
        for (key, value) in changes {
            properties.insert((*key).to_owned(), (*value).to_owned());
        }
        Source::new("postgres", properties)
    };
    for (changes, code, names) in [
        (
            vec![("password", "wr0ng'pass")],
            "SOURCE_AUTHENTICATION",
            "password authentication failed",
        ),
        (vec![("host", "nowhere.invalid")], "SOURCE_UNAVAILABLE", "nowhere.invalid"),
        (vec![("database", "absent")], "SOURCE_QUERY_FAILED", "absent"),
        (vec![("host", "localhost"), ("tls", "verify")], "SOURCE_UNAVAILABLE", "localhost"),
    ] {
        let source = with(&changes)?;
        let error = source.connector.schema_names().await.unwrap_err();
        let shown = format!("{error} {error:?} {source:?}");
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Source, code), "{shown}");
        assert!(error.message.contains(names) && error.message.contains("\"source\""), "{shown}");
        assert!(!shown.contains("s3cret") && !shown.contains("wr0ng"), "{shown}");
    }
    let authority = server.authority().display().to_string();
    for changes in [
        vec![("tls", "disable")],
        vec![("tls", "require")],
        vec![("host", "localhost"), ("tls", "verify"), ("tls_ca", authority.as_str())],
    ] {
        with(&changes)?.connector.check().await?;
    }
    for (key, value) in
        [("tls", "maybe"), ("connections_max", "0"), ("port", "x"), ("sslmode", "on")]
    {
        let error = failure(with(&[(key, value)]));
        assert_eq!(error.code, "CATALOG_CONFIGURATION", "{error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_in_the_middle_is_an_error() -> Result<()> {
    let server = Postgres::start()?;
    server
        .execute(&["CREATE VIEW endless AS SELECT generate_series(1, 1000000000000) AS n"])
        .await?;
    let source = Source::new("postgres", server.properties())?;
    let frame = source.plan("public", "endless", "SELECT n FROM t").await?;
    let mut rows = frame.clone().execute_stream().await?;
    rows.next().await.context("no rows")??;
    drop(server);
    let failed = async {
        while let Some(batch) = rows.next().await {
            if let Err(error) = batch {
                return Some(Error::from_datafusion(&error));
            }
        }
        None
    };
    let error =
        tokio::time::timeout(Duration::from_secs(10), failed).await?.context("a short answer")?;
    assert_eq!(error.kind, ErrorKind::Source, "{error:?}");
    assert!(error.retryable, "{error:?}");
    Ok(())
}
