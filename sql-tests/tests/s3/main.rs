//! Everything that Meshwork keeps in an object store, kept by a real S3 server, started here.

mod cluster;
mod harness;
mod lake;
mod server;
mod store;
