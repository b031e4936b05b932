//! What every request passes first: it learns who calls and in which session, and the answer to a
//! new session carries its cookie. Adds the two methods of Flight that the trait for Flight SQL
//! leaves out.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{Any, Command};
use arrow_flight::{
    Action, ActionType, BasicAuth, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaAsIpc, SchemaResult, Ticket,
};
use futures::Stream;
use meshwork_engine::Result;
use prost::Message;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::server::TlsConnectInfo;
use tonic::{Request, Response, Status, Streaming};

use super::server::ConnectionId;
use super::service::Service;
use super::sessions::{Caller, Credentials, SESSION_COOKIE, Sessions, credentials};
use super::status::{status, status_of};
use crate::Coordinator;
use crate::frontend::users::Users;

/// The Flight service of a coordinator; put it into a tonic server, or let [`super::serve`] do it.
pub struct Door {
    service: Service,
    sessions: Arc<Sessions>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

impl Door {
    /// Returns the door of the coordinator for these users.
    ///
    /// # Errors
    /// `Internal` when the answers about this server cannot be made.
    pub fn new(coordinator: Arc<Coordinator>, users: Users) -> Result<Self> {
        let sessions = Arc::new(Sessions::new(Arc::clone(&coordinator), users));
        Ok(Self { service: Service::new(coordinator, Arc::clone(&sessions))?, sessions })
    }

    /// Finds out who sent the request and writes it into the request.
    fn admit<T>(&self, request: &mut Request<T>) -> Result<Caller, Status> {
        let plain = request.extensions().get::<ConnectionId>().copied();
        let tls = || Some(*request.extensions().get::<TlsConnectInfo<ConnectionId>>()?.get_ref());
        let connection = match plain.or_else(tls) {
            Some(id) => id.to_string(),
            // A server of somebody else's making: its peers are told apart by address.
            None => request.remote_addr().map(|peer| peer.to_string()).unwrap_or_default(),
        };
        let caller = self.sessions.admit(request.metadata(), &connection).map_err(status)?;
        request.extensions_mut().insert(caller.clone());
        Ok(caller)
    }
}

/// Gives the answer the cookie of a session that the request opened.
fn with_cookie<T>(caller: &Caller, mut response: Response<T>) -> Response<T> {
    if let (true, Some(value)) =
        (caller.is_new, ascii(&format!("{SESSION_COOKIE}={}", caller.token)))
    {
        response.metadata_mut().insert("set-cookie", value);
    }
    response
}

fn ascii(text: &str) -> Option<MetadataValue<Ascii>> {
    MetadataValue::try_from(text).ok()
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl FlightService for Door {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;
    type DoExchangeStream = Answers<FlightData>;

    /// Logs in by basic header or payload; the bearer token comes back as header and as payload.
    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        let (user, password) = match credentials(request.metadata()).map_err(status)? {
            Credentials::Basic { user, password } => (user, password),
            Credentials::None | Credentials::Bearer(_) => {
                let sent = request.into_inner().message().await?.unwrap_or_default();
                let login = BasicAuth::decode(sent.payload).unwrap_or_default();
                (login.username, login.password)
            }
        };
        let caller = self.sessions.log_in(&user, &password).map_err(status)?;
        let payload = caller.token.clone().into();
        let answer = HandshakeResponse { protocol_version: 0, payload };
        let stream: Self::HandshakeStream = Box::pin(futures::stream::iter([Ok(answer)]));
        let mut response = Response::new(stream);
        if let Some(value) = ascii(&format!("Bearer {}", caller.token)) {
            response.metadata_mut().insert("authorization", value);
        }
        Ok(with_cookie(&caller, response))
    }

    async fn list_flights(
        &self,
        mut request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        let caller = self.admit(&mut request)?;
        Ok(with_cookie(&caller, Response::new(Box::pin(futures::stream::empty()))))
    }

    async fn get_flight_info(
        &self,
        mut request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let caller = self.admit(&mut request)?;
        Ok(with_cookie(&caller, self.service.get_flight_info(request).await?))
    }

    /// Answers at once that all is known: planning is done, and rows come as they are made.
    async fn poll_flight_info(
        &self,
        mut request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        let caller = self.admit(&mut request)?;
        let planned = self.service.get_flight_info(request).await?.into_inner();
        let answer = PollInfo { progress: Some(1.0), ..PollInfo::new().with_info(planned) };
        Ok(with_cookie(&caller, Response::new(answer)))
    }

    async fn get_schema(
        &self,
        mut request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        let caller = self.admit(&mut request)?;
        let command = Any::decode(request.get_ref().cmd.clone()).map(Command::try_from);
        let answer = match command {
            Ok(Ok(Command::CommandStatementQuery(query))) => {
                let schema = self.service.statement_schema(&caller, &query.query).await?;
                let options = IpcWriteOptions::default();
                SchemaAsIpc::new(&schema, &options).try_into().map_err(status_of)?
            }
            _ => {
                let planned = self.service.get_flight_info(request).await?.into_inner();
                SchemaResult { schema: planned.schema }
            }
        };
        Ok(with_cookie(&caller, Response::new(answer)))
    }

    async fn do_get(
        &self,
        mut request: Request<Ticket>,
    ) -> Result<Response<Self::DoGetStream>, Status> {
        let caller = self.admit(&mut request)?;
        Ok(with_cookie(&caller, self.service.do_get(request).await?))
    }

    async fn do_put(
        &self,
        mut request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        let caller = self.admit(&mut request)?;
        Ok(with_cookie(&caller, self.service.do_put(request).await?))
    }

    async fn list_actions(
        &self,
        mut request: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        let caller = self.admit(&mut request)?;
        Ok(with_cookie(&caller, self.service.list_actions(request).await?))
    }

    async fn do_action(
        &self,
        mut request: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        let caller = self.admit(&mut request)?;
        Ok(with_cookie(&caller, self.service.do_action(request).await?))
    }

    async fn do_exchange(
        &self,
        mut request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        let caller = self.admit(&mut request)?;
        Ok(with_cookie(&caller, self.service.do_exchange(request).await?))
    }
}
