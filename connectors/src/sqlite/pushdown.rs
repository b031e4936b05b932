//! What SQLite is asked to filter, and how it is said.
//!
//! A column may hold values of any type, so most answers are `Inexact`: SQLite returns at least the rows
//! that pass, the engine checks again. That holds because a value that breaks its declaration is an error
//! or NULL here, and so never passes. Floats, decimals and timestamps are never offered to SQLite: their
//! stored forms vary.

use arrow::datatypes::DataType;
use meshwork_engine::connector::Outcome;
use meshwork_engine::remote::{Comparison, Literal, Reason, ReasonCode, RemoteColumn};
use meshwork_engine::{Error, Result};

use super::Mismatch;
use super::types::Detail;
use crate::relational::negotiate::refused;
use crate::relational::{Agreement, Dialect, Rules, Test, date_text, timestamp_text};

/// SQLite refuses longer patterns for GLOB at 50,000 bytes; each letter may take three.
const PREFIX_BYTES_MAX: usize = 1000;

/// Digits of a decimal that a double holds exactly; SQLite has nothing wider for fractions.
const DECIMAL_DIGITS_MAX: usize = 15;

/// How SQLite spells names and values.
#[derive(Debug)]
pub(super) struct Sqlite;

impl Dialect for Sqlite {
    /// A name in double quotes that does not exist would be read as a string.
    fn identifier_quote(&self) -> char {
        '`'
    }

    /// Timestamps become the text that `write` binds; decimals only those that a double holds.
    fn assigned(&self, value: &Literal, column: &RemoteColumn) -> Result<String> {
        match value {
            Literal::Timestamp { micros, .. } => Ok(format!("'{}'", timestamp_text(*micros)?)),
            Literal::Decimal { unscaled, .. } if unscaled.len() > DECIMAL_DIGITS_MAX => {
                Err(Error::not_supported("a decimal of so many digits in SQLite"))
            }
            Literal::Bool(_)
            | Literal::Int(_)
            | Literal::UInt(_)
            | Literal::Float(_)
            | Literal::Decimal { .. }
            | Literal::Text(_)
            | Literal::Bytes(_)
            | Literal::Date(_) => self.literal(value, column),
        }
    }

    fn boolean(&self, value: bool) -> &'static str {
        if value { "1" } else { "0" }
    }

    fn date(&self, days: i32) -> Result<String> {
        Ok(format!("'{}'", date_text(days)?))
    }

    fn timestamp(&self, _micros: i64, _instant: bool) -> Result<String> {
        Err(Error::not_supported("a timestamp in a statement for SQLite"))
    }

    /// SQLite reads a million bytes of a statement.
    fn condition_bytes_max(&self) -> usize {
        500_000
    }

    /// LIKE ignores case in SQLite; GLOB does not.
    fn like(&self, column: &RemoteColumn, pieces: &[String]) -> Result<String> {
        let prefix = prefix_of(pieces)
            .ok_or_else(|| Error::not_supported("more than a prefix in a statement for SQLite"))?;
        let mut pattern = String::with_capacity(prefix.len() + 1);
        for letter in prefix.chars() {
            match letter {
                '*' | '?' | '[' => pattern.extend(['[', letter, ']']),
                _ => pattern.push(letter),
            }
        }
        pattern.push('*');
        Ok(format!("{} GLOB {}", self.tested(column)?, self.string(&pattern)?))
    }
}

/// Returns what a pattern asks the beginning to be, if it asks nothing else.
fn prefix_of(pieces: &[String]) -> Option<&str> {
    match pieces {
        [prefix, rest] if rest.is_empty() => Some(prefix),
        _ => None,
    }
}

/// What a file of a catalog with such a policy is known to do.
#[derive(Debug)]
pub(super) struct SqliteRules(pub(super) Mismatch);

impl Rules for SqliteRules {
    fn test(&self, column: &RemoteColumn, test: Test<'_>) -> Outcome {
        tested(self.0, column, test)
    }

    fn groups(&self, column: &RemoteColumn) -> Agreement {
        let detail = Detail::of(column);
        let is_text = column.data_type == DataType::Utf8;
        match detail.collation.as_deref() {
            Some("BINARY") if is_text && detail.enforced => Ok(()),
            Some(collation) if is_text && collation != "BINARY" => {
                Err(Reason::new(ReasonCode::Collation, of_collation(column, collation)))
            }
            _ => self.orders(column),
        }
    }

    fn orders(&self, column: &RemoteColumn) -> Agreement {
        match column.data_type == DataType::Int64 && Detail::of(column).enforced {
            true => Ok(()),
            false => Err(unforced(column)),
        }
    }
}

fn unforced(column: &RemoteColumn) -> Reason {
    let RemoteColumn { name, remote_type, .. } = column;
    let message = format!(
        "column {name} of type {remote_type} may hold values of other types, or in other forms"
    );
    Reason::new(ReasonCode::Type, message)
}

fn of_collation(column: &RemoteColumn, collation: &str) -> String {
    format!("column {} is compared there by the collation {collation}", column.name)
}

