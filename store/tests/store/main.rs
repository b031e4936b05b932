//! The store from outside: against a model, against object stores that fail, lie and die, against killed processes.
//!
//! One binary for all, so that the helpers in `support` are compiled once.

#![expect(
    clippy::unwrap_used,
    clippy::get_unwrap,
    clippy::panic,
    reason = "a test that meets the unexpected has failed"
)]

mod alter;
mod backups;
mod exports;
mod faults;
mod format;
mod kills;
mod model;
mod rollups;
mod support;
mod unique;
mod writers;
