//! One agreed scan as one statement.

use meshwork_engine::remote::{Literal, Predicate, RemoteColumn, RemoteScan};
use meshwork_engine::{Error, Result};

use super::Dialect;

/// Returns the `SELECT` of a scan. `split` is one more condition, written by the connector.
pub fn select(dialect: &dyn Dialect, scan: &RemoteScan, split: Option<&str>) -> Result<String> {
    let columns: Vec<String> =
        scan.projected().map(|column| dialect.selected(column)).collect::<Result<_>>()?;
    let list = match columns.is_empty() {
        true => dialect.empty_projection().to_owned(),
        false => columns.join(", "),
    };
    let (schema, table) = (dialect.identifier(&scan.schema)?, dialect.identifier(&scan.table)?);
    let mut statement = format!("SELECT {list} FROM {schema}.{table}");
    let mut conditions: Vec<String> = Vec::with_capacity(scan.filters.len() + 1);
    for filter in &scan.filters {
        conditions.push(condition(dialect, &scan.columns, filter)?);
    }
    conditions.extend(split.map(str::to_owned));
    if !conditions.is_empty() {
        statement.push_str(" WHERE ");
        statement.push_str(&conditions.join(" AND "));
    }
    if let Some(rows) = scan.limit {
        statement.push(' ');
        statement.push_str(&dialect.limit(rows));
    }
    Ok(statement)
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
    use meshwork_engine::remote::Comparison;
    use serde_json::Value;

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
            detail: Value::Null,
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
}
