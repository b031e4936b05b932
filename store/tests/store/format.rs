//! What lies on disk, and what happens when it is damaged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::support::*;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use meshwork_store::policy::Policy;
use meshwork_store::{
    CheckDepth, ColumnType, CompactOptions, Database, Deltas, Environment, Error, ErrorKind,
    Location, Options, ReadAt, Result, SystemEnvironment, TableKind, VacuumOptions, ValueFunction,
    Version,
};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

#[tokio::test]
async fn data_file_describes_itself_to_any_parquet_reader() {
    let store = memory();
    let database = open(Arc::clone(&store), 1).await.unwrap();
    let pair = create_pair(&database).await.unwrap();
    commit_pair(&database, &pair, "w", 1).await.unwrap();
    let snapshot = database.snapshot(ReadAt::Committed).await.unwrap();
    let table = snapshot.table("ns", "b").unwrap();
    let files = table.files();
    let [file] = files.as_slice() else { panic!("one update makes one file") };
    let bytes = store.get(&database.object_path(&file.path)).await.unwrap().bytes().await.unwrap();
    assert_eq!(file.bytes, bytes.len() as u64);
    assert_eq!(file.footer[0] + file.footer[1] + 8, file.bytes);

    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let metadata = builder.metadata();
    let sorting = metadata.row_group(0).sorting_columns().unwrap();
    assert_eq!(sorting.iter().map(|column| column.column_idx).collect::<Vec<_>>(), [0, 1]);
    assert!(metadata.row_group(0).column(0).offset_index_offset().is_some());
    assert!(metadata.row_group(0).column(0).column_index_offset().is_some());
    let names: Vec<_> = builder.schema().fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["batch", "writer", "amount", "y"]);
    let pairs = metadata.file_metadata().key_value_metadata().unwrap();
    let value = |key: &str| {
        let name = format!("meshwork.{key}");
        pairs.iter().find(|pair| pair.key == name).unwrap().value.clone().unwrap()
    };
    assert_eq!(value("table"), "ns.b");
    assert_eq!(value("versions"), "[1,1]");
    assert_eq!(value("functions"), r#"{"amount":"SUM","y":"REPLACE"}"#);
    assert_eq!(value("database"), database.id().to_string());
    assert_eq!(file.agg.get("amount").map(String::as_str), Some("1"));
}

#[tokio::test]
async fn versions_that_are_not_there_are_typed_errors() {
    let database = open(memory(), 1).await.unwrap();
    let pair = create_pair(&database).await.unwrap();
    for number in 1..=4 {
        commit_pair(&database, &pair, "w", number).await.unwrap();
    }
    let at = async |version| database.snapshot(ReadAt::Version(Version(version))).await;
    assert!(matches!(at(5).await, Err(Error::VersionNotFound { newest: Version(4), .. })));
    database.expire_before(Version(3)).await.unwrap();
    let expired = at(2).await.unwrap_err();
    assert!(matches!(expired, Error::VersionExpired { oldest: Version(3), .. }));
    assert_eq!(expired.kind(), ErrorKind::User);
    assert!(at(3).await.is_ok());

    let columns = vec![column("k", ColumnType::Int64, None)];
    database.create_table(table("late", TableKind::Append, columns, &[])).await.unwrap();
    let early = at(3).await.unwrap().table("ns", "late").unwrap_err();
    assert!(matches!(early, Error::TableNotYet { begins: Version(4), .. }), "{early}");
    assert!(at(4).await.unwrap().table("ns", "late").unwrap().files().is_empty());
}

