//! Files as tables: Parquet, CSV and JSON lines on a local disk or an S3-compatible store.
//!
//! ```text
//! <location>/<schema>/<table>/...            a directory of files of one format, `key=value` folders in it
//! <location>/<schema>/<table>.parquet        one file (.csv, .json, .jsonl, .ndjson)
//! tables.<schema>.<table> = '<glob>'         any files below the location
//!
//! lookup:  layout ─► files (listed once per query) ─► partitions ─► schema ─► LakeTable
//! scan:    LakeTable ─► DataSourceExec over catalog://<catalog>/...   (DataFusion's own readers)
//! ```
//! Listings never read a file, so that a broken one fails only the queries of its own table. Names that
//! begin with `_` or `.` are nobody's rows. Credentials come from the catalog's properties only.

mod catalog_store;
mod connector;
mod format;
mod layout;
pub(crate) mod location;
mod partitions;
mod schema;
mod sink;
mod table;
mod upload;
mod writes;

use std::collections::BTreeMap;
use std::sync::Arc;

use globset::GlobBuilder;
use meshwork_engine::Result;
use meshwork_engine::catalog::Properties;
use meshwork_engine::connector::Connector;
use url::Url;

use self::connector::Lake;
use self::format::Formats;
use self::layout::{Explicit, Layout};
use self::location::Location;

/// Returns the connector of a catalog of kind `lake`.
///
/// # Errors
/// `User` when a property is missing, wrong or not known.
pub(crate) fn make(mut properties: Properties) -> Result<Arc<dyn Connector>> {
    let location = Location::from_properties(&mut properties)?;
    let formats = Formats::from_properties(&mut properties)?;
    let allow_drop = properties.parsed("allow_drop", false)?;
    let explicit = explicit_tables(&mut properties)?;
    let store = location.store(&properties)?;
    let catalog = properties.catalog().to_owned();
    let url = Url::parse(&format!("catalog://{catalog}/")).map_err(|e| {
        properties.wrong("the name cannot stand in a URL, as that of a lake must").caused_by(&e)
    })?;
    properties.finish()?;
    let layout = Layout::new(store, explicit);
    Ok(Arc::new(Lake::new(catalog, url, location, layout, formats, allow_drop)))
}

/// Takes the properties `tables.<schema>.<table>`.
fn explicit_tables(
    properties: &mut Properties,
) -> Result<BTreeMap<String, BTreeMap<String, Explicit>>> {
    let mut explicit: BTreeMap<String, BTreeMap<String, Explicit>> = BTreeMap::new();
    for (name, glob) in properties.starting_with("tables.") {
        let Some((schema, table)) = name.split_once('.') else {
            return Err(properties.wrong(format!(
                "property \"tables.{name}\" names no schema and table; write tables.<schema>.<table>"
            )));
        };
        let matcher = GlobBuilder::new(&glob).literal_separator(true).build().map_err(|e| {
            properties
                .wrong(format!("property \"tables.{name}\" is not a glob of paths"))
                .caused_by(&e)
        })?;
        let made = Explicit { matcher: matcher.compile_matcher(), glob };
        explicit.entry(schema.to_owned()).or_default().insert(table.to_owned(), made);
    }
    Ok(explicit)
}
