//! Checks: whether a table's objects still are what the log says of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::compact::{same_sums, verify};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::snapshot::TableSnapshot;
use crate::stats::key_bounds;

/// How much of a table is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckDepth {
    /// What a listing and the log tell: that all files are there with their sizes, that the keys of a delta ascend from file
    /// to file, and that merged deltas and rollups have the sums of what they were made from.
    Quick,
    /// Every byte and every row as well.
    Full,
}

/// Something that is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The object, or the table.
    pub object: String,
    /// What does not fit.
    pub evidence: String,
}

impl Database {
    /// Checks all deltas of a table, also those that only earlier versions are read from; returns what does not fit.
    ///
    /// # Errors
    /// Source if the object store fails: then nothing is known.
    pub async fn check(&self, table: &TableSnapshot, depth: CheckDepth) -> Result<Vec<Problem>> {
        let log = self.log();
        let entries = table.deltas().iter().flat_map(|delta| &delta.files);
        // A clone has files of another table.
        let folders: BTreeSet<&str> = entries.filter_map(|file| table_folder(&file.path)).collect();
        let mut sizes = BTreeMap::new();
        for folder in folders {
            for object in log.objects.list(&log.names.absolute(folder)).await? {
                sizes.extend(log.names.relative(&object.location).map(|name| (name, object.size)));
            }
        }
        let mut problems = Vec::new();
        let mut files = BTreeMap::new();
        for (name, rollup) in table.rollups() {
            if let Err(evidence) = same_sums(rollup.def(), &table.files(), &rollup.files()) {
                let object = format!("rollup \"{name}\" of {}", table.def().full_name());
                problems.push(Problem { object, evidence });
            }
        }
        for delta in table.deltas().iter() {
            let mut greatest = None;
            for file in &delta.files {
                if let Some((least, last)) = key_bounds(file) {
                    if greatest.is_some_and(|greatest| greatest >= least) {
                        let evidence = "its keys do not follow those of the file before it";
                        problems.push(Problem::of(&file.path, evidence));
                    }
                    greatest = Some(last);
                }
                files.insert(file.path.as_str(), file);
            }
            let def = table.def_of(delta.id)?;
            if let Some(same) = table.deltas().saying_the_same(delta.id)
                && let Err(Error::Corrupt { object, evidence }) = verify(&def, &same, &delta.files)
            {
                problems
                    .push(Problem { object, evidence: format!("delta {}: {evidence}", delta.id) });
            }
        }
        let mut to_read = Vec::new();
        for (path, file) in files {
            match sizes.get(path) {
                None => problems.push(Problem::of(path, "it is not there")),
                Some(size) if *size != file.bytes => {
                    let evidence = format!("it has {size} bytes, the log says {}", file.bytes);
                    problems.push(Problem { object: path.to_owned(), evidence });
                }
                Some(_) => to_read.push(file),
            }
        }
        if depth == CheckDepth::Full {
            for file in to_read {
                match self.verify_file(file).await {
                    Ok(()) => {}
                    Err(Error::Corrupt { object, evidence }) => {
                        problems.push(Problem { object, evidence });
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(problems)
    }
}

/// Returns `t/<table>` of a data file's path.
fn table_folder(path: &str) -> Option<&str> {
    let (end, _) = path.match_indices('/').nth(1)?;
    path.get(..end)
}

impl Problem {
    fn of(object: &str, evidence: &str) -> Self {
        Self { object: object.to_owned(), evidence: evidence.to_owned() }
    }
}
