//! Rows on their way out: one batch at a time, as fast as the client takes them.
//!
//! Clients get plain types: text and bytes without views, dictionaries as their values, because
//! drivers differ in what they know. Dropping the stream drops the running query and so cancels it.

use std::pin::Pin;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, SchemaRef};
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use meshwork_engine::{Error, Result};
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Response, Status};

use super::statements::{Listed, Redeemed};
use super::status::{ascii_json, status_of};
use crate::{Running, StatementKind};

/// The header of a result that names its query.
const QUERY_ID_HEADER: &str = "x-meshwork-query-id";
/// The header of a result that says whether it is rows or the count of an update.
const KIND_HEADER: &str = "x-meshwork-kind";
/// The header of a result that tells, as JSON, the versions of the catalogs that were read.
const VERSIONS_HEADER: &str = "x-meshwork-versions";

/// The size that messages are cut to. Clients refuse more than 4 MiB unless told otherwise.
const MESSAGE_BYTES: usize = 2 * 1024 * 1024;

pub(super) type DataStream = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;

/// Returns the columns that clients see of a result: those of a query, or the count of an update.
///
/// A column whose type depends on a parameter without a type is text.
pub(super) fn client_schema(
    kind: StatementKind,
    schema: &Schema,
    has_parameters: bool,
) -> SchemaRef {
    match kind {
        StatementKind::Update => {
            Arc::new(Schema::new(vec![Field::new("rows", DataType::Int64, false)]))
        }
        StatementKind::Rows if has_parameters => with_text_for_null(&plain_schema(schema)),
        StatementKind::Rows => plain_schema(schema),
    }
}

fn with_text_for_null(schema: &Schema) -> SchemaRef {
    let typed = |field: &Arc<Field>| match field.data_type() {
        DataType::Null => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)),
        _ => Arc::clone(field),
    };
    let fields: Fields = schema.fields().iter().map(typed).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// Returns the schema with plain types.
pub(super) fn plain_schema(schema: &Schema) -> SchemaRef {
    let fields: Fields = schema.fields().iter().map(|field| plain_field(field)).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// Returns the field with a plain type; it may be NULL, because plans promise more than batches keep.
fn plain_field(field: &Field) -> Arc<Field> {
    Arc::new(field.clone().with_data_type(plain_type(field.data_type())).with_nullable(true))
}

/// Returns the entries of a map, whose keys are never NULL.
fn plain_entries(entries: &Field) -> Arc<Field> {
    let DataType::Struct(pair) = entries.data_type() else { return Arc::new(entries.clone()) };
    let plain = |field: &Arc<Field>| {
        let data_type = plain_type(field.data_type());
        Arc::new(field.as_ref().clone().with_data_type(data_type))
    };
    let pair = DataType::Struct(pair.iter().map(plain).collect());
    Arc::new(entries.clone().with_data_type(pair))
}

fn plain_type(data_type: &DataType) -> DataType {
    // Only what holds other types, or is no plain type itself, changes.
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::List(item) | DataType::ListView(item) => DataType::List(plain_field(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => {
            DataType::LargeList(plain_field(item))
        }
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(plain_field(item), *size),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| plain_field(field)).collect())
        }
        DataType::Map(entries, sorted) => DataType::Map(plain_entries(entries), *sorted),
        other => other.clone(),
    }
}

/// Returns the word for a kind of statement, as clients of ours read it.
pub(super) fn kind(kind: StatementKind) -> &'static str {
    match kind {
        StatementKind::Rows => "rows",
        StatementKind::Update => "update",
    }
}

/// Answers a `DoGet` with the rows of the query, or with the count of an update.
pub(super) fn respond(redeemed: Redeemed) -> Response<DataStream> {
    let Redeemed { running, listed, schema } = redeemed;
    let mut headers = MetadataMap::new();
    insert(&mut headers, QUERY_ID_HEADER, Some(running.record.id.clone()));
    insert(&mut headers, KIND_HEADER, Some(kind(running.kind).to_owned()));
    insert(&mut headers, VERSIONS_HEADER, ascii_json(&running.versions));
    let batches = match running.kind {
        StatementKind::Rows => rows(running, listed, Arc::clone(&schema)),
        StatementKind::Update => count(running, listed, Arc::clone(&schema)),
    };
    let mut response = Response::new(encode(schema, batches));
    *response.metadata_mut() = headers;
    response
}

