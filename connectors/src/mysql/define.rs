//! New tables: which type of MySQL a type of the engine becomes.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use meshwork_engine::connector::CreateTable;
use meshwork_engine::remote::{RemoteColumn, RemoteScan};
use meshwork_engine::{Error, Result};
use serde_json::json;

use super::client::Client;
use super::pushdown::MySql;
use super::types::{Declared, Detail, engine_type};
use crate::relational::{create_table, refuse_options};

/// What every server takes; MariaDB has a few more behind the point.
const DECIMAL_DIGITS_MAX: u8 = 65;
const DECIMAL_SCALE_MAX: i8 = 30;

/// Returns the table that a `CREATE TABLE` describes, as if it were there.
pub(super) fn to_be(client: &Client, table: &CreateTable) -> Result<RemoteScan> {
    refuse_options(table, "mysql")?;
    let column = |field: &Arc<Field>| -> Result<RemoteColumn> {
        let (full, declared) = declared(field)?;
        Ok(RemoteColumn {
            name: field.name().clone(),
            data_type: engine_type(Declared { full: &full, ..declared }),
            nullable: field.is_nullable(),
            remote_type: full.clone(),
            detail: json!(Detail { base: declared.base.to_owned(), ..Detail::default() }),
        })
    };
    let columns = table.columns.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    Ok(RemoteScan::whole(&client.options.catalog, &table.schema, &table.table, columns))
}

/// Returns the statement that makes a table of these columns under a quoted name.
pub(super) fn statement(relation: &str, columns: &[RemoteColumn]) -> Result<String> {
    let columns = columns.iter();
    let columns = columns.map(|c| (c.name.as_str(), c.remote_type.as_str(), c.nullable));
    create_table(&MySql, relation, columns)
}

/// Returns the type in full, and what `information_schema` will say of it.
fn declared(field: &Field) -> Result<(String, Declared<'static>)> {
    let of = |full: &str, base: &'static str| {
        Ok((full.to_owned(), Declared { base, ..Declared::default() }))
    };
    // What a query may return and no type of the server holds is refused.
    match field.data_type() {
        DataType::Boolean => Ok((
            "bit(1)".to_owned(),
            Declared { base: "bit", precision: Some(1), ..Declared::default() },
        )),
        DataType::Int8 => of("tinyint", "tinyint"),
        DataType::Int16 => of("smallint", "smallint"),
        DataType::Int32 => of("int", "int"),
        DataType::Int64 => of("bigint", "bigint"),
        DataType::UInt8 => of("tinyint unsigned", "tinyint"),
        DataType::UInt16 => of("smallint unsigned", "smallint"),
        DataType::UInt32 => of("int unsigned", "int"),
        DataType::UInt64 => of("bigint unsigned", "bigint"),
        DataType::Float16 | DataType::Float32 => of("float", "float"),
        DataType::Float64 => of("double", "double"),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale)
            if *precision <= DECIMAL_DIGITS_MAX && (0..=DECIMAL_SCALE_MAX).contains(scale) =>
        {
            let declared = Declared {
                base: "decimal",
                precision: Some((*precision).into()),
                scale: u64::try_from(*scale).ok(),
                ..Declared::default()
            };
            Ok((format!("decimal({precision},{scale})"), declared))
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
            of("longtext character set utf8mb4 collate utf8mb4_bin", "longtext")
        }
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => of("longblob", "longblob"),
        DataType::Date32 | DataType::Date64 => of("date", "date"),
        // An instant is kept in UTC: the server's own type of instants ends in 2038.
        DataType::Timestamp(..) => of("datetime(6)", "datetime"),
        DataType::Duration(_) => of("time(6)", "time"),
        other => {
            let name = field.name();
            Err(Error::not_supported(format!("column \"{name}\" of type {other} in MySQL")))
        }
    }
}
