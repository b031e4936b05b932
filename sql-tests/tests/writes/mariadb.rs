//! MariaDB: every type both ways, refusals, changes in place, queries in its own words.

use anyhow::{Context, Result, ensure};
use meshwork_sql_tests::servers::MariaDb;
use mysql_async::prelude::Queryable;

use crate::TURN;
use crate::trial::Trial;

const TYPES: &[(&str, &[&str])] = &[
    ("tinyint", &["-128", "127"]),
    ("tinyint unsigned", &["255"]),
    ("smallint unsigned", &["65535"]),
    ("mediumint", &["-8388608"]),
    ("int unsigned", &["4294967295"]),
    ("bigint", &["-9223372036854775808"]),
    ("bigint unsigned", &["18446744073709551615"]),
    ("decimal(12,3)", &["-123.45", "999999999.999", "0.001"]),
    ("decimal(65,30)", &["12345678901234567890123456789012345.012345678901234567890123456789"]),
    ("float", &["-1.5", "3.25e30"]),
    ("double", &["0.1", "-1.7976931348623157e308"]),
    ("bit(1)", &["b'1'", "b'0'"]),
    ("bit(12)", &["b'101010101010'", "b'1'"]),
    ("year", &["1901", "2155"]),
    ("date", &["'0001-01-01'", "'9999-12-31'"]),
    ("datetime(6)", &["'1969-12-31 23:59:59.999999'", "'9999-12-31 23:59:59.999999'"]),
    ("timestamp(6) NULL", &["'2024-03-10 05:00:00.5'"]),
    ("time(6)", &["'-838:59:59'", "'838:59:59'", "'00:00:00.000001'"]),
    ("char(5)", &["'ab'", "''"]),
    ("varchar(20) character set utf8mb4", &["'Grüße 🦀'", "'a\\\\b'", "'it''s'"]),
    ("longtext character set utf8mb4", &["repeat('ä', 70000)"]),
    ("enum('no', 'yes')", &["'yes'"]),
    ("set('a', 'b')", &["'a,b'", "''"]),
    ("json", &["'{\"a\": [1, 2]}'"]),
    ("varbinary(9)", &["X'00ff27'", "''"]),
    ("binary(3)", &["X'00ff'"]),
    ("blob", &["X'00ff275c'"]),
    ("inet6", &["'::1'"]),
    ("uuid", &["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_type_go_both_ways() -> Result<()> {
    let _turn = TURN.lock().await;
    let server = MariaDb::start()?;
    server.execute(&["CREATE DATABASE written"]).await?;
    let mut session = server.connect().await?;
    let mut trials = Trial::both("mysql", &server.properties()).await?;
    for (place, (type_name, values)) in TYPES.iter().enumerate() {
        for table in ["source", "target"] {
            let make = format!(
                "CREATE TABLE written.{table}{place} (id int NOT NULL PRIMARY KEY, v {type_name})"
            );
            server.execute(&[&make]).await?;
        }
        let rows: Vec<String> =
            values.iter().enumerate().map(|(id, value)| format!("({id}, {value})")).collect();
        let fill =
            format!("INSERT INTO written.source{place} VALUES {}, (100, NULL)", rows.join(", "));
        server
            .execute(&["SET NAMES utf8mb4", &fill])
            .await
            .with_context(|| (*type_name).to_owned())?;
        for trial in &mut trials {
            server.execute(&[&format!("TRUNCATE written.target{place}")]).await?;
            let insert = format!(
                "INSERT INTO there.written.target{place} SELECT * FROM there.written.source{place}"
            );
            let n_rows = trial.change(&insert).await?;
            ensure!(n_rows == u64::try_from(values.len() + 1)?, "{type_name}: {n_rows}");
            let sums = format!("CHECKSUM TABLE written.source{place}, written.target{place}");
            let sums: Vec<(String, Option<i64>)> = session.query(sums).await?;
            ensure!(sums[0].1 == sums[1].1, "{type_name}: {sums:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_makes_a_table_of_its_types() -> Result<()> {
    let _turn = TURN.lock().await;
    let server = MariaDb::start()?;
    server
        .execute(&[
            "CREATE DATABASE written",
            "CREATE TABLE written.source (a tinyint, b bigint unsigned, c float, d double, e decimal(20,4), f longtext, \
             g longblob, h bit(1), i date, j datetime(6), k time(6))",
            "INSERT INTO written.source VALUES (-1, 18446744073709551615, 1.5, 0.1, -1.5, 'it''s', X'00ff', 1, '2024-02-29', \
             '1969-12-31 23:59:59.999999', '-838:59:59'), (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        ])
        .await?;
    let mut session = server.connect().await?;
    for mut trial in Trial::both("mysql", &server.properties()).await? {
        let make = "CREATE TABLE there.written.copy AS SELECT * FROM there.written.source";
        ensure!(trial.change(make).await? == 2);
        trial
            .same("SELECT * FROM there.written.source", "SELECT * FROM there.written.copy")
            .await?;
        trial.fails(make, "TABLE_ALREADY_EXISTS", &["copy"]).await?;
        trial.change("DROP TABLE there.written.copy").await?;
        trial.fails("DROP TABLE there.written.copy", "TABLE_NOT_FOUND", &["copy"]).await?;
        trial
            .fails("CREATE TABLE there.nowhere.t (id INT)", "SCHEMA_NOT_FOUND", &["nowhere"])
            .await?;
        let nan = "CREATE TABLE there.written.copy AS SELECT CAST('NaN' AS DOUBLE) AS x";
        trial.fails(nan, "ROWS_REFUSED", &["\"x\"", "NaN"]).await?;
        // Neither the table nor what it was to become is left.
        for _ in 0..100 {
            let left: Vec<String> =
                session.query("SHOW TABLES FROM written LIKE 'meshwork%'").await?;
            if left.is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let left: Vec<String> = session.query("SHOW TABLES FROM written").await?;
        ensure!(left == ["source"], "{left:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_fit_change_nothing() -> Result<()> {
    let _turn = TURN.lock().await;
    let server = MariaDb::start()?;
    server
        .execute(&[
            "CREATE DATABASE written",
            "CREATE TABLE written.t (id int NOT NULL PRIMARY KEY, n decimal(5,2), s varchar(3) character set utf8mb4, \
             e enum('a', 'b'), d datetime, j json, x double, z int NOT NULL DEFAULT 7, k int CHECK (k > 0), \
             g int GENERATED ALWAYS AS (k * 2) STORED) ENGINE = InnoDB",
            "INSERT INTO written.t (id) VALUES (0)",
            "CREATE TABLE written.loose (id int) ENGINE = MyISAM",
            "CREATE VIEW written.seen AS SELECT id FROM written.t",
        ])
        .await?;
    let mut session = server.connect().await?;
    for mut trial in Trial::both("mysql", &server.properties()).await? {
        let t = "INSERT INTO there.written.t";
        for (sql, code, said) in [
            (format!("{t} (id) VALUES (NULL)"), "ROWS_REFUSED", "'id'"),
            (format!("{t} (id) VALUES (1), (0)"), "ROWS_REFUSED", "PRIMARY"),
            (format!("{t} (id, s) VALUES (1, 'a'), (2, 'abcd')"), "ROWS_REFUSED", "'s'"),
            (format!("{t} (id, e) VALUES (1, 'c')"), "ROWS_REFUSED", "'e'"),
            (format!("{t} (id, d) VALUES (1, TIMESTAMP '10000-01-01')"), "INVALID_CAST", ""),
            (format!("{t} (id, j) VALUES (1, 'no json')"), "ROWS_REFUSED", "j"),
            (format!("{t} (id, x) VALUES (1, CAST('inf' AS DOUBLE))"), "ROWS_REFUSED", "\"x\""),
            (format!("{t} (id, z) VALUES (1, NULL)"), "ROWS_REFUSED", "'z'"),
            (format!("{t} (id, k) VALUES (1, 0)"), "ROWS_REFUSED", "k"),
            (format!("{t} (id, g) VALUES (1, 0)"), "ROWS_REFUSED", "g"),
            (format!("{t} (id) VALUES (99999999999)"), "INVALID_CAST", ""),
            (
                format!(
                    "{t} (id) SELECT CASE WHEN n < 999 THEN n + 10 ELSE 0 END FROM (SELECT unnest(range(1, 1000)) AS n) r"
                ),
                "ROWS_REFUSED",
                "PRIMARY",
            ),
            ("INSERT INTO there.written.loose VALUES (1)".to_owned(), "NOT_SUPPORTED", "MyISAM"),
            ("DELETE FROM there.written.loose".to_owned(), "NOT_SUPPORTED", "MyISAM"),
            ("INSERT INTO there.written.seen VALUES (1)".to_owned(), "NOT_SUPPORTED", "view"),
            (
                "INSERT INTO sealed.written.t (id) VALUES (1)".to_owned(),
                "CATALOG_READ_ONLY",
                "writable",
            ),
            (
                "CREATE TABLE sealed.written.x AS SELECT 1 AS a".to_owned(),
                "CATALOG_READ_ONLY",
                "writable",
            ),
            ("DROP TABLE sealed.written.t".to_owned(), "CATALOG_READ_ONLY", "writable"),
            ("UPDATE sealed.written.t SET id = 1".to_owned(), "CATALOG_READ_ONLY", "writable"),
        ] {
            trial.fails(&sql, code, &[said]).await?;
        }
        let n_rows: Option<i64> = session.query_first("SELECT count(*) FROM written.t").await?;
        ensure!(n_rows == Some(1), "{n_rows:?}");
        trial.change("INSERT INTO there.written.t (id, k) VALUES (7, 3)").await?;
        let row: Option<(i64, i64, i64)> =
            session.query_first("SELECT z, k, g FROM written.t WHERE id = 7").await?;
        ensure!(row == Some((7, 3, 6)), "{row:?}");
        server.execute(&["DELETE FROM written.t WHERE id > 0"]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_changed_by_the_source_or_not_at_all() -> Result<()> {
    let _turn = TURN.lock().await;
    let server = MariaDb::start()?;
    server
        .execute(&[
            "CREATE DATABASE written",
            "CREATE TABLE written.t (id int, s varchar(20) character set utf8mb4, n decimal(10,2), d date, o bit(1), u bigint unsigned)",
        ])
        .await?;
    for mut trial in Trial::both("mysql", &server.properties()).await? {
        server.execute(&["TRUNCATE written.t"]).await?;
        trial
            .change("INSERT INTO there.written.t SELECT CAST(n AS INT), concat('name ', CAST(n AS VARCHAR)), n * 1.25, DATE '2024-01-01', true, CAST(n AS BIGINT UNSIGNED) FROM (SELECT unnest(range(1, 11)) AS n) r")
            .await?;
        let t = "there.written.t";
        for (sql, n_rows) in [
            (format!("DELETE FROM {t} WHERE id = 1"), 1),
            (format!("DELETE FROM {t} WHERE n < 3 OR id IN (3, 4)"), 3),
            (
                format!(
                    "UPDATE {t} SET s = 'it''s \\ ?:x', n = 7.5, d = DATE '2000-02-29', o = false WHERE id = 5"
                ),
                1,
            ),
            (format!("UPDATE {t} SET s = NULL, u = 18446744073709551615 WHERE id = 6"), 1),
            // Found, though nothing changes.
            (format!("UPDATE {t} SET s = NULL WHERE id = 6"), 1),
        ] {
            ensure!(trial.change(&sql).await? == n_rows, "{sql}");
        }
        trial
            .same(
                "SELECT id, s, CAST(n AS VARCHAR), CAST(d AS VARCHAR), o, CAST(u AS VARCHAR) FROM there.written.t WHERE id < 8",
                "SELECT CAST(a AS INT), b, c, d, e, f FROM (VALUES (5, 'it''s \\ ?:x', '7.50', '2000-02-29', false, '5'), \
                 (6, NULL, '7.50', '2024-01-01', true, '18446744073709551615'), \
                 (7, 'name 7', '8.75', '2024-01-01', true, '7')) AS v (a, b, c, d, e, f)",
            )
            .await?;
        for (sql, code, said) in [
            (format!("DELETE FROM {t} WHERE d > DATE '2024-01-01'"), "CHANGE_REFUSED", "SUPERSET"),
            (format!("DELETE FROM {t} WHERE s LIKE '_a'"), "CHANGE_REFUSED", "PATTERN"),
            (format!("UPDATE {t} SET n = n * 2"), "CHANGE_REFUSED", "EXPRESSION"),
        ] {
            trial.fails(&sql, code, &[said]).await?;
        }
        ensure!(trial.change(&format!("DELETE FROM {t}")).await? == 6);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_in_the_words_of_the_server_is_a_table() -> Result<()> {
    let _turn = TURN.lock().await;
    let server = MariaDb::start()?;
    server
        .execute(&[
            "CREATE DATABASE written",
            "CREATE TABLE written.t (id int, s varchar(20), n decimal(10,2), u bigint unsigned, d datetime(6), y varbinary(3))",
            "INSERT INTO written.t VALUES (1, 'a', 1.5, 18446744073709551615, '2024-01-01 00:00:00.5', X'00ff'), (2, 'b', 2.5, 2, NULL, NULL)",
        ])
        .await?;
    for mut trial in Trial::both("mysql", &server.properties()).await? {
        let query = "SELECT s, sum(n) AS total, count(*) AS many, max(u) AS u, max(d) AS d, max(y) AS y \
                     FROM written.t GROUP BY s -- its end";
        let table = format!("TABLE(there.system.query(query => '{query}'))");
        let direct =
            "SELECT s, sum(n), count(*), max(u), max(d), max(y) FROM there.written.t GROUP BY s";
        let cast = |total: &str, u: &str| format!("CAST({total} AS VARCHAR), CAST({u} AS VARCHAR)");
        trial
            .same(
                &format!(
                    "SELECT s, {}, many, d, y FROM {table} AS q WHERE many > 0",
                    cast("total", "u")
                ),
                &format!(
                    "SELECT s, {}, c, d, y FROM ({direct}) AS q (s, total, c, u, d, y)",
                    cast("total", "u")
                ),
            )
            .await?;
        for (wrong, code) in [
            ("SELECT 1 AS a, 2 AS A", "INVALID_QUERY"),
            ("SELECT nothing FROM written.t", "SOURCE_QUERY_FAILED"),
            ("DELETE FROM written.t", "SOURCE_QUERY_FAILED"),
            ("DELETE FROM written.t RETURNING id", "SOURCE_QUERY_FAILED"),
            ("SELECT 1 AS a; DELETE FROM written.t", "SOURCE_QUERY_FAILED"),
            ("SELECT 1) AS q, (SELECT 2 AS b", "SOURCE_QUERY_FAILED"),
            ("SELECT ? AS a", "INVALID_QUERY"),
            ("SELECT ''\\'' AS a", "NOT_SUPPORTED"),
        ] {
            let sql = format!("SELECT * FROM TABLE(there.system.query(query => '{wrong}'))");
            trial.fails(&sql, code, &[]).await?;
        }
        trial.same("SELECT count(*) FROM there.written.t", "SELECT CAST(2 AS BIGINT)").await?;
    }
    Ok(())
}
