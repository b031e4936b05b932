//! The mind of Meshwork: SQL text in, fragments out, rows back.
//!
//! The modules are a query's life, in this order:
//!
//! ```text
//! frontend   SQL text comes in, rows go out
//! session    who asks: user, default names, settings
//! query      one query from text to stream: the only caller of the steps below
//! parse      text → statement
//! resolve    names → tables
//! plan       statement → logical plan
//! statements what is not a query: SHOW, CREATE, DROP, SET
//! explain    a plan as text, with what was pushed into sources and what was not
//! reduce     small sides first: what a source is to know is computed before the rest
//! rollups    scans of versioned tables that a rollup answers with fewer rows
//! order      joins in the order that costs least
//! pushdown   work above scans moved into their sources
//! fragment   logical → physical plan, cut at exchanges into stages
//! schedule   admission, the driver, deadlines, retries
//! cluster    which workers live
//! results    last stage → client, with back-pressure
//! history    what runs and what ran
//! ```
//!
//! This crate must never import a worker or a concrete connector.

pub mod cluster;
mod explain;
pub mod fragment;
pub mod frontend;
mod history;
mod order;
mod parse;
mod plan;
mod pushdown;
mod quarantine;
mod query;
mod reduce;
mod resolve;
mod results;
mod rollups;
pub mod schedule;
mod session;
mod statements;
mod types;

pub use history::{History, ProgressSnapshot, QueryRecord, QueryState};
pub use quarantine::Quarantine;
pub use query::{Coordinator, CoordinatorParts, Prepared, PreparedPlan, Running, StatementKind};
pub use resolve::{
    Definitions, NodeRow, Nodes, Resolver, SystemTables, View, like, read_catalog_files,
};
pub use session::{Identity, SETTINGS, Session, Setting, Snapshot};
pub use types::sql_name;
