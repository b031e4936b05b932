//! Values of the binary protocol as the engine's types, and back.

use std::borrow::Cow;

use arrow::datatypes::DataType;
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike};
use mysql_async::Value;

use super::options::ZeroDates;
use crate::relational::{Bound, Cell, decimal_cell};

/// Returns the value as the column's type, or `None` if it is none.
pub(super) fn cell<'a>(
    value: &'a Value,
    data_type: &DataType,
    zero_dates: ZeroDates,
) -> Option<Cell<'a>> {
    match value {
        Value::NULL => Some(Cell::Null),
        Value::Int(value) if *data_type != DataType::Utf8 => Some(Cell::Int(*value)),
        Value::UInt(value) if *data_type != DataType::Utf8 => Some(Cell::UInt(*value)),
        Value::Float(value) if *data_type != DataType::Utf8 => Some(Cell::Float(*value)),
        Value::Double(value) if *data_type != DataType::Utf8 => Some(Cell::Double(*value)),
        Value::Bytes(bytes) => from_bytes(bytes, data_type),
        Value::Date(..) => match instant(value, data_type) {
            None if zero_dates == ZeroDates::Null => Some(Cell::Null),
            other => other.map(Cell::Int),
        },
        Value::Time(negative, days, hours, minutes, seconds, micros) => {
            let hours = i64::from(*days) * 24 + i64::from(*hours);
            let seconds = (hours * 60 + i64::from(*minutes)) * 60 + i64::from(*seconds);
            let micros = seconds * 1_000_000 + i64::from(*micros);
            Some(Cell::Int(if *negative { -micros } else { micros }))
        }
        // A type that we do not know, read as text.
        Value::Int(value) => Some(Cell::Text(Cow::Owned(value.to_string()))),
        Value::UInt(value) => Some(Cell::Text(Cow::Owned(value.to_string()))),
        Value::Float(value) => Some(Cell::Text(Cow::Owned(value.to_string()))),
        Value::Double(value) => Some(Cell::Text(Cow::Owned(value.to_string()))),
    }
}

fn from_bytes<'a>(bytes: &'a [u8], data_type: &DataType) -> Option<Cell<'a>> {
    // The types that `types::engine_type` returns and that arrive as bytes.
    match data_type {
        DataType::Binary => Some(Cell::Bytes(bytes)),
        DataType::Boolean => Some(Cell::Bool(bytes.iter().any(|byte| *byte != 0))),
        DataType::Utf8 => std::str::from_utf8(bytes).ok().map(|text| Cell::Text(text.into())),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            decimal_cell(std::str::from_utf8(bytes).ok()?, *precision, *scale)
        }
        _ => None,
    }
}

/// Returns a date as the server writes it, with the time of day unless the column has none.
pub(super) fn date_text(value: &Value, has_time: bool) -> Option<Cell<'static>> {
    let Value::Date(year, month, day, hour, minute, second, micros) = value else { return None };
    let mut text = format!("{year:04}-{month:02}-{day:02}");
    if has_time {
        text.push_str(&format!(" {hour:02}:{minute:02}:{second:02}"));
        if *micros > 0 {
            text.push_str(&format!(".{micros:06}"));
        }
    }
    Some(Cell::Text(Cow::Owned(text)))
}

/// Returns days or microseconds since 1970, or `None` for a date that no calendar has.
fn instant(value: &Value, data_type: &DataType) -> Option<i64> {
    let Value::Date(year, month, day, hour, minute, second, micros) = value else { return None };
    let date = NaiveDate::from_ymd_opt((*year).into(), (*month).into(), (*day).into())?;
    if *data_type == DataType::Date32 {
        return Some(date.signed_duration_since(NaiveDate::default()).num_days());
    }
    let (hour, minute, second) = ((*hour).into(), (*minute).into(), (*second).into());
    let moment = date.and_hms_micro_opt(hour, minute, second, *micros)?;
    Some(moment.and_utc().timestamp_micros())
}

