//! From names to files: which schemas and tables a location has, and which files are a table's rows.
//!
//! Everything here lists; nothing here opens a file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use globset::GlobMatcher;
use meshwork_engine::{Error, Result, environment};
use object_store::path::Path;
use object_store::{ListResult, ObjectMeta, ObjectStore};
use parking_lot::Mutex;

use super::catalog_store::CatalogStore;
use super::format::Format;
use super::location::refusal;

/// The columns of a table that Meshwork made, as Arrow writes a schema in JSON.
pub(super) const SCHEMA_FILE: &str = "_schema.json";

/// Makes a schema known that has no table yet.
pub(super) const NAMESPACE_FILE: &str = "_namespace.json";

/// More files than that are a mistake in the location or the glob.
const FILES_MAX: usize = 1_000_000;

/// Folders of table formats whose files are not simply the table's rows.
const FOREIGN_LOGS: [(&str, &str); 2] = [("_delta_log", "Delta Lake"), (".hoodie", "Apache Hudi")];

/// A table that is defined by a glob.
#[derive(Debug)]
pub(super) struct Explicit {
    pub(super) matcher: GlobMatcher,
    pub(super) glob: String,
}

/// How long a table that was seen to be a directory is taken for one: a file of the same name is noticed later.
const DIRECTORY_KNOWN_MAX: Duration = Duration::from_secs(10);

/// A catalog's names and files.
#[derive(Debug)]
pub(super) struct Layout {
    store: Arc<CatalogStore>,
    explicit: BTreeMap<String, BTreeMap<String, Explicit>>,
    /// Tables that are directories, and when that was seen.
    directories: Mutex<BTreeMap<Path, Instant>>,
}

/// What a table is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Directory,
    File,
    Glob,
}

/// A table's files, when they were listed.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) shape: Shape,
    /// `None` for a directory without files of a known format.
    pub(super) format: Option<Format>,
    /// The rows, sorted by path.
    pub(super) files: Vec<ObjectMeta>,
    /// The directory, or the part of the glob before its first wildcard.
    pub(super) root: Path,
    /// The description of the columns that Meshwork wrote when it made the table.
    pub(super) schema_file: Option<ObjectMeta>,
}

impl Layout {
    pub(super) fn new(
        store: Arc<CatalogStore>,
        explicit: BTreeMap<String, BTreeMap<String, Explicit>>,
    ) -> Self {
        Self { store, explicit, directories: Mutex::default() }
    }

    pub(super) fn store(&self) -> &Arc<CatalogStore> {
        &self.store
    }

    /// Returns the names of the folders of the location and of explicit schemas.
    pub(super) async fn schemas(&self) -> Result<Vec<String>> {
        let listed = self.list_folder(self.store.root()).await?;
        let folders = listed.common_prefixes.iter().filter_map(Path::filename);
        let mut names: BTreeSet<String> =
            folders.filter(|name| is_visible(name)).map(str::to_owned).collect();
        names.extend(self.explicit.keys().cloned());
        Ok(names.into_iter().collect())
    }

    /// Returns the names of the tables of a schema, sorted.
    pub(super) async fn tables(&self, schema: &str) -> Result<Vec<String>> {
        let mut names: BTreeSet<String> = BTreeSet::new();
        if let Some(explicit) = self.explicit.get(schema) {
            names.extend(explicit.keys().cloned());
        }
        if let Some(folder) = self.path_of(&[schema]) {
            let listed = self.list_folder(&folder).await?;
            let folders = listed.common_prefixes.iter().filter_map(Path::filename);
            names.extend(folders.filter(|name| is_visible(name)).map(str::to_owned));
            let files = listed.objects.iter().filter_map(|file| file.location.filename());
            let stem = |name| Format::of_file(name).map(|(_format, stem)| stem.to_owned());
            names.extend(files.filter(|name| is_visible(name)).filter_map(stem));
        }
        Ok(names.into_iter().collect())
    }

