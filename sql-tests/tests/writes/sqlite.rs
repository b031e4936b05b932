//! SQLite: values both ways, refusals, changes in place, queries in its own words.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::TURN;
use crate::trial::Trial;

struct File {
    folder: TempDir,
}

impl File {
    fn with(statements: &str) -> Result<Self> {
        let file = Self { folder: tempfile::tempdir()? };
        file.connect()?.execute_batch(statements)?;
        Ok(file)
    }

    fn connect(&self) -> Result<Connection> {
        Ok(Connection::open(self.folder.path().join("rows.db"))?)
    }

    fn properties(&self) -> BTreeMap<String, String> {
        let path = self.folder.path().join("rows.db").to_string_lossy().into_owned();
        [("path".to_owned(), path)].into()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_go_both_ways() -> Result<()> {
    let _turn = TURN.lock().await;
    let columns = "i INTEGER, r REAL, t TEXT, b BLOB, o BOOLEAN, d DATE, m DATETIME, n DECIMAL(12,3), w DECIMAL(20,0), x, j JSON";
    let file = File::with(&format!(
        "CREATE TABLE source ({columns}); CREATE TABLE target ({columns});
         INSERT INTO source VALUES (-9223372036854775808, 0.1, 'it''s ä', x'00ff', 1, '0001-01-01',
           '1969-12-31 23:59:59.999999', 1234.125, 9223372036854775807, 'x', '{{}}'),
           (1, 9e999, '', x'', 0, '9999-12-31', '2024-02-29 00:00:00.000000', 7, 0, NULL, 'y'),
           (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);"
    ))?;
    let connection = file.connect()?;
    for mut trial in Trial::both("sqlite", &file.properties()).await? {
        connection.execute_batch("DELETE FROM target; DROP TABLE IF EXISTS copy")?;
        let insert = "INSERT INTO there.main.target SELECT * FROM there.main.source";
        ensure!(trial.change(insert).await? == 3);
        let different: i64 = connection.query_row(
            "SELECT count(*) FROM (SELECT * FROM source EXCEPT SELECT * FROM target)",
            [],
            |row| row.get(0),
        )?;
        ensure!(different == 0, "{different} rows are others");
        let make = "CREATE TABLE there.main.copy AS SELECT * FROM there.main.source";
        ensure!(trial.change(make).await? == 3);
        trial.same("SELECT * FROM there.main.source", "SELECT * FROM there.main.copy").await?;
        trial.fails(make, "TABLE_ALREADY_EXISTS", &["copy"]).await?;
        trial.change("DROP TABLE there.main.copy").await?;
        trial.fails("DROP TABLE there.main.copy", "TABLE_NOT_FOUND", &["copy"]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_fit_change_nothing() -> Result<()> {
    let _turn = TURN.lock().await;
    let file = File::with(
        "CREATE TABLE p (id INTEGER PRIMARY KEY);
         INSERT INTO p VALUES (0);
         CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT NOT NULL, r REAL, n DECIMAL(30,10), u DECIMAL(20,0),
           k INTEGER CHECK (k > 0), p INTEGER REFERENCES p (id), z TEXT DEFAULT 'none', d DATE);
         INSERT INTO t (id, s) VALUES (0, 'a');
         CREATE VIEW seen AS SELECT id, s FROM t;",
    )?;
    let connection = file.connect()?;
    let n_rows = || -> Result<i64> {
        Ok(connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?)
    };
    for mut trial in Trial::both("sqlite", &file.properties()).await? {
        let t = "INSERT INTO there.main.t";
        for (sql, code, said) in [
            (format!("{t} (id, s) VALUES (1, 'b'), (0, 'b')"), "ROWS_REFUSED", "t.id"),
            (format!("{t} (id, s) VALUES (1, NULL)"), "ROWS_REFUSED", "t.s"),
            (
                format!("{t} (id, s, r) VALUES (1, 'b', CAST('NaN' AS DOUBLE))"),
                "ROWS_REFUSED",
                "\"r\"",
            ),
            (
                format!("{t} (id, s, n) VALUES (1, 'b', 1234567890.0123456789)"),
                "ROWS_REFUSED",
                "\"n\"",
            ),
            (
                format!("{t} (id, s, u) VALUES (1, 'b', 18446744073709551615)"),
                "ROWS_REFUSED",
                "\"u\"",
            ),
            (format!("{t} (id, s, k) VALUES (1, 'b', 0)"), "ROWS_REFUSED", "k > 0"),
            (format!("{t} (id, s, p) VALUES (1, 'b', 7)"), "ROWS_REFUSED", "FOREIGN KEY"),
            (
                "INSERT INTO there.main.seen VALUES (1, 'b')".to_owned(),
                "SOURCE_WRITE_FAILED",
                "view",
            ),
            (
                "INSERT INTO sealed.main.t (id, s) VALUES (1, 'b')".to_owned(),
                "CATALOG_READ_ONLY",
                "writable",
            ),
            (
                "CREATE TABLE sealed.main.x AS SELECT 1 AS a".to_owned(),
                "CATALOG_READ_ONLY",
                "writable",
            ),
            ("CREATE TABLE sealed.main.x (a INT)".to_owned(), "CATALOG_READ_ONLY", "writable"),
            ("DROP TABLE sealed.main.t".to_owned(), "CATALOG_READ_ONLY", "writable"),
            ("DELETE FROM sealed.main.t".to_owned(), "CATALOG_READ_ONLY", "writable"),
            ("CREATE TABLE there.other.x (a INT)".to_owned(), "SCHEMA_NOT_FOUND", "main"),
            ("DROP TABLE there.main.seen".to_owned(), "DROP_REFUSED", "view"),
            (
                "CREATE TABLE there.main.x AS SELECT CAST(1 AS DOUBLE) / 0 * 0 AS x".to_owned(),
                "ROWS_REFUSED",
                "NaN",
            ),
        ] {
            trial.fails(&sql, code, &[said]).await?;
        }
        ensure!(n_rows()? == 1);
        let x: i64 = connection.query_row(
            "SELECT count(*) FROM sqlite_schema WHERE name = 'x'",
            [],
            |row| row.get(0),
        )?;
        ensure!(x == 0, "a table that could not be filled is there");
        trial.change("INSERT INTO there.main.t (s, p) VALUES ('filled', 0)").await?;
        trial.same("SELECT z FROM there.main.t WHERE s = 'filled'", "SELECT 'none'").await?;
        // A key is found exactly; text of no declared collation, or a declaration that binds nothing, is not.
        ensure!(
            trial
                .change("UPDATE there.main.t SET s = 'it''s', d = DATE '2024-02-29' WHERE id > 0")
                .await?
                == 1
        );
        trial
            .same("SELECT s, d FROM there.main.t WHERE id > 0", "SELECT 'it''s', DATE '2024-02-29'")
            .await?;
        trial
            .fails("DELETE FROM there.main.t WHERE k = 1", "CHANGE_REFUSED", &["SUPERSET"])
            .await?;
        trial.fails("DELETE FROM there.main.t WHERE r > 1", "CHANGE_REFUSED", &["TYPE"]).await?;
        ensure!(trial.change("DELETE FROM there.main.t WHERE id > 0").await? == 1);
        ensure!(n_rows()? == 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_in_the_words_of_sqlite_is_a_table() -> Result<()> {
    let _turn = TURN.lock().await;
    let file = File::with(
        "CREATE TABLE t (id INTEGER, s TEXT, d DATE);
         INSERT INTO t VALUES (1, 'a', '2024-01-01'), (2, 'b', NULL);",
    )?;
    for mut trial in Trial::both("sqlite", &file.properties()).await? {
        let table = "TABLE(there.system.query(query => 'SELECT id, s, d, count(*) OVER () AS n FROM t -- its end'))";
        trial
            .same(
                &format!("SELECT id, s, d, n FROM {table} AS q WHERE id > 1"),
                "SELECT CAST(2 AS BIGINT), 'b', CAST(NULL AS DATE), '2'",
            )
            .await?;
        for (wrong, code) in [
            ("SELECT 1 AS a, 2 AS A", "INVALID_QUERY"),
            ("SELECT nothing FROM t", "SOURCE_QUERY_FAILED"),
            ("DELETE FROM t", "INVALID_QUERY"),
            ("DELETE FROM t RETURNING id", "INVALID_QUERY"),
            ("SELECT 1 AS a; DELETE FROM t", "SOURCE_QUERY_FAILED"),
            ("SELECT 1) AS q, (SELECT 2 AS b", "SOURCE_QUERY_FAILED"),
            ("SELECT ?1 AS a", "INVALID_QUERY"),
        ] {
            let sql = format!("SELECT * FROM TABLE(there.system.query(query => '{wrong}'))");
            trial.fails(&sql, code, &[]).await?;
        }
        trial.same("SELECT count(*) FROM there.main.t", "SELECT CAST(2 AS BIGINT)").await?;
    }
    Ok(())
}
