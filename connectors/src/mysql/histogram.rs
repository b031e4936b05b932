//! What MariaDB and MySQL keep of a column that was analysed, as our statistics.
//!
//! ```text
//! MariaDB, JSON_HB                 {"histogram_hb": [{"start": "1", "size": 0.1, "ndv": 7, "end": ...}, ...]}
//! MariaDB, SINGLE/DOUBLE_PREC_HB   0.02,0.11,...: widths of parts of equal size, between least and greatest
//! MySQL, singleton                 {"buckets": [[value, fraction up to here], ...], "null-values": 0.1}
//! MySQL, equi-height               {"buckets": [[first, last, fraction up to here, distinct], ...], ...}
//! ```

use arrow::datatypes::DataType;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{Datelike, NaiveDate, TimeDelta};
use meshwork_engine::remote::Literal;
use meshwork_engine::statistics::{Bound, ColumnStatistics, Common, literal_of_text};
use serde_json::Value;

/// One column of `mysql.column_stats`.
#[derive(Debug, Default)]
pub(super) struct Analysed {
    pub min: Option<String>,
    pub max: Option<String>,
    /// Of all rows.
    pub null_fraction: Option<f64>,
    pub average_bytes: Option<f64>,
    /// Rows other than NULL.
    pub rows_per_value: Option<f64>,
    /// JSON, or widths with commas.
    pub histogram: Option<String>,
}

/// Returns what MariaDB found of a column of a table with `n_rows` rows.
pub(super) fn of_mariadb(
    analysed: &Analysed,
    data_type: &DataType,
    n_rows: f64,
) -> ColumnStatistics {
    let filled = 1.0 - analysed.null_fraction.unwrap_or(0.0);
    let end = |text: &Option<String>| literal_of_text(text.as_ref()?, data_type);
    let mut column = ColumnStatistics {
        null_fraction: analysed.null_fraction,
        average_bytes: analysed.average_bytes,
        n_distinct: analysed
            .rows_per_value
            .filter(|rows| *rows > 0.0)
            .map(|rows| (n_rows * filled / rows).max(1.0)),
        min: end(&analysed.min),
        max: end(&analysed.max),
        ..ColumnStatistics::default()
    };
    let text = analysed.histogram.as_deref().unwrap_or_default();
    if let Ok(json) = serde_json::from_str::<Value>(text) {
        let parts = json.get("histogram_hb").and_then(Value::as_array);
        fill_from_json(&mut column, parts.map_or(&[], Vec::as_slice), data_type, filled);
    } else if let (Some(min), Some(max)) = (&column.min, &column.max)
        && let Some(places) = by_widths(text, min, max)
    {
        let (common, bounds) = apart(&places);
        let common = common.into_iter();
        column.common =
            common.map(|(value, share)| Common { value, fraction: share * filled }).collect();
        column.bounds = bounds;
    }
    column
}

/// A part with one value is a common one; the others follow each other.
fn fill_from_json(
    column: &mut ColumnStatistics,
    parts: &[Value],
    data_type: &DataType,
    filled: f64,
) {
    let value = |part: &Value, key| literal_of_text(part.get(key)?.as_str()?, data_type);
    let number = |part: &Value, key| part.get(key).and_then(Value::as_f64);
    let (mut places, mut below) = (Vec::new(), 0.0);
    for part in parts {
        let (Some(start), Some(size)) = (value(part, "start"), number(part, "size")) else {
            return;
        };
        if number(part, "ndv") == Some(1.0) {
            column.common.push(Common { value: start.clone(), fraction: size * filled });
            places.push((start, below));
        } else {
            places.push((start, below));
            below += size;
        }
        if let Some(end) = value(part, "end") {
            places.push((end, below));
        }
    }
    // The greatest value ends the last part, which need not say so.
    if let Some(max) = column.max.clone() {
        places.push((max, below));
    }
    column.bounds = rising(places, below);
}

/// MySQL's fractions are of all rows, NULLs included.
pub(super) fn of_mysql(text: &str, data_type: &DataType, n_rows: f64) -> Option<ColumnStatistics> {
    let json: Value = serde_json::from_str(text).ok()?;
    let buckets = json.get("buckets")?.as_array()?;
    let mut column = ColumnStatistics {
        null_fraction: json.get("null-values").and_then(Value::as_f64),
        ..ColumnStatistics::default()
    };
    let (mut places, mut up_to, mut n_distinct) = (Vec::new(), 0.0, 0.0);
    for bucket in buckets {
        match bucket.as_array()?.as_slice() {
            [value, fraction] => {
                let value = mysql_value(value, data_type)?;
                let fraction_up_to = fraction.as_f64()?;
                column.common.push(Common { value, fraction: fraction_up_to - up_to });
                (up_to, n_distinct) = (fraction_up_to, n_distinct + 1.0);
            }
            [first, last, fraction, distinct] => {
                places.push((mysql_value(first, data_type)?, up_to));
                up_to = fraction.as_f64()?;
                places.push((mysql_value(last, data_type)?, up_to));
                n_distinct += distinct.as_f64()?;
            }
            _ => return None,
        }
    }
    let common = column.common.iter().map(|common| &common.value);
    let all: Vec<&Literal> = common.chain(places.iter().map(|(value, _)| value)).collect();
    let (min, max) = (all.first().copied().cloned(), all.last().copied().cloned());
    (column.min, column.max) = (min, max);
    column.n_distinct = Some(n_distinct.min(n_rows).max(1.0));
    column.bounds = rising(places, up_to);
    Some(column)
}

