//! What the binary `meshwork` is made of: each command is a module.
//!
//! A library, so that tests start nodes the way users do. This is the only crate that knows all others.

pub mod client;
pub mod demo;
pub mod memory;
pub mod node;
pub mod shell;

pub use meshwork_connectors as connectors;
pub use meshwork_coordinator as coordinator;
pub use meshwork_worker as worker;
