//! `meshwork demo`: sample sources, a cluster in this process, three queries, and an open door.
//!
//! [`tpch`] writes tables as Parquet, [`rest`] serves rows over HTTP; the tests and the benchmark use both.

pub mod rest;
pub mod tpch;
