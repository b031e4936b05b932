//! Maintenance: does the merges that a policy asks for, until it asks for none.
//!
//! Any process may maintain any table at any time; two that do the same waste work and harm nothing.

use std::sync::Arc;

use crate::compact::{CompactOptions, Compacted};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::export;
use crate::policy::{DeltaSize, Policy};
use crate::snapshot::TableSnapshot;
use crate::table::TableId;

/// Merges lost in a row before the table is left to whoever is faster.
const LOST_MAX: usize = 3;

impl Database {
    /// Fills rollups and merges deltas of a table until the policy is content, and returns what was done.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the table was dropped; otherwise as [`Database::compact`], but for merges that others have done
    /// first.
    pub async fn maintain(
        &self,
        table: TableId,
        policy: &Policy,
        options: CompactOptions,
    ) -> Result<Vec<Compacted>> {
        let mut done = self.fill_rollups(table).await?;
        let mut n_lost = 0;
        while n_lost < LOST_MAX {
            let state = self.log().refresh().await?;
            let Some(found) = state.tables.get(&table) else {
                return Err(Error::Conflict { reason: format!("table {table} was dropped") });
            };
            let newest = TableSnapshot::new(Arc::clone(found), state.version, state.low_water)?;
            let due = newest.orders().iter().find_map(|order| {
                let sizes: Vec<DeltaSize> =
                    order.chosen().iter().map(|delta| DeltaSize::from(delta.as_ref())).collect();
                policy.next(&sizes)
            });
            let Some(due) = due else { break };
            match self
                .compact(table, &due.from, CompactOptions { level: due.level, ..options })
                .await
            {
                Ok(compacted) => {
                    done.push(compacted);
                    n_lost = 0;
                }
                Err(Error::Conflict { reason }) => {
                    tracing::debug!(reason, "another was first to merge");
                    n_lost += 1;
                }
                Err(error) => return Err(error),
            }
        }
        self.export_as_asked(table).await?;
        Ok(done)
    }

    /// Exports a table whose definition says so; another process that does the same is no matter.
    ///
    /// # Errors
    /// As [`Self::export`], but for [`Error::Conflict`].
    pub async fn export_as_asked(&self, table: TableId) -> Result<()> {
        let state = self.state();
        let Some(found) = state.tables.get(&table) else { return Ok(()) };
        if !export::is_asked_for(&found.def)? {
            return Ok(());
        }
        match self.export(table).await {
            Ok(_) | Err(Error::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