/// Numbers stand as they are; dates are texts; texts say how they are packed.
fn mysql_value(value: &Value, data_type: &DataType) -> Option<Literal> {
    match value {
        Value::Number(number) => literal_of_text(&number.to_string(), data_type),
        Value::String(text) => match text.strip_prefix("base64:") {
            Some(packed) => {
                let (_type, packed) = packed.split_once(':')?;
                let text = String::from_utf8(STANDARD.decode(packed).ok()?).ok()?;
                literal_of_text(&text, data_type)
            }
            None if *data_type == DataType::Date32 => {
                literal_of_text(text.split(' ').next()?, data_type)
            }
            None => literal_of_text(text, data_type),
        },
        // Nothing else stands for a value.
        _ => None,
    }
}

/// Returns places as bounds: fractions of the whole.
fn rising(places: Vec<(Literal, f64)>, whole: f64) -> Vec<Bound> {
    if whole <= 0.0 || places.len() < 2 {
        return Vec::new();
    }
    let bound = |(value, below): (Literal, f64)| Bound { value, below: (below / whole).min(1.0) };
    places.into_iter().map(bound).collect()
}

/// Returns the values that fill whole parts of equal size, each with its share, and the bounds of the others.
fn apart(places: &[Literal]) -> (Vec<(Literal, f64)>, Vec<Bound>) {
    let part = 1.0 / (places.len() - 1) as f64;
    let (mut common, mut others, mut below) = (Vec::new(), Vec::new(), 0.0);
    for (place, pair) in places.windows(2).enumerate() {
        let [from, to] = pair else { continue };
        if place == 0 || from != to {
            others.push((from.clone(), below));
        }
        match common.last_mut() {
            _ if from != to => below += part,
            Some((value, share)) if value == from => *share += part,
            _ => common.push((from.clone(), part)),
        }
    }
    others.extend(places.last().map(|last| (last.clone(), below)));
    (common, rising(others, below))
}

/// Returns the ends of parts of equal size, whose widths are fractions of the way from `min` to `max`.
fn by_widths(text: &str, min: &Literal, max: &Literal) -> Option<Vec<Literal>> {
    let widths: Vec<f64> =
        text.split(',').map(|width| width.trim().parse().ok()).collect::<Option<_>>()?;
    let (mut places, mut way) = (vec![min.clone()], 0.0);
    for width in widths {
        way += width;
        places.push(if way >= 1.0 { max.clone() } else { between(min, max, way)? });
    }
    Some(places)
}

/// Returns the value at this part of the way; of texts nobody knows it.
fn between(min: &Literal, max: &Literal, way: f64) -> Option<Literal> {
    let at = |min: f64, max: f64| min + (max - min) * way;
    match (min, max) {
        (Literal::Int(min), Literal::Int(max)) => {
            Some(Literal::Int(at(*min as f64, *max as f64).round() as i64))
        }
        (Literal::UInt(min), Literal::UInt(max)) => {
            Some(Literal::UInt(at(*min as f64, *max as f64).round() as u64))
        }
        (Literal::Float(min), Literal::Float(max)) => {
            Some(Literal::Float(at(f64::from_bits(*min), f64::from_bits(*max)).to_bits()))
        }
        (
            Literal::Decimal { unscaled: min, scale },
            Literal::Decimal { unscaled: max, scale: other },
        ) if scale == other => {
            let unscaled = at(min.parse().ok()?, max.parse().ok()?).round();
            Some(Literal::Decimal { unscaled: format!("{unscaled:.0}"), scale: *scale })
        }
        (Literal::Date(min), Literal::Date(max)) => {
            // The server measures dates as numbers of the form 20240131.
            date_of(at(number_of(*min)?, number_of(*max)?))
        }
        // Texts, and times in a zone that is not known.
        _ => None,
    }
}

fn number_of(days: i32) -> Option<f64> {
    let date = NaiveDate::default().checked_add_signed(TimeDelta::days(days.into()))?;
    Some(f64::from(date.year()) * 10_000.0 + f64::from(date.month() * 100 + date.day()))
}

/// Most numbers in between are no dates: the nearest one before is meant.
fn date_of(number: f64) -> Option<Literal> {
    let number = number as i64;
    let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100);
    // 20240099 lies behind the last day of the year before.
    let (month, day) = match month {
        0 => (1, 1),
        1..=12 => (month, day.clamp(1, 31)),
        _ => (12, 31),
    };
    let (year, month) = (i32::try_from(year).ok()?, u32::try_from(month).ok()?);
    let day = u32::try_from(day).ok()?;
    let date = (1..=day).rev().find_map(|day| NaiveDate::from_ymd_opt(year, month, day))?;
    let days = date.signed_duration_since(NaiveDate::default()).num_days();
    i32::try_from(days).ok().map(Literal::Date)
}

