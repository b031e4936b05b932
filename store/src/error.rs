//! What can go wrong in the store, one enum for the crate.
//!
//! Errors of libraries never leave the crate bare: each variant says which object or table it is about. What a caller
//! should do is told by [`Error::kind`] alone.

use crate::version::Version;

/// The store's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request has to change.
    User,
    /// The object store failed; it may work next time.
    Source,
    /// A limit was met: try again later, or with less.
    Resources,
    /// The store's own objects contradict each other, or we have a bug.
    Internal,
}

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory or prefix holds no database.
    #[error("no store database exists at \"{location}\"")]
    DatabaseNotFound {
        /// Where it was looked for.
        location: String,
    },
    /// What is at a location is no backup that could be brought up to date.
    #[error("no backup can be made at \"{location}\": {reason}")]
    NoBackup {
        /// Where.
        location: String,
        /// What is there.
        reason: String,
    },
    /// The database was written by a newer format.
    #[error("store database needs {what}, which this release does not know")]
    FormatNotSupported {
        /// The format version or feature that is missing here.
        what: String,
    },
    /// No such namespace.
    #[error("schema \"{namespace}\" does not exist in the store")]
    NamespaceNotFound {
        /// The name asked for.
        namespace: String,
    },
    /// A namespace of that name is there.
    #[error("schema \"{namespace}\" already exists in the store")]
    NamespaceExists {
        /// The name asked for.
        namespace: String,
    },
    /// A namespace with tables cannot be dropped.
    #[error("schema \"{namespace}\" still holds {n_tables} tables")]
    NamespaceNotEmpty {
        /// The namespace.
        namespace: String,
        /// How many tables it has.
        n_tables: usize,
    },
    /// No such table.
    #[error("table \"{table}\" does not exist in the store")]
    TableNotFound {
        /// `namespace.name`.
        table: String,
    },
    /// A table of that name is there.
    #[error("table \"{table}\" already exists in the store")]
    TableExists {
        /// `namespace.name`.
        table: String,
    },
    /// The table is younger than the version asked for.
    #[error("table \"{table}\" does not exist at version {asked}: it begins at version {begins}")]
    TableNotYet {
        /// `namespace.name`.
        table: String,
        /// The version asked for.
        asked: Version,
        /// The first version at which the table can be read.
        begins: Version,
    },
    /// The version has not been committed.
    #[error("version {asked} does not exist: the newest committed version is {newest}")]
    VersionNotFound {
        /// The version asked for.
        asked: Version,
        /// The newest committed one.
        newest: Version,
    },
    /// The version is older than the retained ones.
    #[error("version {asked} has expired: the oldest retained version is {oldest}")]
    VersionExpired {
        /// The version asked for.
        asked: Version,
        /// The oldest that is still served.
        oldest: Version,
    },
    /// No version was committed by that time.
    #[error("no version was committed at or before {}", shown(*ts_us))]
    TimeNotFound {
        /// Microseconds since 1970.
        ts_us: i64,
    },
    /// A table cannot be defined so.
    #[error("table \"{table}\" cannot be defined so: {reason}")]
    Definition {
        /// `namespace.name`.
        table: String,
        /// Why not.
        reason: String,
    },
    /// Rows do not fit the table.
    #[error("rows do not fit table \"{table}\": {reason}")]
    Rows {
        /// `namespace.name`.
        table: String,
        /// Why not.
        reason: String,
    },
    /// A sum left the range of its column.
    #[error("sum in column \"{column}\" left the range of its type {column_type}")]
    Overflow {
        /// The value column.
        column: String,
        /// Its type.
        column_type: String,
    },
    /// A commit of somebody else made this one void.
    #[error("commit conflicted: {reason}")]
    Conflict {
        /// What changed meanwhile.
        reason: String,
    },
    /// Others were faster, every time.
    #[error("commit gave way to other writers {attempts} times")]
    Contention {
        /// How often it was tried.
        attempts: u32,
    },
    /// A limit on sizes was met.
    #[error("{what} is {size}, more than the limit of {limit}")]
    TooLarge {
        /// What is too large, with its unit.
        what: String,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The object store failed.
    #[error("object store failed to {operation} \"{path}\"")]
    Storage {
        /// get, create, list or delete.
        operation: &'static str,
        /// The object.
        path: String,
        /// What the object store said.
        #[source]
        source: Box<object_store::Error>,
    },
    /// The object store did not answer in time.
    #[error("object store did not {operation} \"{path}\" within {deadline_s} s")]
    Deadline {
        /// get, create, list or delete.
        operation: &'static str,
        /// The object.
        path: String,
        /// How long was waited.
        deadline_s: u64,
    },
    /// The record was sent, and nobody can say yet whether it landed.
    #[error("outcome of commit {txn} at log position {lsn} is not known")]
    OutcomeUnknown {
        /// The transaction: look for it in the history before sending the rows again.
        txn: String,
        /// The position in the log that decides it.
        lsn: u64,
        /// Why the position could not be read.
        #[source]
        source: Box<Self>,
    },
    /// Our own objects contradict each other.
    #[error("store object \"{object}\" is corrupt: {evidence}")]
    Corrupt {
        /// The object.
        object: String,
        /// What does not fit.
        evidence: String,
    },
    /// A local directory cannot be used.
    #[error("store directory \"{path}\" could not be used")]
    Directory {
        /// The directory.
        path: String,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A location cannot be named.
    #[error("location of the store cannot be used")]
    Settings {
        /// What the object store said.
        #[source]
        source: Box<object_store::Error>,
    },
    /// Arrow refused what the store asked of it.
    #[error("rows could not be arranged")]
    Arrow {
        /// What Arrow said.
        #[from]
        source: arrow::error::ArrowError,
    },
    /// Parquet refused what the store asked of it.
    #[error("Parquet file could not be written or read")]
    Parquet {
        /// What Parquet said.
        #[from]
        source: parquet::errors::ParquetError,
    },
    /// A job on the blocking pool ended without a result.
    #[error("blocking job ended without a result")]
    JobLost,
}

/// Returns a time for people.
fn shown(ts_us: i64) -> String {
    let moment = chrono::DateTime::from_timestamp_micros(ts_us);
    moment.map_or_else(|| format!("{ts_us} us"), |moment| moment.to_rfc3339())
}

impl Error {
    /// Returns what a caller can do about the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::DatabaseNotFound { .. }
            | Self::NoBackup { .. }
            | Self::FormatNotSupported { .. }
            | Self::NamespaceNotFound { .. }
            | Self::NamespaceExists { .. }
            | Self::NamespaceNotEmpty { .. }
            | Self::TableNotFound { .. }
            | Self::TableExists { .. }
            | Self::TableNotYet { .. }
            | Self::VersionNotFound { .. }
            | Self::VersionExpired { .. }
            | Self::TimeNotFound { .. }
            | Self::Definition { .. }
            | Self::Rows { .. }
            | Self::Overflow { .. }
            | Self::Settings { .. } => ErrorKind::User,
            Self::Storage { .. }
            | Self::Deadline { .. }
            | Self::OutcomeUnknown { .. }
            | Self::Directory { .. } => ErrorKind::Source,
            Self::Conflict { .. } | Self::Contention { .. } | Self::TooLarge { .. } => {
                ErrorKind::Resources
            }
            Self::Corrupt { .. } | Self::Arrow { .. } | Self::Parquet { .. } | Self::JobLost => {
                ErrorKind::Internal
            }
        }
    }

    /// Says whether the very same request may succeed next time without doing anything twice.
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            Self::Storage { .. }
                | Self::Deadline { .. }
                | Self::Conflict { .. }
                | Self::Contention { .. }
        )
    }

    pub(crate) fn corrupt(object: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self::Corrupt { object: object.into(), evidence: evidence.into() }
    }
}