/// Answers a `DoGet` with one batch.
pub(super) fn respond_batch(batch: RecordBatch) -> Response<DataStream> {
    Response::new(encode(batch.schema(), stream::iter([Ok(batch)]).boxed()))
}

/// Reads an update to its end and returns how many rows it affected.
pub(super) async fn affected(mut running: Running) -> Result<i64> {
    let mut count = 0;
    while let Some(batch) = running.rows.try_next().await? {
        if let Some(column) = batch.columns().first() {
            let counts = cast(column, &DataType::Int64)?;
            count += counts.as_primitive::<Int64Type>().iter().flatten().sum::<i64>();
        }
    }
    Ok(count)
}

/// Reads a query to its end and throws its rows away.
pub(super) async fn discard(mut running: Running) -> Result<()> {
    while running.rows.try_next().await?.is_some() {}
    Ok(())
}

type Batches = Pin<Box<dyn Stream<Item = Result<RecordBatch, FlightError>> + Send>>;

/// Returns the query's batches with plain types; the stream owns the query.
fn rows(mut running: Running, listed: Listed, schema: SchemaRef) -> Batches {
    let batches = stream::poll_fn(move |cx| {
        let _owned = &listed;
        running.rows.poll_next_unpin(cx)
    });
    batches
        .map(move |batch| {
            let batch = batch.map_err(Error::from).and_then(|batch| plain_batch(&batch, &schema));
            batch.map_err(|error| FlightError::Tonic(Box::new(status_of(error))))
        })
        .boxed()
}

/// Returns the one batch that counts what the update affected, once it is done.
fn count(running: Running, listed: Listed, schema: SchemaRef) -> Batches {
    let counted = async move {
        let _owned = listed;
        let count: ArrayRef = Arc::new(Int64Array::from(vec![affected(running).await?]));
        Ok(RecordBatch::try_new(schema, vec![count])?)
    };
    stream::once(counted)
        .map_err(|error: Error| FlightError::Tonic(Box::new(status_of(error))))
        .boxed()
}

fn plain_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (column, field) in batch.columns().iter().zip(schema.fields()) {
        columns.push(match column.data_type() == field.data_type() {
            true => Arc::clone(column),
            false => cast(column, field.data_type())?,
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

fn encode(schema: SchemaRef, batches: Batches) -> DataStream {
    FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_max_flight_data_size(MESSAGE_BYTES)
        .build(batches)
        .map_err(Status::from)
        .boxed()
}

fn insert(headers: &mut MetadataMap, key: &'static str, value: Option<String>) {
    if let Some(value) = value.and_then(|text| AsciiMetadataValue::try_from(text).ok()) {
        headers.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, StringArray, StringViewArray};
    use arrow::datatypes::Int8Type;

    use super::*;

    #[test]
    fn clients_get_plain_types() {
        let dictionary: DictionaryArray<Int8Type> = vec!["x", "y", "x"].into_iter().collect();
        let item = Arc::new(Field::new("item", DataType::Utf8View, true));
        let list = DataType::List(Arc::clone(&item));
        let schema = Schema::new(vec![
            Field::new("view", DataType::Utf8View, true),
            Field::new("dictionary", dictionary.data_type().clone(), true),
            Field::new("list", list.clone(), true),
        ]);
        let views: ArrayRef = Arc::new(StringViewArray::from(vec!["a", "b", "c"]));
        let batch = RecordBatch::try_new(
            Arc::new(schema.clone()),
            vec![views, Arc::new(dictionary), arrow::array::new_null_array(&list, 3)],
        )
        .unwrap();
        let plain = plain_batch(&batch, &plain_schema(&schema)).unwrap();
        let expected = StringArray::from(vec!["a", "b", "c"]);
        assert_eq!(plain.column(0).as_string::<i32>(), &expected);
        assert_eq!(plain.column(1).as_string::<i32>(), &StringArray::from(vec!["x", "y", "x"]));
        assert!(
            matches!(plain.column(2).data_type(), DataType::List(item) if item.data_type() == &DataType::Utf8)
        );
    }
}
