//! Which conditions PostgreSQL answers as the engine would, and how they are written for it.
//!
//! The default is to refuse. What is accepted is listed here by the meaning of the column; the reasons
//! for each refusal are in `docs/connectors/postgres.md`.

use meshwork_engine::Result;
use meshwork_engine::connector::Outcome;
use meshwork_engine::remote::{Literal, RemoteColumn};

use super::columns::{Detail, Meaning};
use super::wire::Wire;
use crate::relational::{Dialect, Test, date_text, hexadecimal, timestamp_text};

/// More values than this make the statement slower to plan than the rows to read.
const IN_VALUES_MAX: usize = 10_000;
/// The length of a canonical UUID, and where its hyphens stand.
const UUID_LENGTH: usize = 36;
const UUID_HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// PostgreSQL's spelling. Every literal carries its type.
#[derive(Debug)]
pub(super) struct Postgres;

impl Dialect for Postgres {
    fn empty_projection(&self) -> &'static str {
        ""
    }

    fn selected(&self, column: &RemoteColumn) -> Result<String> {
        let name = self.identifier(&column.name)?;
        Ok(if Detail::of(column)?.as_text { format!("{name}::text") } else { name })
    }

    fn text(&self, value: &str, column: &RemoteColumn) -> Result<String> {
        let written = self.string(value)?;
        let detail = Detail::of(column)?;
        Ok(match (detail.wire, detail.base_type.as_str()) {
            (Wire::Uuid, _) => format!("{written}::uuid"),
            (_, "bpchar") => format!("{written}::bpchar"),
            _ => written,
        })
    }

    /// A string with a backslash is written so that `standard_conforming_strings` does not matter.
    fn string(&self, value: &str) -> Result<String> {
        let standard = crate::relational::standard_string(value)?;
        Ok(match value.contains('\\') {
            true => format!("E{}", standard.replace('\\', "\\\\")),
            false => standard,
        })
    }

    fn bytes(&self, value: &[u8]) -> String {
        // `decode` is immutable: the server computes it once.
        format!("decode('{}', 'hex')", hexadecimal(value))
    }

    fn float(&self, value: f64) -> Result<String> {
        Ok(format!("'{}'::float8", crate::relational::finite(value)?))
    }

    fn date(&self, days: i32) -> Result<String> {
        Ok(format!("'{}'::date", date_text(days)?))
    }

    fn timestamp(&self, micros: i64, instant: bool) -> Result<String> {
        let text = timestamp_text(micros)?;
        Ok(match instant {
            true => format!("'{text}+00'::timestamptz"),
            false => format!("'{text}'::timestamp"),
        })
    }
}

/// Answers one test of one column.
pub(super) fn rule(column: &RemoteColumn, test: Test<'_>) -> Outcome {
    let detail = match Detail::of(column) {
        Ok(detail) => detail,
        Err(error) => return Outcome::Refused(error.message),
    };
    if matches!(test, Test::Null) {
        return match detail.meaning {
            Meaning::Composite => refused("the source takes a row of NULLs for NULL"),
            _ if detail.may_become_null => {
                refused("values that cannot be represented are read as NULL here")
            }
            _ => Outcome::Exact,
        };
    }
    if test.values().len() > IN_VALUES_MAX {
        return refused("the list is too long for a statement");
    }
    if !test.values().iter().all(|value| fits(value, &detail.wire)) {
        return refused("the literal is of another type than the column");
    }
    let outcome = match detail.meaning {
        Meaning::Exact => exact(test),
        Meaning::Float => float(test),
        Meaning::Text { any_character, .. } | Meaning::CoarseText { any_character }
            if !any_character && !is_ascii(test) =>
        {
            refused("the source may have no such character in its encoding")
        }
        Meaning::Text { ordered, .. } => text(test, ordered),
        Meaning::CoarseText { .. } => coarse_text(test),
        Meaning::Uuid => uuid(test),
        Meaning::Opaque | Meaning::Composite => {
            refused("the source compares this type by rules of its own")
        }
    };
    match outcome {
        // The engine sees NULL where the source sees a value: it must look again.
        Outcome::Exact if detail.may_become_null => Outcome::Inexact,
        answer => answer,
    }
}

