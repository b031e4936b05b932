//! What a Flight SQL server is asked to do, and how it is said.
//!
//! Another Meshwork has the engine's own operators: whatever can be written exactly goes there. Of a stranger only that
//! is believed which no SQL database does otherwise: whole numbers, NULL, and that the same bytes are the same text.

use arrow::datatypes::{DataType, TimeUnit};
use meshwork_engine::connector::{Outcome, Pushdown};
use meshwork_engine::remote::{
    Literal, Measure, Reason, ReasonCode, RemoteColumn, RemoteScan, Value,
};
use meshwork_engine::{Error, Result};

use super::peer::Detail;
use crate::relational::negotiate::{self, own_rules, refused};
use crate::relational::{
    Agreement, Dialect, Rules, Test, date_text, finite, standard_string, timestamp_text,
};

/// How one server spells names and values.
#[derive(Debug)]
pub(super) struct Sql(pub(super) Detail);

impl Sql {
    pub(super) fn of(scan: &RemoteScan) -> Self {
        Self(Detail::of(scan))
    }
}

impl Dialect for Sql {
    fn identifier_quote(&self) -> char {
        self.0.peer.quote
    }

    /// The table with all names that it has there.
    fn relation(&self, scan: &RemoteScan) -> Result<String> {
        relation(&Detail::of(scan), &scan.table)
    }

    /// Only a Meshwork is asked for these types, and it takes them by their exact names.
    fn literal(&self, value: &Literal, column: &RemoteColumn) -> Result<String> {
        let cast = |text: &str| format!("arrow_cast('{text}', '{}')", column.data_type);
        match value {
            Literal::Bool(value) => Ok(self.boolean(*value).to_owned()),
            Literal::Int(value) if *value < 0 => Ok(format!("({value})")),
            Literal::Int(value) => Ok(value.to_string()),
            Literal::UInt(value) => Ok(value.to_string()),
            Literal::Text(value) => self.string(value),
            Literal::Bytes(value) => Ok(self.bytes(value)),
            Literal::Date(days) => Ok(format!("DATE '{}'", date_text(*days)?)),
            Literal::Float(bits) => Ok(cast(&float_text(f64::from_bits(*bits))?)),
            Literal::Decimal { unscaled, scale } => Ok(cast(&decimal_text(unscaled, *scale)?)),
            Literal::Timestamp { micros, instant } => {
                let zone = if *instant { "+00:00" } else { "" };
                Ok(cast(&format!("{}{zone}", timestamp_text(*micros)?)))
            }
        }
    }

    /// The engine's own escape.
    fn pattern(&self, pieces: &[String]) -> Result<String> {
        let escaped = |piece: &String| {
            let letters = piece.chars();
            let escaped = letters.flat_map(|letter| {
                let escape = matches!(letter, '%' | '_' | '\\').then_some('\\');
                escape.into_iter().chain([letter])
            });
            escaped.collect::<String>()
        };
        let pattern = pieces.iter().map(escaped).collect::<Vec<_>>().join("%");
        Ok(format!("LIKE {}", standard_string(&pattern)?))
    }

    /// Arithmetic would have the type that the server gives its constants.
    fn measured(
        &self,
        measure: &Measure,
        _columns: &[RemoteColumn],
        computed: String,
    ) -> Result<String> {
        match &measure.argument {
            Some(Value::Arithmetic { .. } | Value::Literal(_)) => {
                Err(Error::not_supported("arithmetic in a statement for a Flight SQL server"))
            }
            Some(Value::Column(_)) | None => Ok(computed),
        }
    }
}

/// Returns a table with all names that it has there.
pub(super) fn relation(detail: &Detail, table: &str) -> Result<String> {
    let sql = Sql(detail.clone());
    let names = [detail.catalog.as_deref(), detail.schema.as_deref(), Some(table)];
    let names = names.into_iter().flatten().map(|name| sql.identifier(name));
    Ok(names.collect::<Result<Vec<_>>>()?.join("."))
}

fn float_text(value: f64) -> Result<String> {
    match value {
        value if value.is_nan() && value.to_bits() == f64::NAN.to_bits() => Ok("NaN".to_owned()),
        f64::INFINITY => Ok("inf".to_owned()),
        f64::NEG_INFINITY => Ok("-inf".to_owned()),
        other => finite(other),
    }
}

