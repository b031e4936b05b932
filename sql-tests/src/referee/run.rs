//! Rounds of cases, several at a time, until all were asked, the time is up, or enough failures were found.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use meshwork_engine::environment;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::arena::Arena;
use super::draw::draw_query;
use super::exercised::{self, Exercised};
use super::faults::Fault;
use super::judge::{Settings, Verdict, judge};
use super::known::KNOWN;
use super::shrink::{Example, Failing, shrink};
use super::sites::Kind;
use super::tables::Table;
use super::world::{CASES_PER_ROUND, Side, World, draw_sides, kind_of, rng_of};

/// What is asked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// Which cases.
    pub cases: Range<u64>,
    /// Only rounds that are about this kind of source.
    pub kind: Option<Kind>,
    /// A wrong rule to be found.
    pub fault: Option<Fault>,
    /// How many rounds run at a time.
    pub n_concurrent: usize,
    /// No round begins later than that after the first.
    pub time_max: Duration,
    /// So many failures end the run.
    pub n_failures_max: usize,
    /// Of one case in so many the plan is read, for what was moved into sources.
    pub cases_per_plan: u64,
}

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Queries that were asked three ways, by the kind of source that they are about.
    pub n_pairs: BTreeMap<Kind, u64>,
    /// Of these, such that failed in all ways.
    pub n_errors: u64,
    /// Of these, such whose answer is not determined.
    pub n_undetermined: u64,
    /// Of these, such that differ in a way that is known.
    pub n_known: u64,
    /// Of these, such whose plan was read for `exercised`.
    pub n_explained: u64,
    /// Of these, such whose plan could not be shown, so that nothing of them is counted.
    pub n_unexplained: u64,
    /// What was moved into sources.
    pub exercised: Exercised,
    /// Failures, shrunk: the case and what it looks like.
    pub failures: Vec<(u64, Example)>,
}

impl Report {
    /// Returns how many queries were asked three ways.
    pub fn n_pairs(&self) -> u64 {
        self.n_pairs.values().sum()
    }

    fn add(&mut self, other: Self) {
        for (kind, n_pairs) in other.n_pairs {
            *self.n_pairs.entry(kind).or_default() += n_pairs;
        }
        self.n_errors += other.n_errors;
        self.n_undetermined += other.n_undetermined;
        self.n_known += other.n_known;
        self.n_explained += other.n_explained;
        self.n_unexplained += other.n_unexplained;
        self.exercised.add(&other.exercised);
        self.failures.extend(other.failures);
    }
}

/// Runs the plan; `progress` hears of each round that has ended.
pub async fn run(arena: &Arc<Arena>, plan: &Plan, progress: impl Fn(&Report)) -> Result<Report> {
    let since = environment::instant();
    let rounds = plan.cases.start / CASES_PER_ROUND..plan.cases.end.div_ceil(CASES_PER_ROUND);
    let wanted = rounds.filter(|round| plan.kind.is_none_or(|kind| kind_of(*round) == kind));
    let started = wanted.take_while(|_round| since.elapsed() < plan.time_max).map(|round| {
        let (arena, plan) = (Arc::clone(arena), plan.clone());
        environment::spawn("round of cases", async move { play(&arena, &plan, round).await })
    });
    let mut ended = stream::iter(started).buffer_unordered(plan.n_concurrent.max(1));
    let mut report = Report::default();
    while let Some(round) = ended.next().await {
        report.add(round??);
        progress(&report);
        if report.failures.len() >= plan.n_failures_max {
            break;
        }
    }
    Ok(report)
}

