//! Filters that become parameters of a request, by the manifest's rules and by nothing else.

use std::collections::BTreeSet;

use chrono::DateTime;
use meshwork_engine::connector::Outcome;
use meshwork_engine::remote::{Comparison, Literal, Predicate, Reason, ReasonCode, RemoteScan};

use super::columns::ColumnType;
use super::manifest::{InStyle, Op, TimeFormat};
use super::spec::{Rule, Table, Target};

/// Values of the longest list in a request: servers limit the length of an address.
const LIST_VALUES_MAX: usize = 50;

/// One parameter and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) target: Target,
    pub(super) value: String,
}

/// A filter as parameters.
#[derive(Debug)]
struct Bound {
    bindings: Vec<Binding>,
    exact: bool,
    columns: BTreeSet<usize>,
}

/// Answers the offer of a filter: every parameter may carry one filter only.
pub(super) fn negotiate(table: &Table, scan: &RemoteScan, filter: &Predicate) -> Outcome {
    let bound = match bind(table, filter) {
        Ok(bound) => bound,
        Err(reason) => return Outcome::Refused(Reason::new(ReasonCode::Source, reason)),
    };
    let taken: BTreeSet<Target> =
        bindings(table, scan).into_iter().map(|binding| binding.target).collect();
    if let Some(binding) = bound.bindings.iter().find(|binding| taken.contains(&binding.target)) {
        let (Target::Query(name) | Target::Path(name)) = &binding.target;
        let message = format!("parameter \"{name}\" carries another filter");
        return Outcome::Refused(Reason::new(ReasonCode::Source, message));
    }
    match bound.exact {
        true => Outcome::Exact,
        false => Outcome::Inexact,
    }
}

/// Returns the parameters of all agreed filters.
pub(super) fn bindings(table: &Table, scan: &RemoteScan) -> Vec<Binding> {
    let agreed = scan.filters.iter().filter_map(|filter| bind(table, filter).ok());
    agreed.flat_map(|bound| bound.bindings).collect()
}

/// Returns a column that must be filtered and is not.
pub(super) fn missing_filter<'a>(table: &'a Table, scan: &RemoteScan) -> Option<&'a str> {
    let bound: BTreeSet<usize> = scan
        .filters
        .iter()
        .filter_map(|filter| bind(table, filter).ok())
        .flat_map(|bound| bound.columns)
        .collect();
    let missing = table.rules.iter().find(|rule| rule.required && !bound.contains(&rule.column))?;
    table.columns.get(missing.column).map(|column| column.name.as_str())
}

fn bind(table: &Table, filter: &Predicate) -> Result<Bound, String> {
    match filter {
        Predicate::Compare { column, comparison, value } => {
            let op = match comparison {
                Comparison::Equal => Op::Eq,
                Comparison::Less => Op::Lt,
                Comparison::LessOrEqual => Op::Le,
                Comparison::Greater => Op::Gt,
                Comparison::GreaterOrEqual => Op::Ge,
                Comparison::NotEqual => return Err("no parameter means <>".to_owned()),
            };
            let (rule, target) = rule(table, *column, op)?;
            let value = rendered(value, rule.format)?;
            if value.contains(',') && parts_at_commas(table, target) {
                return Err("the value holds a comma, which would make it a list".to_owned());
            }
            let bound = one(rule, vec![Binding { target: target.clone(), value }])?;
            // Of a time that is finer than a microsecond `> x` may be true there and not here, where it
            // is cut.
            Ok(Bound { exact: bound.exact && !(op == Op::Gt && is_time(table, *column)), ..bound })
        }
        Predicate::In { column, values, negated: false } => bind_in(table, *column, values),
        Predicate::And(parts) => {
            let mut all = Bound { bindings: Vec::new(), exact: true, columns: BTreeSet::new() };
            for part in parts {
                let bound = bind(table, part)?;
                let targets = |b: &Binding| all.bindings.iter().any(|a| a.target == b.target);
                if bound.bindings.iter().any(targets) {
                    return Err("two conditions need the same parameter".to_owned());
                }
                all.bindings.extend(bound.bindings);
                all.exact &= bound.exact;
                all.columns.extend(bound.columns);
            }
            Ok(all)
        }
        Predicate::Or(_) => {
            let mut values = Vec::new();
            let column = equalities(filter, &mut values).ok_or_else(|| {
                "OR is no parameter unless it lists values of one column".to_owned()
            })?;
            bind_in(table, column, &values)
        }
        Predicate::In { negated: true, .. }
        | Predicate::Null { .. }
        | Predicate::Like { .. }
        | Predicate::Not(_) => Err("no parameter means this condition".to_owned()),
    }
}

fn bind_in(table: &Table, column: usize, values: &[Literal]) -> Result<Bound, String> {
    if values.len() > LIST_VALUES_MAX {
        return Err(format!("{} values are too many for a request", values.len()));
    }
    let (rule, target) = rule(table, column, Op::In)?;
    let texts: Vec<String> =
        values.iter().map(|value| rendered(value, rule.format)).collect::<Result<_, _>>()?;
    let binding = |value| Binding { target: target.clone(), value };
    match rule.in_style {
        InStyle::Repeat => one(rule, texts.into_iter().map(binding).collect()),
        InStyle::Comma if texts.iter().any(|text| text.contains(',')) => {
            Err("a value holds a comma".to_owned())
        }
        InStyle::Comma => one(rule, vec![binding(texts.join(","))]),
    }
}

/// Whether some rule sends lists in this parameter, so that the API cuts its value at commas.
fn parts_at_commas(table: &Table, target: &Target) -> bool {
    let sends_lists =
        |rule: &Rule| rule.in_style == InStyle::Comma && rule.targets.get(&Op::In) == Some(target);
    table.rules.iter().any(sends_lists)
}

