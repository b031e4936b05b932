//! `UPDATE` and `DELETE` in a unique table: the rows that a query found become rows of one update.
//!
//! ```text
//! UPDATE t SET v = 'b' WHERE ...   rows found, with their new values   ──► rows that take their place
//! DELETE FROM t WHERE ...          keys of the rows found              ──► rows that say they are deleted
//! ```
//! Who else changes the table between the query and the commit wins: the commit fails, and the statement begins anew.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::Session;
use datafusion::execution::SendableRecordBatchStream;
use meshwork_engine::connector::RowChanger;
use meshwork_engine::{Error, Result};
use meshwork_store::{DELETED_COLUMN, TableDef, TableSnapshot};

use super::connector::Shared;
use super::writes::{by_position, committed};

/// The change of one table, as a query found it.
#[derive(Debug)]
pub(super) struct StoreChanger {
    shared: Arc<Shared>,
    table: TableSnapshot,
}

impl StoreChanger {
    /// # Errors
    /// `NotSupported` for a table that has no key by which a row could be found again.
    pub(super) fn new(shared: Arc<Shared>, table: TableSnapshot) -> Result<Self> {
        match table.def().deleted {
            Some(_) => Ok(Self { shared, table }),
            None => {
                let name = table.def().full_name();
                Err(Error::not_supported(format!("UPDATE and DELETE in table \"{name}\"")).with_hint(
                    "Of a store's tables those with a UNIQUE KEY have rows that can be changed; others take rows that are added.",
                ))
            }
        }
    }

    async fn commit(
        &self,
        rows: SendableRecordBatchStream,
        session: &dyn Session,
        fit: impl Fn(&RecordBatch) -> Result<RecordBatch>,
    ) -> Result<u64> {
        let def = self.table.def();
        let mut batch = self.shared.database().await?.batch();
        batch.read(def.id, self.table.changed_lsn());
        committed(&self.shared, batch, def, rows, session.runtime_env(), fit).await
    }
}

#[async_trait]
impl RowChanger for StoreChanger {
    fn key(&self) -> &[String] {
        &self.table.def().key
    }

    async fn put(&self, rows: SendableRecordBatchStream, session: &dyn Session) -> Result<u64> {
        self.commit(rows, session, |rows| by_position(self.table.def(), rows)).await
    }

    async fn delete(&self, keys: SendableRecordBatchStream, session: &dyn Session) -> Result<u64> {
        self.commit(keys, session, |keys| tombstones(self.table.def(), keys)).await
    }
}

/// Returns rows that say of each key that there is none of it any more.
fn tombstones(def: &TableDef, keys: &RecordBatch) -> Result<RecordBatch> {
    let mut fields: Vec<Field> = def
        .key
        .iter()
        .zip(keys.columns())
        .map(|(name, column)| Field::new(name, column.data_type().clone(), true))
        .collect();
    fields.push(Field::new(DELETED_COLUMN, DataType::Boolean, true));
    let all = BooleanArray::from(vec![true; keys.num_rows()]);
    let columns = keys.columns().iter().cloned().chain([Arc::new(all) as ArrayRef]).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
