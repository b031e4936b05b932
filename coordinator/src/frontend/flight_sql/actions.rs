//! Actions beside those of prepared statements: sessions, cancelling, and what our shell asks.
//!
//! `meshwork.progress` and `meshwork.cancel` take a query id as text; users reach only their own
//! queries.

use arrow_flight::sql::{Any, Command, TicketStatementQuery};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo,
};
use bytes::Bytes;
use meshwork_engine::{Error, Result};
use prost::Message;
use tonic::Status;

use super::service::Service;
use super::session_options::{
    self, CLOSE_SESSION, CloseSessionResult, CloseSessionStatus, GET_SESSION_OPTIONS,
    SET_SESSION_OPTIONS, SetSessionOptionsRequest,
};
use super::sessions::Caller;
use super::status::status;

const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";
const PROGRESS: &str = "meshwork.progress";
const CANCEL: &str = "meshwork.cancel";

/// Returns what [`perform`] knows.
pub(super) fn list() -> Vec<ActionType> {
    let described = [
        (SET_SESSION_OPTIONS, "Sets the catalog, the schema and settings of the session."),
        (GET_SESSION_OPTIONS, "Returns the catalog, the schema and settings of the session."),
        (CLOSE_SESSION, "Ends the session."),
        (CANCEL_FLIGHT_INFO, "Cancels the statement of a FlightInfo, waiting or running."),
        (PROGRESS, "Returns the progress of the running query whose id is the body, as JSON."),
        (CANCEL, "Cancels the running query whose id is the body."),
    ];
    described
        .into_iter()
        .map(|(name, description)| ActionType {
            r#type: name.to_owned(),
            description: description.to_owned(),
        })
        .collect()
}

/// Performs the action and returns the body of its answer.
pub(super) fn perform(
    service: &Service,
    caller: &Caller,
    action: &Action,
) -> Result<Bytes, Status> {
    match action.r#type.as_str() {
        SET_SESSION_OPTIONS => {
            let request: SetSessionOptionsRequest = decode(&action.body)?;
            Ok(encode(&session_options::set(caller, request)))
        }
        GET_SESSION_OPTIONS => Ok(encode(&session_options::get(caller))),
        CLOSE_SESSION => {
            service.sessions.close(&caller.token);
            Ok(encode(&CloseSessionResult { status: CloseSessionStatus::Closed.into() }))
        }
        CANCEL_FLIGHT_INFO => {
            let request: CancelFlightInfoRequest = decode(&action.body)?;
            let flight = request.info.unwrap_or_default();
            let status = cancel_endpoints(service, caller, &flight)?;
            Ok(encode(&CancelFlightInfoResult { status: status.into() }))
        }
        PROGRESS => progress(service, caller, &query_id(action)?),
        CANCEL => {
            let id = running(service, caller, &query_id(action)?)?;
            let is_cancelled = service.coordinator.cancel(&id);
            Ok(Bytes::from(format!(r#"{{"cancelled":{is_cancelled}}}"#)))
        }
        other => Err(status(Error::not_supported(format!("action \"{other}\"")))),
    }
}

/// Cancels what an encoded `FlightInfo` stands for.
pub(super) fn cancel_flight(
    service: &Service,
    caller: &Caller,
    encoded: &Bytes,
) -> Result<CancelStatus, Status> {
    cancel_endpoints(service, caller, &decode::<FlightInfo>(encoded)?)
}

fn cancel_endpoints(
    service: &Service,
    caller: &Caller,
    flight: &FlightInfo,
) -> Result<CancelStatus, Status> {
    let mut is_cancelled = false;
    for ticket in flight.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref()) {
        let message: Any = decode(&ticket.ticket)?;
        if let Ok(Command::TicketStatementQuery(TicketStatementQuery { statement_handle })) =
            Command::try_from(message)
        {
            is_cancelled |= service.statements.cancel_ticket(caller, &statement_handle);
        }
    }
    Ok(if is_cancelled { CancelStatus::Cancelled } else { CancelStatus::NotCancellable })
}

fn progress(service: &Service, caller: &Caller, id: &str) -> Result<Bytes, Status> {
    let id = running(service, caller, id)?;
    let record = service.coordinator.history().get(&id).ok_or_else(|| not_running(&id))?;
    let now = record.progress();
    let json = serde_json::json!({
        "query_id": id,
        "state": now.state.name(),
        "rows": now.rows,
        "stages": now.n_stages,
        "tasks": now.n_tasks,
        "elapsed_ms": now.elapsed_ms,
    });
    Ok(Bytes::from(json.to_string()))
}

fn running(service: &Service, caller: &Caller, id: &str) -> Result<String, Status> {
    service.statements.running(caller, id).ok_or_else(|| not_running(id))
}

fn not_running(id: &str) -> Status {
    status(Error::user("QUERY_NOT_FOUND", format!("query \"{id}\" is not running")))
}

fn query_id(action: &Action) -> Result<String, Status> {
    let unreadable = |_error| status(Error::user("INVALID_REQUEST", "the query id is not text"));
    String::from_utf8(action.body.to_vec()).map_err(unreadable)
}

fn encode(message: &impl Message) -> Bytes {
    Bytes::from(message.encode_to_vec())
}

fn decode<M: Message + Default>(bytes: &Bytes) -> Result<M, Status> {
    M::decode(bytes.as_ref()).map_err(|error| {
        status(Error::user("INVALID_REQUEST", "the message could not be decoded").caused_by(&error))
    })
}
