//! Columns of a REST table: their declared types, and JSON rows made into Arrow, strictly.
//!
//! A value that does not fit its type is an error that names column and value kind; nothing is rounded,
//! cut or guessed, but that times finer than a microsecond lose the rest.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, SchemaRef, TimeUnit};
use meshwork_engine::{Error, Result};
use serde_json::Value;
use serde_json::value::RawValue;

use super::json_path::{Fields, JsonPath, Place, fields};

/// Integers beyond that are not exact once they went through a JSON float.
const FLOAT_EXACT_MAX: f64 = 1e15;

/// A number like `1e999999999` would need that many digits; none with more than this fits a decimal.
const EXPONENT_MAX: i64 = 100;

/// What a column's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnType {
    Utf8,
    Int32,
    Int64,
    Float64,
    Bool,
    Decimal { precision: u8, scale: i8 },
    Date,
    Timestamp,
    TimestampUtc,
    Json,
}

/// A column of a table.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) column_type: ColumnType,
    pub(super) nullable: bool,
    /// The type as the manifest says it.
    pub(super) declared: String,
    pub(super) path: JsonPath,
}

impl ColumnType {
    /// Reads `decimal(18,2)!`: the type, and whether it may be NULL.
    pub(super) fn parse(text: &str) -> Option<(Self, bool)> {
        let text = text.trim();
        let (text, nullable) = match text.strip_suffix('!') {
            Some(text) => (text.trim(), false),
            None => (text, true),
        };
        let parsed = match text {
            "utf8" => Self::Utf8,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "float64" => Self::Float64,
            "bool" => Self::Bool,
            "date" => Self::Date,
            "timestamp_us" => Self::Timestamp,
            "timestamp_us_utc" => Self::TimestampUtc,
            "json" => Self::Json,
            _ => decimal(text)?,
        };
        Some((parsed, nullable))
    }

    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Utf8 | Self::Json => DataType::Utf8,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::Decimal { precision, scale } => DataType::Decimal128(precision, scale),
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampUtc => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }
}

fn decimal(text: &str) -> Option<ColumnType> {
    let inner = text.strip_prefix("decimal(")?.strip_suffix(')')?;
    let (precision, scale) = inner.split_once(',')?;
    let precision: u8 = precision.trim().parse().ok()?;
    let scale: i8 = scale.trim().parse().ok()?;
    let fits = (1..=DECIMAL128_MAX_PRECISION).contains(&precision)
        && scale >= 0
        && u8::try_from(scale).is_ok_and(|scale| scale <= precision);
    fits.then_some(ColumnType::Decimal { precision, scale })
}

/// Makes a batch of `rows`, one column for each of `columns`.
pub(super) fn batch(
    columns: &[&Column],
    schema: &SchemaRef,
    rows: &[Box<RawValue>],
    table: &str,
) -> Result<RecordBatch> {
    let row = |row| {
        Row::new(row).map_err(|what| {
            Error::source("SOURCE_FORMAT", format!("a row of table \"{table}\" {what}"))
        })
    };
    let rows = rows.iter().map(|text| row(text)).collect::<Result<Vec<_>>>()?;
    let array = |column: &&Column| {
        column.array(&rows).map_err(|what| {
            let declared = &column.declared;
            Error::source(
                "SOURCE_VALUE_MISMATCH",
                format!("column \"{}\" ({declared}) of table \"{table}\": {what}", column.name),
            )
            .with_hint("Declare the column in the manifest as the source really sends it.")
        })
    };
    let arrays = columns.iter().map(array).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)?)
}

/// A row, and where in its text the fields are.
struct Row<'a> {
    text: &'a RawValue,
    fields: Fields<'a>,
}

impl<'a> Row<'a> {
    fn new(text: &'a RawValue) -> Result<Self, String> {
        let fields = fields(text).map_err(|e| format!("cannot be read: {e}"))?;
        Ok(Self { text, fields: fields.ok_or("is no object")? })
    }
}