fn is_time(table: &Table, column: usize) -> bool {
    let column_type = table.columns.get(column).map(|column| column.column_type);
    matches!(column_type, Some(ColumnType::Timestamp | ColumnType::TimestampUtc))
}

fn one(rule: &Rule, bindings: Vec<Binding>) -> Result<Bound, String> {
    Ok(Bound { bindings, exact: rule.exact, columns: BTreeSet::from([rule.column]) })
}

fn rule(table: &Table, column: usize, op: Op) -> Result<(&Rule, &Target), String> {
    // The API may keep times finer than the microseconds that are read: one of x.0000005 s is x here, and
    // the API says that it is neither equal to x nor below it.
    if matches!(op, Op::Eq | Op::In | Op::Le) && is_time(table, column) {
        return Err(
            "the source may have times that are finer than what is compared here".to_owned()
        );
    }
    let mut of_column = table.rules.iter().filter(|rule| rule.column == column);
    of_column.find_map(|rule| Some((rule, rule.targets.get(&op)?))).ok_or_else(|| {
        let name = table.columns.get(column).map_or("", |column| column.name.as_str());
        format!("the manifest has no rule for this operation on column \"{name}\"")
    })
}

/// Collects `x = 1 OR x = 2 OR x IN (3)`: the planner writes short lists that way.
fn equalities(filter: &Predicate, values: &mut Vec<Literal>) -> Option<usize> {
    match filter {
        Predicate::Compare { column, comparison: Comparison::Equal, value } => {
            values.push(value.clone());
            Some(*column)
        }
        Predicate::In { column, values: listed, negated: false } => {
            values.extend(listed.iter().cloned());
            Some(*column)
        }
        Predicate::Or(parts) => {
            let mut columns = parts.iter().map(|part| equalities(part, values));
            let first = columns.next()??;
            columns.all(|column| column == Some(first)).then_some(first)
        }
        Predicate::Compare { .. }
        | Predicate::In { .. }
        | Predicate::Null { .. }
        | Predicate::Like { .. }
        | Predicate::And(_)
        | Predicate::Not(_) => None,
    }
}

/// Returns a value as it stands in a request; only what can be said exactly.
fn rendered(value: &Literal, format: TimeFormat) -> Result<String, String> {
    const DAY_MICROS: i64 = 86_400_000_000;
    match value {
        Literal::Bool(value) => Ok(value.to_string()),
        Literal::Int(value) => Ok(value.to_string()),
        Literal::UInt(value) => Ok(value.to_string()),
        Literal::Text(text) => Ok(text.clone()),
        Literal::Decimal { unscaled, scale } => Ok(decimal(unscaled, *scale)),
        Literal::Date(days) => time(i64::from(*days) * DAY_MICROS, TimeFormat::Date, format, true),
        Literal::Timestamp { micros, instant } => {
            time(*micros, TimeFormat::Rfc3339, format, *instant)
        }
        Literal::Float(_) | Literal::Bytes(_) => {
            Err("values of this type are not sent as parameters".to_owned())
        }
    }
}

fn time(micros: i64, own: TimeFormat, wanted: TimeFormat, instant: bool) -> Result<String, String> {
    let inexact = || Err("the value is finer than the parameter's format".to_owned());
    let time = DateTime::from_timestamp_micros(micros).ok_or("the time is out of range")?;
    // A rule without a format sends a date as a date.
    let format =
        if own == TimeFormat::Date && wanted == TimeFormat::Rfc3339 { own } else { wanted };
    match format {
        TimeFormat::Rfc3339 if instant => Ok(time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()),
        TimeFormat::Rfc3339 => Ok(time.format("%Y-%m-%dT%H:%M:%S%.6f").to_string()),
        TimeFormat::Date if micros % 86_400_000_000 == 0 => Ok(time.format("%Y-%m-%d").to_string()),
        TimeFormat::Unix if micros % 1_000_000 == 0 => Ok((micros / 1_000_000).to_string()),
        TimeFormat::UnixMs if micros % 1_000 == 0 => Ok((micros / 1_000).to_string()),
        TimeFormat::Date | TimeFormat::Unix | TimeFormat::UnixMs => inexact(),
    }
}

fn decimal(unscaled: &str, scale: i8) -> String {
    let (sign, digits) = match unscaled.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", unscaled),
    };
    let scale_digits = usize::from(scale.unsigned_abs());
    if scale <= 0 {
        return format!("{sign}{digits}{}", "0".repeat(scale_digits));
    }
    let padded = format!("{digits:0>width$}", width = scale_digits + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale_digits);
    format!("{sign}{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use super::{decimal, rendered};
    use crate::rest::manifest::TimeFormat;
    use meshwork_engine::remote::Literal;

    #[test]
    fn values_are_said_exactly_or_not_at_all() {
        assert_eq!(decimal("-5", 2), "-0.05");
        assert_eq!(decimal("12345", 2), "123.45");
        assert_eq!(decimal("7", 0), "7");
        let noon = Literal::Timestamp { micros: 43_200_000_001, instant: true };
        let said = |format| rendered(&noon, format);
        assert_eq!(said(TimeFormat::Rfc3339).unwrap(), "1970-01-01T12:00:00.000001Z");
        assert!(said(TimeFormat::Unix).is_err() && said(TimeFormat::Date).is_err());
        assert_eq!(rendered(&Literal::Date(1), TimeFormat::Rfc3339).unwrap(), "1970-01-02");
        assert_eq!(rendered(&Literal::Date(1), TimeFormat::Unix).unwrap(), "86400");
    }
}
