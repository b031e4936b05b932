//! Rollups: at every version that they hold, they say what their table says, folded by fewer columns or in another order.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::ways;
use crate::support::*;
use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use meshwork_store::{
    Alteration, CheckDepth, ColumnType, CompactOptions, Database, DeltaId, Error, ReadAt,
    TableKind, TableSnapshot, ValueFunction, Version,
};
use proptest::prelude::*;

/// A row: day, site, and what is counted.
type Row = (i64, String, i64);

/// By key: the sum, the greatest, the newest.
type Model = BTreeMap<(i64, String), (i64, i64, i64)>;

/// The rollups that there can be.
const ROLLUPS: [(&str, &[&str]); 3] = [
    ("by_site", &["site", "n", "best"]),
    ("sorted", &["site", "day", "last", "n"]),
    ("days", &["day"]),
];

#[derive(Debug, Clone)]
enum Event {
    Update(Vec<Row>),
    /// A rollup comes, or goes if it is there; one that comes is filled at once or later.
    Rollup {
        which: usize,
        fill: bool,
    },
    Fill,
    /// Deltas of the table or a rollup that stand side by side become one: which, as places modulo their number.
    Compact {
        order: usize,
        place: usize,
        number: usize,
        moves: bool,
    },
    Restore(usize),
    /// Versions go that are older than so many.
    Vacuum(usize),
    Reopen,
}

fn event() -> impl Strategy<Value = Event> {
    let row = (0..4i64, "[a-c]", -9..9i64);
    prop_oneof![
        6 => prop::collection::vec(row, 1..6).prop_map(Event::Update),
        3 => (0..3usize, any::<bool>()).prop_map(|(which, fill)| Event::Rollup { which, fill }),
        2 => Just(Event::Fill),
        4 => (0..4usize, 0..8usize, 2..6usize, any::<bool>())
            .prop_map(|(order, place, number, moves)| Event::Compact { order, place, number, moves }),
        1 => (0..20usize).prop_map(Event::Restore),
        1 => (0..6usize).prop_map(Event::Vacuum),
        1 => Just(Event::Reopen),
    ]
}

fn update(model: &mut Model, rows: &[Row]) {
    for (day, site, n) in rows {
        let (sum, best, last) = model.entry((*day, site.clone())).or_insert((0, i64::MIN, 0));
        (*sum, *best, *last) = (*sum + n, (*best).max(*n), *n);
    }
}

fn to_batch(rows: &[Row]) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>());
    let columns: [(&str, ArrayRef); 5] = [
        ("day", Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>())),
        ("site", Arc::new(rows.iter().map(|row| Some(row.1.clone())).collect::<StringArray>())),
        ("n", Arc::clone(&numbers)),
        ("best", Arc::clone(&numbers)),
        ("last", numbers),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
        .unwrap()
}

async fn create(database: &Database) {
    database.create_namespace("ns").await.unwrap();
    let number = |name: &str, function| column(name, ColumnType::Int64, Some(function));
    let columns = vec![
        column("day", ColumnType::Int64, None),
        column("site", ColumnType::Utf8, None),
        number("n", ValueFunction::Sum),
        number("best", ValueFunction::Max),
        number("last", ValueFunction::Replace),
    ];
    let spec = table("t", TableKind::Aggregate, columns, &["day", "site"]);
    database.create_table(spec).await.unwrap();
}

/// A rollup's rows as text, or what the model says they are: columns in the order of the rollup's definition.
type Rows = Vec<Vec<String>>;

async fn read(database: &Database, table: &TableSnapshot) -> Rows {
    let mut found = Rows::new();
    for batch in table.merge(database).await.unwrap() {
        let batch = batch.unwrap();
        for row in 0..batch.num_rows() {
            let value = |column: &ArrayRef| match column.as_primitive_opt::<Int64Type>() {
                Some(numbers) => numbers.value(row).to_string(),
                None => column.as_string::<i32>().value(row).to_owned(),
            };
            found.push(batch.columns().iter().map(value).collect());
        }
    }
    found
}

