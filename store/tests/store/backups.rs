//! Backups: a copy is the same database, whenever whoever makes it dies, and nothing that is there is copied twice.

use std::sync::Arc;

use crate::support::*;
use meshwork_store::policy::{Policy, Tiers};
use meshwork_store::{
    BackedUp, CheckDepth, CompactOptions, Database, Error, Location, Options, ReadAt, Result,
};
use object_store::ObjectStore;
use object_store::path::Path;

async fn back_up(database: &Database, to: &Arc<dyn ObjectStore>, seed: u64) -> Result<BackedUp> {
    let location =
        Location { store: Arc::clone(to), root: Path::from("db"), name: "copy".to_owned() };
    let environment = SeededEnvironment::new(seed);
    database.back_up(location, &Options { environment, writer: "backup".to_owned() }).await
}

/// A database with updates, merges and a checkpoint; returns the updates.
async fn filled(store: &Arc<dyn ObjectStore>) -> (Arc<Database>, Vec<(String, u64)>) {
    let database = open(Arc::clone(store), 1).await.unwrap();
    create_pair(&database).await.unwrap();
    add_rollup(&database).await.unwrap();
    let mut all = Vec::new();
    more(&database, 1..=110, &mut all).await;
    (database, all)
}

async fn more(
    database: &Arc<Database>,
    numbers: impl Iterator<Item = u64>,
    all: &mut Vec<(String, u64)>,
) {
    let pair = find_pair(database);
    for number in numbers {
        commit_pair(database, &pair, "feed", number).await.unwrap();
        all.push(("feed".to_owned(), number));
    }
    let policy = Policy { tiers: Tiers::Tiered { fan_out: 4 }, ..Policy::default() };
    database.maintain(pair.a.id, &policy, CompactOptions::default()).await.unwrap();
}

async fn check(copy: &Arc<dyn ObjectStore>, all: &[(String, u64)]) {
    let restored = open(Arc::clone(copy), 900).await.unwrap();
    check_pair(&restored, all).await;
    let snapshot = restored.snapshot(ReadAt::Committed).await.unwrap();
    for name in ["a", "b"] {
        let table = snapshot.table("ns", name).unwrap();
        assert_eq!(restored.check(&table, CheckDepth::Full).await.unwrap(), []);
    }
}

/// Of the newest version alone, for copies that are many.
async fn check_newest(copy: &Arc<dyn ObjectStore>, all: &[(String, u64)]) {
    let restored = open(Arc::clone(copy), 900).await.unwrap();
    let newest = restored.state().version;
    assert_eq!(newest.0, 1 + all.len() as u64);
    for name in ["a", "b"] {
        assert_eq!(amounts(&restored, name, newest).await.len(), all.len());
    }
}

#[tokio::test]
async fn a_copy_is_the_database_and_is_brought_up_to_date() {
    let (database, mut all) = filled(&memory()).await;
    let copy = memory();
    let first = back_up(&database, &copy, 2).await.unwrap();
    check(&copy, &all).await;
    let nothing = back_up(&database, &copy, 3).await.unwrap();
    assert_eq!((nothing.objects, nothing.bytes), (0, 0));
    more(&database, 111..=112, &mut all).await;
    let second = back_up(&database, &copy, 4).await.unwrap();
    // Two updates: three files, a record and perhaps a merge each.
    assert!(second.objects >= 8 && second.objects < 20, "{second:?} after {first:?}");
    assert!(second.lsn > first.lsn && first.objects > 300, "{second:?} after {first:?}");
    check(&copy, &all).await;
    // What has expired is not needed there either.
    database.vacuum(at_once(Some(database.state().version))).await.unwrap();
    let later = memory();
    let compacted = back_up(&database, &later, 5).await.unwrap();
    assert!(compacted.objects < first.objects, "{compacted:?}");
    check(&later, &all).await;
}

#[tokio::test]
async fn whoever_dies_in_a_backup_leaves_none_or_an_older_one() {
    let (database, mut all) = filled(&memory()).await;
    let before = all.clone();
    let old = memory();
    back_up(&database, &old, 2).await.unwrap();
    more(&database, 111..=113, &mut all).await;
    for call in [1, 2, 5, 50, 200, 335, 350] {
        let copy = memory();
        let plan = move |at, _| if at == call { Fault::CrashAfter } else { Fault::None };
        let dying: Arc<dyn ObjectStore> = FaultStore::new(Arc::clone(&copy), plan);
        back_up(&database, &dying, call).await.unwrap_err();
        back_up(&database, &copy, call + 1).await.unwrap();
        check_newest(&copy, &all).await;
    }
    for call in 1.. {
        let (copy, is_over) = {
            let copy = memory();
            back_up_of(&old, &copy).await;
            let plan = move |at, _| if at == call { Fault::CrashAfter } else { Fault::None };
            let dying = FaultStore::new(Arc::clone(&copy), plan);
            let to: Arc<dyn ObjectStore> = Arc::clone(&dying) as _;
            drop(back_up(&database, &to, call).await);
            (copy, !dying.is_dead())
        };
        // An older one, whole.
        let restored = open(Arc::clone(&copy), 800).await.unwrap();
        let n = usize::try_from(restored.state().version.0).unwrap() - 1;
        assert!((before.len()..=all.len()).contains(&n), "{n} updates");
        check_newest(&copy, &all[..n]).await;
        back_up(&database, &copy, call + 1).await.unwrap();
        check_newest(&copy, &all).await;
        if is_over {
            check(&copy, &all).await;
            break;
        }
    }
}

/// Copies object by object: a copy of a backup.
async fn back_up_of(from: &Arc<dyn ObjectStore>, to: &Arc<dyn ObjectStore>) {
    let database = open(Arc::clone(from), 700).await.unwrap();
    back_up(&database, to, 701).await.unwrap();
}

#[tokio::test]
async fn what_is_no_backup_is_not_overwritten() {
    let (database, _all) = filled(&memory()).await;
    let other = memory();
    open(Arc::clone(&other), 5).await.unwrap();
    let copy = memory();
    back_up(&database, &copy, 2).await.unwrap();
    let written = open(Arc::clone(&copy), 6).await.unwrap();
    commit_pair(&written, &find_pair(&written), "astray", 1).await.unwrap();
    for (place, expected) in [(other, "another database"), (copy, "has record")] {
        match back_up(&database, &place, 7).await {
            Err(Error::NoBackup { reason, .. }) => assert!(reason.contains(expected), "{reason}"),
            done => panic!("{done:?}"),
        }
    }
    commit_pair(&database, &find_pair(&database), "feed", 200).await.unwrap();
    let astray = open_copy_written(&database).await;
    match back_up(&database, &astray, 9).await {
        Err(Error::NoBackup { reason, .. }) => {
            assert!(reason.contains("written to it"), "{reason}");
        }
        done => panic!("{done:?}"),
    }
}

/// A backup that somebody has written to, as often as the database was since.
async fn open_copy_written(database: &Arc<Database>) -> Arc<dyn ObjectStore> {
    let copy = memory();
    back_up(database, &copy, 3).await.unwrap();
    let written = open(Arc::clone(&copy), 8).await.unwrap();
    commit_pair(&written, &find_pair(&written), "astray", 1).await.unwrap();
    commit_pair(database, &find_pair(database), "feed", 201).await.unwrap();
    copy
}
