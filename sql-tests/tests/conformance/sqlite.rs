//! SQLite: a file that SQLite itself writes.

use std::path::PathBuf;

use anyhow::Result;
use async_trait::async_trait;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::doors::{Doors, NULL};
use crate::source::{
    Away, Broken, Held, Kind, Limits, Properties, Source, Special, Table, Type, Writes, name_of,
    of, quoted, special, statements,
};

const SCHEMA: &str = "main";

/// A file in a scratch folder.
pub(crate) struct Sqlite {
    folder: TempDir,
}

impl Sqlite {
    pub(crate) fn new() -> Result<Self> {
        let source = Self { folder: TempDir::new()? };
        // An empty file is no database yet.
        source.execute(&["CREATE TABLE first (id INT)".to_owned()])?;
        Ok(source)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("rows.sqlite")
    }

    fn with(&self, key: &str, value: &str) -> Properties {
        let mut properties = self.properties();
        properties.insert(key.to_owned(), value.to_owned());
        properties
    }

    fn execute(&self, statements: &[String]) -> Result<()> {
        Ok(Connection::open(self.path())?.execute_batch(&statements.join(";\n"))?)
    }
}

#[async_trait]
impl Source for Sqlite {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn properties(&self) -> Properties {
        [("path".to_owned(), self.path().to_string_lossy().into_owned())].into()
    }

