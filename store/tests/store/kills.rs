//! Real processes, killed at random moments, on a real disk.
//!
//! Child processes commit batches over two tables and print each acknowledged one; the parent kills them, looks at every
//! version, and starts the next ones. `MESHWORK_KILLS=500` makes the loop longer.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::support::*;
use meshwork_store::{
    Database, Environment, Location, Options, ReadAt, SystemEnvironment, Version,
};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

const DIRECTORY: &str = "MESHWORK_KILLS_DIRECTORY";
const WRITER: &str = "MESHWORK_KILLS_WRITER";
const KILLS: &str = "MESHWORK_KILLS";
const KILLS_USUAL: u64 = 25;
const READY: &str = "ready";

async fn open_local(directory: &Path) -> Arc<Database> {
    let location = Location::local(directory, Arc::new(SystemEnvironment::new())).unwrap();
    Arc::new(Database::open_or_create(location, Options::default()).await.unwrap())
}

/// The child: not a test of its own, so it does nothing unless the parent names a directory.
#[tokio::test]
#[ignore = "the child of the kill loop"]
async fn child_that_writes_until_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let writer = std::env::var(WRITER).unwrap();
    let database = open_local(Path::new(&directory)).await;
    let pair = find_pair(&database);
    println!("\n{READY}");
    for number in 1.. {
        let committed = commit_pair(&database, &pair, &writer, number).await.unwrap();
        println!("\nacknowledged {number} {}", committed.version);
    }
}

fn spawn_child(directory: &Path, writer: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kills::child_that_writes_until_killed", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(WRITER, writer)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until the child begins to write.
fn output_when_ready(child: &mut Child) -> BufReader<ChildStdout> {
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line.trim_end() != READY {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "child ended before it was ready");
    }
    output
}

/// Reads what the child acknowledged until its pipe closes: it is dead then.
fn acknowledged(mut output: BufReader<ChildStdout>) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut line = String::new();
    // A last line without its end was cut by the kill: no acknowledgement.
    while output.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
        if let Some(words) = line.trim_end().strip_prefix("acknowledged ") {
            let (number, _version) = words.split_once(' ').unwrap();
            numbers.push(number.parse().unwrap());
        }
        line.clear();
    }
    numbers
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_writers_lose_nothing_acknowledged_and_show_no_half() {
    let kills = std::env::var(KILLS).map_or(KILLS_USUAL, |text| text.parse().unwrap());
    let seed = rand::rng().next_u64();
    println!("seed {seed}, {kills} kills");
    let mut random = StdRng::seed_from_u64(seed);
    let scratch = tempfile::tempdir().unwrap();
    let database = open_local(scratch.path()).await;
    create_pair(&database).await.unwrap();

    let mut all: Vec<(String, u64)> = Vec::new();
    let mut checked = Version(0);
    let mut n_kills = 0;
    while n_kills < kills {
        // Two writers at once, so that a kill also meets a lost race.
        let names = ["a", "b"].map(|side| format!("{n_kills}{side}"));
        let mut children = names.each_ref().map(|name| spawn_child(scratch.path(), name));
        let outputs = children.each_mut().map(output_when_ready);
        // Some commits take a few milliseconds, so that every moment of one is met.
        let wait = Duration::from_micros(random.random_range(0..60_000));
        SystemEnvironment::new().sleep(wait).await;
        for ((name, child), output) in names.iter().zip(&mut children).zip(outputs) {
            child.kill().unwrap();
            let numbers = acknowledged(output);
            child.wait().unwrap();
            all.extend(numbers.into_iter().map(|number| (name.clone(), number)));
            n_kills += 1;
        }
        checked = check_new_versions(&database, checked).await;
    }
    assert!(!all.is_empty(), "no child came to commit anything");
    println!("{} batches acknowledged, {checked} versions", all.len());
    let fresh = open_local(scratch.path()).await;
    let found = amounts(&fresh, "a", checked).await;
    assert_eq!(found, amounts(&fresh, "b", checked).await);
    assert_eq!(found.len() as u64, checked.0);
    for (writer, number) in all {
        let key = (writer, i64::try_from(number).unwrap());
        assert_eq!(found.get(&key), Some(&1), "seed {seed}: batch {key:?}");
    }
}

/// At each version that came since, both tables got the same one file: no half is visible.
async fn check_new_versions(database: &Database, checked: Version) -> Version {
    let newest = database.snapshot(ReadAt::Committed).await.unwrap().version();
    for version in checked.0 + 1..=newest.0 {
        let snapshot = database.snapshot(ReadAt::Version(Version(version))).await.unwrap();
        let mut added = Vec::new();
        for name in ["a", "b"] {
            let table = snapshot.table("ns", name).unwrap();
            let files = table.files();
            let file = files.last().unwrap();
            assert_eq!(file.v.lo, Version(version), "table {name} lacks version {version}");
            assert_eq!(files.len() as u64, version, "a version is one file");
            database.verify_file(file).await.unwrap();
            added.push((
                file.agg.clone(),
                file.stats["writer"].clone(),
                file.stats["batch"].clone(),
            ));
        }
        assert_eq!(added[0], added[1], "tables differ at version {version}");
    }
    newest
}
