//! Restore and clone: tables become again, or begin as, what they were at an earlier version.
//!
//! Nothing is taken back: the restore is a version of its own, with one delta that stands for all that there was, and the
//! versions before it stay what they were.
//!
//! ```text
//! versions   1  2  3  4  5
//! deltas     ■  ■  ■  ■        versions 1 to 4
//!            └────[0,5]───┘    the rows of version 2, from version 5 on
//! ```
//!
//! A clone shares deltas with the table that it is made of, and copies no byte. From then on each goes its own way; a file is
//! needed while a delta of either has it.

use std::sync::Arc;

use crate::compact::CompactOptions;
use crate::database::Database;
use crate::delta::merge::Hides;
use crate::environment::new_ulid;
use crate::error::Result;
use crate::export::EXPORT_PROPERTY;
use crate::log::commit::{Committed, Transaction};
use crate::log::deltas::{DeltaId, PRIMARY};
use crate::log::record::{CloneOf, Operation, ReadScope, TableChange};
use crate::log::state::restored;
use crate::snapshot::{ReadAt, TableSnapshot};
use crate::table::{TableDef, TableId};

impl Database {
    /// Makes tables again what they were at a version, all in one new version. What others commit while it is prepared is undone
    /// as well. Tables are named by namespace and name; one that is named twice counts once.
    ///
    /// # Errors
    /// User if the version is not there, or a table was not there at it; [`crate::Error::Conflict`] if a table was dropped
    /// meanwhile; Internal if files are not what the log says; otherwise as [`crate::Batch::commit`].
    pub async fn restore(&self, tables: &[(&str, &str)], at: ReadAt) -> Result<Committed> {
        let snapshot = self.snapshot(at).await?;
        let mut transaction =
            Transaction::new(self.new_transaction(), Operation::Restore, snapshot.lsn());
        for (namespace, name) in tables {
            let table = snapshot.table(namespace, name)?;
            let def = Arc::new(self.def_of_restored(&table));
            if transaction.read.tables.insert(def.id, ReadScope::Any).is_some() {
                continue;
            }
            // The number is a guess, as that of a batch is.
            let v = restored(self.state().version.next());
            let into = |index| DeltaId { index, v };
            let options = CompactOptions::default();
            let (mut add, _moved) =
                self.folded(&def, table.chosen(), into(PRIMARY), Hides::Nothing, options).await?;
            for rollup in &def.rollups {
                let into = into(rollup.index);
                add.extend(self.derived(&def, rollup, table.chosen(), into).await?);
            }
            transaction.tables.push(TableChange { add, ..TableChange::of(def.id, def.schema) });
            if def.schema != table.def().schema {
                transaction.define.altered.push(def);
            }
        }
        self.log().commit(transaction).await
    }

    /// Returns the definition that a table has once it is again what it was.
    fn def_of_restored(&self, table: &TableSnapshot) -> TableDef {
        let state = self.state();
        match state.tables.get(&table.def().id).map(|newest| &newest.def) {
            Some(newest) if newest.schema != table.def().schema => {
                newest.altered_back_to(table.def())
            }
            Some(_) | None => TableDef::clone(table.def()),
        }
    }

    /// Makes a table that begins as another one was at a version. It can be read at the newest version and all later ones.
    ///
    /// # Errors
    /// User if the version or the table is not there, or the name is taken; [`crate::Error::Conflict`] if they went meanwhile;
    /// otherwise as [`crate::Batch::commit`].
    pub async fn clone_table(
        &self,
        of: (&str, &str),
        at: ReadAt,
        name: (&str, &str),
    ) -> Result<Arc<TableDef>> {
        let snapshot = self.snapshot(at).await?;
        let table = snapshot.table(of.0, of.1)?;
        // Its files are in the folder of the other one, so it has no export of its own.
        let mut properties = table.def().properties.clone();
        properties.remove(EXPORT_PROPERTY);
        let def = Arc::new(TableDef {
            id: TableId(new_ulid(self.environment().as_ref())),
            namespace: name.0.to_owned(),
            name: name.1.to_owned(),
            properties,
            ..TableDef::clone(table.def())
        });
        let mut transaction = self.transaction(Operation::Table).await?;
        let clone = CloneOf { table: def.id, of: table.def().id, version: table.version() };
        transaction.define.tables.push(Arc::clone(&def));
        transaction.define.clones.push(clone);
        self.log().commit(transaction).await?;
        Ok(def)
    }
}
