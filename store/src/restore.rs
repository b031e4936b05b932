//! Restore: tables become again what they were at an earlier version.
//!
//! Nothing is taken back: the restore is a version of its own, with one delta that stands for all that there was, and the
//! versions before it stay what they were.
//!
//! ```text
//! versions   1  2  3  4  5
//! deltas     ■  ■  ■  ■        versions 1 to 4
//!            └────[0,5]───┘    the rows of version 2, from version 5 on
//! ```

use crate::compact::CompactOptions;
use crate::database::Database;
use crate::error::Result;
use crate::log::commit::{Committed, Transaction};
use crate::log::deltas::{DeltaId, PRIMARY};
use crate::log::record::{Operation, ReadScope, TableChange};
use crate::log::state::restored;
use crate::snapshot::ReadAt;
use crate::version::Version;

impl Database {
    /// Makes tables again what they were at a version, all in one new version. What others commit while it is prepared is undone
    /// as well. Tables are named by namespace and name; one that is named twice counts once.
    ///
    /// # Errors
    /// User if the version is not there, or a table was not there at it; [`crate::Error::Conflict`] if a table was dropped
    /// meanwhile; Internal if files are not what the log says; otherwise as [`crate::Batch::commit`].
    pub async fn restore(&self, tables: &[(&str, &str)], version: Version) -> Result<Committed> {
        let snapshot = self.snapshot(ReadAt::Version(version)).await?;
        let mut transaction =
            Transaction::new(self.new_transaction(), Operation::Restore, snapshot.lsn());
        for (namespace, name) in tables {
            let table = snapshot.table(namespace, name)?;
            let def = table.def();
            if transaction.read.tables.insert(def.id, ReadScope::Any).is_some() {
                continue;
            }
            // The number is a guess, as that of a batch is.
            let into = DeltaId { index: PRIMARY, v: restored(self.state().version.next()) };
            let options = CompactOptions::default();
            let (add, _moved) = self.folded(def, table.chosen(), into, options).await?;
            transaction.tables.push(TableChange { add, ..TableChange::of(def.id, def.schema) });
        }
        self.log().commit(transaction).await
    }
}
