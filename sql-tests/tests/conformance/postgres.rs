//! PostgreSQL: a server whose defaults are none that the connector may rely on.

use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use meshwork_sql_tests::servers::{Postgres, Session, free_port};

use crate::doors::{Doors, NULL};
use crate::source::{
    Away, Broken, Held, Kind, Limits, Properties, Source, Special, Table, Type, Value, Writes,
    name_of, of, quoted, special, sql_literal, statements,
};

const SCHEMA: &str = "Odd \"Schêma";

/// A server and a session beside the connector's.
pub(crate) struct PostgreSql {
    server: Arc<Postgres>,
    session: Session,
}

impl PostgreSql {
    pub(crate) async fn new() -> Result<Self> {
        let server = Postgres::shared()?;
        let schema = format!("CREATE SCHEMA {}", quoted(SCHEMA));
        server
            .execute(&[
                &schema,
                "CREATE TYPE public.mood AS ENUM ('sad', 'ok')",
                "CREATE TYPE public.pair AS (a int, b text)",
                "CREATE DOMAIN public.positive AS numeric(8,2) CHECK (value > 0)",
                "CREATE EXTENSION citext SCHEMA public",
                "CREATE EXTENSION hstore SCHEMA public",
            ])
            .await?;
        let session = server.connect().await?;
        // Every digit is to be seen when the server is asked what it holds.
        session.client.batch_execute("SET extra_float_digits = 3").await?;
        Ok(Self { server, session })
    }

    fn with(&self, key: &str, value: &str) -> Properties {
        let mut properties = self.server.properties();
        properties.insert(key.to_owned(), value.to_owned());
        properties
    }

    async fn execute(&self, statements: &[String]) -> Result<()> {
        let texts: Vec<&str> = statements.iter().map(String::as_str).collect();
        self.server.execute(&texts).await
    }
}

/// Types whose values are none of a table, or those of one.
const OTHER_TYPES: &str = "SELECT pg_catalog.format_type(t.oid, NULL) FROM pg_catalog.pg_type t \
     LEFT JOIN pg_catalog.pg_type i ON i.oid = t.typelem AND t.typcategory = 'A' \
     JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
     WHERE n.nspname IN ('pg_catalog', 'information_schema', 'public') \
       AND t.typtype IN ('b', 'd', 'e', 'r', 'm') AND COALESCE(i.typtype, 'b') IN ('b', 'd', 'e', 'r', 'm') \
     ORDER BY 1";

/// What a column declares, and what its values are, as the server says it.
const DECLARED: &str = "SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a \
     JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = $1 AND c.relname = $2 AND a.attname = $3";

/// The code of the error that names a value without a counterpart.
const NOT_HERE: &str = "VALUE_NOT_REPRESENTABLE";

