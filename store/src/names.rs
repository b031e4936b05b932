//! Names of the objects of one database. All are immutable: created if absent, never overwritten; data files and what stands
//! below `_gc` are deleted in the end.
//!
//! ```text
//! <root>/_db.json                                              format, identity, features
//! <root>/_log/<lsn/10000:012>/<lsn:020>.json                   one record per commit
//! <root>/_chk/<lsn:020>.json                                   checkpoint: the fold of the log up to lsn
//! <root>/_chk/part/<table>-<lsn>-<ulid>.jsonl.zst              file entries of one table, shared by checkpoints
//! <root>/_gc/<lsn:020>.json.zst                                data files in no delta after the record at lsn
//! <root>/_gc/clock/<ulid>                                      what tells the time of the object store
//! <root>/t/<table>/_delta_log/<n:020>.json                     what others read of the table, see [`crate::export`]
//! <root>/t/<table>/<index>/<lo:016>-<hi:016>/<ulid>.parquet    data; the versions in the name are a hint, the
//!                                                              log's record is the truth
//! ```

use object_store::path::Path;
use ulid::Ulid;

use crate::log::deltas::DeltaId;
use crate::table::TableId;
use crate::version::VersionRange;

/// How many records share a folder of the log.
const RECORDS_PER_FOLDER: u64 = 10_000;

/// Names objects below the root of a database.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    root: Path,
}

impl Names {
    pub(crate) fn new(root: Path) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn database(&self) -> Path {
        self.absolute("_db.json")
    }

    pub(crate) fn record(&self, lsn: u64) -> Path {
        let folder = lsn / RECORDS_PER_FOLDER;
        self.absolute(&format!("_log/{folder:012}/{lsn:020}.json"))
    }

    /// Returns the log position that a record's name relative to the root tells.
    pub(crate) fn record_lsn(name: &str) -> Option<u64> {
        let (_folder, name) = name.strip_prefix("_log/")?.split_once('/')?;
        name.strip_suffix(".json")?.parse().ok()
    }

    /// Says whether the record is the first of its folder.
    pub(crate) fn opens_folder(lsn: u64) -> bool {
        lsn.is_multiple_of(RECORDS_PER_FOLDER)
    }

    pub(crate) fn checkpoints(&self) -> Path {
        self.absolute("_chk")
    }

    pub(crate) fn checkpoint_parts(&self) -> Path {
        self.absolute("_chk/part")
    }

    pub(crate) fn checkpoint(&self, lsn: u64) -> Path {
        self.absolute(&format!("_chk/{lsn:020}.json"))
    }

    /// Returns the log position that a checkpoint's name tells.
    pub(crate) fn checkpoint_lsn(path: &Path) -> Option<u64> {
        path.filename()?.strip_suffix(".json")?.parse().ok()
    }

    /// Returns the folder of all data files.
    pub(crate) fn data(&self) -> Path {
        self.absolute("t")
    }

    /// Returns the folder of a table, relative to the root.
    pub(crate) fn table(table: &TableId) -> String {
        format!("t/{table}")
    }

    /// Returns the folder of a table's exports.
    pub(crate) fn delta_logs(&self, table: &TableId) -> Path {
        self.absolute(&format!("t/{table}/_delta_log"))
    }

    /// Returns the export of a number, as Delta's protocol names it.
    pub(crate) fn delta_log(&self, table: &TableId, number: u64) -> Path {
        self.absolute(&format!("t/{table}/_delta_log/{number:020}.json"))
    }

    /// Returns the checkpoint of a table's exports up to a number.
    pub(crate) fn delta_checkpoint(&self, table: &TableId, number: u64) -> Path {
        self.absolute(&format!("t/{table}/_delta_log/{number:020}.checkpoint.parquet"))
    }

    pub(crate) fn unneeded_lists(&self) -> Path {
        self.absolute("_gc")
    }

    pub(crate) fn unneeded_list(&self, lsn: u64) -> Path {
        self.absolute(&format!("_gc/{lsn:020}.json.zst"))
    }

    pub(crate) fn clock(&self, ulid: Ulid) -> Path {
        self.absolute(&format!("_gc/clock/{ulid}"))
    }

    /// Returns the path of an object relative to the root.
    pub(crate) fn relative(&self, object: &Path) -> Option<String> {
        let parts: Vec<_> = object.prefix_match(&self.root)?.collect();
        Some(parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join("/"))
    }

    /// Returns the object of a path that the log or a checkpoint names, relative to the root.
    pub(crate) fn absolute(&self, relative: &str) -> Path {
        relative.split('/').fold(self.root.clone(), Path::join)
    }
}

/// Returns the name of a part of a checkpoint, relative to the root.
pub(crate) fn checkpoint_part(table: &TableId, lsn: u64, ulid: Ulid) -> String {
    format!("_chk/part/{table}-{lsn}-{ulid}.jsonl.zst")
}

/// Returns the name of a data file of a delta, relative to the root.
pub(crate) fn data_file(table: &TableId, delta: DeltaId, ulid: Ulid) -> String {
    let DeltaId { index, v: VersionRange { lo, hi } } = delta;
    format!("t/{table}/{index}/{:016}-{:016}/{ulid}.parquet", lo.0, hi.0)
}

/// Returns when a data file was named, by its writer's clock, in milliseconds since 1970; None for a name that is none of
/// ours.
pub(crate) fn named_ms(path: &str) -> Option<u64> {
    let (_folder, name) = path.rsplit_once('/')?;
    Some(Ulid::from_string(name.strip_suffix(".parquet")?).ok()?.timestamp_ms())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_records_sort_like_their_positions() {
        let names = Names::new(Path::from("db"));
        assert_eq!(
            names.record(123_456).as_ref(),
            "db/_log/000000000012/00000000000000123456.json"
        );
        assert!(names.record(9_999) < names.record(10_000));
        assert!(Names::opens_folder(10_000) && !Names::opens_folder(10_001));
        assert_eq!(Names::checkpoint_lsn(&names.checkpoint(700)), Some(700));
        assert_eq!(Names::checkpoint_lsn(&names.database()), None);
        let record = names.relative(&names.record(123_456)).unwrap();
        assert_eq!(Names::record_lsn(&record), Some(123_456));
        assert_eq!(Names::record_lsn("_chk/00000000000000000100.json"), None);
    }
}
