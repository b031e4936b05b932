//! What the driver reports, in our words: who has to act, and never a secret.

use meshwork_engine::Error;
use tokio_postgres::error::SqlState;

use super::configuration::Configuration;
use super::protocol::Failure;
use crate::relational::{rows_refused, table_exists};

/// Returns the error of a statement or of the connection that carried it.
pub(super) fn of_statement(configuration: &Configuration, error: &tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(reported) => said(configuration, reported.code(), reported.message()),
        None => lost(configuration).caused_by(error),
    }
}

/// Returns the error of a statement whose rows are read, or of the session that reads them.
pub(super) fn of_reading(configuration: &Configuration, failure: &Failure) -> Error {
    match failure {
        Failure::Server { code, message } => {
            said(configuration, &SqlState::from_code(code), message)
        }
        Failure::Lost(error) => lost(configuration).caused_by(error),
        Failure::Refused(what) => {
            let refused = format!("{}: {what}", configuration.display_name());
            Error::source("SOURCE_AUTHENTICATION", refused)
        }
        Failure::Protocol(what) => {
            let source = configuration.display_name();
            Error::source("SOURCE_PROTOCOL", format!("{source} sent {what}")).retryable()
        }
    }
}

fn lost(configuration: &Configuration) -> Error {
    let source = configuration.display_name();
    Error::source("SOURCE_UNAVAILABLE", format!("{source} closed the connection")).retryable()
}

/// Returns the error for what the server says.
fn said(configuration: &Configuration, code: &SqlState, said: &str) -> Error {
    let source = configuration.display_name();
    if code.code().starts_with("28") {
        return Error::source(
            "SOURCE_AUTHENTICATION",
            format!("{source} refused the user: {said}"),
        )
        .with_hint("Check the catalog's user, password and database, and the server's pg_hba.");
    }
    if *code == SqlState::TOO_MANY_CONNECTIONS {
        let full = format!("{source} takes no more connections: {said}");
        return Error::resources("SOURCE_CONNECTIONS_EXHAUSTED", full)
            .with_hint("Lower connections_max of the catalog, or raise it on the server.");
    }
    if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        return Error::source("SOURCE_PERMISSION_DENIED", format!("{source}: {said}"));
    }
    if *code == SqlState::QUERY_CANCELED {
        return Error::source("SOURCE_DEADLINE_EXCEEDED", format!("{source}: {said}"))
            .with_hint("Raise statement_deadline_seconds of the catalog if it may take longer.");
    }
    let failed = format!("{source} failed: {said} (SQLSTATE {})", code.code());
    // No such column, table, schema, operator of these types, type: our statements name only what was there.
    if ["42703", "42P01", "3F000", "42883", "42804", "42704"].contains(&code.code()) {
        return Error::schema_changed(failed);
    }
    let failed = Error::source("SOURCE_QUERY_FAILED", failed);
    // Classes that pass: shutdown, serialization, and a snapshot whose holder went away.
    let passes = ["57P", "40", "22023", "08"].iter().any(|class| code.code().starts_with(class));
    if passes { failed.retryable() } else { failed }
}

/// Returns the error of a statement in a user's own words, who may name what was never there.
pub(super) fn of_query(error: Error) -> Error {
    match error.is_schema_changed() {
        false => error,
        true => {
            let message = error.message.split_once(": ").map_or(&*error.message, |(_, said)| said);
            Error::source("SOURCE_QUERY_FAILED", message)
        }
    }
}

/// Returns the error of a statement that writes a table, or makes or drops it.
pub(super) fn of_write(
    configuration: &Configuration,
    table: &str,
    error: &tokio_postgres::Error,
) -> Error {
    let Some(reported) = error.as_db_error() else { return of_statement(configuration, error) };
    let (code, said) = (reported.code().code(), reported.message());
    let said = format!("{said} (SQLSTATE {code})");
    match code {
        "42P07" | "42710" => table_exists(table),
        "42P06" => {
            Error::user("SCHEMA_ALREADY_EXISTS", format!("schema \"{table}\" exists already"))
        }
        "3F000" => Error::user("SCHEMA_NOT_FOUND", said),
        "42P01" => Error::user("TABLE_NOT_FOUND", said),
        "2BP01" | "42809" => Error::user("DROP_REFUSED", format!("table \"{table}\": {said}")),
        // Values, constraints, CHECK OPTION of a view, values for generated columns, what a view cannot take.
        _ if code.starts_with("22") || code.starts_with("23") => rows_refused(table, said),
        "42P10" | "428C9" | "44000" | "55000" => rows_refused(table, said),
        _ => of_statement(configuration, error),
    }
}

/// Returns the error of an attempt to connect.
pub(super) fn of_connect(configuration: &Configuration, error: &tokio_postgres::Error) -> Error {
    if error.as_db_error().is_some() {
        return of_statement(configuration, error);
    }
    let cause = std::error::Error::source(error).map(ToString::to_string);
    if cause.is_some_and(|cause| cause.contains("password")) {
        let refused = format!("{} asks for a password", configuration.display_name());
        return Error::source("SOURCE_AUTHENTICATION", refused).caused_by(error);
    }
    unavailable(configuration).caused_by(error)
}

/// Returns the error of an attempt to open a session that reads.
pub(super) fn of_login(configuration: &Configuration, failure: &Failure) -> Error {
    match failure {
        Failure::Lost(error) => unavailable(configuration).caused_by(error),
        Failure::Server { .. } | Failure::Refused(_) | Failure::Protocol(_) => {
            of_reading(configuration, failure)
        }
    }
}

/// The error for a server that does not answer.
pub(super) fn unavailable(configuration: &Configuration) -> Error {
    Error::source(
        "SOURCE_UNAVAILABLE",
        format!("{} could not be reached", configuration.display_name()),
    )
    .with_hint("Check that it runs and that this node may connect to it.")
}
