//! The sqlite connector against files that SQLite itself wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use meshwork_engine::connector::TableKind;
use meshwork_engine::environment;
use meshwork_sql_tests::source::{Source, assert_lines, conditions_on_text, failure, nasty_texts};
use rusqlite::Connection;
use tempfile::TempDir;

#[tokio::test]
async fn every_type_arrives_as_itself() -> Result<()> {
    let file = File::with(
        "CREATE TABLE types (id INTEGER PRIMARY KEY, i INT, b BIGINT, r REAL, d DOUBLE PRECISION,
            t TEXT, v VARCHAR(10), x BLOB, o BOOLEAN, day DATE, at DATETIME, m DECIMAL(10,2),
            w NUMERIC(50,3), n NUMERIC, j JSON, u);
         INSERT INTO types VALUES (1, -9223372036854775808, 9223372036854775807, 1.5, -1e300, 'héllo 🦀',
            'a''b', x'00ff', 1, '2024-02-29', '2024-02-29 12:30:00.000001', '-12345678.90',
            '123456789012345.125', 1.25, '{\"k\": 1}', 7);
         INSERT INTO types VALUES (2, 0, 0, 0, 7, '', '', x'', 0, '0001-01-01',
            '1969-12-31T23:59:59+02:00', 7, 2.5, 'text', 12, 'any');
         INSERT INTO types (id, m) VALUES (3, 1.006), (4, NULL);",
    )?;
    let source = file.source(&[])?;
    let rows = source.text("main", "types", "SELECT * FROM t ORDER BY id").await?;
    assert_lines(
        &rows,
        &[
            "| 1 | -9223372036854775808 | 9223372036854775807 | 1.5 | -1e300 | héllo 🦀 | a'b | 00ff \
             | true | 2024-02-29 | 2024-02-29T12:30:00.000001 | -12345678.90 \
             | 123456789012345.125 | 1.25 | {\"k\": 1} | 7 |",
            "| 2 | 0 | 0 | 0.0 | 7.0 | | | | false | 0001-01-01 | 1969-12-31T21:59:59 | 7.00 \
             | 2.500 | text | 12 | any |",
            "| 3 | | | | | | | | | | | 1.01 | | | | |",
            "| 4 | | | | | | | | | | | | | | | |",
        ],
    );
    Ok(())
}

