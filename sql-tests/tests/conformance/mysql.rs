//! MariaDB: a server whose defaults are none that the connector may rely on.

use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use meshwork_sql_tests::servers::{MariaDb, free_port};
use mysql_async::prelude::Queryable;

use crate::doors::{Doors, NULL};
use crate::source::{
    Away, Broken, Held, Kind, Limits, Properties, Source, Special, Table, Type, Writes, name_of,
    of, special, statements, text_literal,
};

const SCHEMA: &str = "Odd `Schêma\"";

/// A server with a database of the suite's own.
pub(crate) struct MySql {
    server: Arc<MariaDb>,
}

impl MySql {
    pub(crate) async fn new() -> Result<Self> {
        let source = Self { server: MariaDb::shared()? };
        source
            .execute(&[format!("CREATE DATABASE {} CHARACTER SET utf8mb4", quoted(SCHEMA))])
            .await?;
        Ok(source)
    }

    fn with(&self, key: &str, value: &str) -> Properties {
        let mut properties = self.server.properties();
        properties.insert(key.to_owned(), value.to_owned());
        properties
    }

    async fn execute(&self, statements: &[String]) -> Result<()> {
        let session = [
            "SET NAMES utf8mb4",
            "SET time_zone = '+00:00'",
            "SET sql_mode = 'NO_BACKSLASH_ESCAPES'",
        ];
        let texts: Vec<&str> =
            session.into_iter().chain(statements.iter().map(String::as_str)).collect();
        self.server.execute(&texts).await
    }
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[async_trait]
impl Source for MySql {
    fn kind(&self) -> &'static str {
        "mysql"
    }

    fn properties(&self) -> Properties {
        self.server.properties()
    }

