//! The one error that leaves any crate of Meshwork, and how it crosses DataFusion and the wire.
//!
//! An error says what to do by its [`ErrorKind`], names itself by a stable code, and keeps both when it
//! travels inside a [`DataFusionError`] from a worker to the coordinator: it is then carried as text
//! behind a marker, because the distributed runtime ships foreign errors as strings.

use std::fmt;

use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};
use serde::{Deserialize, Serialize};

/// The result of anything that may fail for a user.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who has to act on an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The statement or its input is at fault: fix the query.
    User,
    /// A source failed: its name is in the message.
    Source,
    /// A limit was reached or a node went away: retry later or raise the limit.
    Resources,
    /// Somebody cancelled the query, or its deadline passed.
    Cancelled,
    /// Our bug: please report.
    Internal,
}

/// A place in the statement's text, both counted from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
}

/// What went wrong, where, why, and what to do about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Error {
    /// Who has to act.
    pub kind: ErrorKind,
    /// Stable upper-case name, documented in `docs/errors.md`.
    pub code: String,
    /// One line, lowercase, without a final dot; names the object and its kind.
    pub message: String,
    /// A full sentence: what to do now.
    pub hint: Option<String>,
    /// Where in the statement.
    pub location: Option<Location>,
    /// The text of the causes, outermost first.
    pub causes: Vec<String>,
    /// Whether the same statement may succeed when it is run again.
    pub retryable: bool,
}

/// Stands before the JSON form of an [`Error`] that travels inside foreign errors.
const WIRE_MARKER: &str = "meshwork-error:";
/// Stands behind it, so that text that others append does not matter.
const WIRE_END: &str = ":end-meshwork-error";

impl Error {
    /// Returns an error of the kind and code with the message.
    pub fn new(kind: ErrorKind, code: &str, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: code.to_owned(),
            message: message.into(),
            hint: None,
            location: None,
            causes: Vec::new(),
            retryable: kind == ErrorKind::Resources,
        }
    }

    /// The statement or its input is at fault.
    pub fn user(code: &str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::User, code, message)
    }

    /// The source named in the message failed.
    pub fn source(code: &str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Source, code, message)
    }

    /// A table of a source is not any more what a query was planned for; `what` names it and says what changed. The query
    /// is planned again, once.
    pub fn schema_changed(what: impl fmt::Display) -> Self {
        Self::source("SCHEMA_CHANGED", format!("the query was planned for another schema: {what}"))
            .with_hint("Somebody changed the table meanwhile: run the query again.")
            .retryable()
    }

    /// Whether this is [`Self::schema_changed`].
    pub fn is_schema_changed(&self) -> bool {
        self.code == "SCHEMA_CHANGED"
    }

    /// A limit was reached or a node went away.
    pub fn resources(code: &str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Resources, code, message)
    }

    /// A defect of Meshwork itself.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, "INTERNAL", message)
    }

    /// The query was cancelled, for the reason given.
    pub fn cancelled(reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::Cancelled, "CANCELLED", reason)
    }

    /// Something that Meshwork does not do; `what` names it.
    pub fn not_supported(what: impl fmt::Display) -> Self {
        Self::user("NOT_SUPPORTED", format!("not supported: {what}"))
    }

    /// Adds what to do now, a full sentence.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds where in the statement.
    #[must_use]
    pub fn at(mut self, location: Location) -> Self {
        self.location = Some(location);
        self
    }

    /// Adds the error that caused this one, with its own causes.
    #[must_use]
    pub fn caused_by(mut self, cause: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            let text = error.to_string();
            if self.causes.last() != Some(&text) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Says that the same statement may succeed when it is run again.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// Returns the error inside a DataFusion error: ours if one travels in it, else a classified one.
    pub fn from_datafusion(error: &DataFusionError) -> Self {
        if let Some(ours) = find_ours(error) {
            return ours;
        }
        let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
        let location =
            span.map(|span| Location { line: span.start.line, column: span.start.column });
        Self { location, ..Self::classified(error.find_root()) }
    }

    /// Returns the error that a foreign one means.
    fn classified(root: &DataFusionError) -> Self {
        let text = strip_backtrace(&root.to_string());
        // DataFusion's enum is large; whatever is not named here is a failed execution.
        match root {
            DataFusionError::SQL(..) => Self::user("SYNTAX_ERROR", lowered(&text)),
            DataFusionError::Plan(message) | DataFusionError::Configuration(message) => {
                Self::user("INVALID_QUERY", lowered(&strip_backtrace(message)))
            }
            DataFusionError::SchemaError(schema_error, _) => schema_error_of(schema_error, &text),
            DataFusionError::NotImplemented(message) => {
                Self::not_supported(lowered(without_tree(&strip_backtrace(message))))
            }
            DataFusionError::ResourcesExhausted(message) => {
                Self::resources("MEMORY_EXHAUSTED", lowered(&strip_backtrace(message)))
                    .with_hint("Raise the memory limit of the node, or make the query smaller.")
            }
            DataFusionError::ArrowError(arrow, _) => arrow_error(arrow, &text),
            DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => {
                Self::source("SOURCE_READ_FAILED", lowered(&text))
            }
            DataFusionError::ParquetError(_) => Self::source("CORRUPT_FILE", lowered(&text)),
            DataFusionError::Internal(message) => {
                Self::internal(lowered(&strip_backtrace(message)))
            }
            // So says an average of decimals whose sum has more digits than there can be.
            DataFusionError::Execution(message) if message.starts_with("Arithmetic Overflow") => {
                Self::user("NUMERIC_OVERFLOW", lowered(&strip_backtrace(message)))
            }
            _ => Self::user("EXECUTION_FAILED", lowered(&text)),
        }
    }
}

