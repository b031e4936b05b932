//! Types of columns, with the names that the log uses for them.
//!
//! The log must be readable for decades, so it never holds Arrow's own type names. A type has exactly one Arrow type;
//! the several Arrow layouts of text and of bytes are one type here.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "Arrow's types are many; those that no column type maps to fall there"
)]

use std::fmt;
use std::str::FromStr;

use arrow::datatypes::{DataType, TimeUnit as ArrowTimeUnit};
use serde::{Deserialize, Serialize};

/// Units of timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeUnit {
    /// `s`
    Second,
    /// `ms`
    Millisecond,
    /// `us`
    Microsecond,
    /// `ns`
    Nanosecond,
}

impl TimeUnit {
    const ALL: [Self; 4] = [Self::Second, Self::Millisecond, Self::Microsecond, Self::Nanosecond];

    fn name(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Millisecond => "ms",
            Self::Microsecond => "us",
            Self::Nanosecond => "ns",
        }
    }

    fn arrow(self) -> ArrowTimeUnit {
        match self {
            Self::Second => ArrowTimeUnit::Second,
            Self::Millisecond => ArrowTimeUnit::Millisecond,
            Self::Microsecond => ArrowTimeUnit::Microsecond,
            Self::Nanosecond => ArrowTimeUnit::Nanosecond,
        }
    }

    fn from_arrow(unit: ArrowTimeUnit) -> Self {
        match unit {
            ArrowTimeUnit::Second => Self::Second,
            ArrowTimeUnit::Millisecond => Self::Millisecond,
            ArrowTimeUnit::Microsecond => Self::Microsecond,
            ArrowTimeUnit::Nanosecond => Self::Nanosecond,
        }
    }
}

/// The type of a column. Its text form, `decimal(18,4)` for one, is what the log holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ColumnType {
    /// `bool`
    Bool,
    /// `int8`
    Int8,
    /// `int16`
    Int16,
    /// `int32`
    Int32,
    /// `int64`
    Int64,
    /// `uint8`
    UInt8,
    /// `uint16`
    UInt16,
    /// `uint32`
    UInt32,
    /// `uint64`
    UInt64,
    /// `float32`
    Float32,
    /// `float64`
    Float64,
    /// `decimal(precision,scale)`, 128 bits
    Decimal(u8, i8),
    /// `date`: days since 1970
    Date,
    /// `timestamp(unit)` or `timestamp(unit,zone)`
    Timestamp(TimeUnit, Option<String>),
    /// `utf8`
    Utf8,
    /// `binary`
    Binary,
}

/// Types without parameters and their names.
const PLAIN: [(ColumnType, &str, DataType); 14] = [
    (ColumnType::Bool, "bool", DataType::Boolean),
    (ColumnType::Int8, "int8", DataType::Int8),
    (ColumnType::Int16, "int16", DataType::Int16),
    (ColumnType::Int32, "int32", DataType::Int32),
    (ColumnType::Int64, "int64", DataType::Int64),
    (ColumnType::UInt8, "uint8", DataType::UInt8),
    (ColumnType::UInt16, "uint16", DataType::UInt16),
    (ColumnType::UInt32, "uint32", DataType::UInt32),
    (ColumnType::UInt64, "uint64", DataType::UInt64),
    (ColumnType::Float32, "float32", DataType::Float32),
    (ColumnType::Float64, "float64", DataType::Float64),
    (ColumnType::Date, "date", DataType::Date32),
    (ColumnType::Utf8, "utf8", DataType::Utf8),
    (ColumnType::Binary, "binary", DataType::Binary),
];

