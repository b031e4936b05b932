//! What was really moved into sources, read off the plans: a rule that no query exercises was not tested.
//!
//! Everything is told from what EXPLAIN shows: the request that a row source gets, and the line of a scan of files.
//! A column's name begins with its class, which says what was compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::AsArray;
use meshwork::coordinator::Coordinator;

use super::arena::{Rows, rows, session};
use super::judge::Settings;
use super::query::Query;
use super::sites::Kind;
use super::values::Class;
use super::world::World;

/// How tests of one column are written, the longer ones first.
const OPERATORS: [&str; 14] = [
    "IS NOT NULL",
    "IS NULL",
    "NOT IN",
    "IN",
    "BETWEEN",
    "LIKE",
    "GLOB",
    "<>",
    "!=",
    "<=",
    ">=",
    "<",
    ">",
    "=",
];

/// What else a request may hold, and what it is called.
const PIECES: [(&str, &str); 12] = [
    (" OR ", "or"),
    ("NOT (", "not"),
    (" LIMIT ", "limit"),
    (" ORDER BY ", "order"),
    (" GROUP BY ", "group"),
    ("count(", "count"),
    ("sum(", "sum"),
    (" JOIN ", "join"),
    ("EXISTS (", "semi"),
    ("DISTINCT", "distinct"),
    ("ctid", "split"),
    ("row_id", "split"),
];

/// How often each thing was exercised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exercised {
    /// By kind of source and what: `filter`, `limit`, ...
    pub pieces: BTreeMap<(Kind, String), u64>,
    /// By kind of source, class of column, and operator.
    pub filters: BTreeMap<(Kind, Class, &'static str), u64>,
}

impl Exercised {
    /// Adds what another has counted.
    pub(super) fn add(&mut self, other: &Self) {
        for (key, count) in &other.pieces {
            *self.pieces.entry(key.clone()).or_default() += count;
        }
        for (key, count) in &other.filters {
            *self.filters.entry(*key).or_default() += count;
        }
    }

    /// Returns how often a thing was exercised on a kind of source.
    pub fn of(&self, kind: Kind, piece: &str) -> u64 {
        self.pieces.get(&(kind, piece.to_owned())).copied().unwrap_or(0)
    }

    fn count(&mut self, kind: Kind, piece: &str) {
        *self.pieces.entry((kind, piece.to_owned())).or_default() += 1;
    }

    /// Counts what a plan shows.
    fn plan(&mut self, world: &World, kind: &str, text: &str) {
        match kind {
            "pushed" => {
                for line in without_literals(text).lines() {
                    let Some((name, request)) = line.split_once(": ") else { continue };
                    let catalog = name.split('.').next().unwrap_or_default();
                    if let Some(kind) = world.kind_of_catalog(catalog) {
                        self.request(kind, request);
                    }
                }
            }
            "distributed_plan" => {
                for line in text.lines().filter(|line| line.contains("file_type=parquet")) {
                    self.count(Kind::Lake, "scan");
                    if line.contains("limit=") {
                        self.count(Kind::Lake, "limit");
                    }
                    if line.contains("pruning_predicate=") {
                        self.count(Kind::Lake, "pruning");
                    }
                    if let Some((_, rest)) = line.split_once(", predicate=") {
                        self.count(Kind::Lake, "filter");
                        let condition = rest.split(", pruning_predicate=").next().unwrap_or(rest);
                        self.tests(Kind::Lake, condition);
                    }
                }
            }
            "not_pushed" => {
                for line in without_literals(text).lines() {
                    let reason = line.rsplit(": ").next().unwrap_or_default();
                    let catalog = line.split('.').next().unwrap_or_default();
                    if let Some(kind) =
                        world.kind_of_catalog(catalog).filter(|_| !reason.is_empty())
                    {
                        self.count(kind, "refused");
                    }
                }
            }
            _ => {}
        }
    }

    fn request(&mut self, kind: Kind, request: &str) {
        self.count(kind, "scan");
        for (piece, name) in PIECES {
            if request.contains(piece) {
                self.count(kind, name);
            }
        }
        if let Some((_, condition)) = request.split_once(" WHERE ") {
            self.count(kind, "filter");
            self.tests(kind, condition);
        }
    }

    /// Counts the tests of columns in a condition.
    fn tests(&mut self, kind: Kind, condition: &str) {
        for class in Class::ALL {
            for (start, prefix) in condition.match_indices(class.prefix()) {
                let before = condition.get(..start).and_then(|before| before.chars().last());
                let rest = condition.get(start + prefix.len()..).unwrap_or_default();
                if let Some(operator) = operator_after(before, rest) {
                    *self.filters.entry((kind, class, operator)).or_default() += 1;
                }
            }
        }
    }
}

