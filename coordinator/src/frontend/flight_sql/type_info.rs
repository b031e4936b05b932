//! `GetXdbcTypeInfo`: the SQL types that can be written here.

use arrow_flight::error::Result;
use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode};

/// Returns all types.
pub(super) fn type_info() -> Result<XdbcTypeInfoData> {
    let mut builder = XdbcTypeInfoDataBuilder::new();
    for described in types() {
        builder.append(described);
    }
    builder.build()
}

fn types() -> Vec<XdbcTypeInfo> {
    vec![
        other("BOOLEAN", XdbcDataType::XdbcBit, 1),
        number("TINYINT", XdbcDataType::XdbcTinyint, 8, 2),
        number("SMALLINT", XdbcDataType::XdbcSmallint, 16, 2),
        number("INTEGER", XdbcDataType::XdbcInteger, 32, 2),
        number("BIGINT", XdbcDataType::XdbcBigint, 64, 2),
        number("REAL", XdbcDataType::XdbcReal, 24, 2),
        number("DOUBLE", XdbcDataType::XdbcDouble, 53, 2),
        XdbcTypeInfo {
            create_params: Some(vec!["precision".to_owned(), "scale".to_owned()]),
            fixed_prec_scale: true,
            minimum_scale: Some(0),
            maximum_scale: Some(38),
            ..number("DECIMAL", XdbcDataType::XdbcDecimal, 38, 10)
        },
        XdbcTypeInfo {
            case_sensitive: true,
            ..quoted("VARCHAR", XdbcDataType::XdbcVarchar, "'", i32::MAX)
        },
        quoted("VARBINARY", XdbcDataType::XdbcVarbinary, "X'", i32::MAX),
        // The specification gives DATE and YEAR the same number.
        datetime("DATE", XdbcDataType::XdbcDate, XdbcDatetimeSubcode::XdbcSubcodeYear, 10),
        datetime("TIME", XdbcDataType::XdbcTime, XdbcDatetimeSubcode::XdbcSubcodeTime, 18),
        datetime(
            "TIMESTAMP",
            XdbcDataType::XdbcTimestamp,
            XdbcDatetimeSubcode::XdbcSubcodeTimestamp,
            29,
        ),
    ]
}

fn other(name: &str, data_type: XdbcDataType, size: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.to_owned(),
        local_type_name: Some(name.to_owned()),
        data_type,
        sql_data_type: data_type,
        column_size: Some(size),
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        auto_increment: Some(false),
        ..XdbcTypeInfo::default()
    }
}

fn number(name: &str, data_type: XdbcDataType, size: i32, radix: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        unsigned_attribute: Some(false),
        num_prec_radix: Some(radix),
        ..other(name, data_type, size)
    }
}

fn quoted(name: &str, data_type: XdbcDataType, prefix: &str, size: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        literal_prefix: Some(prefix.to_owned()),
        literal_suffix: Some("'".to_owned()),
        ..other(name, data_type, size)
    }
}

fn datetime(
    name: &str,
    data_type: XdbcDataType,
    subcode: XdbcDatetimeSubcode,
    size: i32,
) -> XdbcTypeInfo {
    XdbcTypeInfo {
        sql_data_type: XdbcDataType::XdbcDatetime,
        datetime_subcode: Some(subcode),
        literal_prefix: Some(format!("{name} '")),
        ..quoted(name, data_type, "'", size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_types_or_one_are_listed() {
        let types = type_info().unwrap();
        assert_eq!(types.record_batch(None).unwrap().num_rows(), 13);
        let bigint = types.record_batch(XdbcDataType::XdbcBigint as i32).unwrap();
        assert_eq!(bigint.num_rows(), 1);
    }
}