fn decimal_text(unscaled: &str, scale: i8) -> Result<String> {
    let (sign, digits) = unscaled.strip_prefix('-').map_or(("", unscaled), |digits| ("-", digits));
    let places = usize::try_from(scale).ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()));
    let places =
        places.ok_or_else(|| Error::not_supported("such a decimal in a statement for a source"))?;
    let padded = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = padded.split_at(padded.len() - places);
    Ok(if places == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

/// Answers what is offered for a scan.
pub(super) fn answer(scan: &RemoteScan, offer: Pushdown<'_>) -> Outcome {
    let sql = Sql::of(scan);
    if matches!(offer, Pushdown::Join(_)) && !sql.0.peer.is_meshwork {
        return refused(ReasonCode::Source, "joins are left to servers that are known");
    }
    negotiate::answer(&sql, scan, offer, &sql)
}

impl Rules for Sql {
    fn test(&self, column: &RemoteColumn, test: Test<'_>) -> Outcome {
        match (test, Detail::of_column(column).peer.is_meshwork) {
            (Test::Null, _) => Outcome::Exact,
            (test, true) => of_meshwork(column, test),
            (test, false) => of_stranger(column, test),
        }
    }

    fn groups(&self, column: &RemoteColumn) -> Agreement {
        let is_plain = match Detail::of_column(column).peer.is_meshwork {
            true => is_compared(&column.data_type),
            false => column.data_type.is_integer(),
        };
        if is_plain { Ok(()) } else { Err(own_rules(column)) }
    }

    fn orders(&self, column: &RemoteColumn) -> Agreement {
        let is_plain = Detail::of_column(column).peer.is_meshwork && is_compared(&column.data_type);
        if is_plain { Ok(()) } else { Err(own_rules(column)) }
    }

    fn extremes(&self, column: &RemoteColumn) -> Agreement {
        let data_type = &column.data_type;
        let is_plain = match Detail::of_column(column).peer.is_meshwork {
            true => {
                data_type.is_integer()
                    || data_type.is_decimal()
                    || data_type.is_temporal()
                    || *data_type == DataType::Utf8
            }
            false => data_type.is_integer(),
        };
        if is_plain { Ok(()) } else { Err(own_rules(column)) }
    }

    fn sums(&self, column: &RemoteColumn) -> Agreement {
        let is_meshwork = Detail::of_column(column).peer.is_meshwork;
        if column.data_type.is_floating() {
            let message = "a sum of floats depends on their order";
            return Err(Reason::new(ReasonCode::Float, message));
        }
        match is_meshwork && (column.data_type.is_integer() || column.data_type.is_decimal()) {
            true => Ok(()),
            // A stranger may add in 64 bits, or in floats.
            false => Err(own_rules(column)),
        }
    }
}

/// Whether a Meshwork compares values of the type as the engine does, and the type travels as it is.
fn is_compared(data_type: &DataType) -> bool {
    // Intervals, lists and structs are not.
    match data_type {
        DataType::Boolean | DataType::Utf8 | DataType::Binary | DataType::Date32 => true,
        DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_) => true,
        other => other.is_integer() || other.is_floating() || other.is_decimal(),
    }
}

fn of_meshwork(column: &RemoteColumn, test: Test<'_>) -> Outcome {
    if matches!(test, Test::Like(_)) {
        return match column.data_type == DataType::Utf8 {
            true => Outcome::Exact,
            false => refused(ReasonCode::Type, "LIKE needs a column of text"),
        };
    }
    match test.values().iter().all(|value| fits(value, &column.data_type)) {
        true => Outcome::Exact,
        false => {
            let message = format!("a literal is of another type than {}", column.remote_type);
            refused(ReasonCode::Literal, &message)
        }
    }
}

/// Whether the literal is written as a constant of exactly that type.
fn fits(value: &Literal, data_type: &DataType) -> bool {
    match value {
        Literal::Bool(_) => *data_type == DataType::Boolean,
        Literal::Int(_) | Literal::UInt(_) => data_type.is_integer(),
        Literal::Float(bits) => {
            let value = f64::from_bits(*bits);
            // There are many NaNs, of which one has a name.
            let has_text = !value.is_nan() || *bits == f64::NAN.to_bits();
            has_text && matches!(data_type, DataType::Float32 | DataType::Float64)
        }
        Literal::Decimal { scale, .. } => match data_type {
            DataType::Decimal128(_, of_column) | DataType::Decimal256(_, of_column) => {
                scale == of_column
            }
            _ => false,
        },
        Literal::Text(_) => *data_type == DataType::Utf8,
        Literal::Bytes(_) => *data_type == DataType::Binary,
        Literal::Date(_) => *data_type == DataType::Date32,
        Literal::Timestamp { instant, .. } => match data_type {
            DataType::Timestamp(TimeUnit::Microsecond, zone) => zone.is_some() == *instant,
            _ => false,
        },
    }
}

fn of_stranger(column: &RemoteColumn, test: Test<'_>) -> Outcome {
    let is_whole = |value: &Literal| matches!(value, Literal::Int(_) | Literal::UInt(_));
    // Letters that every character set has, and that begin no escape.
    let is_plain = |value: &Literal| match value {
        Literal::Text(text) => {
            text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'\\')
        }
        _other => false,
    };
    let (is_number, is_text) = (column.data_type.is_integer(), column.data_type == DataType::Utf8);
    match test {
        Test::Compare(..) | Test::In(_) | Test::NotIn(_)
            if is_number && test.values().iter().all(is_whole) =>
        {
            Outcome::Exact
        }
        // Under every collation the same bytes are equal.
        Test::Compare(..) | Test::In(_)
            if is_text && test.is_equality() && test.values().iter().all(is_plain) =>
        {
            Outcome::Inexact
        }
        Test::Compare(..) | Test::In(_) | Test::NotIn(_) | Test::Like(_) | Test::Null => {
            Outcome::Refused(own_rules(column))
        }
    }
}
