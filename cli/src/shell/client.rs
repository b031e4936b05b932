//! The shell's side of Flight SQL: one connection, one session.
//!
//! Every question has a deadline but the statement itself. Errors come back as the server made
//! them.

use std::path::Path;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetTables, CommandStatementQuery,
    ProstMessageExt,
};
use arrow_flight::{Action, FlightDescriptor, FlightInfo, HandshakeRequest, Ticket};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt, TryStreamExt, stream};
use meshwork_coordinator::frontend::flight_sql::session_options::{
    GET_SESSION_OPTIONS, GetSessionOptionsResult, OptionValue, SET_SESSION_OPTIONS,
    SetSessionOptionsRequest, SetSessionOptionsResult, Value,
};
use meshwork_engine::{Error, Result, environment};
use prost::Message;
use serde::Deserialize;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use crate::client::{from_flight, from_status};

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
pub(super) struct Client {
    service: FlightServiceClient<Channel>,
    authorization: Option<MetadataValue<Ascii>>,
}

/// The answer to a statement.
#[derive(Debug)]
pub(super) struct Answer {
    /// What the server calls the query.
    pub(super) query_id: Option<String>,
    /// Whether the one row says how many rows an update affected.
    pub(super) is_update: bool,
    pub(super) rows: FlightRecordBatchStream,
}

/// A statement that the server has planned.
#[derive(Debug)]
pub(super) struct Planned {
    ticket: Ticket,
    is_update: bool,
    pub(super) schema: SchemaRef,
}

/// How far a running query is.
#[derive(Debug, Deserialize)]
pub(super) struct Progress {
    pub(super) state: String,
    pub(super) rows: u64,
    pub(super) stages: u64,
    pub(super) tasks: u64,
}

impl Client {
    /// Connects to the server; nobody is logged in yet.
    pub(super) async fn connect(server: &str, tls_ca: Option<&Path>) -> Result<Self> {
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
    pub(super) async fn log_in(&mut self, user: &str, password: &str) -> Result<()> {
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

    /// Has the server plan the statement.
    pub(super) async fn plan(&mut self, sql: &str) -> Result<Planned> {
        let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
        let request = self.request(FlightDescriptor::new_cmd(command.as_any().encode_to_vec()));
        let planned = self
            .service
            .get_flight_info(request)
            .await
            .map_err(|status| from_status(&status))?
            .into_inner();
        let is_update = planned.app_metadata.as_ref() == br#"{"kind":"update"}"#;
        let ticket = ticket(&planned)?;
        Ok(Planned { ticket, is_update, schema: planned.try_decode_schema()?.into() })
    }

    /// Executes what was planned.
    pub(super) async fn fetch(&mut self, planned: Planned) -> Result<Answer> {
        let request = self.request(planned.ticket);
        let response = self.service.do_get(request).await.map_err(|status| from_status(&status))?;
        let query_id = response.metadata().get("x-meshwork-query-id");
        let query_id = query_id.and_then(|id| id.to_str().ok()).map(str::to_owned);
        let messages = response.into_inner().map_err(|status| FlightError::Tonic(Box::new(status)));
        let rows = FlightRecordBatchStream::new_from_flight_data(messages);
        Ok(Answer { query_id, is_update: planned.is_update, rows })
    }

    /// Returns how far the query is.
    pub(super) async fn progress(&mut self, query_id: &str) -> Result<Progress> {
        let body = self.act("meshwork.progress", query_id.as_bytes().to_vec()).await?;
        serde_json::from_slice(&body)
            .map_err(|error| Error::internal("progress could not be read").caused_by(&error))
    }

    /// Cancels the query on the server.
    pub(super) async fn cancel(&mut self, query_id: &str) -> Result<()> {
        self.act("meshwork.cancel", query_id.as_bytes().to_vec()).await.map(|_body| ())
    }

    /// Sets options of the session; those without a value are left alone.
    pub(super) async fn set_options(&mut self, options: &[(&str, Option<&str>)]) -> Result<()> {
        let session_options = options
            .iter()
            .filter_map(|(name, value)| {
                let value = Some(Value::Text((*value)?.to_owned()));
                Some(((*name).to_owned(), OptionValue { value }))
            })
            .collect();
        let request = SetSessionOptionsRequest { session_options };
        if request.session_options.is_empty() {
            return Ok(());
        }
        let body = self.act(SET_SESSION_OPTIONS, request.encode_to_vec()).await?;
        let refused = SetSessionOptionsResult::decode(body.as_ref()).unwrap_or_default().errors;
        match refused.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::user(
                "INVALID_SESSION_SETTING",
                format!("the server did not take the session option {name}"),
            )),
        }
    }

