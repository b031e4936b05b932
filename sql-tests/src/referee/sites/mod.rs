//! Where tables are laid: one file for each kind of source.
//!
//! A new kind is a file here that says what its tables are made of and how its own SQL writes them, one entry in
//! [`Kind`] and one line in [`open`].

mod lake;
mod mariadb;
mod postgres;
mod sqlite;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use rand::rngs::StdRng;

use super::tables::{Palette, Table};
use super::values::Datum;

/// A kind of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// PostgreSQL.
    Postgres,
    /// MariaDB, by the connector for MySQL.
    MySql,
    /// SQLite.
    Sqlite,
    /// Parquet files.
    Lake,
}

impl Kind {
    /// Every kind. The order decides which case is of which kind, so that new kinds come last.
    pub const ALL: [Self; 4] = [Self::Postgres, Self::MySql, Self::Sqlite, Self::Lake];

    /// Returns the name of its connector.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MySql => "mysql",
            Self::Sqlite => "sqlite",
            Self::Lake => "lake",
        }
    }

    /// Returns the kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// How the tables of one round are made, and how their catalog reads them.
#[derive(Debug, Clone)]
pub(super) struct Flavour {
    /// Properties of the catalog beside those of the site.
    pub(super) properties: &'static [(&'static str, &'static str)],
    /// What tables are made of.
    pub(super) palette: Palette,
}

/// A running source.
#[async_trait]
pub(super) trait Site: fmt::Debug + Send + Sync {
    /// Draws how the tables of a round are made.
    fn flavour(&self, rng: &mut StdRng) -> Flavour;

    /// Returns the properties of a catalog that reads what is laid as `schema`.
    fn properties(&self, schema: &str) -> BTreeMap<String, String>;

    /// Returns the engine's name of what is laid as `schema`.
    fn schema_name(&self, schema: &str) -> String;

    /// Returns what makes and fills the tables, for people and for [`Site::lay`].
    fn statements(&self, schema: &str, tables: &[Table]) -> Vec<String>;

    /// Makes and fills the tables.
    async fn lay(&self, schema: &str, tables: &[Table]) -> Result<()>;

    /// Removes what was laid as `schema`.
    async fn clear(&self, schema: &str) -> Result<()>;
}

/// Starts the source of a kind, or opens its folder below `folder`.
pub(super) async fn open(kind: Kind, folder: &Path) -> Result<Arc<dyn Site>> {
    Ok(match kind {
        Kind::Postgres => Arc::new(postgres::PostgresSite::open().await?),
        Kind::MySql => Arc::new(mariadb::MariaDbSite::open().await?),
        Kind::Sqlite => Arc::new(sqlite::SqliteSite::open(folder)?),
        Kind::Lake => Arc::new(lake::LakeSite::open(folder)?),
    })
}

/// Returns `CREATE TABLE` and `INSERT` of a table, with names and values in the source's own words.
fn table_statements(
    name: &str,
    table: &Table,
    quote: impl Fn(&str) -> String,
    literal: impl Fn(&Datum) -> String,
) -> Vec<String> {
    let column = |column: &super::tables::Column| {
        format!("{} {}", quote(&column.name), column.spec.declared)
    };
    let columns: Vec<String> = table.columns.iter().map(column).collect();
    let mut statements =
        vec![format!("CREATE TABLE {name} ({}) {}", columns.join(", "), table.suffix)];
    let row = |row: &Vec<Datum>| {
        let values: Vec<String> = row.iter().map(&literal).collect();
        format!("({})", values.join(", "))
    };
    if !table.rows.is_empty() {
        let rows: Vec<String> = table.rows.iter().map(row).collect();
        statements.push(format!("INSERT INTO {name} VALUES {}", rows.join(",\n  ")));
    }
    statements
}
