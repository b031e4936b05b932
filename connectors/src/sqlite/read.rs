//! Reads one agreed scan from a SQLite file, on a blocking thread.
//!
//! The thread is ended through SQLite's own interrupt when the stream is dropped; the queue between them is
//! short, so that a slow consumer stops the reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use meshwork_engine::remote::{RemoteColumn, RemoteScan};
use meshwork_engine::{Error, Result, environment};
use parking_lot::Mutex;
use rusqlite::{InterruptHandle, Row};
use tokio::sync::mpsc::{Sender, channel};

use super::file::File;
use super::pushdown::Sqlite;
use super::types::Detail;
use super::values::{cell, kind};
use super::{Mismatch, SqliteSource};
use crate::relational::{BATCHES_AHEAD, Cell, Columns, consumer_gone, counted, select, stream_of};

/// Returns the statement of a scan: a mere count of rows is counted by SQLite.
pub(super) fn statement(scan: &RemoteScan) -> Result<String> {
    let rows = select(&Sqlite, scan, None)?;
    Ok(match scan.counts_rows() {
        true => format!("SELECT count(*) FROM ({rows})"),
        false => rows,
    })
}

/// Returns the rows of a scan; dropping the stream ends the statement.
pub(super) fn open(
    source: &SqliteSource,
    scan: &RemoteScan,
    batch_size: usize,
) -> Result<SendableRecordBatchStream> {
    let schema = scan.output_schema();
    let (sender, batches) = channel(BATCHES_AHEAD);
    let end = Arc::new(End::default());
    let reader = Reader {
        file: source.file.clone(),
        mismatch: source.mismatch,
        statement: statement(scan)?,
        scan: scan.clone(),
        batch_size,
        end: Arc::clone(&end),
        sender,
    };
    let task = environment::spawn_blocking("sqlite scan", move || reader.read());
    Ok(stream_of(schema, batches, task, EndOnDrop(end)))
}

/// How a running statement is ended from outside.
#[derive(Default)]
struct End {
    wanted: AtomicBool,
    interrupt: Mutex<Option<InterruptHandle>>,
}

struct EndOnDrop(Arc<End>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.wanted.store(true, Ordering::Release);
        if let Some(interrupt) = self.0.interrupt.lock().as_ref() {
            interrupt.interrupt();
        }
    }
}

/// One scan on its blocking thread.
struct Reader {
    file: File,
    mismatch: Mismatch,
    statement: String,
    scan: RemoteScan,
    batch_size: usize,
    end: Arc<End>,
    sender: Sender<RecordBatch>,
}

impl Reader {
    fn read(self) -> Result<()> {
        let connection = self.file.open()?;
        *self.end.interrupt.lock() = Some(connection.get_interrupt_handle());
        let failed = |error: rusqlite::Error| {
            self.file.failed(&format!("reading table \"{}\"", self.scan.table), &error)
        };
        let mut statement =
            connection.prepare(&self.statement).map_err(|error| match self.gone(&error) {
                Some(changed) => changed,
                None => failed(error),
            })?;
        let mut rows = statement.raw_query();
        if self.scan.counts_rows() {
            let row = rows.next().map_err(failed)?;
            let n_rows = row.map(|row| row.get::<_, i64>(0)).transpose().map_err(failed)?;
            let n_rows = n_rows.and_then(|n_rows| u64::try_from(n_rows).ok()).unwrap_or(0);
            for batch in counted(&self.scan.output_schema(), n_rows, self.batch_size) {
                self.send(batch?)?;
            }
            return Ok(());
        }
        let mut columns = Columns::new(self.scan.output_schema(), self.batch_size)?;
        let output: Vec<(RemoteColumn, bool)> =
            self.scan.output().into_iter().map(|c| (c.clone(), Detail::of(&c).any)).collect();
        loop {
            // An interrupt that came before the statement ran has interrupted nothing.
            if self.end.wanted.load(Ordering::Acquire) {
                return Err(consumer_gone());
            }
            let Some(row) = rows.next().map_err(failed)? else { break };
            self.append(row, &output, &mut columns)?;
            if columns.end_row() {
                self.send(columns.take()?)?;
            }
        }
        if !columns.is_empty() {
            self.send(columns.take()?)?;
        }
        Ok(())
    }

    /// Returns the error for a table or column that is not there any more: our statement names only what was.
    fn gone(&self, error: &rusqlite::Error) -> Option<Error> {
        let said = error.to_string();
        let is_gone = said.starts_with("no such column") || said.starts_with("no such table");
        let table = self.scan.display_name();
        (is_gone && self.scan.query.is_none())
            .then(|| Error::schema_changed(format!("table \"{table}\": {said}")))
    }

    fn append(
        &self,
        row: &Row<'_>,
        output: &[(RemoteColumn, bool)],
        columns: &mut Columns,
    ) -> Result<()> {
        for (place, (column, any)) in output.iter().enumerate() {
            let value =
                row.get_ref(place).map_err(|error| self.file.failed("reading a value", &error))?;
            let fits = cell(value, &column.data_type, *any)
                .is_some_and(|cell| columns.append(place, cell));
            if fits || (self.mismatch == Mismatch::Null && columns.append(place, Cell::Null)) {
                continue;
            }
            return Err(Error::source(
                "SOURCE_VALUE_MISMATCH",
                format!(
                    "column \"{}\" of table \"{}\" is declared {}, but a row holds {}",
                    column.name,
                    self.scan.display_name(),
                    column.remote_type,
                    kind(value),
                ),
            )
            .with_hint(
                "Correct the row, or set the catalog's property mismatch = 'null' to read such values \
                 as NULL.",
            ));
        }
        Ok(())
    }

    fn send(&self, batch: RecordBatch) -> Result<()> {
        self.sender.blocking_send(batch).map_err(|_closed| consumer_gone())
    }
}
