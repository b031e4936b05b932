//! Exports: what others read of a table without this crate, as Delta Lake metadata over the same files.
//!
//! ```text
//! t/<table>/0/...                      data files, as they are
//! t/<table>/_delta_log/<n:020>.json    one version of the export: which files came and went
//! t/<table>/_delta_log/<n:020>.checkpoint.parquet    every tenth: which files there are
//! ```
//! A reader of Delta takes all rows of the files that are named. So an export is of a version whose files need no merge: any
//! version of an append table, and of the others the newest that one delta holds. Each export adds what came and removes what
//! went; a table of which nothing newer can be exported stays as it is. A vacuum spares the files of the newest export.
//!
//! Source: the Delta transaction log protocol, reader version 1 and writer version 2; 3 and 7 with `timestampNtz` where a
//! table has times without a zone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::{LineDelimitedWriter, ReaderBuilder};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectMeta;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::database::Database;
use crate::error::{Error, Result};
use crate::log::deltas::Delta;
use crate::log::record::FileEntry;
use crate::names::{Names, named_ms};
use crate::snapshot::{ReadAt, TableSnapshot};
use crate::table::{Column, ColumnType, DELETED_COLUMN, TableDef, TableId, TimeUnit};
use crate::version::Version;

/// Versions of an export that are read at the same time.
const READS_AT_ONCE: usize = 16;

/// Every so many exports a checkpoint says what all of them have come to, so that readers need not read all.
const CHECKPOINT_EVERY: u64 = 10;

/// The property of a table that says how it is exported, and its one value.
pub const EXPORT_PROPERTY: &str = "export";
/// See [`EXPORT_PROPERTY`].
pub const EXPORT_DELTA: &str = "delta";

/// What others read of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The folder that is a Delta table, relative to the root of the database.
    pub folder: String,
    /// The number of the export there.
    pub number: u64,
    /// The version that it shows.
    pub version: Version,
}

impl Database {
    /// Exports the newest version of a table that others can read as it is, unless that is done. Returns None if there is no such
    /// version: then a merge of all deltas makes one.
    ///
    /// # Errors
    /// User if the table is not there or cannot be exported; [`Error::Conflict`] if another process exported it at the same time;
    /// otherwise as [`Self::compact`].
    pub async fn export(&self, table: TableId) -> Result<Option<Exported>> {
        let snapshot = self.snapshot(ReadAt::Committed).await?;
        let Some(newest) = snapshot.table_of(table)? else {
            return Err(Error::Conflict { reason: format!("table {table} was dropped") });
        };
        let Some((version, def, files)) = exportable(&newest) else { return Ok(None) };
        let columns = delta_columns(&def)?;
        let files = relative(&def, &files)?;
        let before = self.exports_of(table).await?;
        let folder = Names::table(&table);
        let done = |number| Exported { folder: folder.clone(), number, version };
        if let Some(last) = &before
            && last.version == version
            && last.columns() == Some(columns.clone())
        {
            return Ok(Some(done(last.number)));
        }
        let number = before.as_ref().map_or(0, |last| last.number + 1);
        let now_ms = self.environment().now_us() / 1000;
        let actions = actions(&def, &columns, &files, before.as_ref(), version, now_ms);
        let text = Bytes::from(lines(&actions));
        let path = self.log().names.delta_log(&table, number);
        if !self.log().objects.create_or_find(&path, text.clone()).await? {
            let reason = format!("table \"{}\" was exported by another", def.full_name());
            return Err(Error::Conflict { reason });
        }
        if number > 0 && number.is_multiple_of(CHECKPOINT_EVERY) {
            let mut all = before.unwrap_or_default();
            all.apply(number, &text).map_err(|evidence| Error::corrupt(path.as_ref(), evidence))?;
            let path = self.log().names.delta_checkpoint(&table, number);
            // Readers find their way without it, only slower.
            if let Err(error) = self.log().objects.create(&path, all.checkpoint()?).await {
                tracing::warn!(%error, "checkpoint of an export was not written");
            }
        }
        Ok(Some(done(number)))
    }

    /// Returns what others read of a table; None if nothing.
    ///
    /// # Errors
    /// Source if the object store fails, Internal if an export is not one of ours.
    pub async fn exported(&self, table: TableId) -> Result<Option<Exported>> {
        let last = self.exports_of(table).await?;
        let folder = Names::table(&table);
        Ok(last.map(|last| Exported { folder, number: last.number, version: last.version }))
    }

