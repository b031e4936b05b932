//! How a value of each type arrives in binary, and the Arrow type that it becomes; [`super::values`] reads it.

use std::sync::Arc;

use datafusion::arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Field, IntervalUnit, TimeUnit,
};
use meshwork_engine::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::relational::TOTAL_DIGITS;

/// What the server adds to the modifier of a numeric.
const MODIFIER_OFFSET: i32 = 4;
/// The zone of instants.
const UTC: &str = "UTC";

/// How the values of a column arrive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Wire {
    Bool,
    Int16,
    Int32,
    Int64,
    /// A bigint that counts, and so is never negative.
    Count,
    /// Unsigned 32 bits, shown as a bigint.
    Oid,
    Float32,
    Float64,
    Decimal128 {
        precision: u8,
        scale: i8,
    },
    Decimal256 {
        precision: u8,
        scale: i8,
    },
    Text,
    /// Text padded with spaces, in arrays; elsewhere the server is asked to cut them.
    PaddedText,
    Bytes,
    Date,
    Time,
    Timestamp,
    /// A timestamp with time zone: a point in time.
    Instant,
    Interval,
    Uuid,
    List(Box<Wire>),
}

impl Wire {
    /// Returns how a numeric of so many digits arrives; `None` if Arrow has none of so many.
    pub(super) fn decimal(precision: u8, scale: i8) -> Option<Self> {
        match precision {
            1..=DECIMAL128_MAX_PRECISION => Some(Self::Decimal128 { precision, scale }),
            ..=DECIMAL256_MAX_PRECISION if precision > 0 => {
                Some(Self::Decimal256 { precision, scale })
            }
            _more => None,
        }
    }

    /// Returns how a type arrives; `None` for types that are asked for as text.
    pub(super) fn of_type(oid: u32, modifier: i32) -> Option<Self> {
        // The numbers are those of pg_type.dat, stable for ever; arrays have numbers of their own.
        let element = |oid| Self::of_type(oid, modifier).map(|wire| Self::List(Box::new(wire)));
        match oid {
            16 => Some(Self::Bool),
            17 => Some(Self::Bytes),
            20 => Some(Self::Int64),
            21 => Some(Self::Int16),
            23 => Some(Self::Int32),
            25 | 1043 => Some(Self::Text),
            26 => Some(Self::Oid),
            700 => Some(Self::Float32),
            701 => Some(Self::Float64),
            1042 => Some(Self::PaddedText),
            1082 => Some(Self::Date),
            1083 => Some(Self::Time),
            1114 => Some(Self::Timestamp),
            1184 => Some(Self::Instant),
            1186 => Some(Self::Interval),
            1700 => numeric(modifier),
            2950 => Some(Self::Uuid),
            1000 => element(16),
            1001 => element(17),
            1005 => element(21),
            1007 => element(23),
            1009 => element(25),
            1014 => element(1042),
            1015 => element(1043),
            1016 => element(20),
            1021 => element(700),
            1022 => element(701),
            1028 => element(26),
            1115 => element(1114),
            1182 => element(1082),
            1183 => element(1083),
            1185 => element(1184),
            1187 => element(1186),
            1231 => element(1700),
            2951 => element(2950),
            _ => None,
        }
    }

    /// Returns how a value arrives that the server computes and casts to [`Wire::computed_type`].
    ///
    /// # Errors
    /// `NotSupported` for types that nothing is computed of.
    pub(super) fn of_computed(data_type: &DataType) -> Result<Self> {
        // Counts and sums have these types, and the extremes of computed decimals.
        match data_type {
            DataType::Int64 => Ok(Self::Int64),
            DataType::UInt64 => Ok(Self::Count),
            DataType::Decimal128(precision, scale) => {
                Ok(Self::Decimal128 { precision: *precision, scale: *scale })
            }
            DataType::Decimal256(precision, scale) => {
                Ok(Self::Decimal256 { precision: *precision, scale: *scale })
            }
            other => Err(Error::not_supported(format!("{other} as the type of an aggregate"))),
        }
    }

    /// The same of a sum that others may be added to.
    ///
    /// # Errors
    /// As those of [`Wire::of_computed`].
    pub(super) fn of_total(data_type: &DataType) -> Result<Self> {
        match data_type {
            DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale) => {
                Ok(Self::Decimal128 { precision: TOTAL_DIGITS, scale: *scale })
            }
            other => Self::of_computed(other),
        }
    }

    /// Returns the server's type for a computed value.
    pub(super) fn computed_type(&self) -> String {
        match self {
            Self::Decimal128 { precision, scale } | Self::Decimal256 { precision, scale } => {
                format!("numeric({precision},{scale})")
            }
            _ => "int8".to_owned(),
        }
    }

    /// Returns the Arrow type.
    pub(super) fn data_type(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 | Self::Oid => DataType::Int64,
            Self::Count => DataType::UInt64,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Decimal128 { precision, scale } => {
                DataType::Decimal128((*precision).min(DECIMAL128_MAX_PRECISION), *scale)
            }
            Self::Decimal256 { precision, scale } => DataType::Decimal256(*precision, *scale),
            Self::Text | Self::PaddedText | Self::Uuid => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            Self::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            Self::List(item) => DataType::List(item.list_field()),
        }
    }

    /// Whether the server has values of the type that Arrow cannot hold.
    pub(super) fn may_be_unrepresentable(&self) -> bool {
        match self {
            Self::Decimal128 { .. }
            | Self::Decimal256 { .. }
            | Self::Date
            | Self::Time
            | Self::Timestamp
            | Self::Instant
            | Self::Interval
            | Self::List(_) => true,
            Self::Bool
            | Self::Int16
            | Self::Int32
            | Self::Int64
            | Self::Count
            | Self::Oid
            | Self::Float32
            | Self::Float64
            | Self::Text
            | Self::PaddedText
            | Self::Bytes
            | Self::Uuid => false,
        }
    }

    /// Returns the field of a list's items.
    pub(super) fn list_field(&self) -> Arc<Field> {
        Arc::new(Field::new_list_field(self.data_type(), true))
    }
}

/// Returns how a numeric of the modifier arrives; without one it has no bounds.
fn numeric(modifier: i32) -> Option<Wire> {
    let modifier = modifier.checked_sub(MODIFIER_OFFSET).filter(|modifier| *modifier >= 0)?;
    let precision = (modifier >> 16) & 0xFFFF;
    // Eleven bits with a sign: since PostgreSQL 15 a scale may be negative or exceed the precision.
    let scale = ((modifier & 0x7FF) ^ 0x400) - 0x400;
    let digits = if scale < 0 { precision - scale } else { precision.max(scale) };
    Wire::decimal(u8::try_from(digits).ok()?, i8::try_from(scale.max(0)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifiers_of_numeric_become_precision_and_scale() {
        let modifier = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7FF)) + 4;
        let decimal = |precision, scale| Some(Wire::Decimal128 { precision, scale });
        assert_eq!(numeric(modifier(15, 2)), decimal(15, 2));
        assert_eq!(numeric(modifier(5, -2)), decimal(7, 0));
        assert_eq!(numeric(modifier(3, 5)), decimal(5, 5));
        assert_eq!(numeric(modifier(38, 10)), decimal(38, 10));
        assert_eq!(numeric(modifier(50, 20)), Some(Wire::Decimal256 { precision: 50, scale: 20 }));
        assert_eq!(numeric(modifier(77, 0)), None);
        assert_eq!(numeric(modifier(1000, 1000)), None);
        assert_eq!(numeric(-1), None);
    }
}
