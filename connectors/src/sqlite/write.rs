//! Writes a SQLite file: each statement is one transaction, on a blocking thread of its own.
//!
//! SQLite checks no types, so this module holds each value to its column's declaration, as reading does.

use std::time::Duration;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use meshwork_engine::environment::{self, within};
use meshwork_engine::remote::{Change, Insertion, RowWriter};
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::{Error, Result};
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, params_from_iter};
use tokio::sync::mpsc::{Receiver, channel};

use super::define;
use super::file::File;
use super::pushdown::Sqlite;
use crate::relational::{
    BATCHES_AHEAD, Bound, bound, change_statement, date_text, identifiers, outcome_unknown,
    relation, rows_refused, table_exists, timestamp_text,
};

/// How long the file may take to take a batch, or to make all of them durable.
const WRITE_DEADLINE: Duration = Duration::from_secs(120);
/// Digits of a decimal that a double holds exactly; SQLite has nothing wider for fractions.
const DOUBLE_DIGITS_MAX: usize = 15;

/// Writes the tables of one file.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) file: File,
}

/// What comes over the channel: without an end, the rows are not whole.
enum Message {
    Rows(RecordBatch),
    End,
}

#[async_trait]
impl RowWriter for Writer {
    async fn insert(
        &self,
        insertion: &Insertion,
        mut rows: SendableRecordBatchStream,
        _settings: &QuerySettings,
    ) -> Result<u64> {
        let (sender, messages) = channel(BATCHES_AHEAD);
        let (file, insertion) = (self.file.clone(), insertion.clone());
        let write = move || {
            in_transaction(&file, &insertion.table.display_name(), |connection| {
                insert(connection, &insertion, messages)
            })
        };
        let task = environment::spawn_blocking("sqlite insert", write);
        let late = "writing to a SQLite file";
        while let Some(batch) = rows.next().await {
            let sent = sender.send(Message::Rows(batch?));
            if within(WRITE_DEADLINE, late, sent).await?.is_err() {
                break;
            }
        }
        // A writer that has failed already says why below.
        let _ended = within(WRITE_DEADLINE, late, sender.send(Message::End)).await?;
        let done = within(WRITE_DEADLINE, late, task).await;
        done.map_err(|late| outcome_unknown(&self.file.named()).caused_by(&late))??
    }

    async fn change(&self, change: &Change, _settings: &QuerySettings) -> Result<u64> {
        let statement = change_statement(&Sqlite, change)?;
        let (file, table) = (self.file.clone(), change.table.display_name());
        let work = move || {
            in_transaction(&file, &table, |connection| Ok(connection.execute(&statement, [])?))
        };
        let task = environment::spawn_blocking("sqlite change", work);
        let done = within(WRITE_DEADLINE, "writing to a SQLite file", task).await;
        let n_rows =
            done.map_err(|late| outcome_unknown(&self.file.named()).caused_by(&late))???;
        Ok(u64::try_from(n_rows).unwrap_or(u64::MAX))
    }
}

/// Runs `work` in one transaction of the file: whatever fails in it leaves nothing behind.
pub(super) fn in_transaction<T>(
    file: &File,
    table: &str,
    work: impl FnOnce(&Connection) -> Result<T, Failed>,
) -> Result<T> {
    let mut connection = file.open_to_write()?;
    let failed = |error: rusqlite::Error| failed(file, table, &error);
    // Whoever would write later must not begin by reading: it could never go on beside another writer.
    let behavior = rusqlite::TransactionBehavior::Immediate;
    let transaction = connection.transaction_with_behavior(behavior).map_err(failed)?;
    let done = work(&transaction).map_err(|error| match error {
        Failed::Sqlite(error) => failed(error),
        Failed::Here(error) => error,
    })?;
    transaction.commit().map_err(failed)?;
    Ok(done)
}

/// Why a transaction was given up.
pub(super) enum Failed {
    /// SQLite said so.
    Sqlite(rusqlite::Error),
    /// We did.
    Here(Error),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Here(error)
    }
}

