//! Writes tables: rows as bound values of `INSERT` statements of many rows, all in one transaction.
//!
//! A table that a query makes is filled under a name of its own and renamed when it is complete, because the server
//! commits before and after each `CREATE TABLE`: who is killed in the middle leaves that table behind, never half of the
//! wanted one. Tables of engines without transactions are refused.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use meshwork_engine::connections::Purpose;
use meshwork_engine::environment::{self, within};
use meshwork_engine::remote::{Change, Insertion, RowWriter};
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::{Error, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{Error as DriverFailure, Params, Value};
use ulid::Ulid;

use super::client::{Client, Session};
use super::define;
use super::pushdown::MySql;
use super::values::parameter;
use crate::relational::{
    bound, change_statement, identifiers, outcome_unknown, qualified, relation, rows_refused,
    table_exists,
};

/// Placeholders of one statement; the protocol counts them in 16 bits.
const VALUES_MAX: usize = 60_000;
/// Rows of one statement: more gain nothing.
const ROWS_MAX: usize = 500;
/// Bytes of the values of one statement: servers take packets of 16 MiB, few as little as 1.
const BYTES_MAX: usize = 512 << 10;
/// A value that does not fit is an error, not the nearest one that does.
const STRICT: &str = "SET sql_mode = 'NO_BACKSLASH_ESCAPES,STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,\
     ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO'";
/// How long a new or dropped table may wait for those who use it or its name.
const LOCK_WAIT: &str = "SET SESSION lock_wait_timeout = 20";
/// How long what is left of a failed statement may take to be removed.
const CLEANING_DEADLINE: Duration = Duration::from_secs(30);

/// Writes the tables of one server.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) client: Arc<Client>,
}

#[async_trait]
impl RowWriter for Writer {
    async fn insert(
        &self,
        insertion: &Insertion,
        rows: SendableRecordBatchStream,
        _settings: &QuerySettings,
    ) -> Result<u64> {
        let table = &insertion.table;
        let mut work = Work::begin(&self.client, table.display_name()).await?;
        if !insertion.makes_table {
            work.refuse_without_transactions(&table.schema, &table.table).await?;
            let n_rows = work.fill(&relation(&MySql, table)?, insertion, rows).await?;
            work.finish().await;
            return Ok(n_rows);
        }
        let name = format!("meshwork_{}", Ulid::new());
        let stage = qualified(&MySql, &table.schema, &name)?;
        work.run(&define::statement(&stage, &table.columns)?).await?;
        let mut half = HalfMade { client: Arc::clone(&self.client), stage: Some(stage.clone()) };
        work.refuse_without_transactions(&table.schema, &name).await?;
        let n_rows = work.fill(&stage, insertion, rows).await?;
        work.run(&format!("RENAME TABLE {stage} TO {}", relation(&MySql, table)?)).await?;
        half.stage = None;
        work.finish().await;
        Ok(n_rows)
    }

    async fn change(&self, change: &Change, _settings: &QuerySettings) -> Result<u64> {
        let statement = change_statement(&MySql, change)?;
        let table = &change.table;
        let mut work = Work::begin(&self.client, table.display_name()).await?;
        work.refuse_without_transactions(&table.schema, &table.table).await?;
        work.run("START TRANSACTION READ WRITE").await?;
        let n_rows = work.run(&statement).await?;
        work.commit().await?;
        work.finish().await;
        Ok(n_rows)
    }
}

/// A table that is being filled under a name of its own. Dropped before its time, it is removed.
struct HalfMade {
    client: Arc<Client>,
    stage: Option<String>,
}

