//! Catalogs, schemas, tables and their columns, as drivers list them.
//!
//! No catalog named means all of them. A source that is down is left out of a listing over all
//! catalogs, with a line in the log, and is an error where the client asked for it by name. Catalogs
//! are asked at the same time and each has a deadline, so that one that hangs never hangs the tree
//! of a tool. What is listed may be as old as a catalog's `metadata_freshness`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, StringArray};
use arrow::compute::like;
use arrow::datatypes::Schema;
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables,
};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use meshwork_engine::connector::{TableEntry, TableKind};
use meshwork_engine::{Result, environment};
use parking_lot::Mutex;
use tonic::Status;
use tracing::warn;

use super::results::plain_schema;
use super::sessions::Caller;
use super::status::status_of;
use crate::Coordinator;
use crate::query::QueryContext;
use crate::resolve::TableName;

/// How long one catalog may take to list its schemas and their tables.
const CATALOG_DEADLINE: Duration = Duration::from_secs(15);
/// How long one table's columns may take; behind the first that took longer, a catalog is not asked for others.
const COLUMNS_DEADLINE: Duration = Duration::from_secs(5);
/// Catalogs that are listed at the same time; those that hang hold up nobody else.
const CATALOGS_AT_ONCE: usize = 64;
/// How many questions to one catalog, or for columns, are under way at once.
const QUESTIONS_AT_ONCE: usize = 16;

/// The kinds of tables, as JDBC names them.
const TABLE_TYPES: [&str; 3] = ["SYSTEM TABLE", "TABLE", "VIEW"];

/// Lists for one caller.
pub(super) struct Listing<'a> {
    pub(super) coordinator: &'a Arc<Coordinator>,
    pub(super) caller: &'a Caller,
}

/// A table and where it is.
struct Place {
    catalog: String,
    schema: String,
    entry: TableEntry,
}

impl Listing<'_> {
    pub(super) fn catalogs(&self, command: CommandGetCatalogs) -> Result<RecordBatch, Status> {
        let mut builder = command.into_builder();
        for name in self.coordinator.catalog_names() {
            builder.append(name);
        }
        Ok(builder.build()?)
    }

    pub(super) async fn schemas(
        &self,
        command: CommandGetDbSchemas,
    ) -> Result<RecordBatch, Status> {
        let catalog = command.catalog.clone();
        let mut builder = command.into_builder();
        let schemas_of = |name: String| {
            let listing = async move {
                let schemas = self.coordinator.schema_names(&name).await?;
                Ok(schemas.into_iter().map(|schema| (name.clone(), schema)).collect())
            };
            listing.boxed()
        };
        for (catalog, schema) in self.of_catalogs(catalog, schemas_of).await? {
            builder.append(catalog, schema);
        }
        Ok(builder.build()?)
    }

    pub(super) async fn tables(&self, command: CommandGetTables) -> Result<RecordBatch, Status> {
        let catalog = command.catalog.clone();
        let list = |name| self.tables_of(name, &command).boxed();
        let places = self.of_catalogs(catalog, list).await?;
        let tables = match command.include_schema {
            true => self.with_columns(places).await,
            false => {
                let none = Arc::new(Schema::empty());
                places.into_iter().map(|place| (place, Arc::clone(&none))).collect()
            }
        };
        let mut builder = command.into_builder();
        for (Place { catalog, schema, entry }, columns) in tables {
            builder.append(catalog, schema, entry.name, table_type(entry.kind), &columns)?;
        }
        Ok(builder.build()?)
    }

    /// Returns what `list` says of the catalog that the client named, or of all catalogs, asked at the same time.
    async fn of_catalogs<'b, T: Send>(
        &self,
        named: Option<String>,
        list: impl Fn(String) -> BoxFuture<'b, Result<Vec<T>>>,
    ) -> Result<Vec<T>, Status> {
        let is_named = named.is_some();
        let names = named.map_or_else(|| self.coordinator.catalog_names(), |name| vec![name]);
        let answers = names.into_iter().map(|name| answer(list(name.clone()), name, is_named));
        let listed: Vec<Vec<T>> = stream::iter(answers)
            .buffered(CATALOGS_AT_ONCE)
            .try_collect()
            .await
            .map_err(|error: meshwork_engine::Error| status_of(error))?;
        Ok(listed.into_iter().flatten().collect())
    }

    /// Returns the tables of a catalog that the command asks for, asking only the schemas that can have some.
    async fn tables_of(&self, catalog: String, command: &CommandGetTables) -> Result<Vec<Place>> {
        let schemas = self.coordinator.schema_names(&catalog).await?;
        let pattern = command.db_schema_filter_pattern.as_deref();
        let schemas = keep_like(schemas, pattern, |schema| schema)?;
        let catalog = &catalog;
        let listed: Vec<Vec<Place>> = stream::iter(schemas)
            .map(|schema| async move {
                let entries = self.coordinator.tables(catalog, &schema).await?;
                let place =
                    |entry| Place { catalog: catalog.clone(), schema: schema.clone(), entry };
                Ok::<_, meshwork_engine::Error>(entries.into_iter().map(place).collect())
            })
            .buffered(QUESTIONS_AT_ONCE)
            .try_collect()
            .await?;
        let types = &command.table_types;
        let is_wanted = |place: &Place| {
            let kind = table_type(place.entry.kind);
            types.is_empty() || types.iter().any(|wanted| wanted == kind)
        };
        let places = listed.into_iter().flatten().filter(is_wanted).collect();
        let pattern = command.table_name_filter_pattern.as_deref();
        keep_like(places, pattern, |place: &Place| &place.entry.name)
    }

    /// Returns each table with its columns; without where they cannot be read, so that the others are still listed.
    async fn with_columns(&self, places: Vec<Place>) -> Vec<(Place, Arc<Schema>)> {
        let context = &self.coordinator.context(&self.caller.session, "metadata");
        let late: &Mutex<BTreeSet<String>> = &Mutex::default();
        stream::iter(places)
            .map(|place| async move {
                if late.lock().contains(&place.catalog) {
                    return (place, Arc::new(Schema::empty()));
                }
                let columns = columns_of(context, &place).await.unwrap_or_else(|error| {
                    warn!(catalog = place.catalog, %error, "no more columns are listed");
                    late.lock().insert(place.catalog.clone());
                    Arc::new(Schema::empty())
                });
                (place, columns)
            })
            .buffered(QUESTIONS_AT_ONCE)
            .collect()
            .await
    }
}

