//! Each source behind the contract: catalogs are made from properties, queries run through DataFusion.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets the unexpected has failed"
)]

mod harness;
mod lake;
mod rest;
mod store;
mod tpch;