impl Drop for HalfMade {
    fn drop(&mut self) {
        let Some(stage) = self.stage.take() else { return };
        let client = Arc::clone(&self.client);
        let clean = async move {
            let clean = async {
                let mut work = Work::begin(&client, stage.clone()).await?;
                work.run(&format!("DROP TABLE IF EXISTS {stage}")).await?;
                work.finish().await;
                Ok::<_, Error>(())
            };
            let cleaned = within(CLEANING_DEADLINE, "removing a table", clean).await;
            if let Err(error) = cleaned.and_then(|outcome| outcome) {
                tracing::warn!(table = stage, %error, "a table that was half made was left behind");
            }
        };
        self.client.closing.take(environment::spawn_on(
            &environment::io_runtime(),
            "mysql cleaning",
            clean,
        ));
    }
}

/// A session that may write one table.
pub(super) struct Work {
    client: Arc<Client>,
    session: Session,
    /// The table's name, for messages.
    table: String,
}

impl Work {
    /// Returns a session whose statements are strict and may write.
    pub(super) async fn begin(client: &Arc<Client>, table: String) -> Result<Self> {
        let session = client.session(Purpose::Write).await?;
        let mut work = Self { client: Arc::clone(client), session, table };
        for statement in [STRICT, LOCK_WAIT, "SET SESSION TRANSACTION READ WRITE"] {
            work.run(statement).await?;
        }
        Ok(work)
    }

    /// Runs one statement; returns how many rows it changed.
    pub(super) async fn run(&mut self, statement: &str) -> Result<u64> {
        let deadline = self.client.options.answer_deadline();
        let connection = self.session.connection()?;
        let done = within(deadline, "a statement", connection.query_drop(statement)).await?;
        done.map_err(|error| self.failed(error))?;
        Ok(self.session.connection()?.affected_rows())
    }

    /// Ends the transaction; what was done is visible then.
    pub(super) async fn commit(&mut self) -> Result<()> {
        let source = self.client.named();
        let deadline = self.client.options.answer_deadline();
        let done =
            within(deadline, "COMMIT", self.session.connection()?.query_drop("COMMIT")).await;
        match done.map_err(|late| outcome_unknown(&source).caused_by(&late))? {
            Ok(()) => Ok(()),
            Err(error @ DriverFailure::Server(_)) => Err(self.failed(error)),
            Err(error) => Err(outcome_unknown(&source).caused_by(&error)),
        }
    }

    /// Hands the session back as it was; closes it where that fails.
    pub(super) async fn finish(mut self) {
        let Ok(connection) = self.session.connection() else { return };
        let restored = self.client.pin(connection).await;
        if restored.is_ok() {
            self.session.finish();
        }
    }

    /// Refuses a table that cannot take back what was half done.
    pub(super) async fn refuse_without_transactions(
        &mut self,
        schema: &str,
        table: &str,
    ) -> Result<()> {
        let question = "SELECT t.ENGINE, e.TRANSACTIONS FROM information_schema.TABLES t \
             LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE \
             WHERE t.TABLE_SCHEMA = ? AND t.TABLE_NAME = ?";
        let deadline = self.client.options.answer_deadline();
        let connection = self.session.connection()?;
        let ask = connection.exec_first(question, (schema, table));
        let found: Option<(Option<String>, Option<String>)> =
            within(deadline, "a statement", ask).await?.map_err(|error| self.failed(error))?;
        match found {
            Some((_, Some(transactions))) if transactions == "YES" => Ok(()),
            Some((Some(engine), _)) => Err(Error::not_supported(format!(
                "a change of table \"{}\", whose engine {engine} has no transactions",
                self.table
            ))),
            Some((None, _)) => {
                let what = format!("a change of \"{}\", which is a view", self.table);
                Err(Error::not_supported(what))
            }
            None => {
                let message = format!("table \"{}\" does not exist any more", self.table);
                Err(Error::user("TABLE_NOT_FOUND", message))
            }
        }
    }

