//! What MySQL and MariaDB are asked to filter, and how it is said.
//!
//! Text is compared by bytes, see [`text`]. Dates that no calendar has compare there and are NULL here, so filters on dates
//! are checked again.

use arrow::datatypes::DataType;
use meshwork_engine::connector::Outcome;
use meshwork_engine::remote::{
    Comparison, Function, Literal, Measure, OrderKey, Reason, ReasonCode, RemoteColumn, Value,
};
use meshwork_engine::{Error, Result};

use super::text;
use super::types::{Detail, is_date};
use crate::relational::negotiate::{own_rules, refused};
use crate::relational::{
    Agreement, Dialect, Rules, Test, hexadecimal, standard_comparison, standard_list,
    standard_string,
};

/// Digits that MySQL reads in one decimal literal.
const DECIMAL_DIGITS_MAX: usize = 65;

/// Digits behind the point of the result of any arithmetic; MariaDB has a few more.
const DECIMAL_SCALE_MAX: i8 = 30;

/// Digits of values whose sums have room: a sum has 65, and one that needs more is the greatest number of 65, silently. More
/// than 10^20 rows nobody adds up.
const SUMMED_DIGITS_MAX: u8 = 45;

/// What a `YEAR` is compared with as it is written; smaller numbers would be taken for two-digit years.
const YEARS: std::ops::RangeInclusive<i64> = 1901..=2155;

/// What every server's `TIMESTAMP` can hold: 1970-01-01 00:00:01 to 2038-01-19 03:14:07, in microseconds.
const INSTANTS: std::ops::RangeInclusive<i64> = 1_000_000..=2_147_483_647_000_000;

/// How MySQL and MariaDB spell names and values in a session that is pinned (see `options::pin_session`):
/// `NO_BACKSLASH_ESCAPES` is on, so that a string ends at its quote.
#[derive(Debug)]
pub(super) struct MySql;

impl Dialect for MySql {
    fn identifier_quote(&self) -> char {
        '`'
    }

    /// The driver looks for `:name` and `?` outside of strings before it sends a statement, and to it a
    /// backslash escapes the quote behind it, whatever the session says. So no string has a backslash. The
    /// server takes both spellings alike: same collation and coercibility, same indexes.
    fn string(&self, value: &str) -> Result<String> {
        let written = standard_string(value)?;
        Ok(match value.contains('\\') {
            true => format!("_utf8mb4 X'{}'", hexadecimal(value.as_bytes())),
            false => written,
        })
    }

    fn compared(
        &self,
        column: &RemoteColumn,
        comparison: Comparison,
        value: &Literal,
    ) -> Result<String> {
        match text::compared(column, comparison, value)? {
            Some(written) => Ok(written),
            None => standard_comparison(self, column, comparison, value),
        }
    }

    fn listed(&self, column: &RemoteColumn, values: &[Literal], negated: bool) -> Result<String> {
        match text::listed(column, values, negated)? {
            Some(written) => Ok(written),
            None => standard_list(self, column, values, negated),
        }
    }

    fn like(&self, column: &RemoteColumn, pieces: &[String]) -> Result<String> {
        text::like(column, pieces)
    }

    /// Sums arrive as decimals of as many digits as they need; arithmetic of more is cut there silently.
    fn measured(
        &self,
        measure: &Measure,
        _columns: &[RemoteColumn],
        computed: String,
    ) -> Result<String> {
        let fits = |argument: &Value| match argument {
            Value::Arithmetic { data_type, .. } if measure.function == Function::Sum => {
                is_summed(data_type) && has_room(argument)
            }
            _ => has_room(argument),
        };
        match measure.argument.as_ref().is_none_or(fits) {
            true => Ok(computed),
            false => Err(Error::not_supported("arithmetic of so many digits at the source")),
        }
    }

    /// NULLs are the least values there and nothing says otherwise, so they are a key of their own.
    fn order_key(&self, column: &str, key: &OrderKey) -> String {
        let direction = if key.descending { "DESC" } else { "ASC" };
        match key.nulls_first == key.descending {
            false => format!("{column} {direction}"),
            true => {
                let nulls = if key.nulls_first { "DESC" } else { "ASC" };
                format!("{column} IS NULL {nulls}, {column} {direction}")
            }
        }
    }
}

