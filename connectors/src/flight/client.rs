//! Calls to the server: who asks, by which deadline, and over which connection.
//!
//! All calls of a node share one connection of HTTP/2, which is made when it is needed and made again when it breaks.
//! Dropping a stream drops its call, by which the server learns that nobody waits.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::ProstMessageExt;
use arrow_flight::{
    FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, IpcMessage, SchemaResult,
    Ticket,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use meshwork_engine::environment::{self, within};
use meshwork_engine::{Error, Result};
use prost::Message;
use tokio::sync::Mutex;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};
use url::Url;

use super::error;
use super::options::{Credentials, Options, address, host_of, is_encrypted};

/// What the server may send ahead of what has been read.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// The largest message that is taken: one row can be that large.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// Rows of a listing that are taken.
const LISTED_ROWS_MAX: usize = 1_000_000;
/// The location of rows that lie where the question was asked.
const SAME_CONNECTION: &str = "arrow-flight-reuse-connection://";

/// The connection of one catalog on one node.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) options: Options,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    channel: Option<Channel>,
    /// What the server gave for user and password.
    login: Option<MetadataValue<Ascii>>,
}

impl Client {
    /// Does no I/O.
    pub(super) fn new(options: Options) -> Self {
        Self { options, state: Mutex::default() }
    }

    /// Asks where the answer to a command lies.
    pub(super) async fn info(&self, command: &impl ProstMessageExt) -> Result<FlightInfo> {
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let ask = |mut service: Service, request| {
            async move { service.get_flight_info(request).await }.boxed()
        };
        Ok(self.call("planning a query", descriptor, ask).await?.into_inner())
    }

    /// Asks for the columns of the answer to a command.
    pub(super) async fn schema(&self, command: &impl ProstMessageExt) -> Result<Schema> {
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let ask = |mut service: Service, request| {
            async move { service.get_schema(request).await }.boxed()
        };
        let SchemaResult { schema } =
            self.call("describing a query", descriptor, ask).await?.into_inner();
        Schema::try_from(IpcMessage(schema))
            .map_err(|e| error::protocol(&self.options, "columns cannot be read").caused_by(&e))
    }

    /// Returns the rows of an endpoint as they come.
    pub(super) async fn rows(&self, endpoint: &FlightEndpoint) -> Result<FlightRecordBatchStream> {
        let ticket = endpoint.ticket.clone();
        let ticket =
            ticket.ok_or_else(|| error::protocol(&self.options, "an endpoint has no ticket"))?;
        let elsewhere = self.elsewhere(endpoint)?;
        let elsewhere = elsewhere.map(|url| self.channel_to(&url)).transpose()?.map(service_at);
        let get = move |service: Service, request: Request<Ticket>| {
            let mut service = elsewhere.clone().unwrap_or(service);
            async move { service.do_get(request).await }.boxed()
        };
        let response = self.call("asking for rows", ticket, get).await?;
        let messages = response.into_inner().map_err(|status| FlightError::Tonic(Box::new(status)));
        Ok(FlightRecordBatchStream::new_from_flight_data(messages))
    }

    /// Returns all rows of the answer to a command that lists something.
    pub(super) async fn list(&self, command: &impl ProstMessageExt) -> Result<Vec<RecordBatch>> {
        let endpoints = self.info(command).await?.endpoint;
        let (mut batches, mut n_rows) = (Vec::new(), 0);
        for endpoint in &endpoints {
            let mut rows = self.rows(endpoint).await?;
            loop {
                let next = self.within("a listing", rows.next()).await?;
                let Some(batch) = next else { break };
                let batch = batch.map_err(|e| error::of_flight(&self.options, &e))?;
                n_rows += batch.num_rows();
                if n_rows > LISTED_ROWS_MAX {
                    return Err(error::protocol(&self.options, "a listing has no end"));
                }
                batches.push(batch);
            }
        }
        Ok(batches)
    }

    /// Calls once, and once more with a new login if the server has forgotten the last one.
    async fn call<T: Clone, R>(
        &self,
        what: &str,
        message: T,
        call: impl Fn(Service, Request<T>) -> Answering<R>,
    ) -> Result<Response<R>> {
        let mut is_again = false;
        loop {
            let (service, authorization) = self.service(is_again).await?;
            let mut request = Request::new(message.clone());
            if let Some(authorization) = authorization {
                request.metadata_mut().insert("authorization", authorization);
            }
            match self.within(what, call(service, request)).await? {
                Ok(response) => return Ok(response),
                Err(status)
                    if status.code() == Code::Unauthenticated && !is_again && self.logs_in() =>
                {
                    is_again = true;
                }
                Err(status) => return Err(error::of_status(&self.options, &status)),
            }
        }
    }

    /// Waits for the server, but only so long.
    pub(super) async fn within<F: Future>(&self, what: &str, future: F) -> Result<F::Output> {
        let what = format!("{what} at {}", self.options.display_name());
        within(self.options.answer_deadline, &what, future).await
    }