/// Returns the operator behind the name of a column, of which `rest` begins within the name. Requests quote names, plans
/// number them: `int_k@1`.
fn operator_after(before: Option<char>, rest: &str) -> Option<&'static str> {
    let (_name, rest) = match before {
        Some(quote @ ('"' | '`')) => rest.split_once(quote)?,
        Some(letter) if letter.is_alphanumeric() => return None,
        _ => rest.split_once('@')?,
    };
    let rest = rest.trim_start_matches(|letter: char| letter.is_ascii_digit()).trim_start();
    let rest = match rest.strip_prefix("COLLATE ") {
        Some(rest) => rest.split_once(' ')?.1,
        None => rest,
    };
    // Text that is compared as bytes.
    let rest = rest.strip_prefix("USING utf8mb4) ").unwrap_or(rest);
    let rest = rest.strip_prefix("AS BINARY) ").unwrap_or(rest);
    OPERATORS.into_iter().find(|operator| rest.starts_with(operator))
}

/// Returns the text with nothing between single quotes.
fn without_literals(text: &str) -> String {
    let mut inside = false;
    text.chars()
        .filter(|letter| {
            inside ^= *letter == '\'';
            !inside || *letter == '\''
        })
        .collect()
}

/// A plan's kind and its text.
pub(super) type Shown = (String, String);

/// Returns the plans of a query over its sources.
pub(super) async fn explain(
    world: &World,
    query: &Query,
    settings: &Settings,
) -> Result<Vec<Shown>> {
    explain_by(&world.arena.coordinator, &world.remote_sql(query), settings).await
}

/// Returns the plans of a query over the copies.
pub(super) async fn explain_copy(
    world: &World,
    query: &Query,
    settings: &Settings,
) -> Result<Vec<Shown>> {
    explain_by(&world.arena.copies, &world.copy_sql(&query.whole()), settings).await
}

async fn explain_by(
    coordinator: &Arc<Coordinator>,
    sql: &str,
    settings: &Settings,
) -> Result<Vec<Shown>> {
    let session = session(coordinator, settings)?;
    let Rows { batches, .. } = rows(coordinator, &session, &format!("EXPLAIN {sql}")).await?;
    let mut plans = Vec::new();
    for batch in &batches {
        let (kinds, texts) =
            (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        for (kind, text) in kinds.iter().zip(texts) {
            plans.push((kind.unwrap_or_default().to_owned(), text.unwrap_or_default().to_owned()));
        }
    }
    Ok(plans)
}

/// Counts what plans show.
pub(super) fn counted(world: &World, plans: &[Shown]) -> Exercised {
    let mut exercised = Exercised::default();
    for (kind, text) in plans {
        exercised.plan(world, kind, text);
    }
    exercised
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tests_of(condition: &str) -> Vec<(Class, &'static str)> {
        let mut exercised = Exercised::default();
        exercised.tests(Kind::Sqlite, condition);
        exercised.filters.into_keys().map(|(_, class, operator)| (class, operator)).collect()
    }

    #[test]
    fn tests_of_columns_are_told_apart() {
        assert_eq!(tests_of("\"int_k\" <= (-5)"), [(Class::Int, "<=")]);
        assert_eq!(tests_of("`text_3 Q` IN ('')"), [(Class::Text, "IN")]);
        assert_eq!(tests_of("\"date_1\" IS NULL"), [(Class::Date, "IS NULL")]);
        assert_eq!(tests_of("(\"bool_1\" IS NOT NULL OR 1)"), [(Class::Bool, "IS NOT NULL")]);
        assert_eq!(tests_of("\"text_s\" COLLATE \"C\" >= ''"), [(Class::Text, ">=")]);
        assert_eq!(tests_of("`text_s` GLOB ''"), [(Class::Text, "GLOB")]);
        assert_eq!(tests_of("CAST(`text_s` AS BINARY) < ''"), [(Class::Text, "<")]);
        assert_eq!(tests_of("int_id@0 = 7"), [(Class::Int, "=")]);
        assert_eq!(
            tests_of("\"int_k\" <> 1 AND \"double_2\" > 1e0"),
            [(Class::Int, "<>"), (Class::Double, ">")]
        );
    }

    #[test]
    fn literals_are_not_read() {
        assert_eq!(without_literals("a = 'it''s ORDER BY' AND b"), "a = '''' AND b");
    }
}
