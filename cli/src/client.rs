//! A client of the Flight SQL door: what the demo, the tests and the benchmark speak.
//!
//! One client is one connection and one session: `USE` and `SET SESSION` of one statement are seen by the
//! next. Errors come back as the server's own, with code and position, from the trailer it sends.

use arrow::array::RecordBatch;
use arrow_flight::FlightInfo;
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use meshwork_engine::{Error, ErrorKind, Result};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// Carries the server's error as JSON.
const ERROR_TRAILER: &str = "x-meshwork-error";

/// First words of statements that answer with rows; all others answer with a number.
const WORDS_OF_QUERIES: [&str; 9] =
    ["SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "VALUES", "TABLE", "("];

/// One connection to a coordinator.
#[derive(Debug)]
pub struct Client {
    flight: FlightSqlServiceClient<Channel>,
}

/// What a statement came to.
#[derive(Debug)]
pub enum Answer {
    /// All rows of a query.
    Rows(Vec<RecordBatch>),
    /// How many rows were changed.
    Changed(i64),
}

impl Client {
    /// Connects to a coordinator, as in `grpc://127.0.0.1:8815`.
    ///
    /// # Errors
    /// `User` when the address cannot be read, `Resources` when nobody answers there.
    pub async fn connect(url: &str) -> Result<Self> {
        let http = url.replacen("grpc+tls://", "https://", 1).replacen("grpc://", "http://", 1);
        let endpoint = Endpoint::from_shared(http).map_err(|error| {
            Error::user("INVALID_ADDRESS", format!("\"{url}\" is not the address of a server"))
                .caused_by(&error)
        })?;
        let channel = endpoint.connect().await.map_err(|error| {
            Error::resources("SERVER_UNAVAILABLE", format!("server {url} does not answer"))
                .caused_by(&error)
        })?;
        Ok(Self { flight: FlightSqlServiceClient::new(channel) })
    }

    /// Runs a statement of any kind to its end.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn run(&mut self, sql: &str) -> Result<Answer> {
        match is_query(sql) {
            true => self.query(sql).await.map(Answer::Rows),
            false => self.update(sql).await.map(Answer::Changed),
        }
    }

    /// Runs a query and returns all its rows; a query without rows returns one empty batch with its columns.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<RecordBatch>> {
        let planned = self.plan(sql).await?;
        let schema = planned.clone().try_decode_schema()?;
        let batches: Vec<RecordBatch> = self.rows_of(planned).await?.try_collect().await?;
        match batches.is_empty() {
            true => Ok(vec![RecordBatch::new_empty(schema.into())]),
            false => Ok(batches),
        }
    }

    /// Starts a query; dropping the stream cancels it.
    ///
    /// # Errors
    /// Those of the server, here and in the stream.
    pub async fn stream(&mut self, sql: &str) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let planned = self.plan(sql).await?;
        self.rows_of(planned).await
    }

    /// Runs a statement that answers with a number of rows.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn update(&mut self, sql: &str) -> Result<i64> {
        self.flight.execute_update(sql.to_owned(), None).await.map_err(from_flight)
    }

    async fn plan(&mut self, sql: &str) -> Result<FlightInfo> {
        self.flight.execute(sql.to_owned(), None).await.map_err(from_flight)
    }

    async fn rows_of(
        &mut self,
        planned: FlightInfo,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let endpoint = planned.endpoint.into_iter().next();
        let ticket = endpoint
            .and_then(|endpoint| endpoint.ticket)
            .ok_or_else(|| Error::internal("the server planned a query without a ticket"))?;
        let rows = self.flight.do_get(ticket).await.map_err(from_flight)?;
        Ok(rows.map_err(from_flight).boxed())
    }
}

/// Whether the statement answers with rows, by its first word.
fn is_query(sql: &str) -> bool {
    let text = skip_comments(sql).to_uppercase();
    WORDS_OF_QUERIES.iter().any(|word| {
        text.strip_prefix(word).is_some_and(|rest| {
            *word == "(" || rest.chars().next().is_none_or(|next| !next.is_alphanumeric())
        })
    })
}

fn skip_comments(sql: &str) -> &str {
    let mut rest = sql.trim_start();
    while let Some(comment) = rest.strip_prefix("--") {
        rest = comment.split_once('\n').map_or("", |(_, after)| after).trim_start();
    }
    rest
}

pub(crate) fn from_flight(error: FlightError) -> Error {
    // Whatever else Flight may say is a failure to understand each other.
    match error {
        FlightError::Tonic(status) => from_status(&status),
        other => Error::internal("the server's answer cannot be read").caused_by(&other),
    }
}

/// Returns the server's own error, or what the transport says when it sent none.
pub(crate) fn from_status(status: &Status) -> Error {
    let sent = status.metadata().get(ERROR_TRAILER).and_then(|value| value.to_str().ok());
    if let Some(error) = sent.and_then(|json| serde_json::from_str(json).ok()) {
        return error;
    }
    let kind = match status.code() {
        tonic::Code::Unavailable | tonic::Code::ResourceExhausted => ErrorKind::Resources,
        tonic::Code::Cancelled => ErrorKind::Cancelled,
        // All other codes are the server's opinion of the request.
        _ => ErrorKind::User,
    };
    Error::new(kind, "SERVER_REFUSED", format!("{:?}: {}", status.code(), status.message()))
}

#[cfg(test)]
mod tests {
    use super::is_query;

    #[test]
    fn statements_with_rows_are_told_by_their_first_word() {
        for sql in ["select 1", "-- why\n  WITH a AS (SELECT 1) SELECT * FROM a", "(SELECT 1)"] {
            assert!(is_query(sql), "{sql}");
        }
        for sql in ["SET SESSION a = 1", "selection", "INSERT INTO t SELECT 1", "CREATE VIEW v"] {
            assert!(!is_query(sql), "{sql}");
        }
    }
}
