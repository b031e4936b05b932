//! Values of the binary protocol as the engine's types, and back.

use arrow::datatypes::DataType;
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike};
use meshwork_engine::remote::RemoteColumn;
use mysql_async::Value;

use super::options::ZeroDates;
use super::protocol::Raw;
use super::types::name_of;
use crate::relational::{Bound, Column, TOTAL_DIGITS, decimal, wide_decimal};

/// Days from the first of the common era to 1970-01-01.
const EPOCH_DAYS: i64 = 719_163;

/// What the values of a column become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Becomes {
    /// Text, which dates are without a time of day if the column has none.
    Text {
        has_time: bool,
    },
    Bytes,
    Truth,
    Decimal {
        precision: u8,
        scale: i8,
    },
    WideDecimal {
        precision: u8,
        scale: i8,
    },
    /// Days.
    Date,
    /// Numbers, microseconds.
    Number,
}

impl Becomes {
    /// Returns what the values of a column become.
    pub(super) fn of(column: &RemoteColumn) -> Self {
        // The types that `types::engine_type` returns.
        match column.data_type {
            DataType::Utf8 => Self::Text { has_time: name_of(&column.remote_type) != "date" },
            DataType::Binary => Self::Bytes,
            DataType::Boolean => Self::Truth,
            DataType::Decimal128(_, scale) if column.is_total() => {
                Self::Decimal { precision: TOTAL_DIGITS, scale }
            }
            DataType::Decimal128(precision, scale) => Self::Decimal { precision, scale },
            DataType::Decimal256(precision, scale) => Self::WideDecimal { precision, scale },
            DataType::Date32 => Self::Date,
            _ => Self::Number,
        }
    }
}

/// Appends a value to a column; returns false if it is none of its type.
#[inline]
pub(super) fn put(
    value: Raw<'_>,
    becomes: Becomes,
    zero_dates: ZeroDates,
    column: &mut dyn Column,
) -> bool {
    let is_text = matches!(becomes, Becomes::Text { .. });
    match value {
        Raw::Null => {
            column.null();
            true
        }
        // A type that we do not know is read as text.
        Raw::Int(value) if is_text => column.text(value.to_string().as_bytes()),
        Raw::UInt(value) if is_text => column.text(value.to_string().as_bytes()),
        Raw::Float(value) if is_text => column.text(value.to_string().as_bytes()),
        Raw::Double(value) if is_text => column.text(value.to_string().as_bytes()),
        Raw::Int(value) => column.int(value),
        Raw::UInt(value) => column.uint(value),
        Raw::Float(value) => column.float(value),
        Raw::Double(value) => column.double(value),
        Raw::Bytes(bytes) => put_bytes(bytes, becomes, column),
        Raw::Date { .. } => match becomes {
            Becomes::Text { has_time } => {
                date_text(value, has_time).is_some_and(|text| column.text(text.as_bytes()))
            }
            _ => match instant(value, becomes) {
                Some(instant) => column.int(instant),
                None if zero_dates == ZeroDates::Null => {
                    column.null();
                    true
                }
                None => false,
            },
        },
        Raw::Time { negative, days, hours, minutes, seconds, micros } => {
            let hours = i64::from(days) * 24 + i64::from(hours);
            let seconds = (hours * 60 + i64::from(minutes)) * 60 + i64::from(seconds);
            let micros = seconds * 1_000_000 + i64::from(micros);
            column.int(if negative { -micros } else { micros })
        }
    }
}

fn put_bytes(bytes: &[u8], becomes: Becomes, column: &mut dyn Column) -> bool {
    match becomes {
        Becomes::Bytes => column.bytes(bytes),
        Becomes::Truth => column.truth(bytes.iter().any(|byte| *byte != 0)),
        Becomes::Text { .. } => column.text(bytes),
        Becomes::Decimal { precision, scale } => {
            decimal(bytes, precision, scale).is_some_and(|value| column.decimal(value))
        }
        Becomes::WideDecimal { precision, scale } => {
            wide_decimal(bytes, precision, scale).is_some_and(|value| column.wide_decimal(value))
        }
        Becomes::Date | Becomes::Number => false,
    }
}

/// Returns a date as the server writes it, with the time of day unless the column has none.
fn date_text(value: Raw<'_>, has_time: bool) -> Option<String> {
    let Raw::Date { year, month, day, hour, minute, second, micros } = value else { return None };
    let mut text = format!("{year:04}-{month:02}-{day:02}");
    if has_time {
        text.push_str(&format!(" {hour:02}:{minute:02}:{second:02}"));
        if micros > 0 {
            text.push_str(&format!(".{micros:06}"));
        }
    }
    Some(text)
}

