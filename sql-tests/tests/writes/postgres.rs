//! PostgreSQL: every type both ways, refusals, changes in place.

use anyhow::{Result, ensure};
use meshwork_sql_tests::servers::Postgres;

use crate::TURN;
use crate::trial::Trial;

/// A column of each type, with values that are easily lost.
const TYPES: &[(&str, &[&str])] = &[
    ("int2", &["-32768", "32767"]),
    ("int", &["-2147483648", "2147483647"]),
    ("int8", &["-9223372036854775808", "9223372036854775807"]),
    ("oid", &["4294967295", "0"]),
    ("float4", &["'NaN'", "'-Infinity'", "'-3.4028235e38'"]),
    ("float8", &["'NaN'", "'Infinity'", "'-1.7976931348623157e308'", "0.1", "'-0'"]),
    ("bool", &["true", "false"]),
    ("text", &["''", "'Grüße 🦀'", "E'tab\\tnew\\nline\\\\'"]),
    ("varchar(9)", &["'abc  '", "'äöüäöüäöü'"]),
    ("char(5)", &["'ab'", "''"]),
    ("numeric(12,3)", &["-123.45", "999999999.999", "0", "0.001"]),
    ("numeric(5,-2)", &["12300", "-9999900"]),
    ("numeric(3,5)", &["0.00123"]),
    (
        "numeric(38,38)",
        &["0.00000000000000000000000000000000000001", "0.99999999999999999999999999999999999999"],
    ),
    ("numeric(60,10)", &["12345678901234567890123456789012345678901234567890.0123456789", "-1"]),
    ("numeric", &["1.1234567890123456789012345", "'NaN'", "'Infinity'", "1e100"]),
    ("date", &["'0044-03-15 BC'", "'9999-12-31'", "'5874897-12-31'"]),
    ("time", &["'23:59:59.999999'", "'00:00'"]),
    ("timestamp", &["'1969-12-31 23:59:59.999999'", "'4713-11-24 00:00:00 BC'"]),
    ("timestamptz", &["'9999-12-31 23:59:59.5+00'", "'0001-01-01 00:00+00'"]),
    ("interval", &["'1 year 2 months -3 days 04:05:06.789'"]),
    ("uuid", &["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"]),
    ("json", &["'{\"a\":   1}'"]),
    ("jsonb", &["'{\"b\": [1, 2]}'", "'null'"]),
    ("bytea", &["decode('00ff27', 'hex')", "''"]),
    ("int[]", &["'{1,NULL,3}'", "'{}'"]),
    ("text[]", &["ARRAY['a','b\"c',NULL]"]),
    ("varchar(3)[]", &["'{ab,abc}'"]),
    ("numeric(6,2)[]", &["'{1.50,-2.25}'"]),
    ("numeric[]", &["'{1.5,NULL,1e30}'"]),
    ("timestamptz[]", &["ARRAY[timestamptz '2024-03-10 05:00+00']"]),
    ("uuid[]", &["ARRAY['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, NULL]"]),
    ("mood", &["'ok'"]),
    ("mood[]", &["'{ok,sad}'"]),
    ("positive", &["7.5"]),
    ("pair", &["ROW(1, 'x y')"]),
    ("inet", &["'10.0.0.1/8'"]),
    ("int4range", &["'[1,5)'"]),
    ("money", &["12.34"]),
    ("timetz", &["'12:00:00-05'"]),
    ("xml", &["'<a/>'"]),
    ("bit(3)", &["b'101'"]),
    ("varbit(5)", &["b'1'"]),
    ("point", &["'(1,2)'"]),
    ("tsvector", &["'cat rat'"]),
];