#[tokio::test]
async fn files_go_when_nobody_needs_them_and_not_before() {
    let store = memory();
    let location = Location { store: Arc::clone(&store), root: "db".into(), name: "x".to_owned() };
    let database = Database::open_or_create(location, Options::default()).await.unwrap();
    let database = Arc::new(database);
    let pair = create_pair(&database).await.unwrap();
    for number in 1..=4 {
        commit_pair(&database, &pair, "w", number).await.unwrap();
    }
    // One more batch has written its files and not its record.
    let staged =
        Path::from(format!("db/t/{}/0/5-5/{}.parquet", pair.a.id, database.new_transaction()));
    store.put(&staged, PutPayload::from_static(b"rows")).await.unwrap();
    let snapshot = database.snapshot(ReadAt::Committed).await.unwrap();
    let a = snapshot.table("ns", "a").unwrap();
    let from: Vec<_> = a.chosen().iter().map(|delta| delta.id).collect();
    database.compact(pair.a.id, &from, CompactOptions::default()).await.unwrap();
    let files = async || store.list(Some(&Path::from("db/t"))).count().await;
    assert_eq!(files().await, 10);

    // Every version needs its files, and what is young may be a batch under way.
    let kept = database.vacuum(VacuumOptions::default()).await.unwrap();
    assert_eq!((kept.files_deleted, kept.files_waiting, kept.oldest), (0, 0, Version(0)));
    SystemEnvironment::new().sleep(Duration::from_millis(5)).await;
    let newest = Some(Version(4));
    let waits = VacuumOptions { reading_max: Duration::from_secs(3600), ..at_once(newest) };
    // Four deltas of `a` were merged into one, and the staged file is nobody's.
    let waiting = database.vacuum(waits).await.unwrap();
    assert_eq!((waiting.files_deleted, waiting.files_waiting), (0, 5));
    assert_eq!(files().await, 10);
    database.drop_table("ns", "b").await.unwrap();
    let waiting = database.vacuum(waits).await.unwrap();
    assert_eq!((waiting.files_deleted, waiting.files_waiting), (0, 9));
    let gone = database.vacuum(at_once(newest)).await.unwrap();
    assert_eq!((gone.files_deleted, gone.files_waiting, gone.oldest), (9, 0, Version(4)));
    assert_eq!(files().await, 1);
    assert_eq!(amounts(&database, "a", Version(4)).await.len(), 4);
    assert_eq!(store.list(Some(&Path::from("db/_gc"))).count().await, 0);
}

#[tokio::test]
async fn a_check_names_what_is_damaged() {
    let store = memory();
    let database = open(Arc::clone(&store), 1).await.unwrap();
    let pair = create_pair(&database).await.unwrap();
    for number in 1..=3 {
        commit_pair(&database, &pair, "w", number).await.unwrap();
    }
    let table = async || {
        let snapshot = database.snapshot(ReadAt::Committed).await.unwrap();
        snapshot.table("ns", "a").unwrap()
    };
    let check = async |depth| {
        let problems = database.check(&table().await, depth).await.unwrap();
        problems.into_iter().map(|problem| problem.object).collect::<Vec<_>>()
    };
    let singles = table().await;
    let from: Vec<_> = singles.chosen().iter().map(|delta| delta.id).collect();
    database.compact(pair.a.id, &from, CompactOptions::default()).await.unwrap();
    for depth in [CheckDepth::Quick, CheckDepth::Full] {
        assert_eq!(check(depth).await, Vec::<String>::new());
    }
    let [first, second, _] = singles.files().try_into().unwrap();

    // Only the first version is read from the first file.
    let path = database.object_path(&first.path);
    let mut bytes = store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[7] ^= 1;
    store.put(&path, bytes.into()).await.unwrap();
    assert_eq!(check(CheckDepth::Quick).await, Vec::<String>::new());
    assert_eq!(check(CheckDepth::Full).await, [first.path.as_str()]);
    store.delete(&database.object_path(&second.path)).await.unwrap();
    assert_eq!(check(CheckDepth::Quick).await, [second.path.as_str()]);
    let mut damaged = [first.path.as_str(), second.path.as_str()];
    damaged.sort_unstable();
    let mut found = check(CheckDepth::Full).await;
    found.sort_unstable();
    assert_eq!(found, damaged);
}

#[tokio::test]
async fn rows_that_do_not_fit_change_nothing() {
    let database = open(memory(), 1).await.unwrap();
    database.create_namespace("ns").await.unwrap();
    let sum = Some(ValueFunction::Sum);
    let mut columns =
        vec![column("k", ColumnType::Int64, None), column("v", ColumnType::Int64, sum)];
    columns[0].nullable = false;
    let spec = table("t", TableKind::Aggregate, columns, &["k"]);
    let def = database.create_table(spec).await.unwrap();
    let rows = |k: ArrayRef, v: ArrayRef| RecordBatch::try_from_iter([("k", k), ("v", v)]).unwrap();
    let ints = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;

    let mut batch = database.batch();
    let text: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
    let refused = batch.insert(&def, rows(text, ints(vec![Some(1)]))).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "rows do not fit table \"ns.t\": column \"k\" is int64, the rows have Utf8"
    );
    let refused = batch.insert(&def, rows(ints(vec![None]), ints(vec![Some(1)]))).unwrap_err();
    assert_eq!(refused.to_string(), "rows do not fit table \"ns.t\": column \"k\" cannot be NULL");

    let key = ints(vec![Some(1), Some(1)]);
    batch.insert(&def, rows(key, ints(vec![Some(i64::MAX), Some(1)]))).unwrap();
    let overflow = batch.commit().await.unwrap_err();
    assert_eq!(overflow.to_string(), "sum in column \"v\" left the range of its type int64");
    assert_eq!(database.snapshot(ReadAt::Committed).await.unwrap().version(), Version(0));
}

