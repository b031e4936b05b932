//! Scans of row sources: one description, one table, one plan leaf for all of them.
//!
//! ```text
//! RemoteTable (planning)  ── negotiates filters and limit with the RowSource; filters that it does not
//!   │                        do together with the others stand in a FilterExec above the leaf
//!   └─► RemoteScan        ── what was agreed: values, never SQL text, never a secret
//!         └─► RemoteScanExec (execution, any node) ── one partition per group of splits
//!               └─► RowSource::open(scan, split)
//! ```
//! What a scan is expected to return is estimated in `statistics`, for the planner alone: it does not travel.
//! Nothing here knows how a source is asked; that is the connector's.

mod exec;
mod predicate;
mod scan;
mod statistics;
mod table;

pub use exec::RemoteScanExec;
pub use predicate::{Comparison, Literal, Predicate};
pub use scan::{RemoteColumn, RemoteScan};
pub use table::{Refusal, RemoteTable};
