//! Completion: which names and keywords can stand where the cursor is.
//!
//! `a.b|` is completed with what is under `a`, be it a catalog, a schema of the current catalog, or
//! a table or alias of the statement. A bare word is completed with keywords, catalogs, and the
//! schemas, tables and columns that can be written without a path here.

use std::sync::Arc;

use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;
use meshwork_coordinator::frontend::sql_text;
use parking_lot::Mutex;
use reedline::{Completer, CompletionResult, Span, Suggestion};
use tokio::runtime::Handle;

use super::names::Names;

/// The most suggestions that are offered at once.
const SUGGESTIONS_MAX: usize = 200;

/// Completes the word before the cursor.
pub(super) struct NameCompleter {
    pub(super) runtime: Handle,
    pub(super) names: Arc<Mutex<Names>>,
}

impl Completer for NameCompleter {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        let before = line.get(..pos).unwrap_or(line);
        let word = Word::at_end_of(before);
        let statement = current_statement(line, pos);
        let mut names = self.names.lock();
        // The prompt runs on a thread of its own, which may wait.
        let found = self.runtime.block_on(candidates(&mut names, &word, statement));
        drop(names);
        let matching = found.into_iter().filter(|found| starts_with(&found.name, &word.begun));
        let suggestions: Vec<Suggestion> = matching
            .take(SUGGESTIONS_MAX)
            .map(|found| Suggestion {
                value: match found.kind {
                    "keyword" => found.name,
                    _ => quoted(&found.name),
                },
                description: Some(found.kind.to_owned()),
                span: Span::new(pos - word.length, pos),
                ..Suggestion::default()
            })
            .collect();
        CompletionResult::fresh(suggestions)
    }
}

struct Candidate {
    name: String,
    kind: &'static str,
}

const KINDS: [&str; 4] = ["catalog", "schema", "table", "column"];

async fn candidates(names: &mut Names, word: &Word, statement: &str) -> Vec<Candidate> {
    let place = names.place().await;
    let mut paths = match word.path.is_empty() {
        true => vec![Vec::new()],
        false => vec![word.path.clone()],
    };
    // The same path, seen from the current catalog and schema.
    for n_given in (1..=place.len()).rev() {
        let mut path = place.get(..n_given).unwrap_or_default().to_vec();
        path.extend(word.path.iter().cloned());
        paths.push(path);
    }
    for Relation { path, alias } in relations(statement) {
        let is_meant = match word.path.as_slice() {
            [] => true,
            [name] => alias.as_ref() == Some(name) || path.last() == Some(name),
            _ => false,
        };
        let n_missing = 3_usize.saturating_sub(path.len());
        if is_meant && let Some(context) = place.get(..n_missing) {
            paths.push([context, &path].concat());
        }
    }
    let mut found = Vec::new();
    for path in paths {
        if let Some(kind) = KINDS.get(path.len()) {
            let under = names.under(&path).await;
            found.extend(under.into_iter().map(|name| Candidate { name, kind }));
        }
    }
    found.sort_by(|one, other| (&one.name, one.kind).cmp(&(&other.name, other.kind)));
    found.dedup_by(|one, other| one.name == other.name && one.kind == other.kind);
    if word.path.is_empty() && !word.begun.is_empty() {
        let keyword = |name: &&str| Candidate { name: (*name).to_owned(), kind: "keyword" };
        found.extend(ALL_KEYWORDS.iter().map(keyword));
    }
    found
}

/// The dotted word before the cursor: what is complete of it, and the begun last part.
#[derive(Debug, PartialEq, Eq)]
struct Word {
    path: Vec<String>,
    begun: String,
    /// Bytes of the begun part as it stands in the text.
    length: usize,
}

impl Word {
    fn at_end_of(text: &str) -> Self {
        let is_part = |letter: char| letter.is_alphanumeric() || "_.$\"".contains(letter);
        let start = text.rfind(|letter| !is_part(letter));
        let start = start.map_or(0, |at| {
            at + text.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8)
        });
        let word = text.get(start..).unwrap_or_default();
        let (path, begun) = word.rsplit_once('.').unwrap_or(("", word));
        let path = path.split('.').filter(|part| !part.is_empty()).map(unquoted).collect();
        Self { path, begun: begun.replace('"', ""), length: begun.len() }
    }
}