impl Column {
    fn array(&self, rows: &[Row<'_>]) -> Result<ArrayRef, String> {
        Ok(match self.column_type {
            ColumnType::Utf8 => Arc::new(StringArray::from(self.values(rows, text)?)),
            ColumnType::Json => {
                Arc::new(StringArray::from(self.texts(rows, |text| Ok(text.get().to_owned()))?))
            }
            ColumnType::Int32 => {
                let narrow = |value: &Value| {
                    i32::try_from(integer(value)?).map_err(|_wide| format!("{value} is too large"))
                };
                Arc::new(Int32Array::from(self.values(rows, narrow)?))
            }
            ColumnType::Int64 => Arc::new(Int64Array::from(self.values(rows, integer)?)),
            ColumnType::Float64 => Arc::new(Float64Array::from(self.texts(rows, float)?)),
            ColumnType::Bool => Arc::new(BooleanArray::from(
                self.values(rows, |value| value.as_bool().ok_or_else(|| unfit(value)))?,
            )),
            ColumnType::Decimal { precision, scale } => {
                let values = self.texts(rows, |text| unscaled(text, precision, scale))?;
                let array =
                    Decimal128Array::from(values).with_precision_and_scale(precision, scale);
                Arc::new(array.map_err(|e| e.to_string())?)
            }
            ColumnType::Date => Arc::new(Date32Array::from(self.values(rows, date)?)),
            ColumnType::Timestamp => {
                Arc::new(TimestampMicrosecondArray::from(self.values(rows, timestamp)?))
            }
            ColumnType::TimestampUtc => Arc::new(
                TimestampMicrosecondArray::from(self.values(rows, instant)?).with_timezone("UTC"),
            ),
        })
    }

    fn values<T>(
        &self,
        rows: &[Row<'_>],
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Result<Vec<Option<T>>, String> {
        self.texts(rows, |text| read(&parsed(text)?))
    }

    /// Reads values by what the source wrote: a tree of JSON would have rounded numbers already.
    fn texts<T>(
        &self,
        rows: &[Row<'_>],
        read: impl Fn(&RawValue) -> Result<T, String>,
    ) -> Result<Vec<Option<T>>, String> {
        let value = |row: &Row<'_>| {
            let place = self.path.one_of(row.text, &row.fields);
            match place.map_err(|e| format!("a row cannot be read: {e}"))? {
                Place::Value(text) if text.get() == "null" => match self.nullable {
                    true => Ok(None),
                    false => Err("the value is null".to_owned()),
                },
                Place::Missing if self.nullable => Ok(None),
                Place::Missing => Err(format!("a row has no {}", self.path)),
                Place::Value(text) => read(text).map(Some),
            }
        };
        rows.iter().map(value).collect()
    }
}

fn parsed(text: &RawValue) -> Result<Value, String> {
    serde_json::from_str(text.get()).map_err(|e| format!("a value cannot be read: {e}"))
}

/// Says the kind of a value and not the value, which may be long or private.
fn unfit(value: &Value) -> String {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string that does not read as that type",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    format!("a value is {kind}")
}

fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(unfit(value))
        }
    }
}

fn integer(value: &Value) -> Result<i64, String> {
    if let Some(integer) = value.as_i64() {
        return Ok(integer);
    }
    match value.as_f64() {
        // JSON knows one kind of number: 3.0 is 3.
        Some(float) if float.fract() == 0.0 && float.abs() <= FLOAT_EXACT_MAX => {
            format!("{float:.0}").parse().map_err(|_wide| unfit(value))
        }
        Some(_) if value.is_u64() => Err("an integer is too large".to_owned()),
        _ => Err(unfit(value)),
    }
}

/// The nearest float: that of a JSON tree may be the one beside it.
fn float(text: &RawValue) -> Result<f64, String> {
    let value = parsed(text)?;
    let float = value.is_number().then(|| text.get().parse().ok()).flatten();
    float.filter(|float: &f64| float.is_finite()).ok_or_else(|| unfit(&value))
}

/// Returns the digits of a number, or of a string that is one, without the point.
fn unscaled(text: &RawValue, precision: u8, scale: i8) -> Result<i128, String> {
    let value = &parsed(text)?;
    let digits = match value {
        Value::String(text) => text.clone(),
        Value::Number(_) => without_exponent(text.get())
            .ok_or_else(|| format!("a value has more than {precision} digits"))?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            return Err(unfit(value));
        }
    };
    let (sign, magnitude) = match digits.strip_prefix('-') {
        Some(magnitude) => (-1, magnitude),
        None => (1, digits.as_str()),
    };
    let (whole, fraction) = magnitude.split_once('.').unwrap_or((magnitude, ""));
    let fraction = fraction.trim_end_matches('0');
    let scale = usize::from(scale.unsigned_abs());
    let is_number =
        !whole.is_empty() && format!("{whole}{fraction}").bytes().all(|b| b.is_ascii_digit());
    if !is_number {
        return Err(unfit(value));
    }
    if fraction.len() > scale {
        return Err(format!("a value has more than {scale} digits behind the point"));
    }
    let all = format!("{whole}{fraction:0<scale$}");
    let all = all.trim_start_matches('0');
    if all.len() > usize::from(precision) {
        return Err(format!("a value has more than {precision} digits"));
    }
    let unscaled: i128 = if all.is_empty() { 0 } else { all.parse().map_err(|_e| unfit(value))? };
    Ok(sign * unscaled)
}

