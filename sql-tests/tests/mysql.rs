//! The mysql connector against a real MariaDB, started here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use meshwork_engine::connector::TableKind;
use meshwork_engine::environment;
use meshwork_sql_tests::servers::{MariaDb, free_port};
use meshwork_sql_tests::source::{
    Source, assert_lines, conditions_on_text, failure, nasty_texts, squeeze,
};
use mysql_async::prelude::Queryable;

/// How long the server may go on with a statement that nobody waits for.
const CANCEL_DEADLINE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn every_type_arrives_as_itself() -> Result<()> {
    let server = database(
        "types",
        &[
            "CREATE TABLE types.numbers (
                id int PRIMARY KEY, t1 tinyint, flag tinyint(1), tu tinyint unsigned,
                s smallint, su smallint unsigned, m mediumint, mu mediumint unsigned,
                i int, iu int unsigned, b bigint, bu bigint unsigned, z int(5) zerofill,
                d decimal(10,2), w decimal(65,30), f float, g double, bit1 bit(1), bit9 bit(9))",
            "INSERT INTO types.numbers VALUES
                (1, -128, 1, 255, -32768, 65535, -8388608, 16777215, -2147483648, 4294967295,
                 -9223372036854775808, 18446744073709551615, 42, -12345678.90,
                 -12345678901234567890123456789012345.000000000000000000000000000001,
                 1.5, -1.7976931348623157e308, b'1', b'100000001'),
                (2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'0', b'0')",
            "INSERT INTO types.numbers (id) VALUES (3)",
            "CREATE TABLE types.moments (
                id int PRIMARY KEY, d date, dt datetime(6), dt0 datetime, ts timestamp(6) NULL,
                t time(6), y year)",
            "SET time_zone = '+00:00'",
            "INSERT INTO types.moments VALUES
                (1, '1000-01-01', '9999-12-31 23:59:59.999999', '2024-02-29 12:00:00',
                 '1970-01-01 00:00:01.000001', '-838:59:59', 1901),
                (2, '2024-06-30', '1969-12-31 23:59:59.999999', '0001-01-01 00:00:00',
                 '2038-01-19 03:14:07', '00:00:00.5', 2155),
                (3, NULL, NULL, NULL, NULL, NULL, NULL)",
            "CREATE TABLE types.letters (
                id int PRIMARY KEY, c char(5), v varchar(20) CHARACTER SET utf8mb4, x text,
                l varchar(5) CHARACTER SET latin1, b binary(3), vb varbinary(5), bl blob,
                e enum('small','large'), s set('a','b','c'), j json, u uuid, ip inet6, p point)
                CHARACTER SET utf8mb4",
            "INSERT INTO types.letters VALUES
                (1, 'ab', 'héllo 🦀', 'line\\nbreak', 'é', 'a', x'00ff', x'27', 'large', 'a,c',
                 '{\"k\": [1, null]}', '123e4567-e89b-12d3-a456-426655440000', '::1', POINT(1, 2)),
                (2, '', '', '', '', '', '', '', 'small', '', '[]', NULL, NULL, NULL)",
            "INSERT INTO types.letters (id) VALUES (3)",
        ],
    )
    .await?;
    let source = source(&server, &[])?;
    let numbers = source.text("types", "numbers", "SELECT * FROM t ORDER BY id").await?;
    assert_lines(
        &numbers,
        &[
            "| 1 | -128 | 1 | 255 | -32768 | 65535 | -8388608 | 16777215 | -2147483648 | 4294967295 \
             | -9223372036854775808 | 18446744073709551615 | 42 | -12345678.90 \
             | -12345678901234567890123456789012345.000000000000000000000000000001 \
             | 1.5 | -1.7976931348623157e308 | true | 0101 |",
            "| 2 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0.00 \
             | 0.000000000000000000000000000000 | 0.0 | 0.0 | false | 0000 |",
            "| 3 | | | | | | | | | | | | | | | | | | |",
        ],
    );
    let moments = source.text("types", "moments", "SELECT * FROM t ORDER BY id").await?;
    assert_lines(
        &moments,
        &[
            "| 1 | 1000-01-01 | 9999-12-31T23:59:59.999999 | 2024-02-29T12:00:00 \
             | 1970-01-01T00:00:01.000001Z | -PT3020399S | 1901 |",
            "| 2 | 2024-06-30 | 1969-12-31T23:59:59.999999 | 0001-01-01T00:00:00 \
             | 2038-01-19T03:14:07Z | PT0.5S | 2155 |",
            "| 3 | | | | | | |",
        ],
    );
    let letters = source.text("types", "letters", "SELECT * FROM t ORDER BY id").await?;
    assert_lines(
        &letters,
        &[
            "| 1 | ab | héllo 🦀 | line",
            "| 2 | | | | | 000000 | | | small | | [] | | | |",
            "| 3 | | | | | | | | | | | | | |",
        ],
    );
    for part in
        ["| é | 610000 | 00ff | 27 | large | a,c | {\"k\": [1, null]} |", "| ::1", "0101000000"]
    {
        assert!(squeeze(&letters).contains(part), "{part}\n{letters}");
    }
    Ok(())
}

