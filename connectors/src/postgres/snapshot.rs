//! What one query sees of one catalog: a transaction on the coordinator that lives as long as the query.
//!
//! It looks up the query's tables, and exports its snapshot, which every split of every scan of the catalog
//! then reads, so that a query never sees half of somebody's transaction.

use std::sync::Arc;

use futures::FutureExt;
use meshwork_engine::connections::Purpose;
use meshwork_engine::scope::QueryScope;
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::{Error, Result};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, Statement};

use super::connection::{Connection, Server};

/// PostgreSQL 14: the first that scans a range of pages without reading the others.
const VERSION_WITH_PAGE_RANGES: i32 = 140_000;

/// What is asked once per query.
const FACTS: &str = "SELECT pg_export_snapshot(), current_setting('server_version_num')::int4, \
     current_setting('server_encoding'), \
     COALESCE(to_jsonb(d)->>'datlocprovider', 'c') = 'c' AND d.datcollate IN ('C', 'POSIX') \
     FROM pg_catalog.pg_database d WHERE d.datname = current_database()";

/// The snapshot of one query in one catalog. Dropping it ends the transaction.
#[derive(Debug)]
pub(super) struct Snapshot {
    connection: Connection,
    /// What other sessions import.
    pub(super) id: String,
    /// Whether a scan of a range of pages costs only that range.
    pub(super) has_page_ranges: bool,
    /// Whether the server stores text as UTF-8.
    pub(super) stores_utf8: bool,
    /// Whether the database's own collation orders text by bytes.
    pub(super) database_orders_bytes: bool,
}

impl Snapshot {
    /// Returns the snapshot of the query, opening it at its first use.
    pub(super) async fn of_query(server: &Arc<Server>, scope: &QueryScope) -> Result<Arc<Self>> {
        let key = format!("postgres:{}", server.configuration.catalog);
        let settings = scope.settings().clone();
        let opener = Arc::clone(server);
        let open = move || async move { Self::open(&opener, &settings).await }.boxed();
        scope.resource(&key, open).await
    }

    async fn open(server: &Arc<Server>, query: &QuerySettings) -> Result<Self> {
        let connection = server.connect(Purpose::Plan, Some(query), None).await?;
        let rows = connection.lookup(FACTS, &[]).await?;
        let unreadable = |e: tokio_postgres::Error| {
            Error::internal("the facts of a PostgreSQL server have other types").caused_by(&e)
        };
        let Some(row) = rows.first() else {
            return Err(Error::internal("a PostgreSQL server does not list its own database"));
        };
        let version: i32 = row.try_get(1).map_err(unreadable)?;
        let encoding: String = row.try_get(2).map_err(unreadable)?;
        Ok(Self {
            connection,
            id: row.try_get(0).map_err(unreadable)?,
            has_page_ranges: version >= VERSION_WITH_PAGE_RANGES,
            stores_utf8: encoding == "UTF8",
            database_orders_bytes: row.try_get(3).map_err(unreadable)?,
        })
    }

    /// Looks something up in the snapshot's transaction.
    pub(super) async fn lookup(
        &self,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>> {
        self.connection.lookup(statement, parameters).await
    }

    /// Asks for the columns of a query, which is not run.
    pub(super) async fn describe(&self, query: &str) -> Result<Statement> {
        self.connection.describe(query).await
    }
}
