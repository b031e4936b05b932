//! Exports: what a reader of Delta sees is a version of the table, and the files are there as long as it says so.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::support::*;
use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use meshwork_store::policy::Policy;
use meshwork_store::{
    Alteration, ColumnType, CompactOptions, DELETED_COLUMN, Database, DeltaId, EXPORT_PROPERTY,
    Error, ReadAt, TableDef, TableKind, ValueFunction, Version,
};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

type Rows = BTreeSet<(i64, i64)>;

async fn create(database: &Database, name: &str, kind: TableKind) -> Arc<TableDef> {
    let function = (kind == TableKind::Aggregate).then_some(ValueFunction::Sum);
    let columns =
        vec![column("v", ColumnType::Int64, function), column("k", ColumnType::Int64, None)];
    let mut spec = table(name, kind, columns, &["k"]);
    spec.properties.insert(EXPORT_PROPERTY.to_owned(), "delta".to_owned());
    database.create_table(spec).await.unwrap()
}

/// Returns a database without tables, and where it lies.
async fn empty() -> (Arc<dyn ObjectStore>, Arc<Database>) {
    let store = memory();
    let database = open(Arc::clone(&store), 1).await.unwrap();
    database.create_namespace("ns").await.unwrap();
    (store, database)
}

async fn insert(database: &Arc<Database>, def: &Arc<TableDef>, rows: &[(i64, i64)]) {
    let mut batch = database.batch();
    let columns: [(&str, ArrayRef); 2] = [
        ("k", Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>())),
        ("v", Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>())),
    ];
    batch.insert(def, RecordBatch::try_from_iter(columns).unwrap()).unwrap();
    batch.commit().await.unwrap();
}

async fn merge(database: &Database, def: &TableDef) {
    let snapshot = database.snapshot(ReadAt::Committed).await.unwrap();
    let newest = snapshot.table_of(def.id).unwrap().unwrap();
    let from: Vec<DeltaId> = newest.chosen().iter().map(|delta| delta.id).collect();
    let options = CompactOptions { moved_bytes_min: u64::MAX, ..CompactOptions::default() };
    database.compact(def.id, &from, options).await.unwrap();
}

/// Returns the rows as a reader of Delta finds them, who knows the protocol and nothing else.
async fn read(store: &Arc<dyn ObjectStore>, folder: &str) -> Rows {
    let get = async |path: String| -> Option<Bytes> {
        Some(store.get(&Path::from(path)).await.ok()?.bytes().await.unwrap())
    };
    let mut files = BTreeSet::new();
    let mut number = 0;
    while let Some(text) = get(format!("db/{folder}/_delta_log/{number:020}.json")).await {
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let action: Value = serde_json::from_slice(line).unwrap();
            if let Some(path) = action["add"]["path"].as_str() {
                assert!(files.insert(path.to_owned()), "{path} came twice");
            }
            if let Some(path) = action["remove"]["path"].as_str() {
                assert!(files.remove(path), "{path} went and was not there");
            }
        }
        number += 1;
    }
    assert!(number > 0, "there is no export");
    let mut rows = Rows::new();
    for file in files {
        let bytes = get(format!("db/{folder}/{file}")).await.unwrap();
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let number =
                |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                let row = (number("k").value(row), number("v").value(row));
                assert!(rows.insert(row), "{row:?} stands twice");
            }
        }
    }
    rows
}

fn rows(rows: &[(i64, i64)]) -> Rows {
    rows.iter().copied().collect()
}

#[tokio::test]
async fn an_export_is_the_newest_version_that_needs_no_merge() {
    let (store, database) = empty().await;
    let def = create(&database, "t", TableKind::Aggregate).await;
    assert_eq!(database.export(def.id).await.unwrap(), None);
    insert(&database, &def, &[(1, 1), (2, 2)]).await;
    let first = database.export(def.id).await.unwrap().unwrap();
    assert_eq!((first.number, first.version), (0, Version(1)));
    insert(&database, &def, &[(2, 20), (3, 30)]).await;
    // Two deltas: whoever reads both as they are sees key 2 twice.
    assert_eq!(database.export(def.id).await.unwrap().unwrap(), first);
    assert_eq!(read(&store, &first.folder).await, rows(&[(1, 1), (2, 2)]));
    merge(&database, &def).await;
    let second = database.export(def.id).await.unwrap().unwrap();
    assert_eq!((second.number, second.version), (1, Version(2)));
    assert_eq!(database.export(def.id).await.unwrap().unwrap(), second);
    assert_eq!(database.exported(def.id).await.unwrap().unwrap(), second);
    assert_eq!(read(&store, &second.folder).await, rows(&[(1, 1), (2, 22), (3, 30)]));

    // Maintenance does it too; an append table needs no merge.
    let appended = create(&database, "appended", TableKind::Append).await;
    insert(&database, &appended, &[(1, 1)]).await;
    insert(&database, &appended, &[(1, 2)]).await;
    let (policy, options) = (Policy::default(), CompactOptions::default());
    database.maintain(appended.id, &policy, options).await.unwrap();
    let exported = database.exported(appended.id).await.unwrap().unwrap();
    assert_eq!(exported.version, Version(4));
    assert_eq!(read(&store, &exported.folder).await, rows(&[(1, 1), (1, 2)]));
}