#[tokio::test]
async fn a_value_that_breaks_its_declaration_is_an_error_or_null() -> Result<()> {
    let file = File::with(
        "CREATE TABLE loose (id INTEGER PRIMARY KEY, i INTEGER, t TEXT, d DATE, o BOOLEAN);
         INSERT INTO loose VALUES (1, 1, 'a', '2024-01-01', 1), (2, 'two', x'ff', 'soon', 7),
            (3, 2.5, 'c', 20240101, NULL), (4, NULL, NULL, NULL, 0);",
    )?;
    let strict = file.source(&[])?;
    let error = failure(strict.rows("main", "loose", "SELECT * FROM t").await);
    assert_eq!(error.code, "SOURCE_VALUE_MISMATCH");
    for part in ["\"i\"", "source.main.loose", "INTEGER", "a TEXT"] {
        assert!(error.message.contains(part), "{error}");
    }
    let lenient = file.source(&[("mismatch", "null")])?;
    let rows = lenient.text("main", "loose", "SELECT * FROM t ORDER BY id").await?;
    assert_lines(
        &rows,
        &[
            "| 1 | 1 | a | 2024-01-01 | true |",
            "| 2 | | | | |",
            "| 3 | | c | | |",
            "| 4 | | | | false |",
        ],
    );
    let conditions = [
        "i > 0",
        "i <> 1",
        "i IS NULL",
        "i IS NOT NULL",
        "NOT (i = 1)",
        "i IN (1, 2)",
        "i NOT IN (5)",
        "t = 'a'",
        "t <> 'a'",
        "t LIKE 'a%'",
        "d < DATE '2030-01-01'",
        "d <> DATE '2024-01-01'",
        "o",
        "NOT o",
        "id >= 2",
    ];
    let n_pushed = lenient.check_filters("main", "loose", &conditions.map(str::to_owned)).await?;
    ensure!(n_pushed >= 9, "only {n_pushed} were pushed");
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_not_the_rowid_is_checked_again() -> Result<()> {
    let file = File::with(
        "CREATE TABLE rowid (k INTEGER PRIMARY KEY);
         CREATE TABLE descending (k INTEGER PRIMARY KEY DESC);
         INSERT INTO descending VALUES (1), ('two'), (3);
         CREATE TABLE no_rowid (k INTEGER PRIMARY KEY) WITHOUT ROWID;",
    )?;
    let lenient = file.source(&[("mismatch", "null")])?;
    let sql = "SELECT * FROM t WHERE k > 0";
    assert!(!lenient.explain("main", "rowid", sql).await?.contains("FilterExec"));
    for table in ["descending", "no_rowid"] {
        assert!(lenient.explain("main", table, sql).await?.contains("FilterExec"), "{table}");
    }
    assert_eq!(lenient.check_filters("main", "descending", &["k > 0".to_owned()]).await?, 1);
    Ok(())
}

#[tokio::test]
async fn filters_are_the_same_there_and_here() -> Result<()> {
    let columns = [
        ("UTF-8", "TEXT", ""),
        ("UTF-8", "TEXT COLLATE NOCASE", ""),
        ("UTF-8", "TEXT COLLATE RTRIM", "STRICT"),
        ("UTF-8", "TEXT", "STRICT"),
        ("UTF-16le", "TEXT", "STRICT"),
    ];
    for (encoding, column, strict) in columns {
        let file = File::with(&format!(
            "PRAGMA encoding = '{encoding}';
             CREATE TABLE t (id INTEGER PRIMARY KEY, s {column}) {strict};
             CREATE INDEX by_s ON t (s);
             CREATE VIEW v AS SELECT * FROM t;"
        ))?;
        let connection = file.connect()?;
        for value in nasty_texts() {
            connection.execute("INSERT INTO t (s) VALUES (?1)", [value])?;
        }
        connection.execute("INSERT INTO t (s) VALUES (NULL)", [])?;
        let source = file.source(&[])?;
        let conditions = conditions_on_text("s");
        let n_pushed = source.check_filters("main", "t", &conditions).await?;
        ensure!(n_pushed > 50, "{column} {strict}: only {n_pushed} were pushed");
        let some: Vec<_> = conditions.into_iter().step_by(5).collect();
        source.check_filters("main", "v", &some).await?;
    }
    Ok(())
}

#[tokio::test]
async fn filters_on_numbers_and_dates_are_the_same_there_and_here() -> Result<()> {
    for strict in ["", "STRICT"] {
        let day = if strict.is_empty() { "DATE" } else { "TEXT" };
        let file = File::with(&format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, i INTEGER, r REAL, x BLOB, d {day}) {strict};
             INSERT INTO t VALUES (1, -9223372036854775808, -0.0, x'61', '2024-01-01'),
                (2, 9223372036854775807, 0.1, x'', '1999-12-31'), (3, 0, 9e999, NULL, NULL),
                (4, NULL, NULL, x'00', '9999-12-31');"
        ))?;
        let source = file.source(&[])?;
        let columns: [(&str, &[&str]); 4] = [
            (
                "i",
                &[
                    "-9223372036854775808",
                    "9223372036854775807",
                    "0",
                    "0.5",
                    "18446744073709551615",
                ],
            ),
            ("r", &["0.0", "-0.0", "0.1"]),
            ("x", &["X'61'", "X''"]),
            ("d", &["'2024-01-01'", "'1999-12-31'"]),
        ];
        let mut conditions = vec!["i IS NULL OR i = 0".to_owned(), "NOT (i > 0)".to_owned()];
        for (column, values) in columns {
            for value in values {
                for operator in ["=", "<>", "<", "<=", ">", ">="] {
                    conditions.push(format!("{column} {operator} {value}"));
                }
                conditions.push(format!("{column} IN ({value})"));
                conditions.push(format!("{column} NOT IN ({value})"));
            }
        }
        let n_pushed = source.check_filters("main", "t", &conditions).await?;
        ensure!(n_pushed > 25, "only {n_pushed} were pushed");
    }
    Ok(())
}

#[tokio::test]
async fn odd_names_wide_and_empty_tables_are_read() -> Result<()> {
    let wide: Vec<String> = (0..200).map(|n| format!("c{n} INT")).collect();
    let file = File::with(&format!(
        "CREATE TABLE \"Tab'le \"\"1\"\" `x`\" (\"select\" INT, \"a b\" INT, \"per%cent\" INT,
            \"back`tick\" INT, \"ünï\" INT, \"qu\"\"ote\" INT);
         INSERT INTO \"Tab'le \"\"1\"\" `x`\" VALUES (1, 2, 3, 4, 5, 6);
         CREATE TABLE wide ({});
         INSERT INTO wide (c0, c199) VALUES (7, 8);
         CREATE TABLE empty (id INT, s TEXT);
         CREATE VIEW seen AS SELECT c0, c199, c0 + 1 AS more FROM wide;
         CREATE TABLE gone (id INT);
         CREATE VIEW broken AS SELECT * FROM gone;
         DROP TABLE gone;
         CREATE TABLE no_rowid (k INTEGER PRIMARY KEY, g INT GENERATED ALWAYS AS (k * 2)) WITHOUT ROWID;
         INSERT INTO no_rowid (k) VALUES (5);",
        wide.join(", ")
    ))?;
    let source = file.source(&[])?;
    assert_eq!(source.connector.schema_names().await?, ["main"]);
    let tables = source.connector.tables("main").await?;
    let names: Vec<_> = tables.iter().map(|entry| (entry.name.as_str(), entry.kind)).collect();
    let odd = "Tab'le \"1\" `x`";
    assert_eq!(
        names,
        [
            (odd, TableKind::Table),
            ("broken", TableKind::View),
            ("empty", TableKind::Table),
            ("no_rowid", TableKind::Table),
            ("seen", TableKind::View),
            ("wide", TableKind::Table),
        ]
    );
    let rows = source.text("main", odd, "SELECT * FROM t WHERE \"back`tick\" = 4").await?;
    assert_lines(&rows, &["| 1 | 2 | 3 | 4 | 5 | 6 |"]);
    assert_eq!(source.table("main", "wide").await?.schema().fields().len(), 200);
    assert_lines(&source.text("main", "wide", "SELECT c199, c0 FROM t").await?, &["| 8 | 7 |"]);
    assert_lines(&source.text("main", "seen", "SELECT * FROM t").await?, &["| 7 | 8 | 8 |"]);
    assert_lines(&source.text("main", "no_rowid", "SELECT * FROM t").await?, &["| 5 | 10 |"]);
    assert_lines(
        &source.text("main", "empty", "SELECT count(*), max(s) FROM t").await?,
        &["| 0 | |"],
    );
    let error = failure(source.rows("main", "broken", "SELECT * FROM t").await);
    assert!(error.message.contains("broken"), "{error}");
    Ok(())
}

