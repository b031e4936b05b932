//! What the binary `meshwork` is made of: each command is a module.

pub mod client;
pub mod demo;

pub use meshwork_connectors as connectors;