#[tokio::test]
async fn dates_that_no_calendar_has_follow_the_policy() -> Result<()> {
    let server = database(
        "zero",
        &[
            "CREATE TABLE zero.t (id int PRIMARY KEY, d date NOT NULL, dt datetime, ts timestamp NULL)",
            "SET sql_mode = ''",
            "INSERT INTO zero.t VALUES (1, '0000-00-00', '0000-00-00', '0000-00-00'),
                (2, '2024-02-00', '2024-00-00 10:00:00', NULL),
                (3, '2024-02-01', '2024-01-01 10:00:00', '2024-01-01 10:00:00')",
        ],
    )
    .await?;
    let lenient = source(&server, &[])?;
    let rows = lenient.text("zero", "t", "SELECT id, d, dt FROM t ORDER BY id").await?;
    assert_lines(&rows, &["| 1 | | |", "| 2 | | |", "| 3 | 2024-02-01 | 2024-01-01T10:00:00 |"]);
    let conditions = [
        "d IS NULL",
        "d IS NOT NULL",
        "d < DATE '2024-12-31'",
        "d <> DATE '2024-02-01'",
        "NOT (d = DATE '2024-02-01')",
        "d IN (DATE '2024-02-01', DATE '1900-01-01')",
        "d NOT IN (DATE '1900-01-01')",
        "dt > TIMESTAMP '1700-01-01 00:00:00'",
        "dt IS NULL OR id = 3",
        "ts >= TIMESTAMP '2024-01-01 10:00:00Z'",
        "ts < TIMESTAMP '2099-01-01 10:00:00Z'",
        "d BETWEEN DATE '2024-01-01' AND DATE '2024-12-31'",
    ];
    let n_pushed = lenient.check_filters("zero", "t", &conditions.map(str::to_owned)).await?;
    ensure!(n_pushed >= 6, "only {n_pushed} were pushed");
    let strict = source(&server, &[("zero_dates", "error")])?;
    let error = failure(strict.rows("zero", "t", "SELECT * FROM t").await);
    assert_eq!(error.code, "SOURCE_VALUE_MISMATCH");
    assert!(error.message.contains("\"d\"") && error.message.contains("zero.t"), "{error}");
    // The server's IS NULL would find the zero date of a column that is NOT NULL.
    let nothing = strict.text("zero", "t", "SELECT count(*) FROM t WHERE d IS NULL").await?;
    assert_lines(&nothing, &["| 0 |"]);
    strict.rows("zero", "t", "SELECT d FROM t WHERE id = 3").await.map(drop)
}

