//! One query, asked three ways: with pushdown, without, and of the copies. What must be equal, and what is not determined.
//!
//! ```text
//! the whole answer          the same rows equally often
//! ... in an order           and the keys in the same sequence: rows of equal keys may change places, and -0.0 equals 0.0
//! cut without an order      as many rows as must be, each of them one of the whole answer
//! cut in an order           and the keys that stand at these places
//! an error                  everywhere, or nowhere; which one does not matter
//! ```

use std::collections::BTreeMap;

use anyhow::Result;
use meshwork_engine::ErrorKind;

use super::arena::{Answer, rows, session};
use super::faults::Fault;
use super::known;
use super::query::Query;
use super::world::World;
use crate::compare;

/// The most rows of an answer that a failure shows.
const ROWS_SHOWN_MAX: usize = 12;
/// How the error of a number that is too large begins.
const OVERFLOW: &str = "NUMERIC_OVERFLOW";

/// Settings of the session that a case is asked in.
pub(super) type Settings = Vec<(&'static str, String)>;

/// What came of a case.
#[derive(Debug)]
pub(super) enum Verdict {
    /// All answers are alike.
    Same,
    /// All of them are errors.
    Failed,
    /// The whole answer is an error, and a part of it may be none.
    Undetermined,
    /// They differ in a way that is known, see [`known`].
    Known,
    /// They differ.
    Different(Difference),
}

/// Answers that are not alike.
#[derive(Debug, Clone)]
pub(super) struct Difference {
    /// What is not.
    pub(super) what: String,
    /// The answers with pushdown, without, and of the copies.
    pub(super) answers: [String; 3],
}

/// An answer as text, or its error.
type Shown = std::result::Result<Vec<Vec<String>>, String>;

/// Asks a query three ways.
pub(super) async fn judge(
    world: &World,
    query: &Query,
    settings: &Settings,
    fault: Option<Fault>,
) -> Result<Verdict> {
    let with = |pushdown: &str| -> Settings {
        let mut all = settings.clone();
        all.push(("pushdown", pushdown.to_owned()));
        all
    };
    let coordinator = &world.arena.coordinator;
    let asked = fault.map_or_else(|| query.clone(), |fault| fault.in_query(query));
    let pushed = session(coordinator, &with("true"))?;
    let pushed = rows(coordinator, &pushed, &world.remote_sql(&asked)).await;
    let plain = session(coordinator, &with("false"))?;
    let plain = rows(coordinator, &plain, &world.remote_sql(query)).await;
    let copy = session(&world.arena.copies, settings)?;
    let copy = rows(&world.arena.copies, &copy, &world.copy_sql(&query.whole())).await;
    if let Some(what) = types_differ(&[&pushed, &plain, &copy]) {
        let answers = [pushed, plain, copy].map(|answer| text(&shown(answer)));
        return Ok(Verdict::Different(Difference { what, answers }));
    }
    let floats = floats(&copy);
    let answers = [pushed, plain, copy].map(shown);
    match compared(query, &floats, &answers) {
        Verdict::Different(_)
            if have_same_names(world, query, settings, &floats, &answers).await? =>
        {
            Ok(Verdict::Known)
        }
        verdict => Ok(verdict),
    }
}

/// Whether answers differ only because columns have one name: whether they do not when the copies, or files, are asked for
/// columns with names of their own. Row sources are not asked again: what they did wrong stays wrong.
async fn have_same_names(
    world: &World,
    query: &Query,
    settings: &Settings,
    floats: &[bool],
    answers: &[Shown; 3],
) -> Result<bool> {
    if !known::is_known(known::SAME_NAMES) {
        return Ok(false);
    }
    let session_of = |pushdown: &str| {
        let mut settings = settings.clone();
        settings.push(("pushdown", pushdown.to_owned()));
        session(&world.arena.coordinator, &settings)
    };
    let copy = session(&world.arena.copies, settings)?;
    let sql = world.copy_sql_with_own_names(&query.whole());
    let copy = shown(rows(&world.arena.copies, &copy, &sql).await);
    let [pushed, plain, _] = answers.clone();
    let answers = [pushed, plain, copy.clone()];
    if !matches!(compared(query, floats, &answers), Verdict::Different(_)) {
        return Ok(true);
    }
    if !world.reads_files(query) {
        return Ok(false);
    }
    let (coordinator, sql) = (&world.arena.coordinator, world.remote_sql_with_own_names(query));
    let pushed = shown(rows(coordinator, &session_of("true")?, &sql).await);
    let plain = shown(rows(coordinator, &session_of("false")?, &sql).await);
    Ok(!matches!(compared(query, floats, &[pushed, plain, copy]), Verdict::Different(_)))
}

fn compared(query: &Query, floats: &[bool], answers: &[Shown; 3]) -> Verdict {
    let [pushed, plain, whole] = answers;
    let different = |what: String| {
        let answers = answers.each_ref().map(text);
        Verdict::Different(Difference { what, answers })
    };
    let whole = match (pushed, plain, whole) {
        (Err(_), Err(_), Err(_)) => return Verdict::Failed,
        (_, _, Err(_)) if query.is_cut() => return Verdict::Undetermined,
        (Ok(_), Ok(_), Ok(whole)) => whole,
        // Which rows are computed before an empty side ends a join depends on the plan, and so does what overflows.
        answers if is_overflow_of_some(answers) => return Verdict::Undetermined,
        _ => return different("one is an error and another is not".to_owned()),
    };
    for (name, answer) in [("with", pushed), ("without", plain)] {
        let Ok(rows) = answer else { continue };
        if let Some(what) = wrong(query, floats, rows, whole) {
            return different(format!("the answer {name} pushdown: {what}"));
        }
    }
    Verdict::Same
}

/// Whether those that failed all failed by an overflow that the engine itself noticed.
fn is_overflow_of_some((pushed, plain, whole): (&Shown, &Shown, &Shown)) -> bool {
    [pushed, plain, whole]
        .iter()
        .filter_map(|answer| answer.as_ref().err())
        .all(|error| error.starts_with(OVERFLOW))
}

/// Returns what is wrong with an answer, if anything is; `whole` are all rows, in order.
fn wrong(
    query: &Query,
    floats: &[bool],
    rows: &[Vec<String>],
    whole: &[Vec<String>],
) -> Option<String> {
    let skipped = query.offset.unwrap_or(0).min(whole.len());
    let n_left = whole.len() - skipped;
    let n_wanted = query.limit.map_or(n_left, |limit| limit.min(n_left));
    if rows.len() != n_wanted {
        return Some(format!("{} rows for {n_wanted}", rows.len()));
    }
    if let Some(row) = row_too_many(rows, whole) {
        return Some(format!("the row {row:?} is there too often"));
    }
    // Zero and its negative are equal: where a condition leaves these alone, no order tells them apart.
    let key = |row: &Vec<String>, output: usize| match row[output].as_str() {
        "-0.0" if floats.get(output) == Some(&true) => "0.0".to_owned(),
        value => value.to_owned(),
    };
    let keys = |row: &Vec<String>| -> Vec<String> {
        query.order.iter().map(|order| key(row, order.output)).collect()
    };
    for (place, (row, wanted)) in rows.iter().zip(&whole[skipped..]).enumerate() {
        if keys(row) != keys(wanted) {
            return Some(format!(
                "row {place} has the keys {:?} for {:?}",
                keys(row),
                keys(wanted)
            ));
        }
    }
    None
}

/// Returns a row that is more often among `rows` than in `whole`.
fn row_too_many<'a>(rows: &'a [Vec<String>], whole: &[Vec<String>]) -> Option<&'a Vec<String>> {
    let mut counts: BTreeMap<&Vec<String>, usize> = BTreeMap::new();
    for row in whole {
        *counts.entry(row).or_default() += 1;
    }
    rows.iter().find(|row| match counts.get_mut(row) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    })
}