const SCHEMA: &[&str] = &[
    "CREATE SCHEMA written",
    "CREATE TYPE mood AS ENUM ('sad', 'ok')",
    "CREATE TYPE pair AS (a int, b text)",
    "CREATE DOMAIN positive AS numeric(8,2) CHECK (value > 0)",
];

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_type_go_both_ways() -> Result<()> {
    let _turn = TURN.lock().await;
    let server = Postgres::start()?;
    server.execute(SCHEMA).await?;
    let session = server.connect().await?;
    let mut trials = Trial::both("postgres", &server.properties()).await?;
    for (place, (type_name, values)) in TYPES.iter().enumerate() {
        let columns = format!("id int NOT NULL, v {type_name}");
        for table in ["source", "target"] {
            let statement = format!(
                "DROP TABLE IF EXISTS written.{table}{place}; CREATE TABLE written.{table}{place} ({columns})"
            );
            server.execute(&[&statement]).await?;
        }
        let rows: Vec<String> =
            values.iter().enumerate().map(|(id, value)| format!("({id}, {value})")).collect();
        let fill =
            format!("INSERT INTO written.source{place} VALUES {}, (100, NULL)", rows.join(", "));
        server.execute(&[&fill]).await?;
        for trial in &mut trials {
            let empty = format!("TRUNCATE written.target{place}");
            server.execute(&[&empty]).await?;
            let insert = format!(
                "INSERT INTO there.written.target{place} SELECT * FROM there.written.source{place}"
            );
            let n_rows = trial.change(&insert).await?;
            ensure!(n_rows == u64::try_from(values.len() + 1)?, "{type_name}: {n_rows}");
            // The server's own words for every value, as not every type can be compared.
            let different = format!(
                "SELECT count(*) FROM written.source{place} s FULL JOIN written.target{place} t USING (id) \
                 WHERE s.v::text IS DISTINCT FROM t.v::text OR s.id IS NULL OR t.id IS NULL"
            );
            let n_different: i64 = session.client.query_one(&different, &[]).await?.get(0);
            ensure!(n_different == 0, "{type_name}: {n_different} values are others");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_makes_a_table_of_its_types() -> Result<()> {
    let _turn = TURN.lock().await;
    let server = Postgres::start()?;
    server
        .execute(&[
            "CREATE SCHEMA written",
            "CREATE TABLE written.source (i int2, b int8, f float4, d float8, n numeric(20,4), w numeric(60,2), t text, \
             y bytea, o bool, day date, clock time, moment timestamp, point timestamptz, span interval, a int[], \
             texts text[], moments timestamptz[])",
            "INSERT INTO written.source VALUES (-1, 9223372036854775807, 1.5, 0.1, 1.5, 1e50, 'ä''\"', decode('00ff', 'hex'), true, \
             '0044-03-15 BC', '23:59:59.999999', '1969-12-31 23:59:59.999999', '2024-03-10 05:00+00', '1 mon -3 days', \
             '{1,NULL}', '{a,b}', '{}')",
            "INSERT INTO written.source (i) SELECT NULL FROM generate_series(1, 3)",
        ])
        .await?;
    for mut trial in Trial::both("postgres", &server.properties()).await? {
        trial.change("DROP TABLE IF EXISTS there.written.copy").await?;
        let make = "CREATE TABLE there.written.copy AS SELECT * FROM there.written.source";
        ensure!(trial.change(make).await? == 4);
        trial
            .same("SELECT * FROM there.written.source", "SELECT * FROM there.written.copy")
            .await?;
        trial.fails(make, "TABLE_ALREADY_EXISTS", &["copy"]).await?;
        let again = make.replace("TABLE there", "TABLE IF NOT EXISTS there");
        ensure!(trial.change(&again).await? == 0);
        trial.change("DROP TABLE there.written.copy").await?;
        trial.fails("DROP TABLE there.written.copy", "TABLE_NOT_FOUND", &["copy"]).await?;
        // What the engine has and the server has not finds the next that holds all of it.
        let odd = "CREATE TABLE there.written.copy AS SELECT CAST(200 AS TINYINT UNSIGNED) AS a, \
                   CAST(18446744073709551615 AS BIGINT UNSIGNED) AS b, TIMESTAMP '2024-01-01 00:00:00.5' AS c, NULL AS d";
        ensure!(trial.change(odd).await? == 1);
        trial
            .same(
                "SELECT CAST(a AS VARCHAR), CAST(b AS VARCHAR), CAST(c AS VARCHAR), d FROM there.written.copy",
                "SELECT '200', '18446744073709551615', '2024-01-01T00:00:00.500', CAST(NULL AS VARCHAR)",
            )
            .await?;
        trial.change("DROP TABLE there.written.copy").await?;
        trial.change("CREATE TABLE there.written.copy (id BIGINT NOT NULL, note VARCHAR)").await?;
        trial.change("INSERT INTO there.written.copy (id) VALUES (1)").await?;
        trial
            .same(
                "SELECT id, note FROM there.written.copy",
                "SELECT CAST(1 AS BIGINT), CAST(NULL AS VARCHAR)",
            )
            .await?;
        trial.change("DROP TABLE there.written.copy").await?;
        let list = "CREATE TABLE there.written.copy AS SELECT struct(1, 2) AS s";
        trial.fails(list, "NOT_SUPPORTED", &["\"s\""]).await?;
        trial
            .fails("CREATE TABLE there.nowhere.t (id INT)", "SCHEMA_NOT_FOUND", &["nowhere"])
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_fit_change_nothing() -> Result<()> {
    let _turn = TURN.lock().await;
    let server = Postgres::start()?;
    server
        .execute(&[
            "CREATE SCHEMA written",
            "CREATE TABLE written.strict (id int PRIMARY KEY, n numeric(5,2), s varchar(3), c char(2), b bit(3), \
             u uuid, o oid, d date DEFAULT '2020-01-01', k int CHECK (k > 0), g int GENERATED ALWAYS AS (k * 2) STORED, \
             z serial)",
            "INSERT INTO written.strict (id) VALUES (0)",
            "CREATE VIEW written.seen AS SELECT id, s, k FROM written.strict WHERE id < 100 WITH CHECK OPTION",
            "CREATE TABLE written.made (id int GENERATED ALWAYS AS IDENTITY, v text)",
            "CREATE TABLE written.late (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)",
        ])
        .await?;
    let session = server.connect().await?;
    for mut trial in Trial::both("postgres", &server.properties()).await? {
        let strict = "INSERT INTO there.written.strict";
        for (sql, code, said) in [
            (format!("{strict} (id) VALUES (NULL)"), "ROWS_REFUSED", "\"id\""),
            (format!("{strict} (id) VALUES (1), (0)"), "ROWS_REFUSED", "strict_pkey"),
            (
                format!("{strict} (id, s) VALUES (1, 'a'), (2, 'abcd')"),
                "ROWS_REFUSED",
                "character varying(3)",
            ),
            (format!("{strict} (id, c) VALUES (1, 'abc')"), "ROWS_REFUSED", "character(2)"),
            (format!("{strict} (id, b) VALUES (1, '1010')"), "ROWS_REFUSED", "bit(3)"),
            (format!("{strict} (id, u) VALUES (1, 'none')"), "ROWS_REFUSED", "\"u\""),
            (format!("{strict} (id, o) VALUES (1, -1)"), "ROWS_REFUSED", "\"o\""),
            (format!("{strict} (id, k) VALUES (1, 0)"), "ROWS_REFUSED", "strict_k_check"),
            (format!("{strict} (id, n) VALUES (1, 12345.678)"), "NUMERIC_OVERFLOW", ""),
            (format!("{strict} (id) VALUES (99999999999)"), "INVALID_CAST", ""),
            (format!("{strict} (id, g) VALUES (1, 1)"), "ROWS_REFUSED", "\"g\""),
            (
                "INSERT INTO there.written.seen VALUES (100, 'a', 1)".to_owned(),
                "ROWS_REFUSED",
                "check option",
            ),
            ("INSERT INTO there.written.made VALUES (1, 'a')".to_owned(), "ROWS_REFUSED", "\"id\""),
            (
                "INSERT INTO there.written.late VALUES (1), (1)".to_owned(),
                "ROWS_REFUSED",
                "late_pkey",
            ),
            (
                "INSERT INTO sealed.written.late VALUES (1)".to_owned(),
                "CATALOG_READ_ONLY",
                "writable",
            ),
            (
                "CREATE TABLE sealed.written.t AS SELECT 1 AS a".to_owned(),
                "CATALOG_READ_ONLY",
                "writable",
            ),
            ("CREATE TABLE sealed.written.t (id INT)".to_owned(), "CATALOG_READ_ONLY", "writable"),
            ("DROP TABLE sealed.written.late".to_owned(), "CATALOG_READ_ONLY", "writable"),
            ("CREATE SCHEMA sealed.t".to_owned(), "CATALOG_READ_ONLY", "writable"),
            ("DELETE FROM sealed.written.late".to_owned(), "CATALOG_READ_ONLY", "writable"),
            ("DROP TABLE there.written.seen".to_owned(), "DROP_REFUSED", "seen"),
            ("DROP TABLE there.written.strict".to_owned(), "DROP_REFUSED", "strict"),
            ("INSERT INTO there.system.query VALUES (1)".to_owned(), "SCHEMA_NOT_FOUND", "system"),
        ] {
            trial.fails(&sql, code, &[said]).await?;
        }
        let counts = "SELECT (SELECT count(*) FROM written.strict), (SELECT count(*) FROM written.late), \
                      (SELECT count(*) FROM written.made)";
        let row = session.client.query_one(counts, &[]).await?;
        let counts: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
        ensure!(counts == [1, 0, 0], "{counts:?}");

        // What is not named is the server's to fill; a view and an identity take rows as INSERT gives them.
        trial.change("INSERT INTO there.written.strict (id, k) VALUES (7, 3)").await?;
        trial.change("INSERT INTO there.written.seen VALUES (8, 'abc', 4)").await?;
        trial
            .change("INSERT INTO there.written.made (v) SELECT s FROM there.written.strict")
            .await?;
        let filled = "SELECT string_agg(concat_ws('/', id, d, k, g, z > 0, s), ', ' ORDER BY id) FROM written.strict WHERE id > 0";
        let filled: String = session.client.query_one(filled, &[]).await?.get(0);
        ensure!(filled == "7/01/01/2020/3/6/t, 8/01/01/2020/4/8/t/abc", "{filled}");
        server
            .execute(&["DELETE FROM written.strict WHERE id > 0", "TRUNCATE written.made"])
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_changed_by_the_source_or_not_at_all() -> Result<()> {
    let _turn = TURN.lock().await;
    let server = Postgres::start()?;
    let fill = "INSERT INTO written.t SELECT n, 'name ' || n, n * 1.25, n::float8, DATE '2024-01-01' + n, n::text \
                FROM generate_series(1, 10) n";
    server
        .execute(&[
            "CREATE SCHEMA written",
            "CREATE TABLE written.t (id int, s text, n numeric(10,2), f float8, d date, c char(5))",
        ])
        .await?;
    for mut trial in Trial::both("postgres", &server.properties()).await? {
        server.execute(&["TRUNCATE written.t", fill]).await?;
        trial.change("CREATE SCHEMA IF NOT EXISTS lake.web").await?;
        trial
            .change("CREATE TABLE IF NOT EXISTS lake.web.bound AS SELECT CAST(3 AS INT) AS least")
            .await?;
        let t = "there.written.t";
        for (sql, n_rows) in [
            (format!("DELETE FROM {t} WHERE id = 1"), 1),
            (format!("DELETE FROM {t} WHERE id < (SELECT max(least) FROM lake.web.bound)"), 1),
            (format!("DELETE FROM {t} WHERE id > 5 AND id < 3"), 0),
            (format!("DELETE FROM {t} WHERE s IN ('name 3', 'it''s') OR s LIKE 'name 4%'"), 2),
            (
                format!(
                    "UPDATE {t} SET s = 'it''s \\ \"', n = 7.5, f = NULL WHERE d = DATE '2024-01-06'"
                ),
                1,
            ),
            (format!("UPDATE {t} AS x SET s = NULL WHERE x.id BETWEEN 6 AND 7"), 2),
            (format!("UPDATE {t} SET d = DATE '2000-02-29', c = 'abc' WHERE id = 8"), 1),
            (format!("UPDATE {t} SET id = id WHERE id = 9"), 1),
        ] {
            ensure!(trial.change(&sql).await? == n_rows, "{sql}");
        }
        trial
            .same(
                "SELECT id, s, CAST(n AS VARCHAR), f, CAST(d AS VARCHAR), c FROM there.written.t",
                "SELECT CAST(a AS INT), b, c, CAST(d AS DOUBLE), e, f FROM (VALUES \
                 (5, 'it''s \\ \"', '7.50', NULL, '2024-01-06', '5'), (6, NULL, '7.50', 6, '2024-01-07', '6'), \
                 (7, NULL, '8.75', 7, '2024-01-08', '7'), (8, 'name 8', '10.00', 8, '2000-02-29', 'abc'), \
                 (9, 'name 9', '11.25', 9, '2024-01-10', '9'), (10, 'name 10', '12.50', 10, '2024-01-11', '10')) AS v (a, b, c, d, e, f)",
            )
            .await?;
        for (sql, code, said) in [
            (format!("DELETE FROM {t} WHERE upper(s) = 'A'"), "CHANGE_REFUSED", "FUNCTION"),
            (format!("DELETE FROM {t} WHERE f = 1.5"), "CHANGE_REFUSED", "SUPERSET"),
            (format!("DELETE FROM {t} WHERE c = 'abc'"), "CHANGE_REFUSED", "SUPERSET"),
            (format!("DELETE FROM {t} WHERE s LIKE '_a'"), "CHANGE_REFUSED", "PATTERN"),
            (format!("DELETE FROM {t} WHERE id = 5 AND n > f"), "CHANGE_REFUSED", "CAST"),
            (format!("UPDATE {t} SET n = n + 1 WHERE id = 5"), "CHANGE_REFUSED", "EXPRESSION"),
            (format!("UPDATE {t} SET s = lower(s)"), "CHANGE_REFUSED", "FUNCTION"),
            (format!("UPDATE {t} SET s = c"), "CHANGE_REFUSED", "COLUMNS"),
            (format!("UPDATE {t} SET c = 'abcdef' WHERE id = 5"), "ROWS_REFUSED", "character(5)"),
            (format!("UPDATE {t} SET id = 1, id = 2"), "DUPLICATE_COLUMN", "id"),
            (format!("UPDATE {t} SET nothing = 1"), "COLUMN_NOT_FOUND", "nothing"),
            (
                format!("DELETE FROM {t} WHERE id IN (SELECT least FROM lake.web.bound)"),
                "NOT_SUPPORTED",
                "Join",
            ),
            (format!("EXPLAIN DELETE FROM {t}"), "NOT_SUPPORTED", "EXPLAIN"),
            ("DELETE FROM lake.web.bound".to_owned(), "NOT_SUPPORTED", "bound"),
        ] {
            trial.fails(&sql, code, &[said]).await?;
        }
        ensure!(trial.change(&format!("DELETE FROM {t}")).await? == 6);
    }
    Ok(())
}