/// Returns an integer of either sign.
pub(super) fn integer(value: i128) -> Option<Literal> {
    match i64::try_from(value) {
        Ok(value) => Some(Literal::Int(value)),
        Err(_beyond) => u64::try_from(value).ok().map(Literal::UInt),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_of_mariadb_in_json_are_read() {
        let text = r#"{"target_histogram_size": 4, "collected_by": "10.11", "histogram_hb": [
            {"start": "1", "size": 0.25, "ndv": 10}, {"start": "11", "size": 0.5, "ndv": 1},
            {"start": "12", "size": 0.25, "ndv": 10, "end": "40"}]}"#;
        let analysed = Analysed {
            min: Some("1".into()),
            max: Some("40".into()),
            null_fraction: Some(0.5),
            rows_per_value: Some(2.0),
            histogram: Some(text.into()),
            ..Analysed::default()
        };
        let column = of_mariadb(&analysed, &DataType::Int32, 100.0);
        assert_eq!(column.n_distinct, Some(25.0));
        assert_eq!(column.common, [Common { value: Literal::Int(11), fraction: 0.25 }]);
        let bounds: Vec<_> =
            column.bounds.iter().map(|bound| (&bound.value, bound.below)).collect();
        let int = |value| Literal::Int(value);
        assert_eq!(
            bounds,
            [(&int(1), 0.0), (&int(11), 0.5), (&int(12), 0.5), (&int(40), 1.0), (&int(40), 1.0)]
        );
    }

    #[test]
    fn histograms_of_mariadb_by_widths_are_read() {
        let analysed = Analysed {
            min: Some("0".into()),
            max: Some("100".into()),
            histogram: Some("0.10,0.10,0.30,0.50".into()),
            ..Analysed::default()
        };
        let column = of_mariadb(&analysed, &DataType::Int32, 100.0);
        let values: Vec<_> = column.bounds.iter().map(|bound| bound.value.clone()).collect();
        assert_eq!(values, [0, 10, 20, 50, 100].map(Literal::Int));
        assert_eq!(column.bounds[2].below, 0.5);
        let text = Analysed { min: Some("a".into()), max: Some("z".into()), ..analysed };
        assert!(of_mariadb(&text, &DataType::Utf8, 100.0).bounds.is_empty());
    }

    #[test]
    fn a_value_of_whole_parts_is_common() {
        let analysed = Analysed {
            min: Some("0".into()),
            max: Some("10".into()),
            null_fraction: Some(0.5),
            histogram: Some("0.0,0.3,0.0,0.0,0.7".into()),
            ..Analysed::default()
        };
        let column = of_mariadb(&analysed, &DataType::Int32, 100.0);
        let common: Vec<_> = column.common.iter().map(|c| (&c.value, c.fraction)).collect();
        assert_eq!(common, [(&Literal::Int(0), 0.1), (&Literal::Int(3), 0.2)]);
        let bounds: Vec<_> = column.bounds.iter().map(|b| (&b.value, b.below)).collect();
        let (low, middle, high) = (Literal::Int(0), Literal::Int(3), Literal::Int(10));
        assert_eq!(bounds, [(&low, 0.0), (&low, 0.0), (&middle, 0.5), (&high, 1.0)]);
    }

    #[test]
    fn dates_are_measured_as_the_server_does() {
        let day = |text: &str| literal_of_text(text, &DataType::Date32).unwrap();
        let at = |way| between(&day("2020-01-01"), &day("2021-01-01"), way).unwrap();
        assert_eq!(at(0.0), day("2020-01-01"));
        assert_eq!(at(0.06305), day("2020-07-31"));
        assert_eq!(at(0.9), day("2020-12-31"));
    }

    #[test]
    fn histograms_of_mysql_are_read() {
        let singleton = r#"{"buckets": [["base64:type254:YQ==", 0.3], ["base64:type254:Yg==", 0.9]],
            "data-type": "string", "null-values": 0.1, "histogram-type": "singleton"}"#;
        let column = of_mysql(singleton, &DataType::Utf8, 10.0).unwrap();
        assert_eq!(column.n_distinct, Some(2.0));
        assert_eq!(column.common[1].value, Literal::Text("b".into()));
        assert!((column.common[1].fraction - 0.6).abs() < 1e-9);
        assert_eq!(column.max, Some(Literal::Text("b".into())));
        let heights = r#"{"buckets": [[1, 10, 0.5, 10], [20, 30, 1.0, 5]], "null-values": 0.0,
            "histogram-type": "equi-height"}"#;
        let column = of_mysql(heights, &DataType::Int64, 1000.0).unwrap();
        assert_eq!((column.n_distinct, column.bounds.len()), (Some(15.0), 4));
        assert_eq!((column.min, column.max), (Some(Literal::Int(1)), Some(Literal::Int(30))));
        assert_eq!(of_mysql("{}", &DataType::Int64, 1.0), None);
    }
}