    /// Returns the paths of the files of exports of tables that are there; `listed` are all objects of tables.
    pub(crate) async fn exported_files(
        &self,
        tables: impl Iterator<Item = TableId>,
        listed: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>> {
        let mut files = BTreeSet::new();
        for table in tables {
            let folder = Names::table(&table);
            let log = format!("{folder}/_delta_log/");
            if listed.range(log.clone()..).next().is_some_and(|name| name.starts_with(&log))
                && let Some(last) = self.exports_of(table).await?
            {
                files.extend(last.files.keys().map(|file| format!("{folder}/{file}")));
            }
        }
        Ok(files)
    }

    /// Reads the newest checkpoint of a table's exports and what follows it.
    async fn exports_of(&self, table: TableId) -> Result<Option<Export>> {
        let log = self.log();
        let listed = log.objects.list_folder(&log.names.delta_logs(&table)).await?;
        let numbers = |suffix: &str| -> Vec<u64> {
            let number = |object: &ObjectMeta| {
                object.location.filename()?.strip_suffix(suffix)?.parse::<u64>().ok()
            };
            listed.iter().filter_map(number).collect()
        };
        let Some(newest) = numbers(".json").into_iter().max() else { return Ok(None) };
        let checkpoint = numbers(".checkpoint.parquet").into_iter().max();
        let mut export = Export::default();
        if let Some(number) = checkpoint {
            let path = log.names.delta_checkpoint(&table, number);
            let wrong = |evidence: String| Error::corrupt(path.as_ref(), evidence);
            let Some(bytes) = log.objects.get(&path).await? else {
                return Err(wrong("it was listed and is not there".to_owned()));
            };
            export.apply(number, &as_lines(bytes)?).map_err(wrong)?;
        }
        // The one of the checkpoint is read again: it says which version it shows.
        let texts: Vec<(u64, Path, Option<Bytes>)> = stream::iter(checkpoint.unwrap_or(0)..=newest)
            .map(|number| async move {
                let path = log.names.delta_log(&table, number);
                let text = log.objects.get(&path).await?;
                Ok::<_, Error>((number, path, text))
            })
            .buffered(READS_AT_ONCE)
            .try_collect()
            .await?;
        for (number, path, text) in texts {
            let wrong = |evidence: String| Error::corrupt(path.as_ref(), evidence);
            let text = text.ok_or_else(|| wrong("it is not there, a later one is".to_owned()))?;
            export.apply(number, &text).map_err(wrong)?;
        }
        Ok(Some(export))
    }
}

/// An export: the fold of the actions of all of them.
#[derive(Debug, Default)]
struct Export {
    number: u64,
    version: Version,
    protocol: Value,
    table: Value,
    /// What is said of each file, by its path relative to the table's folder.
    files: BTreeMap<String, Value>,
}

impl Export {
    fn apply(&mut self, number: u64, lines: &[u8]) -> Result<(), String> {
        self.number = number;
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let action: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            if let Some(path) = action["add"]["path"].as_str() {
                self.files.insert(path.to_owned(), action);
            } else if let Some(path) = action["remove"]["path"].as_str() {
                self.files.remove(path);
            } else if action["metaData"].is_object() {
                self.table = action;
            } else if action["protocol"].is_object() {
                self.protocol = action;
            } else if let Some(version) = action["commitInfo"]["meshworkVersion"].as_u64() {
                self.version = Version(version);
            }
        }
        Ok(())
    }

    fn columns(&self) -> Option<Value> {
        serde_json::from_str(self.table["metaData"]["schemaString"].as_str()?).ok()
    }

    /// Returns a checkpoint of Delta: its actions as rows.
    fn checkpoint(&self) -> Result<Bytes> {
        let actions: Vec<&Value> =
            [&self.protocol, &self.table].into_iter().chain(self.files.values()).collect();
        let text = lines(&actions);
        let schema = checkpoint_schema();
        let mut parquet = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), None)?;
        for rows in ReaderBuilder::new(schema).build(text.as_bytes())? {
            parquet.write(&rows?)?;
        }
        Ok(parquet.into_inner()?.into())
    }
}