    fn logs_in(&self) -> bool {
        matches!(self.options.credentials, Credentials::Login { .. })
    }

    /// Returns the connection, and who is to be named in each call.
    async fn service(&self, anew: bool) -> Result<(Service, Option<MetadataValue<Ascii>>)> {
        let mut state = self.state.lock().await;
        let channel = match &state.channel {
            Some(channel) => channel.clone(),
            None => {
                let channel = self.channel_to(&self.options.url)?;
                state.channel.insert(channel).clone()
            }
        };
        let service = service_at(channel);
        let authorization = match &self.options.credentials {
            Credentials::None => None,
            Credentials::Token(token) => Some(self.header(format!("Bearer {}", token.expose()))?),
            Credentials::Login { user, password } => {
                if anew || state.login.is_none() {
                    let basic = STANDARD.encode(format!("{user}:{}", password.expose()));
                    let basic = self.header(format!("Basic {basic}"))?;
                    state.login = Some(self.log_in(service.clone(), basic).await?);
                }
                state.login.clone()
            }
        };
        Ok((service, authorization))
    }

    /// Logs in; a server that keeps no sessions takes user and password with each call.
    async fn log_in(
        &self,
        mut service: Service,
        basic: MetadataValue<Ascii>,
    ) -> Result<MetadataValue<Ascii>> {
        let mut request = Request::new(stream::iter([HandshakeRequest::default()]));
        request.metadata_mut().insert("authorization", basic.clone());
        match self.within("logging in", service.handshake(request)).await? {
            Ok(answer) => Ok(answer.metadata().get("authorization").cloned().unwrap_or(basic)),
            Err(status) if status.code() == Code::Unimplemented => Ok(basic),
            Err(status) => Err(error::of_status(&self.options, &status)),
        }
    }

    fn header(&self, text: String) -> Result<MetadataValue<Ascii>> {
        let mut value = MetadataValue::try_from(text).map_err(|_secret| {
            let catalog = &self.options.catalog;
            let message =
                format!("catalog \"{catalog}\": a secret has letters that no header can hold");
            Error::user("CATALOG_CONFIGURATION", message)
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Returns the other server on which the rows of an endpoint lie, if it is one that the catalog allows.
    fn elsewhere(&self, endpoint: &FlightEndpoint) -> Result<Option<Url>> {
        let Some(location) = endpoint.location.first() else { return Ok(None) };
        let all = &endpoint.location;
        if all.iter().any(|location| location.uri.starts_with(SAME_CONNECTION)) {
            return Ok(None);
        }
        let urls = || all.iter().filter_map(|location| address(&location.uri));
        if urls().any(|url| url == self.options.url) {
            return Ok(None);
        }
        let is_allowed = |url: &Url| {
            // What was asked for by TLS is not sent without.
            let is_safe = is_encrypted(url) || !is_encrypted(&self.options.url);
            is_safe && self.options.allowed_hosts.contains(&host_of(url))
        };
        if let Some(url) = urls().find(is_allowed) {
            return Ok(Some(url));
        }
        let shown =
            address(&location.uri).map_or_else(|| "an address".to_owned(), |url| host_of(&url));
        let source = self.options.display_name();
        Err(Error::source(
            "SOURCE_FORBIDDEN_ADDRESS",
            format!("{source} keeps rows at {shown}, which the catalog does not allow"),
        )
        .with_hint("Name it in the catalog's property allowed_hosts, as host:port."))
    }

    /// Returns a connection that is made when it is used.
    fn channel_to(&self, url: &Url) -> Result<Channel> {
        let wrong = |e: tonic::transport::Error| error::unavailable(&self.options).caused_by(&e);
        let mut endpoint = Endpoint::from_shared(url.to_string())
            .map_err(wrong)?
            .connect_timeout(self.options.connect_deadline)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        if is_encrypted(url) {
            endpoint = endpoint.tls_config(self.tls()?).map_err(wrong)?;
        }
        // What drives the connection outlives the query that needed it first.
        let runtime = environment::io_runtime();
        let _entered = runtime.enter();
        Ok(endpoint.connect_lazy())
    }

    fn tls(&self) -> Result<ClientTlsConfig> {
        let Some(path) = &self.options.tls_ca else {
            let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
            return Ok(ClientTlsConfig::new().trust_anchors(roots));
        };
        let pem = std::fs::read(path).map_err(|e| {
            let (catalog, file) = (&self.options.catalog, path.display());
            let message = format!("catalog \"{catalog}\": tls_ca \"{file}\" is unreadable");
            Error::user("CATALOG_CONFIGURATION", message).caused_by(&e)
        })?;
        Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
    }
}

type Service = FlightServiceClient<Channel>;

/// A call under way.
type Answering<R> = BoxFuture<'static, Result<Response<R>, Status>>;

fn service_at(channel: Channel) -> Service {
    FlightServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}
