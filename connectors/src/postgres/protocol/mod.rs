//! A session that reads rows where they lie in the messages that arrive.
//!
//! Everything else that is asked of a server goes through the driver, which hands each row from one task to another as an
//! object of its own. Rows come as answers of the extended protocol in binary, not as `COPY`: a server makes them in less
//! time. What that gains is measured by `bench read`.
//!
//! See "Frontend/Backend Protocol" in PostgreSQL's documentation.

mod login;
mod message;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use rustls::ClientConfig;

pub(super) use self::login::cancel;
use self::message::{COLUMNS, COMPLETE, FAILED, Messages, READY, ROW, Request};
pub(super) use self::message::{Described, Failure};
use super::configuration::Configuration;

/// The statement whose rows are read.
const SELECT: &str = "rows";
/// The statement that is asked before.
const QUESTION: &str = "";

const MALFORMED: Failure = Failure::Protocol("a message that breaks off");

/// A session of the server.
pub(super) struct Session {
    messages: Messages,
    key: Key,
    /// Whether an exchange has begun and was not read to its end: nothing else can be asked then.
    is_busy: bool,
    /// Where the rows are that were taken last.
    rows: Vec<Range<usize>>,
}

/// Rows that have arrived together, each as `u16 n columns | n x (i32 length or -1 | bytes)`.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) places: &'a [Range<usize>],
}

/// What a session is cancelled by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    process: [u8; 4],
    secret: [u8; 4],
}

impl Session {
    /// Opens a session; the caller sets a deadline.
    pub(super) async fn open(
        configuration: &Configuration,
        tls: &Arc<ClientConfig>,
        application: &str,
    ) -> Result<Self, Failure> {
        login::log_in(configuration, tls, application).await
    }

    /// Returns what the session is cancelled by.
    pub(super) fn key(&self) -> Key {
        self.key
    }

    /// Runs statements; what they return is not looked at.
    pub(super) async fn run(&mut self, statements: &str) -> Result<(), Failure> {
        self.begin(Request::new().query(statements)).await?;
        self.end().await
    }

    /// Describes the columns of a statement, whose tables are held from then on until the transaction ends; behind that,
    /// asks a question with lists of texts as parameters. Returns its rows as text.
    pub(super) async fn describe(
        &mut self,
        statement: &str,
        question: &str,
        parameters: &[Vec<String>],
    ) -> Result<(Vec<Described>, Vec<Vec<String>>), Failure> {
        let request = Request::new()
            .prepare(SELECT, statement, 0)
            .describe(SELECT)
            .prepare(QUESTION, question, u16::try_from(parameters.len()).unwrap_or(u16::MAX))
            .execute_as_text(QUESTION, parameters)
            .sync();
        self.begin(request).await?;
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        loop {
            let message = self.messages.next().await?;
            let body = self.messages.body(&message);
            match message.tag {
                COLUMNS => columns = message::columns(body).ok_or(MALFORMED)?,
                ROW => rows.push(message::texts(body).ok_or(MALFORMED)?),
                FAILED => {
                    let failure = message::failure(body);
                    self.end().await?;
                    return Err(failure);
                }
                READY => {
                    self.is_busy = false;
                    return Ok((columns, rows));
                }
                _ => {}
            }
        }
    }

    /// Begins to return the rows of a statement, the one that was described, if one was.
    pub(super) async fn begin_rows(
        &mut self,
        statement: &str,
        was_described: bool,
    ) -> Result<(), Failure> {
        let request = match was_described {
            true => Request::new(),
            false => Request::new().prepare(SELECT, statement, 0),
        };
        self.begin(request.execute(SELECT).sync()).await
    }

    /// Returns the next rows that have arrived, `n_max` at most; none when all were read. Whoever stops waiting has lost
    /// nothing.
    pub(super) async fn next_rows(&mut self, n_max: usize) -> Result<Rows<'_>, Failure> {
        self.rows.clear();
        loop {
            while self.rows.len() < n_max
                && let Some(row) = self.messages.take_row()?
            {
                self.rows.push(row);
            }
            if !self.rows.is_empty() {
                return Ok(Rows { bytes: self.messages.bytes(), places: &self.rows });
            }
            let message = self.messages.next().await?;
            match message.tag {
                ROW => self.rows.push(message.body),
                COMPLETE => {
                    self.end().await?;
                    return Ok(Rows { bytes: &[], places: &[] });
                }
                FAILED => return Err(message::failure(self.messages.body(&message))),
                READY => return Err(Failure::Protocol("rows that end before their end")),
                _ => {}
            }
        }
    }

    /// Takes leave of the server.
    pub(super) async fn close(mut self) -> Result<(), Failure> {
        self.messages.send(Request::new().terminate()).await
    }

    /// Begins an exchange. What one before it has left unread would be taken for its answer.
    async fn begin(&mut self, request: Request) -> Result<(), Failure> {
        if self.is_busy {
            return Err(Failure::Protocol("what was asked before"));
        }
        self.is_busy = true;
        self.messages.send(request).await
    }

    /// Waits for the end of an exchange.
    async fn end(&mut self) -> Result<(), Failure> {
        let mut failure = None;
        loop {
            let message = self.messages.next().await?;
            match message.tag {
                FAILED => failure = Some(message::failure(self.messages.body(&message))),
                READY => {
                    self.is_busy = false;
                    return failure.map_or(Ok(()), Err);
                }
                _ => {}
            }
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}
