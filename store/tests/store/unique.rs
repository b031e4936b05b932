//! Unique tables against a map: a row takes the place of the one before it, and goes when it is deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::ways;
use crate::support::*;
use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use meshwork_store::{
    CheckDepth, ColumnSpec, ColumnType, CompactOptions, DELETED_COLUMN, Database, Delta, DeltaId,
    Error, ReadAt, TableDef, TableKind, TableSnapshot, Version,
};
use proptest::prelude::*;

/// Rows by their keys; `None` deletes.
type Rows = Vec<(i64, Option<String>)>;
type Model = BTreeMap<i64, String>;

#[derive(Debug, Clone)]
enum Event {
    Update(Rows),
    /// Deltas that stand side by side become one: which, as places modulo their number.
    Compact {
        place: usize,
        number: usize,
        moves: bool,
    },
    /// The table becomes what it was, so many versions ago modulo those that are there.
    Restore(usize),
    Reopen,
}

fn event() -> impl Strategy<Value = Event> {
    let row = (0..6i64, prop::option::weighted(0.6, "[a-c]{0,2}"));
    prop_oneof![
        5 => prop::collection::vec(row, 1..6).prop_map(Event::Update),
        3 => (0..8usize, 2..6usize, any::<bool>())
            .prop_map(|(place, number, moves)| Event::Compact { place, number, moves }),
        1 => (0..20usize).prop_map(Event::Restore),
        1 => Just(Event::Reopen),
    ]
}

async fn create(database: &Database) -> Arc<TableDef> {
    database.create_namespace("ns").await.unwrap();
    let value =
        |name: &str, nullable| ColumnSpec { nullable, ..column(name, ColumnType::Utf8, None) };
    let columns =
        vec![value("v", false), column("k", ColumnType::Int64, None), value("note", true)];
    database.create_table(table("t", TableKind::Unique, columns, &["k"])).await.unwrap()
}