    /// Returns the session's catalog and schema of names without one.
    pub(super) async fn place(&mut self) -> Result<(Option<String>, Option<String>)> {
        let body = self.act(GET_SESSION_OPTIONS, Vec::new()).await?;
        let mut options =
            GetSessionOptionsResult::decode(body.as_ref()).unwrap_or_default().session_options;
        let mut text = |name: &str| match options.remove(name)?.value? {
            Value::Text(text) => Some(text),
            Value::Bool(_) | Value::Int(_) | Value::Double(_) | Value::List(_) => None,
        };
        Ok((text("catalog"), text("schema")))
    }

    /// Returns the names of all catalogs.
    pub(super) async fn catalogs(&mut self) -> Result<Vec<String>> {
        let batches = self.list(&CommandGetCatalogs {}).await?;
        Ok(texts(&batches, "catalog_name"))
    }

    /// Returns the names of the catalog's schemas.
    pub(super) async fn schemas(&mut self, catalog: &str) -> Result<Vec<String>> {
        let command = CommandGetDbSchemas {
            catalog: Some(catalog.to_owned()),
            db_schema_filter_pattern: None,
        };
        Ok(texts(&self.list(&command).await?, "db_schema_name"))
    }

    /// Returns the names of the schema's tables.
    pub(super) async fn tables(&mut self, catalog: &str, schema: &str) -> Result<Vec<String>> {
        let command = CommandGetTables {
            catalog: Some(catalog.to_owned()),
            db_schema_filter_pattern: Some(exactly(schema)),
            ..CommandGetTables::default()
        };
        Ok(texts(&self.list(&command).await?, "table_name"))
    }

    /// Returns the names of the table's columns.
    pub(super) async fn columns(
        &mut self,
        catalog: &str,
        schema: &str,
        table: &str,
    ) -> Result<Vec<String>> {
        let command = CommandGetTables {
            catalog: Some(catalog.to_owned()),
            db_schema_filter_pattern: Some(exactly(schema)),
            table_name_filter_pattern: Some(exactly(table)),
            include_schema: true,
            ..CommandGetTables::default()
        };
        let batches = self.list(&command).await?;
        let mut names = Vec::new();
        for encoded in batches.iter().filter_map(|batch| batch.column_by_name("table_schema")) {
            for bytes in encoded.as_binary::<i32>().iter().flatten() {
                let schema = FlightInfo { schema: bytes.to_vec().into(), ..FlightInfo::default() };
                let columns = schema.try_decode_schema()?;
                names.extend(columns.fields().iter().map(|field| field.name().clone()));
            }
        }
        Ok(names)
    }

    /// Returns the whole answer to a question for metadata.
    async fn list(&mut self, command: &impl ProstMessageExt) -> Result<Vec<RecordBatch>> {
        let ticket = Ticket::new(command.as_any().encode_to_vec());
        let request = self.request(ticket);
        let messages = answered("a listing", self.service.do_get(request)).await?.into_inner();
        let messages = messages.map_err(|status| FlightError::Tonic(Box::new(status)));
        let batches = FlightRecordBatchStream::new_from_flight_data(messages).try_collect();
        environment::within(ANSWER_DEADLINE, "a listing", batches).await?.map_err(from_flight)
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

fn tls(ca: Option<&Path>) -> Result<ClientTlsConfig> {
    let Some(path) = ca else {
        return Err(Error::user(
            "INVALID_ADDRESS",
            "an https address needs a certificate authority",
        )
        .with_hint("Name its PEM file with --tls-ca."));
    };
    let pem = std::fs::read(path).map_err(|error| {
        Error::user("INVALID_CONFIGURATION", format!("{} could not be read", path.display()))
            .caused_by(&error)
    })?;
    Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
}

fn ticket(planned: &FlightInfo) -> Result<Ticket> {
    let ticket = planned.endpoint.first().and_then(|endpoint| endpoint.ticket.clone());
    ticket.ok_or_else(|| Error::internal("the server planned the statement but gave no ticket"))
}

async fn answered<T>(
    what: &str,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<tonic::Response<T>> {
    environment::within(ANSWER_DEADLINE, what, answer).await?.map_err(|status| from_status(&status))
}

/// Returns the pattern that matches exactly this name.
fn exactly(name: &str) -> String {
    name.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

fn texts(batches: &[RecordBatch], column: &str) -> Vec<String> {
    let columns = batches.iter().filter_map(|batch| batch.column_by_name(column));
    let mut names: Vec<String> = columns
        .flat_map(|column| column.as_string::<i32>().iter().flatten().map(str::to_owned))
        .collect();
    names.sort();
    names.dedup();
    names
}
