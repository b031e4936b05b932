//! Holds each value of SQLite to what its column declares.

use std::borrow::Cow;

use arrow::datatypes::DataType;
use chrono::{NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};
use rusqlite::types::ValueRef;

use crate::relational::{Cell, decimal_cell};

/// Returns the value as the column's type, or `None` if it breaks the declaration. `any` says that the
/// column declares nothing: then numbers are read as their text.
pub(super) fn cell<'a>(value: ValueRef<'a>, data_type: &DataType, any: bool) -> Option<Cell<'a>> {
    if matches!(value, ValueRef::Null) {
        return Some(Cell::Null);
    }
    // The types that `types::promised` returns.
    match (data_type, value) {
        (DataType::Int64, ValueRef::Integer(value)) => Some(Cell::Int(value)),
        (DataType::Float64, ValueRef::Real(value)) => Some(Cell::Double(value)),
        (DataType::Float64, ValueRef::Integer(value)) => exact_double(value).map(Cell::Double),
        (DataType::Utf8, ValueRef::Integer(value)) if any => {
            Some(Cell::Text(Cow::Owned(value.to_string())))
        }
        (DataType::Utf8, ValueRef::Real(value)) if any => {
            Some(Cell::Text(Cow::Owned(format!("{value:?}"))))
        }
        (DataType::Utf8, ValueRef::Text(value)) => text(value).map(|text| Cell::Text(text.into())),
        (DataType::Binary, ValueRef::Blob(value)) => Some(Cell::Bytes(value)),
        (DataType::Boolean, ValueRef::Integer(value @ (0 | 1))) => Some(Cell::Bool(value == 1)),
        (DataType::Date32, ValueRef::Text(value)) => days(text(value)?).map(Cell::Int),
        (DataType::Timestamp(..), ValueRef::Text(value)) => micros(text(value)?).map(Cell::Int),
        (
            DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale),
            value,
        ) => decimal(value, *precision, *scale),
        _ => None,
    }
}