    /// Returns the files of a table, or `None` if there is no such table.
    pub(super) async fn find(&self, schema: &str, table: &str) -> Result<Option<Found>> {
        if let Some(explicit) = self.explicit.get(schema).and_then(|tables| tables.get(table)) {
            return self.find_glob(explicit, table).await.map(Some);
        }
        let Some(folder) = self.path_of(&[schema]).filter(|_folder| is_visible(schema)) else {
            return Ok(None);
        };
        if let Some(directory) = self.known_directory(schema, table) {
            // Without a file it may be gone.
            let found = self.find_directory(&directory, table).await?;
            if !found.files.is_empty() {
                return Ok(Some(found));
            }
        }
        let listed = self.list_folder(&folder).await?;
        let directory = listed.common_prefixes.iter().find(|path| path.filename() == Some(table));
        let is_file = |file: &&ObjectMeta| {
            let name = file.location.filename().unwrap_or_default();
            is_visible(name) && Format::of_file(name).is_some_and(|(_format, stem)| stem == table)
        };
        let mut files = listed.objects.iter().filter(is_file);
        match (directory.filter(|_path| is_visible(table)), files.next(), files.next()) {
            (None, None, _) => Ok(None),
            (Some(directory), None, _) => {
                let found = self.find_directory(directory, table).await?;
                self.directories.lock().insert(directory.clone(), environment::instant());
                Ok(Some(found))
            }
            (None, Some(file), None) => Ok(Some(single_file(file, folder))),
            _ => Err(Error::source(
                "AMBIGUOUS_TABLE",
                format!("table \"{schema}.{table}\" is there more than once"),
            )
            .with_hint("Keep either the directory or one file of that name.")),
        }
    }

    /// Returns the path of names below the location; `None` for what cannot be one folder's name.
    pub(super) fn path_of(&self, names: &[&str]) -> Option<Path> {
        let mut path = self.store.root().to_string();
        for name in names {
            if name.is_empty() || name.contains('/') {
                return None;
            }
            path = format!("{path}/{name}");
        }
        Path::parse(path).ok()
    }

    async fn list_folder(&self, folder: &Path) -> Result<ListResult> {
        self.store.list_with_delimiter(Some(folder)).await.map_err(|e| unreachable(&e))
    }

    async fn list_files(&self, folder: &Path) -> Result<Vec<ObjectMeta>> {
        let mut listed = self.store.list(Some(folder));
        let mut files = Vec::new();
        while let Some(file) = listed.try_next().await.map_err(|e| unreachable(&e))? {
            if files.len() == FILES_MAX {
                return Err(Error::resources(
                    "TOO_MANY_FILES",
                    format!("folder \"{folder}\" holds more than {FILES_MAX} files"),
                ));
            }
            files.push(file);
        }
        files.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(files)
    }

    /// Returns the table's directory if it was seen not long ago that there is no file of that name beside it.
    fn known_directory(&self, schema: &str, table: &str) -> Option<Path> {
        let path = self.path_of(&[schema, table])?;
        let mut known = self.directories.lock();
        let is_fresh = known.get(&path)?.elapsed() < DIRECTORY_KNOWN_MAX;
        if !is_fresh {
            known.remove(&path);
        }
        is_fresh.then_some(path)
    }

    async fn find_directory(&self, directory: &Path, table: &str) -> Result<Found> {
        let mut files = self.list_files(directory).await?;
        refuse_foreign(&files, directory, table)?;
        let schema_path = directory.clone().join(SCHEMA_FILE);
        let schema_file = files.iter().find(|file| file.location == schema_path).cloned();
        files.retain(|file| is_row_file(file, directory));
        let format = one_format(&files, table)?;
        let root = directory.clone();
        Ok(Found { shape: Shape::Directory, format, files, root, schema_file })
    }

    async fn find_glob(&self, explicit: &Explicit, table: &str) -> Result<Found> {
        let root = self.path_of(&literal_folders(&explicit.glob)).ok_or_else(|| {
            Error::user("CATALOG_CONFIGURATION", format!("glob of table \"{table}\" is no path"))
        })?;
        let mut files = self.list_files(&root).await?;
        let location = self.store.root();
        files.retain(|file| {
            let below: Path = file.location.prefix_match(location).into_iter().flatten().collect();
            is_row_file(file, &root) && explicit.matcher.is_match(below.as_ref())
        });
        refuse_foreign(&files, &root, table)?;
        let format = one_format(&files, table)?;
        Ok(Found { shape: Shape::Glob, format, files, root, schema_file: None })
    }
}

