//! A client of the Flight SQL door: what the shell, the demo, the tests and the benchmark speak.
//!
//! One client is one connection and one session: `USE` and `SET SESSION` of one statement are seen by the
//! next. Every question has a deadline but the statement itself. Errors come back as the server's own, with code
//! and position, from the trailer it sends.

mod session;

use std::path::Path;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder, FlightRecordBatchStream};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use arrow_flight::{Action, HandshakeRequest, Ticket};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use meshwork_engine::{Error, ErrorKind, Result, environment};
use prost::Message;
use serde::Deserialize;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

/// Names the query.
const QUERY_ID_HEADER: &str = "x-meshwork-query-id";
/// Says whether the answer is rows or the count of an update.
const KIND_HEADER: &str = "x-meshwork-kind";
/// Carries the server's error as JSON.
const ERROR_TRAILER: &str = "x-meshwork-error";
/// How long the server may take for anything but a statement.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// What the server may send ahead of what has been read.
const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 32 * 1024 * 1024;
/// The largest message that is taken: one row can be that large.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// A session on a server. Clones share the connection and the session.
#[derive(Debug, Clone)]
pub struct Client {
    service: FlightServiceClient<Channel>,
    authorization: Option<MetadataValue<Ascii>>,
}

/// What a statement came to.
#[derive(Debug)]
pub enum Answer {
    /// All rows of a query.
    Rows(Vec<RecordBatch>),
    /// How many rows were changed.
    Changed(u64),
}

/// A statement that runs. Dropping it cancels the statement.
#[derive(Debug)]
pub struct Running {
    /// What the server calls the query.
    pub query_id: Option<String>,
    /// Whether the rows are one number: how many rows an update affected.
    pub is_update: bool,
    /// The columns of the answer.
    pub schema: SchemaRef,
    rows: FlightRecordBatchStream,
}

/// How far a running query is.
#[derive(Debug, Deserialize)]
pub struct Progress {
    /// As in `system.runtime.queries`.
    pub state: String,
    /// Rows that have left for the client.
    pub rows: u64,
    /// Stages of the plan.
    pub stages: u64,
    /// Tasks of all stages.
    pub tasks: u64,
}

impl Client {
    /// Connects to a coordinator, as in `grpc://127.0.0.1:8815`; a TLS server's certificate is checked against
    /// the authorities of the web.
    ///
    /// # Errors
    /// `INVALID_ADDRESS` when the address cannot be read, `SERVER_UNAVAILABLE` when nobody answers there.
    pub async fn connect(server: &str) -> Result<Self> {
        Self::connect_trusting(server, None).await
    }

