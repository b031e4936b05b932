//! What is the same for sources that Meshwork itself writes: their words are those of its SQL.

use anyhow::{Context, Result};

use crate::doors::Doors;
use crate::source::{CATALOG, Kind, Table, Type, of, quoted, statements};

/// The schema of the suite's tables.
pub(crate) const SCHEMA: &str = "Made here";

/// Makes a table, and its schema if that is not there.
pub(crate) async fn make(doors: &mut Doors, table: &Table) -> Result<()> {
    let door = doors.first();
    door.change(&format!("CREATE SCHEMA IF NOT EXISTS {CATALOG}.{}", quoted(SCHEMA))).await?;
    for statement in statements(SCHEMA, table, quoted) {
        let statement =
            statement.replacen(&quoted(SCHEMA), &format!("{CATALOG}.{}", quoted(SCHEMA)), 1);
        door.change(&statement).await.with_context(|| table.name.clone())?;
    }
    Ok(())
}

pub(crate) fn declared(kind: Kind) -> &'static str {
    match kind {
        Kind::Integer => "BIGINT",
        Kind::Text => "VARCHAR",
        Kind::Decimal => "DECIMAL(12, 2)",
        Kind::Double => "DOUBLE",
        Kind::Truth => "BOOLEAN",
        Kind::Date => "DATE",
        Kind::Moment => "TIMESTAMP(6)",
    }
}

/// The types that both kinds keep.
pub(crate) fn types() -> Vec<Type> {
    let digits = "99999999999999999999999999999999999.999";
    vec![
        of("BOOLEAN", "boolean", &[("true", "true"), ("false", "false")]),
        of("TINYINT", "tinyint", &[("-128", "-128"), ("127", "127")]),
        of("SMALLINT", "smallint", &[("-32768", "-32768"), ("32767", "32767")]),
        of("INT", "integer", &[("-2147483648", "-2147483648"), ("2147483647", "2147483647")]),
        of(
            "BIGINT",
            "bigint",
            &[
                ("-9223372036854775808", "-9223372036854775808"),
                ("9223372036854775807", "9223372036854775807"),
            ],
        ),
        of("TINYINT UNSIGNED", "tinyint unsigned", &[("0", "0"), ("255", "255")]),
        of("SMALLINT UNSIGNED", "smallint unsigned", &[("65535", "65535")]),
        of("INT UNSIGNED", "integer unsigned", &[("4294967295", "4294967295")]),
        of(
            "BIGINT UNSIGNED",
            "bigint unsigned",
            &[("18446744073709551615", "18446744073709551615")],
        ),
        of(
            "REAL",
            "real",
            &[("'1.5'", "1.5"), ("'-3.4028235e38'", "-3.4028235e38"), ("'NaN'", "NaN")],
        ),
        of(
            "DOUBLE",
            "double",
            &[
                ("'0.1'", "0.1"),
                ("'-1.7976931348623157e308'", "-1.7976931348623157e308"),
                ("'inf'", "inf"),
            ],
        ),
        of(
            "DECIMAL(38, 3)",
            "decimal(38,3)",
            &[("'99999999999999999999999999999999999.999'", digits), ("-0.001", "-0.001")],
        ),
        of("DECIMAL(4, 4)", "decimal(4,4)", &[("0.9999", "0.9999")]),
        of("DATE", "date", &[("'0001-01-01'", "0001-01-01"), ("'9999-12-31'", "9999-12-31")]),
        of(
            "TIMESTAMP(6)",
            "timestamp(6)",
            &[
                ("'1969-12-31 23:59:59.999999'", "1969-12-31T23:59:59.999999"),
                ("'9999-12-31 23:59:59.999999'", "9999-12-31T23:59:59.999999"),
            ],
        ),
        of("TIMESTAMP(0)", "timestamp(0)", &[("'2024-02-29 12:00:00'", "2024-02-29T12:00:00")]),
        of(
            "TIMESTAMP",
            "timestamp(9)",
            &[("'2024-02-29 12:00:00.123456789'", "2024-02-29T12:00:00.123456789")],
        ),
        of("VARCHAR", "varchar", &[("'Grüße 🦀\n'", "Grüße 🦀\n"), ("''", ""), ("'NULL'", "NULL")]),
        of("BYTEA", "varbinary", &[("X'00ff27'", "00ff27"), ("X''", "")]),
    ]
}
