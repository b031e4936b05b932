//! The parts of the one binary that tests and embedders call.

pub use meshwork_connectors as connectors;