impl ColumnType {
    /// Returns the type that stores an Arrow type, or None if the store has none for it.
    pub fn from_arrow(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Decimal128(precision, scale) => Some(Self::Decimal(*precision, *scale)),
            DataType::Timestamp(unit, zone) => {
                let zone = zone.as_deref().map(str::to_owned);
                Some(Self::Timestamp(TimeUnit::from_arrow(*unit), zone))
            }
            DataType::Utf8View | DataType::LargeUtf8 => Some(Self::Utf8),
            DataType::BinaryView | DataType::LargeBinary => Some(Self::Binary),
            plain => {
                PLAIN.iter().find(|(_, _, arrow)| arrow == plain).map(|(own, _, _)| own.clone())
            }
        }
    }

    /// Returns the Arrow type of the column in memory and in files.
    pub fn to_arrow(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int8 => DataType::Int8,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::UInt8 => DataType::UInt8,
            Self::UInt16 => DataType::UInt16,
            Self::UInt32 => DataType::UInt32,
            Self::UInt64 => DataType::UInt64,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Decimal(precision, scale) => DataType::Decimal128(*precision, *scale),
            Self::Date => DataType::Date32,
            Self::Timestamp(unit, zone) => {
                DataType::Timestamp(unit.arrow(), zone.as_deref().map(Into::into))
            }
            Self::Utf8 => DataType::Utf8,
            Self::Binary => DataType::Binary,
        }
    }

    /// Says whether equal values have one representation, so that the type can be part of a key.
    pub(crate) fn fits_key(&self) -> bool {
        !matches!(self, Self::Float32 | Self::Float64)
    }

    /// Returns the type that a sum over the type is kept in: the widest of its family.
    pub(crate) fn of_sum(&self) -> Option<Self> {
        match self {
            Self::Int8 | Self::Int16 | Self::Int32 | Self::Int64 => Some(Self::Int64),
            Self::UInt8 | Self::UInt16 | Self::UInt32 | Self::UInt64 => Some(Self::UInt64),
            Self::Float32 | Self::Float64 => Some(Self::Float64),
            Self::Decimal(_, scale) => Some(Self::Decimal(38, *scale)),
            Self::Bool | Self::Date | Self::Timestamp(..) | Self::Utf8 | Self::Binary => None,
        }
    }
}

impl ColumnType {
    /// Whether each value of this type is the same value of the other one, and its zone maps read the same.
    pub(crate) fn widens_to(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int8, Self::Int16 | Self::Int32 | Self::Int64)
            | (Self::Int16, Self::Int32 | Self::Int64)
            | (Self::Int32, Self::Int64)
            | (Self::UInt8, Self::UInt16 | Self::UInt32 | Self::UInt64)
            | (Self::UInt16, Self::UInt32 | Self::UInt64)
            | (Self::UInt32, Self::UInt64)
            | (Self::Float32, Self::Float64) => true,
            (Self::Decimal(from, scale), Self::Decimal(to, new_scale)) => {
                scale == new_scale && from < to
            }
            (_, _) => false,
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decimal(precision, scale) => write!(f, "decimal({precision},{scale})"),
            Self::Timestamp(unit, None) => write!(f, "timestamp({})", unit.name()),
            Self::Timestamp(unit, Some(zone)) => write!(f, "timestamp({},{zone})", unit.name()),
            plain => {
                let name = PLAIN.iter().find(|(own, _, _)| own == plain).map(|(_, name, _)| name);
                f.write_str(name.copied().unwrap_or_default())
            }
        }
    }
}

impl FromStr for ColumnType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((own, _, _)) = PLAIN.iter().find(|(_, name, _)| *name == text) {
            return Ok(own.clone());
        }
        parse_with_parameters(text).ok_or_else(|| format!("no column type is called \"{text}\""))
    }
}

fn parse_with_parameters(text: &str) -> Option<ColumnType> {
    let (name, parameters) = text.strip_suffix(')')?.split_once('(')?;
    match name {
        "decimal" => {
            let (precision, scale) = parameters.split_once(',')?;
            Some(ColumnType::Decimal(precision.parse().ok()?, scale.parse().ok()?))
        }
        "timestamp" => {
            let (unit, zone) = match parameters.split_once(',') {
                Some((unit, zone)) => (unit, Some(zone.to_owned())),
                None => (parameters, None),
            };
            let unit = TimeUnit::ALL.into_iter().find(|known| known.name() == unit)?;
            Some(ColumnType::Timestamp(unit, zone))
        }
        _ => None,
    }
}

impl TryFrom<String> for ColumnType {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ColumnType> for String {
    fn from(column_type: ColumnType) -> Self {
        column_type.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives_its_text_form_and_its_arrow_form() {
        let with_parameters = [
            ColumnType::Decimal(18, 4),
            ColumnType::Timestamp(TimeUnit::Microsecond, None),
            ColumnType::Timestamp(TimeUnit::Nanosecond, Some("Europe/Berlin".to_owned())),
        ];
        let plain = PLAIN.iter().map(|(own, _, _)| own.clone());
        for column_type in plain.chain(with_parameters) {
            assert_eq!(column_type.to_string().parse(), Ok(column_type.clone()));
            assert_eq!(ColumnType::from_arrow(&column_type.to_arrow()), Some(column_type));
        }
        assert!("timestamp(min)".parse::<ColumnType>().is_err());
    }
}
