//! How text is compared there as it is here: by bytes.
//!
//! A column's collation decides what is equal or less, and whether blanks at the end count. So the column is compared as
//! bytes of UTF-8, which has no collation. That no index knows, so an equality says it twice: once for the index, by the
//! collation, under which the same bytes are always equal, and once for the answer.

use meshwork_engine::Result;
use meshwork_engine::connector::Outcome;
use meshwork_engine::remote::{Comparison, Literal, Reason, ReasonCode, RemoteColumn};

use super::pushdown::MySql;
use super::types::Detail;
use crate::relational::negotiate::refused;
use crate::relational::{Dialect, Test};

/// A longer list is compared by the collation alone: what it finds too much costs less than saying it twice.
const LIST_TWICE_MAX: usize = 100;

/// Answers one test of a column of text.
pub(super) fn tested(column: &RemoteColumn, detail: &Detail, test: Test<'_>) -> Outcome {
    if !test.values().iter().all(|value| matches!(value, Literal::Text(_))) {
        return refused(ReasonCode::Literal, "text is compared with text only");
    }
    let by_index = test.is_equality() && found_by_collation(detail, test.values());
    match test {
        Test::In(values) | Test::NotIn(values) if values.len() > LIST_TWICE_MAX && by_index => {
            Outcome::Inexact
        }
        Test::In(_) | Test::NotIn(_) | Test::Compare(..) | Test::Like(_) | Test::Null => {
            match has_bytes(detail) {
                true => Outcome::Exact,
                false if by_index => Outcome::Inexact,
                false if test.is_equality() && !detail.of_view => {
                    let charset = detail.charset.as_deref().unwrap_or("none");
                    let message = format!("the value may not exist in the character set {charset}");
                    refused(ReasonCode::CharacterSet, &message)
                }
                false => Outcome::Refused(collated(column, detail)),
            }
        }
    }
}

/// Why a column of text is not what its bytes say.
pub(super) fn collated(column: &RemoteColumn, detail: &Detail) -> Reason {
    let RemoteColumn { name, remote_type, .. } = column;
    let collation = detail.collation.as_deref().unwrap_or("of the column");
    let message =
        format!("the collation {collation} of column {name} of type {remote_type} would decide");
    Reason::new(ReasonCode::Collation, message)
}

/// Writes a comparison; `None` if the column is none that is compared by bytes.
pub(super) fn compared(
    column: &RemoteColumn,
    comparison: Comparison,
    value: &Literal,
) -> Result<Option<String>> {
    let detail = Detail::of(column);
    if !has_bytes(&detail) {
        return Ok(None);
    }
    let values = std::slice::from_ref(value);
    let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
    let bytes = bytes(column, &detail, is_equality && are_ascii(values))?;
    let literal = MySql.literal(value, column)?;
    let exactly = format!("{bytes} {} {literal}", comparison.sql());
    Ok(Some(match comparison == Comparison::Equal && found_by_collation(&detail, values) {
        true => format!("({} = {literal} AND {exactly})", MySql.tested(column)?),
        false => exactly,
    }))
}

/// Writes a list; `None` if the column is none that is compared by bytes, or the list is too long to say it twice.
pub(super) fn listed(
    column: &RemoteColumn,
    values: &[Literal],
    negated: bool,
) -> Result<Option<String>> {
    let detail = Detail::of(column);
    let by_index = !negated && found_by_collation(&detail, values);
    if !has_bytes(&detail) || (by_index && values.len() > LIST_TWICE_MAX) {
        return Ok(None);
    }
    let write = |value: &Literal| MySql.literal(value, column);
    let list = values.iter().map(write).collect::<Result<Vec<_>>>()?.join(", ");
    let operator = if negated { "NOT IN" } else { "IN" };
    let bytes = bytes(column, &detail, are_ascii(values))?;
    let exactly = format!("{bytes} {operator} ({list})");
    Ok(Some(match by_index {
        true => format!("({} IN ({list}) AND {exactly})", MySql.tested(column)?),
        false => exactly,
    }))
}

/// Writes a pattern of pieces with anything between them.
pub(super) fn like(column: &RemoteColumn, pieces: &[String]) -> Result<String> {
    let is_ascii = pieces.iter().all(|piece| piece.is_ascii());
    let bytes = bytes(column, &Detail::of(column), is_ascii)?;
    Ok(format!("{bytes} {}", MySql.pattern(pieces)?))
}

/// Returns a column of text as the bytes that the engine sees; or, to find ASCII in, as those that the server stores: these
/// character sets store ASCII as it is, and nothing else with any of its bytes. Their order is another.
fn bytes(column: &RemoteColumn, detail: &Detail, finds_ascii: bool) -> Result<String> {
    let tested = MySql.tested(column)?;
    Ok(match detail.charset.as_deref() {
        Some("utf8mb4" | "utf8mb3" | "utf8") => format!("CAST({tested} AS BINARY)"),
        Some("latin1" | "ascii") if finds_ascii => format!("CAST({tested} AS BINARY)"),
        _ => format!("CAST(CONVERT({tested} USING utf8mb4) AS BINARY)"),
    })
}

fn are_ascii(values: &[Literal]) -> bool {
    values.iter().all(|value| matches!(value, Literal::Text(text) if text.is_ascii()))
}

