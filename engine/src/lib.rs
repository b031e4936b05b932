//! What all nodes of Meshwork agree on: errors, names, catalogs, the contract with a source, remote
//! scans and their codec, settings, time and tasks.
//!
//! This crate must never know a concrete source, a front door or the store. Read [`connector`] first:
//! it is the contract; then [`remote`], the one leaf that serves all row sources.
#![warn(missing_docs, clippy::missing_errors_doc)]

pub mod catalog;
pub mod codec;
pub mod connections;
pub mod connector;
pub mod environment;
pub mod error;
pub mod functions;
pub mod join_side;
pub mod named_files;
pub mod node;
pub mod remote;
pub mod scope;
pub mod settings;
pub mod statistics;
pub mod stop;
pub mod telemetry;
pub mod versioned;

pub use error::{Error, ErrorKind, Location, Result};
