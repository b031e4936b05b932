//! How one kind of database spells names and values.

use std::fmt;
use std::fmt::Write;

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta};
use meshwork_engine::remote::{Comparison, Literal, Measure, OrderKey, RemoteColumn, RemoteScan};
use meshwork_engine::{Error, Result};

/// Days and microseconds beyond these years are not written: databases differ in what they read there.
const YEARS_WRITTEN: std::ops::RangeInclusive<i32> = 1..=9999;

/// The spelling of one kind of database. The defaults are standard SQL; override what differs.
///
/// Every method that writes a value must write exactly one token (or a parenthesised expression) whatever
/// the value is, and refuse what it cannot write.
pub trait Dialect: fmt::Debug + Send + Sync {
    /// What stands around a name; doubled inside.
    fn identifier_quote(&self) -> char {
        '"'
    }

    /// Whether a backslash in a string literal escapes the next character on this server.
    fn backslash_escapes(&self) -> bool {
        false
    }

    /// The select list of a scan that returns no columns, only counts rows.
    fn empty_projection(&self) -> &'static str {
        "1"
    }

    /// A column in the select list: cast it here if it is to arrive as another type.
    fn selected(&self, column: &RemoteColumn) -> Result<String> {
        self.identifier(&column.name)
    }

    /// A column on the left side of a condition.
    fn tested(&self, column: &RemoteColumn) -> Result<String> {
        self.identifier(&column.name)
    }

    /// A quoted name.
    fn identifier(&self, name: &str) -> Result<String> {
        refuse_nul(name)?;
        let quote = self.identifier_quote();
        let mut written = String::with_capacity(name.len() + 2);
        written.push(quote);
        for letter in name.chars() {
            if letter == quote {
                written.push(quote);
            }
            written.push(letter);
        }
        written.push(quote);
        Ok(written)
    }

    /// The name of a scan's table, with its schema.
    fn relation(&self, scan: &RemoteScan) -> Result<String> {
        Ok(format!("{}.{}", self.identifier(&scan.schema)?, self.identifier(&scan.table)?))
    }

    /// A number in arithmetic.
    fn number(&self, value: &Literal) -> Result<String> {
        match value {
            Literal::Int(value) => Ok(format!("({value})")),
            Literal::UInt(value) => Ok(value.to_string()),
            Literal::Decimal { unscaled, scale } => decimal(unscaled, *scale),
            Literal::Bool(_)
            | Literal::Float(_)
            | Literal::Text(_)
            | Literal::Bytes(_)
            | Literal::Date(_)
            | Literal::Timestamp { .. } => Err(cannot_write(format!("{value} as an exact number"))),
        }
    }

    /// A constant that is compared with `column`.
    fn literal(&self, value: &Literal, column: &RemoteColumn) -> Result<String> {
        match value {
            Literal::Bool(value) => Ok(self.boolean(*value).to_owned()),
            Literal::Int(value) if *value < 0 => Ok(format!("({value})")),
            Literal::Int(value) => Ok(value.to_string()),
            Literal::UInt(value) => Ok(value.to_string()),
            Literal::Float(bits) => self.float(f64::from_bits(*bits)),
            Literal::Decimal { unscaled, scale } => decimal(unscaled, *scale),
            Literal::Text(value) => self.text(value, column),
            Literal::Bytes(value) => Ok(self.bytes(value)),
            Literal::Date(days) => self.date(*days),
            Literal::Timestamp { micros, instant } => self.timestamp(*micros, *instant),
        }
    }

    /// A constant that becomes the value of `column`.
    fn assigned(&self, value: &Literal, column: &RemoteColumn) -> Result<String> {
        self.literal(value, column)
    }

    /// A truth value.
    fn boolean(&self, value: bool) -> &'static str {
        if value { "TRUE" } else { "FALSE" }
    }

    /// A string that is compared with `column`.
    fn text(&self, value: &str, _column: &RemoteColumn) -> Result<String> {
        self.string(value)
    }

    /// A string literal: quotes doubled, backslashes too where they escape; NUL is refused.
    fn string(&self, value: &str) -> Result<String> {
        let written = standard_string(value)?;
        Ok(if self.backslash_escapes() { written.replace('\\', "\\\\") } else { written })
    }

    /// A literal of bytes.
    fn bytes(&self, value: &[u8]) -> String {
        format!("X'{}'", hexadecimal(value))
    }

    /// A double precision value; NaN and infinities have no portable spelling.
    fn float(&self, value: f64) -> Result<String> {
        Ok(format!("({})", finite(value)?))
    }

    /// A date, as days since 1970-01-01.
    fn date(&self, days: i32) -> Result<String> {
        Ok(format!("DATE '{}'", date_text(days)?))
    }

    /// A timestamp in microseconds since 1970-01-01; `instant` says that it is one in UTC. The session's
    /// zone must be pinned to UTC.
    fn timestamp(&self, micros: i64, _instant: bool) -> Result<String> {
        Ok(format!("TIMESTAMP '{}'", timestamp_text(micros)?))
    }

    /// A comparison of a column with a constant; it binds tighter than AND.
    fn compared(
        &self,
        column: &RemoteColumn,
        comparison: Comparison,
        value: &Literal,
    ) -> Result<String> {
        standard_comparison(self, column, comparison, value)
    }

    /// The test that a column is, or is not, one of some constants; it binds tighter than AND.
    fn listed(&self, column: &RemoteColumn, values: &[Literal], negated: bool) -> Result<String> {
        standard_list(self, column, values, negated)
    }

    /// The test that a column has the pieces, case-sensitively; see [`meshwork_engine::remote::Predicate::Like`].
    fn like(&self, column: &RemoteColumn, pieces: &[String]) -> Result<String> {
        Ok(format!("{} {}", self.tested(column)?, self.pattern(pieces)?))
    }

    /// The test that a column begins with one of several texts, all of `length` characters, if there is one that takes less
    /// time than as many `LIKE`; it binds tighter than AND.
    fn begins(
        &self,
        _column: &RemoteColumn,
        _length: usize,
        _beginnings: &[&str],
    ) -> Result<Option<String>> {
        Ok(None)
    }

    /// `LIKE` with the pattern of the pieces.
    fn pattern(&self, pieces: &[String]) -> Result<String> {
        if !pieces.iter().any(|piece| piece.contains(['%', '_', '\\', '!'])) {
            return Ok(format!("LIKE {}", self.string(&pieces.join("%"))?));
        }
        let escaped = |piece: &String| {
            let letters = piece.chars();
            let escaped = letters.flat_map(|letter| {
                let escape = matches!(letter, '%' | '_' | '!').then_some('!');
                escape.into_iter().chain([letter])
            });
            escaped.collect::<String>()
        };
        let pattern = pieces.iter().map(escaped).collect::<Vec<_>>().join("%");
        Ok(format!("LIKE {} ESCAPE '!'", self.string(&pattern)?))
    }

    /// Bytes of the longest condition that the server reads without complaint.
    fn condition_bytes_max(&self) -> usize {
        4 << 20
    }

    /// A measure as it leaves the source: `computed` is the aggregate of the server's own type.
    ///
    /// # Errors
    /// `NotSupported` when the server has no type for it.
    fn measured(
        &self,
        _measure: &Measure,
        _columns: &[RemoteColumn],
        computed: String,
    ) -> Result<String> {
        Ok(computed)
    }

    /// One key of an order; `column` is written already.
    fn order_key(&self, column: &str, key: &OrderKey) -> String {
        let direction = if key.descending { "DESC" } else { "ASC" };
        let nulls = if key.nulls_first { "FIRST" } else { "LAST" };
        format!("{column} {direction} NULLS {nulls}")
    }

    /// The clause behind `WHERE` that ends the statement after `rows` rows.
    fn limit(&self, rows: usize) -> String {
        format!("LIMIT {rows}")
    }
}

