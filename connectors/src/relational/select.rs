//! One agreed scan as one statement.

use meshwork_engine::remote::{
    Aggregate, Literal, Measure, OrderKey, Predicate, RemoteColumn, RemoteScan, Value,
};
use meshwork_engine::{Error, Result};

use super::Dialect;

/// Returns the `SELECT` of a scan. `split` is one more condition, written by the connector.
pub fn select(dialect: &dyn Dialect, scan: &RemoteScan, split: Option<&str>) -> Result<String> {
    let columns = match &scan.aggregate {
        Some(aggregate) => gathered(dialect, &scan.columns, aggregate)?,
        None => scan.output().iter().map(|c| dialect.selected(c)).collect::<Result<Vec<_>>>()?,
    };
    let list = match columns.is_empty() {
        true => dialect.empty_projection().to_owned(),
        false => columns.join(", "),
    };
    let mut statement = format!("SELECT {list} FROM {}", relation(dialect, scan)?);
    let mut conditions: Vec<String> = Vec::with_capacity(scan.filters.len() + 1);
    for filter in &scan.filters {
        conditions.push(condition(dialect, &scan.columns, filter)?);
    }
    conditions.extend(split.map(str::to_owned));
    if !conditions.is_empty() {
        statement.push_str(" WHERE ");
        statement.push_str(&conditions.join(" AND "));
    }
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

/// Returns what stands behind FROM. A query has lines of its own, as it may end in a comment.
fn relation(dialect: &dyn Dialect, scan: &RemoteScan) -> Result<String> {
    let (schema, table) = (dialect.identifier(&scan.schema)?, dialect.identifier(&scan.table)?);
    Ok(match &scan.query {
        Some(query) => format!("(\n{query}\n) AS {table}"),
        None => format!("{schema}.{table}"),
    })
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
    let computed = format!("{}({argument})", measure.function.sql());
    dialect.measured(measure, columns, computed)
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
            let column = column_at(columns, *column)?;
            let value = dialect.literal(value, column)?;
            Ok(format!("{} {} {value}", dialect.tested(column)?, comparison.sql()))
        }
        Predicate::In { column, values, negated } => {
            let column = column_at(columns, *column)?;
            let write = |value: &Literal| dialect.literal(value, column);
            let values: Vec<String> = values.iter().map(write).collect::<Result<_>>()?;
            let operator = if *negated { "NOT IN" } else { "IN" };
            Ok(format!("{} {operator} ({})", dialect.tested(column)?, values.join(", ")))
        }
        Predicate::Null { column, negated } => {
            let column = dialect.identifier(&column_at(columns, *column)?.name)?;
            Ok(format!("{column} IS {}", if *negated { "NOT NULL" } else { "NULL" }))
        }
        Predicate::StartsWith { column, prefix } => {
            dialect.starts_with(column_at(columns, *column)?, prefix)
        }
        Predicate::And(parts) => join(dialect, columns, parts, " AND ", "1 = 1"),
        Predicate::Or(parts) => join(dialect, columns, parts, " OR ", "1 = 0"),
        Predicate::Not(part) => Ok(format!("NOT ({})", condition(dialect, columns, part)?)),
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
    use meshwork_engine::remote::{Comparison, Function, Group, Operation};

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
            Predicate::Not(Box::new(Predicate::StartsWith { column: 1, prefix: "a%".into() })),
        ];
        scan.limit = Some(7);
        let written = select(&Standard, &scan, Some("k < 3")).unwrap();
        assert_eq!(
            written,
            "SELECT \"name\" FROM \"public\".\"o'dd\" WHERE (\"Sel\"\"ect\" >= (-5) OR \
             \"Sel\"\"ect\" IS NULL) AND \"name\" NOT IN ('a''b') AND NOT (\"name\" LIKE 'a!%%' \
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