#[tokio::test]
async fn filters_on_text_are_the_same_there_and_here() -> Result<()> {
    let server = database("nasty", &["SET sql_mode = 'NO_BACKSLASH_ESCAPES'"]).await?;
    let values = nasty_texts();
    let columns = [
        ("utf8mb4", "utf8mb4_general_ci", "varchar(50)"),
        ("utf8mb4", "utf8mb4_general_ci", "char(50)"),
        ("utf8mb4", "utf8mb4_bin", "text"),
        ("utf8mb4", "utf8mb4_bin", "char(50)"),
        ("utf8mb4", "utf8mb4_nopad_bin", "varchar(50)"),
        ("utf8mb4", "uca1400_as_cs", "varchar(50)"),
        ("utf8mb3", "utf8mb3_unicode_ci", "text"),
        ("latin1", "latin1_german2_ci", "varchar(50)"),
        ("sjis", "sjis_japanese_ci", "varchar(50)"),
    ];
    let source = source(&server, &[])?;
    let mut connection = server.connect().await?;
    connection.query_drop("SET NAMES utf8mb4, sql_mode = 'NO_BACKSLASH_ESCAPES'").await?;
    for (charset, collation, column) in columns {
        connection.query_drop("DROP TABLE IF EXISTS nasty.t").await?;
        connection
            .query_drop(format!(
                "CREATE TABLE nasty.t (id int PRIMARY KEY, s {column} CHARACTER SET {charset} \
                 COLLATE {collation}, KEY (s(10)))"
            ))
            .await?;
        for (id, value) in values.iter().enumerate() {
            // What the character set cannot hold becomes a question mark.
            connection.exec_drop("INSERT IGNORE INTO nasty.t VALUES (?, ?)", (id, value)).await?;
        }
        connection.query_drop("INSERT INTO nasty.t VALUES (1000, NULL)").await?;
        let n_pushed = source.check_filters("nasty", "t", &conditions_on_text("s")).await?;
        let readable = charset != "sjis";
        ensure!(!readable || n_pushed > 20, "{collation}: only {n_pushed} were pushed");
    }
    connection.disconnect().await?;
    Ok(())
}

#[tokio::test]
async fn filters_on_numbers_are_the_same_there_and_here() -> Result<()> {
    let server = database(
        "figures",
        &[
            "CREATE TABLE figures.t (id int PRIMARY KEY, i int, u bigint unsigned, b bigint,
                d decimal(20,4), w decimal(65,0), f float, g double, y year, bit1 bit(1),
                e enum('small','medium','large'), vb varbinary(10))",
            "INSERT INTO figures.t VALUES
                (1, -1, 0, -9223372036854775808, 0.0001, 1, 0.1, 0.1, 1901, b'1', 'small', 'a'),
                (2, 0, 9223372036854775808, 0, -0.0001, -1, 0, 0, 2000, b'0', 'medium', 'a '),
                (3, 1, 18446744073709551615, 9223372036854775807, 1234567890123456.7890,
                 99999999999999999999999999999999999999999999999999999999999999999, -0.1, 1e300,
                 2155, b'1', 'large', x'00'),
                (4, 2147483647, 1, 1, 1, 1, 1, -1e-300, 0, NULL, NULL, '')",
            "INSERT INTO figures.t (id, g) VALUES (5, -0.0), (6, NULL)",
        ],
    )
    .await?;
    let source = source(&server, &[])?;
    let columns: [(&str, &[&str]); 9] = [
        ("i", &["-1", "0", "2147483647", "2147483648", "0.5"]),
        ("u", &["0", "-1", "9223372036854775808", "18446744073709551615"]),
        ("b", &["-9223372036854775808", "9223372036854775807", "1"]),
        ("d", &["0.0001", "-0.0001", "1234567890123456.7890", "1", "0.00015"]),
        ("w", &["1", "-1"]),
        ("f", &["0.1", "0", "-0.1"]),
        ("g", &["0.1", "0.0", "-0.0", "1e300", "-1e-300"]),
        ("y", &["1901", "0", "1", "70", "2000", "2155"]),
        ("vb", &["X'61'", "X'6120'", "X'00'", "X''"]),
    ];
    let mut conditions = vec![
        "bit1".to_owned(),
        "NOT bit1".to_owned(),
        "e = 'medium'".to_owned(),
        "e < 'medium'".to_owned(),
        "e IS NULL".to_owned(),
        "i IS NOT NULL AND NOT (u IS NULL)".to_owned(),
        "i BETWEEN 0 AND 5 OR d NOT BETWEEN 0 AND 1".to_owned(),
    ];
    for (column, values) in columns {
        for value in values {
            for operator in ["=", "<>", "<", "<=", ">", ">="] {
                conditions.push(format!("{column} {operator} {value}"));
            }
            conditions.push(format!("{column} IN ({value})"));
            conditions.push(format!("{column} NOT IN ({value})"));
        }
    }
    let n_pushed = source.check_filters("figures", "t", &conditions).await?;
    ensure!(n_pushed > 100, "only {n_pushed} of {} were pushed", conditions.len());
    Ok(())
}

