//! The native versioned delta store: tables of sorted Parquet deltas under one log, on any object store.
//!
//! ```text
//! Database ── batch() ──► Batch ── insert(table, rows)* ── commit() ──► Committed { version }
//!    │                                 sort, fold, Parquet    one record of the log: all tables or nothing
//!    └── snapshot(at) ──► Snapshot ── table(name) ──► TableSnapshot ── files() ──► queries plan their scans
//! ```
//!
//! One sequence of versions counts the updates of the whole database; every retained version can be read. An aggregate
//! table has one row per key, and values of a key fold in version order; of a unique table the newest row of a key counts. Many processes write at once with no service
//! between them: the only thing asked of the object store is that creating an object fails if it is there.
//!
//! The store knows no SQL and no DataFusion, and imports nothing of ours. Time, randomness and the blocking pool are
//! handed in through [`Environment`]. Read [`log`] next: it holds the commit protocol.

#![warn(missing_docs, clippy::missing_errors_doc)]
#![warn(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::wildcard_enum_match_arm
)]

mod backup;
mod batch;
mod check;
mod checksum;
mod compact;
mod database;
mod delta;
mod durable;
pub mod encoding;
mod environment;
mod error;
mod export;
mod history;
mod location;
pub mod log;
mod maintain;
mod names;
mod objects;
pub mod policy;
mod restore;
mod rollup;
mod sealed;
mod snapshot;
pub mod stats;
mod table;
mod vacuum;
mod version;

pub use backup::BackedUp;
pub use batch::{BATCH_BYTES_MAX, Batch};
pub use check::{CheckDepth, Problem};
pub use checksum::Checksum;
pub use compact::{CompactOptions, Compacted};
pub use database::{Database, Options};
pub use delta::merge::{MergeRuns, Run};
pub use durable::DurableLocal;
pub use environment::{Environment, SystemEnvironment};
pub use error::{Error, ErrorKind, Result};
pub use export::{EXPORT_DELTA, EXPORT_PROPERTY, Exported};
pub use location::Location;
pub use log::commit::Committed;
pub use log::deltas::{Delta, DeltaId, Deltas};
pub use log::record::{
    App, CloneOf, ColumnStats, FileChecksums, FileEntry, Merge, Operation, Record, TableChange,
    TransactionId,
};
pub use log::state::{AppState, State, TableState};
pub use snapshot::{ReadAt, Snapshot, TableSnapshot};
pub use table::{
    Alteration, Column, ColumnRole, ColumnSpec, ColumnType, DELETED_COLUMN, InFile, Rollup,
    TableDef, TableId, TableKind, TableSpec, TimeUnit, ValueFunction,
};
pub use vacuum::{VacuumOptions, Vacuumed};
pub use version::{Version, VersionRange};
