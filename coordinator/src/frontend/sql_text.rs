//! Cuts SQL text into code, quoted text and comments, without parsing it.
//!
//! Serves what must not look inside quotes: splitting a script at its semicolons ([`statements`]),
//! numbering `?` placeholders ([`number_placeholders`]), and hiding what may be a secret
//! ([`without_properties`]). It knows `'..'`, `E'..\'..'`, `".."`,
//! `` `..` ``, `$tag$..$tag$`, `-- ..` and nested `/* .. */`; it must never change a byte inside
//! any of them.

use meshwork_engine::{Error, Location, Result};

/// What a piece of SQL text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Region {
    Code,
    Quoted,
    Comment,
}

/// A run of text of one region.
#[derive(Debug, Clone, Copy)]
struct Piece<'a> {
    region: Region,
    text: &'a str,
}

/// One statement of a script, without its semicolon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement<'a> {
    /// The text, trimmed.
    pub text: &'a str,
    /// Whether a semicolon ended it.
    pub ended: bool,
}

/// Returns the statements of a script; what holds only blanks and comments is not one.
pub fn statements(script: &str) -> Vec<Statement<'_>> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut at = 0;
    let mut has_content = false;
    for piece in pieces(script) {
        match piece.region {
            Region::Comment => {}
            Region::Quoted => has_content = true,
            Region::Code => {
                for (offset, letter) in piece.text.char_indices() {
                    if letter == ';' {
                        push_statement(
                            &mut found,
                            script.get(start..at + offset),
                            has_content,
                            true,
                        );
                        start = at + offset + 1;
                        has_content = false;
                    } else if !letter.is_whitespace() {
                        has_content = true;
                    }
                }
            }
        }
        at += piece.text.len();
    }
    push_statement(&mut found, script.get(start..), has_content, false);
    found
}

fn push_statement<'a>(
    found: &mut Vec<Statement<'a>>,
    text: Option<&'a str>,
    has_content: bool,
    ended: bool,
) {
    if let (Some(text), true) = (text, has_content) {
        found.push(Statement { text: text.trim(), ended });
    }
}

/// A statement whose `?` placeholders became `$1`, `$2`, ..., and the way back for positions in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// The statement as it is planned.
    pub sql: String,
    /// Where a placeholder grew, in positions of `sql`, and by how many characters.
    grown: Vec<(Location, u64)>,
}

impl Numbered {
    /// Returns the statement with the placeholders that it has.
    pub fn as_written(sql: String) -> Self {
        Self { sql, grown: Vec::new() }
    }

    /// Returns where a position of the numbered statement stood in the original text.
    pub fn original(&self, location: Location) -> Location {
        let extra: u64 = self
            .grown
            .iter()
            .filter(|(at, _)| at.line == location.line && at.column < location.column)
            .map(|(_, extra)| extra)
            .sum();
        Location { column: location.column.saturating_sub(extra), ..location }
    }
}

/// Returns the statement with each `?` outside of quotes and comments numbered from `$1`.
///
/// # Errors
/// `User` when the statement uses both `?` and `$n`.
pub fn number_placeholders(sql: &str) -> Result<Numbered> {
    let mut numbered = String::with_capacity(sql.len());
    let mut grown = Vec::new();
    let mut at = Location { line: 1, column: 1 };
    let mut n_placeholders = 0_u64;
    let mut has_dollar = false;
    for piece in pieces(sql) {
        let mut letters = piece.text.chars().peekable();
        while let Some(letter) = letters.next() {
            if piece.region == Region::Code && letter == '?' {
                n_placeholders += 1;
                let name = format!("${n_placeholders}");
                let length = name.len() as u64;
                grown.push((at, length - 1));
                at.column += length;
                numbered.push_str(&name);
                continue;
            }
            has_dollar |= piece.region == Region::Code
                && letter == '$'
                && letters.peek().is_some_and(char::is_ascii_digit);
            at = after(at, letter);
            numbered.push(letter);
        }
    }
    if has_dollar && n_placeholders > 0 {
        return Err(Error::user(
            "INVALID_PARAMETERS",
            "placeholders ? and $n are mixed in one statement",
        )
        .with_hint("Write all placeholders as ? or all as $1, $2, ..."));
    }
    Ok(Numbered { sql: numbered, grown })
}

fn after(at: Location, letter: char) -> Location {
    match letter {
        '\n' => Location { line: at.line + 1, column: 1 },
        _ => Location { column: at.column + 1, ..at },
    }
}