fn single_file(file: &ObjectMeta, root: Path) -> Found {
    let format = file.location.filename().and_then(Format::of_file).map(|(format, _stem)| format);
    let files = vec![file.clone()];
    Found { shape: Shape::File, format, files, root, schema_file: None }
}

/// Returns the folders of a glob before its first wildcard; never its last part.
fn literal_folders(glob: &str) -> Vec<&str> {
    let parts: Vec<&str> = glob.split('/').filter(|part| !part.is_empty()).collect();
    let folders = parts.len().saturating_sub(1);
    let is_literal = |part: &&str| !part.contains(['*', '?', '[', '{', '\\']);
    parts.into_iter().take(folders).take_while(is_literal).collect()
}

/// Names of other tools' own business begin with `_` or `.`; a partition's name may.
fn is_visible(name: &str) -> bool {
    !name.starts_with('.') && (!name.starts_with('_') || name.contains('='))
}

fn is_row_file(file: &ObjectMeta, root: &Path) -> bool {
    let Some(below) = file.location.prefix_match(root) else { return false };
    let visible = below.into_iter().all(|part| is_visible(part.as_ref()));
    let format = file.location.filename().and_then(Format::of_file);
    match format {
        // A Parquet file of no bytes is a broken one, and a reader must say so.
        Some((Format::Parquet, _stem)) => visible,
        Some((Format::Csv | Format::Json, _stem)) => visible && file.size > 0,
        None => false,
    }
}

fn one_format(files: &[ObjectMeta], table: &str) -> Result<Option<Format>> {
    let names = files.iter().filter_map(|file| file.location.filename());
    let formats: BTreeSet<Format> =
        names.filter_map(Format::of_file).map(|(format, _stem)| format).collect();
    let names: Vec<&str> = formats.iter().map(|format| format.name()).collect();
    match formats.len() {
        0 | 1 => Ok(formats.first().copied()),
        _ => Err(Error::source(
            "MIXED_FORMATS",
            format!("table \"{table}\" holds files of several formats: {}", names.join(", ")),
        )
        .with_hint("Define one table for each format by a property tables.<schema>.<table>.")),
    }
}

/// Reading all files of such a table would bring deleted rows back.
fn refuse_foreign(files: &[ObjectMeta], root: &Path, table: &str) -> Result<()> {
    for (folder, product) in FOREIGN_LOGS {
        let below = |file: &ObjectMeta| {
            file.location
                .prefix_match(root)
                .is_some_and(|mut parts| parts.any(|part| part.as_ref() == folder))
        };
        if files.iter().any(below) {
            return Err(Error::not_supported(format!(
                "table \"{table}\" of {product} in a catalog of kind lake"
            )));
        }
    }
    Ok(())
}

/// The error for a store that does not answer a listing.
pub(super) fn unreachable(cause: &object_store::Error) -> Error {
    let what = "the catalog's files could not be listed";
    match refusal(cause) {
        Some((code, why)) => Error::source(code, format!("{what}: {why}")),
        None => Error::source("SOURCE_UNAVAILABLE", what),
    }
    .caused_by(cause)
}

#[cfg(test)]
mod tests {
    use super::{is_visible, literal_folders};

    #[test]
    fn names_of_other_tools_are_hidden() {
        assert!(is_visible("orders") && is_visible("_year=2024"));
        assert!(!is_visible("_SUCCESS") && !is_visible(".part.crc"));
    }

    #[test]
    fn a_glob_is_listed_from_its_literal_part() {
        assert_eq!(literal_folders("raw/2026-*/events-*.parquet"), ["raw"]);
        assert_eq!(literal_folders("raw/a/x.parquet"), ["raw", "a"]);
        assert!(literal_folders("*.csv").is_empty());
    }
}