    fn schema(&self) -> &'static str {
        SCHEMA
    }

    fn types(&self) -> Vec<Type> {
        vec![
            of(
                "INT",
                "bigint",
                &[
                    ("-9223372036854775808", "-9223372036854775808"),
                    ("9223372036854775807", "9223372036854775807"),
                ],
            ),
            of("REAL", "double", &[("1.5", "1.5"), ("-1e300", "-1e300"), ("9e999", "inf")]),
            of("DOUBLE PRECISION", "double", &[("7", "7.0")]),
            of("TEXT", "varchar", &[("'héllo 🦀'", "héllo 🦀"), ("''", ""), ("'NULL'", "NULL")]),
            of("VARCHAR(10)", "varchar", &[("'a''b'", "a'b")]),
            of("BLOB", "varbinary", &[("x'00ff'", "00ff"), ("x''", "")]),
            of("BOOLEAN", "boolean", &[("1", "true"), ("0", "false")]),
            of("DATE", "date", &[("'0001-01-01'", "0001-01-01"), ("'9999-12-31'", "9999-12-31")]),
            of(
                "DATETIME",
                "timestamp(6)",
                &[
                    ("'2024-02-29 12:30:00.000001'", "2024-02-29T12:30:00.000001"),
                    ("'1969-12-31T23:59:59+02:00'", "1969-12-31T21:59:59"),
                ],
            ),
            of(
                "DECIMAL(10,2)",
                "decimal(10,2)",
                &[("'-12345678.90'", "-12345678.90"), ("7", "7.00"), ("1.006", "1.01")],
            ),
            of(
                "NUMERIC(50,3)",
                "decimal(50,3)",
                &[("'123456789012345.125'", "123456789012345.125")],
            ),
            // What is not declared, or nothing known, is text.
            of("NUMERIC", "varchar", &[("1.25", "1.25"), ("'text'", "text")]),
            of("JSON", "varchar", &[("'{\"k\": 1}'", "{\"k\": 1}"), ("12", "12")]),
            of("", "varchar", &[("7", "7"), ("'any'", "any")]),
        ]
    }

    fn speaks_sql(&self) -> bool {
        true
    }

    fn writable(&self) -> Option<Properties> {
        Some(self.with("writable", "true"))
    }

    fn policies(&self) -> Vec<(&'static str, Properties)> {
        vec![("mismatch = null", self.with("mismatch", "null"))]
    }

    fn specials(&self) -> Vec<Special> {
        let becomes = ["SOURCE_VALUE_MISMATCH", NULL];
        vec![
            special("INT", "'two'", &becomes),
            special("INT", "1.5", &becomes),
            special("REAL", "'x'", &becomes),
            special("REAL", "x'00'", &becomes),
            special("TEXT", "x'ff'", &becomes),
            special("BLOB", "'text'", &becomes),
            special("BOOLEAN", "2", &becomes),
            special("DATE", "'2024-02-30'", &becomes),
            special("DATE", "20240229", &becomes),
            special("DATETIME", "'noon'", &becomes),
            special("DATETIME", "'2024-02-29 12:00:00.0000001'", &becomes),
            special("DECIMAL(10,2)", "'much'", &becomes),
            special("DECIMAL(10,2)", "123456789", &becomes),
            special("JSON", "x'ff'", &becomes),
        ]
    }

    async fn other_types(&mut self) -> Result<Vec<String>> {
        // Names that SQL knows elsewhere, and one that nobody does.
        let types = [
            "TINYINT",
            "BIGINT UNSIGNED",
            "CHARACTER(20)",
            "NCHAR(55)",
            "CLOB",
            "FLOAT",
            "DOUBLE PRECISION",
            "BOOL",
            "DEC(5,1)",
            "DECIMAL(77,0)",
            "DECIMAL(5,-2)",
            "TIMESTAMP",
            "TIME",
            "UUID",
            "INTERVAL",
            "FLOATING POINT",
            "MONEY",
            "\"no such type\"",
        ];
        Ok(types.map(str::to_owned).to_vec())
    }

    async fn held(&mut self, table: &str, column: &str) -> Result<Option<Held>> {
        let connection = Connection::open(self.path())?;
        let declared = "SELECT type FROM pragma_table_info(?1) WHERE name = ?2";
        let declared = connection.query_row(declared, [table, column], |row| row.get(0))?;
        let (table, column) = (quoted(table), quoted(column));
        let rows =
            format!("SELECT typeof({column}) || ' ' || quote({column}) FROM {table} ORDER BY id");
        let mut rows = connection.prepare(&rows)?;
        let values = rows.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(Some(Held { declared, values }))
    }

    async fn analyze(&mut self, table: &str) -> Result<()> {
        self.execute(&[format!("ANALYZE {}", quoted(table))])
    }

    fn declared(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Integer => "INTEGER",
            Kind::Text => "TEXT",
            Kind::Decimal => "DECIMAL(12,2)",
            Kind::Double => "REAL",
            Kind::Truth => "BOOLEAN",
            Kind::Date => "DATE",
            Kind::Moment => "TIMESTAMP",
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            writes: Writes::No,
            n_columns: 300,
            pushed_marks: &[" WHERE "],
            n_pushed_min: 250,
            names_refused: &[],
        }
    }

    async fn make(&mut self, _doors: &mut Doors, table: &Table) -> Result<()> {
        self.execute(&statements(SCHEMA, table, quoted))
    }

    fn requests(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("SELECT count(*) FROM {t}", "SELECT count(*) FROM `main`.`standard`\n"),
            ("SELECT 7 FROM {t}", "SELECT count(*) FROM (SELECT 1 FROM `main`.`standard`)"),
            ("SELECT max(amount) FROM {t}", ": TYPE: column amount of type DECIMAL(12,2) may hold"),
            ("SELECT day, name FROM {t}", "SELECT `name`, `day` FROM `main`.`standard`"),
            (
                "SELECT name FROM {t} WHERE name IS NOT NULL LIMIT 3",
                "SELECT `name` FROM `main`.`standard` WHERE `name` IS NOT NULL LIMIT 3",
            ),
            (
                "SELECT id FROM {t} WHERE name LIKE 'a%' LIMIT 3",
                "SELECT `id`, `name` FROM `main`.`standard` WHERE `name` GLOB 'a*'\n",
            ),
        ]
    }

    async fn endless(&mut self, _doors: &mut Doors) -> Result<Vec<String>> {
        self.execute(&[
            "CREATE VIEW endless AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n".to_owned(),
            "CREATE VIEW silent AS SELECT * FROM endless WHERE i < 0".to_owned(),
        ])?;
        Ok(["endless", "silent"].map(|view| name_of(SCHEMA, view)).to_vec())
    }

    async fn is_read(&self, ids: &[u32]) -> Result<Option<bool>> {
        crate::source::is_open(&self.path(), ids).map(Some)
    }

    fn away(&self) -> Result<Away, &'static str> {
        let path = self.folder.path().join("missing.sqlite").to_string_lossy().into_owned();
        Ok(Away { properties: [("path".to_owned(), path)].into(), code: "SOURCE_UNAVAILABLE" })
    }

    async fn broken(&mut self, _doors: &mut Doors) -> Result<Vec<Broken>> {
        self.execute(&[
            "CREATE TABLE gone (id INT)".to_owned(),
            "CREATE VIEW orphan AS SELECT * FROM gone".to_owned(),
            "DROP TABLE gone".to_owned(),
            "CREATE TABLE loose (i INTEGER)".to_owned(),
            "INSERT INTO loose VALUES ('two')".to_owned(),
        ])?;
        let broken = |table, code, names: &str| Broken {
            relation: name_of(SCHEMA, table),
            code,
            names: names.to_owned(),
        };
        Ok(vec![
            broken("orphan", "SOURCE_TABLE_UNREADABLE", "orphan"),
            broken("loose", "SOURCE_VALUE_MISMATCH", "\"i\""),
        ])
    }
}
