//! Definitions of tables, checked once when made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ulid::Ulid;

use crate::error::{Error, Result};
use crate::table::{ColumnType, Rollup, ValueFunction};

/// Columns per table. Each has zone maps in every file's log entry, and a record has at most 1 MiB.
pub(super) const COLUMNS_MAX: usize = 1_000;

/// Length of a name in bytes.
const NAME_BYTES_MAX: usize = 255;

/// The column of a unique table's files that says of a key that its row was deleted: true, or NULL where there is a row.
pub const DELETED_COLUMN: &str = "_deleted";

/// The identity of a table: stays when the name goes to another table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TableId(pub Ulid);

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether rows of one key fold together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TableKind {
    /// One row per key; every other column has a value function.
    Aggregate,
    /// One row per key: that of the newest version takes the place of older ones, and may say that there is none any more.
    Unique,
    /// Rows stay as they came; the key, if any, only sorts the files.
    Append,
}

impl TableKind {
    /// Whether there is one row per key, folded from all that came.
    pub fn folds(self) -> bool {
        match self {
            Self::Aggregate | Self::Unique => true,
            Self::Append => false,
        }
    }
}

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ColumnRole {
    /// Part of the key.
    Key,
    /// Folded by a function.
    Value(ValueFunction),
    /// A column of an append table outside its sort key.
    Plain,
}

/// A column as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnSpec {
    /// Its name; case counts.
    pub name: String,
    /// Its type as declared; sums are kept in the widest type of the family.
    pub column_type: ColumnType,
    /// Whether it may hold NULL.
    pub nullable: bool,
    /// How values fold; None for key columns, in append tables and in unique ones.
    pub function: Option<ValueFunction>,
}

/// A table as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSpec {
    /// The namespace that will hold it.
    pub namespace: String,
    /// Its name; case counts.
    pub name: String,
    /// Whether rows fold.
    pub kind: TableKind,
    /// Its columns in the order of `SELECT *`.
    pub columns: Vec<ColumnSpec>,
    /// Names of the key columns in sort order.
    pub key: Vec<String>,
    /// Free text that comes back with the definition.
    pub properties: BTreeMap<String, String>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// The field id, also in Parquet; never used again for another column.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its type in files.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// Whether it may hold NULL.
    pub nullable: bool,
    /// What it is for.
    pub role: ColumnRole,
    /// The value of rows that were written before the column came, as zone maps write it; NULL if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
}

impl Column {
    fn field(&self) -> Field {
        let id = (PARQUET_FIELD_ID_META_KEY.to_owned(), self.id.to_string());
        Field::new(&self.name, self.column_type.to_arrow(), self.nullable)
            .with_metadata([id].into_iter().collect())
    }
}

/// A table as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableDef {
    /// Its identity.
    pub id: TableId,
    /// The namespace that holds it.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether rows fold.
    pub kind: TableKind,
    /// The number of this definition, from 1; writers with an older one conflict.
    pub schema: u32,
    /// Columns in the order of `SELECT *`.
    pub columns: Vec<Column>,
    /// Names of the key columns in sort order.
    pub key: Vec<String>,
    /// [`DELETED_COLUMN`] of a unique table: in files, and not in `SELECT *`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Column>,
    /// The columns of files that earlier definitions wrote, by their numbers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub earlier: BTreeMap<u32, Vec<Column>>,
    /// Its rollups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollups: Vec<Rollup>,
    /// The greatest number of a sort order that it has had; 0 if it has had none but its own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) last_index: u32,
    /// Free text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
}

