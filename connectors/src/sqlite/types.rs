//! What a declared type of SQLite means to the engine.
//!
//! SQLite checks no types: a declaration is a promise that each value may break. This module says what is
//! promised; `values` holds each value to it. A declaration that says nothing known becomes text.

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, TimeUnit};
use meshwork_engine::remote::RemoteColumn;
use serde::{Deserialize, Serialize};

/// What else is known of a column; travels in `RemoteColumn::detail`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Detail {
    /// Whether SQLite itself holds every value to the declaration: a column of a STRICT table, or the
    /// rowid under its own name.
    pub enforced: bool,
    /// The collation of a table's column; `None` for columns of views, where SQLite does not say.
    pub collation: Option<String>,
    /// Whether the declaration says nothing, so that numbers are read as their text.
    pub any: bool,
}

impl Detail {
    /// Returns what was recorded of the column.
    pub(super) fn of(column: &RemoteColumn) -> Self {
        serde_json::from_value(column.detail.clone()).unwrap_or_default()
    }
}

/// Returns the type that a declaration promises, or `None` where it promises nothing that we know.
pub(super) fn promised(declared: &str) -> Option<DataType> {
    let declared = declared.trim().to_ascii_uppercase();
    let (name, arguments) = match declared.split_once('(') {
        Some((name, rest)) => {
            (name.trim(), rest.split_once(')').map_or(rest, |(inside, _)| inside))
        }
        None => (declared.as_str(), ""),
    };
    match name {
        "BOOLEAN" | "BOOL" => return Some(DataType::Boolean),
        "DATE" => return Some(DataType::Date32),
        "DATETIME" | "TIMESTAMP" => return Some(DataType::Timestamp(TimeUnit::Microsecond, None)),
        "DECIMAL" | "NUMERIC" | "DEC" => return decimal(arguments),
        _ => {}
    }
    // SQLite's own rules of affinity, in its order.
    let says = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if says(&["FLOATING POINT"]) {
        // By SQLite's rules the INT in POINT would make it an integer.
        None
    } else if says(&["INT"]) {
        Some(DataType::Int64)
    } else if says(&["CHAR", "CLOB", "TEXT"]) {
        Some(DataType::Utf8)
    } else if says(&["BLOB"]) {
        Some(DataType::Binary)
    } else if says(&["REAL", "FLOA", "DOUB"]) {
        Some(DataType::Float64)
    } else {
        None
    }
}

/// Returns the decimal of `p` or `p, s`; without a precision nothing is promised.
fn decimal(arguments: &str) -> Option<DataType> {
    let mut numbers = arguments.split(',').map(str::trim);
    let precision: u8 = numbers.next()?.parse().ok().filter(|precision| *precision > 0)?;
    let scale: i8 = match numbers.next() {
        Some(scale) => scale.parse().ok()?,
        None => 0,
    };
    let fits = u8::try_from(scale).is_ok_and(|scale| scale <= precision);
    match (fits, precision) {
        (true, ..=DECIMAL128_MAX_PRECISION) => Some(DataType::Decimal128(precision, scale)),
        (true, ..=DECIMAL256_MAX_PRECISION) => Some(DataType::Decimal256(precision, scale)),
        (true | false, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_promise_types() {
        let checks = [
            ("INTEGER", Some(DataType::Int64)),
            ("unsigned big int", Some(DataType::Int64)),
            ("varchar(10)", Some(DataType::Utf8)),
            ("Double Precision", Some(DataType::Float64)),
            ("BLOB", Some(DataType::Binary)),
            ("bool", Some(DataType::Boolean)),
            ("DATE", Some(DataType::Date32)),
            ("datetime", Some(DataType::Timestamp(TimeUnit::Microsecond, None))),
            ("DECIMAL(10,2)", Some(DataType::Decimal128(10, 2))),
            ("numeric( 50 , 3 )", Some(DataType::Decimal256(50, 3))),
            ("DECIMAL(7)", Some(DataType::Decimal128(7, 0))),
            ("NUMERIC", None),
            ("DECIMAL(5,-2)", None),
            ("DECIMAL(2,5)", None),
            ("DECIMAL(100,2)", None),
            ("JSON", None),
            ("", None),
        ];
        for (declared, promised_type) in checks {
            assert_eq!(promised(declared), promised_type, "{declared}");
        }
    }
}