#[tokio::test]
async fn odd_names_wide_and_empty_tables_are_read() -> Result<()> {
    let wide: Vec<String> = (0..200).map(|n| format!("c{n} int")).collect();
    let server = database(
        "odd `name`; -- é",
        &[
            "CREATE TABLE `odd ``name``; -- é`.`Tab'le \"1\"` (
                `select` int, `a b` int, `per%cent` int, `back``tick` int, `ünï` int, `?` int)",
            "INSERT INTO `odd ``name``; -- é`.`Tab'le \"1\"` VALUES (1, 2, 3, 4, 5, 6)",
            &format!("CREATE TABLE `odd ``name``; -- é`.wide ({})", wide.join(", ")),
            "INSERT INTO `odd ``name``; -- é`.wide (c0, c199) VALUES (7, 8)",
            "CREATE TABLE `odd ``name``; -- é`.empty (id int, s text)",
            "CREATE VIEW `odd ``name``; -- é`.seen AS SELECT c0, c199 FROM `odd ``name``; -- é`.wide",
            "CREATE TABLE `odd ``name``; -- é`.gone (id int)",
            "CREATE VIEW `odd ``name``; -- é`.broken AS SELECT * FROM `odd ``name``; -- é`.gone",
            "DROP TABLE `odd ``name``; -- é`.gone",
        ],
    )
    .await?;
    let (source, schema) = (source(&server, &[])?, "odd `name`; -- é");
    ensure!(source.connector.schema_names().await?.contains(&schema.to_owned()));
    let tables = source.connector.tables(schema).await?;
    let names: Vec<_> = tables.iter().map(|entry| (entry.name.as_str(), entry.kind)).collect();
    assert_eq!(
        names,
        [
            ("Tab'le \"1\"", TableKind::Table),
            ("broken", TableKind::View),
            ("empty", TableKind::Table),
            ("seen", TableKind::View),
            ("wide", TableKind::Table),
        ]
    );
    let odd = "Tab'le \"1\"";
    let rows = source.text(schema, odd, "SELECT * FROM t WHERE \"back`tick\" = 4").await?;
    assert_lines(&rows, &["| 1 | 2 | 3 | 4 | 5 | 6 |"]);
    let rows = source.text(schema, odd, "SELECT \"?\", \"a b\" FROM t").await?;
    assert_lines(&rows, &["| 6 | 2 |"]);
    assert!(
        source.table(schema, "tab'le \"1\"").await.is_err(),
        "names are matched by their bytes"
    );
    assert_eq!(source.table(schema, "wide").await?.schema().fields().len(), 200);
    assert_lines(&source.text(schema, "wide", "SELECT c199, c0 FROM t").await?, &["| 8 | 7 |"]);
    assert_lines(&source.text(schema, "seen", "SELECT * FROM t").await?, &["| 7 | 8 |"]);
    assert_lines(
        &source.text(schema, "empty", "SELECT count(*), max(s) FROM t").await?,
        &["| 0 | |"],
    );
    let error = failure(source.rows(schema, "broken", "SELECT * FROM t").await);
    assert!(error.message.contains("broken"), "{error}");
    Ok(())
}

#[tokio::test]
async fn only_what_is_asked_for_is_read() -> Result<()> {
    let server = database(
        "asked",
        &[
            "CREATE TABLE asked.t (id int PRIMARY KEY, s varchar(10), d decimal(10,2))",
            "INSERT INTO asked.t SELECT seq, concat('s', seq % 7), seq / 4 FROM seq_1_to_1000",
        ],
    )
    .await?;
    let source = source(&server, &[])?;
    let checks = [
        ("SELECT count(*) FROM t", "SELECT count(*) FROM (SELECT 1 FROM `asked`.`t`) AS counted"),
        (
            "SELECT count(*) FROM t WHERE id > 500",
            "SELECT count(*) FROM (SELECT 1 FROM `asked`.`t` WHERE `id` > 500) AS counted",
        ),
        ("SELECT d FROM t LIMIT 3", "SELECT `d` FROM `asked`.`t` LIMIT 3"),
        (
            "SELECT id FROM t WHERE id < 9 AND s LIKE 's1%' LIMIT 3",
            "SELECT `id`, `s` FROM `asked`.`t` WHERE `id` < 9",
        ),
        (
            "SELECT id FROM t WHERE s = 's1' LIMIT 3",
            "SELECT `id`, `s` FROM `asked`.`t` WHERE `s` = 's1'",
        ),
    ];
    for (sql, remote) in checks {
        let plan = source.explain("asked", "t", sql).await?;
        let asked = plan.split("remote=").nth(1).context("no remote statement")?;
        assert_eq!(asked.trim(), remote, "{sql}");
    }
    let count = source.text("asked", "t", "SELECT count(*) FROM t WHERE id > 500").await?;
    assert_lines(&count, &["| 500 |"]);
    let limited = source.rows("asked", "t", "SELECT d FROM t LIMIT 250").await?;
    assert_eq!(limited.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 250);
    let sums = source.text("asked", "t", "SELECT sum(id), sum(d) FROM t WHERE s = 's1'").await?;
    assert_lines(&sums, &["| 71214 | 17803.50 |"]);
    Ok(())
}