    /// Connects; a TLS server's certificate is checked against the authority in the PEM file `tls_ca`, where given.
    ///
    /// # Errors
    /// As [`Client::connect`]; `INVALID_CONFIGURATION` when the file cannot be read.
    pub async fn connect_trusting(server: &str, tls_ca: Option<&Path>) -> Result<Self> {
        let url = server
            .replacen("grpc+tls://", "https://", 1)
            .replacen("grpc+tcp://", "http://", 1)
            .replacen("grpc://", "http://", 1);
        let wrong = |error: tonic::transport::Error| {
            Error::user("INVALID_ADDRESS", format!("\"{server}\" is not an address of a server"))
                .caused_by(&error)
        };
        let mut endpoint = Endpoint::from_shared(url.clone())
            .map_err(wrong)?
            .connect_timeout(CONNECT_DEADLINE)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        if url.starts_with("https://") {
            endpoint = endpoint.tls_config(tls(tls_ca)?).map_err(wrong)?;
        }
        let channel = endpoint.connect().await.map_err(|error| {
            Error::source(
                "SERVER_UNAVAILABLE",
                format!("the server at {server} could not be reached"),
            )
            .with_hint("Start one with: meshwork standalone. Or name another with --server.")
            .caused_by(&error)
        })?;
        let service =
            FlightServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { service, authorization: None })
    }

    /// Logs in; from then on all requests belong to one session.
    ///
    /// # Errors
    /// The server's, when it does not know this user with this password.
    pub async fn log_in(&mut self, user: &str, password: &str) -> Result<()> {
        let mut request = Request::new(stream::iter([HandshakeRequest::default()]));
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let basic = MetadataValue::try_from(basic).map_err(|error| {
            Error::internal("credentials do not fit a header").caused_by(&error)
        })?;
        request.metadata_mut().insert("authorization", basic);
        let answer = answered("the login", self.service.handshake(request)).await?;
        self.authorization = answer.metadata().get("authorization").cloned();
        Ok(())
    }

    /// Runs a statement of any kind to its end.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn run(&mut self, sql: &str) -> Result<Answer> {
        let running = self.start(sql).await?;
        if running.is_update {
            return running.n_changed().await.map(Answer::Changed);
        }
        let schema = SchemaRef::clone(&running.schema);
        let mut batches: Vec<RecordBatch> = running.rows().try_collect().await?;
        if batches.is_empty() {
            batches.push(RecordBatch::new_empty(schema));
        }
        Ok(Answer::Rows(batches))
    }

    /// Runs a query and returns all its rows; a query without rows returns one empty batch with its columns.
    ///
    /// # Errors
    /// Those of the server, and a statement that is no query.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<RecordBatch>> {
        match self.run(sql).await? {
            Answer::Rows(batches) => Ok(batches),
            Answer::Changed(_) => {
                Err(Error::internal("a statement without rows was run as a query"))
            }
        }
    }

    /// Starts a query; dropping the stream cancels it.
    ///
    /// # Errors
    /// Those of the server, here and in the stream.
    pub async fn stream(&mut self, sql: &str) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        Ok(self.start(sql).await?.rows())
    }

    /// Starts a statement of any kind. The server takes its text for a ticket, so that one request is enough.
    ///
    /// # Errors
    /// Those of the server, here and in the rows.
    pub async fn start(&mut self, sql: &str) -> Result<Running> {
        let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
        let request = self.request(Ticket::new(command.as_any().encode_to_vec()));
        let response = self.service.do_get(request).await.map_err(|status| from_status(&status))?;
        let header = |name| response.metadata().get(name).and_then(|value| value.to_str().ok());
        let query_id = header(QUERY_ID_HEADER).map(str::to_owned);
        let is_update = header(KIND_HEADER) == Some("update");
        let messages = response.into_inner().map_err(|status| FlightError::Tonic(Box::new(status)));
        let mut messages = FlightDataDecoder::new(messages);
        let first = messages.try_next().await.map_err(from_flight)?.map(|first| first.payload);
        let Some(DecodedPayload::Schema(schema)) = first else {
            return Err(Error::internal("the server's answer does not begin with its columns"));
        };
        Ok(Running { query_id, is_update, schema, rows: FlightRecordBatchStream::new(messages) })
    }

    /// Returns how far the query is.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn progress(&mut self, query_id: &str) -> Result<Progress> {
        let body = self.act("meshwork.progress", query_id.as_bytes().to_vec()).await?;
        serde_json::from_slice(&body)
            .map_err(|error| Error::internal("progress could not be read").caused_by(&error))
    }

    /// Cancels the query on the server.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn cancel(&mut self, query_id: &str) -> Result<()> {
        self.act("meshwork.cancel", query_id.as_bytes().to_vec()).await.map(|_body| ())
    }

    async fn act(&mut self, name: &str, body: Vec<u8>) -> Result<prost::bytes::Bytes> {
        let request = self.request(Action::new(name, body));
        let mut answers = answered(name, self.service.do_action(request)).await?.into_inner();
        let answer = environment::within(ANSWER_DEADLINE, name, answers.next()).await?;
        Ok(answer.transpose().map_err(|status| from_status(&status))?.unwrap_or_default().body)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }
}

impl Running {
    /// Returns the rows as they come; dropping the stream cancels the statement.
    pub fn rows(self) -> BoxStream<'static, Result<RecordBatch>> {
        self.rows.map_err(from_flight).boxed()
    }

    /// Waits for the end of an update and returns how many rows it affected.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn n_changed(self) -> Result<u64> {
        let mut rows = self.rows();
        let mut n_changed = 0;
        while let Some(batch) = rows.try_next().await? {
            let counts = batch.column(0).as_primitive_opt::<Int64Type>();
            n_changed += counts.map_or(0, |counts| counts.iter().flatten().sum::<i64>());
        }
        Ok(u64::try_from(n_changed).unwrap_or_default())
    }
}

fn tls(ca: Option<&Path>) -> Result<ClientTlsConfig> {
    let Some(path) = ca else {
        let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
        return Ok(ClientTlsConfig::new().trust_anchors(roots));
    };
    let pem = std::fs::read(path).map_err(|error| {
        Error::user("INVALID_CONFIGURATION", format!("{} could not be read", path.display()))
            .caused_by(&error)
    })?;
    Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
}

async fn answered<T>(
    what: &str,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<tonic::Response<T>> {
    environment::within(ANSWER_DEADLINE, what, answer).await?.map_err(|status| from_status(&status))
}

fn from_flight(error: FlightError) -> Error {
    // Whatever else Flight may say is a failure to understand each other.
    match error {
        FlightError::Tonic(status) => from_status(&status),
        other => Error::internal("the server's answer cannot be read").caused_by(&other),
    }
}

/// Returns the server's own error, or what the transport says when it sent none.
fn from_status(status: &Status) -> Error {
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