/// Says of each column of an answer whether it is of floats.
fn floats(answer: &Answer) -> Vec<bool> {
    let schema = answer.as_ref().ok().map(|rows| &rows.schema);
    let fields = schema.into_iter().flat_map(|schema| schema.fields());
    fields.map(|field| field.data_type().is_floating()).collect()
}

fn types_differ(answers: &[&Answer; 3]) -> Option<String> {
    let mut known: Option<Vec<String>> = None;
    for rows in answers.iter().filter_map(|answer| answer.as_ref().ok()) {
        let types: Vec<String> =
            rows.schema.fields().iter().map(|field| field.data_type().to_string()).collect();
        match &known {
            Some(known) if *known != types => {
                return Some(format!("types {types:?} for {known:?}"));
            }
            _ => known = Some(types),
        }
    }
    None
}

fn shown(answer: Answer) -> Shown {
    let rows = answer.map_err(|error| match error.kind {
        ErrorKind::User => format!("{}: {}", error.code, error.message),
        _ => format!("{:?} {}: {}", error.kind, error.code, error.message),
    })?;
    compare::exact_rows(&rows.batches).map_err(|error| error.to_string())
}

fn text(answer: &Shown) -> String {
    match answer {
        Err(error) => format!("error {error}"),
        Ok(rows) => {
            let mut lines = vec![format!("{} rows", rows.len())];
            let mut sorted: Vec<String> = rows.iter().map(|row| row.join(" | ")).collect();
            sorted.sort();
            lines.extend(sorted.into_iter().take(ROWS_SHOWN_MAX));
            lines.join("\n    ")
        }
    }
}
