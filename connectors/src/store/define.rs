//! `CREATE TABLE` as the store's own description of a table.
//!
//! ```text
//! CREATE TABLE ads.clicks (day DATE, site BIGINT, n BIGINT SUM, label VARCHAR REPLACE) AGGREGATE KEY (day, site)
//!
//! columns           day, site, n, label
//! function.n        sum                  what stands behind a column's type
//! function.label    replace
//! model             aggregate            or unique, duplicate; without it the table is an append table without a key
//! key               day,site
//! export            delta                what others read of it, if anything
//! ```

use std::collections::BTreeMap;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::DataType;
use meshwork_engine::Result;
use meshwork_engine::connector::{AlterTable, CreateTable};
use meshwork_store::{
    Alteration, ColumnSpec, ColumnType, EXPORT_PROPERTY, TableKind, TableSpec, ValueFunction,
};

use super::connector::refused_table;

/// Returns what a statement asks for.
///
/// # Errors
/// `User` for an option, a function or a type that the store does not have.
pub(super) fn specification(table: &CreateTable) -> Result<TableSpec> {
    let refuse = |reason: String| refused_table(&table.schema, &table.table, &reason);
    let mut options = Options::read(&table.options).map_err(refuse)?;
    let mut columns = Vec::new();
    for field in table.columns.fields() {
        let name = field.name().clone();
        let Some(column_type) = ColumnType::from_arrow(field.data_type()) else {
            let reason = format!("column \"{name}\" has the type {}", field.data_type());
            return Err(refuse(reason).with_hint("Cast it to a type that the store has."));
        };
        let function = options.functions.remove(&name);
        columns.push(ColumnSpec { name, column_type, nullable: field.is_nullable(), function });
    }
    if let Some(name) = options.functions.keys().next() {
        return Err(refuse(format!(
            "it gives a function to column \"{name}\", which is not there"
        )));
    }
    Ok(TableSpec {
        namespace: table.schema.clone(),
        name: table.table.clone(),
        kind: options.kind,
        columns,
        key: options.key,
        properties: options.properties,
    })
}

/// Returns what an `ALTER TABLE` asks for.
///
/// # Errors
/// `User` for a function or a type that the store does not have, or a default that is no value of its column.
pub(super) fn alteration(schema: &str, table: &str, change: AlterTable) -> Result<Alteration> {
    let refuse = |reason: String| refused_table(schema, table, &reason);
    let stored = |name: &str, data_type: &DataType| {
        ColumnType::from_arrow(data_type)
            .ok_or_else(|| refuse(format!("column \"{name}\" has the type {data_type}")))
    };
    Ok(match change {
        AlterTable::AddColumn { column, function, default } => {
            let name = column.name().clone();
            let column_type = stored(&name, column.data_type())?;
            let function = match function {
                Some(function) => Some(
                    ValueFunction::parse(&function)
                        .ok_or_else(|| refuse(format!("the function {function} does not exist")))?,
                ),
                None => None,
            };
            let default = match default {
                Some(value) if !value.is_null() => {
                    let strict = CastOptions { safe: false, ..CastOptions::default() };
                    let cast =
                        cast_with_options(&value.to_array()?, &column_type.to_arrow(), &strict);
                    let value: ArrayRef = cast.map_err(|e| {
                        refuse(format!("the default of column \"{name}\" is no {column_type}: {e}"))
                    })?;
                    Some(value)
                }
                Some(_) | None => None,
            };
            let nullable = column.is_nullable();
            let column = ColumnSpec { name, column_type, nullable, function };
            Alteration::AddColumn { column, default }
        }
        AlterTable::DropColumn { name } => Alteration::DropColumn(name),
        AlterTable::RenameColumn { name, to } => Alteration::RenameColumn { name, to },
        AlterTable::ColumnType { name, data_type } => {
            let column_type = stored(&name, &data_type)?;
            Alteration::WidenColumn { name, column_type }
        }
        AlterTable::Rename { to } => Alteration::RenameTable(to),
        AlterTable::AddRollup { name, columns } => Alteration::AddRollup { name, columns },
        AlterTable::DropRollup { name } => Alteration::DropRollup(name),
    })
}

struct Options {
    kind: TableKind,
    key: Vec<String>,
    functions: BTreeMap<String, ValueFunction>,
    properties: BTreeMap<String, String>,
}

impl Options {
    fn read(options: &[(String, String)]) -> Result<Self, String> {
        let mut read = Self {
            kind: TableKind::Append,
            key: Vec::new(),
            functions: BTreeMap::new(),
            properties: BTreeMap::new(),
        };
        for (name, value) in options {
            if let Some(column) = name.strip_prefix("function.") {
                let Some(function) = ValueFunction::parse(value) else {
                    return Err(format!("the function {value} does not exist"));
                };
                read.functions.insert(column.to_owned(), function);
                continue;
            }
            match (name.as_str(), value.to_lowercase().as_str()) {
                ("model", "aggregate") => read.kind = TableKind::Aggregate,
                ("model", "unique") => read.kind = TableKind::Unique,
                ("model", "duplicate") => read.kind = TableKind::Append,
                ("model", other) => return Err(format!("the model {other} does not exist")),
                ("key", _) => {
                    read.key = value.split(',').map(|column| column.trim().to_owned()).collect();
                }
                (EXPORT_PROPERTY, _) => {
                    read.properties.insert(name.clone(), value.to_lowercase());
                }
                (other, _) => return Err(format!("the option {other} does not exist")),
            }
        }
        Ok(read)
    }
}
