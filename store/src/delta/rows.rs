//! Makes incoming batches fit the definition of their table, or says why they do not.
//!
//! Columns are found by name. Nothing is converted but the layout of text and bytes: a caller who wants a number from a
//! text has to say so in SQL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
use crate::table::{Column, ColumnType, TableDef};

/// Returns the batch with the columns of data files.
pub(crate) fn fit(def: &TableDef, schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let refuse = |reason: String| Error::Rows { table: def.full_name(), reason };
    let incoming = batch.schema();
    if let Some(extra) = incoming.fields().iter().find(|field| def.column(field.name()).is_none()) {
        return Err(refuse(format!("it has no column \"{}\"", extra.name())));
    }
    let mut columns = Vec::with_capacity(def.columns.len());
    for column in def.file_columns() {
        columns.push(fit_column(column, batch).map_err(refuse)?);
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn fit_column(column: &Column, batch: &RecordBatch) -> Result<ArrayRef, String> {
    let name = &column.name;
    let expected = column.column_type.to_arrow();
    let Some(array) = batch.column_by_name(name) else {
        if column.nullable || batch.num_rows() == 0 {
            return Ok(new_null_array(&expected, batch.num_rows()));
        }
        return Err(format!("column \"{name}\" is missing and cannot be NULL"));
    };
    if !column.nullable && array.logical_null_count() > 0 {
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