/// How many words may lead up to the word `CATALOG` in a statement about one.
const WORDS_BEFORE_CATALOG_MAX: usize = 3;

/// Before these, `catalog` is the name of a column or of a query.
const WORDS_BEFORE_NAMES: [&str; 4] = ["SELECT", "DISTINCT", "ALL", "WITH"];

/// Returns the statement as everybody may see it: one about a catalog ends where its properties begin,
/// because their values may be secrets. It need not be a right one: a mistake shows no secret either.
pub fn without_properties(sql: &str) -> String {
    let (mut n_words, mut before) = (0, "");
    let mut is_about_catalog = false;
    let mut at = 0;
    for piece in pieces(sql) {
        let hidden = match piece.region {
            Region::Comment => None,
            Region::Quoted => (!piece.text.starts_with(['"', '`'])).then_some(0),
            Region::Code => {
                for word in piece.text.split_whitespace() {
                    let named = WORDS_BEFORE_NAMES.iter().any(|w| w.eq_ignore_ascii_case(before));
                    is_about_catalog |= n_words <= WORDS_BEFORE_CATALOG_MAX
                        && word.eq_ignore_ascii_case("CATALOG")
                        && !named;
                    (n_words, before) = (n_words + 1, word);
                }
                piece.text.find(['(', '='])
            }
        };
        if let (true, Some(offset)) = (is_about_catalog, hidden) {
            let shown = sql.get(..at + offset).unwrap_or_default();
            return format!("{} (***)", shown.trim_end());
        }
        at += piece.text.len();
    }
    sql.to_owned()
}

/// Returns the pieces of the text, in order; together they are the text.
fn pieces(sql: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut code_start = 0;
    let mut at = 0;
    while let Some(rest) = sql.get(at..).filter(|rest| !rest.is_empty()) {
        let before = sql.get(code_start..at).unwrap_or_default();
        let Some((region, length)) = region_at(rest, before) else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        if !before.is_empty() {
            found.push(Piece { region: Region::Code, text: before });
        }
        if let Some(text) = rest.get(..length) {
            found.push(Piece { region, text });
        }
        at += length;
        code_start = at;
    }
    if let Some(text) = sql.get(code_start..).filter(|text| !text.is_empty()) {
        found.push(Piece { region: Region::Code, text });
    }
    found
}

/// Returns the quoted text or comment that begins `rest`, with its length in bytes; `before` is the
/// code that leads up to it. What is not closed reaches to the end.
fn region_at(rest: &str, before: &str) -> Option<(Region, usize)> {
    let first = rest.chars().next()?;
    match first {
        '-' if rest.starts_with("--") => {
            Some((Region::Comment, rest.find('\n').map_or(rest.len(), |end| end + 1)))
        }
        '/' if rest.starts_with("/*") => Some((Region::Comment, block_comment_length(rest))),
        '\'' => Some((Region::Quoted, quoted_length(rest, '\'', is_escape_prefix(before)))),
        '"' | '`' => Some((Region::Quoted, quoted_length(rest, first, false))),
        '$' if !before.ends_with(is_name_letter) => {
            dollar_quoted_length(rest).map(|length| (Region::Quoted, length))
        }
        _ => None,
    }
}

/// Whether `E` stands alone before a quote, so that backslashes escape inside it.
fn is_escape_prefix(before: &str) -> bool {
    before.strip_suffix(['e', 'E']).is_some_and(|earlier| !earlier.ends_with(is_name_letter))
}

fn is_name_letter(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '$'
}

fn quoted_length(text: &str, quote: char, backslash_escapes: bool) -> usize {
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((offset, letter)) = letters.next() {
        if backslash_escapes && letter == '\\' {
            letters.next();
        } else if letter == quote {
            match letters.peek() {
                Some((_, next)) if *next == quote => {
                    letters.next();
                }
                _ => return offset + quote.len_utf8(),
            }
        }
    }
    text.len()
}

fn block_comment_length(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut letters = text.char_indices().peekable();
    while let Some((offset, letter)) = letters.next() {
        let next = letters.peek().map(|(_, next)| *next);
        match (letter, next) {
            ('/', Some('*')) => depth += 1,
            ('*', Some('/')) => depth -= 1,
            _ => continue,
        }
        letters.next();
        if depth == 0 {
            return offset + 2;
        }
    }
    text.len()
}