/// Folds the model as a rollup with these columns does; `key` of them are its key.
fn folded(model: &Model, columns: &[String], key: usize) -> Rows {
    let mut found: BTreeMap<Vec<String>, BTreeMap<&str, i64>> = BTreeMap::new();
    for ((day, site), (sum, best, last)) in model {
        let name = |column: &String| if column == "day" { day.to_string() } else { site.clone() };
        let values = found.entry(columns[..key].iter().map(name).collect()).or_default();
        *values.entry("n").or_default() += sum;
        let known = values.entry("best").or_insert(i64::MIN);
        *known = (*known).max(*best);
        values.insert("last", *last);
    }
    let row = |(key, values): (Vec<String>, BTreeMap<&str, i64>)| {
        let names = &columns[key.len()..];
        key.into_iter().chain(names.iter().map(|name| values[name.as_str()].to_string())).collect()
    };
    found.into_iter().map(row).collect()
}

async fn snapshot(database: &Database, at: ReadAt) -> TableSnapshot {
    database.snapshot(at).await.unwrap().table("ns", "t").unwrap()
}

/// Compares the rollups of each version, and the table itself, read from all deltas from which they can be.
async fn compare(database: &Database, history: &[Model], oldest: usize) {
    for (version, model) in history.iter().enumerate().skip(oldest) {
        let table = snapshot(database, ReadAt::Version(Version(version as u64))).await;
        let rollups = table.rollups().into_iter().map(|(_name, rollup)| rollup);
        for order in rollups.chain([table.clone()]) {
            let def = order.def();
            let columns = def.file_columns();
            let columns: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
            let expected = folded(model, &columns, def.key.len());
            for chosen in ways(&order) {
                let forced = order.read_from(&chosen).unwrap();
                let found = read(database, &forced).await;
                assert_eq!(found, expected, "version {version}: {columns:?} from {chosen:?}");
            }
        }
        assert_eq!(database.check(&table, CheckDepth::Full).await.unwrap(), []);
    }
}

async fn compact(database: &Database, order: usize, place: usize, number: usize, moves: bool) {
    let table = snapshot(database, ReadAt::Committed).await;
    let rollups = table.rollups().into_iter().map(|(_name, rollup)| rollup);
    let orders: Vec<TableSnapshot> = [table.clone()].into_iter().chain(rollups).collect();
    let chosen: Vec<DeltaId> =
        orders[order % orders.len()].chosen().iter().map(|delta| delta.id).collect();
    if chosen.len() < 2 {
        return;
    }
    let from = &chosen[place % (chosen.len() - 1)..];
    let from = &from[..number.min(from.len())];
    let moved_bytes_min = if moves { 0 } else { u64::MAX };
    let options = CompactOptions { level: 1, file_rows_max: 2, moved_bytes_min };
    database.compact(table.def().id, from, options).await.unwrap();
}

fn rollup(which: usize) -> Alteration {
    let (name, columns) = ROLLUPS[which];
    let columns = columns.iter().map(|column| (*column).to_owned()).collect();
    Alteration::AddRollup { name: name.to_owned(), columns }
}

/// Fills the rollups of the newest definition: after that all of them are there.
async fn fill(database: &Database) {
    let table = snapshot(database, ReadAt::Committed).await;
    database.fill_rollups(table.def().id).await.unwrap();
    let table = snapshot(database, ReadAt::Committed).await;
    assert_eq!(table.rollups().len(), table.def().rollups.len());
    assert_eq!(database.fill_rollups(table.def().id).await.unwrap(), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: n_cases(), ..ProptestConfig::default() })]

    #[test]
    fn rollups_say_what_their_table_says(events in prop::collection::vec(event(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = memory();
            let mut database = open(Arc::clone(&store), 1).await.unwrap();
            create(&database).await;
            let mut history = vec![Model::new()];
            let mut oldest = 0;
            for (at, event) in events.iter().enumerate() {
                let mut model = history.last().unwrap().clone();
                match event {
                    Event::Update(rows) => {
                        update(&mut model, rows);
                        let def = Arc::clone(snapshot(&database, ReadAt::Committed).await.def());
                        let mut batch = database.batch();
                        batch.insert(&def, to_batch(rows)).unwrap();
                        batch.commit().await.unwrap();
                        history.push(model);
                    }
                    Event::Rollup { which, fill: fill_now } => {
                        let def = Arc::clone(snapshot(&database, ReadAt::Committed).await.def());
                        let name = ROLLUPS[*which].0;
                        let alteration = match def.rollups.iter().any(|known| known.name == name) {
                            true => Alteration::DropRollup(name.to_owned()),
                            false => rollup(*which),
                        };
                        database.alter_table("ns", "t", &alteration).await.unwrap();
                        history.push(model);
                        if *fill_now {
                            fill(&database).await;
                        }
                    }
                    Event::Fill => fill(&database).await,
                    Event::Compact { order, place, number, moves } => {
                        compact(&database, *order, *place, *number, *moves).await;
                    }
                    Event::Restore(ago) => {
                        let version = history.len() - 1 - ago % (history.len() - oldest);
                        let at = ReadAt::Version(Version(version as u64));
                        database.restore(&[("ns", "t")], at).await.unwrap();
                        history.push(history[version].clone());
                        let table = snapshot(&database, ReadAt::Committed).await;
                        assert_eq!(table.rollups().len(), table.def().rollups.len());
                    }
                    Event::Vacuum(keep) => {
                        oldest = oldest.max((history.len() - 1).saturating_sub(*keep));
                        database.vacuum(patient(Version(oldest as u64))).await.unwrap();
                    }
                    Event::Reopen => {
                        database = open(Arc::clone(&store), at as u64 + 2).await.unwrap();
                    }
                }
            }
            fill(&database).await;
            compare(&database, &history, oldest).await;
            let database = open(store, 100).await.unwrap();
            compare(&database, &history, oldest).await;
        });
    }
}

