//! Writing: new tables, new rows, and what may be removed.
//!
//! An INSERT writes one new Parquet file, which the store shows only when it is complete (see `sink`); so an
//! insert is there as a whole or not at all. Two statements are two files: nothing binds them together.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::common::{Result as DataFusionResult, SchemaExt};
use datafusion::datasource::sink::DataSinkExec;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;
use meshwork_engine::connector::CreateTable;
use meshwork_engine::{Error, Result};
use object_store::path::Path;
use object_store::{ObjectStore, PutMode, PutOptions, PutPayload};
use ulid::Ulid;

use super::layout::{Layout, NAMESPACE_FILE, SCHEMA_FILE, Shape, unreachable};
use super::schema;
use super::sink::OneFile;
use super::table::LakeTable;

/// Longest name that all stores take once a suffix is added.
const NAME_BYTES_MAX: usize = 200;

/// Whether a table takes rows.
#[derive(Debug)]
pub(super) enum Target {
    /// New files go into this directory.
    Directory(Path),
    /// The table does not, for this reason.
    Refused(&'static str),
}

pub(super) fn insert_into(
    table: &LakeTable,
    input: Arc<dyn ExecutionPlan>,
    insert_op: InsertOp,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    if insert_op != InsertOp::Append {
        let what = format!("{insert_op} of table \"{}\"", table.name);
        return Err(Error::not_supported(what).into());
    }
    let directory = match &table.target {
        Target::Directory(directory) => directory,
        Target::Refused(reason) => {
            let what = format!("INSERT into table \"{}\": {reason}", table.name);
            return Err(Error::not_supported(what).into());
        }
    };
    table.schema.logically_equivalent_names_and_types(&input.schema())?;
    let sink = OneFile {
        store: Arc::clone(&table.store),
        path: directory.clone().join(format!("{}.parquet", Ulid::new())),
        schema: Arc::clone(&table.schema),
        aborts: Arc::clone(&table.aborts),
    };
    Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), None)))
}

/// Makes a schema known.
pub(super) async fn create_schema(
    layout: &Layout,
    schema: &str,
    if_not_exists: bool,
) -> Result<()> {
    if layout.schemas().await?.iter().any(|known| known == schema) {
        return match if_not_exists {
            true => Ok(()),
            false => Err(Error::user(
                "SCHEMA_ALREADY_EXISTS",
                format!("schema \"{schema}\" already exists"),
            )),
        };
    }
    let folder = path_for(layout, &[schema])?;
    put_if_absent(layout, folder.join(NAMESPACE_FILE), b"{}\n".to_vec()).await.map(|_created| ())
}

/// Makes an empty table of Parquet files, by writing down its columns.
pub(super) async fn create_table(layout: &Layout, table: CreateTable) -> Result<()> {
    let CreateTable { schema, table: name, columns, options, if_not_exists } = table;
    for (key, value) in &options {
        if key != "format" || !value.eq_ignore_ascii_case("parquet") {
            return Err(Error::user(
                "TABLE_OPTION",
                format!("option \"{key}\" = '{value}' does not exist for a table of kind lake"),
            )
            .with_hint("The one option is format = 'parquet'."));
        }
    }
    if columns.fields().is_empty() {
        return Err(Error::user("INVALID_QUERY", format!("table \"{name}\" has no columns")));
    }
    if !layout.schemas().await?.contains(&schema) {
        return Err(Error::user("SCHEMA_NOT_FOUND", format!("schema \"{schema}\" does not exist"))
            .with_hint(format!("CREATE SCHEMA {schema} makes it.")));
    }
    let exists = match layout.find(&schema, &name).await? {
        Some(found) => !found.files.is_empty() || found.schema_file.is_some(),
        None => false,
    };
    let file = path_for(layout, &[&schema, &name])?.join(SCHEMA_FILE);
    let created = !exists && put_if_absent(layout, file, schema::written(&columns)?).await?;
    if created || if_not_exists {
        return Ok(());
    }
    let what = format!("table \"{schema}.{name}\" already exists");
    Err(Error::user("TABLE_ALREADY_EXISTS", what))
}