/// Returns the actions of a checkpoint as those of an export are written.
fn as_lines(checkpoint: Bytes) -> Result<Vec<u8>> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    for rows in ParquetRecordBatchReaderBuilder::try_new(checkpoint)?.build()? {
        writer.write(&rows?)?;
    }
    writer.finish()?;
    Ok(writer.into_inner())
}

fn lines(actions: &[impl std::fmt::Display]) -> String {
    actions.iter().map(|action| format!("{action}\n")).collect()
}

fn checkpoint_schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    let version = |name: &str| Field::new(name, DataType::Int32, true);
    let truth = |name: &str| Field::new(name, DataType::Boolean, true);
    let list =
        |name: &str| Field::new_list(name, Field::new("element", DataType::Utf8, true), true);
    let map = |name: &str| {
        let (key, value) = (Field::new("key", DataType::Utf8, false), text("value"));
        Field::new_map(name, "key_value", key, value, false, true)
    };
    let of = |name: &str, fields: Vec<Field>| Field::new_struct(name, fields, true);
    Arc::new(Schema::new(vec![
        of(
            "protocol",
            vec![
                version("minReaderVersion"),
                version("minWriterVersion"),
                list("readerFeatures"),
                list("writerFeatures"),
            ],
        ),
        of(
            "metaData",
            vec![
                text("id"),
                text("name"),
                of("format", vec![text("provider"), map("options")]),
                text("schemaString"),
                list("partitionColumns"),
                map("configuration"),
                number("createdTime"),
            ],
        ),
        of(
            "add",
            vec![
                text("path"),
                map("partitionValues"),
                number("size"),
                number("modificationTime"),
                truth("dataChange"),
                text("stats"),
            ],
        ),
        of("remove", vec![text("path"), number("deletionTimestamp"), truth("dataChange")]),
    ]))
}

/// Returns the newest version whose files are its rows, its definition, and these files.
fn exportable(newest: &TableSnapshot) -> Option<(Version, Arc<TableDef>, Vec<Arc<FileEntry>>)> {
    if !newest.def().kind.folds() {
        return Some((newest.last_update(), Arc::clone(newest.def()), newest.files()));
    }
    let all = newest.deltas().iter();
    let is_readable = |delta: &&Arc<Delta>| newest.is_whole(delta.id) && !has_deleted(delta);
    let delta = all.filter(is_readable).max_by_key(|delta| delta.id.v.hi)?;
    let version = delta.id.v.hi;
    Some((version, newest.def_at(version), delta.files.clone()))
}

/// Whether a row may say that there is none of its key any more.
fn has_deleted(delta: &Delta) -> bool {
    let says = |file: &FileEntry| {
        file.stats.get(DELETED_COLUMN).is_some_and(|stats| stats.nulls < file.rows)
    };
    delta.files.iter().any(|file| says(file))
}

/// Says whether a table is to be exported, and refuses what cannot be.
///
/// # Errors
/// User if the property has another value, or a column a type that Delta does not have.
pub(crate) fn is_asked_for(def: &TableDef) -> Result<bool> {
    match def.properties.get(EXPORT_PROPERTY).map(String::as_str) {
        None => Ok(false),
        Some(EXPORT_DELTA) => delta_columns(def).map(|_columns| true),
        Some(other) => Err(Error::Definition {
            table: def.full_name(),
            reason: format!("it is to be exported as {other}; \"{EXPORT_DELTA}\" is what there is"),
        }),
    }
}

/// Returns the columns as Delta names them.
fn delta_columns(def: &TableDef) -> Result<Value> {
    let field = |column: &Column| -> Result<Value> {
        let Some(data_type) = delta_type(&column.column_type) else {
            return Err(Error::Definition {
                table: def.full_name(),
                reason: format!(
                    "column \"{}\" of type {} cannot be exported: Delta has no such type",
                    column.name, column.column_type
                ),
            });
        };
        // Values of a deleted row are NULL in files, whatever the column demands.
        Ok(json!({ "name": column.name, "type": data_type, "nullable": true, "metadata": {} }))
    };
    let columns = def.file_columns().into_iter().filter(|column| column.name != DELETED_COLUMN);
    let fields = columns.map(field).collect::<Result<Vec<Value>>>()?;
    Ok(json!({ "type": "struct", "fields": fields }))
}

