//! Definitions that change: each version has its own, whatever files it is read from.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::ways;
use crate::support::*;
use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, Int32Array, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use meshwork_store::{
    Alteration, CheckDepth, ColumnSpec, ColumnType, CompactOptions, Database, DeltaId, Error,
    ReadAt, TableKind, TableSnapshot, ValueFunction, Version,
};
use proptest::prelude::*;

/// A table as it is at a version: what its value columns are called, and their values by key.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    columns: Vec<String>,
    rows: BTreeMap<i64, Vec<Option<i64>>>,
}

/// What happens to it. Columns are chosen as places modulo their number.
#[derive(Debug, Clone)]
enum Event {
    /// Rows come: keys, and a number that makes their values.
    Update(Vec<(i64, i64)>),
    Add(Option<i64>),
    Drop(usize),
    Rename(usize),
    Widen(usize),
    /// Deltas that stand side by side become one.
    Compact {
        place: usize,
        number: usize,
        moves: bool,
    },
    /// The table becomes what it was so many versions ago.
    Restore(usize),
    Reopen,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => prop::collection::vec((0..5i64, -9..9i64), 1..5).prop_map(Event::Update),
        2 => prop::option::of(-9..9i64).prop_map(Event::Add),
        1 => (0..9usize).prop_map(Event::Drop),
        1 => (0..9usize).prop_map(Event::Rename),
        1 => (0..9usize).prop_map(Event::Widen),
        3 => (0..8usize, 2..6usize, any::<bool>())
            .prop_map(|(place, number, moves)| Event::Compact { place, number, moves }),
        1 => (0..20usize).prop_map(Event::Restore),
        1 => Just(Event::Reopen),
    ]
}

/// The value of a row in the column at a place; every third is NULL.
fn value(seed: i64, place: usize) -> Option<i64> {
    let value = seed + i64::try_from(place).unwrap();
    (value % 3 != 0).then_some(value)
}

async fn newest(database: &Database) -> TableSnapshot {
    database.snapshot(ReadAt::Committed).await.unwrap().table("ns", "t").unwrap()
}

async fn read(database: &Database, table: &TableSnapshot) -> Model {
    let def = table.def();
    let columns = def.columns.iter().filter(|column| column.name != "k");
    let columns: Vec<String> = columns.map(|column| column.name.clone()).collect();
    let mut rows = BTreeMap::new();
    for batch in table.merge(database).await.unwrap() {
        let batch = batch.unwrap();
        let column = |name: &str| {
            let column = cast(batch.column_by_name(name).unwrap(), &DataType::Int64).unwrap();
            column.as_primitive::<Int64Type>().clone()
        };
        let (keys, values) = (column("k"), columns.iter().map(|name| column(name)));
        let values: Vec<Int64Array> = values.collect();
        for row in 0..batch.num_rows() {
            let values =
                values.iter().map(|column| column.is_valid(row).then(|| column.value(row)));
            assert!(rows.insert(keys.value(row), values.collect()).is_none(), "a key stands twice");
        }
    }
    Model { columns, rows }
}

/// The table of a trial, and what each version of it was.
struct Trial {
    database: Arc<Database>,
    history: Vec<Model>,
    n_names: usize,
}

