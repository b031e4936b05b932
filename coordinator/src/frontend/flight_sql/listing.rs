//! Catalogs, schemas, tables and their columns, as drivers list them.
//!
//! No catalog named means all of them. A source that is down is left out of a listing over all
//! catalogs, with a line in the log, and is an error where the client asked for it by name. Each
//! source has a deadline, so that one that hangs never hangs the tree of a tool.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, StringArray};
use arrow::compute::like;
use arrow::datatypes::Schema;
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables,
};
use futures::{StreamExt, TryStreamExt, stream};
use meshwork_engine::connector::{TableEntry, TableKind};
use meshwork_engine::{Result, environment};
use tonic::Status;
use tracing::warn;

use super::results::plain_schema;
use super::sessions::Caller;
use super::status::status_of;
use crate::Coordinator;

/// How long one source may take to answer for its schemas, tables or one table's columns.
const SOURCE_DEADLINE: Duration = Duration::from_secs(15);
/// How many questions to sources are under way at once.
const CONCURRENT_QUESTIONS: usize = 16;

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
        for (catalog, schema) in self.schema_places(catalog.as_deref()).await? {
            builder.append(catalog, schema);
        }
        Ok(builder.build()?)
    }

    pub(super) async fn tables(&self, command: CommandGetTables) -> Result<RecordBatch, Status> {
        let include_schema = command.include_schema;
        let places = self.table_places(&command).await?;
        let mut builder = command.into_builder();
        let mut tables = stream::iter(places)
            .map(|place| async move {
                let schema = match include_schema {
                    true => self.columns(&place).await,
                    false => Arc::new(Schema::empty()),
                };
                (place, schema)
            })
            .buffered(CONCURRENT_QUESTIONS);
        while let Some((Place { catalog, schema, entry }, columns)) = tables.next().await {
            builder.append(catalog, schema, entry.name, table_type(entry.kind), &columns)?;
        }
        Ok(builder.build()?)
    }

    /// Returns (catalog, schema) of the catalog, or of all.
    async fn schema_places(&self, catalog: Option<&str>) -> Result<Vec<(String, String)>, Status> {
        let names = match catalog {
            Some(name) => vec![name.to_owned()],
            None => self.coordinator.catalog_names(),
        };
        let is_named = catalog.is_some();
        let listed: Vec<Vec<(String, String)>> = stream::iter(names)
            .map(|name| async move {
                let question = self.coordinator.schema_names(&name);
                let schemas = self.answer(&name, is_named, question).await?;
                Ok(schemas.into_iter().map(|schema| (name.clone(), schema)).collect())
            })
            .buffered(CONCURRENT_QUESTIONS)
            .try_collect()
            .await
            .map_err(|error: meshwork_engine::Error| status_of(error))?;
        Ok(listed.into_iter().flatten().collect())
    }

    /// Returns the tables that the command asks for, asking only the sources that can have some.
    async fn table_places(&self, command: &CommandGetTables) -> Result<Vec<Place>, Status> {
        let is_named = command.catalog.is_some();
        let schemas = self.schema_places(command.catalog.as_deref()).await?;
        let pattern = command.db_schema_filter_pattern.as_deref();
        let schemas = keep_like(schemas, pattern, |(_, schema)| schema).map_err(status_of)?;
        let listed: Vec<Vec<Place>> = stream::iter(schemas)
            .map(|(catalog, schema)| async move {
                let question = self.coordinator.tables(&catalog, &schema);
                let entries = self.answer(&catalog, is_named, question).await?;
                let place =
                    |entry| Place { catalog: catalog.clone(), schema: schema.clone(), entry };
                Ok(entries.into_iter().map(place).collect())
            })
            .buffered(CONCURRENT_QUESTIONS)
            .try_collect()
            .await
            .map_err(|error: meshwork_engine::Error| status_of(error))?;
        let types = &command.table_types;
        let is_wanted = |place: &Place| {
            let kind = table_type(place.entry.kind);
            types.is_empty() || types.iter().any(|wanted| wanted == kind)
        };
        let places = listed.into_iter().flatten().filter(is_wanted).collect();
        let pattern = command.table_name_filter_pattern.as_deref();
        keep_like(places, pattern, |place: &Place| &place.entry.name).map_err(status_of)
    }

    /// Returns the source's answer; where it has none, an error if the client named the catalog.
    async fn answer<T>(
        &self,
        catalog: &str,
        is_named: bool,
        question: impl Future<Output = Result<Vec<T>>>,
    ) -> Result<Vec<T>> {
        let what = format!("listing catalog \"{catalog}\"");
        let answer = environment::within(SOURCE_DEADLINE, &what, question).await.flatten();
        match answer {
            Err(error) if !is_named => {
                warn!(catalog, %error, "left out of a listing");
                Ok(Vec::new())
            }
            answer => answer,
        }
    }

    /// Returns the table's columns; none where they cannot be read, so that the others are still
    /// listed.
    async fn columns(&self, place: &Place) -> Arc<Schema> {
        let Place { catalog, schema, entry } = place;
        let what = format!("reading the columns of table \"{catalog}.{schema}.{}\"", entry.name);
        let question =
            self.coordinator.table_schema(&self.caller.session, catalog, schema, &entry.name);
        match environment::within(SOURCE_DEADLINE, &what, question).await.flatten() {
            Ok(Some(columns)) => plain_schema(&columns),
            Ok(None) => Arc::new(Schema::empty()),
            Err(error) => {
                warn!(catalog, schema, table = entry.name, %error, "listed without columns");
                Arc::new(Schema::empty())
            }
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
