//! The mysql connector against a real MariaDB, started here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arrow::array::RecordBatch;
use futures::StreamExt;
use meshwork_engine::ErrorKind;
use meshwork_engine::connector::TableKind;
use meshwork_engine::environment::{self, Task};
use meshwork_sql_tests::servers::MariaDb;
use meshwork_sql_tests::source::{Source, assert_lines, conditions_on_text, failure, nasty_texts};
use mysql_async::prelude::Queryable;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long the server may go on with a statement that nobody waits for.
const CANCEL_DEADLINE: Duration = Duration::from_secs(2);

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
async fn a_backslash_ends_no_string_and_a_colon_begins_no_parameter() -> Result<()> {
    let columns = "id int PRIMARY KEY, four varchar(20) COLLATE utf8mb4_general_ci,
        four_bin varchar(20) COLLATE utf8mb4_bin,
        three varchar(20) CHARACTER SET utf8mb3, three_bin varchar(20) COLLATE utf8mb3_bin,
        latin varchar(20) CHARACTER SET latin1, latin_bin varchar(20) COLLATE latin1_bin,
        plain varchar(20) CHARACTER SET ascii, plain_bin varchar(20) COLLATE ascii_bin";
    let server = database(
        "slashes",
        &[
            "SET sql_mode = 'NO_BACKSLASH_ESCAPES'",
            &format!("CREATE TABLE slashes.t ({columns})"),
            r"INSERT INTO slashes.t VALUES (1, 'C:\', 'x:a', 'C:\', 'x:a', 'C:\', 'x:a', 'C:\', 'x:a'),
                (2, 'x:a', 'C:\', 'x:a', 'C:\', 'x:a', 'C:\', 'x:a', 'C:\'),
                (3, 'c:\', 'c:\', 'c:\', 'c:\', 'c:\', 'c:\', 'c:\', 'c:\')",
        ],
    )
    .await?;
    let mut conditions = Vec::new();
    for column in ["four", "three", "latin", "plain"] {
        for (folded, exact) in [(r"C:\", "x:a"), ("x:a", r"C:\")] {
            conditions.push(format!("{column} = '{folded}' AND {column}_bin = '{exact}'"));
            conditions.push(format!("{column} IN ('{folded}', '?', ':b') AND {column}_bin = ':'"));
            conditions.push(format!(r"{column} IN ('\''', '{folded}') OR {column}_bin = '\:c'"));
        }
    }
    let source = source(&server, &[])?;
    let n_pushed = source.check_filters("slashes", "t", &conditions).await?;
    ensure!(n_pushed == conditions.len(), "only {n_pushed} of {} were pushed", conditions.len());
    let sql = format!("SELECT id FROM t WHERE {}", conditions[0]);
    assert_lines(&source.text("slashes", "t", &sql).await?, &["| 1 |"]);
    Ok(())
}

#[tokio::test]
async fn text_of_a_view_without_a_collation_is_compared_here() -> Result<()> {
    let server = database(
        "mixed",
        &[
            "CREATE TABLE mixed.t (id int, one varchar(20) COLLATE utf8mb4_general_ci,
                two text COLLATE utf8mb4_unicode_ci)",
            "INSERT INTO mixed.t VALUES (1, 'text', 'other'), (2, 'a', 'b')",
            "CREATE VIEW mixed.v AS SELECT id, greatest(one, two) AS most FROM mixed.t",
        ],
    )
    .await?;
    let source = source(&server, &[])?;
    let sql = "SELECT id FROM t WHERE most = 'text' AND id < 5";
    assert_lines(&source.text("mixed", "v", sql).await?, &["| 1 |"]);
    let plan = source.explain("mixed", "v", sql).await?;
    ensure!(plan.contains("FilterExec: most") && plan.contains("WHERE `id` < 5"), "{plan}");
    let plan = source.explain("mixed", "t", "SELECT id FROM t WHERE one = 'text'").await?;
    ensure!(plan.contains("`one` = 'text'"), "{plan}");
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
async fn views_are_listed_and_names_are_matched_by_their_bytes() -> Result<()> {
    let server = database(
        "views",
        &[
            "CREATE TABLE views.rows_of (n int)",
            "CREATE VIEW views.seen AS SELECT n FROM views.rows_of",
        ],
    )
    .await?;
    let source = source(&server, &[])?;
    let tables = source.connector.tables("views").await?;
    let names: Vec<_> = tables.iter().map(|entry| (entry.name.as_str(), entry.kind)).collect();
    assert_eq!(names, [("rows_of", TableKind::Table), ("seen", TableKind::View)]);
    assert!(source.table("views", "Seen").await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_statement_says_who_asks() -> Result<()> {
    let own = "SELECT info FROM information_schema.processlist WHERE id = connection_id()";
    let server = database("asked", &[&format!("CREATE VIEW asked.own AS {own}")]).await?;
    let source = source(&server, &[])?.with(|query| {
        (query.query_id, query.user) = ("q1".to_owned(), "o'ne".to_owned());
    });
    let text = source.text("asked", "own", "SELECT info FROM t").await?;
    assert!(text.contains("/* meshwork/q1/o?ne */ SELECT `info`"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_dropped_stream_gives_its_connection_back() -> Result<()> {
    let server = database(
        "cancel",
        &["CREATE VIEW cancel.long_rows AS SELECT seq AS n, repeat('x', 200) AS pad FROM seq_1_to_100000000"],
    )
    .await?;
    let source = source(&server, &[("connections_max", "2")])?;
    for _ in 0..3 {
        let mut stream =
            source.plan("cancel", "long_rows", "SELECT * FROM t").await?.execute_stream().await?;
        ensure!(stream.next().await.context("no batch")??.num_rows() > 0);
        drop(stream);
    }
    wait_until_idle(&server, "cancel").await?;
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
async fn a_server_that_cannot_encrypt_is_a_matter_of_configuration() -> Result<()> {
    let server = MariaDb::shared()?;
    let (port, _relay) = without_encryption(server.port()).await?;
    for tls in ["require", "verify"] {
        let strict = source(&server, &[("tls", tls), ("port", &port.to_string())])?;
        let error = strict.connector.check().await.unwrap_err();
        assert_eq!((error.kind, error.retryable), (ErrorKind::User, false), "{error}");
        assert_eq!(error.code, "CATALOG_CONFIGURATION");
        assert!(error.message.contains("tls"), "{error}");
        assert!(error.hint.is_some_and(|hint| hint.contains("tls = 'prefer'")));
    }
    Ok(())
}

#[tokio::test]
async fn a_scan_that_nobody_reads_gives_its_connection_to_others() -> Result<()> {
    let server = database(
        "narrow",
        &["CREATE VIEW narrow.long_rows AS SELECT seq AS n, repeat('x', 200) AS pad FROM seq_1_to_300000"],
    )
    .await?;
    let source = source(&server, &[("connections_max", "2")])?;
    let sql = "SELECT * FROM t";
    let second = source.plan("narrow", "long_rows", sql).await?;
    let mut first = source.plan("narrow", "long_rows", sql).await?.execute_stream().await?;
    let mut n_rows = first.next().await.context("no batch")??.num_rows();
    let other: usize = second.collect().await?.iter().map(RecordBatch::num_rows).sum();
    while let Some(batch) = first.next().await {
        n_rows += batch?.num_rows();
    }
    assert_eq!((n_rows, other), (300_000, 300_000));
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
async fn a_relaxed_catalog_reads_ranges_of_what_a_key_begins_with() -> Result<()> {
    let server = database(
        "lines",
        &[
            "CREATE TABLE lines.t (place int, part bigint, n int, PRIMARY KEY (part, place))",
            "INSERT INTO lines.t SELECT seq % 4, seq DIV 4, seq FROM seq_0_to_199999",
            "CREATE TABLE lines.named (name varchar(9), place int, PRIMARY KEY (name, place))",
            "INSERT INTO lines.named SELECT seq, seq FROM seq_1_to_200000",
            "ANALYZE TABLE lines.t, lines.named",
        ],
    )
    .await?;
    let (one, many) = (source(&server, &[])?, source(&server, &[("read_consistency", "relaxed")])?);
    let sql = "SELECT count(*), sum(n), max(part) FROM t";
    let plan = many.explain("lines", "t", sql).await?;
    assert!(plan.contains("splits=3") || plan.contains("splits=4"), "{plan}");
    assert_eq!(many.text("lines", "t", sql).await?, one.text("lines", "t", sql).await?);
    let text = many.explain("lines", "named", "SELECT place FROM t").await?;
    assert!(text.contains("splits=1"), "{text}");
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

/// Returns a port at which the server says that it cannot encrypt; nothing but its greeting passes.
async fn without_encryption(server_port: u16) -> Result<(u16, Task<Result<()>>)> {
    let door = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = door.local_addr()?.port();
    let relay = environment::spawn("relay", async move {
        loop {
            let (mut client, _) = door.accept().await?;
            let mut server = TcpStream::connect(("127.0.0.1", server_port)).await?;
            let mut header = [0; 4];
            server.read_exact(&mut header).await?;
            let mut greeting = vec![0; u16::from_le_bytes([header[0], header[1]]).into()];
            server.read_exact(&mut greeting).await?;
            // Behind the version's zero stand an id (4), salt (8) and a zero; of the flags, encryption is 0x0800.
            let version_end = greeting.iter().position(|byte| *byte == 0).context("no version")?;
            greeting[version_end + 15] &= !0x08;
            client.write_all(&header).await?;
            client.write_all(&greeting).await?;
        }
    });
    Ok((port, relay))
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