/// Writes out a JSON number: `1.5e-3` is 0.0015. `None` if that would be absurdly long.
fn without_exponent(number: &str) -> Option<String> {
    let Some((mantissa, exponent)) = number.split_once(['e', 'E']) else {
        return Some(number.to_owned());
    };
    let shift: i64 = exponent.parse().ok()?;
    let places = usize::try_from(shift.unsigned_abs()).ok()?;
    if shift.abs() > EXPONENT_MAX {
        return None;
    }
    let (sign, magnitude) = match mantissa.strip_prefix('-') {
        Some(magnitude) => ("-", magnitude),
        None => ("", mantissa),
    };
    let (whole, fraction) = magnitude.split_once('.').unwrap_or((magnitude, ""));
    // Zeros for the point to move over, on the side that it moves to.
    let (digits, point) = match shift < 0 {
        true => (format!("{}{whole}{fraction}", "0".repeat(places)), whole.len()),
        false => (format!("{whole}{fraction:0<places$}"), whole.len() + places),
    };
    let (whole, fraction) = digits.split_at_checked(point)?;
    Some(format!("{sign}{whole}.{fraction}"))
}

fn date(value: &Value) -> Result<i32, String> {
    let text = value.as_str().ok_or_else(|| unfit(value))?;
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_e| unfit(value))?;
    let days = date.signed_duration_since(NaiveDate::default()).num_days();
    i32::try_from(days).map_err(|_e| unfit(value))
}

fn timestamp(value: &Value) -> Result<i64, String> {
    let text = value.as_str().ok_or_else(|| unfit(value))?;
    let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
    let parsed = formats.iter().find_map(|f| NaiveDateTime::parse_from_str(text, f).ok());
    Ok(parsed.ok_or_else(|| unfit(value))?.and_utc().timestamp_micros())
}

fn instant(value: &Value) -> Result<i64, String> {
    let text = value.as_str().ok_or_else(|| unfit(value))?;
    let parsed = DateTime::parse_from_rfc3339(text).map_err(|_e| unfit(value))?;
    Ok(parsed.timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::{ColumnType, date, float, instant, integer, timestamp, unscaled};
    use serde_json::json;
    use serde_json::value::RawValue;

    fn raw(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn types_are_read() {
        let decimal = ColumnType::Decimal { precision: 18, scale: 2 };
        assert_eq!(ColumnType::parse("decimal(18, 2)!"), Some((decimal, false)));
        assert_eq!(ColumnType::parse("utf8"), Some((ColumnType::Utf8, true)));
        for wrong in ["string", "decimal(39,2)", "decimal(2,3)", "decimal(5,-1)", "int64!!"] {
            assert_eq!(ColumnType::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        for (text, precision, scale, digits) in [
            ("\"12.3\"", 10, 2, 1230),
            ("-0.07", 10, 2, -7),
            ("5", 10, 2, 500),
            ("\"1.200\"", 10, 2, 120),
            ("123456.123456789012", 30, 12, 123_456_123_456_789_012),
            ("12345678901234567890123456.78", 38, 2, 1_234_567_890_123_456_789_012_345_678),
            ("1.5e-2", 10, 3, 15),
            ("-12.5E+2", 10, 2, -125_000),
            ("0.000e99", 10, 2, 0),
            ("120e-2", 10, 2, 120),
        ] {
            assert_eq!(unscaled(&raw(text), precision, scale), Ok(digits), "{text}");
        }
        let long = raw("\"12345678901234567890123456789012345678\"");
        assert_eq!(unscaled(&long, 38, 0).unwrap() % 10, 8);
        for wrong in [
            "\"1.234\"",
            "\"123456789.00\"",
            "\"1e3\"",
            "\"\"",
            "\".\"",
            "1.234",
            "1e300",
            "1e-300",
            "1e99999999999999999999",
            "true",
            "\"\\ud800\"",
        ] {
            assert!(unscaled(&raw(wrong), 10, 2).is_err(), "{wrong}");
        }
    }

    #[test]
    fn floats_are_the_nearest() {
        assert_eq!(float(&raw("0.1")), Ok(0.1));
        assert_eq!(float(&raw("3")), Ok(3.0));
        assert!(float(&raw("1e999")).is_err() && float(&raw("\"1\"")).is_err());
    }

    #[test]
    fn integers_and_times_are_strict() {
        assert_eq!(integer(&json!(3.0)), Ok(3));
        assert!(integer(&json!(3.5)).is_err() && integer(&json!("3")).is_err());
        assert!(integer(&json!(u64::MAX)).is_err());
        assert_eq!(date(&json!("1970-01-02")), Ok(1));
        assert!(date(&json!("1970-02-30")).is_err());
        assert_eq!(timestamp(&json!("1970-01-01T00:00:01.5")), Ok(1_500_000));
        assert!(timestamp(&json!("1970-01-01T00:00:01Z")).is_err());
        assert_eq!(instant(&json!("1970-01-01T01:00:00+01:00")), Ok(0));
        assert!(instant(&json!("1970-01-01T01:00:00")).is_err());
    }
}
