//! SQLite: `sqlite_stat1`, or row ids.

use std::collections::BTreeMap;

use anyhow::Result;
use meshwork_sql_tests::source::Source;
use rusqlite::Connection;

use super::qerror::expected;

#[tokio::test]
async fn rows_are_analysed_or_bounded() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("file.db");
    let connection = Connection::open(&path)?;
    connection.execute_batch(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, kind INTEGER) STRICT;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         INSERT INTO t SELECT i, i % 50 FROM n;
         CREATE INDEX by_kind ON t (kind);
         CREATE TABLE far (id INTEGER PRIMARY KEY);
         INSERT INTO far VALUES (1), (9223372036854775807);
         CREATE TABLE keyed (id TEXT PRIMARY KEY) WITHOUT ROWID;
         CREATE VIEW seen AS SELECT * FROM t;",
    )?;
    let properties = BTreeMap::from([("path".to_owned(), path.to_string_lossy().into_owned())]);
    let source = Source::new("sqlite", properties)?;
    let rows = async |table: &str| expected(&source, "main", table, "SELECT * FROM t").await;
    assert_eq!(rows("t").await?, Some(2000));
    let far = rows("far").await?;
    assert!(far.is_some_and(|n_rows| n_rows < 100_000), "the file has no room for them: {far:?}");
    assert_eq!((rows("keyed").await?, rows("seen").await?), (None, None));

    connection.execute_batch("DELETE FROM t WHERE id % 2 = 0; ANALYZE;")?;
    assert_eq!(rows("t").await?, Some(1000));
    let one = expected(&source, "main", "t", "SELECT * FROM t WHERE kind = 7").await?;
    assert_eq!(one, Some(40), "25 values are left");
    Ok(())
}
