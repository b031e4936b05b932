//! The SQLite file of one catalog: how it is opened, and how its failures read.
//!
//! It is opened anew for each request, as that costs less than sharing, and for reading unless rows are written.

use std::path::PathBuf;
use std::time::Duration;

use meshwork_engine::{Error, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// How long a read waits for a writer that holds the file.
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// Where one catalog's rows are.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// The catalog's name, for messages.
    pub catalog: String,
    /// The file.
    pub path: PathBuf,
}

impl File {
    /// Opens the file for reading. A file that does not exist is not made.
    pub(super) fn open(&self) -> Result<Connection> {
        self.open_as(OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    /// Opens the file for writing. A file that does not exist is not made.
    pub(super) fn open_to_write(&self) -> Result<Connection> {
        let connection = self.open_as(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        // SQLite checks foreign keys only if asked.
        let checked = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true);
        checked.map_err(|error| self.failed("opening it", &error))?;
        Ok(connection)
    }

    fn open_as(&self, flags: OpenFlags) -> Result<Connection> {
        let open = || -> rusqlite::Result<Connection> {
            let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.busy_timeout(BUSY_WAIT)?;
            // A name that does not exist must be an error, not a string of that name.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
            // Views may call functions of extensions that have side effects; those are refused.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
            // The file is read here for the first time: one that is no database fails now.
            connection.query_row("SELECT count(*) FROM main.sqlite_schema", [], |_row| Ok(()))?;
            Ok(connection)
        };
        open().map_err(|error| self.failed("opening it", &error))
    }

    /// Returns what messages call the file.
    pub(super) fn named(&self) -> String {
        format!("source \"{}\" (SQLite file \"{}\")", self.catalog, self.path.display())
    }

    /// Returns the error for something that failed while `doing`.
    pub(super) fn failed(&self, doing: &str, error: &rusqlite::Error) -> Error {
        let message = format!("{} failed while {doing}", self.named());
        match error.sqlite_error_code() {
            Some(ErrorCode::CannotOpen | ErrorCode::NotADatabase | ErrorCode::PermissionDenied) => {
                Error::source("SOURCE_UNAVAILABLE", message)
                    .with_hint("Check that the file exists on every node and is a SQLite database.")
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Error::source("SOURCE_UNAVAILABLE", message).retryable()
            }
            // Whatever else SQLite says is in the causes.
            _ => Error::source("SOURCE_READ_FAILED", message),
        }
        .caused_by(error)
    }
}
