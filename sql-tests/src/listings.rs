//! Five catalogs with many tables each, on real servers: three of PostgreSQL, two of MariaDB.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use arrow_flight::sql::CommandGetTables;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use meshwork::client::Client;
use tonic::transport::Endpoint;

use crate::servers::{MariaDb, Postgres};
use crate::spread::catalog_file;

/// The catalogs, each with the one schema that it shows.
pub const CATALOGS: [(&str, &str); 5] =
    [("pg1", "s1"), ("pg2", "s2"), ("pg3", "s3"), ("my1", "d1"), ("my2", "d2")];

/// Tables that one transaction or one packet makes.
const TABLES_AT_ONCE: usize = 500;

/// The servers behind the catalogs.
#[derive(Debug)]
pub struct Listings {
    postgres: Arc<Postgres>,
    mariadb: Arc<MariaDb>,
    n_tables: usize,
}

impl Listings {
    /// Starts the servers and makes so many tables for each catalog.
    ///
    /// # Errors
    /// When a server does not start or a table is not made.
    pub async fn start(n_tables: usize) -> Result<Self> {
        let (postgres, mariadb) = (Postgres::start()?, MariaDb::start()?);
        for (catalog, schema) in CATALOGS {
            let table = |number: usize| match catalog.starts_with("pg") {
                true => format!("CREATE TABLE {schema}.t{number} (id bigint, name text);"),
                // Its kind costs no listing anything, and is made at once.
                false => format!("CREATE TABLE {schema}.t{number} (id bigint) ENGINE = MyISAM;"),
            };
            let mut statements = vec![format!("CREATE SCHEMA {schema}")];
            for first in (0..n_tables).step_by(TABLES_AT_ONCE) {
                let last = n_tables.min(first + TABLES_AT_ONCE);
                statements.push((first..last).map(table).collect());
            }
            let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
            match catalog.starts_with("pg") {
                true => postgres.execute(&statements).await?,
                false => mariadb.execute(&statements).await?,
            }
        }
        Ok(Self { postgres: Arc::new(postgres), mariadb: Arc::new(mariadb), n_tables })
    }

    /// Tables of all catalogs together.
    pub fn n_tables(&self) -> usize {
        self.n_tables * CATALOGS.len()
    }

    /// Returns the catalogs' names and files.
    pub fn files(&self) -> Vec<(&'static str, String)> {
        let file = |(catalog, schema): (&'static str, &str)| {
            let (kind, only, mut properties) = match catalog.starts_with("pg") {
                true => ("postgres", "schemas", self.postgres.properties()),
                false => ("mysql", "database", self.mariadb.properties()),
            };
            properties.insert(only.to_owned(), schema.to_owned());
            (catalog, catalog_file(kind, properties))
        };
        CATALOGS.into_iter().map(file).collect()
    }
}

/// Counts the tables of all catalogs by one query over the `information_schema` of each.
///
/// # Errors
/// Those of the query.
pub async fn by_query(client: &mut Client) -> Result<Vec<RecordBatch>> {
    let tables = |(catalog, schema): (&str, &str)| {
        format!(
            "SELECT table_catalog, table_name FROM {catalog}.information_schema.tables \
             WHERE table_schema = '{schema}'"
        )
    };
    let all = CATALOGS.map(tables).join(" UNION ALL ");
    Ok(client.query(&all).await?)
}

/// Lists the tables of all catalogs one after another.
///
/// # Errors
/// Those of a statement.
pub async fn by_show(client: &mut Client) -> Result<Vec<RecordBatch>> {
    let mut all = Vec::new();
    for (catalog, schema) in CATALOGS {
        all.extend(client.query(&format!("SHOW TABLES FROM {catalog}.{schema}")).await?);
    }
    Ok(all)
}

/// Lists the tables of all catalogs as a driver does that draws a tree.
///
/// # Errors
/// Those of the server.
pub async fn by_driver(url: &str, include_schema: bool) -> Result<Vec<RecordBatch>> {
    let endpoint = Endpoint::from_shared(url.replacen("grpc://", "http://", 1))?;
    let channel = endpoint.connect().await?;
    let mut client = FlightSqlServiceClient::new(channel);
    let tables = CommandGetTables { include_schema, ..CommandGetTables::default() };
    let planned = client.get_tables(tables).await?;
    let ticket = planned.endpoint.into_iter().next().and_then(|endpoint| endpoint.ticket);
    Ok(client.do_get(ticket.context("an endpoint has a ticket")?).await?.try_collect().await?)
}

/// Counts rows.
pub fn n_rows(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}
