//! Many writers on one log.

use std::sync::Arc;

use crate::support::*;
use meshwork_store::{Database, Location, Options, ReadAt, SystemEnvironment};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

const WRITERS: u64 = 8;
const BATCHES: u64 = 13;

async fn write_all(databases: Vec<Arc<Database>>, pair: Pair) -> Vec<(String, u64)> {
    let mut writers = JoinSet::new();
    for (at, database) in databases.into_iter().enumerate() {
        let pair = pair.clone();
        writers.spawn(async move {
            let writer = format!("w{at}");
            let mut last = 0;
            for number in 1..=BATCHES {
                let committed = commit_pair(&database, &pair, &writer, number).await.unwrap();
                assert!(committed.version.0 > last && !committed.repeated);
                last = committed.version.0;
                // What is acknowledged can be read at once.
                let seen = database.snapshot(ReadAt::Committed).await.unwrap().version();
                assert!(seen >= committed.version);
            }
            (1..=BATCHES).map(|number| (writer.clone(), number)).collect::<Vec<_>>()
        });
    }
    writers.join_all().await.into_iter().flatten().collect()
}

/// Each writer has its own handle, as separate processes would; together they take turns on one sequence of versions.
#[tokio::test(flavor = "multi_thread")]
async fn eight_writers_on_local_disk_make_one_sequence() {
    let scratch = tempfile::tempdir().unwrap();
    let open = async || {
        let environment = Arc::new(SystemEnvironment::new());
        let location = Location::local(scratch.path(), environment).unwrap();
        Arc::new(Database::open_or_create(location, Options::default()).await.unwrap())
    };
    let first = open().await;
    create_pair(&first).await.unwrap();
    let pair = add_rollup(&first).await.unwrap();
    let mut databases = Vec::new();
    for _ in 0..WRITERS {
        databases.push(open().await);
    }
    let acknowledged = write_all(databases, pair).await;
    assert_eq!(acknowledged.len() as u64, WRITERS * BATCHES);
    check_pair(&first, &acknowledged).await;
    // 107 records: a checkpoint was made on the way, and a fresh process opens from it.
    assert!(scratch.path().join("_chk").read_dir().unwrap().count() > 1);
    let fresh = open().await;
    check_pair(&fresh, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_writers_on_a_lying_store_make_one_sequence() {
    let truth = memory();
    let honest = open(Arc::clone(&truth), 0).await.unwrap();
    let pair = create_pair(&honest).await.unwrap();
    let mut databases = Vec::new();
    for seed in 1..=WRITERS {
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        let plan = move |_call, operation| match (random.lock().random_range(0..20), operation) {
            (0, "put") => Fault::Before,
            (1, "put") => Fault::After,
            (2, "put") => Fault::SpuriousExists,
            _ => Fault::None,
        };
        databases.push(open(FaultStore::new(Arc::clone(&truth), plan), seed).await.unwrap());
    }
    let acknowledged = write_all(databases, pair).await;
    check_pair(&honest, &acknowledged).await;
}

/// Handles of one process share it as well.
#[tokio::test(flavor = "multi_thread")]
async fn writers_of_one_handle_take_turns() {
    let database = open(memory(), 3).await.unwrap();
    let pair = create_pair(&database).await.unwrap();
    let acknowledged = write_all(vec![Arc::clone(&database); 4], pair).await;
    check_pair(&database, &acknowledged).await;
}
