//! The log: one sequence of records per database, and the state that is its fold.
//!
//! ```text
//! _db.json <-prev- record 1 <-prev- record 2 <-prev- ... <-prev- record n      each created by put-if-absent
//!                      \                 \                            \
//!                       fold -> State 1 -> State 2 ->       ...       -> State n = what a reader sees
//! ```
//!
//! [`record`] is the format, [`state`] the fold with its invariants, [`commit`] the protocol by which many writers
//! without a service agree on the next record, [`conflicts`] what that refuses, [`deltas`] which files a version is read from,
//! [`checkpoint`] what bounds the time to open a long log. Nothing here knows how data files are made.

pub(crate) mod checkpoint;
pub(crate) mod commit;
pub(crate) mod conflicts;
pub mod deltas;
pub(crate) mod reader;
pub mod record;
pub mod state;
