//! What the server or the transport says, in our words: who has to act, and never a secret.

use arrow_flight::error::FlightError;
use meshwork_engine::Error;
use tonic::{Code, Status};

use super::options::Options;

/// Letters of a server's message that are repeated.
const MESSAGE_LETTERS_MAX: usize = 1_000;

/// Returns the error of a call.
pub(super) fn of_status(options: &Options, status: &Status) -> Error {
    let source = options.display_name();
    if of_transport(status) {
        return unavailable(options).caused_by(status);
    }
    let said: String = status.message().chars().take(MESSAGE_LETTERS_MAX).collect();
    // Whatever else there is is the server's opinion of the statement.
    match status.code() {
        Code::Unauthenticated => {
            Error::source("SOURCE_AUTHENTICATION", format!("{source} refused the caller: {said}"))
                .with_hint("Check the catalog's token, or its user and password.")
        }
        Code::PermissionDenied => {
            Error::source("SOURCE_PERMISSION_DENIED", format!("{source}: {said}"))
        }
        Code::DeadlineExceeded => {
            Error::source("SOURCE_DEADLINE_EXCEEDED", format!("{source}: {said}"))
        }
        // It answered, so it is there: something that it needs is not.
        Code::ResourceExhausted | Code::Unavailable => {
            Error::source("SOURCE_QUERY_FAILED", format!("{source}: {said}")).retryable()
        }
        _ => Error::source("SOURCE_QUERY_FAILED", format!("{source} failed: {said}")),
    }
}

/// Whether the call never came to an answer: no connection, or none that is trusted. Its code says nothing.
fn of_transport(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::transport::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Returns the error of a stream.
pub(super) fn of_flight(options: &Options, error: &FlightError) -> Error {
    // Whatever else Flight may say is a failure to understand each other.
    match error {
        FlightError::Tonic(status) => of_status(options, status),
        other => protocol(options, "what it sent cannot be read").caused_by(other),
    }
}

/// The error for an answer that is not what the protocol says.
pub(super) fn protocol(options: &Options, what: &str) -> Error {
    Error::source("SOURCE_PROTOCOL", format!("{}: {what}", options.display_name()))
}

/// The error for a server that does not answer.
pub(super) fn unavailable(options: &Options) -> Error {
    let source = options.display_name();
    Error::source("SOURCE_UNAVAILABLE", format!("{source} could not be reached"))
        .with_hint("Check that it runs and that this node may connect to it.")
}