/// Returns what a value is, for messages; never the value, which may be long or secret.
pub(super) fn kind(value: ValueRef<'_>) -> &'static str {
    match value {
        ValueRef::Null => "NULL",
        ValueRef::Integer(_) => "an INTEGER",
        ValueRef::Real(_) => "a REAL",
        ValueRef::Text(value) if text(value).is_none() => "TEXT that is not UTF-8",
        ValueRef::Text(_) => "a TEXT",
        ValueRef::Blob(_) => "a BLOB",
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Returns the double only if it is the same number.
fn exact_double(value: i64) -> Option<f64> {
    const DOUBLES_EXACT_UP_TO: u64 = 1 << 53;
    (value.unsigned_abs() <= DOUBLES_EXACT_UP_TO).then_some(value as f64)
}

/// Integers and text are exact; a float is rounded to the scale, because it has no exact decimals.
fn decimal(value: ValueRef<'_>, precision: u8, scale: i8) -> Option<Cell<'static>> {
    match value {
        ValueRef::Integer(value) => decimal_cell(value.to_string().as_bytes(), precision, scale),
        ValueRef::Text(value) => decimal_cell(text(value)?.as_bytes(), precision, scale),
        ValueRef::Real(value) if value.is_finite() => {
            let places = usize::try_from(scale).ok()?;
            decimal_cell(format!("{value:.places$}").as_bytes(), precision, scale)
        }
        ValueRef::Real(_) | ValueRef::Null | ValueRef::Blob(_) => None,
    }
}

/// Returns the days of `YYYY-MM-DD`. Only this form is read, so that filters may compare the text.
fn days(text: &str) -> Option<i64> {
    date(text).map(|date| date.signed_duration_since(NaiveDate::default()).num_days())
}

fn date(text: &str) -> Option<NaiveDate> {
    let form = text.bytes().enumerate().all(|(place, byte)| match place {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    if text.len() != "YYYY-MM-DD".len() || !form {
        return None;
    }
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()
}

/// Returns the microseconds of `YYYY-MM-DD[(T| )HH:MM[:SS[.f]][Z|+HH:MM|-HH:MM]]`, brought to UTC.
fn micros(text: &str) -> Option<i64> {
    let (day, rest) = text.split_at_checked("YYYY-MM-DD".len())?;
    let day = date(day)?;
    if rest.is_empty() {
        return Some(day.and_time(NaiveTime::MIN).and_utc().timestamp_micros());
    }
    let (clock, east) = zone(rest.strip_prefix(['T', ' '])?)?;
    let clock = NaiveTime::parse_from_str(clock, "%H:%M:%S%.f")
        .or_else(|_short| NaiveTime::parse_from_str(clock, "%H:%M"))
        .ok()?;
    let nanos = chrono::Timelike::nanosecond(&clock);
    // Leap seconds and digits behind the microseconds have no place in the type.
    if nanos >= 1_000_000_000 || nanos % 1000 != 0 {
        return None;
    }
    let local = NaiveDateTime::new(day, clock);
    Some(local.checked_sub_signed(east)?.and_utc().timestamp_micros())
}

/// Splits a zone from a time of day; returns how far east of UTC it is.
fn zone(clock: &str) -> Option<(&str, TimeDelta)> {
    if let Some(clock) = clock.strip_suffix('Z') {
        return Some((clock, TimeDelta::zero()));
    }
    let Some(place) = clock.rfind(['+', '-']) else { return Some((clock, TimeDelta::zero())) };
    let (clock, offset) = clock.split_at_checked(place)?;
    let (hours, minutes) = offset.split_at_checked(1)?.1.split_once(':')?;
    let two_digits = |text: &str| {
        let plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<i64>().ok()).flatten()
    };
    let minutes = two_digits(hours)? * 60 + two_digits(minutes)?;
    let east = TimeDelta::minutes(if offset.starts_with('-') { -minutes } else { minutes });
    Some((clock, east))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_one_form() {
        assert_eq!(days("1970-01-02"), Some(1));
        assert_eq!(days("0001-01-01"), Some(-719_162));
        for wrong in
            ["1970-1-2", "1970-02-30", "19700102", "1970-01-02 ", "+970-01-02", "٠970-01-0"]
        {
            assert_eq!(days(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn timestamps_are_brought_to_utc() {
        let checks = [
            ("1970-01-01", Some(0)),
            ("1970-01-01 00:00", Some(0)),
            ("1970-01-01T00:00:01", Some(1_000_000)),
            ("1970-01-01 00:00:00.000001", Some(1)),
            ("1970-01-01T00:00:01.5Z", Some(1_500_000)),
            ("1970-01-01T02:00:00+02:00", Some(0)),
            ("1969-12-31 19:30:00-04:30", Some(0)),
            ("1970-01-01 00:00:00.0000001", None),
            ("1970-01-01 24:00:00", None),
            ("1970-01-01x00:00", None),
            ("1970-01-01 00:00:60", None),
            ("1970-01-01 00:00 +2", None),
            ("1.0", None),
        ];
        for (text, wanted) in checks {
            assert_eq!(micros(text), wanted, "{text}");
        }
    }

    #[test]
    fn values_are_held_to_their_declaration() {
        let decimal = DataType::Decimal128(5, 2);
        assert_eq!(cell(ValueRef::Real(1.005), &decimal, false), Some(Cell::Decimal(100)));
        assert_eq!(cell(ValueRef::Integer(7), &decimal, false), Some(Cell::Decimal(700)));
        assert_eq!(cell(ValueRef::Real(f64::INFINITY), &decimal, false), None);
        assert_eq!(cell(ValueRef::Text(b"x"), &DataType::Int64, false), None);
        assert_eq!(cell(ValueRef::Integer(2), &DataType::Boolean, false), None);
        assert_eq!(cell(ValueRef::Integer(7), &DataType::Utf8, false), None);
        assert_eq!(
            cell(ValueRef::Real(7.0), &DataType::Utf8, true),
            Some(Cell::Text("7.0".into()))
        );
        assert_eq!(cell(ValueRef::Text(b"\xff"), &DataType::Utf8, true), None);
        assert_eq!(cell(ValueRef::Integer(i64::MAX), &DataType::Float64, false), None);
    }
}