#[tokio::test]
async fn many_exports_are_read_from_a_checkpoint() {
    let (store, database) = empty().await;
    let def = create(&database, "t", TableKind::Append).await;
    let mut expected = Rows::new();
    for number in 0..25 {
        insert(&database, &def, &[(number, number)]).await;
        expected.insert((number, number));
        let exported = database.export(def.id).await.unwrap().unwrap();
        assert_eq!(
            (exported.number, exported.version.0),
            (u64::try_from(number).unwrap(), 1 + exported.number)
        );
    }
    let exported = database.exported(def.id).await.unwrap().unwrap();
    assert_eq!(read(&store, &exported.folder).await, expected);
    // Those before a checkpoint are not needed.
    for number in 0..20 {
        let path = format!("db/{}/_delta_log/{number:020}.json", exported.folder);
        store.delete(&Path::from(path)).await.unwrap();
    }
    let cold = open(Arc::clone(&store), 2).await.unwrap();
    assert_eq!(cold.exported(def.id).await.unwrap().unwrap(), exported);
    insert(&cold, &def, &[(99, 99)]).await;
    let next = cold.export(def.id).await.unwrap().unwrap();
    assert_eq!(next.number, exported.number + 1);
    // All that came stays, whoever needs it.
    let vacuumed = cold.vacuum(at_once(None)).await.unwrap();
    assert_eq!((vacuumed.files_deleted, vacuumed.files_waiting), (0, 0));
}

#[tokio::test]
async fn deleted_rows_are_in_no_export() {
    let (store, database) = empty().await;
    let def = create(&database, "t", TableKind::Unique).await;
    let mut batch = database.batch();
    let deleted: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true)]));
    let key: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let gone = RecordBatch::try_from_iter([("k", key), (DELETED_COLUMN, deleted)]).unwrap();
    batch.insert(&def, gone).unwrap();
    batch.commit().await.unwrap();
    assert_eq!(database.export(def.id).await.unwrap(), None, "its one row is deleted");
    insert(&database, &def, &[(2, 2), (3, 3)]).await;
    merge(&database, &def).await;
    let exported = database.export(def.id).await.unwrap().unwrap();
    assert_eq!(read(&store, &exported.folder).await, rows(&[(2, 2), (3, 3)]));
}

#[tokio::test]
async fn a_vacuum_spares_what_is_exported() {
    let (store, database) = empty().await;
    let def = create(&database, "t", TableKind::Aggregate).await;
    insert(&database, &def, &[(1, 1)]).await;
    let exported = database.export(def.id).await.unwrap().unwrap();
    let mut n_deleted = 0;
    for value in 2..=20 {
        insert(&database, &def, &[(1, value)]).await;
        merge(&database, &def).await;
        let newest = database.state().version;
        n_deleted += database.vacuum(patient(newest)).await.unwrap().files_deleted;
        assert_eq!(read(&store, &exported.folder).await, rows(&[(1, 1)]));
    }
    assert!(n_deleted > 10, "{n_deleted} files were deleted");
    let newest = database.export(def.id).await.unwrap().unwrap();
    database.vacuum(patient(database.state().version)).await.unwrap();
    assert_eq!(read(&store, &newest.folder).await, rows(&[(1, 210)]));
}

#[tokio::test]
async fn what_cannot_be_exported_says_why() {
    let database = open(memory(), 1).await.unwrap();
    database.create_namespace("ns").await.unwrap();
    let asked = |format: &str, column_type| {
        let mut spec = table("t", TableKind::Append, vec![column("c", column_type, None)], &[]);
        spec.properties.insert(EXPORT_PROPERTY.to_owned(), format.to_owned());
        spec
    };
    for (spec, expected) in [
        (asked("hudi", ColumnType::Int64), "exported as hudi"),
        (asked("delta", ColumnType::UInt64), "\"c\" of type uint64 cannot be exported"),
    ] {
        let refused = database.create_table(spec).await.unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
    let def = create(&database, "appended", TableKind::Append).await;
    insert(&database, &def, &[(1, 1)]).await;
    let renamed = Alteration::RenameColumn { name: "v".to_owned(), to: "w".to_owned() };
    database.alter_table("ns", "appended", &renamed).await.unwrap();
    match database.export(def.id).await {
        Err(Error::Definition { reason, .. }) => {
            assert!(reason.contains("an earlier definition"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    // A clone has files of another table, and no export.
    let clone = database.clone_table(("ns", "appended"), ReadAt::Committed, ("ns", "c")).await;
    assert_eq!(clone.unwrap().properties.get(EXPORT_PROPERTY), None);
}