impl Trial {
    async fn update(&mut self, rows: &[(i64, i64)]) {
        let mut model = self.history.last().unwrap().clone();
        let n_columns = model.columns.len();
        for (key, seed) in rows {
            model.rows.insert(*key, (0..n_columns).map(|place| value(*seed, place)).collect());
        }
        let def = Arc::clone(newest(&self.database).await.def());
        let keys: ArrayRef = Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>());
        let mut columns = vec![("k".to_owned(), keys)];
        for (place, name) in model.columns.iter().enumerate() {
            let values = rows.iter().map(|(_, seed)| value(*seed, place)).collect::<Int64Array>();
            let to = def.column(name).unwrap().column_type.to_arrow();
            columns.push((name.clone(), cast(&values, &to).unwrap()));
        }
        let columns = columns.into_iter().map(|(name, column)| (name, column, true));
        let mut batch = self.database.batch();
        batch.insert(&def, RecordBatch::try_from_iter_with_nullable(columns).unwrap()).unwrap();
        batch.commit().await.unwrap();
        self.history.push(model);
    }

    async fn alter(&mut self, alteration: Alteration, change: impl FnOnce(&mut Model)) {
        self.database.alter_table("ns", "t", &alteration).await.unwrap();
        let mut model = self.history.last().unwrap().clone();
        change(&mut model);
        self.history.push(model);
    }

    fn new_name(&mut self) -> String {
        self.n_names += 1;
        format!("c{}", self.n_names)
    }

    async fn happen(
        &mut self,
        event: &Event,
        seed: u64,
        store: &Arc<dyn object_store::ObjectStore>,
    ) {
        let columns = self.history.last().unwrap().columns.clone();
        let chosen = |place: &usize| {
            columns
                .get(place % columns.len().max(1))
                .map(|name| (place % columns.len(), name.clone()))
        };
        match event {
            Event::Update(rows) => self.update(rows).await,
            Event::Add(default) => {
                let name = self.new_name();
                let default_array = default.map(|value| {
                    Arc::new(Int32Array::from(vec![i32::try_from(value).unwrap()])) as ArrayRef
                });
                let column = column(&name, ColumnType::Int32, None);
                let add = Alteration::AddColumn { column, default: default_array };
                self.alter(add, |model| {
                    model.columns.push(name);
                    model.rows.values_mut().for_each(|row| row.push(*default));
                })
                .await;
            }
            Event::Drop(place) => {
                let Some((at, name)) = chosen(place) else { return };
                self.alter(Alteration::DropColumn(name), |model| {
                    model.columns.remove(at);
                    for row in model.rows.values_mut() {
                        row.remove(at);
                    }
                })
                .await;
            }
            Event::Rename(place) => {
                let Some((at, name)) = chosen(place) else { return };
                let to = self.new_name();
                let rename = Alteration::RenameColumn { name, to: to.clone() };
                self.alter(rename, |model| model.columns[at] = to).await;
            }
            Event::Widen(place) => {
                let Some((_, name)) = chosen(place) else { return };
                let widen = Alteration::WidenColumn { name, column_type: ColumnType::Int64 };
                self.alter(widen, |_model| {}).await;
            }
            Event::Compact { place, number, moves } => self.compact(*place, *number, *moves).await,
            Event::Restore(ago) => {
                let version = self.history.len() - 1 - ago % self.history.len();
                let at = ReadAt::Version(Version(version as u64));
                self.database.restore(&[("ns", "t")], at).await.unwrap();
                self.history.push(self.history[version].clone());
            }
            Event::Reopen => self.database = open(Arc::clone(store), seed).await.unwrap(),
        }
    }

    async fn compact(&self, place: usize, number: usize, moves: bool) {
        let table = newest(&self.database).await;
        let chosen: Vec<DeltaId> = table.chosen().iter().map(|delta| delta.id).collect();
        if chosen.len() < 2 {
            return;
        }
        let from = &chosen[place % (chosen.len() - 1)..];
        let from = &from[..number.min(from.len())];
        let moved_bytes_min = if moves { 0 } else { u64::MAX };
        let options = CompactOptions { level: 1, file_rows_max: 2, moved_bytes_min };
        self.database.compact(table.def().id, from, options).await.unwrap();
    }

    /// Compares each version, read from all deltas from which it can be.
    async fn compare(&self) {
        for (version, model) in self.history.iter().enumerate() {
            let at = ReadAt::Version(Version(version as u64));
            let table = self.database.snapshot(at).await.unwrap().table("ns", "t").unwrap();
            assert_eq!(&read(&self.database, &table).await, model, "version {version}");
            for chosen in ways(&table) {
                let forced = table.read_from(&chosen).unwrap();
                let found = read(&self.database, &forced).await;
                assert_eq!(&found, model, "version {version} from {chosen:?}");
            }
            assert_eq!(self.database.check(&table, CheckDepth::Full).await.unwrap(), []);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: n_cases(), ..ProptestConfig::default() })]

    #[test]
    fn every_version_keeps_its_columns(events in prop::collection::vec(event(), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = memory();
            let database = open(Arc::clone(&store), 1).await.unwrap();
            database.create_namespace("ns").await.unwrap();
            let columns = vec![
                column("c0", ColumnType::Int32, None),
                column("k", ColumnType::Int64, None),
            ];
            database.create_table(table("t", TableKind::Unique, columns, &["k"])).await.unwrap();
            let first = Model { columns: vec!["c0".to_owned()], rows: BTreeMap::new() };
            let mut trial = Trial { database, history: vec![first], n_names: 0 };
            for (place, event) in events.iter().enumerate() {
                trial.happen(event, place as u64 + 2, &store).await;
            }
            trial.compare().await;
            trial.database = open(store, 100).await.unwrap();
            trial.compare().await;
        });
    }
}

/// A table with a key and a sum, and one more table of another name.
async fn two_tables() -> Arc<Database> {
    let database = open(memory(), 1).await.unwrap();
    database.create_namespace("ns").await.unwrap();
    for name in ["t", "u"] {
        let columns = vec![
            column("k", ColumnType::Int64, None),
            column("n", ColumnType::Int64, Some(ValueFunction::Sum)),
        ];
        database.create_table(table(name, TableKind::Aggregate, columns, &["k"])).await.unwrap();
    }
    database
}

#[tokio::test]
async fn what_cannot_be_altered_says_why() {
    let database = two_tables().await;
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let add = |name: &str, function, default: Option<&ArrayRef>, nullable| Alteration::AddColumn {
        column: ColumnSpec { nullable, ..column(name, ColumnType::Int64, Some(function)) },
        default: default.cloned(),
    };
    let cases = [
        (add("n", ValueFunction::Max, None, true), "it has a column \"n\""),
        (add("m", ValueFunction::Max, None, false), "has no default"),
        (add("m", ValueFunction::Sum, Some(&number), true), "count its default once for each"),
        (Alteration::DropColumn("k".into()), "is in its key"),
        (Alteration::DropColumn("x".into()), "it has no column \"x\""),
        (Alteration::RenameColumn { name: "n".into(), to: "k".into() }, "it has a column \"k\""),
        (Alteration::RenameTable(String::new()), "a table name is empty"),
        (
            Alteration::WidenColumn { name: "n".into(), column_type: ColumnType::Utf8 },
            "cannot become utf8",
        ),
    ];
    for (alteration, expected) in cases {
        let refused = database.alter_table("ns", "t", &alteration).await.unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
    let taken = database.alter_table("ns", "t", &Alteration::RenameTable("u".into())).await;
    assert!(matches!(taken, Err(Error::TableExists { .. })), "{taken:?}");
}

#[tokio::test]
async fn rows_for_an_old_definition_are_a_conflict() {
    let database = two_tables().await;
    let def = Arc::clone(newest(&database).await.def());
    let one: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let rows = RecordBatch::try_from_iter([("k", Arc::clone(&one)), ("n", one)]).unwrap();
    let mut batch = database.batch();
    batch.insert(&def, rows).unwrap();
    let rename = Alteration::RenameColumn { name: "n".into(), to: "m".into() };
    database.alter_table("ns", "t", &rename).await.unwrap();
    let late = batch.commit().await;
    assert!(matches!(late, Err(Error::Conflict { .. })), "{late:?}");
}
