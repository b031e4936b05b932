//! The store against the simplest thing that could be it: rows in a map, folded one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::support::*;
use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use meshwork_store::policy::{Policy, Tiers};
use meshwork_store::{
    CheckDepth, ColumnType, CompactOptions, Database, DeltaId, Error, ReadAt, TableDef, TableKind,
    TableSnapshot, ValueFunction, Version,
};
use object_store::ObjectStore;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

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
    newest: Option<i64>,
    /// None before there is a row.
    first: Option<Option<i64>>,
    all: Option<bool>,
    one: Option<bool>,
}

impl Folded {
    fn fold(self, value: Option<i64>) -> Self {
        let truth = value.map(is_true);
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
            newest: value.or(self.newest),
            first: Some(self.first.unwrap_or(value)),
            all: self.all.map_or(truth, |all| Some(all && truth.unwrap_or(true))),
            one: self.one.map_or(truth, |one| Some(one || truth.unwrap_or(false))),
        }
    }
}

/// The truth that a number stands for in columns of truths.
fn is_true(value: i64) -> bool {
    value % 3 != 0
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
    let numbers = ["sum", "min", "max", "count", "replace", "replace_if_not_null", "first"];
    columns.extend(numbers.map(|name| (name, Arc::clone(&values))));
    let truths = rows.iter().map(|row| row.value.map(is_true)).collect::<BooleanArray>();
    let truths: ArrayRef = Arc::new(truths);
    columns.extend(["bool_and", "bool_or"].map(|name| (name, Arc::clone(&truths))));
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
        .unwrap()
}

async fn create(database: &Database, name: &str, key: &[&str]) -> Arc<TableDef> {
    let value = |function: ValueFunction| {
        let is_truth = matches!(function, ValueFunction::And | ValueFunction::Or);
        let column_type = if is_truth { ColumnType::Bool } else { ColumnType::Int64 };
        column(&function.name().to_lowercase(), column_type, Some(function))
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
        let truth = |name: &str, row: usize| {
            let column = batch.column_by_name(name).unwrap().as_boolean();
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
                last: number("replace", row),
                newest: number("replace_if_not_null", row),
                first: Some(number("first", row)),
                all: truth("bool_and", row),
                one: truth("bool_or", row),
            };
            found.insert(key, folded);
        }
    }
    assert_eq!(found.len(), n_rows, "a key stands twice");
    found
}

/// What happens to the two tables.
#[derive(Debug, Clone)]
enum Event {
    /// Rows come.
    Update(Vec<Row>, Vec<Row>),
    /// Deltas that stand side by side become one: which, as places modulo their number.
    Compact { table: &'static str, place: usize, number: usize, rows_max: usize, moves: bool },
    /// A third one begins as the first was, so many versions ago modulo those that are there.
    Clone(u64),
    /// Both tables become what they were, so many versions ago modulo those that are there.
    Restore(u64),
    /// Old versions go, so many of them as parts of eight; and with a vacuum the files that nobody needs.
    Expire { parts: u64, vacuum: bool },
    /// Another process opens the database, after a checkpoint or not.
    Reopen,
}

fn event() -> impl Strategy<Value = Event> {
    let compact = ("[ab]", 0..8usize, 2..6usize, 1..5usize, any::<bool>());
    prop_oneof![
        4 => update().prop_map(|(a, b)| Event::Update(a, b)),
        3 => compact.prop_map(|(table, place, number, rows_max, moves)| {
            let table = if table == "a" { "a" } else { "b" };
            Event::Compact { table, place, number, rows_max, moves }
        }),
        1 => (0..8u64, any::<bool>()).prop_map(|(parts, vacuum)| Event::Expire { parts, vacuum }),
        1 => any::<u64>().prop_map(Event::Clone),
        1 => any::<u64>().prop_map(Event::Restore),
        1 => Just(Event::Reopen),
    ]
}

/// The two tables of the model, and what each version of them was.
struct Trial {
    store: Arc<dyn ObjectStore>,
    database: Arc<Database>,
    a: Arc<TableDef>,
    b: Arc<TableDef>,
    history: Vec<(Model, Model)>,
    oldest: u64,
    n_opened: u64,
    /// Names of clones, the versions at which they were made, what they are.
    clones: Vec<(String, u64, Model)>,
}

impl Trial {
    async fn new() -> Self {
        let store = memory();
        let database = open(Arc::clone(&store), 1).await.unwrap();
        database.create_namespace("ns").await.unwrap();
        let a = create(&database, "a", &["n", "s"]).await;
        let b = create(&database, "b", &["s", "n"]).await;
        let history = vec![Default::default()];
        Self { store, database, a, b, history, oldest: 0, n_opened: 1, clones: Vec::new() }
    }

