//! The sqlite connector against files that SQLite itself wrote.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use meshwork_engine::connector::TableKind;
use meshwork_sql_tests::source::{Source, assert_lines, conditions_on_text, failure, nasty_texts};
use rusqlite::Connection;
use tempfile::TempDir;

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
async fn views_and_tables_without_rowid_are_listed_and_read() -> Result<()> {
    let file = File::with(
        "CREATE TABLE no_rowid (k INTEGER PRIMARY KEY, g INT GENERATED ALWAYS AS (k * 2)) WITHOUT ROWID;
         INSERT INTO no_rowid (k) VALUES (5);
         CREATE VIEW seen AS SELECT k, g, k + 1 AS more FROM no_rowid;",
    )?;
    let source = file.source(&[])?;
    assert_eq!(source.connector.schema_names().await?, ["main"]);
    let tables = source.connector.tables("main").await?;
    let names: Vec<_> = tables.iter().map(|entry| (entry.name.as_str(), entry.kind)).collect();
    assert_eq!(names, [("no_rowid", TableKind::Table), ("seen", TableKind::View)]);
    assert_lines(&source.text("main", "no_rowid", "SELECT * FROM t").await?, &["| 5 | 10 |"]);
    assert_lines(&source.text("main", "seen", "SELECT * FROM t").await?, &["| 5 | 10 | 6 |"]);
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
    file.source(&[])?.connector.check().await.unwrap_err();
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
}
