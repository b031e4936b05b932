//! Changes of a table's definition that touch no file: the next definition says how files of earlier ones are read.
//!
//! ```text
//! definition 1    id:1 day    id:2 clicks                     files of it have these columns
//! definition 2    id:1 day    id:2 hits     id:3 cost = 0     "hits" is column 2 of them; "cost" is 0 in each row
//! ```
//! Columns are the same by their field id, whatever they are called. A merge writes the definition that the newest version of
//! its delta has, so files of old definitions go with time.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::compute::{cast, take};
use arrow::datatypes::SchemaRef;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::log::record::{ColumnStats, FileEntry};
use crate::stats;
use crate::table::definition::{COLUMNS_MAX, check_column, check_name};
use crate::table::{
    Column, ColumnRole, ColumnSpec, ColumnType, DELETED_COLUMN, TableDef, TableKind, ValueFunction,
};

/// A change of a table's definition.
#[derive(Debug, Clone)]
pub enum Alteration {
    /// A column comes, behind the others.
    AddColumn {
        /// What it is.
        column: ColumnSpec,
        /// The one value that the rows have which are there, of the column's type; NULL if there is none.
        default: Option<ArrayRef>,
    },
    /// A column goes; its values stay in files until these are merged.
    DropColumn(String),
    /// A column is called otherwise.
    RenameColumn {
        /// Its name.
        name: String,
        /// Its new one.
        to: String,
    },
    /// A column takes more values.
    WidenColumn {
        /// Its name.
        name: String,
        /// Its new type.
        column_type: ColumnType,
    },
    /// The table is called otherwise, within its namespace.
    RenameTable(String),
    /// A rollup comes; see [`crate::Database::fill_rollups`].
    AddRollup {
        /// Its name.
        name: String,
        /// Names of its columns, those of its key in sort order.
        columns: Vec<String>,
    },
    /// A rollup goes.
    DropRollup(String),
}

