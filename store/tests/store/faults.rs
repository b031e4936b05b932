//! The commit protocol against object stores that fail, lie and die.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::*;
use meshwork_store::policy::{Policy, Tiers};
use meshwork_store::{CompactOptions, Database, Error, ReadAt, Result, Version};
use object_store::ObjectStore;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const BATCHES: u64 = 6;

/// Creates the tables and commits batches; sends a batch again while its commit fails, as a feed would.
async fn feed(store: Arc<dyn ObjectStore>, seed: u64, attempts_max: u32) -> Vec<(String, u64)> {
    let mut acknowledged = Vec::new();
    let opened = persist(attempts_max, async || open(Arc::clone(&store), seed).await).await;
    let Some(database) = opened else { return acknowledged };
    let created = persist(attempts_max, async || create_pair(&database).await).await;
    let with_rollup = match created {
        Some(_) => persist(attempts_max, async || add_rollup(&database).await).await,
        None => None,
    };
    let Some(pair) = with_rollup else { return acknowledged };
    for number in 1..=BATCHES {
        let commit = async || commit_pair(&database, &pair, "feed", number).await;
        if persist(attempts_max, commit).await.is_none() {
            break;
        }
        acknowledged.push(("feed".to_owned(), number));
        // Now and then the feed merges deltas, and lets old versions go.
        let maintained = number % 3 != 1 || maintain(&database, &pair, attempts_max).await;
        if !maintained {
            break;
        }
    }
    acknowledged
}

async fn maintain(database: &Database, pair: &Pair, attempts_max: u32) -> bool {
    let policy = Policy { tiers: Tiers::Tiered { fan_out: 2 }, ..Policy::default() };
    let options = CompactOptions::default();
    for table in [&pair.a, &pair.b] {
        let merge = async || database.maintain(table.id, &policy, options).await;
        if persist(attempts_max, merge).await.is_none() {
            return false;
        }
    }
    let oldest = Version(database.state().version.0.saturating_sub(1));
    let vacuum = async || match database.vacuum(patient(oldest)).await {
        Ok(_) | Err(Error::VersionExpired { .. }) => Ok(()),
        Err(error) => Err(error),
    };
    persist(attempts_max, vacuum).await.is_some()
}

async fn persist<T>(attempts_max: u32, mut step: impl AsyncFnMut() -> Result<T>) -> Option<T> {
    for _ in 0..attempts_max {
        if let Ok(done) = step().await {
            return Some(done);
        }
    }
    None
}

#[tokio::test]
async fn lying_store_applies_each_acknowledged_batch_once() {
    for seed in 0..n_seeds(150) {
        let truth = memory();
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        let plan = move |_call, operation| match (random.lock().random_range(0..10), operation) {
            (0, _) => Fault::Before,
            (1, "put") => Fault::After,
            (2, "put") => Fault::SpuriousExists,
            _ => Fault::None,
        };
        let faulty = FaultStore::new(Arc::clone(&truth), plan);
        let acknowledged = feed(faulty, seed, 300).await;
        assert_eq!(acknowledged.len() as u64, BATCHES, "seed {seed}");
        let honest = open(truth, seed + 1).await.unwrap();
        check_pair(&honest, &acknowledged).await;
        assert_eq!(honest.state().version.0, 1 + BATCHES, "seed {seed}");
    }
}

/// Without a feed's numbers, a commit alone must find out whether its record landed.
#[tokio::test]
async fn lying_store_applies_each_batch_once_without_a_feed() {
    for seed in 0..n_seeds(100) {
        let truth = memory();
        let honest = open(Arc::clone(&truth), seed).await.unwrap();
        let pair = create_pair(&honest).await.unwrap();
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        let plan = move |_call, operation| match (random.lock().random_range(0..10), operation) {
            (0, "put") => Fault::Before,
            (1 | 2, "put") => Fault::After,
            (3, "put") => Fault::SpuriousExists,
            _ => Fault::None,
        };
        let faulty = FaultStore::new(Arc::clone(&truth), plan);
        let writer = open(faulty, seed + 1).await.unwrap();
        let mut acknowledged = Vec::new();
        for number in 1..=BATCHES {
            // Another writer takes positions in between, so that a lost answer is followed by a lost race.
            let (mine, other) = tokio::join!(
                pair_batch(&writer, &pair, "mine", number).unwrap().commit(),
                pair_batch(&honest, &pair, "other", number).unwrap().commit(),
            );
            for (name, committed) in [("mine", mine), ("other", other)] {
                match committed {
                    Ok(_) => acknowledged.push((name.to_owned(), number)),
                    // All attempts to put a data file failed; nothing was sent to the log.
                    Err(Error::Storage { path, .. }) => assert!(path.contains("/t/"), "{path}"),
                    Err(error) => panic!("seed {seed}: {error}"),
                }
            }
        }
        check_pair(&honest, &acknowledged).await;
        assert_eq!(honest.state().version.0, acknowledged.len() as u64, "seed {seed}");
    }
}