/// Returns the length of `$tag$..$tag$`, or nothing where no such quote begins.
fn dollar_quoted_length(text: &str) -> Option<usize> {
    let (tag, body) = text.strip_prefix('$')?.split_once('$')?;
    let starts_like_name = tag.chars().next().is_none_or(|letter| !letter.is_numeric());
    let is_tag =
        starts_like_name && tag.chars().all(|letter| letter != '$' && is_name_letter(letter));
    if !is_tag {
        return None;
    }
    let mark = format!("${tag}$");
    Some(body.find(&mark).map_or(text.len(), |end| mark.len() + end + mark.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_split(script: &str, expected: &[&str]) {
        let texts: Vec<&str> = statements(script).iter().map(|statement| statement.text).collect();
        assert_eq!(texts, expected, "{script}");
    }

    #[test]
    fn a_script_is_split_outside_of_quotes_and_comments() {
        check_split("SELECT 1; SELECT 2", &["SELECT 1", "SELECT 2"]);
        check_split("SELECT ';', 'it''s;', \";\"; -- a; b\n", &["SELECT ';', 'it''s;', \";\""]);
        check_split(
            "SELECT $$a;b$$, $x$;$y$;$x$ /* ; /* ; */ ; */; SELECT 2;",
            &["SELECT $$a;b$$, $x$;$y$;$x$ /* ; /* ; */ ; */", "SELECT 2"],
        );
        check_split(
            r"SELECT E'a\';', e;SELECT '\'; SELECT 3",
            &[r"SELECT E'a\';', e", r"SELECT '\'", "SELECT 3"],
        );
        check_split(";;  ; -- nothing", &[]);
        check_split("SELECT 'é;ü'; SELECT `;`", &["SELECT 'é;ü'", "SELECT `;`"]);
    }

    #[test]
    fn an_open_quote_keeps_the_statement_open() {
        assert!(statements("SELECT 1;").iter().all(|statement| statement.ended));
        assert!(!statements("SELECT ';").iter().any(|statement| statement.ended));
        assert!(!statements("SELECT $a$;").iter().any(|statement| statement.ended));
        assert!(!statements("SELECT /* ;").iter().any(|statement| statement.ended));
    }

    #[test]
    fn placeholders_are_numbered_outside_of_quotes_and_comments() {
        let check = |sql: &str, expected: &str| {
            assert_eq!(number_placeholders(sql).unwrap().sql, expected);
        };
        check(
            "SELECT ?, '?', \"?\", ? -- ?\n/* ? */ + ?",
            "SELECT $1, '?', \"?\", $2 -- ?\n/* ? */ + $3",
        );
        check("SELECT $1, $2", "SELECT $1, $2");
        check("SELECT $$?$$, ?", "SELECT $$?$$, $1");
        assert!(number_placeholders("SELECT ?, $1").is_err());
        assert!(number_placeholders("SELECT ?, '$1'").is_ok());
    }

    #[test]
    fn what_may_be_a_secret_is_cut_off() {
        let check = |sql: &str, expected: &str| assert_eq!(without_properties(sql), expected);
        let shown = "CREATE CATALOG pg USING postgres WITH (***)";
        check("CREATE CATALOG pg USING postgres WITH ('password' = 's3cret')", shown);
        check("CREATE CATALOG pg USING postgres WITH (password = 's3cret", shown);
        check("create catalog \"a (b)\" USING x", "create catalog \"a (b)\" USING x");
        check("-- why\nCREATE CATALOG pg 'password' = 's3cret'", "-- why\nCREATE CATALOG pg (***)");
        check(
            "EXPLAIN CREATE CATALOG pg USING x (a = b)",
            "EXPLAIN CREATE CATALOG pg USING x (***)",
        );
        check(
            "CREATE CATALOG pg USING x WITH password = s3cret",
            "CREATE CATALOG pg USING x WITH password (***)",
        );
        for shown in ["SELECT catalog FROM t WHERE a = 'b'", "SELECT a, b, c, (catalog) FROM t"] {
            check(shown, shown);
        }
    }

    #[test]
    fn a_position_finds_its_way_back() {
        let original = "SELECT ?, ?,\n  ? + wrong";
        let numbered = number_placeholders(original).unwrap();
        assert_eq!(numbered.sql, "SELECT $1, $2,\n  $3 + wrong");
        let there = Location { line: 2, column: 8 };
        assert_eq!(numbered.original(there), Location { line: 2, column: 7 });
        let first = Location { line: 1, column: 8 };
        assert_eq!(numbered.original(first), first);
    }
}
