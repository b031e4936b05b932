//! One folder per kind of source, and here the one list of all.
//!
//! A connector implements the contract of `meshwork_engine::connector` and nothing else knows it. To add
//! one: a folder, one line in [`make`], a `.slt` file, a page under `docs/connectors/`. Three modules are no sources but
//! what several share: `relational` (SQL that is written for databases), `socket` and `tls` (connections that read rows).

mod flight;
mod lake;
mod mysql;
mod postgres;
pub mod relational;
mod rest;
mod socket;
mod sqlite;
mod store;
mod tls;
pub mod tpch;

use std::sync::Arc;

use meshwork_engine::catalog::Properties;
use meshwork_engine::connector::Connector;
use meshwork_engine::{Error, Result};

/// The kinds of connectors that exist, sorted.
pub const KINDS: &[&str] =
    &["flight", "lake", "mysql", "postgres", "rest", "sqlite", "store", "tpch"];

/// Returns the connector of a kind for one catalog. Does no I/O: a source that is down fails its queries,
/// not its definition.
///
/// # Errors
/// `User` when the kind does not exist or a property is wrong.
pub fn make(kind: &str, properties: Properties) -> Result<Arc<dyn Connector>> {
    let catalog = properties.catalog().to_owned();
    // One line a kind, sorted.
    match kind {
        "flight" => flight::make(properties),
        "lake" => lake::make(properties),
        "mysql" => mysql::make(properties),
        "postgres" => postgres::make(properties),
        "rest" => rest::make(properties),
        "sqlite" => sqlite::make(properties),
        "store" => store::make(properties),
        "tpch" => tpch::make(properties),
        _ => Err(Error::user(
            "CONNECTOR_NOT_FOUND",
            format!("catalog \"{catalog}\": connector \"{kind}\" does not exist"),
        )
        .with_hint(format!("Kinds that exist: {}.", KINDS.join(", ")))),
    }
}
