//! The store against the simplest thing that could be it: rows in a map, folded one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::support::*;
use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use meshwork_store::{
    ColumnType, Database, ReadAt, TableDef, TableKind, TableSnapshot, ValueFunction, Version,
};
use proptest::prelude::*;

type Key = (Option<i64>, Option<String>);

/// One raw row: the key and one number that all value columns take.
#[derive(Debug, Clone)]
struct Row {
    key: Key,
    value: Option<i64>,
}

/// What the model keeps per key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Folded {
    sum: Option<i64>,
    min: Option<i64>,
    max: Option<i64>,
    count: Option<i64>,
    last: Option<i64>,
}

impl Folded {
    fn fold(self, value: Option<i64>) -> Self {
        let merge = |old: Option<i64>, merge: fn(i64, i64) -> i64| match (old, value) {
            (Some(old), Some(new)) => Some(merge(old, new)),
            (old, new) => old.or(new),
        };
        Self {
            sum: merge(self.sum, |a, b| a + b),
            min: merge(self.min, i64::min),
            max: merge(self.max, i64::max),
            count: merge(self.count, |a, b| a + b),
            last: value,
        }
    }
}

type Model = BTreeMap<Key, Folded>;

fn row() -> impl Strategy<Value = Row> {
    let key = (prop::option::weighted(0.9, -2..3i64), prop::option::weighted(0.9, "[ab]{0,2}"));
    (key, prop::option::weighted(0.8, -100..100i64)).prop_map(|(key, value)| Row { key, value })
}

fn update() -> impl Strategy<Value = (Vec<Row>, Vec<Row>)> {
    let rows = || prop::collection::vec(row(), 0..12);
    (rows(), rows()).prop_filter("an update has rows", |(a, b)| a.len() + b.len() > 0)
}

fn to_batch(rows: &[Row]) -> RecordBatch {
    let values: ArrayRef = Arc::new(rows.iter().map(|row| row.value).collect::<Int64Array>());
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("n", Arc::new(rows.iter().map(|row| row.key.0).collect::<Int64Array>())),
        ("s", Arc::new(rows.iter().map(|row| row.key.1.clone()).collect::<StringArray>())),
    ];
    columns.extend(["sum", "min", "max", "count", "last"].map(|name| (name, Arc::clone(&values))));
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
        .unwrap()
}

async fn create(database: &Database, name: &str, key: &[&str]) -> Arc<TableDef> {
    let value = |function: ValueFunction| {
        let name = if function == ValueFunction::Replace { "last" } else { function.name() };
        column(&name.to_lowercase(), ColumnType::Int64, Some(function))
    };
    let mut columns: Vec<_> = ValueFunction::ALL.into_iter().map(value).collect();
    columns.push(column("s", ColumnType::Utf8, None));
    columns.push(column("n", ColumnType::Int64, None));
    database.create_table(table(name, TableKind::Aggregate, columns, key)).await.unwrap()
}

async fn read(database: &Database, table: &TableSnapshot) -> Model {
    let mut found = Model::new();
    let mut n_rows = 0;
    for batch in table.merge(database).await.unwrap() {
        let batch = batch.unwrap();
        n_rows += batch.num_rows();
        let number = |name: &str, row: usize| {
            let column = batch.column_by_name(name).unwrap().as_primitive::<Int64Type>();
            column.is_valid(row).then(|| column.value(row))
        };
        let text = batch.column_by_name("s").unwrap().as_string::<i32>();
        for row in 0..batch.num_rows() {
            let key = (number("n", row), text.is_valid(row).then(|| text.value(row).to_owned()));
            let folded = Folded {
                sum: number("sum", row),
                min: number("min", row),
                max: number("max", row),
                count: number("count", row),
                last: number("last", row),
            };
            found.insert(key, folded);
        }
    }
    assert_eq!(found.len(), n_rows, "a key stands twice");
    found
}

async fn compare(updates: Vec<(Vec<Row>, Vec<Row>)>) {
    let store = memory();
    let database = open(Arc::clone(&store), 1).await.unwrap();
    database.create_namespace("ns").await.unwrap();
    let a = create(&database, "a", &["n", "s"]).await;
    let b = create(&database, "b", &["s", "n"]).await;

    let mut history: Vec<(Model, Model)> = vec![Default::default()];
    for (rows_a, rows_b) in &updates {
        let (mut model_a, mut model_b) = history.last().unwrap().clone();
        for (model, rows) in [(&mut model_a, rows_a), (&mut model_b, rows_b)] {
            for row in rows {
                let folded = model.entry(row.key.clone()).or_default();
                *folded = folded.fold(row.value);
            }
        }
        history.push((model_a, model_b));

        let mut batch = database.batch();
        // Rows of one update may come in pieces.
        let (first, second) = rows_a.split_at(rows_a.len() / 2);
        batch.insert(&a, to_batch(first)).unwrap();
        batch.insert(&b, to_batch(rows_b)).unwrap();
        batch.insert(&a, to_batch(second)).unwrap();
        let committed = batch.commit().await.unwrap();
        assert_eq!(committed.version.0, history.len() as u64 - 1);
    }

    let cold = open(store, 2).await.unwrap();
    for reader in [&database, &cold] {
        for (version, (model_a, model_b)) in (0..).zip(&history) {
            let snapshot = reader.snapshot(ReadAt::Version(Version(version))).await.unwrap();
            for (name, model) in [("a", model_a), ("b", model_b)] {
                let table = snapshot.table("ns", name).unwrap();
                assert_eq!(&read(reader, &table).await, model, "{name} at version {version}");
                for file in table.files() {
                    reader.verify_file(table.def(), file).await.unwrap();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn every_version_is_the_fold_of_its_updates(updates in prop::collection::vec(update(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(compare(updates));
    }
}

#[tokio::test]
async fn keys_whose_sum_is_zero_stay() {
    let database = open(memory(), 1).await.unwrap();
    database.create_namespace("ns").await.unwrap();
    let a = create(&database, "a", &["n", "s"]).await;
    for value in [5, -5] {
        let row = Row { key: (Some(1), None), value: Some(value) };
        let mut batch = database.batch();
        batch.insert(&a, to_batch(&[row])).unwrap();
        batch.commit().await.unwrap();
    }
    let snapshot = database.snapshot(ReadAt::Committed).await.unwrap();
    let found = read(&database, &snapshot.table("ns", "a").unwrap()).await;
    assert_eq!(found.get(&(Some(1), None)).unwrap().sum, Some(0));
}

/// More keys than one output batch holds, in runs of several batches each.
#[tokio::test]
async fn long_runs_merge_across_batches() {
    let database = open(memory(), 1).await.unwrap();
    database.create_namespace("ns").await.unwrap();
    let a = create(&database, "a", &["n", "s"]).await;
    let mut model = Model::new();
    for run in 0..3i64 {
        let keys = (0..20_000i64).filter(|key| key % (run + 1) == 0);
        let rows: Vec<Row> =
            keys.map(|key| Row { key: (Some(key), None), value: Some(key + run) }).collect();
        for row in &rows {
            let folded = model.entry(row.key.clone()).or_default();
            *folded = folded.fold(row.value);
        }
        let mut batch = database.batch();
        batch.insert(&a, to_batch(&rows)).unwrap();
        batch.commit().await.unwrap();
    }
    let snapshot = database.snapshot(ReadAt::Committed).await.unwrap();
    assert_eq!(read(&database, &snapshot.table("ns", "a").unwrap()).await, model);
}
