//! Constants, as values that travel to sources and workers.

use std::fmt;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use serde::{Deserialize, Serialize};

/// A constant in a condition; never NULL (SQL's NULL rules stay with the engine).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Literal {
    /// True or false.
    Bool(bool),
    /// Any signed integer.
    Int(i64),
    /// Any unsigned integer.
    UInt(u64),
    /// A float by its bits, so that NaN, -0.0 and infinities survive the trip.
    Float(u64),
    /// An unscaled decimal value (as text: JSON has no 128-bit numbers) and its scale.
    Decimal {
        /// The digits without the point, with sign.
        unscaled: String,
        /// Digits behind the point.
        scale: i8,
    },
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since 1970-01-01 00:00:00, without a zone or in UTC.
    Timestamp {
        /// Microseconds.
        micros: i64,
        /// Whether it is an instant (the type had a zone).
        instant: bool,
    },
}

impl Literal {
    /// Returns the literal of a scalar, or `None` for NULL and for types that sources do not share.
    pub fn from_scalar(scalar: &ScalarValue) -> Option<Self> {
        let timestamp = |micros: Option<i64>, zone: &Option<_>| {
            micros.map(|micros| Self::Timestamp { micros, instant: zone.is_some() })
        };
        // Every type that is not listed stays with the engine.
        match scalar {
            ScalarValue::Boolean(v) => v.map(Self::Bool),
            ScalarValue::Int8(v) => v.map(|v| Self::Int(v.into())),
            ScalarValue::Int16(v) => v.map(|v| Self::Int(v.into())),
            ScalarValue::Int32(v) => v.map(|v| Self::Int(v.into())),
            ScalarValue::Int64(v) => v.map(Self::Int),
            ScalarValue::UInt8(v) => v.map(|v| Self::UInt(v.into())),
            ScalarValue::UInt16(v) => v.map(|v| Self::UInt(v.into())),
            ScalarValue::UInt32(v) => v.map(|v| Self::UInt(v.into())),
            ScalarValue::UInt64(v) => v.map(Self::UInt),
            ScalarValue::Float32(v) => v.map(|v| Self::Float(f64::from(v).to_bits())),
            ScalarValue::Float64(v) => v.map(|v| Self::Float(v.to_bits())),
            ScalarValue::Decimal128(v, _, scale) => {
                v.map(|v| Self::Decimal { unscaled: v.to_string(), scale: *scale })
            }
            ScalarValue::Decimal256(v, _, scale) => {
                v.map(|v| Self::Decimal { unscaled: v.to_string(), scale: *scale })
            }
            ScalarValue::Utf8(v) | ScalarValue::LargeUtf8(v) | ScalarValue::Utf8View(v) => {
                v.clone().map(Self::Text)
            }
            ScalarValue::Binary(v) | ScalarValue::LargeBinary(v) | ScalarValue::BinaryView(v) => {
                v.clone().map(Self::Bytes)
            }
            ScalarValue::Date32(v) => v.map(Self::Date),
            ScalarValue::TimestampSecond(v, zone) => {
                timestamp(v.and_then(|v| v.checked_mul(1_000_000)), zone)
            }
            ScalarValue::TimestampMillisecond(v, zone) => {
                timestamp(v.and_then(|v| v.checked_mul(1_000)), zone)
            }
            ScalarValue::TimestampMicrosecond(v, zone) => timestamp(*v, zone),
            // Only whole microseconds: sources do not go finer.
            ScalarValue::TimestampNanosecond(Some(v), zone) if v % 1_000 == 0 => {
                timestamp(Some(v / 1_000), zone)
            }
            ScalarValue::Dictionary(_, value) => Self::from_scalar(value),
            _ => None,
        }
    }

    /// Returns the type of an exact number, just wide enough for a decimal; `None` if it is none.
    pub(super) fn number_type(&self) -> Option<DataType> {
        match self {
            Self::Int(_) => Some(DataType::Int64),
            Self::UInt(_) => Some(DataType::UInt64),
            Self::Decimal { unscaled, scale } => {
                let n_digits = unscaled.trim_start_matches('-').len();
                Some(DataType::Decimal256(u8::try_from(n_digits).ok()?, *scale))
            }
            Self::Bool(_)
            | Self::Float(_)
            | Self::Text(_)
            | Self::Bytes(_)
            | Self::Date(_)
            | Self::Timestamp { .. } => None,
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(v) => write!(f, "{v}"),
            Self::Int(v) => write!(f, "{v}"),
            Self::UInt(v) => write!(f, "{v}"),
            Self::Float(bits) => write!(f, "{:?}", f64::from_bits(*bits)),
            Self::Decimal { unscaled, scale } => write!(f, "{unscaled}e-{scale}"),
            Self::Text(v) => write!(f, "{v:?}"),
            Self::Bytes(v) => write!(f, "{} bytes", v.len()),
            Self::Date(days) => write!(f, "day {days}"),
            Self::Timestamp { micros, .. } => write!(f, "{micros} us"),
        }
    }
}
