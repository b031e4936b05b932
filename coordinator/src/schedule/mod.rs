//! When and how often a query runs: admission, the driver on a runtime for computing, deadlines, retries.
//!
//! [`admission`] bounds how many queries run and wait; [`run`] drives one planned query to its stream and
//! runs it again while no row has left. Nothing here knows how a plan is made.

mod admission;
mod run;

pub use admission::{Admission, Admitted};
pub use run::{Planned, Retry, RunOptions, run};