    /// Adds all rows in one transaction; returns how many.
    async fn fill(
        &mut self,
        target: &str,
        insertion: &Insertion,
        mut rows: SendableRecordBatchStream,
    ) -> Result<u64> {
        let given = insertion.given();
        let names = identifiers(&MySql, given.iter().map(|column| column.name.as_str()))?;
        let mut pending = Pending {
            head: format!("INSERT INTO {target} ({names}) VALUES "),
            n_columns: given.len(),
            rows_max: (VALUES_MAX / given.len().max(1)).clamp(1, ROWS_MAX),
            values: Vec::new(),
            n_rows: 0,
            n_bytes: 0,
        };
        self.run("START TRANSACTION READ WRITE").await?;
        let mut n_rows = 0;
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            for row in 0..batch.num_rows() {
                for (place, column) in given.iter().enumerate() {
                    pending.push(self.value(&batch, place, row, &column.name)?);
                }
                if pending.end_row() {
                    self.send(&mut pending).await?;
                }
            }
            n_rows += u64::try_from(batch.num_rows()).unwrap_or(u64::MAX);
        }
        self.send(&mut pending).await?;
        self.commit().await?;
        Ok(n_rows)
    }

    fn value(&self, batch: &RecordBatch, place: usize, row: usize, column: &str) -> Result<Value> {
        parameter(bound(batch, place, row)?).map_err(|unfit| {
            rows_refused(&self.table, format!("column \"{column}\" cannot hold {unfit}"))
        })
    }

    async fn send(&mut self, pending: &mut Pending) -> Result<()> {
        let Some((statement, values)) = pending.take() else { return Ok(()) };
        let deadline = self.client.options.answer_deadline();
        let connection = self.session.connection()?;
        let send = connection.exec_drop(statement, Params::Positional(values));
        let done = within(deadline, "a statement", send).await?;
        done.map_err(|error| self.failed(error))
    }

    /// What the server says of a table that is changed.
    fn failed(&self, error: DriverFailure) -> Error {
        let DriverFailure::Server(refusal) = &error else {
            return self.client.failed("writing", error);
        };
        let said = format!("{} (error {})", refusal.message, refusal.code);
        let table = &self.table;
        match refusal.code {
            1007 => Error::user("SCHEMA_ALREADY_EXISTS", said),
            1049 => Error::user("SCHEMA_NOT_FOUND", said),
            1050 => table_exists(table),
            1051 | 1146 => Error::user("TABLE_NOT_FOUND", said),
            // NULL, duplicate, foreign keys, no default, no such value, out of range, too long, CHECK, generated
            // columns, no JSON.
            1022 | 1048 | 1062 | 1169 | 1216 | 1217 | 1264 | 1265 | 1292 | 1364 | 1366 | 1367
            | 1406 | 1451 | 1452 | 1557 | 1690 | 1761 | 1762 | 1906 | 3105 | 3140 | 3819 | 3903
            | 4025 => rows_refused(table, said),
            1205 | 1213 => self.client.failed("writing", error).retryable(),
            _ => self.client.failed("writing", error),
        }
    }
}

/// Rows that wait to be sent together.
struct Pending {
    head: String,
    n_columns: usize,
    rows_max: usize,
    values: Vec<Value>,
    n_rows: usize,
    n_bytes: usize,
}

impl Pending {
    fn push(&mut self, value: Value) {
        self.n_bytes += match &value {
            Value::Bytes(bytes) => bytes.len(),
            _ => size_of::<Value>(),
        };
        self.values.push(value);
    }

    /// Ends a row; returns whether there are enough to be sent.
    fn end_row(&mut self) -> bool {
        self.n_rows += 1;
        self.n_rows >= self.rows_max || self.n_bytes >= BYTES_MAX
    }

    /// Returns the statement and its values.
    fn take(&mut self) -> Option<(String, Vec<Value>)> {
        let n_rows = std::mem::take(&mut self.n_rows);
        self.n_bytes = 0;
        if n_rows == 0 {
            return None;
        }
        let row = format!("({})", vec!["?"; self.n_columns].join(","));
        let statement = format!("{}{}", self.head, vec![row.as_str(); n_rows].join(","));
        Some((statement, std::mem::take(&mut self.values)))
    }
}
