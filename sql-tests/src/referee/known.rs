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
pub const KNOWN: &[Known] = &[
    Known {
        name: "lake-nan",
        what: "statistics of Parquet leave NaN out, so that x > 5 skips row groups that hold NaN, which is greater here",
        left_out: "NaN in columns of lake tables",
    },
    Known {
        name: SAME_NAMES,
        what: "DataFusion pushes a filter of a physical plan by the column's name, to the first of that name, where a join has two",
        left_out: "differences that are gone when every column of the query has a name of its own: they are counted",
    },
];

/// Two columns of one name.
pub(super) const SAME_NAMES: &str = "same-names";

/// Whether a difference is still known.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|known| known.name == name)
}

/// Whether floats of lake tables may be NaN.
pub(super) fn lake_has_nan() -> bool {
    !is_known("lake-nan")
}
