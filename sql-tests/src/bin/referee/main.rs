//! `make referee`: as many random queries as there is time for, with pushdown and without.
//!
//! ```text
//! referee [--pairs N] [--seed N] [--source KIND] [--minutes N] [--tasks N] [--workers N] [--cases-per-plan N]
//! referee --replay SEED:CASE
//! ```
//! Ends with 1 when answers differ; each difference is printed with the command that replays it.

use std::cell::Cell;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use meshwork::memory::{self, Allocator};
use meshwork_engine::environment;
use meshwork_sql_tests::referee::{Arena, Kind, Plan, Report, run};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

fn main() -> Result<ExitCode> {
    memory::keep_freed();
    let (plan, n_workers) = read(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Runtime::new()?;
    let report = runtime.block_on(async {
        let arena = Arena::open(&Kind::ALL, n_workers).await?;
        let since = environment::instant();
        let (told, n_shown) = (Cell::new(since), Cell::new(0));
        let report = run(&arena, &plan, |report| {
            for (case, example) in report.failures.iter().skip(n_shown.get()) {
                let replay = format!("referee --replay {}:{case}", plan.seed);
                say(&format!("--- case {case}; replay: {replay}\n{}", example.text));
            }
            n_shown.set(report.failures.len());
            if told.get().elapsed() >= PROGRESS_INTERVAL {
                told.set(environment::instant());
                tell(report, since.elapsed());
            }
        });
        let report = report.await?;
        tell(&report, since.elapsed());
        anyhow::Ok(report)
    })?;
    say(&format!("seed {}\n{report}", plan.seed));
    Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns what the arguments ask for, and the number of workers.
fn read(mut arguments: impl Iterator<Item = String>) -> Result<(Plan, usize)> {
    let mut plan = Plan {
        seed: 1,
        cases: 0..10_000,
        kind: None,
        fault: None,
        n_concurrent: 4,
        time_max: Duration::MAX,
        n_failures_max: 5,
        cases_per_plan: 1,
    };
    let mut n_workers = 1;
    while let Some(argument) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{argument} needs a value"))?;
        let number = || value.parse::<u64>().with_context(|| format!("{argument} {value}"));
        match argument.as_str() {
            "--pairs" => plan.cases = 0..number()?,
            "--seed" => plan.seed = number()?,
            "--minutes" => plan.time_max = Duration::from_secs(number()?.saturating_mul(60)),
            "--cases-per-plan" => plan.cases_per_plan = number()?.max(1),
            "--tasks" => plan.n_concurrent = usize::try_from(number()?)?,
            "--workers" => n_workers = usize::try_from(number()?)?,
            "--source" => {
                let kind = Kind::named(&value);
                plan.kind = Some(kind.with_context(|| format!("there is no source {value}"))?);
            }
            "--replay" => {
                let (seed, case) = value.split_once(':').context("--replay SEED:CASE")?;
                let case: u64 = case.parse().context("--replay SEED:CASE")?;
                plan.seed = seed.parse().context("--replay SEED:CASE")?;
                plan.cases = case..case + 1;
            }
            other => bail!("there is no argument {other}"),
        }
    }
    // A run over one source asks as many of it as were asked for.
    if plan.kind.is_some() && plan.cases.start == 0 {
        plan.cases.end *= Kind::ALL.len() as u64;
    }
    Ok((plan, n_workers))
}

#[expect(clippy::print_stderr, reason = "progress is for whoever waits")]
fn tell(report: &Report, elapsed: Duration) {
    let seconds = elapsed.as_secs_f64();
    let n_pairs = report.n_pairs();
    eprintln!(
        "{n_pairs} pairs in {seconds:.0} s, {:.0} a second, {} differ",
        n_pairs as f64 / seconds.max(0.001),
        report.failures.len()
    );
}

#[expect(clippy::print_stdout, reason = "the report is what is asked for")]
fn say(text: &str) {
    println!("{text}");
}
