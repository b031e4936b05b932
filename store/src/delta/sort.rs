//! Turns the batches of one update into one delta.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::row::{RowConverter, Rows, SortField};

use crate::delta::fold::fold_batch;
use crate::delta::rows::fit;
use crate::error::Result;
use crate::table::TableDef;

/// Sorts the rows by key; where there is one row per key, folds rows of one key in the order in which they came.
pub(crate) fn sort_and_fold(def: &TableDef, batches: Vec<RecordBatch>) -> Result<RecordBatch> {
    let schema = def.file_schema();
    // Each copy of the rows is let go as soon as the next one is made.
    let fitted: Vec<RecordBatch> =
        batches.into_iter().map(|batch| fit(def, &schema, &batch)).collect::<Result<_>>()?;
    let all = concat_batches(&schema, &fitted)?;
    drop(fitted);
    if def.key.is_empty() || all.num_rows() == 0 {
        return Ok(all);
    }
    let keys = key_rows(def, &all)?;
    // Arrow can gather only up to 2^64 rows, and memory ends long before.
    let mut order: Vec<u64> = (0..all.num_rows() as u64).collect();
    let key = |row: u64| keys.row(usize::try_from(row).unwrap_or(usize::MAX));
    order.sort_by(|a, b| key(*a).cmp(&key(*b)));
    let starts: Vec<usize> = match def.kind.folds() {
        false => Vec::new(),
        true => order
            .iter()
            .enumerate()
            .filter(|(at, row)| {
                let before = at.checked_sub(1).and_then(|before| order.get(before));
                before.is_none_or(|before| key(*before) != key(**row))
            })
            .map(|(at, _)| at)
            .collect(),
    };
    drop(keys);
    let sorted = take_record_batch(&all, &UInt64Array::from(order))?;
    drop(all);
    match def.kind.folds() {
        false => Ok(sorted),
        true => fold_batch(def, &schema, &sorted, &starts),
    }
}

/// Returns the key columns of a batch in the order of data files.
pub(crate) fn key_columns(def: &TableDef, batch: &RecordBatch) -> Vec<ArrayRef> {
    batch.columns().iter().take(def.key.len()).map(Arc::clone).collect()
}

/// Returns the keys of a batch in the order of data files as comparable rows.
pub(crate) fn key_rows(def: &TableDef, batch: &RecordBatch) -> Result<Rows> {
    let columns = key_columns(def, batch);
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    Ok(RowConverter::new(fields)?.convert_columns(&columns)?)
}