#[tokio::test]
async fn names_come_and_go_with_clear_errors() {
    let database = open(memory(), 1).await.unwrap();
    let spec = || table("t", TableKind::Append, vec![column("k", ColumnType::Int64, None)], &[]);
    assert!(matches!(database.create_table(spec()).await, Err(Error::NamespaceNotFound { .. })));
    database.create_namespace("ns").await.unwrap();
    assert!(matches!(database.create_namespace("ns").await, Err(Error::NamespaceExists { .. })));
    let first = database.create_table(spec()).await.unwrap();
    assert!(matches!(database.create_table(spec()).await, Err(Error::TableExists { .. })));
    let refused = database.drop_namespace("ns").await;
    assert!(matches!(refused, Err(Error::NamespaceNotEmpty { n_tables: 1, .. })));

    // A batch for a table that goes meanwhile conflicts, also if another of that name comes.
    let mut batch = database.batch();
    let rows = RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]);
    batch.insert(&first, rows.unwrap()).unwrap();
    database.drop_table("ns", "t").await.unwrap();
    database.create_table(spec()).await.unwrap();
    assert!(matches!(batch.commit().await, Err(Error::Conflict { .. })));

    database.drop_table("ns", "t").await.unwrap();
    assert!(matches!(database.drop_table("ns", "t").await, Err(Error::TableNotFound { .. })));
    database.drop_namespace("ns").await.unwrap();
}

#[tokio::test]
async fn batch_that_read_a_table_conflicts_with_newer_rows() {
    let database = open(memory(), 1).await.unwrap();
    let pair = create_pair(&database).await.unwrap();
    let read_at = database.snapshot(ReadAt::Committed).await.unwrap().lsn();
    commit_pair(&database, &pair, "w", 1).await.unwrap();
    let rows = RecordBatch::try_from_iter([
        ("writer", Arc::new(StringArray::from(vec!["x"])) as ArrayRef),
        ("batch", Arc::new(Int64Array::from(vec![1]))),
    ])
    .unwrap();
    let mut stale = database.batch();
    stale.insert(&pair.b, rows.clone()).unwrap();
    stale.read(pair.a.id, read_at);
    assert!(matches!(stale.commit().await, Err(Error::Conflict { .. })));
    let mut fresh = database.batch();
    fresh.insert(&pair.b, rows).unwrap();
    fresh.read(pair.a.id, database.snapshot(ReadAt::Committed).await.unwrap().lsn());
    assert_eq!(fresh.commit().await.unwrap().version, Version(2));
}

#[tokio::test]
async fn history_tells_versions_and_times() {
    let database = open(memory(), 1).await.unwrap();
    let pair = create_pair(&database).await.unwrap();
    for number in 1..=30 {
        commit_pair(&database, &pair, "w", number).await.unwrap();
    }
    let history = database.history(40).await.unwrap();
    assert_eq!(history.len(), 33);
    assert!(history.windows(2).all(|pair| pair[0].ts_us > pair[1].ts_us));
    for record in &history {
        assert_eq!(database.version_at(record.ts_us).await.unwrap(), record.version);
    }
    let before_all = history.last().unwrap().ts_us - 1;
    assert!(matches!(database.version_at(before_all).await, Err(Error::TimeNotFound { .. })));
}