    fn schema(&self) -> &'static str {
        SCHEMA
    }

    fn types(&self) -> Vec<Type> {
        let long = "-12345678901234567890123456789012345.000000000000000000000000000001";
        vec![
            of("tinyint", "tinyint", &[("-128", "-128"), ("127", "127")]),
            of("tinyint(1)", "tinyint", &[("1", "1"), ("0", "0")]),
            of("tinyint unsigned", "tinyint unsigned", &[("255", "255"), ("0", "0")]),
            of("smallint", "smallint", &[("-32768", "-32768"), ("32767", "32767")]),
            of("smallint unsigned", "smallint unsigned", &[("65535", "65535")]),
            of("mediumint", "integer", &[("-8388608", "-8388608")]),
            of("mediumint unsigned", "integer unsigned", &[("16777215", "16777215")]),
            of("int", "integer", &[("-2147483648", "-2147483648"), ("2147483647", "2147483647")]),
            of("int unsigned", "integer unsigned", &[("4294967295", "4294967295")]),
            of("int(5) zerofill", "integer unsigned", &[("42", "42")]),
            of(
                "bigint",
                "bigint",
                &[
                    ("-9223372036854775808", "-9223372036854775808"),
                    ("9223372036854775807", "9223372036854775807"),
                ],
            ),
            of(
                "bigint unsigned",
                "bigint unsigned",
                &[("18446744073709551615", "18446744073709551615")],
            ),
            of(
                "decimal(10,2)",
                "decimal(10,2)",
                &[("-12345678.90", "-12345678.90"), ("0", "0.00")],
            ),
            of("decimal(5,5) unsigned", "decimal(5,5)", &[("0.00123", "0.00123")]),
            of("decimal(65,30)", "decimal(65,30)", &[(long, long)]),
            of("float", "real", &[("1.5", "1.5"), ("-3.4e38", "-3.4e38")]),
            of("float(7,3) unsigned", "real", &[("1.25", "1.25")]),
            of(
                "double",
                "double",
                &[("-1.7976931348623157e308", "-1.7976931348623157e308"), ("0", "0.0")],
            ),
            of("bit(1)", "boolean", &[("b'1'", "true"), ("b'0'", "false")]),
            of("bit(9)", "varbinary", &[("b'100000001'", "0101"), ("b'0'", "0000")]),
            of("bit(64)", "varbinary", &[("18446744073709551615", "ffffffffffffffff")]),
            of("date", "date", &[("'1000-01-01'", "1000-01-01"), ("'9999-12-31'", "9999-12-31")]),
            of(
                "datetime(6)",
                "timestamp(6)",
                &[
                    ("'9999-12-31 23:59:59.999999'", "9999-12-31T23:59:59.999999"),
                    ("'1969-12-31 23:59:59.999999'", "1969-12-31T23:59:59.999999"),
                ],
            ),
            of("datetime", "timestamp(6)", &[("'0001-01-01 00:00:00'", "0001-01-01T00:00:00")]),
            of(
                "timestamp(6) NULL",
                "timestamp(6) with time zone",
                &[
                    ("'1970-01-01 00:00:01.000001'", "1970-01-01T00:00:01.000001Z"),
                    ("'2038-01-19 03:14:07'", "2038-01-19T03:14:07Z"),
                ],
            ),
            of(
                "time(6)",
                "interval day to second",
                &[
                    ("'-838:59:59'", "-PT3020399S"),
                    ("'838:59:59.999999'", "PT3020399.999999S"),
                    ("'00:00:00.5'", "PT0.5S"),
                ],
            ),
            of("year", "smallint", &[("1901", "1901"), ("2155", "2155"), ("0000", "0")]),
            of("char(5)", "varchar", &[("'ab '", "ab"), ("''", "")]),
            of("varchar(20)", "varchar", &[("'héllo 🦀 '", "héllo 🦀 "), ("'NULL'", "NULL")]),
            of("varchar(5) CHARACTER SET latin1", "varchar", &[("'é'", "é")]),
            of("tinytext", "varchar", &[("'a'", "a")]),
            of("mediumtext", "varchar", &[("'a'", "a")]),
            of("longtext", "varchar", &[("'a'", "a")]),
            of("text", "varchar", &[("'line\nbreak'", "line\nbreak")]),
            of("binary(3)", "varbinary", &[("'a'", "610000")]),
            of("varbinary(5)", "varbinary", &[("x'00ff'", "00ff"), ("''", "")]),
            of("blob", "varbinary", &[("x'27'", "27")]),
            of("enum('small','large')", "varchar", &[("'large'", "large")]),
            of("set('a','b','c')", "varchar", &[("'a,c'", "a,c"), ("''", "")]),
            of("json", "varchar", &[("'{\"k\": [1, null]}'", "{\"k\": [1, null]}")]),
            of(
                "uuid",
                "varchar",
                &[(
                    "'123e4567-e89b-12d3-a456-426655440000'",
                    "123e4567-e89b-12d3-a456-426655440000",
                )],
            ),
            of("inet4", "varchar", &[("'10.0.0.1'", "10.0.0.1")]),
            of("inet6", "varchar", &[("'::1'", "::1")]),
            of(
                "point",
                "varbinary",
                &[("POINT(1, 2)", "000000000101000000000000000000f03f0000000000000040")],
            ),
        ]
    }

    fn speaks_sql(&self) -> bool {
        true
    }

    fn writable(&self) -> Option<Properties> {
        Some(self.with("writable", "true"))
    }

    fn policies(&self) -> Vec<(&'static str, Properties)> {
        vec![
            ("zero_dates = error", self.with("zero_dates", "error")),
            ("zero_dates = text", self.with("zero_dates", "text")),
        ]
    }

    fn specials(&self) -> Vec<Special> {
        let date = |declared, value, text| {
            special(declared, value, &[NULL, "SOURCE_VALUE_MISMATCH", text])
        };
        vec![
            date("date", "'0000-00-00'", "0000-00-00"),
            date("date", "'2024-02-00'", "2024-02-00"),
            date("date", "'2024-00-00'", "2024-00-00"),
            date("datetime(6)", "'0000-00-00 00:00:00'", "0000-00-00 00:00:00"),
            date("datetime(6)", "'2024-02-00 12:00:00.5'", "2024-02-00 12:00:00.500000"),
            date("timestamp NULL", "'0000-00-00 00:00:00'", "0000-00-00 00:00:00"),
        ]
    }

    async fn other_types(&mut self) -> Result<Vec<String>> {
        let types = [
            "boolean",
            "integer unsigned zerofill",
            "double unsigned",
            "real",
            "numeric",
            "fixed(65)",
            "bit",
            "year(4)",
            "time",
            "national varchar(5)",
            "char(5) character set binary",
            "tinyblob",
            "mediumblob",
            "longblob",
            "geometry",
            "linestring",
            "polygon",
            "multipoint",
            "multilinestring",
            "multipolygon",
            "geometrycollection",
        ];
        Ok(types.map(str::to_owned).to_vec())
    }

    async fn held(&mut self, table: &str, column: &str) -> Result<Option<Held>> {
        let declared = format!(
            "SELECT COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} AND COLUMN_NAME = {}",
            text_literal(SCHEMA),
            text_literal(table),
            text_literal(column)
        );
        let (table, column) = (format!("{}.{}", quoted(SCHEMA), quoted(table)), quoted(column));
        let rows =
            format!("SELECT COALESCE(HEX(CONCAT({column})), 'NULL') FROM {table} ORDER BY id");
        let mut connection = self.server.connect().await?;
        connection.query_drop("SET NAMES utf8mb4").await?;
        let declared: Option<String> = connection.query_first(declared).await?;
        let values = connection.query(rows).await?;
        connection.disconnect().await?;
        Ok(declared.map(|declared| Held { declared, values }))
    }

    async fn large(&mut self) -> Result<bool> {
        let schema = quoted(SCHEMA);
        self.execute(&[
            format!("USE {schema}"),
            format!(
                "CREATE TABLE {schema}.large (id int PRIMARY KEY) SELECT seq AS id FROM seq_1_to_200000"
            ),
        ])
        .await
        .map(|()| true)
    }

    async fn analyze(&mut self, table: &str) -> Result<()> {
        self.execute(&[format!("ANALYZE TABLE {}.{}", quoted(SCHEMA), quoted(table))]).await
    }

    fn declared(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Integer => "bigint",
            Kind::Text => "varchar(60)",
            Kind::Decimal => "decimal(12,2)",
            Kind::Double => "double",
            Kind::Truth => "bit(1)",
            Kind::Date => "date",
            Kind::Moment => "datetime(6)",
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            writes: Writes::No,
            n_columns: 300,
            pushed_marks: &[" WHERE "],
            n_pushed_min: 230,
            // MariaDB's own names have no letters beyond the first plane.
            names_refused: &[("😀", "")],
        }
    }

    async fn make(&mut self, _doors: &mut Doors, table: &Table) -> Result<()> {
        self.execute(&statements(SCHEMA, table, quoted)).await
    }

    fn requests(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("SELECT count(*) FROM {t}", "SELECT count(*) FROM `Odd ``Schêma\"`.`standard`\n"),
            (
                "SELECT 7 FROM {t} WHERE id > 5",
                "(SELECT 1 FROM `Odd ``Schêma\"`.`standard` WHERE `id` > 5) AS counted",
            ),
            (
                "SELECT id, sum(amount), max(id) FROM {t} WHERE id > 5 GROUP BY id",
                "SELECT `id`, sum(`amount`), max(`id`) FROM `Odd ``Schêma\"`.`standard` WHERE `id` > 5 GROUP BY `id`",
            ),
            (
                "SELECT name FROM {t} ORDER BY amount DESC NULLS FIRST LIMIT 3",
                "ORDER BY `amount` IS NULL DESC, `amount` DESC LIMIT 3",
            ),
            (
                "SELECT name FROM {t} ORDER BY amount NULLS FIRST LIMIT 3",
                "ORDER BY `amount` ASC LIMIT 3",
            ),
            ("SELECT count(*) FROM {t} GROUP BY name", ": COLLATION: the collation "),
            ("SELECT day, name FROM {t}", "SELECT `name`, `day` FROM"),
            (
                "SELECT amount FROM {t} LIMIT 3",
                "SELECT `amount` FROM `Odd ``Schêma\"`.`standard` LIMIT 3",
            ),
            (
                "SELECT id FROM {t} WHERE id < 9 AND name LIKE 'a%b' LIMIT 3",
                "WHERE `id` < 9 AND CAST(`name` AS BINARY) LIKE 'a%b' LIMIT 3",
            ),
            (
                "SELECT id FROM {t} WHERE id < 9 AND name LIKE '_a%' LIMIT 3",
                "SELECT `id`, `name` FROM `Odd ``Schêma\"`.`standard` WHERE `id` < 9\n",
            ),
        ]
    }

    async fn endless(&mut self, _doors: &mut Doors) -> Result<Vec<String>> {
        let schema = quoted(SCHEMA);
        self.execute(&[
            format!("USE {schema}"),
            format!("CREATE VIEW {schema}.endless AS SELECT seq AS n, repeat('x', 200) AS pad FROM seq_1_to_100000000"),
            format!("CREATE VIEW {schema}.asleep AS SELECT sleep(60) AS n"),
        ])
        .await?;
        Ok(["endless", "asleep"].map(|view| name_of(SCHEMA, view)).to_vec())
    }

    async fn is_read(&self, _ids: &[u32]) -> Result<Option<bool>> {
        let mut connection = self.server.connect().await?;
        let sql = "SELECT coalesce(info, '') FROM information_schema.processlist WHERE id <> connection_id()";
        let running: Vec<String> = connection.query(sql).await?;
        connection.disconnect().await?;
        Ok(Some(running.iter().any(|sql| sql.contains("endless") || sql.contains("asleep"))))
    }

    fn away(&self) -> Result<Away, &'static str> {
        let mut properties = self.properties();
        properties.insert("port".to_owned(), free_port().unwrap().to_string());
        Ok(Away { properties, code: "SOURCE_UNAVAILABLE" })
    }

    async fn broken(&mut self, _doors: &mut Doors) -> Result<Vec<Broken>> {
        let schema = quoted(SCHEMA);
        self.execute(&[
            format!("CREATE TABLE {schema}.gone (id int)"),
            format!("CREATE VIEW {schema}.orphan AS SELECT * FROM {schema}.gone"),
            format!("DROP TABLE {schema}.gone"),
        ])
        .await?;
        let names = "orphan".to_owned();
        Ok(vec![Broken {
            relation: name_of(SCHEMA, "orphan"),
            code: "SOURCE_TABLE_UNREADABLE",
            names,
        }])
    }
}
