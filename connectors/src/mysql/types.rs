//! What a type of MySQL or MariaDB is to the engine.
//!
//! Every column has a type here; one that we do not know is read as the text the server makes of it.

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, TimeUnit};
use meshwork_engine::remote::RemoteColumn;
use mysql_async::Column;
use mysql_async::consts::{ColumnFlags, ColumnType};
use serde::{Deserialize, Serialize};

use super::options::ZeroDates;

/// What else is known of a column; travels in `RemoteColumn::detail`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Detail {
    /// The name of the type without its arguments: `int`, `varchar`, ...
    pub base: String,
    /// The character set of text.
    pub charset: Option<String>,
    /// The collation of text.
    pub collation: Option<String>,
    /// Whether the column alone is the table's primary key.
    pub primary_key: bool,
    /// Whether the column is one of a view, so that an expression may stand behind it.
    pub of_view: bool,
}

impl Detail {
    /// Returns what was recorded of the column.
    pub(super) fn of(column: &RemoteColumn) -> Self {
        serde_json::from_value(column.detail.clone()).unwrap_or_default()
    }
}

/// The description of a column in `information_schema`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Declared<'a> {
    /// `DATA_TYPE`: the name alone.
    pub base: &'a str,
    /// `COLUMN_TYPE`: with arguments and attributes.
    pub full: &'a str,
    pub precision: Option<u64>,
    pub scale: Option<u64>,
}

/// Returns the engine's type of a column.
pub(super) fn engine_type(declared: Declared<'_>) -> DataType {
    let unsigned = declared.full.contains("unsigned");
    let signs = |signed, unsigned_type| if unsigned { unsigned_type } else { signed };
    match declared.base {
        "tinyint" => signs(DataType::Int8, DataType::UInt8),
        "smallint" => signs(DataType::Int16, DataType::UInt16),
        "mediumint" | "int" | "integer" => signs(DataType::Int32, DataType::UInt32),
        "bigint" => signs(DataType::Int64, DataType::UInt64),
        "decimal" | "numeric" => decimal(declared),
        "float" => DataType::Float32,
        "double" | "real" => DataType::Float64,
        "bit" if declared.precision == Some(1) => DataType::Boolean,
        "year" => DataType::Int16,
        "date" => DataType::Date32,
        "datetime" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "time" => DataType::Duration(TimeUnit::Microsecond),
        "bit" | "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob"
        | "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geometrycollection" | "geomcollection" | "vector" => DataType::Binary,
        // Text of all lengths, enum, set, json, uuid, inet4, inet6, and what comes next.
        _ => DataType::Utf8,
    }
}

/// Whether values of a column of a result can be read as the engine's type. Whatever is read as text or bytes may be anything.
pub(super) fn arrives_as(column: &Column, data_type: &DataType) -> bool {
    use ColumnType::{
        MYSQL_TYPE_BIT, MYSQL_TYPE_DATE, MYSQL_TYPE_DATETIME, MYSQL_TYPE_DATETIME2,
        MYSQL_TYPE_DECIMAL, MYSQL_TYPE_DOUBLE, MYSQL_TYPE_FLOAT, MYSQL_TYPE_INT24, MYSQL_TYPE_LONG,
        MYSQL_TYPE_LONGLONG, MYSQL_TYPE_NEWDATE, MYSQL_TYPE_NEWDECIMAL, MYSQL_TYPE_SHORT,
        MYSQL_TYPE_TIME, MYSQL_TYPE_TIME2, MYSQL_TYPE_TIMESTAMP, MYSQL_TYPE_TIMESTAMP2,
        MYSQL_TYPE_TINY, MYSQL_TYPE_YEAR,
    };
    let arrives = column.column_type();
    let is_unsigned = column.flags().contains(ColumnFlags::UNSIGNED_FLAG);
    // The types that `engine_type` returns.
    match data_type {
        DataType::Int8 => arrives == MYSQL_TYPE_TINY && !is_unsigned,
        DataType::UInt8 => arrives == MYSQL_TYPE_TINY && is_unsigned,
        DataType::Int16 => {
            arrives == MYSQL_TYPE_YEAR || (arrives == MYSQL_TYPE_SHORT && !is_unsigned)
        }
        DataType::UInt16 => arrives == MYSQL_TYPE_SHORT && is_unsigned,
        DataType::Int32 => matches!(arrives, MYSQL_TYPE_LONG | MYSQL_TYPE_INT24) && !is_unsigned,
        DataType::UInt32 => matches!(arrives, MYSQL_TYPE_LONG | MYSQL_TYPE_INT24) && is_unsigned,
        DataType::Int64 => arrives == MYSQL_TYPE_LONGLONG && !is_unsigned,
        DataType::UInt64 => arrives == MYSQL_TYPE_LONGLONG && is_unsigned,
        DataType::Float32 => arrives == MYSQL_TYPE_FLOAT,
        DataType::Float64 => arrives == MYSQL_TYPE_DOUBLE,
        DataType::Boolean => arrives == MYSQL_TYPE_BIT && column.column_length() == 1,
        DataType::Date32 => matches!(arrives, MYSQL_TYPE_DATE | MYSQL_TYPE_NEWDATE),
        DataType::Timestamp(_, None) => {
            matches!(arrives, MYSQL_TYPE_DATETIME | MYSQL_TYPE_DATETIME2)
        }
        DataType::Timestamp(_, Some(_)) => {
            matches!(arrives, MYSQL_TYPE_TIMESTAMP | MYSQL_TYPE_TIMESTAMP2)
        }
        DataType::Duration(_) => matches!(arrives, MYSQL_TYPE_TIME | MYSQL_TYPE_TIME2),
        DataType::Decimal128(..) | DataType::Decimal256(..) => {
            matches!(arrives, MYSQL_TYPE_NEWDECIMAL | MYSQL_TYPE_DECIMAL)
        }
        _ => true,
    }
}