/// 350 records: opening reads one checkpoint and what came after it.
/// Deltas come and go between checkpoints, whose parts are shared as long as nothing of them has gone.
#[tokio::test]
async fn checkpoints_hold_what_merges_left() {
    let store = memory();
    let database = open(Arc::clone(&store), 1).await.unwrap();
    let pair = create_pair(&database).await.unwrap();
    let tables = [pair.a.id, pair.b.id];
    for number in 1..=250 {
        commit_pair(&database, &pair, "w", number).await.unwrap();
        for table in tables.iter().filter(|_| number % 5 == 0) {
            let (policy, options) = (Policy::default(), CompactOptions::default());
            database.maintain(*table, &policy, options).await.unwrap();
        }
        if number % 60 == 0 {
            database.expire_before(Version(number - 30)).await.unwrap();
        }
    }
    let deltas = |database: &Database, name: &str| -> Deltas {
        database.state().table("ns", name).unwrap().deltas.clone()
    };
    let cold = open(Arc::clone(&store), 2).await.unwrap();
    let checkpoints = list(&store, "db/_chk").await;
    assert!(checkpoints.len() > 3, "{checkpoints:?}");
    for path in checkpoints {
        store.delete(&path).await.unwrap();
    }
    let replayed = open(store, 3).await.unwrap();
    for name in ["a", "b"] {
        let expected = deltas(&database, name);
        assert_eq!(deltas(&cold, name), expected);
        assert_eq!(deltas(&replayed, name), expected);
        assert!(expected.len() < 100, "{} deltas", expected.len());
        let newest = cold.snapshot(ReadAt::Committed).await.unwrap();
        assert!(newest.table("ns", name).unwrap().chosen().len() <= 24);
    }
    let all: Vec<_> = (1..=250).map(|number| ("w".to_owned(), number)).collect();
    check_pair(&cold, &all).await;
}

#[tokio::test]
async fn cold_open_is_bounded_by_checkpoints() {
    let truth = memory();
    let database = open(Arc::clone(&truth), 1).await.unwrap();
    let pair = create_pair(&database).await.unwrap();
    for number in 1..=347 {
        commit_pair(&database, &pair, "w", number).await.unwrap();
    }
    let gets = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&gets);
    let counting = FaultStore::new(Arc::clone(&truth), move |_call, operation| {
        counted.fetch_add(u64::from(operation == "get"), Ordering::SeqCst);
        Fault::None
    });
    let cold = open(counting, 2).await.unwrap();
    let n_gets = gets.load(Ordering::SeqCst);
    assert!(n_gets < 90, "{n_gets} objects were read");
    assert_eq!(cold.state().version, Version(347));
    assert_eq!(amounts(&cold, "a", Version(347)).await.len(), 347);

    // Without its checkpoints the log still tells everything.
    let checkpoints = list(&truth, "db/_chk").await;
    assert!(checkpoints.len() >= 6, "{checkpoints:?}");
    for path in checkpoints {
        truth.delete(&path).await.unwrap();
    }
    let replayed = open(truth, 3).await.unwrap();
    assert_eq!(replayed.state().version, Version(347));
}

/// Commits with merges and vacuums among them: `MESHWORK_COMMITS=100000` makes it longer.
#[tokio::test]
async fn a_log_of_many_commits_opens_with_few_calls() {
    let n_commits = std::env::var("MESHWORK_COMMITS").map_or(1_350, |text| text.parse().unwrap());
    let truth = memory();
    let database = open(Arc::clone(&truth), 1).await.unwrap();
    let pair = create_pair(&database).await.unwrap();
    let (policy, options) = (Policy::default(), CompactOptions::default());
    let mut idle = None;
    for number in 1..=n_commits {
        commit_pair(&database, &pair, "w", number).await.unwrap();
        if number % 250 == 0 {
            for table in [&pair.a, &pair.b] {
                database.maintain(table.id, &policy, options).await.unwrap();
            }
            let newest = database.state().version;
            drop(database.vacuum(patient(newest)).await);
            // It has read a checkpoint that will be gone when it writes one.
            if idle.is_none() {
                idle = Some(open(Arc::clone(&truth), 2).await.unwrap());
            }
        }
    }
    let roots =
        list(&truth, "db/_chk").await.into_iter().filter(|path| !path.as_ref().contains("part"));
    assert!(roots.count() <= 10 + 4, "old checkpoints are there");
    println!("{n_commits} commits: {:?}", check_open(&truth, &database, 3).await);

    let idle = idle.unwrap();
    let mut number = n_commits;
    loop {
        number += 1;
        commit_pair(&idle, &pair, "w", number).await.unwrap();
        if idle.state().lsn % 100 == 0 {
            break;
        }
    }
    check_open(&truth, &idle, 4).await;
}