/// Asks the cases of one round.
async fn play(arena: &Arc<Arena>, plan: &Plan, round: u64) -> Result<Report> {
    let sides = draw_sides(arena, plan.seed, round)?;
    let world = World::lay(arena, &sides, plan.fault)
        .await
        .with_context(|| format!("round {round} of seed {}", plan.seed))?;
    let mut report = Report::default();
    let mut failing: Vec<(u64, Failing)> = Vec::new();
    let first = round * CASES_PER_ROUND;
    for case in first.max(plan.cases.start)..(first + CASES_PER_ROUND).min(plan.cases.end) {
        if failing.len() >= plan.n_failures_max {
            break;
        }
        if let Some(found) = ask(&world, &sides, plan, case, &mut report).await? {
            failing.push((case, found));
        }
        *report.n_pairs.entry(kind_of(round)).or_default() += 1;
    }
    world.clear().await;
    for (case, found) in failing {
        report.failures.push((case, shrink(arena, found, plan.fault).await?));
    }
    Ok(report)
}

/// Asks one case; returns it if its answers differ.
async fn ask(
    world: &World,
    sides: &[Side],
    plan: &Plan,
    case: u64,
    report: &mut Report,
) -> Result<Option<Failing>> {
    let mut rng = rng_of(plan.seed, case, "case");
    let settings = draw_settings(&mut rng);
    let tables: Vec<&[Table]> = sides.iter().map(|side| side.tables.as_slice()).collect();
    let query = draw_query(&mut rng, &tables);
    match judge(world, &query, &settings, plan.fault).await? {
        Verdict::Same if !case.is_multiple_of(plan.cases_per_plan) => {}
        Verdict::Same => {
            // A source that is asked too much may fail to say what it was asked; its rows were right.
            match exercised::explain(world, &query, &settings).await {
                Ok(plans) => {
                    report.n_explained += 1;
                    report.exercised.add(&exercised::counted(world, &plans));
                }
                Err(_failed) => report.n_unexplained += 1,
            }
        }
        Verdict::Failed => report.n_errors += 1,
        Verdict::Undetermined => report.n_undetermined += 1,
        Verdict::Known => report.n_known += 1,
        Verdict::Different(difference) => {
            return Ok(Some(Failing { sides: sides.to_vec(), query, settings, difference }));
        }
    }
    Ok(None)
}

fn draw_settings(rng: &mut StdRng) -> Settings {
    let mut draw = |name: &'static str, values: &[&str]| {
        (name, values.choose(rng).copied().unwrap_or_default().to_owned())
    };
    vec![
        draw("target_partitions", &["1", "2", "8"]),
        draw("splits_max", &["1", "4"]),
        draw("batch_size", &["8192", "8192", "7"]),
    ]
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { n_errors, n_undetermined, n_known, failures, exercised, .. } = self;
        writeln!(
            f,
            "{} pairs, {n_errors} of them errors in every way, {n_undetermined} not determined, {n_known} differ in a known way, {} differ",
            self.n_pairs(),
            failures.len()
        )?;
        for (kind, n_pairs) in &self.n_pairs {
            writeln!(f, "  {:10} {n_pairs} pairs", kind.name())?;
        }
        writeln!(
            f,
            "moved into sources, by what {} plans show ({} more could not be shown):",
            self.n_explained, self.n_unexplained
        )?;
        for kind in Kind::ALL {
            let pieces = exercised.pieces.iter().filter(|((of, _), _)| *of == kind);
            let pieces: Vec<String> =
                pieces.map(|((_, piece), count)| format!("{piece} {count}")).collect();
            writeln!(f, "  {:10} {}", kind.name(), pieces.join(", "))?;
        }
        writeln!(f, "conditions by class of column and operator:")?;
        let mut lines: BTreeMap<(Kind, &str), Vec<String>> = BTreeMap::new();
        for ((kind, class, operator), count) in &exercised.filters {
            let class = class.prefix().trim_end_matches('_');
            lines.entry((*kind, class)).or_default().push(format!("{operator} {count}"));
        }
        for ((kind, class), operators) in lines {
            writeln!(f, "  {:10} {class:8} {}", kind.name(), operators.join(", "))?;
        }
        for known in KNOWN {
            writeln!(f, "known, so left out: {}: {} ({})", known.name, known.left_out, known.what)?;
        }
        Ok(())
    }
}