/// Returns days or microseconds since 1970, or `None` for a date that no calendar has.
#[inline]
fn instant(value: Raw<'_>, becomes: Becomes) -> Option<i64> {
    let Raw::Date { year, month, day, hour, minute, second, micros } = value else { return None };
    let date = NaiveDate::from_ymd_opt(year.into(), month.into(), day.into())?;
    if becomes == Becomes::Date {
        return Some(i64::from(date.num_days_from_ce()) - EPOCH_DAYS);
    }
    let moment = date.and_hms_micro_opt(hour.into(), minute.into(), second.into(), micros)?;
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
    use std::sync::Arc;

    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{DurationMicrosecondType, Field, Schema, TimeUnit};
    use arrow::util::display::array_value_to_string;

    use super::*;
    use crate::relational::Columns;

    /// Returns what a value of a column of the type becomes, as text; `None` if it is none of its values.
    fn become_text(
        value: Raw<'_>,
        declared: &str,
        data_type: DataType,
        zero_dates: ZeroDates,
    ) -> Option<String> {
        let field = Field::new("c", data_type, true);
        let remote_type = declared.to_owned();
        let column = RemoteColumn { remote_type, ..RemoteColumn::of_field(&field) };
        let mut columns = Columns::new(Arc::new(Schema::new(vec![field])), 1).unwrap();
        let sink = columns.rows(1, 0).first_mut().unwrap();
        if !put(value, Becomes::of(&column), zero_dates, sink.as_mut()) {
            return None;
        }
        let array = Arc::clone(columns.take().ok()?.column(0));
        match array.is_null(0) {
            true => Some("NULL".to_owned()),
            false => Some(array_value_to_string(&array, 0).unwrap()),
        }
    }

    fn date(year: u16, month: u8, day: u8, time: (u8, u8, u8), micros: u32) -> Raw<'static> {
        let (hour, minute, second) = time;
        Raw::Date { year, month, day, hour, minute, second, micros }
    }

    fn stamp() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, None)
    }

    #[test]
    fn dates_that_no_calendar_has_follow_the_policy() {
        for (year, month, day) in [(0, 0, 0), (2024, 2, 0), (2024, 0, 1), (2024, 2, 31)] {
            let value = date(year, month, day, (0, 0, 0), 0);
            for (declared, data_type) in [("date", DataType::Date32), ("datetime", stamp())] {
                let read = |policy| become_text(value, declared, data_type.clone(), policy);
                assert_eq!(read(ZeroDates::Null).as_deref(), Some("NULL"));
                assert_eq!(read(ZeroDates::Error), None);
            }
        }
        let value = date(1969, 12, 31, (23, 59, 59), 999_999);
        let read = become_text(value, "datetime(6)", stamp(), ZeroDates::Error);
        assert_eq!(read.as_deref(), Some("1969-12-31T23:59:59.999999"));
        let read = become_text(value, "date", DataType::Date32, ZeroDates::Error);
        assert_eq!(read.as_deref(), Some("1969-12-31"));
    }

    #[test]
    fn a_date_that_no_calendar_has_is_a_text() {
        let value = date(2024, 2, 0, (12, 0, 0), 5);
        let read = |declared| become_text(value, declared, DataType::Utf8, ZeroDates::Text);
        assert_eq!(read("date").as_deref(), Some("2024-02-00"));
        assert_eq!(read("datetime(6)").as_deref(), Some("2024-02-00 12:00:00.000005"));
    }

    #[test]
    fn times_reach_beyond_a_day() {
        let value =
            Raw::Time { negative: true, days: 34, hours: 22, minutes: 59, seconds: 59, micros: 0 };
        let mut columns = Columns::new(
            Arc::new(Schema::new(vec![Field::new(
                "c",
                DataType::Duration(TimeUnit::Microsecond),
                true,
            )])),
            1,
        )
        .unwrap();
        let sink = columns.rows(1, 0).first_mut().unwrap();
        assert!(put(value, Becomes::Number, ZeroDates::Null, sink.as_mut()));
        let array = Arc::clone(columns.take().unwrap().column(0));
        let wanted = -((838 * 60 + 59) * 60 + 59) * 1_000_000_i64;
        assert_eq!(array.as_primitive::<DurationMicrosecondType>().value(0), wanted);
    }

    #[test]
    fn text_must_be_text() {
        let bytes = Raw::Bytes(&[0xff]);
        let read =
            |value, declared, data_type| become_text(value, declared, data_type, ZeroDates::Null);
        assert_eq!(read(bytes, "text", DataType::Utf8), None);
        assert_eq!(read(bytes, "blob", DataType::Binary).as_deref(), Some("ff"));
        assert_eq!(read(bytes, "bigint", DataType::Int64), None);
        assert_eq!(read(Raw::Int(7), "strange", DataType::Utf8).as_deref(), Some("7"));
        assert_eq!(read(Raw::Int(7), "decimal(5,2)", DataType::Decimal128(5, 2)), None);
    }
}
