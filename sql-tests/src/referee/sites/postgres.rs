//! PostgreSQL: a schema for each round on one server.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::{Flavour, Site, table_statements};
use crate::referee::tables::{Palette, Spec, Table};
use crate::referee::values::{Class, Datum, Domain, Floats, Letters, hexadecimal};
use crate::servers::Postgres;

const TEXTS: &[Spec] = &[
    Spec::new(Class::Text, "text COLLATE \"C\"", Domain::Texts(Letters::Any, 40)),
    Spec::new(Class::Text, "text", Domain::Texts(Letters::Any, 40)),
    Spec::new(Class::Text, "text COLLATE \"en-US-x-icu\"", Domain::Texts(Letters::Any, 40)),
    Spec::new(Class::Text, "text COLLATE public.no_case", Domain::Texts(Letters::Any, 40)),
    Spec::new(Class::Text, "varchar(9) COLLATE \"de-x-icu\"", Domain::Texts(Letters::Any, 9)),
    Spec::new(Class::Text, "char(5)", Domain::Texts(Letters::Any, 5)),
];

const NUMERICS_AS_TEXT: &[&str] = &["0", "0.0", "1.10", "-3", "1e10", "NaN"];
const MOODS: &[&str] = &["sad", "ok", "Happy"];
const UUIDS: &[&str] = &[
    "00000000-0000-0000-0000-000000000000",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
];

/// What both flavours have.
const TYPES: &[Spec] = &[
    Spec::new(Class::Bool, "boolean", Domain::Bools),
    Spec::new(Class::Int, "smallint", Domain::Ints(-32_768, 32_767)),
    Spec::new(Class::Int, "integer", Domain::Ints(i32::MIN as i128, i32::MAX as i128)),
    Spec::new(Class::Int, "bigint", Domain::Ints(i64::MIN as i128, i64::MAX as i128)),
    Spec::new(Class::Int, "oid", Domain::Ints(0, u32::MAX as i128)),
    Spec::new(Class::Real, "real", Domain::Reals(Floats::All)),
    Spec::new(Class::Double, "double precision", Domain::Doubles(Floats::All)),
    Spec::new(Class::Tame, "double precision", Domain::Quarters),
    Spec::new(Class::Bytes, "bytea", Domain::Bytes),
    Spec::new(Class::Text, "uuid", Domain::Words(UUIDS)),
    Spec::new(Class::Text, "public.mood", Domain::Words(MOODS)),
    Spec::new(Class::Text, "numeric", Domain::Words(NUMERICS_AS_TEXT)),
    Spec::new(Class::Opaque, "jsonb", Domain::Own(&["'{\"a\": 1}'", "'[]'", "'null'"])),
    Spec::new(Class::Opaque, "time", Domain::Own(&["'00:00'", "'23:59:59.999999'"])),
    Spec::new(Class::Opaque, "interval", Domain::Own(&["'1 month -1 day'", "'24:00:00'"])),
    Spec::new(Class::Opaque, "inet", Domain::Own(&["'10.0.0.1'", "'::1/64'"])),
    Spec::new(Class::Opaque, "integer[]", Domain::Own(&["'{}'", "'{1,NULL}'"])),
];

/// Values that all have a counterpart.
const REPRESENTABLE: &[Spec] = &[
    Spec::new(Class::Decimal, "numeric(5,2)", Domain::Decimals(5, 2)),
    Spec::new(Class::Decimal, "numeric(38,10)", Domain::Decimals(38, 10)),
    Spec::new(Class::Decimal, "numeric(50,3)", Domain::Decimals(50, 3)),
    Spec::new(Class::Date, "date", Domain::Dates(1, 9999))
        .with(&["'0044-03-15 BC'", "'99999-12-31'"]),
    Spec::new(Class::Timestamp, "timestamp", Domain::Moments(1, 9999))
        .with(&["'0044-03-15 01:00 BC'"]),
    Spec::new(Class::Instant, "timestamptz", Domain::Moments(1, 9999))
        .with(&["'2001-01-01 00:00:00 Asia/Tokyo'", "'0044-03-15 01:00+00 BC'"]),
];

