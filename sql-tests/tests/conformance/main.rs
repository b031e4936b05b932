//! One suite that every connector passes: the same cases, against the real source of each, asked through the
//! Flight SQL door of a standalone process and of a coordinator with two workers.
//!
//! ```text
//! suite      the cases, written once
//! reading    cases of what is read: types, NULLs, shapes, names, filters, projection, limit
//! gathering  cases of what a source does beyond filters: aggregates, first rows of an order
//! failing    cases of what goes wrong or is not there: writes, cancel, source down, broken tables
//! page       what was seen, as the tables of docs/connectors: type_table, capability_table, markdown
//! source     what a kind of source says about itself
//! doors      both clusters, asked together
//! flight, lake, mysql, postgres, rest, sqlite, store, tpch; written for those that Meshwork writes
//! ```
//! What only one connector has is tested in a file of its own beside this folder, or in `connectors/tests`.
//! `MESHWORK_TEST_CASE=names` runs the cases whose name contains the word.

#![expect(clippy::unwrap_used, reason = "a test: what cannot be had fails it")]

mod capability_table;
mod doors;
mod failing;
mod flight;
mod gathering;
mod lake;
mod markdown;
mod mysql;
mod page;
mod postgres;
mod reading;
mod rest;
mod source;
mod sqlite;
mod store;
mod suite;
mod tpch;
mod type_table;
mod written;

use anyhow::Result;

#[tokio::test(flavor = "multi_thread")]
async fn flight() -> Result<()> {
    suite::run(flight::Flight::new().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn lake() -> Result<()> {
    suite::run(lake::Lake::new()?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql() -> Result<()> {
    suite::run(mysql::MySql::new().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres() -> Result<()> {
    suite::run(postgres::PostgreSql::new().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rest() -> Result<()> {
    suite::run(rest::Rest::new().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite() -> Result<()> {
    suite::run(sqlite::Sqlite::new()?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn store() -> Result<()> {
    suite::run(store::Store::new()?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tpch() -> Result<()> {
    suite::run(tpch::Tpch).await
}