/// Returns whether the file was written; `false` if it was there.
async fn put_if_absent(layout: &Layout, file: Path, content: Vec<u8>) -> Result<bool> {
    let options = PutOptions::from(PutMode::Create);
    match layout.store().put_opts(&file, PutPayload::from(content), options).await {
        Ok(_result) => Ok(true),
        Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
        Err(error) => {
            let what = format!("file \"{file}\" could not be written");
            Err(Error::source("SOURCE_WRITE_FAILED", what).caused_by(&error))
        }
    }
}

fn path_for(layout: &Layout, names: &[&str]) -> Result<Path> {
    for name in names {
        let odd = name.contains(|c: char| c.is_control() || "/\\%*?[]{}=#".contains(c));
        let hidden = name.starts_with(['.', '_']);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || odd || hidden {
            return Err(Error::user(
                "INVALID_NAME",
                format!("\"{name}\" cannot be the name of a folder of a lake"),
            )
            .with_hint(
                "Names begin with neither _ nor . and hold none of / \\ % * ? [ ] { } = #.",
            ));
        }
    }
    layout
        .path_of(names)
        .ok_or_else(|| Error::user("INVALID_NAME", format!("\"{}\" is no path", names.join("/"))))
}

/// Whether tables that others made may be dropped, and where empty folders are swept.
#[derive(Debug)]
pub(super) struct DropRules {
    pub(super) foreign_too: bool,
    pub(super) local_root: Option<PathBuf>,
}

/// Removes a table's files, its description last, so that a drop that fails can be repeated.
pub(super) async fn drop_table(
    layout: &Layout,
    rules: &DropRules,
    schema: &str,
    table: &str,
) -> Result<bool> {
    let Some(found) = layout.find(schema, table).await? else { return Ok(false) };
    let refused =
        |what: &str| Err(Error::user("DROP_REFUSED", format!("table \"{schema}.{table}\" {what}")));
    match found.shape {
        Shape::Glob => return refused("is defined by the catalog's properties"),
        Shape::File | Shape::Directory if found.schema_file.is_none() && !rules.foreign_too => {
            return refused("was not made by Meshwork")
                .map_err(|e| e.with_hint("Set the catalog's property allow_drop to true."));
        }
        Shape::File => {
            let files = found.files.iter().map(|file| Ok(file.location.clone())).collect();
            delete(layout, files).await?;
        }
        Shape::Directory => {
            let files: Vec<_> = layout
                .store()
                .list(Some(&found.root))
                .map_ok(|file| file.location)
                .try_collect()
                .await
                .map_err(|e| unreachable(&e))?;
            let description = found.root.clone().join(SCHEMA_FILE);
            let rows = files.into_iter().filter(|file| *file != description).map(Ok).collect();
            delete(layout, rows).await?;
            if found.schema_file.is_some() {
                delete(layout, vec![Ok(description)]).await?;
            }
            if let Some(root) = &rules.local_root {
                sweep(root.join(schema).join(table));
            }
        }
    }
    Ok(true)
}

async fn delete(layout: &Layout, files: Vec<object_store::Result<Path>>) -> Result<()> {
    let files = Box::pin(futures::stream::iter(files));
    let deleted = layout.store().delete_stream(files).try_for_each(|_path| async { Ok(()) }).await;
    match deleted {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(error) => {
            Err(Error::source("SOURCE_WRITE_FAILED", "a file could not be removed")
                .caused_by(&error))
        }
    }
}

/// Removes empty folders, deepest first; a disk keeps them, an object store has none.
fn sweep(folder: PathBuf) {
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    for folder in entries.map(|entry| entry.path()).filter(|path| path.is_dir()) {
        sweep(folder);
    }
    if let Err(error) = std::fs::remove_dir(&folder) {
        tracing::debug!(folder = %folder.display(), %error, "folder of a dropped table stays");
    }
}