/// Values of which some have none, and are read as NULL.
const UNREPRESENTABLE: &[Spec] = &[
    Spec::new(Class::Decimal, "numeric(5,2)", Domain::Decimals(5, 2)).with(&["'NaN'"]),
    Spec::new(Class::Decimal, "numeric(38,10)", Domain::Decimals(38, 10)).with(&["'NaN'"]),
    Spec::new(Class::Date, "date", Domain::Dates(1, 9999)).with(&["'infinity'", "'-infinity'"]),
    Spec::new(Class::Timestamp, "timestamp", Domain::Moments(1, 9999))
        .with(&["'infinity'", "'-infinity'"]),
    Spec::new(Class::Instant, "timestamptz", Domain::Moments(1, 9999))
        .with(&["'infinity'", "'-infinity'"]),
];

/// The server.
#[derive(Debug)]
pub(super) struct PostgresSite {
    server: Arc<Postgres>,
}

impl PostgresSite {
    pub(super) async fn open() -> Result<Self> {
        let server = Postgres::shared()?;
        server
            .execute(&[
                "CREATE COLLATION IF NOT EXISTS public.no_case \
                 (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
                "DROP TYPE IF EXISTS public.mood CASCADE",
                "CREATE TYPE public.mood AS ENUM ('sad', 'ok', 'Happy')",
            ])
            .await?;
        Ok(Self { server })
    }
}

#[async_trait]
impl Site for PostgresSite {
    fn flavour(&self, rng: &mut StdRng) -> Flavour {
        let (nulls, special) = match rng.random_bool(0.3) {
            true => (true, UNREPRESENTABLE),
            false => (false, REPRESENTABLE),
        };
        // A table of a few pages is cut into that many splits.
        let properties: &[_] = match (nulls, rng.random_bool(0.5)) {
            (true, true) => &[("unrepresentable", "null"), ("split_kb_min", "8")],
            (true, false) => &[("unrepresentable", "null")],
            (false, true) => &[("split_kb_min", "8")],
            (false, false) => &[],
        };
        let always = [
            Spec::new(Class::Int, "integer", Domain::Keys),
            Spec::new(Class::Int, "integer", Domain::Keys),
            *TEXTS.choose(rng).expect("there are some"),
        ];
        let types = [TYPES, TEXTS, special].concat();
        Flavour {
            properties,
            palette: Palette { always, types, suffixes: &["", " WITH (fillfactor = 10)"] },
        }
    }

    fn properties(&self, _schema: &str) -> BTreeMap<String, String> {
        let mut properties = self.server.properties();
        properties.insert("tls".to_owned(), "disable".to_owned());
        properties
    }

    fn schema_name(&self, schema: &str) -> String {
        schema.to_owned()
    }

    fn statements(&self, schema: &str, tables: &[Table]) -> Vec<String> {
        let mut statements = vec![format!("CREATE SCHEMA {schema}")];
        for table in tables {
            let name = format!("{schema}.{}", table.name);
            statements.extend(table_statements(
                &name,
                table,
                |name| format!("\"{name}\""),
                literal,
            ));
            if table.is_analyzed() {
                statements.push(format!("ANALYZE {name}"));
            }
        }
        statements
    }

    async fn lay(&self, schema: &str, tables: &[Table]) -> Result<()> {
        let statements = self.statements(schema, tables);
        let texts: Vec<&str> = statements.iter().map(String::as_str).collect();
        self.server.execute(&texts).await
    }

    async fn clear(&self, schema: &str) -> Result<()> {
        self.server.execute(&[&format!("DROP SCHEMA IF EXISTS {schema} CASCADE")]).await
    }
}

fn literal(value: &Datum) -> String {
    match value {
        Datum::Null => "NULL".to_owned(),
        Datum::Bool(value) => value.to_string(),
        Datum::Int(value) => value.to_string(),
        Datum::Decimal(text) => text.clone(),
        Datum::Float(value) => format!("'{value:?}'"),
        Datum::Text(text) => {
            format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
        }
        Datum::Bytes(bytes) => format!("decode('{}', 'hex')", hexadecimal(bytes)),
        Datum::Date(text) => format!("DATE '{text}'"),
        Datum::Moment(text) => format!("'{text}Z'"),
        Datum::Own(literal) => (*literal).to_owned(),
    }
}
