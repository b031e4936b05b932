//! The columns of files: read from each file, kept by its identity, merged over a table.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use futures::{StreamExt, TryStreamExt};
use meshwork_engine::{Error, Result};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;

use super::format::{Format, Formats};
use super::layout::unreachable;
use super::partitions::LakeFile;

/// Files whose columns are read at once.
const FILES_AT_ONCE: usize = 32;

/// Files whose columns are remembered; beyond that the memory starts afresh.
const SCHEMAS_KEPT_MAX: usize = 100_000;

/// What a file is known by; a file that changes is another one. The time is the one that a catalog's store shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    path: Path,
    size: u64,
    modified: DateTime<Utc>,
}

impl Identity {
    fn of(meta: &ObjectMeta) -> Self {
        Self { path: meta.location.clone(), size: meta.size, modified: meta.last_modified }
    }
}

/// Reads the columns of files, each file once.
#[derive(Debug)]
pub(super) struct Schemas {
    /// DataFusion infers within a session; this one has no tables and no caches of anybody else.
    session: SessionState,
    formats: Formats,
    kept: Mutex<BTreeMap<Identity, SchemaRef>>,
}

impl Schemas {
    pub(super) fn new(formats: Formats) -> Self {
        let session = SessionStateBuilder::new().build();
        Self { session, formats, kept: Mutex::default() }
    }

    pub(super) fn formats(&self) -> &Formats {
        &self.formats
    }

    /// Returns the columns of all files together, in the order of the files.
    pub(super) async fn of_files(
        &self,
        store: &Arc<dyn ObjectStore>,
        format: Format,
        files: &[LakeFile],
        table: &str,
    ) -> Result<SchemaRef> {
        let read = |file: &LakeFile| {
            let meta = file.meta.clone();
            async move { self.of_file(store, format, &meta).await }
        };
        let reads: Vec<_> = files.iter().map(read).collect();
        let schemas: Vec<SchemaRef> =
            futures::stream::iter(reads).buffered(FILES_AT_ONCE).try_collect().await?;
        if format == Format::Csv {
            refuse_other_headers(&schemas, files, table)?;
        }
        merge(&schemas, table)
    }

    async fn of_file(
        &self,
        store: &Arc<dyn ObjectStore>,
        format: Format,
        meta: &ObjectMeta,
    ) -> Result<SchemaRef> {
        let identity = Identity::of(meta);
        if let Some(known) = self.kept.lock().get(&identity) {
            return Ok(Arc::clone(known));
        }
        let reader = self.formats.reader(format, &self.session);
        let schema = reader
            .infer_schema(&self.session, store, std::slice::from_ref(meta))
            .await
            .map_err(|e| broken(&meta.location, format, &e))?;
        let mut kept = self.kept.lock();
        if kept.len() >= SCHEMAS_KEPT_MAX {
            kept.clear();
        }
        kept.insert(identity, Arc::clone(&schema));
        Ok(schema)
    }
}

/// Values of CSV are read by their place, so that files with the same columns in another order would swap them.
fn refuse_other_headers(schemas: &[SchemaRef], files: &[LakeFile], table: &str) -> Result<()> {
    let Some((first, others)) = schemas.split_first() else { return Ok(()) };
    let names = |schema: &SchemaRef| -> Vec<String> {
        schema.fields().iter().map(|field| field.name().clone()).collect()
    };
    let expected = names(first);
    let Some(at) = others.iter().position(|other| names(other) != expected) else { return Ok(()) };
    let path = files.get(at + 1).map(|file| file.meta.location.to_string()).unwrap_or_default();
    let message = format!(
        "file \"{path}\" of table \"{table}\" has other columns, or another order of them, than its first file"
    );
    Err(Error::source("SCHEMA_CONFLICT", message)
        .with_hint("Write the CSV files of a table with one header, or make tables of their own."))
}

/// A column that some files lack is NULL there. A column of two types has none.
fn merge(schemas: &[SchemaRef], table: &str) -> Result<SchemaRef> {
    let mut distinct: Vec<&SchemaRef> = Vec::new();
    for schema in schemas {
        if !distinct.iter().any(|known| known.fields() == schema.fields()) {
            distinct.push(schema);
        }
    }
    if let [one] = distinct.as_slice() {
        return Ok(Arc::new(Schema::new(one.fields().clone())));
    }
    let plain = distinct.iter().map(|schema| Schema::new(schema.fields().clone()));
    let merged = Schema::try_merge(plain).map_err(|e| {
        Error::source(
            "SCHEMA_CONFLICT",
            format!("the files of table \"{table}\" do not agree on a column's type"),
        )
        .caused_by(&e)
    })?;
    let everywhere =
        |field: &Field| distinct.iter().all(|s| s.field_with_name(field.name()).is_ok());
    let field = |field: &Arc<Field>| {
        let nullable = field.is_nullable() || !everywhere(field);
        field.as_ref().clone().with_nullable(nullable)
    };
    Ok(Arc::new(Schema::new(merged.fields().iter().map(field).collect::<Vec<_>>())))
}

/// The error for a file that cannot be read as what its name says.
pub(super) fn broken(path: &Path, format: Format, cause: &DataFusionError) -> Error {
    let root = cause.find_root();
    if matches!(root, DataFusionError::ObjectStore(_) | DataFusionError::IoError(_)) {
        let what = format!("file \"{path}\" could not be read");
        return Error::source("SOURCE_READ_FAILED", what).caused_by(cause);
    }
    let name = format.name();
    Error::source("CORRUPT_FILE", format!("file \"{path}\" cannot be read as {name}"))
        .with_hint("Write the file again, or move it out of the table's folder.")
        .caused_by(root)
}

/// Returns the columns that were declared when Meshwork made the table.
pub(super) async fn declared(store: &dyn ObjectStore, file: &ObjectMeta) -> Result<SchemaRef> {
    let read = async { store.get(&file.location).await?.bytes().await };
    let bytes = read.await.map_err(|e| unreachable(&e))?;
    let schema: Schema = serde_json::from_slice(&bytes).map_err(|e| {
        let path = &file.location;
        Error::source("CORRUPT_FILE", format!("file \"{path}\" does not describe columns"))
            .caused_by(&e)
    })?;
    Ok(Arc::new(schema))
}

/// Returns the columns as they are written down for a table that Meshwork makes.
pub(super) fn written(schema: &Schema) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(schema)
        .map_err(|e| Error::internal("columns cannot be written as JSON").caused_by(&e))
}
