//! One agreed scan as one statement.

use arrow::datatypes::DataType;
use meshwork_engine::remote::{
    Aggregate, Join, JoinKind, Measure, OrderKey, Predicate, RemoteColumn, RemoteScan, Value,
};
use meshwork_engine::{Error, Result};

use super::Dialect;

/// Returns the `SELECT` of a scan. `split` is one more condition on its base table, written by the connector.
pub fn select(dialect: &dyn Dialect, scan: &RemoteScan, split: Option<&str>) -> Result<String> {
    let columns = match &scan.aggregate {
        Some(aggregate) => gathered(dialect, &scan.columns, aggregate)?,
        None => scan.output().iter().map(|c| dialect.selected(c)).collect::<Result<Vec<_>>>()?,
    };
    let list = match columns.is_empty() {
        true => dialect.empty_projection().to_owned(),
        false => columns.join(", "),
    };
    let mut statement = format!("SELECT {list} {}", rows(dialect, scan, split)?);
    let groups = scan.aggregate.iter().flat_map(|aggregate| &aggregate.groups);
    let groups = groups
        .map(|group| dialect.identifier(&column_at(&scan.columns, group.column)?.name))
        .collect::<Result<Vec<_>>>()?;
    push_list(&mut statement, " GROUP BY ", &groups);
    let key = |key: &OrderKey| {
        let column = dialect.identifier(&column_at(&scan.columns, key.column)?.name)?;
        Ok(dialect.order_key(&column, key))
    };
    let order = scan.order.iter().map(key).collect::<Result<Vec<_>>>()?;
    push_list(&mut statement, " ORDER BY ", &order);
    if let Some(rows) = scan.limit {
        statement.push(' ');
        statement.push_str(&dialect.limit(rows));
    }
    Ok(statement)
}

/// Returns where the rows come from and which: `FROM ... WHERE ...`. A query has lines of its own, as it may end in a comment.
fn rows(dialect: &dyn Dialect, scan: &RemoteScan, split: Option<&str>) -> Result<String> {
    let mut conditions: Vec<String> = Vec::with_capacity(scan.filters.len() + 1);
    // Some servers test in this order, and comparing text is dear.
    let mut filters: Vec<&Predicate> = scan.filters.iter().collect();
    filters.sort_by_key(|filter| is_of_text(filter, &scan.columns));
    for filter in filters {
        conditions.push(condition(dialect, &scan.columns, filter)?);
    }
    let relation = match (&scan.join, &scan.query) {
        (Some(join), _) => meeting(dialect, join, split, &mut conditions)?,
        (None, query) => {
            conditions.extend(split.map(str::to_owned));
            match query {
                Some(query) => format!("(\n{query}\n) AS {}", dialect.identifier(&scan.table)?),
                None => dialect.relation(scan)?,
            }
        }
    };
    Ok(match conditions.is_empty() {
        true => format!("FROM {relation}"),
        false => format!("FROM {relation} WHERE {}", conditions.join(" AND ")),
    })
}

fn is_of_text(filter: &Predicate, columns: &[RemoteColumn]) -> bool {
    let mut is_of_text = false;
    filter.for_each_column(&mut |column| {
        is_of_text |= columns.get(column).is_some_and(|c| c.data_type == DataType::Utf8);
    });
    is_of_text
}

/// Returns what stands behind FROM of a join. The sides are tables of their own, whose columns have no name in common, so that
/// whatever names one of them needs to know nothing of the join.
fn meeting(
    dialect: &dyn Dialect,
    join: &Join,
    split: Option<&str>,
    conditions: &mut Vec<String>,
) -> Result<String> {
    let [left_names, right_names] = join.names();
    let left = side(dialect, &join.left, &left_names, split)?;
    let right = side(dialect, &join.right, &right_names, None)?;
    let name = |names: &[String], index: usize| {
        let missing = || Error::internal("a join has a key that its side does not return");
        dialect.identifier(names.get(index).ok_or_else(missing)?)
    };
    let equal = |(l, r): &(usize, usize)| {
        Ok(format!("{} = {}", name(&left_names, *l)?, name(&right_names, *r)?))
    };
    let on = join.on.iter().map(equal).collect::<Result<Vec<_>>>()?.join(" AND ");
    let (l, r) = (dialect.identifier("l")?, dialect.identifier("r")?);
    Ok(match join.kind {
        JoinKind::Inner => format!("{left} AS {l} JOIN {right} AS {r} ON {on}"),
        JoinKind::Semi => {
            conditions.push(format!("EXISTS (SELECT 1 FROM {right} AS {r} WHERE {on})"));
            format!("{left} AS {l}")
        }
    })
}