fn exact(test: Test<'_>) -> Outcome {
    match test {
        Test::Compare(..) | Test::In(_) | Test::NotIn(_) | Test::Null => Outcome::Exact,
        Test::StartsWith(_) => refused("LIKE needs a column of text"),
    }
}

/// Around zero and NaN the two sides disagree (`-0 < 0`); elsewhere a range or an equality is a superset.
fn float(test: Test<'_>) -> Outcome {
    let is_safe = |value: &Literal| match value {
        Literal::Float(bits) => {
            let value = f64::from_bits(*bits);
            value.is_finite() && value != 0.0
        }
        _other => false,
    };
    if !(test.is_range() || test.is_equality()) {
        return refused("floats are compared here only by ranges and equality");
    }
    match test.values().iter().all(is_safe) {
        true => Outcome::Inexact,
        false => refused("a float is zero, NaN or infinite, where the two sides differ"),
    }
}

fn text(test: Test<'_>, ordered: bool) -> Outcome {
    match test.is_range() && !ordered {
        true => refused("the source orders this text by a collation, not by bytes"),
        false => Outcome::Exact,
    }
}

/// Equality finds at least the equal ones, and more; anything else may lose rows.
fn coarse_text(test: Test<'_>) -> Outcome {
    match test.is_equality() {
        true => Outcome::Inexact,
        false => refused("the source takes different texts of this column for equal"),
    }
}

/// Whether every text of the test has a spelling at a server that does not store UTF-8.
fn is_ascii(test: Test<'_>) -> bool {
    let prefix = match test {
        Test::StartsWith(prefix) => prefix,
        Test::Compare(..) | Test::In(_) | Test::NotIn(_) | Test::Null => "",
    };
    let is_ascii = |value: &Literal| match value {
        Literal::Text(text) => text.is_ascii(),
        _other => true,
    };
    prefix.is_ascii() && test.values().iter().all(is_ascii)
}

/// Canonical UUIDs are ordered as text as they are as bytes.
fn uuid(test: Test<'_>) -> Outcome {
    if matches!(test, Test::StartsWith(_)) {
        return refused("the source knows no LIKE for a UUID");
    }
    let is_canonical = |value: &Literal| match value {
        Literal::Text(text) => is_canonical_uuid(text),
        _other => false,
    };
    match test.values().iter().all(is_canonical) {
        true => Outcome::Exact,
        false => refused("the text is not a UUID in its canonical form"),
    }
}

fn is_canonical_uuid(text: &str) -> bool {
    let fits = |(index, byte): (usize, u8)| match UUID_HYPHENS.contains(&index) {
        true => byte == b'-',
        false => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    text.len() == UUID_LENGTH && text.bytes().enumerate().all(fits)
}

/// Whether the server may compare the literal with the column without converting the column.
fn fits(value: &Literal, wire: &Wire) -> bool {
    match wire {
        Wire::Bool => matches!(value, Literal::Bool(_)),
        Wire::Int16 | Wire::Int32 | Wire::Int64 => {
            matches!(value, Literal::Int(_) | Literal::UInt(_))
        }
        // The server casts the number to an oid: -1 would be the greatest one.
        Wire::Oid => match value {
            Literal::Int(number) => u32::try_from(*number).is_ok(),
            Literal::UInt(number) => u32::try_from(*number).is_ok(),
            _other => false,
        },
        Wire::Float32 | Wire::Float64 => matches!(value, Literal::Float(_)),
        Wire::Decimal128 { .. } | Wire::Decimal256 { .. } => {
            matches!(value, Literal::Decimal { .. } | Literal::Int(_) | Literal::UInt(_))
        }
        Wire::Text | Wire::PaddedText | Wire::Uuid => matches!(value, Literal::Text(_)),
        Wire::Bytes => matches!(value, Literal::Bytes(_)),
        Wire::Date => matches!(value, Literal::Date(_)),
        Wire::Timestamp => matches!(value, Literal::Timestamp { instant: false, .. }),
        Wire::Instant => matches!(value, Literal::Timestamp { instant: true, .. }),
        Wire::Time | Wire::Interval | Wire::List(_) => false,
    }
}

fn refused(reason: &str) -> Outcome {
    Outcome::Refused(reason.to_owned())
}
