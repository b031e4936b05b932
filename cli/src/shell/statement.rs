//! One statement: planned, executed, its rows written, its end told; or cancelled by Ctrl-C.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use meshwork_engine::{Error, Result, environment};
use parking_lot::Mutex;

use super::output::{Summary, Target, is_reader_gone};
use super::progress::ProgressLine;
use super::report;
use crate::client::Client;

/// How long cancelling on the server is waited for; the dropped stream cancels in any case.
const CANCEL_DEADLINE: Duration = Duration::from_secs(3);

/// How a statement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Failed,
    Cancelled,
    /// Who read the rows has closed the pipe.
    ReaderLeft,
}

/// Runs statements on one session.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) client: Client,
    pub(super) target: Target,
    /// The query that runs now.
    query_id: Arc<Mutex<Option<String>>>,
}

/// What is said of a statement that succeeded.
enum Told {
    Affected(u64),
    Rows(Summary),
}

impl Runner {
    pub(super) fn new(client: Client, target: Target) -> Self {
        Self { client, target, query_id: Arc::default() }
    }

    /// Runs the statement and tells how it ended.
    ///
    /// # Errors
    /// Where rows could not be written; a failed statement is an [`Outcome`].
    pub(super) async fn run(&mut self, sql: &str) -> anyhow::Result<Outcome> {
        let started = environment::instant();
        self.query_id.lock().take();
        let interrupted = tokio::select! {
            done = self.execute(sql) => Some(done),
            _signal = tokio::signal::ctrl_c() => None,
        };
        let Some(done) = interrupted else {
            self.cancel().await;
            return Ok(Outcome::Cancelled);
        };
        match done {
            Ok(told) => {
                self.tell(told, environment::instant().duration_since(started));
                Ok(Outcome::Done)
            }
            Err(Stopped::Failed(error)) => {
                report::failure(&error, Some(sql));
                Ok(Outcome::Failed)
            }
            Err(Stopped::Output(error)) if is_reader_gone(&error) => Ok(Outcome::ReaderLeft),
            Err(Stopped::Output(error)) => Err(error),
        }
    }

    async fn execute(&mut self, sql: &str) -> Result<Told, Stopped> {
        let mut line = ProgressLine::begin();
        let running = self.client.start(sql).await?;
        if let Some(id) = &running.query_id {
            line.follow(self.client.clone(), id);
            self.query_id.lock().clone_from(&running.query_id);
        }
        if running.is_update {
            return Ok(Told::Affected(running.n_changed().await?));
        }
        let schema = Arc::clone(&running.schema);
        let mut rows = running.rows();
        let mut writer = self.target.writer(&schema).map_err(Stopped::Output)?;
        let mut line = Some(line);
        while let Some(batch) = rows.try_next().await? {
            if writer.shows_rows_at_once() {
                line.take();
            }
            writer.write(&batch).map_err(Stopped::Output)?;
        }
        drop(line);
        Ok(Told::Rows(writer.finish().map_err(Stopped::Output)?))
    }

    async fn cancel(&mut self) {
        let id = self.query_id.lock().take();
        if let Some(id) = id {
            let cancelled = self.client.cancel(&id);
            if let Err(error) | Ok(Err(error)) =
                environment::within(CANCEL_DEADLINE, "cancelling", cancelled).await
            {
                tracing::debug!(%error, "the server did not confirm the cancellation");
            }
        }
        report::note("cancelled");
    }

    fn tell(&self, told: Told, took: Duration) {
        let seconds = took.as_secs_f64();
        match told {
            Told::Affected(number) => {
                report::note(&format!("ok ({}, {seconds:.3} s)", report::rows(number)));
            }
            Told::Rows(Summary { n_rows, n_hidden }) => {
                let hidden = match n_hidden {
                    0 => String::new(),
                    hidden => format!(", {} of them not shown", report::grouped(hidden)),
                };
                if self.target.is_for_people() || std::io::stderr().is_terminal() {
                    report::note(&format!("({}{hidden}, {seconds:.3} s)", report::rows(n_rows)));
                }
            }
        }
    }
}

/// Why a statement stopped before its end.
enum Stopped {
    Failed(Error),
    Output(anyhow::Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}
