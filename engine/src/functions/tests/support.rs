//! Sessions with and without our functions, tables at the ends of the types, and what came back as text.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Decimal128Array, DurationSecondArray, Float64Array, Int8Array, Int32Array,
    Int64Array, RecordBatch, UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use rand::Rng;
use rand::rngs::StdRng;

use super::super::register;
use crate::{Error, ErrorKind};

pub(super) const GREATEST: i64 = i64::MAX;
const LEAST: i64 = i64::MIN;

pub(super) fn ours() -> SessionContext {
    context(register)
}

pub(super) fn plain() -> SessionContext {
    context(|builder| builder)
}

pub(super) fn context(
    change: impl Fn(SessionStateBuilder) -> SessionStateBuilder,
) -> SessionContext {
    // Small batches and several partitions: partial states, merges and spilled groups are all met.
    let config = SessionConfig::new().with_target_partitions(4).with_batch_size(3);
    let builder = SessionStateBuilder::new().with_config(config).with_default_features();
    let context = SessionContext::new_with_state(change(builder).build());
    context.register_batch("t", numbers()).unwrap();
    context.register_batch("edge", edges()).unwrap();
    context.register_batch("wide", wide()).unwrap();
    context
}

pub(super) async fn run(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>, Error> {
    let state = context.state();
    let result: Result<_, DataFusionError> = async {
        let plan = state.create_logical_plan(sql).await?;
        context.execute_logical_plan(plan).await?.collect().await
    }
    .await;
    Ok(result?)
}

/// Returns names, types and rows as text.
pub(super) async fn shown(context: &SessionContext, sql: &str) -> Result<String, Error> {
    let batches = run(context, sql).await?;
    let types = batches.first().map(|batch| format!("{:?}", batch.schema().fields()));
    Ok(format!("{}\n{}", types.unwrap_or_default(), pretty(&batches)))
}

pub(super) fn pretty(batches: &[RecordBatch]) -> String {
    pretty_format_batches(batches).unwrap().to_string()
}

pub(super) async fn overflows(context: &SessionContext, sql: &str) {
    match run(context, sql).await {
        Ok(rows) => panic!("{sql} gave\n{}", pretty(&rows)),
        Err(error) => {
            let given = (error.kind, error.code.as_str());
            assert_eq!(given, (ErrorKind::User, "NUMERIC_OVERFLOW"), "{sql}: {error:?}");
        }
    }
}

pub(super) fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    )
    .unwrap()
}

/// Ten ordinary rows.
pub(super) fn numbers() -> RecordBatch {
    let a = Int64Array::from_iter_values(0..10);
    let g = Int32Array::from_iter_values((0..10).map(|i| i % 3));
    let n = Int64Array::from_iter((0..10).map(|i| (i % 4 == 1).then_some(i)));
    let f = Float64Array::from_iter_values((0..10).map(f64::from));
    let d = Decimal128Array::from_iter_values((0..10).map(|i| i * 11));
    let d = d.with_precision_and_scale(12, 2).unwrap();
    batch(vec![
        ("a", Arc::new(a)),
        ("g", Arc::new(g)),
        ("n", Arc::new(n)),
        ("f", Arc::new(f)),
        ("d", Arc::new(d)),
    ])
}

/// One row at the ends of the types.
pub(super) fn edges() -> RecordBatch {
    batch(vec![
        ("greatest_one", Arc::new(Int64Array::from(vec![GREATEST]))),
        ("least_one", Arc::new(Int64Array::from(vec![LEAST]))),
        ("int_one", Arc::new(Int32Array::from(vec![i32::MAX]))),
        ("least_tiny", Arc::new(Int8Array::from(vec![i8::MIN]))),
        ("unsigned_one", Arc::new(UInt64Array::from(vec![1]))),
        ("unsigned_two", Arc::new(UInt64Array::from(vec![2]))),
    ])
}

/// Group 0 sums to the greatest value by way of greater ones, group 1 does not fit.
pub(super) fn wide() -> RecordBatch {
    let big = vec![GREATEST, 1, -1, GREATEST, -GREATEST, GREATEST, GREATEST, 1];
    let decimal_greatest = 10_i128.pow(38) - 1;
    let decimal = vec![decimal_greatest, 1, -1, 0, 0, 0, decimal_greatest, 1];
    let decimal = Decimal128Array::from(decimal).with_precision_and_scale(38, 0).unwrap();
    batch(vec![
        ("id", Arc::new(Int32Array::from_iter_values(1..9))),
        ("g", Arc::new(Int32Array::from(vec![0, 0, 0, 0, 0, 2, 1, 1]))),
        ("big", Arc::new(Int64Array::from(big))),
        ("unsigned", Arc::new(UInt64Array::from(vec![u64::MAX, 1, 0, 0, 0, 0, 0, 0]))),
        ("decimal", Arc::new(decimal)),
        ("duration", Arc::new(DurationSecondArray::from(vec![GREATEST, 1, 0, 0, 0, 0, 0, 0]))),
    ])
}

/// Returns a number that is likely to be near an end of some type, or small.
pub(super) fn edge_value(random: &mut StdRng) -> i64 {
    let near: i64 = random.random_range(-3..=3);
    match random.random_range(0..6) {
        0 => GREATEST.wrapping_add(near.min(0)),
        1 => LEAST.wrapping_add(near.max(0)),
        2 => random.random(),
        3 => (1_i64 << random.random_range(20..44)) + near,
        4 => i64::from(i32::MAX) + near,
        _ => near,
    }
}

pub(super) fn one_row(x: i64, y: i64) -> RecordBatch {
    batch(vec![
        ("x", Arc::new(Int64Array::from(vec![x]))),
        ("y", Arc::new(Int64Array::from(vec![y]))),
    ])
}

/// Registers table `rows` in three partitions.
pub(super) fn register_rows(context: &SessionContext, rows: &[(i64, Option<i64>)]) {
    let schema = Arc::new(Schema::new(vec![
        Field::new("g", DataType::Int64, false),
        Field::new("v", DataType::Int64, true),
    ]));
    let partitions = rows
        .chunks(rows.len().div_ceil(3))
        .map(|part| {
            let groups = Int64Array::from_iter_values(part.iter().map(|(g, _)| *g));
            let values = Int64Array::from_iter(part.iter().map(|(_, v)| *v));
            let columns: Vec<ArrayRef> = vec![Arc::new(groups), Arc::new(values)];
            vec![RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()]
        })
        .collect();
    let table = MemTable::try_new(schema, partitions).unwrap();
    let schema = context.state().schema_for_ref("rows").unwrap();
    schema.register_table("rows".to_owned(), Arc::new(table)).unwrap();
}

/// Returns the one value of a result with at most one row.
pub(super) fn only_integer(batches: &[RecordBatch]) -> Option<i64> {
    let batch = batches.iter().find(|batch| batch.num_rows() > 0)?;
    match ScalarValue::try_from_array(batch.column(0), 0).unwrap() {
        ScalarValue::Int64(value) => value,
        other => panic!("{other:?} is not an integer"),
    }
}
