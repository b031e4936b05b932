//! The Flight SQL door: what ADBC, JDBC, Power BI and our shell speak.
//!
//! ```text
//!   tonic server ─► Door ─────────────► Service ───────────────► Coordinator
//!                   who calls, which    one method per command   prepare, execute, listings
//!                   session             of Flight SQL
//! ```
//!
//! `GetFlightInfo` plans and hands out a ticket; `DoGet` takes the ticket and executes. A ticket
//! works once and only in the session that got it, so nothing is ever executed twice. Results are
//! streamed as the client takes them; a client that goes away drops its stream, and that cancels
//! its query. Nothing here may hold a whole result, and every table of handles is bounded and
//! forgets idle entries.
//!
//! Read [`service`] for the commands, [`door`] for identity and sessions, [`server`] for the
//! sockets.

mod actions;
mod door;
mod keys;
mod listing;
mod many_rows;
mod parameters;
mod results;
mod server;
mod service;
pub mod session_options;
mod sessions;
mod shelf;
mod sql_info;
mod statements;
mod status;
mod type_info;

pub use door::Door;
pub use server::{Tls, door, serve};
