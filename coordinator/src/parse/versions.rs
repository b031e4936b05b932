//! `FOR VERSION AS OF n` and `FOR TIMESTAMP AS OF t` behind a table: taken out of the statement before it is parsed.
//!
//! The table's last name part becomes a name of its own for this statement (`clicks@3`), and the table keeps
//! its old name as an alias, so that two versions of one table can stand in one query.

use std::collections::BTreeMap;

use chrono::Utc;
use datafusion::arrow::compute::kernels::cast_utils::string_to_datetime;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location as At, Span, Token, TokenWithSpan, Word};
use meshwork_engine::connector::ReadVersion;
use meshwork_engine::{Error, Location, Result};

/// The version of each specially named table: `clicks@3` → (`clicks`, 3).
#[derive(Debug, Clone, Default)]
pub(crate) struct TableVersions(BTreeMap<String, (String, ReadVersion)>);

impl TableVersions {
    /// Returns the real name and the version, if the name is one that stands for a version.
    pub(crate) fn get(&self, name: &str) -> Option<(&str, ReadVersion)> {
        self.0.get(name).map(|(name, version)| (name.as_str(), *version))
    }
}

/// Takes all version clauses out of the tokens.
///
/// # Errors
/// `User` when a clause does not follow a table's name, or does not say a version or a time.
pub(super) fn take_versions(
    tokens: Vec<TokenWithSpan>,
) -> Result<(Vec<TokenWithSpan>, TableVersions)> {
    let mut versions = TableVersions::default();
    let mut kept: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        // Only look; what is not a version clause stays as it is.
        let kind = if is_word(&token.token, "FOR") { clause(&rest) } else { None };
        let Some(kind) = kind else {
            kept.push(token);
            continue;
        };
        let mut words = rest.by_ref().filter(|t| !matches!(t.token, Token::Whitespace(_)));
        let mut said = words.by_ref().nth(3);
        let is_type =
            |t: &TokenWithSpan| ["TIMESTAMP", "DATE"].iter().any(|w| is_word(&t.token, w));
        if kind == Kind::Time && said.as_ref().is_some_and(is_type) {
            said = words.next();
        }
        let version = said.as_ref().and_then(|said| version_of(kind, &said.token));
        let version = version.ok_or_else(|| unreadable(kind, token.span))?;
        let marked = |name: &str| match version {
            ReadVersion::At(version) => format!("{name}@{version}"),
            ReadVersion::AsOf(time) => format!("{name}@{time}us"),
            ReadVersion::Committed => name.to_owned(),
        };
        let name = rename_last(&mut kept, marked, token.span)?;
        let mut ahead = rest.clone().filter(|t| !matches!(t.token, Token::Whitespace(_)));
        if !ahead.next().is_some_and(|t| starts_alias(&t.token)) {
            kept.push(at(token.span, Token::make_keyword("AS")));
            kept.push(at(said.map_or(token.span, |said| said.span), name.clone()));
        }
        if let Token::Word(word) = &name {
            let real = folded(word);
            versions.0.insert(marked(&real), (real, version));
        }
    }
    Ok((kept, versions))
}

/// What a clause names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Version,
    Time,
}

/// Says which clause the words behind a FOR are.
fn clause(rest: &(impl Iterator<Item = TokenWithSpan> + Clone)) -> Option<Kind> {
    let mut ahead = rest.clone().filter(|t| !matches!(t.token, Token::Whitespace(_)));
    let first = ahead.next()?;
    let goes_on =
        ["AS", "OF"].iter().all(|word| ahead.next().is_some_and(|t| is_word(&t.token, word)));
    match goes_on {
        true if is_word(&first.token, "VERSION") => Some(Kind::Version),
        true if is_word(&first.token, "TIMESTAMP") => Some(Kind::Time),
        _ => None,
    }
}

/// Renames the table before the clause for its version; returns the name it had.
fn rename_last(
    kept: &mut [TokenWithSpan],
    marked: impl Fn(&str) -> String,
    clause: Span,
) -> Result<Token> {
    let last = kept.iter_mut().rev().find(|t| !matches!(t.token, Token::Whitespace(_)));
    let Some(TokenWithSpan { token, .. }) = last else { return Err(misplaced(clause)) };
    let name = token.clone();
    let Token::Word(word) = &name else { return Err(misplaced(clause)) };
    *token = Token::Word(Word {
        value: marked(&folded(word)),
        quote_style: Some('"'),
        keyword: Keyword::NoKeyword,
    });
    Ok(name)
}

/// Returns the name as the planner sees it: unquoted names are folded to lower case.
fn folded(word: &Word) -> String {
    if word.quote_style.is_some() { word.value.clone() } else { word.value.to_lowercase() }
}

/// Reads what a version clause names: a number, or a time, which is one in UTC if it says no zone.
pub(super) fn version_of(kind: Kind, said: &Token) -> Option<ReadVersion> {
    match (kind, said) {
        (Kind::Version, Token::Number(digits, _)) => digits.parse().ok().map(ReadVersion::At),
        (Kind::Time, Token::SingleQuotedString(text)) => {
            let time = string_to_datetime(&Utc, text).ok()?;
            Some(ReadVersion::AsOf(time.timestamp_micros()))
        }
        _ => None,
    }
}

fn unreadable(kind: Kind, clause: Span) -> Error {
    let message = match kind {
        Kind::Version => "FOR VERSION AS OF needs a version, a whole number",
        Kind::Time => "FOR TIMESTAMP AS OF needs a time, as in TIMESTAMP '2026-11-01 08:00:00'",
    };
    Error::user("SYNTAX_ERROR", message).at(location(clause.start))
}

fn misplaced(clause: Span) -> Error {
    Error::user("SYNTAX_ERROR", "FOR VERSION AS OF must follow a table's name")
        .at(location(clause.start))
}

fn location(at: At) -> Location {
    Location { line: at.line, column: at.column }
}

fn starts_alias(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.keyword == Keyword::NoKeyword || word.keyword == Keyword::AS,
        // Anything that is no word ends the table's clause.
        _ => false,
    }
}

fn is_word(token: &Token, wanted: &str) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none()
        && word.value.eq_ignore_ascii_case(wanted))
}

fn at(span: Span, token: Token) -> TokenWithSpan {
    TokenWithSpan { token, span }
}