/// Another process opens a database with one listing, a checkpoint and at most 100 records, and finds what is there; returns its
/// calls.
async fn check_open(
    store: &Arc<dyn ObjectStore>,
    database: &Database,
    seed: u64,
) -> BTreeMap<&'static str, u64> {
    let calls = Arc::new(Mutex::new(BTreeMap::<&'static str, u64>::new()));
    let counted = Arc::clone(&calls);
    let counting = FaultStore::new(Arc::clone(store), move |_call, operation| {
        *counted.lock().entry(operation).or_default() += 1;
        Fault::None
    });
    let cold = open(counting, seed).await.unwrap();
    let calls = calls.lock().clone();
    // The identity, the checkpoint, its record, parts of two tables, the end of the log.
    assert!(calls["list"] == 1 && calls["get"] <= 100 + 24, "{calls:?}");
    assert_eq!(cold.state().version, database.state().version);
    let version = database.state().version;
    assert_eq!(amounts(&cold, "a", version).await.len() as u64, version.0);
    calls
}

async fn list(store: &Arc<dyn ObjectStore>, folder: &str) -> Vec<Path> {
    let objects = store.list(Some(&Path::from(folder)));
    objects.map_ok(|object| object.location).try_collect().await.unwrap()
}

/// Flips a bit in objects of every type: the store says so or is not affected, and never answers wrongly.
#[tokio::test]
async fn no_flipped_bit_gives_a_wrong_answer() {
    let truth = memory();
    let database = open(Arc::clone(&truth), 1).await.unwrap();
    let pair = create_pair(&database).await.unwrap();
    for number in 1..=100 {
        commit_pair(&database, &pair, "w", number).await.unwrap();
    }
    let expected = amounts(&database, "a", Version(100)).await;
    let mut objects = list(&truth, "db").await;
    // Of data files and records, which are all alike, the first and the last ones.
    let all_alike = |path: &Path| ["/t/", "/_log/"].iter().any(|kind| path.as_ref().contains(kind));
    let ends =
        ["/0000000000000001-", "/0000000000000100-", "01.json", "00.json", "02.json", "03.json"];
    objects.retain(|path| !all_alike(path) || ends.iter().any(|end| path.as_ref().contains(end)));
    let mut n_found = 0;
    for path in objects {
        let whole = truth.get(&path).await.unwrap().bytes().await.unwrap();
        for at in [0, whole.len() / 3, whole.len() / 2, whole.len() - 2] {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 0x10;
            truth.put(&path, Bytes::from(damaged).into()).await.unwrap();
            match read_everything(Arc::clone(&truth)).await {
                Ok(found) => assert_eq!(found, expected, "{path} byte {at}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Internal, "{path} byte {at}: {error}");
                    n_found += 1;
                }
            }
        }
        truth.put(&path, whole.into()).await.unwrap();
    }
    // Records below the checkpoint are not read on the way, all else is.
    assert!(n_found >= 20, "{n_found} damages were found");
}

async fn read_everything(store: Arc<dyn ObjectStore>) -> Result<BTreeMap<(String, i64), i64>> {
    let database = open(store, 9).await?;
    let snapshot = database.snapshot(ReadAt::Committed).await?;
    for name in ["a", "b"] {
        let table = snapshot.table("ns", name)?;
        for file in table.files() {
            database.verify_file(&file).await?;
        }
    }
    Ok(amounts(&database, "a", snapshot.version()).await)
}

#[tokio::test]
async fn log_of_another_database_is_refused() {
    let scratch = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let open = async |directory: &tempfile::TempDir| {
        let location =
            Location::local(directory.path(), Arc::new(SystemEnvironment::new())).unwrap();
        Database::open_or_create(location, Options::default()).await
    };
    for directory in &scratch {
        let database = open(directory).await.unwrap();
        create_pair(&database).await.unwrap();
    }
    let record = |directory: &tempfile::TempDir| {
        directory.path().join("_log/000000000000/00000000000000000001.json")
    };
    std::fs::copy(record(&scratch[0]), record(&scratch[1])).unwrap();
    let refused = open(&scratch[1]).await.unwrap_err();
    assert!(matches!(refused, Error::Corrupt { .. }), "{refused}");
}
