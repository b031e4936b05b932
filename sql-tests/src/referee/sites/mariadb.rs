//! MariaDB: a database for each round on one server.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use mysql_async::prelude::Queryable;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::{Flavour, Site, table_statements};
use crate::referee::tables::{Palette, Spec, Table};
use crate::referee::values::{Class, Datum, Domain, Floats, Letters, hexadecimal};
use crate::servers::MariaDb;

const TEXTS: &[Spec] = &[
    Spec::new(
        Class::Text,
        "varchar(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
        Domain::Texts(Letters::Any, 40),
    ),
    Spec::new(
        Class::Text,
        "varchar(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        Domain::Texts(Letters::Any, 40),
    ),
    Spec::new(
        Class::Text,
        "varchar(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
        Domain::Texts(Letters::Any, 40),
    ),
    Spec::new(
        Class::Text,
        "varchar(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_nopad_ci",
        Domain::Texts(Letters::Any, 40),
    ),
    Spec::new(
        Class::Text,
        "text CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",
        Domain::Texts(Letters::Any, 40),
    ),
    Spec::new(
        Class::Text,
        "char(5) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
        Domain::Texts(Letters::Any, 5),
    ),
    Spec::new(
        Class::Text,
        "varchar(40) CHARACTER SET utf8mb3",
        Domain::Texts(Letters::FirstPlane, 40),
    ),
    Spec::new(Class::Text, "varchar(40) CHARACTER SET latin1", Domain::Texts(Letters::Ascii, 40)),
];

const TYPES: &[Spec] = &[
    Spec::new(Class::Bool, "bit(1)", Domain::Bools),
    Spec::new(Class::Int, "tinyint", Domain::Ints(-128, 127)),
    Spec::new(Class::Int, "smallint unsigned", Domain::Ints(0, 65_535)),
    Spec::new(Class::Int, "int", Domain::Ints(i32::MIN as i128, i32::MAX as i128)),
    Spec::new(Class::Int, "bigint", Domain::Ints(i64::MIN as i128, i64::MAX as i128)),
    Spec::new(Class::Int, "bigint unsigned", Domain::Ints(0, u64::MAX as i128)),
    Spec::new(Class::Int, "year", Domain::Ints(1901, 2155)).with(&["'0000'"]),
    Spec::new(Class::Decimal, "decimal(5,2)", Domain::Decimals(5, 2)),
    Spec::new(Class::Decimal, "decimal(38,10)", Domain::Decimals(38, 10)),
    Spec::new(Class::Decimal, "decimal(65,30)", Domain::Decimals(65, 30)),
    Spec::new(Class::Real, "float", Domain::Reals(Floats::Finite)),
    Spec::new(Class::Double, "double", Domain::Doubles(Floats::Finite)),
    Spec::new(Class::Tame, "double", Domain::Quarters),
    Spec::new(Class::Bytes, "varbinary(20)", Domain::Bytes),
    Spec::new(Class::Bytes, "blob", Domain::Bytes),
    Spec::new(Class::Date, "date", Domain::Dates(1, 9999)).with(&["'0000-00-00'", "'2024-02-00'"]),
    Spec::new(Class::Timestamp, "datetime(6)", Domain::Moments(1, 9999))
        .with(&["'0000-00-00 00:00:00'", "'2024-00-01 12:00:00'"]),
    Spec::new(Class::Instant, "timestamp(6) NULL", Domain::Moments(1971, 2037))
        .with(&["'0000-00-00 00:00:00'"]),
    Spec::new(Class::Text, "enum('b', 'a', 'A ')", Domain::Words(&["a", "b"])),
    Spec::new(Class::Text, "json", Domain::Words(&["{\"a\": 1}", "[]", "null"])),
    Spec::new(
        Class::Opaque,
        "time(6)",
        Domain::Own(&["'-838:59:59'", "'00:00:00.5'", "'25:00:00'"]),
    ),
];

/// The server.
#[derive(Debug)]
pub(super) struct MariaDbSite {
    server: Arc<MariaDb>,
}

impl MariaDbSite {
    pub(super) async fn open() -> Result<Self> {
        let server = MariaDb::shared()?;
        // The connectors of ended rounds may still say goodbye.
        server.execute(&["SET GLOBAL max_connections = 500"]).await.unwrap_or_default();
        Ok(Self { server })
    }
}

#[async_trait]
impl Site for MariaDbSite {
    fn flavour(&self, rng: &mut StdRng) -> Flavour {
        let always = [
            Spec::new(Class::Int, "int", Domain::Keys),
            Spec::new(Class::Int, "int", Domain::Keys),
            *TEXTS.choose(rng).expect("there are some"),
        ];
        let types = [TYPES, TEXTS].concat();
        // Nobody writes meanwhile: a table of a few rows is cut into splits.
        let properties: &[_] = match rng.random_bool(0.5) {
            true => &[("read_consistency", "relaxed"), ("split_rows_min", "4")],
            false => &[],
        };
        Flavour { properties, palette: Palette { always, types, suffixes: &[""] } }
    }

    fn properties(&self, _schema: &str) -> BTreeMap<String, String> {
        let mut properties = self.server.properties();
        properties.insert("tls".to_owned(), "disable".to_owned());
        // A query of three tables needs three, and its plan more.
        properties.insert("connections_max".to_owned(), "16".to_owned());
        properties
    }

    fn schema_name(&self, schema: &str) -> String {
        schema.to_owned()
    }

    fn statements(&self, schema: &str, tables: &[Table]) -> Vec<String> {
        let mut statements =
            vec!["SET time_zone = '+00:00'".to_owned(), format!("CREATE DATABASE {schema}")];
        for table in tables {
            let name = format!("{schema}.{}", table.name);
            statements.extend(table_statements(&name, table, |name| format!("`{name}`"), literal));
            // What splits are ranges of; no query names it.
            statements.push(format!(
                "ALTER TABLE {name} ADD COLUMN row_id int INVISIBLE AUTO_INCREMENT PRIMARY KEY"
            ));
            if table.is_analyzed() {
                statements.push(format!("ANALYZE TABLE {name} PERSISTENT FOR ALL"));
            }
        }
        statements
    }

    async fn lay(&self, schema: &str, tables: &[Table]) -> Result<()> {
        let mut connection = self.server.connect().await?;
        for statement in self.statements(schema, tables) {
            connection.query_drop(&statement).await.with_context(|| statement.clone())?;
        }
        Ok(connection.disconnect().await?)
    }

    async fn clear(&self, schema: &str) -> Result<()> {
        self.server.execute(&[&format!("DROP DATABASE IF EXISTS {schema}")]).await
    }
}

/// The driver would take a backslash, a colon or a question mark for its own, so that text is written as bytes.
fn literal(value: &Datum) -> String {
    match value {
        Datum::Null => "NULL".to_owned(),
        Datum::Bool(true) => "b'1'".to_owned(),
        Datum::Bool(false) => "b'0'".to_owned(),
        Datum::Int(value) => value.to_string(),
        Datum::Decimal(text) => text.clone(),
        Datum::Float(value) => format!("{value:e}"),
        Datum::Text(text) if text.is_empty() => "''".to_owned(),
        Datum::Text(text) => format!("_utf8mb4 X'{}'", hexadecimal(text.as_bytes())),
        Datum::Bytes(bytes) => format!("X'{}'", hexadecimal(bytes)),
        Datum::Date(text) | Datum::Moment(text) => format!("'{text}'"),
        Datum::Own(literal) => (*literal).to_owned(),
    }
}