/// The process dies at its k-th call, for every k; another one takes over. Every seed is another death.
#[tokio::test]
async fn death_at_any_call_loses_no_acknowledged_batch_and_shows_no_half() {
    let mut seed = 0;
    while seed < n_seeds(1) {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let mut deadly_call = 1;
            while die_at(deadly_call, fault, seed).await {
                deadly_call += 1;
                seed += 1;
            }
            assert!(deadly_call > 20, "the scenario has {deadly_call} calls");
        }
    }
    println!("{seed} deaths");
}

/// Returns whether there was such a call.
async fn die_at(deadly_call: u64, fault: Fault, seed: u64) -> bool {
    let truth = memory();
    let plan = move |call, _| if call == deadly_call { fault } else { Fault::None };
    let faulty = FaultStore::new(Arc::clone(&truth), plan);
    let acknowledged = feed(Arc::clone(&faulty) as _, seed, 1).await;
    let survivor = open(Arc::clone(&truth), seed + 100_000).await.unwrap();
    check_pair(&survivor, &acknowledged).await;

    // The feed starts again from its first batch; what landed is not applied twice.
    let all = feed(truth, seed + 200_000, 3).await;
    assert_eq!(all.len() as u64, BATCHES, "call {deadly_call}");
    check_pair(&survivor, &all).await;
    assert_eq!(survivor.state().version.0, 1 + BATCHES, "call {deadly_call}");
    faulty.is_dead()
}

/// A commit whose position can never be read back must not claim anything.
#[tokio::test]
async fn unreadable_position_is_an_unknown_outcome() {
    for fault in [Fault::Before, Fault::After] {
        let truth = memory();
        let honest = open(Arc::clone(&truth), 1).await.unwrap();
        let pair = create_pair(&honest).await.unwrap();
        let broken = AtomicBool::new(false);
        let puts = AtomicU64::new(0);
        let plan = move |_call, operation| {
            if operation == "put" && puts.fetch_add(1, Ordering::SeqCst) == 2 {
                // Two data files went well, the record does not, and from now on nothing can be read.
                broken.store(true, Ordering::SeqCst);
                return fault;
            }
            if broken.load(Ordering::SeqCst) { Fault::Before } else { Fault::None }
        };
        let faulty = open(FaultStore::new(Arc::clone(&truth), plan), 2).await.unwrap();
        let outcome = commit_pair(&faulty, &pair, "feed", 1).await;
        assert!(matches!(outcome, Err(Error::OutcomeUnknown { .. })), "{outcome:?}");

        let again = commit_pair(&honest, &pair, "feed", 1).await.unwrap();
        assert_eq!(again.repeated, fault == Fault::After);
        check_pair(&honest, &[("feed".to_owned(), 1)]).await;
    }
}

/// Writers, merges and vacuums that spare nothing run side by side: every commit that succeeds keeps its files.
#[tokio::test]
async fn vacuum_takes_no_file_of_a_commit() {
    let (mut n_late, mut n_deleted) = (0, 0);
    for seed in 0..n_seeds(60) {
        let truth = memory();
        let environment = SeededEnvironment::new(seed);
        let process = async || {
            let slow = FaultStore::new(Arc::clone(&truth), |_call, _operation| Fault::None);
            open_in(slow, Arc::clone(&environment)).await.unwrap()
        };
        let (writer, merger, cleaner) = (process().await, process().await, process().await);
        create_pair(&writer).await.unwrap();
        let pair = add_rollup(&writer).await.unwrap();
        let write = async {
            let mut late = 0;
            for number in 1..=BATCHES * 3 {
                loop {
                    match commit_pair(&writer, &pair, "w", number).await {
                        Ok(_) => break,
                        Err(Error::Conflict { .. }) => late += 1,
                        Err(error) => panic!("seed {seed}: {error}"),
                    }
                }
            }
            late
        };
        let merge = async {
            let policy = Policy { tiers: Tiers::Tiered { fan_out: 2 }, ..Policy::default() };
            for _ in 0..BATCHES {
                for table in [&pair.a, &pair.b] {
                    let done = merger.maintain(table.id, &policy, CompactOptions::default()).await;
                    done.unwrap();
                }
            }
        };
        let clean = async {
            let mut deleted = 0;
            for _ in 0..BATCHES {
                let oldest = cleaner.snapshot(ReadAt::Committed).await.unwrap().version();
                match cleaner.vacuum(at_once(Some(oldest))).await {
                    Ok(vacuumed) => deleted += vacuumed.files_deleted,
                    Err(error) => assert!(matches!(error, Error::Conflict { .. }), "{error}"),
                }
            }
            deleted
        };
        let (late, (), deleted) = tokio::join!(write, merge, clean);
        n_late += late;
        n_deleted += deleted;
        let acknowledged: Vec<_> =
            (1..=BATCHES * 3).map(|number| ("w".to_owned(), number)).collect();
        check_pair(&open(truth, seed + 1).await.unwrap(), &acknowledged).await;
    }
    assert!(n_late > 0 && n_deleted > 0, "{n_late} commits late, {n_deleted} files deleted");
}
