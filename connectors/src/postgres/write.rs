//! Writes tables: rows by binary `COPY`, all of a statement in one transaction.
//!
//! ```text
//! rows ─► COPY target FROM STDIN ──────────────────────────────────────► COMMIT
//!     └─► COPY temporary table ─► INSERT INTO target SELECT ... casts ─┘
//! ```
//! The second way is for what `COPY` does not do as `INSERT` does: values that the server makes of their text, views,
//! rules, row-level security, identity columns. A table that a query makes is made in the same transaction. Whatever
//! fails or is dropped before `COMMIT` was sent has changed nothing.

use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::SendableRecordBatchStream;
use futures::{FutureExt, SinkExt, StreamExt};
use meshwork_engine::environment::within;
use meshwork_engine::remote::{Change, Insertion, RowWriter};
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::{Error, Result};
use tokio_postgres::types::Type;

use super::columns::Detail;
use super::connection::{Connection, Server};
use super::encode::{Encoder, Form};
use super::listing::get;
use super::pushdown::Postgres;
use super::wire::Wire;
use super::{define, error};
use crate::relational::{Dialect, change_statement, identifiers, outcome_unknown, relation};

/// How long a new or dropped table may wait for those who use it or its name.
const LOCK_WAIT: &str = "SET LOCAL lock_timeout = 20000";
/// The temporary table of rows that the server converts; each session has its own, for one transaction.
const STAGE: &str = "pg_temp.meshwork_rows";

/// What decides how rows get into a table, and the type of each of its columns without length or precision.
const TARGET: &str = "SELECT c.relkind IN ('r', 'p') AND NOT c.relhasrules \
       AND NOT pg_catalog.row_security_active(c.oid), \
     a.attname::text, pg_catalog.format_type(a.atttypid, -1), \
     COALESCE(to_jsonb(a)->>'attidentity', '') = 'a' \
     FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
     WHERE n.nspname = $1 AND c.relname = $2";

/// Writes the tables of one catalog.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) server: Arc<Server>,
}

#[async_trait]
impl RowWriter for Writer {
    async fn insert(
        &self,
        insertion: &Insertion,
        rows: SendableRecordBatchStream,
        settings: &QuerySettings,
    ) -> Result<u64> {
        let table = insertion.table.display_name();
        let mut work = Work::begin(&self.server, table, Some(settings)).await?;
        if insertion.makes_table {
            work.run(LOCK_WAIT).await?;
            work.run(&define::statement(&insertion.table)?).await?;
        }
        let n_rows = match work.stage_of(insertion).await? {
            None => {
                let target = relation(&Postgres, &insertion.table)?;
                let names = insertion.given();
                let names = identifiers(&Postgres, names.iter().map(|c| c.name.as_str()))?;
                work.copy(&format!("{target} ({names})"), insertion, rows).await?
            }
            Some(Stage { make, insert }) => {
                work.run(&make).await?;
                work.copy(STAGE, insertion, rows).await?;
                work.run(&insert).await?
            }
        };
        work.commit().await?;
        Ok(n_rows)
    }

    async fn change(&self, change: &Change, settings: &QuerySettings) -> Result<u64> {
        let statement = change_statement(&Postgres, change)?;
        let table = change.table.display_name();
        let mut work = Work::begin(&self.server, table, Some(settings)).await?;
        let n_rows = work.run(&statement).await?;
        work.commit().await?;
        Ok(n_rows)
    }
}

/// The two statements around a `COPY` into a temporary table.
struct Stage {
    make: String,
    insert: String,
}

/// One transaction that changes one table.
pub(super) struct Work {
    server: Arc<Server>,
    session: Connection,
    /// The table's name, for messages.
    table: String,
}

impl Work {
    /// Opens the transaction.
    pub(super) async fn begin(
        server: &Arc<Server>,
        table: String,
        query: Option<&QuerySettings>,
    ) -> Result<Self> {
        let session = server.connect_to_write(query).await?;
        Ok(Self { server: Arc::clone(server), session, table })
    }

    /// Runs one statement; returns how many rows it changed.
    pub(super) async fn run(&mut self, statement: &str) -> Result<u64> {
        let done = self.session.run(statement).await?;
        done.map_err(|e| self.failed(&e))
    }

    /// Runs a statement that needs the table for itself, but waits for it only so long.
    pub(super) async fn run_alone(&mut self, statement: &str) -> Result<u64> {
        self.run(LOCK_WAIT).await?;
        self.run(statement).await
    }

