//! Which conditions PostgreSQL answers as the engine would, and how they are written for it.
//!
//! The default is to refuse. What is accepted is listed here by the meaning of the column; the reasons
//! for each refusal are in `docs/connectors/postgres.md`.

use meshwork_engine::Result;
use meshwork_engine::connector::Outcome;
use meshwork_engine::remote::{Literal, Measure, Reason, ReasonCode, RemoteColumn};

use super::columns::{Detail, Meaning, Sent};
use super::wire::Wire;
use crate::relational::negotiate::{own_rules, refused};
use crate::relational::{Agreement, Dialect, Rules, Test, date_text, hexadecimal, timestamp_text};

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
        Ok(match Detail::of(column)?.sent {
            Sent::Itself => name,
            Sent::Text => format!("{name}::text"),
            Sent::Double => format!("{name}::float8"),
        })
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

    fn like(&self, column: &RemoteColumn, pieces: &[String]) -> Result<String> {
        Ok(format!("{} {}", self.without_padding(column)?, self.pattern(pieces)?))
    }

    /// An index finds beginnings one by one.
    fn begins(
        &self,
        column: &RemoteColumn,
        length: usize,
        beginnings: &[&str],
    ) -> Result<Option<String>> {
        if Detail::of(column)?.is_indexed || beginnings.len() < 2 {
            return Ok(None);
        }
        let tested = self.without_padding(column)?;
        let list: Vec<String> =
            beginnings.iter().map(|text| self.string(text)).collect::<Result<_>>()?;
        Ok(Some(format!("left({tested}, {length}) IN ({})", list.join(", "))))
    }

    fn bytes(&self, value: &[u8]) -> String {
        // `decode` is immutable: the server computes it once.
        format!("decode('{}', 'hex')", hexadecimal(value))
    }

    fn float(&self, value: f64) -> Result<String> {
        Ok(format!("'{}'::float8", crate::relational::finite(value)?))
    }

    /// A value of a column arrives as the column; whatever is computed is cast to the type that was agreed, and fails
    /// where that is too small.
    fn measured(
        &self,
        measure: &Measure,
        columns: &[RemoteColumn],
        computed: String,
    ) -> Result<String> {
        let is_as_wanted = measure.function.counts() || measure.picked(columns).is_some();
        if is_as_wanted {
            return Ok(computed);
        }
        let wire = Detail::of(&measure.output(columns))?.wire;
        Ok(format!("{computed}::{}", wire.computed_type()))
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

impl Postgres {
    /// A column of text on the left side of a condition. The blanks that fill up a `char(n)` are not part of its value; as text
    /// it has none.
    fn without_padding(&self, column: &RemoteColumn) -> Result<String> {
        let tested = self.tested(column)?;
        Ok(match Detail::of(column)?.base_type.as_str() {
            "bpchar" => format!("{tested}::text"),
            _ => tested,
        })
    }
}

impl Rules for Postgres {
    fn test(&self, column: &RemoteColumn, test: Test<'_>) -> Outcome {
        match Detail::of(column) {
            Ok(detail) => tested(column, &detail, test),
            Err(error) => Outcome::Refused(Reason::new(ReasonCode::Type, error.message)),
        }
    }

    fn groups(&self, column: &RemoteColumn) -> Agreement {
        let detail = known(column)?;
        match detail.meaning {
            Meaning::Exact | Meaning::Text { .. } | Meaning::Uuid => Ok(()),
            Meaning::Float => Err(float("zeros of both signs are one group there, two here")),
            Meaning::CoarseText { .. } => Err(coarse(column, &detail)),
            Meaning::Opaque | Meaning::Composite => Err(own_rules(column)),
        }
    }

    fn orders(&self, column: &RemoteColumn) -> Agreement {
        let detail = known(column)?;
        match detail.meaning {
            Meaning::Exact | Meaning::Uuid | Meaning::Text { ordered: true, .. } => Ok(()),
            Meaning::Float => Err(float("-0 is less than 0 here and equal there")),
            Meaning::Text { ordered: false, .. } => Err(ordered_by_collation(column, &detail)),
            Meaning::CoarseText { .. } => Err(coarse(column, &detail)),
            Meaning::Opaque | Meaning::Composite => Err(own_rules(column)),
        }
    }

    fn extremes(&self, column: &RemoteColumn) -> Agreement {
        self.orders(column)?;
        match known(column)?.wire {
            Wire::Bool | Wire::Uuid | Wire::Bytes => {
                let message = format!("the source knows no min or max of {}", column.remote_type);
                Err(Reason::new(ReasonCode::Function, message))
            }
            _ => Ok(()),
        }
    }

    fn sums(&self, column: &RemoteColumn) -> Agreement {
        let detail = known(column)?;
        match detail.wire {
            // Rounded to the digits of a type that the server's values exceed, a sum would be another.
            _ if detail.meaning == Meaning::Opaque => Err(own_rules(column)),
            Wire::Int16 | Wire::Int32 | Wire::Int64 | Wire::Decimal128 { .. } => Ok(()),
            Wire::Float32 | Wire::Float64 => Err(float("a sum of floats depends on their order")),
            _ => Err(own_rules(column)),
        }
    }
}

/// Returns the detail of a column all of whose values are the same on both sides.
fn known(column: &RemoteColumn) -> Result<Detail, Reason> {
    let detail = Detail::of(column).map_err(|e| Reason::new(ReasonCode::Type, e.message))?;
    match detail.may_become_null {
        true => Err(become_null()),
        false => Ok(detail),
    }
}

fn tested(column: &RemoteColumn, detail: &Detail, test: Test<'_>) -> Outcome {
    if matches!(test, Test::Null) {
        return match detail.meaning {
            Meaning::Composite => {
                refused(ReasonCode::Null, "the source takes a row of NULLs for NULL")
            }
            _ if detail.may_become_null => Outcome::Refused(become_null()),
            _ => Outcome::Exact,
        };
    }
    if !test.values().iter().all(|value| fits(value, &detail.wire)) {
        let message = format!("a literal is of another type than {}", column.remote_type);
        return refused(ReasonCode::Literal, &message);
    }
    let outcome = match detail.meaning {
        Meaning::Exact => exact(test),
        Meaning::Float => floating(test),
        Meaning::Text { any_character, .. } | Meaning::CoarseText { any_character }
            if !any_character && !is_ascii(test) =>
        {
            let message = "the source may have no such character in its encoding";
            refused(ReasonCode::CharacterSet, message)
        }
        Meaning::Text { ordered, .. } => match test.is_range() && !ordered {
            true => Outcome::Refused(ordered_by_collation(column, detail)),
            false => Outcome::Exact,
        },
        // Equality finds at least the equal ones, and more; anything else may lose rows.
        Meaning::CoarseText { .. } => match test.is_equality() {
            true => Outcome::Inexact,
            false => Outcome::Refused(coarse(column, detail)),
        },
        Meaning::Uuid => uuid(test),
        Meaning::Opaque | Meaning::Composite => Outcome::Refused(own_rules(column)),
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
        Test::Like(_) => refused(ReasonCode::Type, "LIKE needs a column of text"),
    }
}

/// Around zero and NaN the two sides disagree (`-0 < 0`); elsewhere a range or an equality is a superset.
fn floating(test: Test<'_>) -> Outcome {
    let is_safe = |value: &Literal| match value {
        Literal::Float(bits) => {
            let value = f64::from_bits(*bits);
            value.is_finite() && value != 0.0
        }
        _other => false,
    };
    if !(test.is_range() || test.is_equality()) {
        return Outcome::Refused(float("floats are compared there only by ranges and equality"));
    }
    match test.values().iter().all(is_safe) {
        true => Outcome::Inexact,
        false => Outcome::Refused(float("the two sides differ at zero, NaN and infinity")),
    }
}

/// Whether every text of the test has a spelling at a server that does not store UTF-8.
fn is_ascii(test: Test<'_>) -> bool {
    let pieces = match test {
        Test::Like(pieces) => pieces,
        Test::Compare(..) | Test::In(_) | Test::NotIn(_) | Test::Null => &[],
    };
    let is_ascii = |value: &Literal| match value {
        Literal::Text(text) => text.is_ascii(),
        _other => true,
    };
    pieces.iter().all(|piece| piece.is_ascii()) && test.values().iter().all(is_ascii)
}

/// Canonical UUIDs are ordered as text as they are as bytes.
fn uuid(test: Test<'_>) -> Outcome {
    if matches!(test, Test::Like(_)) {
        return refused(ReasonCode::Type, "the source knows no LIKE for a UUID");
    }
    let is_canonical = |value: &Literal| match value {
        Literal::Text(text) => is_canonical_uuid(text),
        _other => false,
    };
    match test.values().iter().all(is_canonical) {
        true => Outcome::Exact,
        false => refused(ReasonCode::Literal, "the text is not a UUID in its canonical form"),
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
        Wire::Time | Wire::Interval | Wire::List(_) | Wire::Count => false,
    }
}

fn ordered_by_collation(column: &RemoteColumn, detail: &Detail) -> Reason {
    let RemoteColumn { name, .. } = column;
    let message = format!(
        "column {name} is ordered there by the collation {}, not by bytes",
        detail.collation()
    );
    Reason::new(ReasonCode::Collation, message)
}

fn coarse(column: &RemoteColumn, detail: &Detail) -> Reason {
    let RemoteColumn { name, remote_type, .. } = column;
    let message = format!(
        "different texts of column {name} of type {remote_type} are equal there (collation {})",
        detail.collation()
    );
    Reason::new(ReasonCode::Collation, message)
}

fn become_null() -> Reason {
    Reason::new(ReasonCode::Null, "values that cannot be represented are read as NULL here")
}

fn float(message: &str) -> Reason {
    Reason::new(ReasonCode::Float, message)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::DataType;
    use meshwork_engine::remote::Predicate;

    use super::*;
    use crate::relational::condition;

    #[test]
    fn beginnings_of_one_length_are_one_list() {
        let column = |is_indexed, base_type: &str| RemoteColumn {
            name: "c".to_owned(),
            data_type: DataType::Utf8,
            nullable: true,
            remote_type: String::new(),
            detail: serde_json::to_value(Detail {
                wire: Wire::Text,
                sent: Sent::Itself,
                meaning: Meaning::Text { ordered: false, any_character: true },
                may_become_null: false,
                is_indexed,
                base_type: base_type.to_owned(),
                collation: None,
            })
            .unwrap(),
        };
        let begins = |text: &str| Predicate::Like {
            column: 0,
            pieces: vec![text.to_owned(), String::new()],
        };
        let written = |column: &RemoteColumn, beginnings: &[&str]| {
            let parts = beginnings.iter().copied().map(begins).collect();
            condition(&Postgres, std::slice::from_ref(column), &Predicate::Or(parts)).unwrap()
        };
        let plain = column(false, "text");
        assert_eq!(written(&plain, &["13", "é'"]), r#"left("c", 2) IN ('13', 'é''')"#);
        let padded = column(false, "bpchar");
        assert_eq!(written(&padded, &["13", "31"]), r#"left("c"::text, 2) IN ('13', '31')"#);
        let one_by_one = r#"("c" LIKE '13%' OR "c" LIKE '31%')"#;
        assert_eq!(written(&column(true, "text"), &["13", "31"]), one_by_one);
        let of_two_lengths = r#"("c" LIKE '13%' OR "c" LIKE '3%')"#;
        assert_eq!(written(&plain, &["13", "3"]), of_two_lengths);
    }
}