/// Returns a wrong column name as such; its message goes on with what names there are.
fn schema_error_of(error: &SchemaError, text: &str) -> Error {
    let text = text.trim_start_matches("Schema error: ");
    let (message, hint) = text.split_once('\n').unwrap_or((text, ""));
    let message = lowered(message.trim_end_matches('.'));
    let error = match error {
        SchemaError::FieldNotFound { .. } => Error::user("COLUMN_NOT_FOUND", message),
        SchemaError::AmbiguousReference { .. } => Error::user("AMBIGUOUS_COLUMN", message),
        SchemaError::DuplicateQualifiedField { .. }
        | SchemaError::DuplicateUnqualifiedField { .. } => Error::user("DUPLICATE_COLUMN", message),
    };
    if hint.is_empty() { error } else { error.with_hint(hint) }
}

/// Returns an arithmetic failure as the user's, anything else of Arrow's as a failed execution.
fn arrow_error(error: &ArrowError, text: &str) -> Error {
    // Arrow's other variants all mean that values could not be processed as asked.
    match error {
        ArrowError::ArithmeticOverflow(_) => Error::user("NUMERIC_OVERFLOW", lowered(text)),
        // So says a cast to a decimal of fewer digits.
        ArrowError::InvalidArgumentError(message) if message.contains("to store in a Decimal") => {
            Error::user("NUMERIC_OVERFLOW", lowered(message))
        }
        ArrowError::DivideByZero => Error::user("DIVISION_BY_ZERO", "division by zero"),
        ArrowError::CastError(message) | ArrowError::ParseError(message) => {
            Error::user("INVALID_CAST", lowered(message))
        }
        ArrowError::ParquetError(_) => Error::source("CORRUPT_FILE", lowered(text)),
        _ => Error::user("EXECUTION_FAILED", lowered(text)),
    }
}

/// Finds an [`Error`] that travels in `error`: as itself, or as marked text.
fn find_ours(error: &DataFusionError) -> Option<Error> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = next {
        if let Some(wire) = current.downcast_ref::<Wire>() {
            return Some(wire.0.clone());
        }
        next = current.source();
    }
    parse_wire(&error.to_string())
}

fn parse_wire(text: &str) -> Option<Error> {
    let (_, rest) = text.split_once(WIRE_MARKER)?;
    let (json, _) = rest.split_once(WIRE_END)?;
    serde_json::from_str(json).ok()
}

/// DataFusion appends a backtrace to some messages; users never see it.
fn strip_backtrace(text: &str) -> String {
    text.split("\n\nbacktrace:").next().unwrap_or(text).trim_end().to_owned()
}

/// Some messages end with the whole syntax tree of what they are about; its name is enough.
fn without_tree(text: &str) -> &str {
    match text.split_once(" {") {
        Some((begin, _tree)) => begin.split('(').next().unwrap_or(begin),
        None => text,
    }
}

/// Makes a foreign message read like ours: first letter lowercase unless it starts an acronym.
fn lowered(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Location { line, column }) = self.location {
            write!(f, "line {line}:{column}: ")?;
        }
        write!(f, "{}", self.message)
    }
}

impl std::error::Error for Error {}

/// Carries an [`Error`] inside a [`DataFusionError`]; its text survives a trip as a string.
#[derive(Debug, Clone)]
struct Wire(Error);

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_string(&self.0).map_err(|_error| fmt::Error)?;
        write!(f, "{WIRE_MARKER}{json}{WIRE_END}")
    }
}

impl std::error::Error for Wire {}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(Wire(error)))
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        Self::from_datafusion(&error)
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        Self::from_datafusion(&DataFusionError::from(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_datafusion_and_a_trip_as_text() {
        let error = Error::source("SOURCE_UNAVAILABLE", "source \"pg\" did not answer")
            .with_hint("Check that it runs.")
            .at(Location { line: 2, column: 7 });
        let inside = DataFusionError::from(error.clone()).context("while scanning");
        assert_eq!(Error::from_datafusion(&inside), error);
        let as_text = DataFusionError::Execution(format!("task 3 failed: {inside} (worker 2)"));
        assert_eq!(Error::from_datafusion(&as_text), error);
    }

    #[test]
    fn what_is_not_supported_is_named_without_its_tree() {
        let tree = "unsupported expression InSubquery(InSubquery { expr: Column { name: \"a\" } })";
        let error = Error::from(DataFusionError::NotImplemented(tree.to_owned()));
        assert_eq!(error.message, "not supported: unsupported expression InSubquery");
    }

    #[test]
    fn overflow_is_the_users_error() {
        let overflow = ArrowError::ArithmeticOverflow("1 + 2".into());
        let error = Error::from(overflow);
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::User, "NUMERIC_OVERFLOW"));
        let average = DataFusionError::Execution("Arithmetic Overflow in AvgAccumulator".into());
        assert_eq!(Error::from_datafusion(&average).code, "NUMERIC_OVERFLOW");
    }
}
