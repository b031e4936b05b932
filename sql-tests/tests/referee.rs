//! The referee for as long as `make test` can wait, and the proof that it finds wrong rules.
//!
//! `MESHWORK_REFEREE_SEED` asks other cases, `MESHWORK_REFEREE_PAIRS` so many of them however long it takes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use meshwork_sql_tests::referee::{Arena, Example, Fault, Kind, Plan, Report, run};

/// What is asked when nothing else is said.
const SEED: u64 = 1;
/// How long that may go on.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Cases within which a planted mistake must be found.
const CASES_TO_FIND_A_FAULT: u64 = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_the_same_with_pushdown_without_and_of_copies() -> Result<()> {
    let seed = number("MESHWORK_REFEREE_SEED")?.unwrap_or(SEED);
    let n_pairs = number("MESHWORK_REFEREE_PAIRS")?;
    say(&format!("MESHWORK_REFEREE_SEED={seed}"));
    let plan = Plan {
        seed,
        cases: 0..n_pairs.unwrap_or(1_000_000),
        kind: None,
        fault: None,
        n_concurrent: 4,
        time_max: if n_pairs.is_some() { Duration::MAX } else { TIME_MAX },
        n_failures_max: 1,
        cases_per_plan: 1,
    };
    let arena = Arena::open(&Kind::ALL, 1).await?;
    let report = run(&arena, &plan, |_report| {}).await?;
    say(&report.to_string());
    ensure!(report.failures.is_empty(), "{}", shown(seed, &report));
    // A referee that is asked nothing finds nothing.
    for kind in Kind::ALL {
        let n_filters = report.exercised.of(kind, "filter");
        ensure!(n_filters > 0, "no query moved a filter into {}", kind.name());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_superset_that_is_taken_for_the_rows_is_found() -> Result<()> {
    let arena = Arena::open(&Kind::ALL, 1).await?;
    for kind in [Kind::Sqlite, Kind::MySql] {
        let example = find(&arena, kind, Fault::InexactAsExact).await?;
        ensure!(example.n_tables <= 2 && example.n_conditions <= 2, "{}", example.text);
        ensure!(example.n_rows <= 3, "{}", example.text);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_that_is_moved_into_an_outer_join_is_found() -> Result<()> {
    let arena = Arena::open(&Kind::ALL, 1).await?;
    let example = find(&arena, Kind::Sqlite, Fault::WhereIntoOn).await?;
    ensure!(example.n_tables <= 2 && example.n_conditions <= 2, "{}", example.text);
    ensure!(example.n_rows <= 3, "{}", example.text);
    Ok(())
}

/// Returns the first example of a planted mistake.
async fn find(arena: &Arc<Arena>, kind: Kind, fault: Fault) -> Result<Example> {
    let plan = Plan {
        seed: SEED,
        cases: 0..CASES_TO_FIND_A_FAULT * Kind::ALL.len() as u64,
        kind: Some(kind),
        fault: Some(fault),
        n_concurrent: 1,
        time_max: Duration::MAX,
        n_failures_max: 1,
        cases_per_plan: 1,
    };
    let report = run(arena, &plan, |_report| {}).await?;
    let n_pairs = report.n_pairs();
    let found = report.failures.into_iter().next();
    let (case, example) =
        found.with_context(|| format!("{fault:?} was not found in {n_pairs} cases"))?;
    say(&format!("{fault:?} on {}: case {case} of {n_pairs} asked\n{}", kind.name(), example.text));
    Ok(example)
}

fn shown(seed: u64, report: &Report) -> String {
    let failure = |(case, example): &(u64, Example)| {
        format!("replay: make referee ARGUMENTS='--replay {seed}:{case}'\n{}", example.text)
    };
    report.failures.iter().map(failure).collect()
}

fn number(variable: &str) -> Result<Option<u64>> {
    match std::env::var(variable) {
        Ok(text) => Ok(Some(text.parse().with_context(|| format!("{variable}={text}"))?)),
        Err(_unset) => Ok(None),
    }
}

#[expect(clippy::print_stdout, reason = "what was asked is worth more than that it passed")]
fn say(text: &str) {
    println!("{text}");
}