/// Returns `column <comparison> value`.
pub fn standard_comparison<D: Dialect + ?Sized>(
    dialect: &D,
    column: &RemoteColumn,
    comparison: Comparison,
    value: &Literal,
) -> Result<String> {
    let value = dialect.literal(value, column)?;
    Ok(format!("{} {} {value}", dialect.tested(column)?, comparison.sql()))
}

/// Returns `column [NOT] IN (values)`.
pub fn standard_list<D: Dialect + ?Sized>(
    dialect: &D,
    column: &RemoteColumn,
    values: &[Literal],
    negated: bool,
) -> Result<String> {
    let write = |value: &Literal| dialect.literal(value, column);
    let values: Vec<String> = values.iter().map(write).collect::<Result<_>>()?;
    let operator = if negated { "NOT IN" } else { "IN" };
    Ok(format!("{} {operator} ({})", dialect.tested(column)?, values.join(", ")))
}

/// Returns a string literal of standard SQL: quotes doubled, backslashes as they are; NUL is refused.
pub fn standard_string(value: &str) -> Result<String> {
    refuse_nul(value)?;
    Ok(format!("'{}'", value.replace('\'', "''")))
}

/// Returns the shortest digits that read back as the same double, with an exponent so that it stays one.
pub fn finite(value: f64) -> Result<String> {
    if !value.is_finite() {
        return Err(cannot_write(format!("the float {value}")));
    }
    Ok(format!("{value:E}"))
}

/// Returns the bytes as lowercase hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut written, byte| {
        // Writing to a string cannot fail.
        write!(written, "{byte:02x}").unwrap_or_default();
        written
    })
}

/// Returns `YYYY-MM-DD`.
pub fn date_text(days: i32) -> Result<String> {
    NaiveDate::default()
        .checked_add_signed(TimeDelta::days(days.into()))
        .filter(|date| YEARS_WRITTEN.contains(&date.year()))
        .map(|date| date.format("%Y-%m-%d").to_string())
        .ok_or_else(|| cannot_write(format!("the date {days} days from 1970-01-01")))
}