fn delta_type(column_type: &ColumnType) -> Option<String> {
    let name = match column_type {
        ColumnType::Bool => "boolean",
        ColumnType::Int8 => "byte",
        ColumnType::Int16 => "short",
        ColumnType::Int32 => "integer",
        ColumnType::Int64 => "long",
        ColumnType::Float32 => "float",
        ColumnType::Float64 => "double",
        ColumnType::Date => "date",
        ColumnType::Utf8 => "string",
        ColumnType::Binary => "binary",
        ColumnType::Decimal(precision, scale) if *scale >= 0 => {
            return Some(format!("decimal({precision},{scale})"));
        }
        ColumnType::Timestamp(TimeUnit::Microsecond, None) => "timestamp_ntz",
        ColumnType::Timestamp(TimeUnit::Microsecond, Some(_)) => "timestamp",
        ColumnType::UInt8
        | ColumnType::UInt16
        | ColumnType::UInt32
        | ColumnType::UInt64
        | ColumnType::Decimal(..)
        | ColumnType::Timestamp(..) => return None,
    };
    Some(name.to_owned())
}

/// Returns files by their paths relative to the table's folder, if they are what the definition says.
fn relative<'a>(
    def: &TableDef,
    files: &'a [Arc<FileEntry>],
) -> Result<BTreeMap<&'a str, &'a FileEntry>> {
    let refuse = |reason: &str| Error::Definition {
        table: def.full_name(),
        reason: format!("it cannot be exported: {reason}"),
    };
    let folder = format!("{}/", Names::table(&def.id));
    let is_as_now = |file: &FileEntry| {
        let there = def.columns_of(file.schema).unwrap_or_default();
        let like = |a: &&Column, b: &&Column| {
            (a.id, &a.name, &a.column_type) == (b.id, &b.name, &b.column_type)
        };
        let now = def.file_columns();
        there.len() == now.len() && there.iter().zip(&now).all(|(a, b)| like(a, b))
    };
    let mut named = BTreeMap::new();
    for file in files {
        if !is_as_now(file) {
            return Err(refuse(
                "files that no merge has rewritten yet are of an earlier definition",
            ));
        }
        let path = file.path.strip_prefix(&folder);
        let path = path.ok_or_else(|| {
            refuse("some of its files are those of the table that it is a clone of")
        })?;
        named.insert(path, file.as_ref());
    }
    Ok(named)
}

fn actions(
    def: &TableDef,
    columns: &Value,
    files: &BTreeMap<&str, &FileEntry>,
    before: Option<&Export>,
    version: Version,
    now_ms: i64,
) -> Vec<Value> {
    let mut actions = vec![json!({ "commitInfo": {
        "timestamp": now_ms, "operation": "WRITE", "engineInfo": "Meshwork", "meshworkVersion": version.0,
    } })];
    let schema = columns.to_string();
    let plain = json!({ "protocol": { "minReaderVersion": 1, "minWriterVersion": 2 } });
    let with_times = json!({ "protocol": {
        "minReaderVersion": 3, "minWriterVersion": 7,
        "readerFeatures": ["timestampNtz"], "writerFeatures": ["timestampNtz"],
    } });
    // What a reader has to know never becomes less.
    let needed = if schema.contains("\"timestamp_ntz\"") { with_times } else { plain.clone() };
    if before.is_none_or(|before| before.protocol != needed && needed != plain) {
        actions.push(needed);
    }
    if before.and_then(Export::columns).as_ref() != Some(columns) {
        actions.push(json!({ "metaData": {
            "id": uuid_of(&def.id), "name": def.full_name(), "format": { "provider": "parquet", "options": {} },
            "schemaString": schema, "partitionColumns": [], "configuration": {}, "createdTime": now_ms,
        } }));
    }
    let none = BTreeMap::new();
    let there = before.map_or(&none, |before| &before.files);
    for path in there.keys().filter(|path| !files.contains_key(path.as_str())) {
        actions.push(
            json!({ "remove": { "path": path, "deletionTimestamp": now_ms, "dataChange": true } }),
        );
    }
    for (path, file) in files.iter().filter(|(path, _)| !there.contains_key(**path)) {
        actions.push(json!({ "add": {
            "path": path, "partitionValues": {}, "size": file.bytes, "dataChange": true,
            "modificationTime": named_ms(&file.path).unwrap_or_default(),
            "stats": json!({ "numRecords": file.rows }).to_string(),
        } }));
    }
    actions
}

/// A table's identity in the form that Delta demands.
fn uuid_of(id: &TableId) -> String {
    let hex = format!("{:032x}", id.0.0);
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}