fn insert(
    connection: &Connection,
    insertion: &Insertion,
    mut messages: Receiver<Message>,
) -> Result<u64, Failed> {
    let (table, given) = (&insertion.table, insertion.given());
    if insertion.makes_table {
        connection.execute(&define::statement(table)?, [])?;
    }
    let names = identifiers(&Sqlite, given.iter().map(|column| column.name.as_str()))?;
    let places = vec!["?"; given.len()].join(", ");
    let statement =
        format!("INSERT INTO {} ({names}) VALUES ({places})", relation(&Sqlite, table)?);
    let mut statement = connection.prepare(&statement)?;
    let mut n_rows = 0;
    loop {
        let batch = match messages.blocking_recv() {
            Some(Message::Rows(batch)) => batch,
            Some(Message::End) => return Ok(n_rows),
            None => return Err(Error::cancelled("the rows of an INSERT ended early").into()),
        };
        for row in 0..batch.num_rows() {
            let mut values = Vec::with_capacity(given.len());
            for (place, column) in given.iter().enumerate() {
                values.push(value(bound(&batch, place, row)?).map_err(|unfit| {
                    let said = format!("column \"{}\" cannot hold {unfit}", column.name);
                    rows_refused(&table.display_name(), said)
                })?);
            }
            statement.execute(params_from_iter(values))?;
            n_rows += 1;
        }
    }
}

/// Returns the value as SQLite keeps it, or what it is that it cannot keep.
fn value(value: Bound<'_>) -> Result<Value, &'static str> {
    const FAR: &str = "a date before the year 1 or after 9999";
    Ok(match value {
        Bound::Null => Value::Null,
        Bound::Bool(value) => Value::Integer(value.into()),
        Bound::Int(value) => Value::Integer(value),
        Bound::UInt(value) => {
            Value::Integer(i64::try_from(value).map_err(|_large| "an integer so large")?)
        }
        // SQLite would keep it as NULL.
        Bound::Float(value) if value.is_nan() => return Err("NaN"),
        Bound::Double(value) if value.is_nan() => return Err("NaN"),
        Bound::Float(value) => Value::Real(value.into()),
        Bound::Double(value) => Value::Real(value),
        Bound::Decimal(digits) => decimal(&digits)?,
        Bound::Text(text) => Value::Text(text.to_owned()),
        Bound::Bytes(bytes) => Value::Blob(bytes.to_vec()),
        Bound::Date(days) => Value::Text(date_text(days).map_err(|_far| FAR)?),
        Bound::Timestamp(micros) => Value::Text(timestamp_text(micros).map_err(|_far| FAR)?),
        Bound::Duration(_) => return Err("a duration"),
    })
}

/// An integer, or a double that has the same digits; SQLite itself would take any other for the nearest double.
fn decimal(digits: &str) -> Result<Value, &'static str> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if fraction.bytes().all(|digit| digit == b'0')
        && let Ok(value) = whole.parse()
    {
        return Ok(Value::Integer(value));
    }
    let significant = digits.trim_matches(['-', '0']).bytes().filter(u8::is_ascii_digit).count();
    let value: f64 = digits.parse().map_err(|_unreadable| "such a decimal")?;
    match significant <= DOUBLE_DIGITS_MAX {
        true => Ok(Value::Real(value)),
        false => Err("a decimal of more than 15 digits"),
    }
}

/// What SQLite says of a table that is changed.
fn failed(file: &File, table: &str, error: &rusqlite::Error) -> Error {
    let said = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) => {
            rows_refused(table, said)
        }
        Some(ErrorCode::Unknown) if said.contains("already exists") => table_exists(table),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            file.failed("waiting for another writer", error)
        }
        // Whatever else SQLite says, it says of this file.
        _ => {
            let message = format!("{} could not be written: {said}", file.named());
            Error::source("SOURCE_WRITE_FAILED", message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_kept_exactly_or_refused() {
        let checks = [
            ("7.00", Some(Value::Integer(7))),
            ("-7", Some(Value::Integer(-7))),
            ("9223372036854775807", Some(Value::Integer(i64::MAX))),
            ("9223372036854775808", None),
            ("0.10", Some(Value::Real(0.1))),
            ("-1234567890123.25", Some(Value::Real(-1_234_567_890_123.25))),
            ("12345678901234.567", None),
            ("100000000000000000000", Some(Value::Real(1e20))),
        ];
        for (digits, wanted) in checks {
            assert_eq!(decimal(digits).ok(), wanted, "{digits}");
        }
    }
}
