//! Walks what is offered; the connector's [`Rules`] answer for each test, group, order and sum of one column.
//!
//! The answers of parts combine without knowing the source: AND and OR are as exact as their least exact
//! part, NOT over a superset would lose rows and is refused, a refused part refuses the whole (the planner
//! offers the conjuncts of a WHERE one by one anyway).

use datafusion::arrow::datatypes::DataType;
use meshwork_engine::connector::{Outcome, Pushdown};
use meshwork_engine::remote::{
    Aggregate, Comparison, Function, Join, Literal, Measure, OrderKey, Predicate, Reason,
    ReasonCode, RemoteColumn, RemoteScan, Value,
};

use super::{Dialect, condition, select};

/// Databases limit how deep and how long a condition may be; one with more tests or values than that stays
/// with the engine.
const TESTS_MAX: usize = 500;
const VALUES_MAX: usize = 100_000;

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
    /// `column LIKE 'a%b'`, by what stands between the wildcards
    Like(&'a [String]),
}

impl<'a> Test<'a> {
    /// Returns the values that the column is tested against.
    pub fn values(self) -> &'a [Literal] {
        match self {
            Self::Compare(_, value) => std::slice::from_ref(value),
            Self::In(values) | Self::NotIn(values) => values,
            Self::Null | Self::Like(_) => &[],
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

/// What a kind of database is known to do as the engine does. Whatever is not said here is refused.
pub trait Rules {
    /// Answers one test of one column.
    fn test(&self, column: &RemoteColumn, test: Test<'_>) -> Outcome;

    /// Agrees if values of the column are one group there exactly if they are here.
    fn groups(&self, column: &RemoteColumn) -> Agreement {
        Err(not_known("grouping", column))
    }

    /// Agrees if values of the column have the same order there as here, NULLs aside.
    fn orders(&self, column: &RemoteColumn) -> Agreement {
        Err(not_known("the order", column))
    }

    /// Agrees if `min` and `max` of the column are the same there.
    fn extremes(&self, column: &RemoteColumn) -> Agreement {
        self.orders(column)
    }

    /// Agrees if sums, and arithmetic with a decimal, are exact there for values of the column.
    fn sums(&self, column: &RemoteColumn) -> Agreement {
        Err(not_known("a sum", column))
    }
}

/// The reason of a column whose type is compared there as nowhere else.
pub fn own_rules(column: &RemoteColumn) -> Reason {
    let RemoteColumn { name, remote_type, .. } = column;
    let message = format!("column {name} of type {remote_type} has rules of its own there");
    Reason::new(ReasonCode::Type, message)
}

/// The answer of a source that does not do it.
pub fn refused(code: ReasonCode, message: &str) -> Outcome {
    Outcome::Refused(Reason::new(code, message))
}

/// Whether something means the same on both sides, or what stands in the way.
pub type Agreement = Result<(), Reason>;

fn not_known(what: &str, column: &RemoteColumn) -> Reason {
    let RemoteColumn { name, remote_type, .. } = column;
    let message =
        format!("{what} of column {name} of type {remote_type} is not known to be the same there");
    Reason::new(ReasonCode::Type, message)
}

/// Answers what is offered for a scan by the source's rules.
pub fn answer(
    dialect: &dyn Dialect,
    scan: &RemoteScan,
    offer: Pushdown<'_>,
    rules: &dyn Rules,
) -> Outcome {
    let agreement = match offer {
        Pushdown::Filter(predicate) => return filter(dialect, scan, predicate, rules),
        Pushdown::Limit(_rows) => ends_early(scan, rules),
        Pushdown::Top { order, rows: _ } => top(scan, order, rules),
        Pushdown::Aggregate(aggregate) => gathered(dialect, scan, aggregate, rules),
        Pushdown::Join(join) => joined(dialect, join, rules),
    };
    match agreement {
        Ok(()) => Outcome::Exact,
        Err(reason) => Outcome::Refused(reason),
    }
}

/// Answers an offered filter: the rules' answers combined, and refused if the dialect cannot write it.
fn filter(
    dialect: &dyn Dialect,
    scan: &RemoteScan,
    predicate: &Predicate,
    rules: &dyn Rules,
) -> Outcome {
    let (n_tests, n_values) = size(predicate);
    if n_tests > TESTS_MAX || n_values > VALUES_MAX {
        let message = format!("{n_tests} tests of {n_values} values are too many");
        return Outcome::Refused(Reason::new(ReasonCode::Size, message));
    }
    match combine(&scan.columns, predicate, rules) {
        Outcome::Refused(reason) => Outcome::Refused(reason),
        accepted @ (Outcome::Exact | Outcome::Inexact) => {
            match condition(dialect, &scan.columns, predicate) {
                Ok(written) if written.len() > dialect.condition_bytes_max() => {
                    let message = format!("{} bytes of a condition are too many", written.len());
                    Outcome::Refused(Reason::new(ReasonCode::Size, message))
                }
                Ok(_written) => accepted,
                Err(error) => Outcome::Refused(Reason::new(ReasonCode::Literal, error.message)),
            }
        }
    }
}

/// A source may stop early or gather rows only if no row of those that it finds is left out here.
fn ends_early(scan: &RemoteScan, rules: &dyn Rules) -> Agreement {
    let exact = |filter| combine(&scan.columns, filter, rules) == Outcome::Exact;
    if scan.filters.iter().all(exact) {
        return Ok(());
    }
    let message = "a filter is checked again after the source";
    Err(Reason::new(ReasonCode::Superset, message))
}

fn top(scan: &RemoteScan, order: &[OrderKey], rules: &dyn Rules) -> Agreement {
    ends_early(scan, rules)?;
    for key in order {
        let column = column_at(scan, key.column)?;
        same_null(column, rules)?;
        rules.orders(column)?;
    }
    Ok(())
}

fn gathered(
    dialect: &dyn Dialect,
    scan: &RemoteScan,
    aggregate: &Aggregate,
    rules: &dyn Rules,
) -> Agreement {
    ends_early(scan, rules)?;
    for group in &aggregate.groups {
        let column = column_at(scan, group.column)?;
        same_null(column, rules)?;
        rules.groups(column)?;
    }
    for measure in &aggregate.measures {
        measured(scan, measure, rules)?;
    }
    let scan = RemoteScan { aggregate: Some(aggregate.clone()), ..scan.clone() };
    match select(dialect, &scan, None) {
        Ok(_written) => Ok(()),
        Err(error) => Err(Reason::new(ReasonCode::Literal, error.message)),
    }
}

fn measured(scan: &RemoteScan, measure: &Measure, rules: &dyn Rules) -> Agreement {
    if let Some(filter) = &measure.filter {
        match combine(&scan.columns, filter, rules) {
            Outcome::Exact => {}
            Outcome::Inexact => {
                let message = "a filter of an aggregate is only approximated there";
                return Err(Reason::new(ReasonCode::Superset, message));
            }
            Outcome::Refused(reason) => return Err(reason),
        }
    }
    let Some(argument) = &measure.argument else { return Ok(()) };
    let mut agreement = Ok(());
    argument.for_each_column(&mut |column| {
        let one = || {
            let column = column_at(scan, column)?;
            same_null(column, rules)?;
            match (measure.function, argument) {
                (Function::Count | Function::CountOrNull, Value::Column(_)) => Ok(()),
                (Function::Min | Function::Max, Value::Column(_)) => rules.extremes(column),
                _ => rules.sums(column),
            }
        };
        if agreement.is_ok() {
            agreement = one();
        }
    });
    agreement
}

/// Keys have to be equal there exactly if they are here: numbers and dates of one type. Text of two columns may have two
/// collations, of which a database takes either, or none.
fn joined(dialect: &dyn Dialect, join: &Join, rules: &dyn Rules) -> Agreement {
    for side in [&join.left, &join.right] {
        ends_early(side, rules)?;
    }
    let (left, right) = (join.left.output(), join.right.output());
    for (l, r) in &join.on {
        let key = |side: &[RemoteColumn], index: usize| {
            let missing = || Reason::new(ReasonCode::Expression, "a key that does not exist");
            side.get(index).cloned().ok_or_else(missing)
        };
        let (l, r) = (key(&left, *l)?, key(&right, *r)?);
        let is_plain =
            l.data_type.is_integer() || l.data_type.is_decimal() || l.data_type == DataType::Date32;
        if !is_plain || l.data_type != r.data_type || l.remote_type != r.remote_type {
            let message = format!(
                "keys {} of type {} and {} of type {} are compared here",
                l.name, l.remote_type, r.name, r.remote_type
            );
            return Err(Reason::new(ReasonCode::Type, message));
        }
        for column in [&l, &r] {
            same_null(column, rules)?;
            rules.groups(column)?;
        }
    }
    match select(dialect, &RemoteScan::joined(join.clone()), None) {
        Ok(_written) => Ok(()),
        Err(error) => Err(Reason::new(ReasonCode::Literal, error.message)),
    }
}

/// NULL has to be NULL on both sides, nothing else.
fn same_null(column: &RemoteColumn, rules: &dyn Rules) -> Agreement {
    match rules.test(column, Test::Null) {
        Outcome::Exact => Ok(()),
        Outcome::Inexact => {
            let message = format!("what is NULL in column {} differs there", column.name);
            Err(Reason::new(ReasonCode::Null, message))
        }
        Outcome::Refused(reason) => Err(reason),
    }
}

fn column_at(scan: &RemoteScan, index: usize) -> Result<&RemoteColumn, Reason> {
    let missing = || Reason::new(ReasonCode::Expression, format!("column {index} does not exist"));
    scan.columns.get(index).ok_or_else(missing)
}

/// Returns the number of tests in a condition, and of the values that they name.
fn size(predicate: &Predicate) -> (usize, usize) {
    match predicate {
        Predicate::Compare { .. } | Predicate::Like { .. } => (1, 1),
        Predicate::In { values, .. } => (1, values.len()),
        Predicate::Null { .. } => (1, 0),
        Predicate::And(parts) | Predicate::Or(parts) => {
            parts.iter().map(size).fold((1, 0), |all, part| (all.0 + part.0, all.1 + part.1))
        }
        Predicate::Not(part) => size(part),
    }
}

fn combine(columns: &[RemoteColumn], predicate: &Predicate, rules: &dyn Rules) -> Outcome {
    let one = |column: usize, test: Test<'_>| match columns.get(column) {
        Some(column) => rules.test(column, test),
        None => Outcome::Refused(Reason::new(
            ReasonCode::Expression,
            format!("column {column} does not exist"),
        )),
    };
    match predicate {
        Predicate::Compare { column, comparison, value } => {
            one(*column, Test::Compare(*comparison, value))
        }
        Predicate::In { column, values, negated: false } => one(*column, Test::In(values)),
        Predicate::In { column, values, negated: true } => one(*column, Test::NotIn(values)),
        Predicate::Null { column, .. } => one(*column, Test::Null),
        Predicate::Like { column, pieces } => one(*column, Test::Like(pieces)),
        Predicate::And(parts) | Predicate::Or(parts) => {
            let mut weakest = Outcome::Exact;
            for part in parts {
                match combine(columns, part, rules) {
                    Outcome::Exact => {}
                    Outcome::Inexact => weakest = Outcome::Inexact,
                    refused @ Outcome::Refused(_) => return refused,
                }
            }
            weakest
        }
        Predicate::Not(part) => match combine(columns, part, rules) {
            Outcome::Inexact => {
                let message = "NOT over a condition that the source only approximates";
                Outcome::Refused(Reason::new(ReasonCode::Superset, message))
            }
            answer @ (Outcome::Exact | Outcome::Refused(_)) => answer,
        },
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::DataType;
    use meshwork_engine::remote::Group;

    use super::*;

    fn column(name: &str) -> RemoteColumn {
        RemoteColumn {
            name: name.into(),
            data_type: DataType::Int64,
            nullable: true,
            remote_type: "int8".into(),
            detail: serde_json::Value::Null,
        }
    }

    fn is(column: usize) -> Predicate {
        Predicate::Compare { column, comparison: Comparison::Equal, value: Literal::Int(1) }
    }

    #[derive(Debug)]
    struct Standard;
    impl Dialect for Standard {}

    /// Column 0 is exact, column 1 inexact, column 2 refused.
    struct ByName;
    impl Rules for ByName {
        fn test(&self, column: &RemoteColumn, _test: Test<'_>) -> Outcome {
            match column.name.as_str() {
                "exact" => Outcome::Exact,
                "inexact" => Outcome::Inexact,
                _ => Outcome::Refused(Reason::new(ReasonCode::Type, "no")),
            }
        }

        fn groups(&self, column: &RemoteColumn) -> Agreement {
            self.orders(column)
        }

        fn orders(&self, column: &RemoteColumn) -> Agreement {
            match column.name.as_str() {
                "exact" => Ok(()),
                _ => Err(Reason::new(ReasonCode::Collation, "no")),
            }
        }
    }

    fn answer(predicate: &Predicate) -> Outcome {
        let columns = ["exact", "inexact", "refused"].map(column).into();
        filter(&Standard, &RemoteScan::whole("c", "s", "t", columns), predicate, &ByName)
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
        let values = vec![Literal::Int(1); 100_001];
        let huge = Predicate::In { column: 0, values, negated: false };
        assert!(matches!(answer(&huge), Outcome::Refused(_)));
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let value = Literal::Text("a\0".into());
        let nul = Predicate::Compare { column: 0, comparison: Comparison::Equal, value };
        assert!(matches!(answer(&nul), Outcome::Refused(_)));
    }

    fn scan() -> RemoteScan {
        RemoteScan::whole("c", "s", "t", ["exact", "inexact", "refused"].map(column).into())
    }

    #[test]
    fn stopping_and_gathering_need_exact_filters() {
        let mut scan = scan();
        scan.filters.push(is(0));
        let order = [OrderKey { column: 0, descending: false, nulls_first: false }];
        let aggregate = Aggregate { groups: Vec::new(), measures: Vec::new() };
        let offers = [
            Pushdown::Limit(1),
            Pushdown::Top { order: &order, rows: 1 },
            Pushdown::Aggregate(&aggregate),
        ];
        let answers =
            |scan: &RemoteScan| offers.map(|offer| super::answer(&Standard, scan, offer, &ByName));
        assert_eq!(answers(&scan), [Outcome::Exact, Outcome::Exact, Outcome::Exact]);
        scan.filters.push(is(1));
        assert!(answers(&scan).iter().all(|answer| matches!(answer, Outcome::Refused(_))));
    }

    #[test]
    fn an_order_or_a_group_is_agreed_column_by_column() {
        let top = |column| {
            let order = [OrderKey { column, descending: true, nulls_first: true }];
            super::answer(&Standard, &scan(), Pushdown::Top { order: &order, rows: 9 }, &ByName)
        };
        assert_eq!(top(0), Outcome::Exact);
        assert!(matches!(top(1), Outcome::Refused(_)));
        assert!(matches!(top(9), Outcome::Refused(_)));
        let grouped = |column| {
            let groups = vec![Group { column, name: "g".into() }];
            let aggregate = Aggregate { groups, measures: Vec::new() };
            super::answer(&Standard, &scan(), Pushdown::Aggregate(&aggregate), &ByName)
        };
        assert_eq!(grouped(0), Outcome::Exact);
        assert!(matches!(grouped(2), Outcome::Refused(_)));
    }

    #[test]
    fn a_sum_is_refused_unless_somebody_says_otherwise() {
        let measured = |function, column: usize| {
            let measure = Measure {
                function,
                argument: Some(Value::Column(column)),
                filter: None,
                name: "m".into(),
                data_type: DataType::Int64,
                nullable: true,
            };
            let aggregate = Aggregate { groups: Vec::new(), measures: vec![measure] };
            super::answer(&Standard, &scan(), Pushdown::Aggregate(&aggregate), &ByName)
        };
        assert_eq!(measured(Function::Count, 0), Outcome::Exact);
        assert_eq!(measured(Function::Max, 0), Outcome::Exact);
        assert!(matches!(measured(Function::Count, 1), Outcome::Refused(_)));
        assert!(matches!(measured(Function::Sum, 0), Outcome::Refused(_)));
    }
}
