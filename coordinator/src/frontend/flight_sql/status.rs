//! Our errors as gRPC statuses: a code for programs, one readable line for people, and the whole
//! error as JSON in the trailer [`ERROR_TRAILER`] for our shell.
//!
//! Never sends a Debug text.

use std::fmt::Write;

use meshwork_engine::{Error, ErrorKind, Location};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// Carries the error as JSON, in ASCII.
pub(super) const ERROR_TRAILER: &str = "x-meshwork-error";

/// Headers are small: clients refuse more than 8 or 16 KiB of them in all.
const TRAILER_BYTES_MAX: usize = 4096;
const MESSAGE_CHARS_MAX: usize = 2000;

/// Returns the status that tells a client of the error.
#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
pub(super) fn status(error: Error) -> Status {
    let mut status = Status::new(code(&error), message(&error));
    if let Some(value) = trailer(&error) {
        status.metadata_mut().insert(ERROR_TRAILER, value);
    }
    status
}

/// Returns the status of anything that converts to our error.
pub(super) fn status_of(error: impl Into<Error>) -> Status {
    status(error.into())
}

fn code(error: &Error) -> Code {
    match error.kind {
        ErrorKind::User => user_code(&error.code),
        ErrorKind::Source => Code::Unavailable,
        ErrorKind::Resources => Code::ResourceExhausted,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Internal => Code::Internal,
    }
}

fn user_code(code: &str) -> Code {
    match code {
        "NOT_SUPPORTED" => Code::Unimplemented,
        "AUTHENTICATION_FAILED" => Code::Unauthenticated,
        "ACCESS_DENIED" => Code::PermissionDenied,
        code if code.ends_with("_NOT_FOUND") => Code::NotFound,
        code if code.ends_with("_EXISTS") => Code::AlreadyExists,
        _ => Code::InvalidArgument,
    }
}

/// Returns `CODE: message (line:column)`, then the hint on a line of its own.
fn message(error: &Error) -> String {
    let mut text = format!("{}: ", error.code);
    text.extend(error.message.chars().take(MESSAGE_CHARS_MAX));
    if let Some(Location { line, column }) = error.location {
        text.push_str(&format!(" ({line}:{column})"));
    }
    if let Some(hint) = &error.hint {
        text.push('\n');
        text.push_str(hint);
    }
    text
}

fn trailer(error: &Error) -> Option<MetadataValue<tonic::metadata::Ascii>> {
    let full = ascii_json(error)?;
    let json = match full.len() <= TRAILER_BYTES_MAX {
        true => full,
        false => {
            let message = error.message.chars().take(MESSAGE_CHARS_MAX / 4).collect();
            ascii_json(&Error { causes: Vec::new(), message, ..error.clone() })?
        }
    };
    MetadataValue::try_from(json).ok()
}

/// Returns the value as JSON in which everything beyond ASCII is escaped, so that it fits a header.
pub(super) fn ascii_json(value: &impl serde::Serialize) -> Option<String> {
    let json = serde_json::to_string(value).ok()?;
    let mut ascii = String::with_capacity(json.len());
    for letter in json.chars() {
        if letter.is_ascii() {
            ascii.push(letter);
            continue;
        }
        let mut units = [0; 2];
        for unit in letter.encode_utf16(&mut units) {
            write!(ascii, "\\u{unit:04x}").ok()?;
        }
    }
    Some(ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_carries_code_position_hint_and_the_whole_error() {
        let error = Error::user("COLUMN_NOT_FOUND", "column \"größe\" does not exist")
            .at(Location { line: 2, column: 8 })
            .with_hint("Did you mean \"groesse\"?");
        let status = status(error.clone());
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(
            status.message(),
            "COLUMN_NOT_FOUND: column \"größe\" does not exist (2:8)\nDid you mean \"groesse\"?"
        );
        let trailer = status.metadata().get(ERROR_TRAILER).unwrap().to_str().unwrap();
        assert_eq!(serde_json::from_str::<Error>(trailer).unwrap(), error);
    }

    #[test]
    fn a_long_error_still_fits_a_header() {
        let mut error = Error::internal("x".repeat(100_000));
        error.causes = vec!["y".repeat(100_000)];
        let status = status(error);
        assert!(status.metadata().get(ERROR_TRAILER).unwrap().len() <= TRAILER_BYTES_MAX);
        assert!(status.message().len() <= MESSAGE_CHARS_MAX + 100);
    }
}