/// Returns the value as a parameter of a statement, or what it is that the server has no place for.
pub(super) fn parameter(value: Bound<'_>) -> Result<Value, &'static str> {
    Ok(match value {
        Bound::Null => Value::NULL,
        Bound::Bool(value) => Value::Int(value.into()),
        Bound::Int(value) => Value::Int(value),
        Bound::UInt(value) => Value::UInt(value),
        Bound::Float(value) if value.is_finite() => Value::Float(value),
        Bound::Double(value) if value.is_finite() => Value::Double(value),
        Bound::Float(_) | Bound::Double(_) => return Err("NaN or an infinity"),
        Bound::Decimal(digits) => Value::Bytes(digits.into_bytes()),
        Bound::Text(text) => Value::Bytes(text.as_bytes().to_vec()),
        Bound::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
        Bound::Date(days) => {
            let date = NaiveDate::default().checked_add_signed(TimeDelta::days(days.into()));
            moment(date.ok_or(FAR)?.and_time(NaiveTime::MIN))?
        }
        Bound::Timestamp(micros) => {
            moment(DateTime::from_timestamp_micros(micros).ok_or(FAR)?.naive_utc())?
        }
        Bound::Duration(micros) => {
            let (whole, rest) =
                (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
            let part = |seconds: u64, of: u64| u8::try_from(seconds % of).unwrap_or_default();
            let days = u32::try_from(whole / 86_400).map_err(|_large| "a duration so long")?;
            Value::Time(
                micros < 0,
                days,
                part(whole / 3_600, 24),
                part(whole / 60, 60),
                part(whole, 60),
                u32::try_from(rest).unwrap_or_default(),
            )
        }
    })
}

const FAR: &str = "a date before the year 1 or after 9999";

fn moment(moment: NaiveDateTime) -> Result<Value, &'static str> {
    let year = u16::try_from(moment.year()).ok().filter(|year| (1..=9999).contains(year));
    let small = |part: u32| u8::try_from(part).unwrap_or_default();
    Ok(Value::Date(
        year.ok_or(FAR)?,
        small(moment.month()),
        small(moment.day()),
        small(moment.hour()),
        small(moment.minute()),
        small(moment.second()),
        moment.nanosecond() / 1_000,
    ))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn dates_that_no_calendar_has_follow_the_policy() {
        let stamp = DataType::Timestamp(TimeUnit::Microsecond, None);
        for (year, month, day) in [(0, 0, 0), (2024, 2, 0), (2024, 0, 1), (2024, 2, 31)] {
            let value = Value::Date(year, month, day, 0, 0, 0, 0);
            for data_type in [&DataType::Date32, &stamp] {
                assert_eq!(cell(&value, data_type, ZeroDates::Null), Some(Cell::Null));
                assert_eq!(cell(&value, data_type, ZeroDates::Error), None);
            }
        }
        let value = Value::Date(1969, 12, 31, 23, 59, 59, 999_999);
        assert_eq!(cell(&value, &stamp, ZeroDates::Error), Some(Cell::Int(-1)));
        assert_eq!(cell(&value, &DataType::Date32, ZeroDates::Error), Some(Cell::Int(-1)));
    }

    #[test]
    fn a_date_that_no_calendar_has_is_a_text() {
        let text = |text: &str| Some(Cell::Text(Cow::Owned(text.to_owned())));
        let value = Value::Date(2024, 2, 0, 12, 0, 0, 5);
        assert_eq!(date_text(&value, false), text("2024-02-00"));
        assert_eq!(date_text(&value, true), text("2024-02-00 12:00:00.000005"));
        assert_eq!(date_text(&Value::NULL, true), None);
    }

    #[test]
    fn times_reach_beyond_a_day() {
        let value = Value::Time(true, 34, 22, 59, 59, 0);
        let duration = DataType::Duration(TimeUnit::Microsecond);
        let wanted = -((838 * 60 + 59) * 60 + 59) * 1_000_000_i64;
        assert_eq!(cell(&value, &duration, ZeroDates::Null), Some(Cell::Int(wanted)));
    }

    #[test]
    fn text_must_be_text() {
        let bytes = Value::Bytes(vec![0xff]);
        assert_eq!(cell(&bytes, &DataType::Utf8, ZeroDates::Null), None);
        assert_eq!(cell(&bytes, &DataType::Binary, ZeroDates::Null), Some(Cell::Bytes(&[0xff])));
        assert_eq!(cell(&bytes, &DataType::Int64, ZeroDates::Null), None);
        let unknown = cell(&Value::Int(7), &DataType::Utf8, ZeroDates::Null);
        assert_eq!(unknown, Some(Cell::Text("7".into())));
    }
}