/// Returns what a catalog lists; where it lists nothing in time, an error if the client named it.
async fn answer<T>(
    listing: BoxFuture<'_, Result<Vec<T>>>,
    catalog: String,
    is_named: bool,
) -> Result<Vec<T>> {
    let what = format!("listing catalog \"{catalog}\"");
    match environment::within(CATALOG_DEADLINE, &what, listing).await.flatten() {
        Err(error) if !is_named => {
            warn!(catalog, %error, "left out of a listing");
            Ok(Vec::new())
        }
        listed => listed,
    }
}

/// Returns the columns of a table, or none.
///
/// # Errors
/// When the source took too long to say.
async fn columns_of(context: &QueryContext<'_>, place: &Place) -> Result<Arc<Schema>> {
    let Place { catalog, schema, entry } = place;
    let name =
        TableName { catalog: catalog.clone(), schema: schema.clone(), table: entry.name.clone() };
    let what = format!("reading the columns of table \"{name}\"");
    let question = Box::pin(context.listed_columns(name));
    match environment::within(COLUMNS_DEADLINE, &what, question).await? {
        Ok(columns) => Ok(plain_schema(&columns)),
        Err(error) => {
            warn!(catalog, schema, table = entry.name, %error, "listed without columns");
            Ok(Arc::new(Schema::empty()))
        }
    }
}

pub(super) fn table_types(command: CommandGetTableTypes) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    for name in TABLE_TYPES {
        builder.append(name);
    }
    Ok(builder.build()?)
}

fn table_type(kind: TableKind) -> &'static str {
    match kind {
        TableKind::Table => "TABLE",
        TableKind::View => "VIEW",
        TableKind::System => "SYSTEM TABLE",
    }
}

/// Keeps what has a name like the pattern: `%` any run, `_` any one letter, `\` takes the next as
/// it is.
fn keep_like<T>(
    listed: Vec<T>,
    pattern: Option<&str>,
    name: impl Fn(&T) -> &str,
) -> Result<Vec<T>> {
    let Some(pattern) = pattern else { return Ok(listed) };
    let names: StringArray = listed.iter().map(|entry| Some(name(entry))).collect();
    let is_like = like(&names, &StringArray::new_scalar(pattern))?;
    let kept = listed.into_iter().zip(is_like.iter()).filter(|(_, is_like)| *is_like == Some(true));
    Ok(kept.map(|(entry, _)| entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_like() {
        let names = || vec!["nation", "a_b", "axb", "größe", ""];
        for (pattern, expected) in [
            ("na%", vec!["nation"]),
            ("%", names()),
            ("_ation", vec!["nation"]),
            ("nation_", vec![]),
            ("a_b", vec!["a_b", "axb"]),
            (r"a\_b", vec!["a_b"]),
            ("gr__e", vec!["größe"]),
            ("gr_e", vec![]),
        ] {
            assert_eq!(
                keep_like(names(), Some(pattern), |name| name).unwrap(),
                expected,
                "{pattern}"
            );
        }
        assert_eq!(keep_like(names(), None, |name| name).unwrap(), names());
    }
}