/// Returns the engine's type of a column under the catalog's policy.
pub(super) fn type_under(policy: ZeroDates, declared: Declared<'_>) -> DataType {
    match policy == ZeroDates::Text && is_date(declared.full) {
        true => DataType::Utf8,
        false => engine_type(declared),
    }
}

/// Whether values of the type are dates, with a time of day or without, so that the calendar may not have them.
pub(super) fn is_date(full: &str) -> bool {
    matches!(name_of(full), "date" | "datetime" | "timestamp")
}

/// Returns the name of a type without its arguments and attributes.
pub(super) fn name_of(full: &str) -> &str {
    full.split(['(', ' ']).next().unwrap_or_default()
}

/// MySQL's decimals have up to 65 digits, of which up to 38 behind the point.
fn decimal(declared: Declared<'_>) -> DataType {
    let precision = declared.precision.and_then(|precision| u8::try_from(precision).ok());
    let scale = declared.scale.and_then(|scale| i8::try_from(scale).ok());
    match (precision, scale) {
        (Some(precision @ 1..=DECIMAL128_MAX_PRECISION), Some(scale)) => {
            DataType::Decimal128(precision, scale)
        }
        (Some(precision @ 1..=65), Some(scale)) => DataType::Decimal256(precision, scale),
        _ => DataType::Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_one_here() {
        let plain = |base, full| engine_type(Declared { base, full, ..Declared::default() });
        assert_eq!(plain("tinyint", "tinyint(1)"), DataType::Int8);
        assert_eq!(plain("int", "int(10) unsigned zerofill"), DataType::UInt32);
        assert_eq!(plain("bigint", "bigint(20) unsigned"), DataType::UInt64);
        assert_eq!(plain("enum", "enum('unsigned')"), DataType::Utf8);
        assert_eq!(plain("set", "set('a','b')"), DataType::Utf8);
        assert_eq!(plain("inet6", "inet6"), DataType::Utf8);
        assert_eq!(plain("something_new", "something_new(3)"), DataType::Utf8);
        let date = Declared { base: "date", full: "date", ..Declared::default() };
        assert_eq!(type_under(ZeroDates::Null, date), DataType::Date32);
        assert_eq!(type_under(ZeroDates::Text, date), DataType::Utf8);
        let sized = |base, precision, scale| {
            engine_type(Declared { base, full: base, precision: Some(precision), scale })
        };
        assert_eq!(sized("decimal", 38, Some(38)), DataType::Decimal128(38, 38));
        assert_eq!(sized("decimal", 65, Some(30)), DataType::Decimal256(65, 30));
        assert_eq!(sized("bit", 1, None), DataType::Boolean);
        assert_eq!(sized("bit", 8, None), DataType::Binary);
    }
}
