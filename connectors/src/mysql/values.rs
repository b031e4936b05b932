//! Reads values of the binary protocol as the engine's types.

use std::borrow::Cow;

use arrow::datatypes::DataType;
use chrono::NaiveDate;
use mysql_async::Value;

use super::options::ZeroDates;
use crate::relational::{Cell, decimal_cell};

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