/// Returns `YYYY-MM-DD HH:MM:SS.ffffff`.
pub fn timestamp_text(micros: i64) -> Result<String> {
    DateTime::from_timestamp_micros(micros)
        .filter(|instant| YEARS_WRITTEN.contains(&instant.year()))
        .map(|instant| instant.format("%Y-%m-%d %H:%M:%S%.6f").to_string())
        .ok_or_else(|| cannot_write(format!("the timestamp {micros} us from 1970-01-01")))
}

/// Returns the exact decimal in parentheses. The digits come from a plan, so they are checked, not trusted.
fn decimal(unscaled: &str, scale: i8) -> Result<String> {
    let (sign, digits) = match unscaled.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", unscaled),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(cannot_write("a decimal that is not made of digits".to_owned()));
    }
    let Ok(scale) = usize::try_from(scale) else {
        let zeros = "0".repeat(scale.unsigned_abs().into());
        return Ok(format!("({sign}{digits}{zeros})"));
    };
    if scale == 0 {
        return Ok(format!("({sign}{digits})"));
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    Ok(format!("({sign}{whole}.{fraction})"))
}

fn refuse_nul(text: &str) -> Result<()> {
    if text.contains('\0') {
        return Err(cannot_write("text with a NUL character".to_owned()));
    }
    Ok(())
}

fn cannot_write(what: String) -> Error {
    Error::not_supported(format!("{what} in a statement for a source"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Standard;
    impl Dialect for Standard {}

    #[derive(Debug)]
    struct Backslash;
    impl Dialect for Backslash {
        fn identifier_quote(&self) -> char {
            '`'
        }
        fn backslash_escapes(&self) -> bool {
            true
        }
    }

    /// Reads one quoted token as a server would; returns its value and what stands behind it.
    fn read_token(text: &str, quote: char, backslash: bool) -> Option<(String, String)> {
        let mut letters = text.strip_prefix(quote)?.chars().peekable();
        let mut value = String::new();
        loop {
            match letters.next()? {
                '\\' if backslash => value.push(letters.next()?),
                letter if letter == quote => {
                    if letters.peek() != Some(&quote) {
                        return Some((value, letters.collect()));
                    }
                    letters.next();
                    value.push(quote);
                }
                letter => value.push(letter),
            }
        }
    }

    /// All strings of up to five of the letters that have a meaning somewhere.
    fn nasty_strings() -> Vec<String> {
        let letters = ['\'', '\\', '"', '`', '%', ';', '-', 'é', '\n'];
        let mut all = vec![String::new(), r"\' OR 1=1 -- ".into(), "'; DROP TABLE t; --".into()];
        let mut longest = vec![String::new()];
        for _ in 0..5 {
            longest = longest
                .iter()
                .flat_map(|start| letters.iter().map(move |letter| format!("{start}{letter}")))
                .collect();
            all.extend(longest.iter().cloned());
        }
        all
    }

    #[test]
    fn no_string_leaves_its_literal() {
        for value in nasty_strings() {
            let dialects: [(&dyn Dialect, bool); 2] = [(&Standard, false), (&Backslash, true)];
            for (dialect, backslash) in dialects {
                let written = dialect.string(&value).unwrap();
                let read = read_token(&written, '\'', backslash);
                assert_eq!(read, Some((value.clone(), String::new())), "{written}");
                let written = dialect.identifier(&value).unwrap();
                let read = read_token(&written, dialect.identifier_quote(), false);
                assert_eq!(read, Some((value.clone(), String::new())), "{written}");
            }
        }
        assert!(Standard.string("a\0b").is_err() && Standard.identifier("a\0b").is_err());
    }

    #[test]
    fn numbers_are_exact_and_cannot_carry_text() {
        let checks = [
            ("12345", 2, "(123.45)"),
            ("-5", 3, "(-0.005)"),
            ("7", -2, "(700)"),
            ("0", 0, "(0)"),
            ("-123", 0, "(-123)"),
        ];
        for (unscaled, scale, written) in checks {
            assert_eq!(decimal(unscaled, scale).unwrap(), written);
        }
        for wrong in ["", "-", "1 OR 1=1", "1e5", "--1", "１"] {
            assert!(decimal(wrong, 0).is_err(), "{wrong}");
        }
        assert_eq!(Standard.float(-0.1).unwrap(), "(-1E-1)");
        assert!(Standard.float(f64::NAN).is_err() && Standard.float(f64::INFINITY).is_err());
    }

    #[test]
    fn dates_outside_four_digit_years_are_refused() {
        assert_eq!(Standard.date(0).unwrap(), "DATE '1970-01-01'");
        assert_eq!(Standard.date(-1).unwrap(), "DATE '1969-12-31'");
        assert!(Standard.date(i32::MAX).is_err() && Standard.date(-800_000).is_err());
        let text = Standard.timestamp(-1, true).unwrap();
        assert_eq!(text, "TIMESTAMP '1969-12-31 23:59:59.999999'");
        assert!(Standard.timestamp(i64::MAX, false).is_err());
    }
}