#[tokio::test]
async fn a_dropped_stream_ends_its_statement() -> Result<()> {
    let server = database(
        "cancel",
        &[
            "CREATE VIEW cancel.long_rows AS SELECT seq AS n, repeat('x', 200) AS pad
                FROM seq_1_to_100000000",
            "CREATE VIEW cancel.slow AS SELECT sleep(60) AS slept",
        ],
    )
    .await?;
    let source = source(&server, &[("connections_max", "2")])?;
    for _ in 0..3 {
        let mut stream =
            source.plan("cancel", "long_rows", "SELECT * FROM t").await?.execute_stream().await?;
        let first = stream.next().await.context("no batch")??;
        assert!(first.num_rows() > 0);
        drop(stream);
        wait_until_idle(&server, "cancel").await?;
        let mut stream =
            source.plan("cancel", "slow", "SELECT * FROM t").await?.execute_stream().await?;
        let waiting = tokio::time::timeout(Duration::from_millis(300), stream.next()).await;
        assert!(waiting.is_err(), "the statement was to run on");
        drop(stream);
        wait_until_idle(&server, "cancel").await?;
    }
    // The budget of two connections is whole again.
    source.rows("cancel", "long_rows", "SELECT n FROM t LIMIT 1").await.map(drop)
}

#[tokio::test]
async fn failures_name_the_source_and_never_the_password() -> Result<()> {
    let server = database("down", &["CREATE TABLE down.t (id int)"]).await?;
    let wrong = source(&server, &[("password", "wr0ng-Passw0rd")])?;
    let error = wrong.connector.schema_names().await.unwrap_err();
    assert_eq!(error.code, "SOURCE_AUTHENTICATION");
    assert!(error.message.contains("\"source\"") && error.message.contains("127.0.0.1"), "{error}");
    assert!(!format!("{error:?} {wrong:?}").contains("wr0ng"), "{error:?}");
    let nobody = source(&server, &[("port", &free_port()?.to_string())])?;
    let since = environment::instant();
    let error = nobody.connector.check().await.unwrap_err();
    assert_eq!((error.code.as_str(), error.retryable), ("SOURCE_UNAVAILABLE", true));
    assert!(since.elapsed() < Duration::from_secs(10));
    let hurried = source(&server, &[("statement_seconds_max", "1")])?;
    let slow = "CREATE OR REPLACE VIEW down.slow AS SELECT sleep(30) AS slept";
    server.execute(&[slow]).await?;
    let error = failure(hurried.rows("down", "slow", "SELECT * FROM t").await);
    assert_eq!(error.code, "SOURCE_DEADLINE_EXCEEDED");
    wait_until_idle(&server, "down").await
}