#[tokio::test]
async fn only_what_is_asked_for_is_read() -> Result<()> {
    let file = File::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
         INSERT INTO t SELECT i, 's' || (i % 7) FROM n;",
    )?;
    let source = file.source(&[])?;
    let checks = [
        ("SELECT count(*) FROM t", "SELECT count(*) FROM (SELECT 1 FROM `main`.`t`)"),
        (
            "SELECT s FROM t WHERE id > 5 LIMIT 3",
            "SELECT `s` FROM `main`.`t` WHERE `id` > 5 LIMIT 3",
        ),
        (
            "SELECT id FROM t WHERE s LIKE 's1%' LIMIT 3",
            "SELECT `id`, `s` FROM `main`.`t` WHERE `s` GLOB 's1*'",
        ),
    ];
    for (sql, remote) in checks {
        let plan = source.explain("main", "t", sql).await?;
        let asked = plan.split("remote=").nth(1).context("no remote statement")?;
        assert_eq!(asked.trim(), remote, "{sql}");
    }
    assert_lines(
        &source.text("main", "t", "SELECT count(*), sum(id) FROM t WHERE s = 's1'").await?,
        &["| 143 | 71214 |"],
    );
    let limited = source.rows("main", "t", "SELECT s FROM t LIMIT 250").await?;
    assert_eq!(limited.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 250);
    Ok(())
}

#[tokio::test]
async fn a_dropped_stream_ends_its_statement() -> Result<()> {
    let file = File::with(
        "CREATE VIEW long_rows AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
            SELECT i FROM n;
         CREATE VIEW slow AS SELECT * FROM long_rows WHERE i < 0;",
    )?;
    let source = file.source(&[])?;
    let mut stream =
        source.plan("main", "long_rows", "SELECT * FROM t").await?.execute_stream().await?;
    assert!(stream.next().await.context("no batch")??.num_rows() > 0);
    drop(stream);
    let mut stream = source.plan("main", "slow", "SELECT * FROM t").await?.execute_stream().await?;
    let waiting = tokio::time::timeout(Duration::from_millis(300), stream.next()).await;
    assert!(waiting.is_err(), "the statement was to run on");
    drop(stream);
    let since = environment::instant();
    while file.is_open()? {
        ensure!(since.elapsed() < Duration::from_secs(2), "a reader still runs");
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[tokio::test]
async fn failures_name_the_file() -> Result<()> {
    let file = File::with("CREATE TABLE t (id INT)")?;
    std::fs::write(file.path(), "this is no database, whatever its name says. ".repeat(100))?;
    let error = file.source(&[])?.connector.check().await.unwrap_err();
    assert_eq!(error.code, "SOURCE_UNAVAILABLE");
    assert!(error.message.contains("rows.sqlite"), "{error}");
    std::fs::remove_file(file.path())?;
    let error = file.source(&[])?.connector.check().await.unwrap_err();
    assert_eq!(error.code, "SOURCE_UNAVAILABLE");
    assert!(!std::path::Path::new(&file.path()).exists(), "a missing file must not be made");
    Ok(())
}

/// A database in a scratch folder.
struct File {
    folder: TempDir,
}

impl File {
    fn with(statements: &str) -> Result<Self> {
        let file = Self { folder: TempDir::new()? };
        file.connect()?.execute_batch(statements)?;
        Ok(file)
    }

    fn path(&self) -> String {
        self.folder.path().join("rows.sqlite").to_string_lossy().into_owned()
    }

    fn connect(&self) -> Result<Connection> {
        Ok(Connection::open(self.path())?)
    }

    fn source(&self, extra: &[(&str, &str)]) -> Result<Source> {
        let mut properties = BTreeMap::from([("path".to_owned(), self.path())]);
        properties
            .extend(extra.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        Source::new("sqlite", properties)
    }

    /// Whether this process has the file open: a reader that was ended has closed it.
    fn is_open(&self) -> Result<bool> {
        let path = std::fs::canonicalize(self.path())?;
        for entry in std::fs::read_dir("/proc/self/fd")? {
            // A descriptor may be closed while we look.
            if std::fs::read_link(entry?.path()).is_ok_and(|target| target == path) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
