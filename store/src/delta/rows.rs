//! Makes incoming batches fit the definition of their table, or says why they do not.
//!
//! Columns are found by name. Nothing is converted but the layout of text and bytes: a caller who wants a number from a
//! text has to say so in SQL. A row of a unique table may say that there is none of its key any more.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
use crate::table::{Column, ColumnRole, ColumnType, TableDef};

/// Returns the batch with the columns of data files.
pub(crate) fn fit(def: &TableDef, schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let refuse = |reason: String| Error::Rows { table: def.full_name(), reason };
    let incoming = batch.schema();
    if let Some(extra) = incoming.fields().iter().find(|field| def.column(field.name()).is_none()) {
        return Err(refuse(format!("it has no column \"{}\"", extra.name())));
    }
    let mut columns = Vec::with_capacity(incoming.fields().len());
    for column in def.file_columns() {
        columns.push(fit_column(column, batch, deleted(def, batch)).map_err(refuse)?);
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// Returns of each row whether it says that there is none of its key any more; `None` if no row says so.
fn deleted<'a>(def: &TableDef, batch: &'a RecordBatch) -> Option<&'a BooleanArray> {
    batch.column_by_name(&def.deleted.as_ref()?.name)?.as_boolean_opt()
}

fn fit_column(
    column: &Column,
    batch: &RecordBatch,
    deleted: Option<&BooleanArray>,
) -> Result<ArrayRef, String> {
    let name = &column.name;
    let expected = column.column_type.to_arrow();
    // A deleted row needs its key only.
    let is_needed = |row: usize| {
        column.role == ColumnRole::Key
            || !deleted.is_some_and(|deleted| deleted.is_valid(row) && deleted.value(row))
    };
    let Some(array) = batch.column_by_name(name) else {
        if column.nullable || !(0..batch.num_rows()).any(is_needed) {
            return Ok(new_null_array(&expected, batch.num_rows()));
        }
        return Err(format!("column \"{name}\" is missing and cannot be NULL"));
    };
    let nulls = array.logical_nulls().filter(|_nulls| !column.nullable);
    if nulls.is_some_and(|nulls| (0..nulls.len()).any(|row| nulls.is_null(row) && is_needed(row))) {
        return Err(format!("column \"{name}\" cannot be NULL"));
    }
    if *array.data_type() == expected {
        return Ok(Arc::clone(array));
    }
    if ColumnType::from_arrow(array.data_type()).as_ref() != Some(&column.column_type) {
        let found = array.data_type();
        return Err(format!("column \"{name}\" is {}, the rows have {found}", column.column_type));
    }
    cast(array, &expected).map_err(|error| format!("column \"{name}\": {error}"))
}

/// Leaves out rows that say that there is none of their key any more; `rows` are those of a file.
pub(crate) fn without_deleted(def: &TableDef, rows: RecordBatch) -> Result<RecordBatch> {
    let deleted = def.deleted.as_ref().and_then(|column| rows.column_by_name(&column.name));
    match deleted {
        Some(deleted) if deleted.null_count() < rows.num_rows() => {
            let is_there = deleted.as_boolean().iter().map(|deleted| deleted != Some(true));
            Ok(filter_record_batch(&rows, &is_there.collect::<BooleanArray>())?)
        }
        Some(_) | None => Ok(rows),
    }
}