/// Rows of one batch, all with the column that says which are deleted: these have nothing but their key.
fn to_batch(rows: &Rows) -> RecordBatch {
    let values = rows.iter().map(|(_, value)| value.clone()).collect::<StringArray>();
    let deleted = rows.iter().map(|(_, value)| value.is_none().then_some(true));
    let columns: [(&str, ArrayRef); 3] = [
        ("k", Arc::new(rows.iter().map(|(key, _)| *key).collect::<Int64Array>())),
        ("v", Arc::new(values)),
        (DELETED_COLUMN, Arc::new(deleted.collect::<BooleanArray>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
        .unwrap()
}

async fn read(database: &Database, table: &TableSnapshot) -> Model {
    let mut found = Model::new();
    let mut n_rows = 0;
    for batch in table.merge(database).await.unwrap() {
        let batch = batch.unwrap();
        n_rows += batch.num_rows();
        let keys = batch.column_by_name("k").unwrap().as_primitive::<Int64Type>();
        let values = batch.column_by_name("v").unwrap().as_string::<i32>();
        for row in 0..batch.num_rows() {
            assert!(values.is_valid(row), "a value that cannot be NULL is");
            found.insert(keys.value(row), values.value(row).to_owned());
        }
    }
    assert_eq!(found.len(), n_rows, "a key stands twice");
    found
}

async fn table_at(database: &Database, version: usize) -> TableSnapshot {
    let at = ReadAt::Version(Version(version as u64));
    database.snapshot(at).await.unwrap().table("ns", "t").unwrap()
}

async fn compact(database: &Database, place: usize, number: usize, moves: bool) {
    let newest = database.snapshot(ReadAt::Committed).await.unwrap();
    let table = newest.table("ns", "t").unwrap();
    let chosen: Vec<DeltaId> = table.chosen().iter().map(|delta| delta.id).collect();
    if chosen.len() < 2 {
        return;
    }
    let from = &chosen[place % (chosen.len() - 1)..];
    let from = &from[..number.min(from.len())];
    let options = CompactOptions {
        level: 1,
        file_rows_max: 2,
        moved_bytes_min: if moves { 0 } else { u64::MAX },
    };
    let done = database.compact(table.def().id, from, options).await.unwrap();
    let newest = database.snapshot(ReadAt::Committed).await.unwrap();
    let table = newest.table("ns", "t").unwrap();
    let oldest = table.deltas().iter().map(|delta| delta.id.v.lo).min();
    if !moves && oldest == Some(done.delta.v.lo) {
        // Nothing is below it that a deleted row could hide.
        let made = table.deltas().get(done.delta).unwrap();
        let deleted = made.files.iter().map(|file| file.rows - file.stats[DELETED_COLUMN].nulls);
        assert_eq!(deleted.sum::<u64>(), 0);
    }
}

/// Applies the rows that came in a version to what was there before.
async fn replay(database: &Database, def: &TableDef, update: &Delta, model: &mut Model) {
    for file in &update.files {
        for batch in database.read_file(def, file).await.unwrap() {
            let batch = batch.unwrap();
            let keys = batch.column_by_name("k").unwrap().as_primitive::<Int64Type>();
            let values = batch.column_by_name("v").unwrap().as_string::<i32>();
            let deleted = batch.column_by_name(DELETED_COLUMN).unwrap().as_boolean();
            for row in 0..batch.num_rows() {
                match deleted.is_valid(row) && deleted.value(row) {
                    true => model.remove(&keys.value(row)),
                    false => model.insert(keys.value(row), values.value(row).to_owned()),
                };
            }
        }
    }
}

/// Compares each version, read from all deltas from which it can be, and replayed from the one before it.
async fn compare(database: &Database, history: &[Model]) {
    for (version, model) in history.iter().enumerate() {
        let table = table_at(database, version).await;
        assert_eq!(&read(database, &table).await, model, "version {version}");
        for chosen in ways(&table) {
            let forced = table.read_from(&chosen).unwrap();
            assert_eq!(&read(database, &forced).await, model, "version {version}: {chosen:?}");
        }
        if let Some(update) = table.update(Version(version as u64)) {
            let mut replayed = history[version - 1].clone();
            replay(database, table.def(), update, &mut replayed).await;
            assert_eq!(&replayed, model, "version {version} replayed");
        }
        assert_eq!(database.check(&table, CheckDepth::Full).await.unwrap(), []);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: n_cases(), ..ProptestConfig::default() })]

    #[test]
    fn every_version_is_what_its_updates_left(events in prop::collection::vec(event(), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = memory();
            let mut database = open(Arc::clone(&store), 1).await.unwrap();
            let def = create(&database).await;
            let mut history = vec![Model::new()];
            for (place, event) in events.iter().enumerate() {
                let mut model = history.last().unwrap().clone();
                match event {
                    Event::Update(rows) => {
                        for (key, value) in rows {
                            match value {
                                Some(value) => model.insert(*key, value.clone()),
                                None => model.remove(key),
                            };
                        }
                        let mut batch = database.batch();
                        batch.insert(&def, to_batch(rows)).unwrap();
                        batch.commit().await.unwrap();
                        history.push(model);
                    }
                    Event::Compact { place, number, moves } => {
                        compact(&database, *place, *number, *moves).await;
                    }
                    Event::Restore(ago) => {
                        let version = history.len() - 1 - ago % history.len();
                        let at = ReadAt::Version(Version(version as u64));
                        database.restore(&[("ns", "t")], at).await.unwrap();
                        history.push(history[version].clone());
                    }
                    Event::Reopen => {
                        database = open(Arc::clone(&store), place as u64 + 2).await.unwrap();
                    }
                }
            }
            compare(&database, &history).await;
            let database = open(store, 100).await.unwrap();
            compare(&database, &history).await;
        });
    }
}

#[tokio::test]
async fn only_a_deleted_row_may_leave_a_needed_value_out() {
    let database = open(memory(), 1).await.unwrap();
    let def = create(&database).await;
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let refused = |columns: Vec<(&str, ArrayRef)>| {
        let columns = columns.into_iter().map(|(name, column)| (name, column, true));
        let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        match database.batch().insert(&def, rows) {
            Err(Error::Rows { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    };
    let one: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None]));
    let missing = refused(vec![("k", Arc::clone(&keys)), (DELETED_COLUMN, Arc::clone(&one))]);
    assert_eq!(missing, "column \"v\" is missing and cannot be NULL");
    let values: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
    let null = refused(vec![("k", keys), ("v", values), (DELETED_COLUMN, one)]);
    assert_eq!(null, "column \"v\" cannot be NULL");
}