/// Returns one side of a join as a table whose columns have these names. They are as they are there, to be compared there.
fn side(
    dialect: &dyn Dialect,
    scan: &RemoteScan,
    names: &[String],
    split: Option<&str>,
) -> Result<String> {
    let column = |(column, name): (&RemoteColumn, &String)| {
        let own = dialect.identifier(&column.name)?;
        Ok(match column.name == *name {
            true => own,
            false => format!("{own} AS {}", dialect.identifier(name)?),
        })
    };
    let columns = scan.output().iter().zip(names).map(column).collect::<Result<Vec<_>>>()?;
    Ok(format!("(SELECT {} {})", columns.join(", "), rows(dialect, scan, split)?))
}

fn push_list(statement: &mut String, clause: &str, items: &[String]) {
    if !items.is_empty() {
        statement.push_str(clause);
        statement.push_str(&items.join(", "));
    }
}

/// Returns the select list of an aggregate: the groups, then the measures.
fn gathered(
    dialect: &dyn Dialect,
    columns: &[RemoteColumn],
    aggregate: &Aggregate,
) -> Result<Vec<String>> {
    let groups = aggregate.groups.iter().map(|group| {
        let column = column_at(columns, group.column)?;
        dialect.selected(column)
    });
    let measures = aggregate.measures.iter().map(|measure| measured(dialect, columns, measure));
    groups.chain(measures).collect()
}

/// Not every server knows `FILTER`; a `CASE` without `ELSE` is NULL, which no aggregate looks at.
fn measured(dialect: &dyn Dialect, columns: &[RemoteColumn], measure: &Measure) -> Result<String> {
    let argument = measure.argument.as_ref().map(|argument| value(dialect, columns, argument));
    let argument = match (argument.transpose()?, &measure.filter) {
        (Some(argument), None) => argument,
        (None, None) => "*".to_owned(),
        (argument, Some(filter)) => {
            let then = argument.unwrap_or_else(|| "1".to_owned());
            format!("CASE WHEN {} THEN {then} END", condition(dialect, columns, filter)?)
        }
    };
    dialect.measured(measure, columns, measure.function.sql(&argument))
}

/// Returns a value; it binds tighter than any operator.
fn value(dialect: &dyn Dialect, columns: &[RemoteColumn], wanted: &Value) -> Result<String> {
    match wanted {
        Value::Column(index) => dialect.identifier(&column_at(columns, *index)?.name),
        Value::Literal(literal) => dialect.number(literal),
        Value::Arithmetic { operation, left, right, .. } => {
            let (left, right) = (value(dialect, columns, left)?, value(dialect, columns, right)?);
            Ok(format!("({left} {} {right})", operation.sql()))
        }
    }
}

/// Returns one condition; it binds tighter than AND.
pub fn condition(
    dialect: &dyn Dialect,
    columns: &[RemoteColumn],
    predicate: &Predicate,
) -> Result<String> {
    match predicate {
        Predicate::Compare { column, comparison, value } => {
            dialect.compared(column_at(columns, *column)?, *comparison, value)
        }
        Predicate::In { column, values, negated } => {
            dialect.listed(column_at(columns, *column)?, values, *negated)
        }
        Predicate::Null { column, negated } => {
            let column = dialect.identifier(&column_at(columns, *column)?.name)?;
            Ok(format!("{column} IS {}", if *negated { "NOT NULL" } else { "NULL" }))
        }
        Predicate::Like { column, pieces } => dialect.like(column_at(columns, *column)?, pieces),
        Predicate::And(parts) => join(dialect, columns, parts, " AND ", "1 = 1"),
        Predicate::Or(parts) => match begins(dialect, columns, parts)? {
            Some(written) => Ok(written),
            None => join(dialect, columns, parts, " OR ", "1 = 0"),
        },
        Predicate::Not(part) => Ok(format!("NOT ({})", condition(dialect, columns, part)?)),
    }
}

/// Returns alternatives in other words, if each is a beginning of one column and all are of one length.
fn begins(
    dialect: &dyn Dialect,
    columns: &[RemoteColumn],
    parts: &[Predicate],
) -> Result<Option<String>> {
    let beginning = |part: &Predicate| match part {
        Predicate::Like { column, pieces } => match pieces.as_slice() {
            [first, last] if last.is_empty() => Some((*column, first.clone())),
            _ => None,
        },
        _ => None,
    };
    let Some(found) = parts.iter().map(beginning).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let Some((column, first)) = found.first() else { return Ok(None) };
    let length = first.chars().count();
    let is_alike =
        |(other, text): &(usize, String)| other == column && text.chars().count() == length;
    match found.iter().all(is_alike) {
        true => {
            let beginnings: Vec<&str> = found.iter().map(|(_column, text)| text.as_str()).collect();
            dialect.begins(column_at(columns, *column)?, length, &beginnings)
        }
        false => Ok(None),
    }
}

