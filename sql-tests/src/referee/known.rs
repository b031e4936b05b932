//! Differences that are known and not mended yet: what the generator leaves out until they are.
//!
//! Each entry says what is wrong and what is not generated because of it. Mending one means removing its entry, and
//! the code that asks for it, in the same commit.

/// One known difference.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// A short name.
    pub name: &'static str,
    /// What is wrong.
    pub what: &'static str,
    /// What is not generated.
    pub left_out: &'static str,
}

/// All of them.
pub const KNOWN: &[Known] = &[];

/// NaN and the sign of zero in Parquet.
pub(super) const LAKE_FLOATS: &str = "lake-floats";
/// Several min and max of all rows.
pub(super) const BOUNDS_OF_AGGREGATES: &str = "bounds-of-aggregates";
/// Two columns of one name.
pub(super) const SAME_NAMES: &str = "same-names";

/// Whether a difference is still known.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|known| known.name == name)
}
