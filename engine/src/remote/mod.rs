//! Scans of row sources: one description, one table, one plan leaf for all of them.
//!
//! ```text
//! RemoteTable (planning)  ── negotiates filters and limit with the RowSource; filters that it does not
//!   │                        do together with the others stand in a FilterExec above the leaf
//!   └─► RemoteScan        ── what was agreed: values, never SQL text, never a secret
//!         └─► RemoteScanExec (planning) ── is offered joins, aggregates and the first rows of an order
//!               └─► RemoteScanExec (execution, any node) ── one partition per group of splits
//!                     └─► RowSource::open(scan, split)
//!
//! literal, value, predicate, aggregate, join   the language of what may be agreed
//! logical, physical                      expressions of the planner in that language
//! dynamic                                filters that become known while a query runs
//! once                                   scans of one query that read the same rows
//! reading, spool                         one partition while it is read; rows put aside for those who wait
//! reason                                 why the rest was not agreed
//! rules                                  what can be switched off, by name
//! write                                  rows into a table, as one step of the source
//! ```
//! What a scan is expected to return is estimated in `statistics`, for the planner alone: it does not travel.
//! Nothing here knows how a source is asked; that is the connector's.

mod aggregate;
mod dynamic;
mod exec;
mod join;
mod literal;
mod logical;
mod once;
mod physical;
mod predicate;
mod reading;
mod reason;
mod rules;
mod scan;
mod spool;
mod statistics;
mod table;
mod value;
mod write;

pub use aggregate::{Aggregate, Function, Group, Measure};
pub use dynamic::waiting_for_joins;
pub use exec::RemoteScanExec;
pub use join::{Join, JoinKind};
pub use literal::Literal;
pub use once::reading_once;
pub use predicate::{Comparison, Predicate};
pub use reason::{Reason, ReasonCode, Refusal};
pub(crate) use rules::guarded;
pub use rules::{ALL as ALL_RULES, Rule, encoded as encoded_rules, rules_of, rules_of_keys};
pub use scan::{OrderKey, RemoteColumn, RemoteScan};
pub use statistics::of_join;
pub use table::RemoteTable;
pub use value::{Operation, Value};
pub use write::{Assigned, Change, ChangeKind, Insertion, RowWriter};