impl Rules for MySql {
    fn test(&self, column: &RemoteColumn, test: Test<'_>) -> Outcome {
        tested(column, test)
    }

    fn groups(&self, column: &RemoteColumn) -> Agreement {
        number(column)
    }

    fn orders(&self, column: &RemoteColumn) -> Agreement {
        number(column)
    }

    fn sums(&self, column: &RemoteColumn) -> Agreement {
        match Detail::of(column).base.as_str() {
            "year" => Err(own_rules(column)),
            _ if !is_summed(&column.data_type) => {
                let RemoteColumn { name, remote_type, .. } = column;
                let message =
                    format!("a sum of column {name} of type {remote_type} may be cut there");
                Err(Reason::new(ReasonCode::Size, message))
            }
            _ => number(column),
        }
    }
}

/// Whether a sum of values of the type has room there.
fn is_summed(data_type: &DataType) -> bool {
    match data_type {
        DataType::Decimal128(digits, _) | DataType::Decimal256(digits, _) => {
            *digits <= SUMMED_DIGITS_MAX
        }
        _ => true,
    }
}

/// Whether every intermediate result of a value has as many digits there as here.
fn has_room(value: &Value) -> bool {
    match value {
        Value::Column(_) | Value::Literal(_) => true,
        Value::Arithmetic { left, right, data_type, operation: _ } => {
            let fits = match data_type {
                DataType::Decimal128(digits, scale) | DataType::Decimal256(digits, scale) => {
                    usize::from(*digits) <= DECIMAL_DIGITS_MAX && *scale <= DECIMAL_SCALE_MAX
                }
                // Arithmetic is over decimals only.
                _ => false,
            };
            fits && has_room(left) && has_room(right)
        }
    }
}

/// Whole numbers and decimals are the same on both sides; hardly anything else is.
fn number(column: &RemoteColumn) -> Agreement {
    let detail = Detail::of(column);
    match detail.base.as_str() {
        "tinyint" | "smallint" | "mediumint" | "int" | "integer" | "bigint" | "decimal"
        | "numeric" | "year" => Ok(()),
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
            Err(text::collated(column, &detail))
        }
        "float" | "double" | "real" => {
            let message = "zeros and sums of floats differ there";
            Err(Reason::new(ReasonCode::Float, message))
        }
        "date" | "datetime" | "timestamp" => {
            let message = "dates that no calendar has are values there and NULL here";
            Err(Reason::new(ReasonCode::Null, message))
        }
        _ => Err(own_rules(column)),
    }
}

/// Answers one test of one column.
fn tested(column: &RemoteColumn, test: Test<'_>) -> Outcome {
    if matches!(test, Test::Null) {
        // There, a zero date in a column that is NOT NULL passes IS NULL as well.
        return match is_date(&column.remote_type) {
            true => refused(ReasonCode::Null, "a zero date may or may not be NULL there"),
            false => Outcome::Exact,
        };
    }
    let detail = Detail::of(column);
    match detail.base.as_str() {
        "tinyint" | "smallint" | "mediumint" | "int" | "integer" | "bigint" => {
            exact_if(all(test, |value| matches!(value, Literal::Int(_) | Literal::UInt(_))))
        }
        "decimal" | "numeric" => exact_if(all(test, is_decimal)),
        "year" => exact_if(all(test, is_year)),
        "double" | "real" => match test.is_range() && all(test, is_plain_float) {
            true => Outcome::Inexact,
            false => refused(ReasonCode::Float, "only ranges of doubles are compared alike"),
        },
        "float" => refused(ReasonCode::Float, "MySQL compares FLOAT after widening it"),
        "date" => inexact_if(all(test, |value| matches!(value, Literal::Date(_)))),
        "datetime" => inexact_if(all(test, |value| {
            matches!(value, Literal::Timestamp { instant: false, .. })
        })),
        "timestamp" => inexact_if(all(test, is_instant)),
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
            text::tested(column, &detail, test)
        }
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
            match test.is_equality() {
                true => inexact_if(all(test, |value| matches!(value, Literal::Bytes(_)))),
                false => Outcome::Refused(own_rules(column)),
            }
        }
        _ => Outcome::Refused(own_rules(column)),
    }
}

fn all(test: Test<'_>, accepts: impl Fn(&Literal) -> bool) -> bool {
    !matches!(test, Test::Like(_)) && test.values().iter().all(accepts)
}