fn join(
    dialect: &dyn Dialect,
    columns: &[RemoteColumn],
    parts: &[Predicate],
    operator: &str,
    empty: &str,
) -> Result<String> {
    let parts: Vec<String> =
        parts.iter().map(|part| condition(dialect, columns, part)).collect::<Result<_>>()?;
    let written = if parts.is_empty() { empty.to_owned() } else { parts.join(operator) };
    Ok(format!("({written})"))
}

fn column_at(columns: &[RemoteColumn], index: usize) -> Result<&RemoteColumn> {
    columns
        .get(index)
        .ok_or_else(|| Error::internal(format!("a condition names column {index} of a table")))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::DataType;
    use meshwork_engine::remote::{Comparison, Function, Group, Literal, Operation};

    use super::*;

    #[derive(Debug)]
    struct Standard;
    impl Dialect for Standard {}

    fn scan() -> RemoteScan {
        let column = |name: &str, data_type| RemoteColumn {
            name: name.into(),
            data_type,
            nullable: true,
            remote_type: String::new(),
            detail: serde_json::Value::Null,
        };
        let columns = vec![column("Sel\"ect", DataType::Int64), column("name", DataType::Utf8)];
        RemoteScan::whole("c", "public", "o'dd", columns)
    }

    #[test]
    fn a_scan_becomes_one_statement() {
        let mut scan = scan();
        scan.projection = vec![1];
        scan.filters = vec![
            Predicate::Or(vec![
                Predicate::Compare {
                    column: 0,
                    comparison: Comparison::GreaterOrEqual,
                    value: Literal::Int(-5),
                },
                Predicate::Null { column: 0, negated: false },
            ]),
            Predicate::In { column: 1, values: vec![Literal::Text("a'b".into())], negated: true },
            Predicate::Not(Box::new(Predicate::Like {
                column: 1,
                pieces: vec!["a!".into(), String::new()],
            })),
        ];
        scan.limit = Some(7);
        let written = select(&Standard, &scan, Some("k < 3")).unwrap();
        assert_eq!(
            written,
            "SELECT \"name\" FROM \"public\".\"o'dd\" WHERE (\"Sel\"\"ect\" >= (-5) OR \
             \"Sel\"\"ect\" IS NULL) AND \"name\" NOT IN ('a''b') AND NOT (\"name\" LIKE 'a!!%' \
             ESCAPE '!') AND k < 3 LIMIT 7"
        );
    }

    #[test]
    fn a_count_of_rows_reads_no_column() {
        let mut scan = scan();
        scan.projection.clear();
        assert_eq!(select(&Standard, &scan, None).unwrap(), "SELECT 1 FROM \"public\".\"o'dd\"");
    }

    #[test]
    fn an_order_says_where_nulls_stand() {
        let mut scan = scan();
        let key = |column, descending, nulls_first| OrderKey { column, descending, nulls_first };
        scan.projection = vec![1];
        scan.order = vec![key(0, true, false), key(1, false, true)];
        scan.limit = Some(3);
        assert_eq!(
            select(&Standard, &scan, None).unwrap(),
            "SELECT \"name\" FROM \"public\".\"o'dd\" ORDER BY \"Sel\"\"ect\" DESC NULLS LAST, \"name\" ASC \
             NULLS FIRST LIMIT 3"
        );
    }

    #[test]
    fn rows_are_gathered_by_groups() {
        let mut scan = scan();
        let column = Box::new(Value::Column(0));
        let one = Literal::Decimal { unscaled: "-15".into(), scale: 1 };
        let product = Value::Arithmetic {
            operation: Operation::Multiply,
            left: column,
            right: Box::new(Value::Literal(one)),
            data_type: DataType::Decimal128(38, 1),
        };
        let measure = |function, argument, filter| Measure {
            function,
            argument,
            filter,
            name: "m".into(),
            data_type: DataType::Int64,
            nullable: true,
        };
        let filter = Predicate::Null { column: 1, negated: true };
        scan.aggregate = Some(Aggregate {
            groups: vec![Group { column: 1, name: "g".into() }],
            measures: vec![
                measure(Function::Count, None, None),
                measure(Function::Count, None, Some(filter.clone())),
                measure(Function::Sum, Some(product), Some(filter)),
            ],
        });
        assert_eq!(
            select(&Standard, &scan, Some("k < 3")).unwrap(),
            "SELECT \"name\", count(*), count(CASE WHEN \"name\" IS NOT NULL THEN 1 END), sum(CASE WHEN \
             \"name\" IS NOT NULL THEN (\"Sel\"\"ect\" * (-1.5)) END) FROM \"public\".\"o'dd\" WHERE k < 3 \
             GROUP BY \"name\""
        );
        let names: Vec<String> = scan.output().into_iter().map(|column| column.name).collect();
        assert_eq!(names, ["g", "m", "m", "m"]);
    }
}
