//! Walks an offered condition; the connector's rule answers for each test of one column.
//!
//! The answers of parts combine without knowing the source: AND and OR are as exact as their least exact
//! part, NOT over a superset would lose rows and is refused, a refused part refuses the whole (the planner
//! offers the conjuncts of a WHERE one by one anyway).

use meshwork_engine::connector::{Outcome, Pushdown};
use meshwork_engine::remote::{Comparison, Literal, Predicate, RemoteColumn, RemoteScan};

use super::{Dialect, condition};

/// Databases limit how deep and how long a condition may be; one with more tests or values than that stays
/// with the engine.
const TESTS_MAX: usize = 500;
const VALUES_MAX: usize = 10_000;

/// One test of one column.
#[derive(Debug, Clone, Copy)]
pub enum Test<'a> {
    /// `column <comparison> value`
    Compare(Comparison, &'a Literal),
    /// `column IN (values)`
    In(&'a [Literal]),
    /// `column NOT IN (values)`
    NotIn(&'a [Literal]),
    /// `column IS [NOT] NULL`
    Null,
    /// `column LIKE 'prefix%'`
    StartsWith(&'a str),
}

impl<'a> Test<'a> {
    /// Returns the values that the column is tested against.
    pub fn values(self) -> &'a [Literal] {
        match self {
            Self::Compare(_, value) => std::slice::from_ref(value),
            Self::In(values) | Self::NotIn(values) => values,
            Self::Null | Self::StartsWith(_) => &[],
        }
    }

    /// Whether the test is an equality: `=` or `IN`.
    pub fn is_equality(self) -> bool {
        matches!(self, Self::Compare(Comparison::Equal, _) | Self::In(_))
    }

    /// Whether the test is an inequality: `<>` or `NOT IN`.
    pub fn is_inequality(self) -> bool {
        matches!(self, Self::Compare(Comparison::NotEqual, _) | Self::NotIn(_))
    }

    /// Whether the test asks for an order: `<`, `<=`, `>`, `>=`.
    pub fn is_range(self) -> bool {
        matches!(self, Self::Compare(..)) && !self.is_equality() && !self.is_inequality()
    }
}

/// What a source's rule says of one test of one column.
pub type Rule<'a> = &'a dyn Fn(&RemoteColumn, Test<'_>) -> Outcome;

/// Answers what is offered for a scan by the source's rule.
pub fn answer(
    dialect: &dyn Dialect,
    scan: &RemoteScan,
    offer: Pushdown<'_>,
    rule: Rule<'_>,
) -> Outcome {
    match offer {
        Pushdown::Filter(predicate) => filter(dialect, scan, predicate, rule),
        Pushdown::Limit(_rows) => limit(scan, rule),
    }
}

/// Answers an offered filter: the rule's answers combined, and refused if the dialect cannot write it.
fn filter(
    dialect: &dyn Dialect,
    scan: &RemoteScan,
    predicate: &Predicate,
    rule: Rule<'_>,
) -> Outcome {
    let (n_tests, n_values) = size(predicate);
    if n_tests > TESTS_MAX || n_values > VALUES_MAX {
        return Outcome::Refused(format!("{n_tests} tests of {n_values} values are too many"));
    }
    match combine(&scan.columns, predicate, rule) {
        Outcome::Refused(reason) => Outcome::Refused(reason),
        accepted @ (Outcome::Exact | Outcome::Inexact) => {
            match condition(dialect, &scan.columns, predicate) {
                Ok(_written) => accepted,
                Err(error) => Outcome::Refused(error.message),
            }
        }
    }
}

/// Answers an offered limit: a source may stop early only if every agreed filter is exact there.
fn limit(scan: &RemoteScan, rule: Rule<'_>) -> Outcome {
    let exact = |filter| combine(&scan.columns, filter, rule) == Outcome::Exact;
    if scan.filters.iter().all(exact) {
        Outcome::Exact
    } else {
        Outcome::Refused(
            "a filter is checked again after the source, so it cannot stop early".into(),
        )
    }
}

/// Returns the number of tests in a condition, and of the values that they name.
fn size(predicate: &Predicate) -> (usize, usize) {
    match predicate {
        Predicate::Compare { .. } | Predicate::StartsWith { .. } => (1, 1),
        Predicate::In { values, .. } => (1, values.len()),
        Predicate::Null { .. } => (1, 0),
        Predicate::And(parts) | Predicate::Or(parts) => {
            parts.iter().map(size).fold((1, 0), |all, part| (all.0 + part.0, all.1 + part.1))
        }
        Predicate::Not(part) => size(part),
    }
}

fn combine(columns: &[RemoteColumn], predicate: &Predicate, rule: Rule<'_>) -> Outcome {
    let one = |column: usize, test: Test<'_>| match columns.get(column) {
        Some(column) => rule(column, test),
        None => Outcome::Refused(format!("column {column} does not exist")),
    };
    match predicate {
        Predicate::Compare { column, comparison, value } => {
            one(*column, Test::Compare(*comparison, value))
        }
        Predicate::In { column, values, negated: false } => one(*column, Test::In(values)),
        Predicate::In { column, values, negated: true } => one(*column, Test::NotIn(values)),
        Predicate::Null { column, .. } => one(*column, Test::Null),
        Predicate::StartsWith { column, prefix } => one(*column, Test::StartsWith(prefix)),
        Predicate::And(parts) | Predicate::Or(parts) => {
            let mut weakest = Outcome::Exact;
            for part in parts {
                match combine(columns, part, rule) {
                    Outcome::Exact => {}
                    Outcome::Inexact => weakest = Outcome::Inexact,
                    refused @ Outcome::Refused(_) => return refused,
                }
            }
            weakest
        }
        Predicate::Not(part) => match combine(columns, part, rule) {
            Outcome::Inexact => {
                Outcome::Refused("NOT over a condition that the source only approximates".into())
            }
            answer @ (Outcome::Exact | Outcome::Refused(_)) => answer,
        },
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::DataType;
    use serde_json::Value;

    use super::*;

    fn column(name: &str) -> RemoteColumn {
        RemoteColumn {
            name: name.into(),
            data_type: DataType::Int64,
            nullable: true,
            remote_type: "int8".into(),
            detail: Value::Null,
        }
    }

    fn is(column: usize) -> Predicate {
        Predicate::Compare { column, comparison: Comparison::Equal, value: Literal::Int(1) }
    }

    #[derive(Debug)]
    struct Standard;
    impl Dialect for Standard {}

    /// Column 0 is exact, column 1 inexact, column 2 refused.
    fn rule(column: &RemoteColumn, _test: Test<'_>) -> Outcome {
        match column.name.as_str() {
            "exact" => Outcome::Exact,
            "inexact" => Outcome::Inexact,
            _ => Outcome::Refused("no".into()),
        }
    }

    fn answer(predicate: &Predicate) -> Outcome {
        let columns = ["exact", "inexact", "refused"].map(column).into();
        filter(&Standard, &RemoteScan::whole("c", "s", "t", columns), predicate, &rule)
    }

    #[test]
    fn parts_combine_to_the_weakest() {
        assert_eq!(answer(&Predicate::And(vec![is(0), is(0)])), Outcome::Exact);
        assert_eq!(answer(&Predicate::Or(vec![is(0), is(1)])), Outcome::Inexact);
        assert!(matches!(answer(&Predicate::Or(vec![is(0), is(2)])), Outcome::Refused(_)));
        assert!(matches!(answer(&is(9)), Outcome::Refused(_)));
    }

    #[test]
    fn not_over_a_superset_is_refused() {
        let not = |part| Predicate::Not(Box::new(part));
        assert_eq!(answer(&not(is(0))), Outcome::Exact);
        assert!(matches!(answer(&not(is(1))), Outcome::Refused(_)));
        let deep = not(Predicate::Or(vec![is(0), not(Predicate::And(vec![is(1)]))]));
        assert!(matches!(answer(&deep), Outcome::Refused(_)));
    }

    #[test]
    fn a_huge_condition_stays_with_the_engine() {
        assert_eq!(answer(&Predicate::Or(vec![is(0); 400])), Outcome::Exact);
        assert!(matches!(answer(&Predicate::Or(vec![is(0); 600])), Outcome::Refused(_)));
        let values = vec![Literal::Int(1); 10_001];
        let huge = Predicate::In { column: 0, values, negated: false };
        assert!(matches!(answer(&huge), Outcome::Refused(_)));
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let value = Literal::Text("a\0".into());
        let nul = Predicate::Compare { column: 0, comparison: Comparison::Equal, value };
        assert!(matches!(answer(&nul), Outcome::Refused(_)));
    }

    #[test]
    fn a_limit_needs_exact_filters() {
        let columns = ["exact", "inexact"].map(column).into();
        let mut scan = RemoteScan::whole("c", "s", "t", columns);
        scan.filters.push(is(0));
        assert_eq!(limit(&scan, &rule), Outcome::Exact);
        scan.filters.push(is(1));
        assert!(matches!(limit(&scan, &rule), Outcome::Refused(_)));
    }
}