#[tokio::test]
async fn a_writer_that_does_not_know_a_rollup_has_a_conflict() {
    let database = open(memory(), 1).await.unwrap();
    create(&database).await;
    let before = Arc::clone(snapshot(&database, ReadAt::Committed).await.def());
    let mut batch = database.batch();
    batch.insert(&before, to_batch(&[(1, "a".to_owned(), 1)])).unwrap();
    database.alter_table("ns", "t", &rollup(0)).await.unwrap();
    match batch.commit().await {
        Err(Error::Conflict { reason }) => assert!(reason.contains("a new definition"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

/// Whoever made the rollup died before its fill, and versions went before anybody came to it.
#[tokio::test]
async fn a_rollup_is_filled_when_the_versions_before_it_have_gone() {
    let database = open(memory(), 1).await.unwrap();
    create(&database).await;
    let mut history = vec![Model::new()];
    for step in 0..4 {
        let mut model = history.last().unwrap().clone();
        if step == 1 {
            database.alter_table("ns", "t", &rollup(0)).await.unwrap();
        } else {
            let rows = [(0, "a".to_owned(), step)];
            update(&mut model, &rows);
            let def = Arc::clone(snapshot(&database, ReadAt::Committed).await.def());
            let mut batch = database.batch();
            batch.insert(&def, to_batch(&rows)).unwrap();
            batch.commit().await.unwrap();
        }
        history.push(model);
    }
    compact(&database, 0, 0, 2, false).await;
    database.vacuum(patient(Version(4))).await.unwrap();
    fill(&database).await;
    compare(&database, &history, 4).await;
}

#[tokio::test]
async fn a_rollup_comes_while_rows_do() {
    let store = memory();
    let database = open(Arc::clone(&store), 1).await.unwrap();
    create(&database).await;
    let mut model = Model::new();
    let mut history = vec![model.clone()];
    for round in 0..30i64 {
        if round == 10 {
            database.alter_table("ns", "t", &rollup(0)).await.unwrap();
            history.push(model.clone());
        }
        // The fill is that of another process, which finds more rows each time.
        let filler = open(Arc::clone(&store), 50 + u64::try_from(round).unwrap()).await.unwrap();
        let id = snapshot(&filler, ReadAt::Committed).await.def().id;
        let filling =
            async { if round == 12 { filler.fill_rollups(id).await.map(drop) } else { Ok(()) } };
        let rows = [(round % 3, "a".to_owned(), round), (round % 9, "b".to_owned(), 1)];
        let def = Arc::clone(snapshot(&database, ReadAt::Committed).await.def());
        let mut batch = database.batch();
        batch.insert(&def, to_batch(&rows)).unwrap();
        let (filled, committed) = tokio::join!(filling, batch.commit());
        filled.unwrap();
        committed.unwrap();
        update(&mut model, &rows);
        history.push(model.clone());
    }
    let table = snapshot(&database, ReadAt::Committed).await;
    assert_eq!(table.rollups().len(), 1);
    let spans: Vec<(u64, u64)> =
        table.rollups()[0].1.chosen().iter().map(|d| (d.id.v.lo.0, d.id.v.hi.0)).collect();
    assert_eq!(spans[0], (1, 11), "the updates before the rollup and no later ones");
    compare(&database, &history, 0).await;
}
