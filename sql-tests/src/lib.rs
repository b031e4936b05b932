//! What the tests and the benchmark stand on: real servers on free ports, clusters of real processes, an
//! oracle to compare with, and the runner of `.slt` cases. Nothing here is a mock.
//!
//! ```text
//! cluster    `meshwork` processes: standalone, or a coordinator and workers
//! servers    PostgreSQL, MariaDB, an S3 server: in scratch folders, on free ports
//! source     one connector, asked directly
//! fixtures   small tables as Parquet files, from readable text
//! referee    random queries with pushdown, without, and over copies
//! oracle     plain DataFusion over the same files
//! listings   five catalogs with many tables
//! compare    two results as multisets of rows
//! slt        `.slt` cases through the real Flight SQL door
//! spread     TPC-H over lake, PostgreSQL, MariaDB and REST
//! tpch       the 22 queries and where their tables lie
//! ```

pub mod cluster;
pub mod compare;
pub mod fixtures;
pub mod listings;
pub mod local;
pub mod oracle;
pub mod referee;
pub mod servers;
pub mod slt;
pub mod source;
pub mod spread;
pub mod tpch;
