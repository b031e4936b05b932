//! The tables of TPC-H spread over four kinds of sources.
//!
//! ```text
//! lake        lineitem, orders       Parquet
//! PostgreSQL  customer, supplier
//! MariaDB     part, partsupp
//! REST        nation, region         ten rows a page
//! ```

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use meshwork::demo::rest::{RestServer, rows_of};
use meshwork::demo::tpch::{Part, Table};

use crate::servers::{MariaDb, Postgres};

/// Rows of one INSERT.
const INSERT_ROWS: usize = 500;

/// What the REST source serves, as its manifest says it.
const MANIFEST: &str = "
connector: {name: geography, version: 1, base_url: \"BASE\", allow_http: true, allow_private: true}
tables:
  nation:
    rows_estimated: 25
    list: {path: /v1/nation, rows: \"$.rows[*]\"}
    paginate: {type: offset, send: {query: offset}, page_size: {query: limit, max: 10}, total: $.total}
    schema: {columns: {n_nationkey: int64, n_name: utf8, n_regionkey: int64, n_comment: utf8}}
  region:
    rows_estimated: 5
    list: {path: /v1/region, rows: \"$.rows[*]\"}
    paginate: {type: offset, send: {query: offset}, page_size: {query: limit, max: 10}, total: $.total}
    schema: {columns: {r_regionkey: int64, r_name: utf8, r_comment: utf8}}
";

/// Where each table lies, as a name that any session can use.
pub const HOMES: [(&str, &str); 8] = [
    ("customer", "pg.public.customer"),
    ("lineitem", "lake.tpch.lineitem"),
    ("nation", "geo.api.nation"),
    ("orders", "lake.tpch.orders"),
    ("part", "my.tpch.part"),
    ("partsupp", "my.tpch.partsupp"),
    ("region", "geo.api.region"),
    ("supplier", "pg.public.supplier"),
];

/// The servers that hold the tables; they end when this is dropped.
#[derive(Debug)]
pub struct Spread {
    postgres: Postgres,
    mariadb: MariaDb,
    rest: RestServer,
}

impl Spread {
    /// Starts the servers and fills them.
    ///
    /// # Errors
    /// When a server does not start or refuses its rows.
    pub async fn start(scale: f64) -> Result<Self> {
        let spread = Self {
            postgres: Postgres::start()?,
            mariadb: MariaDb::start_large()?,
            rest: RestServer::start(rest_tables()?).await?,
        };
        for table in [Table::Customer, Table::Supplier] {
            let statements = fill(table, "", scale)?;
            spread.postgres.execute(&texts(&statements)).await?;
        }
        spread.mariadb.execute(&["CREATE DATABASE tpch"]).await?;
        for table in [Table::Part, Table::Partsupp] {
            let statements = fill(table, "tpch.", scale)?;
            spread.mariadb.execute(&texts(&statements)).await?;
        }
        // As their owners keep them: an index for each foreign key, and statistics that are taken.
        let postgres = [
            "CREATE INDEX ON customer (c_nationkey)",
            "CREATE INDEX ON supplier (s_nationkey)",
            "ANALYZE",
        ];
        spread.postgres.execute(&postgres).await?;
        let mariadb = [
            "CREATE INDEX suppkey ON tpch.partsupp (ps_suppkey)",
            "ANALYZE TABLE tpch.part, tpch.partsupp PERSISTENT FOR ALL",
        ];
        spread.mariadb.execute(&mariadb).await?;
        Ok(spread)
    }

    /// Lets sessions of MariaDB read whole tables that do not ask for it: those of other programs.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn without_limits(&self) -> Result<()> {
        self.mariadb.execute(&["SET GLOBAL sql_select_limit = DEFAULT"]).await
    }

    /// The ports of PostgreSQL and MariaDB.
    pub fn ports(&self) -> [u16; 2] {
        [self.postgres.port(), self.mariadb.port()]
    }

    /// The passwords of both, as the variables that their own clients read.
    pub fn passwords(&self) -> [(&'static str, String); 2] {
        let password = |properties: BTreeMap<String, String>| {
            properties.get("password").cloned().unwrap_or_default()
        };
        [
            ("PGPASSWORD", password(self.postgres.properties())),
            ("MYSQL_PWD", password(self.mariadb.properties())),
        ]
    }

    /// The catalogs beside `lake`, as files of `etc/catalog`.
    pub fn catalogs(&self) -> Vec<(&'static str, String)> {
        let manifest = MANIFEST.replace("BASE", &self.rest.url());
        vec![
            ("pg", catalog_file("postgres", self.postgres.properties())),
            ("my", catalog_file("mysql", self.mariadb.properties())),
            ("geo", catalog_file("rest", [("manifest_inline".to_owned(), manifest)].into())),
        ]
    }
}

/// Returns the text of a catalog's file.
pub fn catalog_file(kind: &str, properties: BTreeMap<String, String>) -> String {
    let lines = properties.iter().map(|(key, value)| format!("{key:?} = {value:?}\n"));
    format!("connector = {kind:?}\n{}", lines.collect::<String>())
}

/// Returns the query with each table named by its home.
pub fn relocate(sql: &str) -> String {
    let mut relocated = String::new();
    let mut words = sql.split_inclusive(|c: char| !c.is_alphanumeric() && c != '_');
    let mut in_from = false;
    words.by_ref().for_each(|piece| {
        let word = piece.trim_end_matches(|c: char| !c.is_alphanumeric() && c != '_');
        match word {
            "FROM" | "JOIN" => in_from = true,
            "" => {}
            word if word.chars().all(char::is_uppercase) => in_from = false,
            _ => {}
        }
        match HOMES.iter().find(|(name, _)| in_from && *name == word) {
            Some((name, home)) => relocated.push_str(&piece.replacen(name, home, 1)),
            None => relocated.push_str(piece),
        }
    });
    relocated
}

fn rest_tables() -> Result<BTreeMap<String, Vec<serde_json::Value>>> {
    let rows = |table: Table| Ok((table.name().to_owned(), rows_of(&generated(table, 1.0)?)?));
    [Table::Nation, Table::Region].into_iter().map(rows).collect()
}

fn generated(table: Table, scale: f64) -> Result<Vec<RecordBatch>> {
    let whole = Part { scale, part: 1, n_parts: 1, batch_size: INSERT_ROWS };
    Ok(table.batches(whole).collect::<Result<_, _>>()?)
}

/// Returns the statements that make and fill a table, in the words that both databases know.
fn fill(table: Table, prefix: &str, scale: f64) -> Result<Vec<String>> {
    let name = format!("{prefix}{}", table.name());
    let key = match table {
        Table::Partsupp => "ps_partkey, ps_suppkey".to_owned(),
        other => other.schema().field(0).name().clone(),
    };
    let columns = columns_of(&table.schema());
    let mut statements = vec![format!("CREATE TABLE {name} ({columns}, PRIMARY KEY ({key}))")];
    for batch in generated(table, scale)? {
        statements.push(format!("INSERT INTO {name} VALUES {}", values_of(&batch)?));
    }
    Ok(statements)
}

/// Returns the columns of a table in the words that both databases know.
pub fn columns_of(schema: &SchemaRef) -> String {
    let column = |field: &FieldRef| {
        let kind = match field.data_type() {
            DataType::Int64 => "BIGINT".to_owned(),
            DataType::Int32 => "INTEGER".to_owned(),
            DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
            DataType::Date32 => "DATE".to_owned(),
            // What is left of TPC-H is text.
            _ => "VARCHAR(255)".to_owned(),
        };
        format!("{} {kind} NOT NULL", field.name())
    };
    schema.fields().iter().map(column).collect::<Vec<_>>().join(", ")
}

fn values_of(batch: &RecordBatch) -> Result<String> {
    let options = FormatOptions::default();
    let columns = batch.columns().iter();
    let formatters: Vec<ArrayFormatter<'_>> = columns
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
        .collect::<Result<_, _>>()
        .context("a column of TPC-H that has no text")?;
    let quoted =
        |f: &ArrayFormatter<'_>, row| format!("'{}'", f.value(row).to_string().replace('\'', "''"));
    let row = |row| {
        let values: Vec<String> = formatters.iter().map(|f| quoted(f, row)).collect();
        format!("({})", values.join(", "))
    };
    Ok((0..batch.num_rows()).map(row).collect::<Vec<_>>().join(", "))
}

fn texts(statements: &[String]) -> Vec<&str> {
    statements.iter().map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::relocate;

    #[test]
    fn only_tables_are_moved() {
        let sql = "SELECT nation, sum(part) FROM orders, nation n1 WHERE nation = 'part' AND x IN (\n\
                   SELECT 1 FROM part) GROUP BY nation";
        let moved = "SELECT nation, sum(part) FROM lake.tpch.orders, geo.api.nation n1 WHERE nation = 'part' AND x IN (\n\
                     SELECT 1 FROM my.tpch.part) GROUP BY nation";
        assert_eq!(relocate(sql), moved);
    }
}
