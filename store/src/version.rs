//! Versions: the one sequence of updates of a database.
//!
//! A version is not a log position: creating a table takes a log position (`lsn`) and no version. Only an update does
//! both.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of an update of the database; version 0 is the database before its first update.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Version(pub u64);

impl Version {
    /// Returns the version of the next update.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The updates that a file holds, both ends included; written `[lo,hi]` in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "[u64; 2]", into = "[u64; 2]")]
pub struct VersionRange {
    /// The first update.
    pub lo: Version,
    /// The last update.
    pub hi: Version,
}

impl VersionRange {
    /// Returns the range of one update.
    pub fn single(version: Version) -> Self {
        Self { lo: version, hi: version }
    }
}

impl From<[u64; 2]> for VersionRange {
    fn from([lo, hi]: [u64; 2]) -> Self {
        Self { lo: Version(lo), hi: Version(hi) }
    }
}

impl From<VersionRange> for [u64; 2] {
    fn from(range: VersionRange) -> Self {
        [range.lo.0, range.hi.0]
    }
}