/// The server takes backslashes for escapes unless it is told.
fn text(value: &str) -> String {
    format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

#[async_trait]
impl Source for PostgreSql {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn properties(&self) -> Properties {
        self.server.properties()
    }

    fn schema(&self) -> &'static str {
        SCHEMA
    }

    fn types(&self) -> Vec<Type> {
        let tiny = "0.00000000000000000000000000000000000001";
        let huge = "10000000000000000000000000000000000000000000000000000000000000000000000.0";
        let words = "12345678901234567890123456789012345678901234567890.0123456789";
        vec![
            of("int2", "smallint", &[("-32768", "-32768"), ("32767", "32767")]),
            of("int", "integer", &[("-2147483648", "-2147483648"), ("2147483647", "2147483647")]),
            of(
                "int8",
                "bigint",
                &[
                    ("-9223372036854775808", "-9223372036854775808"),
                    ("9223372036854775807", "9223372036854775807"),
                ],
            ),
            of("oid", "bigint", &[("4294967295", "4294967295"), ("0", "0")]),
            of(
                "float4",
                "real",
                &[("1.5", "1.5"), ("'-3.4028235e38'", "-3.4028235e38"), ("'NaN'", "NaN")],
            ),
            of(
                "float8",
                "double",
                &[
                    ("0.1", "0.1"),
                    ("'-1.7976931348623157e308'", "-1.7976931348623157e308"),
                    ("'Infinity'", "inf"),
                    ("'-0'", "-0.0"),
                ],
            ),
            of("bool", "boolean", &[("true", "true"), ("false", "false")]),
            of("text", "varchar", &[("''", ""), ("'Grüße 🦀'", "Grüße 🦀"), ("'NULL'", "NULL")]),
            of("varchar(9)", "varchar", &[("'abc  '", "abc  ")]),
            of("char(5)", "varchar", &[("'ab'", "ab"), ("''", "")]),
            of(
                "numeric(12,3)",
                "decimal(12,3)",
                &[("-123.45", "-123.450"), ("999999999.999", "999999999.999")],
            ),
            of("numeric(5,-2)", "decimal(7,0)", &[("12300", "12300"), ("-9999900", "-9999900")]),
            of("numeric(3,5)", "decimal(5,5)", &[("0.00123", "0.00123")]),
            of("numeric(38,38)", "decimal(38,38)", &[(tiny, tiny)]),
            of("numeric(77,1)", "varchar", &[("1e70", huge)]),
            of("numeric(60,10)", "decimal(60,10)", &[(words, words)]),
            of(
                "numeric",
                "varchar",
                &[
                    ("1.1234567890123456789012345", "1.1234567890123456789012345"),
                    ("'NaN'", "NaN"),
                    ("'-Infinity'", "-Infinity"),
                ],
            ),
            of(
                "date",
                "date",
                &[("'0044-03-15 BC'", "-0043-03-15"), ("'9999-12-31'", "9999-12-31")],
            ),
            of(
                "time",
                "time(6)",
                &[("'23:59:59.999999'", "23:59:59.999999"), ("'00:00'", "00:00:00")],
            ),
            of(
                "timestamp",
                "timestamp(6)",
                &[
                    ("'1969-12-31 23:59:59.999999'", "1969-12-31T23:59:59.999999"),
                    ("'9999-12-31 23:59:59.999999'", "9999-12-31T23:59:59.999999"),
                    ("'4713-11-24 00:00:00 BC'", "-4712-11-24T00:00:00"),
                ],
            ),
            of(
                "timestamptz",
                "timestamp(6) with time zone",
                &[
                    ("'9999-12-31 23:59:59.5+00'", "9999-12-31T23:59:59.500Z"),
                    ("'0001-01-01 00:00+00'", "0001-01-01T00:00:00Z"),
                ],
            ),
            of(
                "interval",
                "interval day to second",
                &[(
                    "'1 year 2 months -3 days 04:05:06.789'",
                    "14 mons -3 days 4 hours 5 mins 6.789000000 secs",
                )],
            ),
            of(
                "uuid",
                "varchar",
                &[(
                    "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
                    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                )],
            ),
            of("json", "varchar", &[("'{\"a\": 1}'", "{\"a\": 1}")]),
            of("jsonb", "varchar", &[("'{\"b\":  [1,2]}'", "{\"b\": [1, 2]}")]),
            of("bytea", "varbinary", &[("decode('00ff27', 'hex')", "00ff27"), ("''", "")]),
            of("citext", "varchar", &[("'Case'", "Case")]),
            of("int[]", "array(integer)", &[("'{1,NULL,3}'", "[1, ∅, 3]"), ("'{}'", "[]")]),
            of("text[]", "array(varchar)", &[("ARRAY['a','b\"c',NULL]", "[a, b\"c, ∅]")]),
            of("numeric(6,2)[]", "array(decimal(6,2))", &[("'{1.50,-2.25}'", "[1.50, -2.25]")]),
            of(
                "timestamptz[]",
                "array(timestamp(6) with time zone)",
                &[("ARRAY[timestamptz '2024-03-10 05:00+00']", "[2024-03-10T05:00:00Z]")],
            ),
            of("char(3)[]", "array(varchar)", &[("'{ab,c}'", "[ab, c]")]),
            of(
                "uuid[]",
                "array(varchar)",
                &[(
                    "'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'",
                    "[a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11]",
                )],
            ),
            of("public.mood", "varchar", &[("'ok'", "ok")]),
            of("public.positive", "decimal(8,2)", &[("7.5", "7.50")]),
            // What the connector does not know is text, as the server writes it.
            of("public.pair", "varchar", &[("ROW(1, 'x y')", "(1,\"x y\")")]),
            of("inet", "varchar", &[("'10.0.0.1/8'", "10.0.0.1/8")]),
            of("int4range", "varchar", &[("'[1,5)'", "[1,5)")]),
            of("money", "varchar", &[("12.34", "$12.34")]),
            of("timetz", "varchar", &[("'12:00:00-05'", "12:00:00-05")]),
            of("xml", "varchar", &[("'<a/>'", "<a/>")]),
            of("public.mood[]", "varchar", &[("'{ok,sad}'", "{ok,sad}")]),
            of(
                "numeric[]",
                "varchar",
                &[("'{1.5,NULL,1e30}'", "{1.5,NULL,1000000000000000000000000000000}")],
            ),
            of("jsonb[]", "varchar", &[("ARRAY['1'::jsonb]", "{1}")]),
            of("bit(1)", "varchar", &[("b'1'", "1")]),
            of("bit(3)", "varchar", &[("b'101'", "101")]),
            of("varbit(5)", "varchar", &[("b'10'", "10")]),
            of("cidr", "varchar", &[("'10.0.0.0/8'", "10.0.0.0/8")]),
            of("macaddr", "varchar", &[("'08:00:2b:01:02:03'", "08:00:2b:01:02:03")]),
            of("numrange", "varchar", &[("'(,2.5]'", "(,2.5]"), ("'empty'", "empty")]),
            of("daterange", "varchar", &[("'[2024-01-01,infinity)'", "[2024-01-01,infinity)")]),
            of("int4multirange", "varchar", &[("'{[1,2),[5,7)}'", "{[1,2),[5,7)}")]),
            of("hstore", "varchar", &[("'a=>1, b=>NULL'", "\"a\"=>\"1\", \"b\"=>NULL")]),
            of("point", "varchar", &[("'(1,2)'", "(1,2)")]),
            of("tsvector", "varchar", &[("'cat rat'", "'cat' 'rat'")]),
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
            ("unrepresentable = null", self.with("unrepresentable", "null")),
            ("arrays_as_lists = false", self.with("arrays_as_lists", "false")),
            ("numeric_without_bounds = double", self.with("numeric_without_bounds", "double")),
            (
                "numeric_without_bounds = decimal(10,3)",
                self.with("numeric_without_bounds", "decimal(10,3)"),
            ),
        ]
    }

    fn specials(&self) -> Vec<Special> {
        let nowhere = [NOT_HERE, NULL, NOT_HERE, NOT_HERE, NOT_HERE];
        let list = |declared, value, lenient, text| {
            special(declared, value, &[NOT_HERE, lenient, text, NOT_HERE, NOT_HERE])
        };
        let number = |declared, value, text, double, decimal| {
            special(declared, value, &[text, text, text, double, decimal])
        };
        let long = "123456789.123456789123456789";
        vec![
            special("numeric(12,3)", "'NaN'", &nowhere),
            special("numeric(60,10)", "'NaN'", &nowhere),
            number("numeric", "1.5", "1.5", "1.5", "1.500"),
            number("numeric", long, long, "123456789.12345679", NOT_HERE),
            number("numeric", "12345678", "12345678", "12345678.0", NOT_HERE),
            number("numeric", "'NaN'", "NaN", "NaN", NOT_HERE),
            number("numeric", "'Infinity'", "Infinity", "inf", NOT_HERE),
            special("date", "'infinity'", &nowhere),
            special("date", "'-infinity'", &nowhere),
            special("time", "'24:00:00'", &nowhere),
            special("timestamp", "'infinity'", &nowhere),
            special("timestamp", "'294276-12-31 23:59:59.999999'", &nowhere),
            special("timestamptz", "'-infinity'", &nowhere),
            special("interval", "'2562048 hours'", &nowhere),
            list("int[]", "'{{1,2},{3,4}}'", NULL, "{{1,2},{3,4}}"),
            list("numeric(6,2)[]", "'{1.50,NaN}'", "[1.50, ∅]", "{1.50,NaN}"),
            list("date[]", "'{infinity}'", "[∅]", "{infinity}"),
        ]
    }

    async fn other_types(&mut self) -> Result<Vec<String>> {
        let rows = self.session.client.query(OTHER_TYPES, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn held(&mut self, table: &str, column: &str) -> Result<Option<Held>> {
        let client = &self.session.client;
        let declared = client.query_one(DECLARED, &[&SCHEMA, &table, &column]).await?.get(0);
        let (table, column) = (format!("{}.{}", quoted(SCHEMA), quoted(table)), quoted(column));
        let rows = format!("SELECT COALESCE({column}::text, '{NULL}') FROM {table} ORDER BY id");
        let rows = client.query(&rows, &[]).await?;
        Ok(Some(Held { declared, values: rows.iter().map(|row| row.get(0)).collect() }))
    }

    async fn large(&mut self) -> Result<bool> {
        let made = format!(
            "CREATE TABLE {}.large AS SELECT n AS id, repeat('x', 100) AS filler FROM generate_series(1, 200000) n",
            quoted(SCHEMA)
        );
        self.execute(&[made]).await.map(|()| true)
    }

    async fn analyze(&mut self, table: &str) -> Result<()> {
        self.execute(&[format!("ANALYZE {}.{}", quoted(SCHEMA), quoted(table))]).await
    }

    fn declared(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Integer => "int8",
            Kind::Text => "text",
            Kind::Decimal => "numeric(12,2)",
            Kind::Double => "float8",
            Kind::Truth => "bool",
            Kind::Date => "date",
            Kind::Moment => "timestamp",
        }
    }

    fn literal(&self, value: &Value) -> String {
        sql_literal(value, text)
    }

    fn limits(&self) -> Limits {
        Limits {
            writes: Writes::No,
            n_columns: 300,
            pushed_marks: &[" WHERE "],
            n_pushed_min: 310,
            names_refused: &[],
        }
    }

    async fn make(&mut self, _doors: &mut Doors, table: &Table) -> Result<()> {
        self.execute(&statements(SCHEMA, table, quoted)).await
    }

    fn requests(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("SELECT day, name FROM {t}", "SELECT \"name\", \"day\" FROM"),
            ("SELECT name FROM {t} WHERE id > 5 LIMIT 3", "WHERE \"id\" > 5 LIMIT 3"),
            (
                "SELECT name FROM {t} ORDER BY id DESC LIMIT 3",
                "ORDER BY \"id\" DESC NULLS LAST LIMIT 3",
            ),
            (
                "SELECT flag, sum(amount), max(day), count(name) FILTER (WHERE id > 5) FROM {t} GROUP BY flag",
                "SELECT \"flag\", sum(\"amount\")::numeric(39,2), max(\"day\"), \
                 count(CASE WHEN \"id\" > 5 THEN \"name\" END) FROM",
            ),
            ("SELECT avg(amount * 2) FROM {t}", "sum((\"amount\" * (2)))::numeric("),
            ("SELECT sum(ratio) FROM {t}", "sum(source."),
            ("SELECT name FROM {t} ORDER BY ratio LIMIT 3", ": FLOAT: -0 is less than 0 here"),
        ]
    }

    async fn endless(&mut self, _doors: &mut Doors) -> Result<Vec<String>> {
        let schema = quoted(SCHEMA);
        self.execute(&[
            format!(
                "CREATE VIEW {schema}.endless AS SELECT generate_series(1, 1000000000000) AS n"
            ),
            format!("CREATE VIEW {schema}.asleep AS SELECT pg_sleep(600)::text AS n"),
        ])
        .await?;
        Ok(["endless", "asleep"].map(|view| name_of(SCHEMA, view)).to_vec())
    }

    async fn is_read(&self, _ids: &[u32]) -> Result<Option<bool>> {
        // The session that holds the snapshot counts as well.
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'meshwork/%'";
        let n_running: i64 = self.session.client.query_one(sql, &[]).await?.get(0);
        Ok(Some(n_running > 0))
    }

    fn away(&self) -> Result<Away, &'static str> {
        let mut properties = self.properties();
        properties.insert("port".to_owned(), free_port().unwrap().to_string());
        Ok(Away { properties, code: "SOURCE_UNAVAILABLE" })
    }

    async fn broken(&mut self, _doors: &mut Doors) -> Result<Vec<Broken>> {
        let schema = quoted(SCHEMA);
        self.execute(&[
            format!("CREATE VIEW {schema}.failing AS SELECT 1 / (n - 1) AS n FROM generate_series(1, 3) AS n"),
            format!("CREATE TABLE {schema}.infinite (d date)"),
            format!("INSERT INTO {schema}.infinite VALUES ('infinity')"),
        ])
        .await?;
        let broken = |table, code, names: &str| Broken {
            relation: name_of(SCHEMA, table),
            code,
            names: names.to_owned(),
        };
        Ok(vec![
            broken("failing", "SOURCE_QUERY_FAILED", "division by zero"),
            broken("infinite", "VALUE_NOT_REPRESENTABLE", "\"d\""),
        ])
    }
}
