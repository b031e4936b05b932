//! SQLite: a file for each round.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use async_trait::async_trait;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rusqlite::Connection;

use super::{Flavour, Site, table_statements};
use crate::referee::tables::{Palette, Spec, Table};
use crate::referee::values::{Class, Datum, Domain, Floats, Letters, hexadecimal};

const TEXTS: &[Spec] = &[
    Spec::new(Class::Text, "TEXT", Domain::Texts(Letters::Any, 40)),
    Spec::new(Class::Text, "TEXT COLLATE NOCASE", Domain::Texts(Letters::Any, 40)),
    Spec::new(Class::Text, "TEXT COLLATE RTRIM", Domain::Texts(Letters::Any, 40)),
];

/// What STRICT tables know.
const STRICT: &[Spec] = &[
    Spec::new(Class::Int, "INTEGER", Domain::Ints(i64::MIN as i128, i64::MAX as i128)),
    Spec::new(Class::Double, "REAL", Domain::Doubles(Floats::NoNan)),
    Spec::new(Class::Tame, "REAL", Domain::Quarters),
    Spec::new(Class::Bytes, "BLOB", Domain::Bytes),
];

/// What others declare, and keep to.
const LOOSE: &[Spec] = &[
    Spec::new(Class::Int, "BIGINT", Domain::Ints(i64::MIN as i128, i64::MAX as i128)),
    Spec::new(Class::Double, "DOUBLE", Domain::Doubles(Floats::NoNan)),
    Spec::new(Class::Tame, "DOUBLE", Domain::Quarters),
    Spec::new(Class::Bytes, "BLOB", Domain::Bytes),
    Spec::new(Class::Bool, "BOOLEAN", Domain::Bools),
    Spec::new(Class::Decimal, "DECIMAL(12,2)", Domain::Decimals(12, 2)),
    Spec::new(Class::Date, "DATE", Domain::Dates(1, 9999)),
    Spec::new(Class::Timestamp, "TIMESTAMP", Domain::Moments(1, 9999))
        .with(&["'2001-01-01T00:00:00+02:00'", "'2001-01-01'"]),
    Spec::new(Class::Text, "JSON", Domain::Words(&["1", "1.0", "{}", "a"])).with(&["7", "2.5"]),
];

/// What others declare and do not keep to; such values are read as NULL.
const BROKEN: &[Spec] = &[
    Spec::new(Class::Int, "INTEGER", Domain::Ints(i64::MIN as i128, i64::MAX as i128))
        .with(&["'two'", "2.5", "x'00'"]),
    Spec::new(Class::Double, "REAL", Domain::Doubles(Floats::NoNan)).with(&["'x'"]),
    Spec::new(Class::Bool, "BOOLEAN", Domain::Bools).with(&["7", "'true'"]),
    Spec::new(Class::Date, "DATE", Domain::Dates(1, 9999)).with(&[
        "'soon'",
        "20240101",
        "'2024-1-1'",
    ]),
    Spec::new(Class::Text, "TEXT", Domain::Texts(Letters::Any, 40)).with(&["x'ff'", "x'61'"]),
    Spec::new(Class::Bytes, "BLOB", Domain::Bytes).with(&["'a'", "97"]),
    Spec::new(Class::Decimal, "DECIMAL(5,2)", Domain::Decimals(5, 2)).with(&["'x'", "1e10"]),
];

/// A folder of files.
#[derive(Debug)]
pub(super) struct SqliteSite {
    folder: PathBuf,
}

impl SqliteSite {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let folder = folder.join("sqlite");
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    fn file(&self, schema: &str) -> PathBuf {
        self.folder.join(format!("{schema}.db"))
    }
}

#[async_trait]
impl Site for SqliteSite {
    fn flavour(&self, rng: &mut StdRng) -> Flavour {
        let (properties, suffixes, own): (&[_], &[_], _) = match rng.random_range(0..3) {
            0 => (&[], &["STRICT"], STRICT),
            1 => (&[("mismatch", "null")], &["", "WITHOUT ROWID"], BROKEN),
            _ => (&[], &["", "WITHOUT ROWID"], LOOSE),
        };
        let always = [
            Spec::new(Class::Int, "INTEGER PRIMARY KEY", Domain::Keys),
            Spec::new(Class::Int, "INTEGER", Domain::Keys),
            *TEXTS.choose(rng).expect("there are some"),
        ];
        let types = [own, TEXTS].concat();
        Flavour { properties, palette: Palette { always, types, suffixes } }
    }

    fn properties(&self, schema: &str) -> BTreeMap<String, String> {
        let path = self.file(schema).to_string_lossy().into_owned();
        BTreeMap::from([("path".to_owned(), path)])
    }

    fn schema_name(&self, _schema: &str) -> String {
        "main".to_owned()
    }

    fn statements(&self, _schema: &str, tables: &[Table]) -> Vec<String> {
        let statements = |table: &Table| {
            table_statements(&table.name, table, |name| format!("\"{name}\""), literal)
        };
        tables.iter().flat_map(statements).collect()
    }

    async fn lay(&self, schema: &str, tables: &[Table]) -> Result<()> {
        let connection = Connection::open(self.file(schema))?;
        // Nobody wants these files after a crash.
        connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; BEGIN")?;
        for statement in self.statements(schema, tables) {
            connection.execute_batch(&statement).with_context(|| statement.clone())?;
        }
        Ok(connection.execute_batch("COMMIT")?)
    }

    async fn clear(&self, schema: &str) -> Result<()> {
        Ok(fs::remove_file(self.file(schema))?)
    }
}

fn literal(value: &Datum) -> String {
    match value {
        Datum::Null => "NULL".to_owned(),
        Datum::Bool(value) => i32::from(*value).to_string(),
        Datum::Int(value) => value.to_string(),
        Datum::Decimal(text) => text.clone(),
        Datum::Float(value) if value.is_infinite() => {
            format!("{}9e999", if *value < 0.0 { "-" } else { "" })
        }
        Datum::Float(value) => format!("{value:e}"),
        Datum::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Datum::Bytes(bytes) => format!("x'{}'", hexadecimal(bytes)),
        Datum::Date(text) | Datum::Moment(text) => format!("'{text}'"),
        Datum::Own(literal) => (*literal).to_owned(),
    }
}
