//! Errors of the store as users see them: named with their catalog, coded, with a hint where there is one thing to do.

use meshwork_engine::Error;
use meshwork_store::Error as StoreError;

use crate::lake::location::refusal;

/// Returns the engine's form of an error of a catalog's store.
pub(super) fn of(catalog: &str, error: &StoreError) -> Error {
    let mut translated = coded(error, format!("catalog \"{catalog}\": {error}"));
    translated.retryable = error.retryable();
    if let Some(cause) = std::error::Error::source(error) {
        translated = translated.caused_by(cause);
    }
    translated
}

fn coded(error: &StoreError, message: String) -> Error {
    match error {
        StoreError::DatabaseNotFound { .. } => Error::user("STORE_NOT_FOUND", message).with_hint(
            "CREATE SCHEMA or CREATE TABLE makes it; if it should be there, the catalog's location is wrong.",
        ),
        StoreError::NoBackup { .. } => Error::user("BACKUP_REFUSED", message)
            .with_hint("Back up into an empty location, or into a backup of this catalog."),
        StoreError::Directory { .. } => Error::source("SOURCE_UNREACHABLE", message),
        StoreError::Storage { source, .. } => match refusal(source) {
            Some((code, why)) => Error::source(code, format!("{message}: {why}")),
            None => Error::source("SOURCE_UNAVAILABLE", message),
        },
        StoreError::Deadline { .. } => Error::source("SOURCE_UNAVAILABLE", message),
        StoreError::Settings { .. } => Error::user("CATALOG_CONFIGURATION", message),
        StoreError::FormatNotSupported { .. } => Error::user("NOT_SUPPORTED", message),
        StoreError::NamespaceNotFound { .. } => Error::user("SCHEMA_NOT_FOUND", message),
        StoreError::NamespaceExists { .. } => Error::user("SCHEMA_ALREADY_EXISTS", message),
        StoreError::NamespaceNotEmpty { .. } => Error::user("SCHEMA_NOT_EMPTY", message),
        StoreError::TableNotFound { .. } => Error::user("TABLE_NOT_FOUND", message),
        StoreError::TableExists { .. } => Error::user("TABLE_ALREADY_EXISTS", message),
        StoreError::TableNotYet { .. }
        | StoreError::VersionNotFound { .. }
        | StoreError::TimeNotFound { .. } => Error::user("VERSION_NOT_FOUND", message),
        StoreError::VersionExpired { .. } => Error::user("VERSION_EXPIRED", message),
        StoreError::Definition { .. } => Error::user("INVALID_TABLE", message),
        StoreError::Rows { .. } => Error::user("ROWS_REFUSED", message),
        StoreError::Overflow { .. } => Error::user("NUMERIC_OVERFLOW", message),
        StoreError::Conflict { .. } => Error::resources("COMMIT_CONFLICT", message)
            .with_hint("Run the statement or the batch again."),
        StoreError::Contention { .. } => Error::resources("COMMIT_CONTENTION", message)
            .with_hint("Run the statement or the batch again, with fewer writers at once."),
        StoreError::TooLarge { .. } => Error::resources("BATCH_TOO_LARGE", message)
            .with_hint("Cut the rows into several batches."),
        StoreError::OutcomeUnknown { .. } => Error::source("COMMIT_OUTCOME_UNKNOWN", message)
            .with_hint("Look whether the rows are there before sending them again."),
        StoreError::Corrupt { .. } => Error::source("STORE_CORRUPT", message)
            .with_hint("Restore the named object from a backup; nothing was answered from it."),
        StoreError::Arrow { .. } | StoreError::Parquet { .. } | StoreError::JobLost => {
            Error::internal(message)
        }
    }
}