    async fn happen(&mut self, event: &Event) {
        match event {
            Event::Update(rows_a, rows_b) => self.update(rows_a, rows_b).await,
            Event::Compact { table, place, number, rows_max, moves } => {
                let options = CompactOptions {
                    level: 1,
                    file_rows_max: *rows_max,
                    moved_bytes_min: if *moves { 0 } else { u64::MAX },
                };
                self.compact(table, *place, *number, options).await;
            }
            Event::Clone(ago) => {
                let version = self.ago(*ago);
                let name = format!("clone{}", self.clones.len());
                let (of, named) = (("ns", "a"), ("ns", name.as_str()));
                self.database
                    .clone_table(of, ReadAt::Version(Version(version)), named)
                    .await
                    .unwrap();
                let (a, _) = &self.history[usize::try_from(version).unwrap()];
                self.clones.push((name, self.history.len() as u64 - 1, a.clone()));
            }
            Event::Restore(ago) => {
                let newest = self.history.len() as u64 - 1;
                let version = self.ago(*ago);
                let tables = [("ns", "a"), ("ns", "b")];
                let done = self
                    .database
                    .restore(&tables, ReadAt::Version(Version(version)))
                    .await
                    .unwrap();
                assert_eq!(done.version.0, newest + 1);
                self.history.push(self.history[usize::try_from(version).unwrap()].clone());
            }
            Event::Expire { parts, vacuum } => {
                let newest = self.history.len() as u64 - 1;
                self.oldest = self.oldest.max(newest * parts / 8);
                let oldest = Version(self.oldest);
                if *vacuum {
                    self.database.vacuum(patient(oldest)).await.unwrap();
                } else {
                    self.database.expire_before(oldest).await.unwrap();
                }
            }
            Event::Reopen => self.reopen().await,
        }
    }

    fn ago(&self, versions: u64) -> u64 {
        let newest = self.history.len() as u64 - 1;
        newest - versions % (newest - self.oldest + 1)
    }

    async fn update(&mut self, rows_a: &[Row], rows_b: &[Row]) {
        let (mut model_a, mut model_b) = self.history.last().unwrap().clone();
        for (model, rows) in [(&mut model_a, rows_a), (&mut model_b, rows_b)] {
            for row in rows {
                let folded = model.entry(row.key.clone()).or_default();
                *folded = folded.fold(row.value);
            }
        }
        self.history.push((model_a, model_b));

        let mut batch = self.database.batch();
        // Rows of one update may come in pieces.
        let (first, second) = rows_a.split_at(rows_a.len() / 2);
        batch.insert(&self.a, to_batch(first)).unwrap();
        batch.insert(&self.b, to_batch(rows_b)).unwrap();
        batch.insert(&self.a, to_batch(second)).unwrap();
        let committed = batch.commit().await.unwrap();
        assert_eq!(committed.version.0, self.history.len() as u64 - 1);
    }

    async fn compact(&self, name: &str, place: usize, number: usize, options: CompactOptions) {
        let snapshot = self.database.snapshot(ReadAt::Committed).await.unwrap();
        let table = snapshot.table("ns", name).unwrap();
        let chosen: Vec<DeltaId> = table.chosen().iter().map(|delta| delta.id).collect();
        if chosen.len() < 2 {
            return;
        }
        let from = &chosen[place % (chosen.len() - 1)..];
        let from = &from[..number.min(from.len())];
        let done = self.database.compact(table.def().id, from, options).await.unwrap();
        assert!(done.rows_written <= done.rows_read);
        // A second worker that did the same has lost.
        let again = self.database.compact(table.def().id, from, options).await;
        assert!(matches!(again, Err(Error::Conflict { .. })), "{again:?}");
    }

    async fn reopen(&mut self) {
        self.n_opened += 1;
        self.database = open(Arc::clone(&self.store), self.n_opened).await.unwrap();
    }