    /// Makes everything visible.
    pub(super) async fn commit(mut self) -> Result<()> {
        let source = self.server.configuration.display_name();
        let done = self.session.run("COMMIT").await;
        match done.map_err(|late| outcome_unknown(&source).caused_by(&late))? {
            Ok(_rows) => Ok(()),
            // What the server says has not happened, for a deferred constraint for instance.
            Err(e) if e.as_db_error().is_some() => Err(self.failed(&e)),
            Err(e) => Err(outcome_unknown(&source).caused_by(&e)),
        }
    }

    /// Returns the way by a temporary table, if the rows have to go it.
    async fn stage_of(&self, insertion: &Insertion) -> Result<Option<Stage>> {
        if insertion.makes_table {
            return Ok(None);
        }
        let (schema, table) = (&insertion.table.schema, &insertion.table.table);
        let rows =
            self.session.lookup(TARGET, &[(schema, Type::TEXT), (table, Type::TEXT)]).await?;
        let given = insertion.given();
        let (mut is_direct, mut types, mut values) = (true, Vec::new(), Vec::new());
        for (place, column) in given.iter().enumerate() {
            let (form, detail) = (Form::of(column)?, Detail::of(column)?);
            let (mut cast_type, mut is_known) = (String::new(), false);
            for row in &rows {
                if get::<String>(row, 1)? == column.name {
                    is_known = true;
                    cast_type = get(row, 2)?;
                    is_direct &= get::<bool>(row, 0)? && !get::<bool>(row, 3)?;
                }
            }
            if !is_known {
                let message = format!("column \"{}\" of table \"{}\"", column.name, self.table);
                return Err(Error::user("COLUMN_NOT_FOUND", format!("{message} has gone")));
            }
            is_direct &= !form.is_cast;
            types.push(format!("c{place} {}", staged_type(&form, &detail)));
            values.push(match form.is_cast {
                // By way of text, because a cast of a float to a numeric keeps fifteen digits only.
                true => format!("c{place}::text::{cast_type}"),
                false => format!("c{place}"),
            });
        }
        if is_direct {
            return Ok(None);
        }
        let names = identifiers(&Postgres, given.iter().map(|column| column.name.as_str()))?;
        let target = relation(&Postgres, &insertion.table)?;
        Ok(Some(Stage {
            make: format!("CREATE TEMPORARY TABLE {STAGE} ({}) ON COMMIT DROP", types.join(", ")),
            insert: format!(
                "INSERT INTO {target} ({names}) SELECT {} FROM {STAGE}",
                values.join(", ")
            ),
        }))
    }

    /// Sends all rows into `target`; returns how many.
    async fn copy(
        &mut self,
        target: &str,
        insertion: &Insertion,
        mut rows: SendableRecordBatchStream,
    ) -> Result<u64> {
        let mut encoder = Encoder::new(&self.table, &insertion.given())?;
        let statement = format!("COPY {target} FROM STDIN (FORMAT binary)");
        let sink = self.session.copy_in(&statement).await?;
        let mut sink = pin!(sink.map_err(|e| self.failed(&e))?);
        let deadline = self.server.configuration.statement_deadline;
        while let Some(batch) = rows.next().await {
            for piece in encoder.push(&batch?)? {
                // Nearly always there is room already; a deadline for each piece would cost more.
                let mut sent = sink.feed(piece);
                let sent = match (&mut sent).now_or_never() {
                    Some(sent) => sent,
                    None => within(deadline, "sending rows to the source", sent).await?,
                };
                sent.map_err(|e| self.failed(&e))?;
            }
        }
        let last: Bytes = encoder.end();
        let end = async {
            sink.feed(last).await?;
            sink.as_mut().finish().await
        };
        let n_rows = within(deadline, "waiting for the source", end).await?;
        self.session.finished();
        n_rows.map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &tokio_postgres::Error) -> Error {
        error::of_write(&self.server.configuration, &self.table, error)
    }
}

/// Returns the type of a staged column: it takes what the encoder writes.
fn staged_type(form: &Form, detail: &Detail) -> String {
    match (&form.wire, detail.base_type.as_str()) {
        (_, base @ ("json" | "jsonb" | "xml")) => base.to_owned(),
        // A length of its own would cut what the target refuses.
        (_, "bpchar") => "bpchar".to_owned(),
        (Wire::List(_), base) => {
            let item = base.trim_start_matches('_');
            format!("{}[]", Postgres.identifier(item).unwrap_or_default())
        }
        (wire, _) => wire.type_name().to_owned(),
    }
}