impl TableDef {
    /// Makes a definition, or says why the table cannot be.
    ///
    /// # Errors
    /// User: no or doubled columns, a key column that does not exist or whose type has no exact equality, a column
    /// without a function in an aggregate table or with one in another, a function that cannot fold the type.
    pub fn new(id: TableId, spec: TableSpec) -> Result<Self> {
        let full_name = format!("{}.{}", spec.namespace, spec.name);
        let columns =
            check(&spec).map_err(|reason| Error::Definition { table: full_name, reason })?;
        let next_id = columns.iter().map(|column| column.id + 1).max().unwrap_or(1);
        let deleted = (spec.kind == TableKind::Unique).then(|| Column {
            id: next_id,
            name: DELETED_COLUMN.to_owned(),
            column_type: ColumnType::Bool,
            nullable: true,
            role: ColumnRole::Value(ValueFunction::Replace),
            default: None,
        });
        Ok(Self {
            id,
            namespace: spec.namespace,
            name: spec.name,
            kind: spec.kind,
            schema: 1,
            columns,
            key: spec.key,
            deleted,
            earlier: BTreeMap::new(),
            rollups: Vec::new(),
            last_index: 0,
            properties: spec.properties,
        })
    }

    /// Returns `namespace.name`, for messages.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.namespace, self.name)
    }

    /// Returns the Arrow schema in the order of `SELECT *`.
    pub fn arrow_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(Column::field).collect::<Vec<_>>()))
    }

    /// Returns the columns in the order of files: key first, then the others as declared, then [`Self::deleted`].
    pub fn file_columns(&self) -> Vec<&Column> {
        let key = self.key.iter().filter_map(|name| self.column(name));
        let others = self.columns.iter().filter(|column| !self.key.contains(&column.name));
        key.chain(others).chain(&self.deleted).collect()
    }

    /// Returns the Arrow schema of data files. A deleted row has its key only, whatever its columns demand.
    pub fn file_schema(&self) -> SchemaRef {
        let in_file = |column: &Column| {
            let is_value = self.deleted.is_some() && column.role != ColumnRole::Key;
            column.field().with_nullable(column.nullable || is_value)
        };
        Arc::new(Schema::new(self.file_columns().into_iter().map(in_file).collect::<Vec<Field>>()))
    }

    /// Returns the column of a name, [`Self::deleted`] among them.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().chain(&self.deleted).find(|column| column.name == name)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn check(spec: &TableSpec) -> Result<Vec<Column>, String> {
    check_name("schema name", &spec.namespace)?;
    check_name("table name", &spec.name)?;
    if spec.columns.is_empty() {
        return Err("it has no columns".to_owned());
    }
    if spec.columns.len() > COLUMNS_MAX {
        return Err(format!("it has {} columns, the limit is {COLUMNS_MAX}", spec.columns.len()));
    }
    if spec.kind.folds() && spec.key.is_empty() {
        return Err("a table of one row per key needs at least one key column".to_owned());
    }
    let mut names = BTreeSet::new();
    for column in &spec.columns {
        check_name("column name", &column.name)?;
        if spec.kind == TableKind::Unique && column.name == DELETED_COLUMN {
            return Err(format!("column \"{DELETED_COLUMN}\" is the store's own"));
        }
        if !names.insert(&column.name) {
            return Err(format!("column \"{}\" is declared twice", column.name));
        }
    }
    let mut key = BTreeSet::new();
    for name in &spec.key {
        if !names.contains(name) {
            return Err(format!("key column \"{name}\" is not declared"));
        }
        if !key.insert(name) {
            return Err(format!("column \"{name}\" stands twice in the key"));
        }
    }
    let numbered = (1..).zip(&spec.columns);
    numbered
        .map(|(id, column)| check_column(id, column, key.contains(&column.name), spec.kind))
        .collect()
}

pub(super) fn check_column(
    id: u32,
    spec: &ColumnSpec,
    is_key: bool,
    kind: TableKind,
) -> Result<Column, String> {
    let name = &spec.name;
    let mut column_type = spec.column_type.clone();
    let role = match (is_key, kind, spec.function) {
        (true, _, Some(function)) => {
            return Err(format!("key column \"{name}\" cannot have the function {function}"));
        }
        (true, _, None) => {
            if !column_type.fits_key() {
                return Err(format!("column \"{name}\" of type {column_type} cannot be a key"));
            }
            ColumnRole::Key
        }
        (false, TableKind::Aggregate, None) => {
            return Err(format!("column \"{name}\" is not in the key and has no value function"));
        }
        (false, TableKind::Aggregate, Some(function)) => {
            let Some(stored) = function.stored_type(&column_type) else {
                return Err(format!(
                    "{function} cannot fold column \"{name}\" of type {column_type}"
                ));
            };
            column_type = stored;
            ColumnRole::Value(function)
        }
        (false, TableKind::Unique, None) => ColumnRole::Value(ValueFunction::Replace),
        (false, TableKind::Append, None) => ColumnRole::Plain,
        (false, TableKind::Unique | TableKind::Append, Some(function)) => {
            return Err(format!(
                "column \"{name}\" has the function {function}, which only columns of aggregate tables have"
            ));
        }
    };
    let (name, nullable) = (name.clone(), spec.nullable);
    Ok(Column { id, name, column_type, nullable, role, default: None })
}