    /// Compares each version that is retained, read from all deltas from which it can be.
    async fn compare(&self) {
        for (name, begins, model) in &self.clones {
            for version in self.oldest.max(*begins)..self.history.len() as u64 {
                let snapshot = self.database.snapshot(ReadAt::Version(Version(version))).await;
                let table = snapshot.unwrap().table("ns", name).unwrap();
                assert_eq!(&read(&self.database, &table).await, model, "{name} at {version}");
                let problems = self.database.check(&table, CheckDepth::Full).await.unwrap();
                assert_eq!(problems, []);
            }
        }
        for (version, (model_a, model_b)) in (0..).zip(&self.history) {
            let snapshot = self.database.snapshot(ReadAt::Version(Version(version))).await;
            if version < self.oldest {
                assert!(matches!(snapshot, Err(Error::VersionExpired { .. })), "{snapshot:?}");
                continue;
            }
            let snapshot = snapshot.unwrap();
            for (name, model) in [("a", model_a), ("b", model_b)] {
                let table = snapshot.table("ns", name).unwrap();
                let found = read(&self.database, &table).await;
                assert_eq!(&found, model, "{name} at version {version}");
                for file in table.files() {
                    self.database.verify_file(&file).await.unwrap();
                }
                for chosen in ways(&table) {
                    let forced = table.read_from(&chosen).unwrap();
                    let found = read(&self.database, &forced).await;
                    assert_eq!(&found, model, "{name} at version {version} from {chosen:?}");
                }
            }
        }
    }
}

/// Returns sets of deltas from which a table can be read, the most of them that a test has time for.
pub(crate) fn ways(table: &TableSnapshot) -> Vec<Vec<DeltaId>> {
    const WAYS_MAX: usize = 12;
    let upto = table.version();
    let is_of = |id: &DeltaId| id.index == table.index() && id.v.hi <= upto;
    let all: Vec<DeltaId> = table.deltas().iter().map(|delta| delta.id).filter(is_of).collect();
    let mut found = Vec::new();
    let mut open: Vec<(Vec<DeltaId>, u64)> = vec![(Vec::new(), 0)];
    while let Some((chosen, next)) = open.pop() {
        let later = all.iter().filter(|id| id.v.lo.0 >= next);
        let Some(first) = later.clone().map(|id| id.v.lo).min() else {
            if table.read_from(&chosen).is_ok() {
                found.push(chosen);
            }
            continue;
        };
        if found.len() >= WAYS_MAX {
            break;
        }
        for id in later.filter(|id| id.v.lo == first) {
            let mut chosen = chosen.clone();
            chosen.push(*id);
            open.push((chosen, id.v.hi.0 + 1));
        }
    }
    assert!(!found.is_empty());
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: n_cases(), ..ProptestConfig::default() })]

    #[test]
    fn every_version_is_the_fold_of_its_updates(events in prop::collection::vec(event(), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut trial = Trial::new().await;
            for event in &events {
                trial.happen(event).await;
            }
            trial.compare().await;
            trial.reopen().await;
            trial.compare().await;
        });
    }
}

/// One long history: each version is compared while there are only updates, while deltas are merged, and when that is done.
#[tokio::test]
async fn a_long_history_is_the_fold_of_its_updates() {
    let n_updates = n_updates(40);
    let mut random = TestRunner::deterministic();
    let mut trial = Trial::new().await;
    for _ in 0..n_updates {
        let (a, b) = update().new_tree(&mut random).unwrap().current();
        trial.update(&a, &b).await;
    }
    trial.compare().await;
    let merger = open(Arc::clone(&trial.store), 100).await.unwrap();
    let merging = async {
        let policy = Policy { tiers: Tiers::Tiered { fan_out: 3 }, ..Policy::default() };
        let options = CompactOptions { file_rows_max: 5, ..CompactOptions::default() };
        let mut n_merges = 0;
        for table in [&trial.a, &trial.b] {
            n_merges += merger.maintain(table.id, &policy, options).await.unwrap().len();
        }
        n_merges
    };
    let (n_merges, ()) = tokio::join!(merging, trial.compare());
    assert!(n_merges > 5, "{n_merges} merges");
    trial.reopen().await;
    trial.compare().await;
    println!("{n_updates} updates, {n_merges} merges");
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