/// Whether text can be compared as bytes: the server makes NULL of what is longer than a packet, so long texts stay here.
fn has_bytes(detail: &Detail) -> bool {
    let is_short = matches!(detail.base.as_str(), "char" | "varchar" | "tinytext" | "text");
    is_short && detail.charset.is_some()
}

/// Whether the column may be compared with the values as it is, which finds at least those of the same bytes.
fn found_by_collation(detail: &Detail, values: &[Literal]) -> bool {
    // A view's column may have no collation: every comparison with it is an error there.
    let writable = |value: &Literal| match (value, detail.charset.as_deref()) {
        (Literal::Text(_), Some("utf8mb4")) => true,
        // Letters beyond these have no collation in common with such a column: an error there.
        (Literal::Text(text), Some("utf8mb3" | "utf8")) => text.chars().all(|c| c <= '\u{ffff}'),
        // What these have in common with UTF-8 is ASCII.
        (Literal::Text(text), Some("latin1" | "ascii")) => text.is_ascii(),
        _ => false,
    };
    !detail.of_view && values.iter().all(writable)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;
    use serde_json::json;

    use super::*;

    fn column(base: &str, charset: &str) -> RemoteColumn {
        let charset = Some(charset.to_owned());
        let detail = Detail { base: base.into(), charset, ..Detail::default() };
        RemoteColumn {
            name: "c".into(),
            data_type: DataType::Utf8,
            nullable: true,
            remote_type: base.into(),
            detail: json!(detail),
        }
    }

    fn text(value: &str) -> Literal {
        Literal::Text(value.into())
    }

    fn answer(column: &RemoteColumn, test: Test<'_>) -> Outcome {
        tested(column, &Detail::of(column), test)
    }

    #[test]
    fn short_text_is_compared_by_bytes() {
        let varchar = column("varchar", "utf8mb4");
        for comparison in [Comparison::Equal, Comparison::NotEqual, Comparison::Less] {
            assert_eq!(answer(&varchar, Test::Compare(comparison, &text("é"))), Outcome::Exact);
        }
        let equal = compared(&varchar, Comparison::Equal, &text("a")).unwrap().unwrap();
        assert_eq!(equal, "(`c` = 'a' AND CAST(`c` AS BINARY) = 'a')");
        let less = compared(&varchar, Comparison::Less, &text("a")).unwrap().unwrap();
        assert_eq!(less, "CAST(`c` AS BINARY) < 'a'");
        let list = listed(&varchar, &[text("a"), text("b")], true).unwrap().unwrap();
        assert_eq!(list, "CAST(`c` AS BINARY) NOT IN ('a', 'b')");
    }

    #[test]
    fn what_the_character_set_lacks_is_not_compared_by_its_collation() {
        let latin = column("char", "latin1");
        let crab = compared(&latin, Comparison::Equal, &text("🦀")).unwrap().unwrap();
        assert_eq!(crab, "CAST(CONVERT(`c` USING utf8mb4) AS BINARY) = '🦀'");
    }

    #[test]
    fn ascii_is_found_without_converting() {
        let latin = column("char", "latin1");
        let written = |comparison, value| compared(&latin, comparison, &text(value)).unwrap();
        assert_eq!(written(Comparison::NotEqual, "a").unwrap(), "CAST(`c` AS BINARY) <> 'a'");
        let less = "CAST(CONVERT(`c` USING utf8mb4) AS BINARY) < 'a'";
        assert_eq!(written(Comparison::Less, "a").unwrap(), less);
        let list = listed(&latin, &[text("a"), text("é")], true).unwrap().unwrap();
        assert_eq!(list, "CAST(CONVERT(`c` USING utf8mb4) AS BINARY) NOT IN ('a', 'é')");
        let pieces = |pieces: &[&str]| {
            let pieces: Vec<String> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
            like(&latin, &pieces).unwrap()
        };
        assert!(pieces(&["a", ""]).starts_with("CAST(`c` AS BINARY) LIKE"));
        assert!(pieces(&["é", ""]).starts_with("CAST(CONVERT("));
        let wide = column("char", "utf16");
        let wide = compared(&wide, Comparison::NotEqual, &text("a")).unwrap().unwrap();
        assert_eq!(wide, "CAST(CONVERT(`c` USING utf8mb4) AS BINARY) <> 'a'");
    }

    #[test]
    fn long_text_is_only_ever_a_superset() {
        let long = column("longtext", "utf8mb4");
        assert_eq!(answer(&long, Test::Compare(Comparison::Equal, &text("a"))), Outcome::Inexact);
        let less = answer(&long, Test::Compare(Comparison::Less, &text("a")));
        assert!(matches!(less, Outcome::Refused(_)));
        assert_eq!(compared(&long, Comparison::Equal, &text("a")).unwrap(), None);
    }

    #[test]
    fn long_lists_are_said_once() {
        let varchar = column("varchar", "utf8mb4");
        let values = vec![text("a"); LIST_TWICE_MAX + 1];
        assert_eq!(answer(&varchar, Test::In(&values)), Outcome::Inexact);
        assert_eq!(listed(&varchar, &values, false).unwrap(), None);
        assert_eq!(answer(&varchar, Test::NotIn(&values)), Outcome::Exact);
    }
}