pub(super) fn check_name(what: &str, name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err(format!("a {what} is empty"));
    }
    if name.chars().any(char::is_control) {
        return Err(format!("a {what} has a control character"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("a {what} has {} bytes, the limit is {NAME_BYTES_MAX}", name.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(columns: &[(&str, ColumnType, Option<ValueFunction>)], key: &[&str]) -> TableSpec {
        let column = |(name, column_type, function): &(&str, ColumnType, Option<ValueFunction>)| {
            ColumnSpec {
                name: (*name).to_owned(),
                column_type: column_type.clone(),
                nullable: true,
                function: *function,
            }
        };
        TableSpec {
            namespace: "ads".to_owned(),
            name: "clicks".to_owned(),
            kind: TableKind::Aggregate,
            columns: columns.iter().map(column).collect(),
            key: key.iter().map(|name| (*name).to_owned()).collect(),
            properties: BTreeMap::new(),
        }
    }

    fn unique(columns: &[(&str, ColumnType, Option<ValueFunction>)]) -> TableSpec {
        TableSpec { kind: TableKind::Unique, ..spec(columns, &["k"]) }
    }

    fn refusal(spec: TableSpec) -> String {
        TableDef::new(TableId(Ulid::nil()), spec).unwrap_err().to_string()
    }

    #[test]
    fn files_hold_the_key_first_and_sums_are_widened() {
        let columns = [
            ("clicks", ColumnType::Int32, Some(ValueFunction::Sum)),
            ("country", ColumnType::Utf8, None),
            ("cost", ColumnType::Decimal(18, 4), Some(ValueFunction::Sum)),
            ("day", ColumnType::Date, None),
        ];
        let def = TableDef::new(TableId(Ulid::nil()), spec(&columns, &["day", "country"])).unwrap();
        let names: Vec<_> = def.file_columns().iter().map(|column| column.name.clone()).collect();
        assert_eq!(names, ["day", "country", "clicks", "cost"]);
        assert_eq!(def.columns[0].column_type, ColumnType::Int64);
        assert_eq!(def.columns[2].column_type, ColumnType::Decimal(38, 4));
        let json = serde_json::to_string(&def).unwrap();
        assert_eq!(serde_json::from_str::<TableDef>(&json).unwrap(), def);
    }

    #[test]
    fn refusals_name_the_column() {
        let sum = Some(ValueFunction::Sum);
        let key = ("k", ColumnType::Int64, None);
        let cases = [
            (spec(std::slice::from_ref(&key), &[]), "at least one key column"),
            (unique(&[key.clone(), ("v", ColumnType::Int64, sum)]), "has the function SUM"),
            (unique(&[key.clone(), (DELETED_COLUMN, ColumnType::Bool, None)]), "the store's own"),
            (spec(std::slice::from_ref(&key), &["x"]), "key column \"x\" is not declared"),
            (spec(&[key.clone(), key.clone()], &["k"]), "column \"k\" is declared twice"),
            (spec(&[("f", ColumnType::Float64, None)], &["f"]), "float64 cannot be a key"),
            (spec(&[key.clone(), ("v", ColumnType::Utf8, sum)], &["k"]), "SUM cannot fold"),
            (spec(&[key, ("v", ColumnType::Utf8, None)], &["k"]), "no value function"),
        ];
        for (spec, expected) in cases {
            let message = refusal(spec);
            assert!(message.contains(expected), "{message}");
        }
    }
}