#[tokio::test]
async fn a_connection_is_protected_as_the_catalog_says() -> Result<()> {
    let server = database(
        "guarded",
        &["CREATE VIEW guarded.t AS SELECT variable_value AS cipher
            FROM information_schema.session_status WHERE variable_name = 'ssl_cipher'"],
    )
    .await?;
    let certificate = server.certificate();
    let encrypted: [&[(&str, &str)]; 3] =
        [&[], &[("tls", "require")], &[("tls", "verify"), ("tls_ca", &certificate)]];
    let sql = "SELECT cipher <> '' AS encrypted FROM t";
    for extra in encrypted {
        let rows = source(&server, extra)?.text("guarded", "t", sql).await?;
        assert_lines(&rows, &["| true |"]);
    }
    let open = source(&server, &[("tls", "disable")])?;
    assert_lines(&open.text("guarded", "t", sql).await?, &["| false |"]);
    // Nobody vouches for the server's certificate.
    let strict = source(&server, &[("tls", "verify")])?;
    assert_eq!(strict.connector.check().await.unwrap_err().code, "SOURCE_UNAVAILABLE");
    Ok(())
}

#[tokio::test]
async fn a_relaxed_catalog_reads_ranges_of_the_key() -> Result<()> {
    let server = database(
        "ranges",
        &[
            "CREATE TABLE ranges.t (id bigint unsigned PRIMARY KEY, n int)",
            "INSERT INTO ranges.t SELECT seq * 1000003, seq FROM seq_1_to_200000",
            "ANALYZE TABLE ranges.t",
        ],
    )
    .await?;
    let sql = "SELECT count(*), sum(n), max(id) FROM t";
    let one = source(&server, &[])?;
    assert!(one.explain("ranges", "t", sql).await?.contains("splits=1"));
    let wanted = one.text("ranges", "t", sql).await?;
    let many = source(&server, &[("read_consistency", "relaxed")])?;
    let plan = many.explain("ranges", "t", sql).await?;
    assert!(plan.contains("splits=3") || plan.contains("splits=4"), "{plan}");
    assert_eq!(many.text("ranges", "t", sql).await?, wanted);
    let limited = many.explain("ranges", "t", "SELECT n FROM t LIMIT 5").await?;
    assert!(limited.contains("splits=1"), "{limited}");
    Ok(())
}

#[tokio::test]
async fn a_scan_is_one_snapshot() -> Result<()> {
    let server = database(
        "moves",
        &[
            "CREATE TABLE moves.t (id int PRIMARY KEY, n int) ENGINE=InnoDB",
            "INSERT INTO moves.t SELECT seq, 100 FROM seq_1_to_2000",
        ],
    )
    .await?;
    let source = source(&server, &[])?;
    let mut writer = server.connect().await?;
    let moving = environment::spawn("writer", async move {
        for round in 0..200 {
            let (from, to) = (round % 2000 + 1, (round * 7) % 2000 + 1);
            let transfer = [
                "START TRANSACTION".to_owned(),
                format!("UPDATE moves.t SET n = n - 1 WHERE id = {from}"),
                format!("UPDATE moves.t SET n = n + 1 WHERE id = {to}"),
                "COMMIT".to_owned(),
            ];
            for statement in transfer {
                writer.query_drop(statement).await?;
            }
        }
        anyhow::Ok(())
    });
    for _ in 0..50 {
        let sum = source.text("moves", "t", "SELECT sum(n) FROM t").await?;
        assert_lines(&sum, &["| 200000 |"]);
    }
    moving.await?
}

/// Returns the shared server with a database of that name and what the statements made in it.
async fn database(name: &str, statements: &[&str]) -> Result<Arc<MariaDb>> {
    let server = MariaDb::shared()?;
    let quoted = format!("`{}`", name.replace('`', "``"));
    let drop = format!("DROP DATABASE IF EXISTS {quoted}");
    let create = format!("CREATE DATABASE {quoted}");
    let mut all = vec![drop.as_str(), create.as_str(), "SET NAMES utf8mb4", "SET sql_mode = ''"];
    let fill = format!("USE {quoted}");
    all.push(&fill);
    all.extend(statements);
    server.execute(&all).await?;
    Ok(server)
}

fn source(server: &MariaDb, extra: &[(&str, &str)]) -> Result<Source> {
    let mut properties: BTreeMap<String, String> = server.properties();
    properties.extend(extra.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    Source::new("mysql", properties)
}

/// Waits until no connection but the asking one runs a statement in that database, or the deadline passes.
async fn wait_until_idle(server: &MariaDb, database: &str) -> Result<()> {
    let mut connection = server.connect().await?;
    let since = environment::instant();
    loop {
        let running: Vec<String> = connection
            .query("SELECT coalesce(info, '') FROM information_schema.processlist WHERE id <> connection_id()")
            .await?;
        let left: Vec<_> = running.iter().filter(|text| text.contains(database)).collect();
        if left.is_empty() {
            connection.disconnect().await?;
            return Ok(());
        }
        ensure!(since.elapsed() < CANCEL_DEADLINE, "still running: {left:?}");
        tokio::task::yield_now().await;
    }
}
