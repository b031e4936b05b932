//! New tables and schemas, and what is dropped: which type of the server a type of the engine becomes.

use datafusion::arrow::datatypes::{DataType, Field};
use meshwork_engine::connector::CreateTable;
use meshwork_engine::remote::{RemoteColumn, RemoteScan};
use meshwork_engine::{Error, Result};

use super::columns;
use super::connection::Server;
use super::pushdown::Postgres;
use super::wire::Wire;
use crate::relational::{Dialect, create_table, qualified, refuse_options};

/// A column is of a type by its number, its modifier and its name.
struct Made {
    oid: u32,
    modifier: i32,
    base_type: &'static str,
    name: String,
}

impl Wire {
    /// Returns the server's type that takes what is written, without length or precision.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int16 => "int2",
            Self::Int32 => "int4",
            Self::Int64 | Self::Count => "int8",
            Self::Oid => "oid",
            Self::Float32 => "float4",
            Self::Float64 => "float8",
            Self::Decimal128 { .. } | Self::Decimal256 { .. } => "numeric",
            Self::Text => "text",
            Self::PaddedText => "bpchar",
            Self::Bytes => "bytea",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::Instant => "timestamptz",
            Self::Interval => "interval",
            Self::Uuid => "uuid",
            // Lists are named by their column, which knows the items' type.
            Self::List(_) => "text[]",
        }
    }
}

/// Returns the table that a `CREATE TABLE` describes, as if it were there.
pub(super) fn to_be(server: &Server, table: &CreateTable) -> Result<RemoteScan> {
    refuse_options(table, "postgres")?;
    let column = |field: &std::sync::Arc<Field>| -> Result<RemoteColumn> {
        let Made { oid, modifier, base_type, name } = made(field)?;
        columns::to_be(field.name(), field.is_nullable(), (oid, modifier), base_type, name)
    };
    let columns = table.columns.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    let catalog = &server.configuration.catalog;
    Ok(RemoteScan::whole(catalog, &table.schema, &table.table, columns))
}

/// Returns the statement that makes a table of [`to_be`].
pub(super) fn statement(table: &RemoteScan) -> Result<String> {
    let relation = qualified(&Postgres, &table.schema, &table.table)?;
    let columns = table.columns.iter();
    let columns = columns.map(|c| (c.name.as_str(), c.remote_type.as_str(), c.nullable));
    create_table(&Postgres, &relation, columns)
}

/// Returns the statement that makes a schema.
pub(super) fn schema_statement(schema: &str, if_not_exists: bool) -> Result<String> {
    let condition = if if_not_exists { "IF NOT EXISTS " } else { "" };
    Ok(format!("CREATE SCHEMA {condition}{}", Postgres.identifier(schema)?))
}

fn made(field: &Field) -> Result<Made> {
    let of = |oid, base_type: &'static str| Made {
        oid,
        modifier: -1,
        base_type,
        name: base_type.to_owned(),
    };
    // What a query may return and no type of the server holds is refused.
    Ok(match field.data_type() {
        DataType::Boolean => of(16, "bool"),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => of(21, "int2"),
        DataType::Int32 | DataType::UInt16 => of(23, "int4"),
        DataType::Int64 | DataType::UInt32 => of(20, "int8"),
        DataType::UInt64 => numeric(20, 0),
        DataType::Float16 | DataType::Float32 => of(700, "float4"),
        DataType::Float64 => of(701, "float8"),
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => numeric(*p, *s),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
            of(25, "text")
        }
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => of(17, "bytea"),
        DataType::Date32 | DataType::Date64 => of(1082, "date"),
        DataType::Time32(_) | DataType::Time64(_) => of(1083, "time"),
        DataType::Timestamp(_unit, None) => of(1114, "timestamp"),
        DataType::Timestamp(_, Some(_)) => of(1184, "timestamptz"),
        DataType::Interval(_) | DataType::Duration(_) => of(1186, "interval"),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            list(made(item)?).ok_or_else(|| unknown(field))?
        }
        _ => return Err(unknown(field)),
    })
}

fn numeric(precision: u8, scale: i8) -> Made {
    // A negative scale is written in full digits, as servers before 15 know none.
    let digits = i32::from(precision) - i32::from(scale.min(0));
    let scale = i32::from(scale.max(0));
    Made {
        oid: 1700,
        modifier: ((digits << 16) | scale) + 4,
        base_type: "numeric",
        name: format!("numeric({digits},{scale})"),
    }
}

fn list(item: Made) -> Option<Made> {
    let (oid, base_type) = match item.base_type {
        "bool" => (1000, "_bool"),
        "bytea" => (1001, "_bytea"),
        "int2" => (1005, "_int2"),
        "int4" => (1007, "_int4"),
        "text" => (1009, "_text"),
        "int8" => (1016, "_int8"),
        "float4" => (1021, "_float4"),
        "float8" => (1022, "_float8"),
        "timestamp" => (1115, "_timestamp"),
        "date" => (1182, "_date"),
        "time" => (1183, "_time"),
        "timestamptz" => (1185, "_timestamptz"),
        "interval" => (1187, "_interval"),
        "numeric" => (1231, "_numeric"),
        _ => return None,
    };
    Some(Made { oid, modifier: item.modifier, base_type, name: format!("{}[]", item.name) })
}

fn unknown(field: &Field) -> Error {
    let (name, data_type) = (field.name(), field.data_type());
    Error::not_supported(format!("column \"{name}\" of type {data_type} in PostgreSQL"))
}
