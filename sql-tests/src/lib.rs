//! What the tests share: real servers on free ports, and ways to ask a connector.
//!
//! Nothing here is a mock: a source is the program that users run.

pub mod servers;
pub mod source;
