//! Reads one split: rows of a prepared statement, unbuffered, into batches.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use meshwork_engine::connections::Purpose;
use meshwork_engine::connector::Split;
use meshwork_engine::environment::{self, within};
use meshwork_engine::remote::{RemoteColumn, RemoteScan};
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::{Error, Result};
use mysql_async::Column;
use tokio::sync::mpsc::{Sender, channel};

use super::client::Client;
use super::protocol::{Block, Raw, Refused, Rows};
use super::pushdown::MySql;
use super::splits::KeyRange;
use super::types::arrives_as;
use super::values::{Becomes, put};
use crate::relational::{
    BATCHES_AHEAD, Columns, asker, condition, consumer_gone, counted, select, stream_of,
    while_there,
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
    query: &QuerySettings,
) -> Result<SendableRecordBatchStream> {
    let schema = scan.output_schema();
    let (sender, batches) = channel(BATCHES_AHEAD);
    let reader = Reader {
        client: Arc::clone(client),
        statement: format!("/* {} */ {}", asker(query), statement(scan, split)?),
        becomes: scan.output().iter().map(Becomes::of).collect(),
        output: scan.output(),
        scan: scan.clone(),
        batch_size: query.batch_size,
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
    /// The columns of a row, and what becomes of their values.
    output: Vec<RemoteColumn>,
    becomes: Vec<Becomes>,
    batch_size: usize,
    sender: Sender<RecordBatch>,
}

impl Reader {
    async fn read(self) -> Result<()> {
        // Dropped early, the session kills what runs on it.
        let mut session = self.client.session(Purpose::Read).await?;
        let connection = session.reader()?;
        let deadline = self.client.options.answer_deadline();
        let begin = async {
            connection.run(BEGIN).await?;
            connection.rows(&self.statement).await
        };
        let is_there = || self.client.answers();
        let rows = while_there(deadline, "a statement", begin, is_there).await?;
        let mut rows = rows.map_err(|error| self.failed(error))?;
        self.refuse_other_types(rows.columns())?;
        if self.scan.counts_rows() {
            self.send_count(&mut rows).await?;
        } else {
            self.send_rows(&mut rows).await?;
        }
        // All rows are there: a connection that cannot go on is closed, the query has not failed.
        if let Ok(Ok(())) = within(deadline, "ROLLBACK", rows.end("ROLLBACK")).await {
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

    async fn send_count(&self, rows: &mut Rows<'_>) -> Result<()> {
        let deadline = self.client.options.answer_deadline();
        let is_there = || self.client.answers();
        let count = async {
            let mut n_rows = 0;
            while let Some(mut block) = rows.next_block(1).await.map_err(|e| self.failed(e))? {
                let add = |value: Raw<'_>| match value {
                    Raw::Int(n) => {
                        n_rows += u64::try_from(n).unwrap_or_default();
                        true
                    }
                    Raw::UInt(n) => {
                        n_rows += n;
                        true
                    }
                    _ => false,
                };
                if block.next_column(add).is_err() {
                    return Err(Error::internal("a count of rows is a whole number"));
                }
            }
            Ok(n_rows)
        };
        let n_rows = while_there(deadline, "counting rows", count, is_there).await??;
        for batch in counted(&self.scan.output_schema(), n_rows, self.batch_size) {
            self.send(batch?).await?;
        }
        Ok(())
    }

    async fn send_rows(&self, rows: &mut Rows<'_>) -> Result<()> {
        let deadline = self.client.options.answer_deadline();
        let mut columns = Columns::new(self.scan.output_schema(), self.batch_size)?;
        loop {
            let fill = self.fill(rows, &mut columns);
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
    async fn fill(&self, rows: &mut Rows<'_>, columns: &mut Columns) -> Result<bool> {
        while !columns.is_full() {
            let block = rows.next_block(columns.n_rows_missing()).await;
            match block.map_err(|error| self.failed(error))? {
                Some(block) => self.append(block, columns)?,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn append(&self, mut block: Block<'_>, columns: &mut Columns) -> Result<()> {
        let zero_dates = self.client.options.zero_dates;
        let sinks = columns.rows(block.n_rows(), block.n_bytes());
        for (place, (becomes, sink)) in self.becomes.iter().zip(sinks).enumerate() {
            let appended =
                block.next_column(|value| put(value, *becomes, zero_dates, sink.as_mut()));
            appended.map_err(|refused| match refused {
                Refused::Broken => self.client.broken_row(),
                Refused::Unfit(value) => self.misfit(place, value),
            })?;
        }
        Ok(())
    }

    fn misfit(&self, place: usize, value: Raw<'_>) -> Error {
        let column = self.output.get(place);
        let (column, declared) =
            column.map_or(("", ""), |column| (&column.name, &column.remote_type));
        let table = self.scan.display_name();
        if matches!(value, Raw::Date { .. }) {
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
