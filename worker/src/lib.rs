//! The muscle: runs fragments, streams batches.
//!
//! A [`WorkerNode`] serves the distributed runtime's worker over gRPC and announces itself to a coordinator;
//! [`LocalWorkers`] are the same workers inside one process, without sockets. A worker keeps no state beyond
//! the tasks it runs: everything about a task arrives with it.
//!
//! ```text
//!   gate       lets requests in: secret, draining, which runtime they run on
//!   session    a task's settings, catalogs and codecs
//!   stoppable  ends a task's streams when its query has ended
//!   tasks      which tasks are here
//!   keeper     keeps waiting tasks, drops ended ones
//!   control    announcements to the coordinator, catalogs from it
//!   lender     connections to sources, counted by the coordinator
//! ```
//!
//! This crate must never import the coordinator or a concrete connector.

mod control;
mod gate;
mod keeper;
mod lender;
mod local;
mod node;
mod session;
mod stoppable;
mod tasks;

pub use local::{LocalWorkers, local};
pub use node::{WorkerConfig, WorkerNode};
pub use session::Prepare;