/// Answers one test of one column.
fn tested(mismatch: Mismatch, column: &RemoteColumn, test: Test<'_>) -> Outcome {
    let detail = Detail::of(column);
    let integers = column.data_type == DataType::Int64;
    if matches!(test, Test::Null) {
        let hidden = mismatch == Mismatch::Null && !(detail.enforced && integers);
        return match hidden {
            true => {
                refused(ReasonCode::Null, "values that break their declaration are read as NULL")
            }
            false => Outcome::Exact,
        };
    }
    if detail.any {
        return Outcome::Refused(unforced(column));
    }
    // Types that are not listed stay with the engine.
    match column.data_type {
        DataType::Int64 if test.values().iter().all(is_integer) => answer(detail.enforced),
        DataType::Boolean if test.values().iter().all(|v| matches!(v, Literal::Bool(_))) => {
            equality_only(test, Outcome::Inexact)
        }
        DataType::Utf8 => text(mismatch, column, &detail, test),
        DataType::Binary if test.values().iter().all(|v| matches!(v, Literal::Bytes(_))) => {
            equality_only(test, answer(detail.enforced))
        }
        DataType::Date32 if !known_collation(&detail) => foreign_collation(column, &detail),
        // Dates that are read at all are YYYY-MM-DD, so their text compares as they do.
        DataType::Date32 if test.values().iter().all(|v| matches!(v, Literal::Date(_))) => {
            Outcome::Inexact
        }
        _ => Outcome::Refused(unforced(column)),
    }
}

fn text(mismatch: Mismatch, column: &RemoteColumn, detail: &Detail, test: Test<'_>) -> Outcome {
    if !known_collation(detail) {
        return foreign_collation(column, detail);
    }
    if !test.values().iter().all(|value| matches!(value, Literal::Text(_))) {
        return refused(ReasonCode::Literal, "text is compared with text only");
    }
    let collation = detail.collation.as_deref().unwrap_or_default();
    if collation != "BINARY" {
        // NOCASE and RTRIM find more rows than the same bytes.
        return match test.is_equality() {
            true => Outcome::Inexact,
            false => refused(ReasonCode::Collation, &of_collation(column, collation)),
        };
    }
    let exact = answer(detail.enforced && mismatch == Mismatch::Error);
    match test {
        // GLOB ends at a NUL in the text, and there may be one.
        Test::Like(pieces) => match prefix_of(pieces) {
            None => refused(ReasonCode::Pattern, "SQLite is asked for beginnings of text only"),
            Some(prefix) if prefix.len() > PREFIX_BYTES_MAX => {
                refused(ReasonCode::Size, "the prefix is too long for SQLite")
            }
            Some(_) => exact,
        },
        Test::Compare(Comparison::Equal | Comparison::NotEqual, _)
        | Test::In(_)
        | Test::NotIn(_) => exact,
        Test::Compare(..) => {
            refused(ReasonCode::CharacterSet, "the order of text depends on the file's encoding")
        }
        Test::Null => exact,
    }
}

fn equality_only(test: Test<'_>, outcome: Outcome) -> Outcome {
    match test.is_equality() || test.is_inequality() {
        true => outcome,
        false => refused(ReasonCode::Type, "values of this type are only compared for equality"),
    }
}

fn answer(enforced: bool) -> Outcome {
    if enforced { Outcome::Exact } else { Outcome::Inexact }
}

fn is_integer(value: &Literal) -> bool {
    // Larger numbers would be floats to SQLite.
    match value {
        Literal::Int(_) => true,
        Literal::UInt(value) => i64::try_from(*value).is_ok(),
        Literal::Bool(_)
        | Literal::Float(_)
        | Literal::Decimal { .. }
        | Literal::Text(_)
        | Literal::Bytes(_)
        | Literal::Date(_)
        | Literal::Timestamp { .. } => false,
    }
}

/// Comparing by a collation that only the writing application knows would fail.
fn known_collation(detail: &Detail) -> bool {
    matches!(detail.collation.as_deref(), Some("BINARY" | "NOCASE" | "RTRIM"))
}

fn foreign_collation(column: &RemoteColumn, detail: &Detail) -> Outcome {
    let collation = detail.collation.as_deref().unwrap_or("of a view");
    refused(ReasonCode::Collation, &of_collation(column, collation))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn column(data_type: DataType, detail: &Detail) -> RemoteColumn {
        RemoteColumn {
            name: "c".into(),
            data_type,
            nullable: true,
            remote_type: String::new(),
            detail: json!(detail),
        }
    }

    fn collated(collation: &str, enforced: bool) -> Detail {
        Detail { enforced, collation: Some(collation.into()), any: false }
    }

    #[test]
    fn only_enforced_columns_are_exact() {
        let equal = Literal::Int(1);
        let test = Test::Compare(Comparison::Less, &equal);
        for (enforced, wanted) in [(true, Outcome::Exact), (false, Outcome::Inexact)] {
            let column = column(DataType::Int64, &collated("BINARY", enforced));
            assert_eq!(tested(Mismatch::Error, &column, test), wanted);
        }
    }

    #[test]
    fn collations_other_than_binary_only_find_more() {
        let value = Literal::Text("a".into());
        let nocase = column(DataType::Utf8, &collated("NOCASE", true));
        let equal = Test::Compare(Comparison::Equal, &value);
        assert_eq!(tested(Mismatch::Error, &nocase, equal), Outcome::Inexact);
        let other = Test::Compare(Comparison::NotEqual, &value);
        assert!(matches!(tested(Mismatch::Error, &nocase, other), Outcome::Refused(_)));
        let foreign = column(DataType::Utf8, &collated("GERMAN", true));
        assert!(matches!(tested(Mismatch::Error, &foreign, equal), Outcome::Refused(_)));
    }

    #[test]
    fn a_prefix_keeps_its_wildcards_literal() {
        let column = column(DataType::Utf8, &collated("BINARY", true));
        let pieces = ["a*?[]'".to_owned(), String::new()];
        let written = Sqlite.like(&column, &pieces).unwrap();
        assert_eq!(written, "`c` GLOB 'a[*][?][[]]''*'");
    }
}