fn is_decimal(value: &Literal) -> bool {
    // Floats are no decimals, whatever they look like.
    match value {
        Literal::Int(_) | Literal::UInt(_) => true,
        Literal::Decimal { unscaled, scale } => {
            let zeros = usize::from(scale.unsigned_abs());
            unscaled.len() + zeros <= DECIMAL_DIGITS_MAX
        }
        _ => false,
    }
}

fn is_year(value: &Literal) -> bool {
    // Nothing else is a year.
    match value {
        Literal::Int(year) => YEARS.contains(year),
        Literal::UInt(year) => i64::try_from(*year).is_ok_and(|year| YEARS.contains(&year)),
        _ => false,
    }
}

/// The sign of zero orders here and not there; NaN and infinities do not exist there.
fn is_plain_float(value: &Literal) -> bool {
    matches!(value, Literal::Float(bits) if f64::from_bits(*bits).is_normal())
}

fn is_instant(value: &Literal) -> bool {
    matches!(value, Literal::Timestamp { micros, instant: true } if INSTANTS.contains(micros))
}

fn exact_if(known: bool) -> Outcome {
    if known { Outcome::Exact } else { of_another_type() }
}

fn inexact_if(known: bool) -> Outcome {
    if known { Outcome::Inexact } else { of_another_type() }
}

fn of_another_type() -> Outcome {
    refused(ReasonCode::Literal, "the value is none of the column's type there")
}

#[cfg(test)]
mod tests {
    use meshwork_engine::remote::Comparison;
    use serde_json::json;

    use super::*;

    fn column(base: &str, data_type: DataType, charset: Option<&str>) -> RemoteColumn {
        let charset = charset.map(str::to_owned);
        let detail = Detail { base: base.into(), charset, ..Detail::default() };
        RemoteColumn {
            name: "c".into(),
            data_type,
            nullable: true,
            remote_type: base.into(),
            detail: json!(detail),
        }
    }

    fn answer(column: &RemoteColumn, comparison: Comparison, value: &Literal) -> Outcome {
        tested(column, Test::Compare(comparison, value))
    }

    fn is_refused(outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Refused(_))
    }

    #[test]
    fn the_driver_finds_no_parameter_in_a_string() {
        assert_eq!(MySql.string("a:b ? ''").unwrap(), "'a:b ? '''''");
        assert_eq!(MySql.string("C:\\").unwrap(), "_utf8mb4 X'433a5c'");
        assert!(MySql.string("\\\0").is_err());
    }

    #[test]
    fn numbers_are_exact_and_floats_are_not() {
        let int = column("int", DataType::Int32, None);
        assert_eq!(answer(&int, Comparison::Less, &Literal::Int(-1)), Outcome::Exact);
        assert!(is_refused(&answer(&int, Comparison::Less, &Literal::Text("1".into()))));
        let float = column("float", DataType::Float32, None);
        assert!(is_refused(&answer(&float, Comparison::Less, &Literal::Float(1))));
        let double = column("double", DataType::Float64, None);
        let bits = |value: f64| Literal::Float(value.to_bits());
        assert_eq!(answer(&double, Comparison::Less, &bits(1.5)), Outcome::Inexact);
        for value in [0.0, -0.0, f64::NAN, f64::INFINITY] {
            assert!(is_refused(&answer(&double, Comparison::Less, &bits(value))));
        }
        let year = column("year", DataType::Int16, None);
        assert_eq!(answer(&year, Comparison::Equal, &Literal::Int(2001)), Outcome::Exact);
        assert!(is_refused(&answer(&year, Comparison::Equal, &Literal::Int(5))));
    }

    #[test]
    fn a_sum_that_may_be_cut_is_made_here() {
        assert!(MySql.sums(&column("decimal", DataType::Decimal128(38, 10), None)).is_ok());
        let wide = MySql.sums(&column("decimal", DataType::Decimal256(65, 30), None));
        assert_eq!(wide.unwrap_err().code, ReasonCode::Size);
    }

    #[test]
    fn dates_are_checked_again_because_of_zero_dates() {
        let date = column("date", DataType::Date32, None);
        assert_eq!(answer(&date, Comparison::Less, &Literal::Date(0)), Outcome::Inexact);
        assert!(is_refused(&tested(&date, Test::Null)));
    }
}
