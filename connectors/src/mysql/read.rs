//! Reads one split: rows of a prepared statement, unbuffered, into batches.

use std::sync::Arc;

use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use meshwork_engine::connections::Purpose;
use meshwork_engine::connector::Split;
use meshwork_engine::environment::{self, within};
use meshwork_engine::remote::{RemoteColumn, RemoteScan};
use meshwork_engine::{Error, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{BinaryProtocol, Column, QueryResult, Row, Value};
use tokio::sync::mpsc::{Sender, channel};

use super::client::Client;
use super::pushdown::MySql;
use super::splits::KeyRange;
use super::types::{arrives_as, name_of};
use super::values::{cell, date_text};
use crate::relational::{
    BATCHES_AHEAD, Columns, condition, consumer_gone, counted, select, stream_of, while_there,
};

/// All statements of a scan see one state of the tables that have versions (InnoDB's).
const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";

/// What the server says where our statement names what is not there any more: database, column, table, what a view reads,
/// the table as it was when the transaction began.
const GONE: [u16; 5] = [1049, 1054, 1146, 1356, 1412];

/// Returns the statement of one split: a mere count of rows is counted by the server.
pub(super) fn statement(scan: &RemoteScan, split: &Split) -> Result<String> {
    let range = KeyRange::of(split)?
        .map(|range| condition(&MySql, &scan.base().columns, &range.predicate()))
        .transpose()?;
    let rows = select(&MySql, scan, range.as_deref())?;
    Ok(match scan.counts_rows() {
        true => format!("SELECT count(*) FROM ({rows}) AS counted"),
        false => rows,
    })
}

/// Returns the rows of one split; dropping the stream kills the statement.
pub(super) fn open(
    client: &Arc<Client>,
    scan: &RemoteScan,
    split: &Split,
    batch_size: usize,
) -> Result<SendableRecordBatchStream> {
    let schema = scan.output_schema();
    let (sender, batches) = channel(BATCHES_AHEAD);
    let reader = Reader {
        client: Arc::clone(client),
        statement: statement(scan, split)?,
        output: scan.output(),
        scan: scan.clone(),
        batch_size,
        sender,
    };
    let task = environment::spawn("mysql scan", reader.read());
    Ok(stream_of(schema, batches, task, ()))
}

/// One split that is being read.
struct Reader {
    client: Arc<Client>,
    statement: String,
    scan: RemoteScan,
    /// The columns of a row.
    output: Vec<RemoteColumn>,
    batch_size: usize,
    sender: Sender<RecordBatch>,
}

impl Reader {
    async fn read(self) -> Result<()> {
        // Dropped early, the session kills what runs on it.
        let mut session = self.client.session(Purpose::Read).await?;
        let connection = session.connection()?;
        let deadline = self.client.options.answer_deadline();
        let failed = |error| self.failed(error);
        let begin = async {
            connection.query_drop(BEGIN).await?;
            connection.exec_iter(self.statement.as_str(), ()).await
        };
        let is_there = || self.client.answers();
        let result = while_there(deadline, "a statement", begin, is_there).await?;
        let result = result.map_err(failed)?;
        self.refuse_other_types(result.columns_ref())?;
        if self.scan.counts_rows() {
            self.send_count(result).await?;
        } else {
            self.send_rows(result).await?;
        }
        // All rows are there: a connection that cannot go on is closed, the query has not failed.
        let rollback = session.connection()?.query_drop("ROLLBACK");
        if let Ok(Ok(())) = within(deadline, "ROLLBACK", rollback).await {
            session.finish();
        }
        Ok(())
    }

    /// Refuses a table whose columns have got other types: a number reads as a date without complaint.
    fn refuse_other_types(&self, columns: &[Column]) -> Result<()> {
        // What the server computes, and a query in the user's words, is checked value by value.
        let n_read = match &self.scan.aggregate {
            _ if self.scan.query.is_some() => 0,
            Some(aggregate) => aggregate.groups.len(),
            None => self.output.len(),
        };
        for (column, now) in self.output.iter().zip(columns).take(n_read) {
            if !arrives_as(now, &column.data_type) {
                let (table, name, was) =
                    (self.scan.display_name(), &column.name, &column.remote_type);
                return Err(Error::schema_changed(format!(
                    "column \"{name}\" of table \"{table}\" was {was} and is {:?} now",
                    now.column_type()
                )));
            }
        }
        Ok(())
    }

    async fn send_count(&self, mut result: QueryResult<'_, '_, BinaryProtocol>) -> Result<()> {
        let deadline = self.client.options.answer_deadline();
        let is_there = || self.client.answers();
        let counts = result.collect::<u64>();
        let counts = while_there(deadline, "counting rows", counts, is_there).await?;
        let counts = counts.map_err(|error| self.failed(error))?;
        for batch in counted(&self.scan.output_schema(), counts.iter().sum(), self.batch_size) {
            self.send(batch?).await?;
        }
        Ok(())
    }

    async fn send_rows(&self, mut result: QueryResult<'_, '_, BinaryProtocol>) -> Result<()> {
        let deadline = self.client.options.answer_deadline();
        let mut columns = Columns::new(self.scan.output_schema(), self.batch_size)?;
        loop {
            let fill = self.fill(&mut result, &mut columns);
            let is_there = || self.client.answers();
            let more = while_there(deadline, "reading rows", fill, is_there).await??;
            if !columns.is_empty() {
                self.send(columns.take()?).await?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Reads rows until the batch is full; returns whether there may be more.
    async fn fill(
        &self,
        result: &mut QueryResult<'_, '_, BinaryProtocol>,
        columns: &mut Columns,
    ) -> Result<bool> {
        loop {
            let row = result.next().await.map_err(|error| self.failed(error))?;
            let Some(row) = row else { return Ok(false) };
            self.append(&row, columns)?;
            if columns.end_row() {
                return Ok(true);
            }
        }
    }

    fn append(&self, row: &Row, columns: &mut Columns) -> Result<()> {
        let zero_dates = self.client.options.zero_dates;
        for (place, column) in self.output.iter().enumerate() {
            let value = row.as_ref(place).unwrap_or(&Value::NULL);
            let cell = match (value, &column.data_type) {
                (Value::Date(..), DataType::Utf8) => {
                    date_text(value, name_of(&column.remote_type) != "date")
                }
                (value, data_type) => cell(value, data_type, zero_dates),
            };
            let fits = cell.is_some_and(|cell| columns.append(place, cell));
            if !fits {
                return Err(self.misfit(&column.name, &column.remote_type, value));
            }
        }
        Ok(())
    }

    fn misfit(&self, column: &str, declared: &str, value: &Value) -> Error {
        let table = self.scan.display_name();
        if matches!(value, Value::Date(..)) {
            return Error::source(
                "SOURCE_VALUE_MISMATCH",
                format!(
                    "column \"{column}\" of table \"{table}\" holds a date that no calendar has"
                ),
            )
            .with_hint(
                "Set the catalog's property zero_dates to 'null' to read such dates as NULL, or to 'text' to read all dates as text.",
            );
        }
        Error::source(
            "SOURCE_VALUE_MISMATCH",
            format!("column \"{column}\" of table \"{table}\" holds a value that is no {declared}"),
        )
    }

    async fn send(&self, batch: RecordBatch) -> Result<()> {
        self.sender.send(batch).await.map_err(|_closed| consumer_gone())
    }

    fn failed(&self, error: mysql_async::Error) -> Error {
        if let mysql_async::Error::Server(said) = &error
            && self.scan.query.is_none()
            && GONE.contains(&said.code)
        {
            let table = self.scan.display_name();
            return Error::schema_changed(format!("table \"{table}\": {}", said.message));
        }
        let doing = format!("reading table \"{}.{}\"", self.scan.schema, self.scan.table);
        self.client.failed(&doing, error)
    }
}