/// A table that the statement reads, with its alias.
#[derive(Debug, PartialEq, Eq)]
struct Relation {
    path: Vec<String>,
    alias: Option<String>,
}

/// Returns what follows FROM, JOIN, INTO and UPDATE; commas between tables are not followed.
fn relations(statement: &str) -> Vec<Relation> {
    let is_end = |letter: char| letter.is_whitespace() || "(),;".contains(letter);
    let words: Vec<&str> = statement.split(is_end).filter(|word| !word.is_empty()).collect();
    let is_keyword = |word: &str| ALL_KEYWORDS.binary_search(&word.to_uppercase().as_str()).is_ok();
    let mut found = Vec::new();
    for (position, word) in words.iter().enumerate() {
        let leads =
            ["FROM", "JOIN", "INTO", "UPDATE"].iter().any(|lead| word.eq_ignore_ascii_case(lead));
        let Some(name) = words.get(position + 1).filter(|_| leads) else { continue };
        let rest = words.get(position + 2..).unwrap_or_default();
        let alias = match rest {
            [word, alias, ..] if word.eq_ignore_ascii_case("as") => Some(unquoted(alias)),
            [alias, ..] if !is_keyword(alias) => Some(unquoted(alias)),
            _ => None,
        };
        found.push(Relation { path: name.split('.').map(unquoted).collect(), alias });
    }
    found
}

/// Returns the statement of the text that the position is in.
fn current_statement(text: &str, pos: usize) -> &str {
    let before = text.get(..pos).unwrap_or(text);
    let statements = sql_text::statements(before);
    let ended = statements.iter().rev().find(|statement| statement.ended);
    let start = ended.map_or(0, |last| {
        // Both point into the same text, so that their distance is an offset.
        (last.text.as_ptr() as usize - text.as_ptr() as usize) + last.text.len() + 1
    });
    let rest = text.get(start..).unwrap_or(text);
    sql_text::statements(rest).first().map_or(rest, |statement| statement.text)
}

/// Returns the name as SQL reads it: folded to lowercase unless quoted.
fn unquoted(part: &str) -> String {
    match part.strip_prefix('"') {
        Some(rest) => rest.trim_end_matches('"').to_owned(),
        None => part.to_lowercase(),
    }
}

fn quoted(name: &str) -> String {
    let plain =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    let is_plain =
        name.chars().all(plain) && !name.starts_with(|first: char| first.is_ascii_digit());
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn starts_with(name: &str, begun: &str) -> bool {
    name.to_lowercase().starts_with(&begun.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_before_the_cursor_is_cut_at_its_dots() {
        let check = |text: &str, path: &[&str], begun: &str, length: usize| {
            let path = path.iter().map(|part| (*part).to_owned()).collect();
            let expected = Word { path, begun: begun.to_owned(), length };
            assert_eq!(Word::at_end_of(text), expected, "{text}");
        };
        check("SELECT na", &[], "na", 2);
        check("SELECT * FROM lake.tpch.na", &["lake", "tpch"], "na", 2);
        check("SELECT * FROM \"Lake\".", &["Lake"], "", 0);
        check("FROM Lake.\"Na", &["lake"], "Na", 3);
        check("größe,é", &[], "é", 2);
        check("", &[], "", 0);
    }

    #[test]
    fn tables_and_aliases_of_a_statement_are_found() {
        let found = relations("SELECT o. FROM lake.tpch.orders o JOIN customer AS c ON x WHERE 1");
        let path = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            found,
            vec![
                Relation { path: path(&["lake", "tpch", "orders"]), alias: Some("o".to_owned()) },
                Relation { path: path(&["customer"]), alias: Some("c".to_owned()) },
            ]
        );
    }

    #[test]
    fn completion_looks_at_the_statement_of_the_cursor() {
        let text = "SELECT 1 FROM a; SELECT x FROM b; SELECT 2";
        assert_eq!(current_statement(text, 20), "SELECT x FROM b");
        assert_eq!(current_statement(text, 3), "SELECT 1 FROM a");
        assert_eq!(current_statement(text, text.len()), "SELECT 2");
    }

    #[test]
    fn odd_names_are_quoted() {
        assert_eq!(quoted("plain_1"), "plain_1");
        assert_eq!(quoted("Odd \"name"), "\"Odd \"\"name\"");
    }
}
