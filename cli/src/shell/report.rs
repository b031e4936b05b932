//! What the shell says beside rows: errors with the place they point at, and short notes.
//!
//! All of it goes to the standard error, so that rows can be piped.

use std::fmt::Write as _;
use std::io::Write as _;

use meshwork_engine::{Error, Location};

/// Writes one line; a closed standard error is no reason to fail.
pub(super) fn note(text: &str) {
    let _closed = writeln!(std::io::stderr(), "{text}");
}

/// Writes the error, with the line of the statement that it points at.
pub(super) fn failure(error: &Error, sql: Option<&str>) {
    let _closed = std::io::stderr().write_all(render(error, sql).as_bytes());
}

fn render(error: &Error, sql: Option<&str>) -> String {
    let mut text = format!("error: {}: {}\n", error.code, error.message);
    if let (Some(location), Some(sql)) = (error.location, sql) {
        text.push_str(&pointed_at(location, sql).unwrap_or_default());
    }
    for cause in error.causes.iter().filter(|cause| !error.message.contains(cause.as_str())) {
        let _infallible = writeln!(text, "caused by: {cause}");
    }
    if let Some(hint) = &error.hint {
        let _infallible = writeln!(text, "hint: {hint}");
    }
    text
}

/// Returns the line with a caret under the column.
fn pointed_at(Location { line, column }: Location, sql: &str) -> Option<String> {
    let index = usize::try_from(line).ok()?.checked_sub(1)?;
    let source = sql.lines().nth(index)?;
    let before = usize::try_from(column).ok()?.checked_sub(1)?;
    let lead = format!("line {line}: ");
    // Tabs stay tabs, so that the caret stands where the terminal puts the letter.
    let blank = |letter: char| if letter == '\t' { '\t' } else { ' ' };
    let indent: String = lead.chars().chain(source.chars().take(before)).map(blank).collect();
    Some(format!("{lead}{source}\n{indent}^\n"))
}

/// Returns the number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns `1 row` or `5 rows`.
pub(super) fn rows(number: u64) -> String {
    format!("{} {}", grouped(number), if number == 1 { "row" } else { "rows" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_points_at_its_place() {
        let error = Error::user("COLUMN_NOT_FOUND", "column \"x\" does not exist")
            .at(Location { line: 2, column: 9 })
            .with_hint("Look again.");
        let text = render(&error, Some("SELECT a,\n\té, 'b', x FROM t"));
        assert_eq!(
            text,
            "error: COLUMN_NOT_FOUND: column \"x\" does not exist\nline 2: \té, 'b', x FROM t\n\
             \x20       \t       ^\nhint: Look again.\n"
        );
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
