//! Values of statistics as text: sources write them so, and `SHOW STATS` shows them so.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use datafusion::arrow::datatypes::DataType;

use crate::remote::Literal;

/// Reads the text that a source wrote for a value of a column of this type; `None` if it is none, or a value for
/// which statistics have no place.
pub fn literal_of_text(text: &str, data_type: &DataType) -> Option<Literal> {
    // Types that are not listed have no order that all share.
    match data_type {
        DataType::Boolean => match text {
            "t" | "true" | "1" => Some(Literal::Bool(true)),
            "f" | "false" | "0" => Some(Literal::Bool(false)),
            _ => None,
        },
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            text.parse().ok().map(Literal::Int)
        }
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            text.parse().ok().map(Literal::UInt)
        }
        DataType::Float32 | DataType::Float64 => {
            text.parse().ok().map(|value: f64| Literal::Float(value.to_bits()))
        }
        DataType::Decimal128(..) | DataType::Decimal256(..) => decimal(text),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            Some(Literal::Text(text.to_owned()))
        }
        DataType::Date32 => date(text).map(Literal::Date),
        DataType::Timestamp(_, zone) => {
            Some(Literal::Timestamp { micros: micros(text)?, instant: zone.is_some() })
        }
        _ => None,
    }
}

fn decimal(text: &str) -> Option<Literal> {
    let (whole, behind) = text.split_once('.').unwrap_or((text, ""));
    let (sign, whole) = match whole.strip_prefix('-') {
        Some(whole) => ("-", whole),
        None => ("", whole),
    };
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + behind.len() == 0 || !is_digits(whole) || !is_digits(behind) {
        return None;
    }
    let scale = i8::try_from(behind.len()).ok()?;
    Some(Literal::Decimal { unscaled: format!("{sign}{whole}{behind}"), scale })
}

fn date(text: &str) -> Option<i32> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

/// The zone of a text with one is UTC: sessions with sources are pinned to it.
fn micros(text: &str) -> Option<i64> {
    let text =
        ["+00:00", "+00", "Z"].iter().find_map(|zone| text.strip_suffix(zone)).unwrap_or(text);
    let at = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()?;
    Some(at.and_utc().timestamp_micros())
}

/// Returns a value as people read it.
pub fn text_of_literal(value: &Literal) -> String {
    match value {
        Literal::Bool(v) => v.to_string(),
        Literal::Int(v) => v.to_string(),
        Literal::UInt(v) => v.to_string(),
        Literal::Float(bits) => f64::from_bits(*bits).to_string(),
        Literal::Decimal { unscaled, scale } => text_of_decimal(unscaled, *scale),
        Literal::Text(v) => v.clone(),
        Literal::Bytes(v) => v.iter().map(|byte| format!("{byte:02x}")).collect(),
        Literal::Date(days) => {
            let date =
                NaiveDate::default().checked_add_signed(chrono::TimeDelta::days(i64::from(*days)));
            date.map_or_else(|| value.to_string(), |date| date.to_string())
        }
        Literal::Timestamp { micros, .. } => DateTime::from_timestamp_micros(*micros)
            .map_or_else(|| value.to_string(), |at| at.format("%Y-%m-%d %H:%M:%S%.f").to_string()),
    }
}

fn text_of_decimal(unscaled: &str, scale: i8) -> String {
    let (sign, digits) = match unscaled.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", unscaled),
    };
    let Ok(scale @ 1..) = usize::try_from(scale) else {
        let zeros = "0".repeat(usize::from(scale.unsigned_abs()));
        return format!("{sign}{digits}{zeros}");
    };
    let padded = format!("{digits:0>width$}", width = scale + 1);
    match padded.split_at_checked(padded.len() - scale) {
        Some((whole, behind)) => format!("{sign}{whole}.{behind}"),
        None => padded,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn values_are_shown_as_they_were_read() {
        let stamp = DataType::Timestamp(TimeUnit::Microsecond, None);
        for (text, data_type) in [
            ("-17", DataType::Int64),
            ("18446744073709551615", DataType::UInt64),
            ("-0.05", DataType::Decimal128(10, 2)),
            ("12.50", DataType::Decimal128(10, 2)),
            ("7", DataType::Decimal128(10, 0)),
            ("1.5", DataType::Float64),
            ("a b", DataType::Utf8),
            ("1969-12-31", DataType::Date32),
            ("2024-02-29 23:59:59.000001", stamp.clone()),
            ("2024-02-29 00:00:00", stamp),
        ] {
            let value = literal_of_text(text, &data_type);
            assert_eq!(value.as_ref().map(text_of_literal).as_deref(), Some(text), "{data_type}");
        }
    }

    #[test]
    fn what_has_no_place_is_not_known() {
        let stamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        for (text, data_type) in [
            ("infinity", DataType::Date32),
            ("0044-03-15 BC", DataType::Date32),
            ("NaN", DataType::Decimal128(10, 2)),
            (".", DataType::Decimal128(10, 2)),
            ("1e3", DataType::Int64),
            ("-infinity", stamp.clone()),
            ("{1,2}", DataType::new_list(DataType::Int64, true)),
        ] {
            assert_eq!(literal_of_text(text, &data_type), None, "{text}");
        }
        assert!(literal_of_text("2024-02-29 12:00:00+00", &stamp).is_some());
    }
}
