//! The native versioned store as a catalog: one database, its namespaces as schemas.
//!
//! All tables of a catalog share one log, so an update batch over several of them is one version. Scans are plain
//! DataFusion plans over the Parquet files of the pinned version; nothing here needs a codec of its own.
//!
//! ```text
//! connector.rs   the contract: names, lookups, statements
//! define.rs      CREATE TABLE (...) AGGREGATE KEY (...)   ->  meshwork_store::TableSpec
//! table.rs       a table at a version: which filters it takes, INSERT
//! scan.rs        files of the version - prune - read - filter - merge - project
//! prune.rs       which files can hold rows that pass
//! merge.rs       rows of one key folded, in version order
//! writes.rs      rows in: one statement or a batch of several
//! changes.rs     rows that a query found, changed or deleted
//! change_feed.rs rows as they came, update by update: "t$changes"
//! maintenance.rs deltas merged, versions and files let go: behind commits, by OPTIMIZE and VACUUM
//! listings.rs    what a store is made of and how it became so, as tables
//! errors.rs      meshwork_store::Error  ->  engine::Error
//! ```
//!
//! The store's own rules (commit protocol, format) live in `meshwork_store` and are not repeated here.

mod change_feed;
mod changes;
mod connector;
mod define;
mod errors;
mod listings;
mod maintenance;
mod merge;
mod prune;
mod scan;
mod table;
mod writes;

use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreUrl;
use meshwork_engine::Result;
use meshwork_engine::catalog::Properties;
use meshwork_engine::connector::Connector;
use meshwork_store::{Location, SystemEnvironment};

use self::connector::Store;
use self::maintenance::Maintenance;
use crate::lake::location::Location as Place;

/// Returns the connector of a catalog of kind `store`; does no I/O.
///
/// # Errors
/// `User` when a property is wrong.
pub(crate) fn make(mut properties: Properties) -> Result<Arc<dyn Connector>> {
    let catalog = properties.catalog().to_owned();
    let location = match Place::from_properties(&mut properties)? {
        Place::Local(directory) => Location::local(&directory, Arc::new(SystemEnvironment::new()))
            .map_err(|error| errors::of(&catalog, &error))?,
        Place::S3(bucket) => Location {
            store: bucket.store(&properties)?,
            root: bucket.prefix().clone(),
            name: bucket.address(),
        },
    };
    let url = ObjectStoreUrl::parse(format!("catalog://{catalog}/")).map_err(|e| {
        properties.wrong("the name cannot stand in a URL, as that of a store must").caused_by(&e)
    })?;
    let maintenance = Maintenance::from_properties(&mut properties)?;
    properties.finish()?;
    Ok(Arc::new(Store::new(catalog, url, location, maintenance)))
}