/// A column of a table in one of its files.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum InFile<'a> {
    /// It is the column of that definition.
    Column(&'a Column),
    /// It came later: this is the value of all rows, as zone maps write it; NULL if there is none.
    Value(Option<&'a Value>),
}

impl TableDef {
    /// Returns the next definition.
    ///
    /// # Errors
    /// User if it cannot be.
    pub fn altered(&self, alteration: &Alteration) -> Result<Self> {
        let mut next = self.clone();
        next.schema += 1;
        next.earlier.insert(self.schema, self.file_columns().into_iter().cloned().collect());
        let changed = match alteration {
            Alteration::AddColumn { column, default } => next.add_column(column, default.as_ref()),
            Alteration::DropColumn(name) => next.drop_column(name),
            Alteration::RenameColumn { name, to } => next.rename_column(name, to),
            Alteration::WidenColumn { name, column_type } => next.widen_column(name, column_type),
            Alteration::RenameTable(name) => {
                next.name.clone_from(name);
                check_name("table name", name)
            }
            Alteration::AddRollup { name, columns } => next.add_rollup(name, columns),
            Alteration::DropRollup(name) => next.drop_rollup(name),
        };
        changed.map_err(|reason| Error::Definition { table: self.full_name(), reason })?;
        Ok(next)
    }

    /// Returns the definition that makes the table again what it was by an earlier one of its definitions.
    pub(crate) fn altered_back_to(&self, earlier: &Self) -> Self {
        let mut next = earlier.clone();
        next.name.clone_from(&self.name);
        next.schema = self.schema + 1;
        next.earlier.clone_from(&self.earlier);
        next.earlier.insert(self.schema, self.file_columns().into_iter().cloned().collect());
        next.with_rollups_of(self)
    }

    fn add_column(&mut self, spec: &ColumnSpec, default: Option<&ArrayRef>) -> Result<(), String> {
        let name = &spec.name;
        self.check_new_name(name)?;
        if self.columns.len() >= COLUMNS_MAX {
            return Err(format!("it has {COLUMNS_MAX} columns, the limit"));
        }
        let ids = self.earlier.values().flatten().map(|column| column.id);
        let id = ids.max().unwrap_or(0) + 1;
        let mut column = check_column(id, spec, false, self.kind)?;
        let default = match default {
            Some(value) => {
                stats::value(&cast(value, &column.column_type.to_arrow()).map_err(text)?)
                    .map_err(text)?
            }
            None => None,
        };
        if default.is_none() && !spec.nullable {
            return Err(format!(
                "column \"{name}\" cannot be NULL and has no default for the rows that are there"
            ));
        }
        if let (Some(_), ColumnRole::Value(ValueFunction::Sum | ValueFunction::Count)) =
            (&default, column.role)
        {
            return Err(format!(
                "column \"{name}\" would count its default once for each update of a row"
            ));
        }
        column.default = default;
        self.columns.push(column);
        Ok(())
    }

    fn drop_column(&mut self, name: &str) -> Result<(), String> {
        let at = self.position_outside_key(name)?;
        match self.rollup_with(self.columns[at].id) {
            Some(rollup) => Err(format!("rollup \"{}\" has it", rollup.name)),
            None => {
                self.columns.remove(at);
                Ok(())
            }
        }
    }

    fn rename_column(&mut self, name: &str, to: &str) -> Result<(), String> {
        self.check_new_name(to)?;
        let at = self.position(name)?;
        to.clone_into(&mut self.columns[at].name);
        self.key.iter_mut().filter(|key| *key == name).for_each(|key| to.clone_into(key));
        Ok(())
    }

    fn widen_column(&mut self, name: &str, to: &ColumnType) -> Result<(), String> {
        let at = self.position_outside_key(name)?;
        let column = &mut self.columns[at];
        let stored = match column.role {
            ColumnRole::Value(function) => function.stored_type(to),
            ColumnRole::Key | ColumnRole::Plain => Some(to.clone()),
        };
        match stored {
            Some(stored)
                if stored == column.column_type || column.column_type.widens_to(&stored) =>
            {
                column.column_type = stored;
                Ok(())
            }
            Some(_) | None => Err(format!(
                "column \"{name}\" of type {} cannot become {to}: not all values stay what they are",
                column.column_type
            )),
        }
    }

    fn check_new_name(&self, name: &str) -> Result<(), String> {
        check_name("column name", name)?;
        match self.column(name) {
            Some(_) if name == DELETED_COLUMN && self.kind == TableKind::Unique => {
                Err(format!("column \"{DELETED_COLUMN}\" is the store's own"))
            }
            Some(_) => Err(format!("it has a column \"{name}\"")),
            None => Ok(()),
        }
    }

    fn position(&self, name: &str) -> Result<usize, String> {
        let position = self.columns.iter().position(|column| column.name == name);
        position.ok_or_else(|| format!("it has no column \"{name}\""))
    }

    fn position_outside_key(&self, name: &str) -> Result<usize, String> {
        match self.position(name) {
            Ok(at) if self.columns[at].role == ColumnRole::Key => {
                Err(format!("column \"{name}\" is in its key"))
            }
            Ok(_) if self.columns.len() == 1 => Err(format!("\"{name}\" is its only column")),
            other => other,
        }
    }

    /// Returns the columns of files that were written by a definition of this number; None if there was none.
    pub fn columns_of(&self, schema: u32) -> Option<Vec<&Column>> {
        match schema == self.schema {
            true => Some(self.file_columns()),
            false => self.earlier.get(&schema).map(|columns| columns.iter().collect()),
        }
    }

    /// Returns where the values of a column stand in files of that definition.
    pub fn in_file<'a>(&'a self, column: &'a Column, schema: u32) -> Option<InFile<'a>> {
        let there = self.columns_of(schema)?.into_iter().find(|there| there.id == column.id);
        Some(there.map_or(InFile::Value(column.default.as_ref()), InFile::Column))
    }

    /// Returns the zone map of a column in a file, by the column's present type; None if nothing is known.
    pub fn stats_of(&self, file: &FileEntry, name: &str) -> Option<ColumnStats> {
        let column = self.column(name)?;
        match self.in_file(column, file.schema)? {
            InFile::Column(there) => file.stats.get(&there.name).cloned(),
            InFile::Value(None) => Some(ColumnStats { min: None, max: None, nulls: file.rows }),
            // Zero, NaN and infinities are no bounds.
            InFile::Value(Some(_)) if column.column_type.to_arrow().is_floating() => None,
            InFile::Value(value) => {
                Some(ColumnStats { min: value.cloned(), max: value.cloned(), nulls: 0 })
            }
        }
    }
}

/// Makes rows of files of one definition rows of another.
#[derive(Debug)]
pub(crate) struct Reshape {
    schema: SchemaRef,
    /// Where each column comes from: a column of the file, or one value.
    from: Vec<From>,
}

#[derive(Debug)]
enum From {
    Position(usize),
    Value(ArrayRef),
}

impl Reshape {
    /// Returns what reads files of the definition number `schema` as rows of `def`; `object` is named if there is none.
    pub(crate) fn new(def: &TableDef, schema: u32, object: &str) -> Result<Self> {
        let unknown = || {
            Error::corrupt(object, format!("it follows definition {schema}, which is not known"))
        };
        let there = def.columns_of(schema).ok_or_else(unknown)?;
        let mut from = Vec::new();
        for column in def.file_columns() {
            from.push(match there.iter().position(|there| there.id == column.id) {
                Some(position) => From::Position(position),
                None => From::Value(column.default_array()?),
            });
        }
        Ok(Self { schema: def.file_schema(), from })
    }

    pub(crate) fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let mut columns = Vec::with_capacity(self.from.len());
        for (from, field) in self.from.iter().zip(self.schema.fields()) {
            columns.push(match from {
                From::Position(position) => cast(rows.column(*position), field.data_type())?,
                From::Value(value) => repeated(value, rows.num_rows())?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

impl Column {
    /// Returns the one value that rows have which were written before the column came.
    ///
    /// # Errors
    /// Internal if it is no value of the column's type.
    pub fn default_array(&self) -> Result<ArrayRef> {
        match &self.default {
            None => Ok(new_null_array(&self.column_type.to_arrow(), 1)),
            value => stats::bounds_to_array(&self.column_type, &[value.as_ref()]),
        }
    }
}

fn repeated(value: &ArrayRef, n_rows: usize) -> Result<ArrayRef> {
    Ok(take(value, &UInt32Array::from(vec![0; n_rows]), None)?)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
