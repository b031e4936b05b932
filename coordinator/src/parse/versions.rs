//! `FOR VERSION AS OF n` behind a table: taken out of the statement before it is parsed.
//!
//! The table's last name part becomes a name of its own for this statement (`clicks@3`), and the table keeps
//! its old name as an alias, so that two versions of one table can stand in one query.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location as At, Span, Token, TokenWithSpan, Word};
use meshwork_engine::{Error, Location, Result};

/// The version of each specially named table: `clicks@3` → (`clicks`, 3).
#[derive(Debug, Clone, Default)]
pub(crate) struct TableVersions(BTreeMap<String, (String, u64)>);

impl TableVersions {
    /// Returns the real name and the version, if the name is one that stands for a version.
    pub(crate) fn get(&self, name: &str) -> Option<(&str, u64)> {
        self.0.get(name).map(|(name, version)| (name.as_str(), *version))
    }
}

/// Takes all version clauses out of the tokens.
///
/// # Errors
/// `User` when a clause does not follow a table's name or its version is no whole number.
pub(super) fn take_versions(
    tokens: Vec<TokenWithSpan>,
) -> Result<(Vec<TokenWithSpan>, TableVersions)> {
    let mut versions = TableVersions::default();
    let mut kept: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        let is_clause = is_word(&token.token, "FOR") && {
            // Only look; what is not a version clause stays as it is.
            let mut ahead = rest.clone().filter(|t| !matches!(t.token, Token::Whitespace(_)));
            ["VERSION", "AS", "OF"]
                .iter()
                .all(|word| ahead.next().is_some_and(|t| is_word(&t.token, word)))
        };
        if !is_clause {
            kept.push(token);
            continue;
        }
        for _word in ["VERSION", "AS", "OF"] {
            rest.by_ref().find(|t| !matches!(t.token, Token::Whitespace(_)));
        }
        let number = rest.by_ref().find(|t| !matches!(t.token, Token::Whitespace(_)));
        let version = version_number(number.as_ref(), token.span)?;
        let name = rename_last(&mut kept, version, token.span)?;
        let mut ahead = rest.clone().filter(|t| !matches!(t.token, Token::Whitespace(_)));
        if !ahead.next().is_some_and(|t| starts_alias(&t.token)) {
            kept.push(at(token.span, Token::make_keyword("AS")));
            kept.push(at(number.map_or(token.span, |n| n.span), name.clone()));
        }
        if let Token::Word(word) = &name {
            let real = folded(word);
            versions.0.insert(format!("{real}@{version}"), (real, version));
        }
    }
    Ok((kept, versions))
}

/// Renames the table before the clause for its version; returns the name it had.
fn rename_last(kept: &mut [TokenWithSpan], version: u64, clause: Span) -> Result<Token> {
    let last = kept.iter_mut().rev().find(|t| !matches!(t.token, Token::Whitespace(_)));
    let Some(TokenWithSpan { token, .. }) = last else { return Err(misplaced(clause)) };
    let name = token.clone();
    let Token::Word(word) = &name else { return Err(misplaced(clause)) };
    *token = Token::Word(Word {
        value: format!("{}@{version}", folded(word)),
        quote_style: Some('"'),
        keyword: Keyword::NoKeyword,
    });
    Ok(name)
}

/// Returns the name as the planner sees it: unquoted names are folded to lower case.
fn folded(word: &Word) -> String {
    if word.quote_style.is_some() { word.value.clone() } else { word.value.to_lowercase() }
}

fn version_number(token: Option<&TokenWithSpan>, clause: Span) -> Result<u64> {
    if let Some(TokenWithSpan { token: Token::Number(digits, _), .. }) = token
        && let Ok(version) = digits.parse()
    {
        return Ok(version);
    }
    let message = "FOR VERSION AS OF needs a version, a whole number";
    Err(Error::user("SYNTAX_ERROR", message).at(location(clause.start)))
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
