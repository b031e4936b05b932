//! One agreed change of rows as one statement.

use meshwork_engine::remote::{Assigned, Change, ChangeKind, RemoteColumn};
use meshwork_engine::{Error, Result};

use super::write::relation;
use super::{Dialect, condition};

/// Returns the `UPDATE` or `DELETE` of a change.
///
/// # Errors
/// `User` for a value that cannot be written for the source.
pub fn change_statement(dialect: &dyn Dialect, change: &Change) -> Result<String> {
    let table = &change.table;
    let relation = relation(dialect, table)?;
    let mut statement = match &change.kind {
        ChangeKind::Delete => format!("DELETE FROM {relation}"),
        ChangeKind::Update(assignments) => {
            let mut written = Vec::with_capacity(assignments.len());
            for (index, value) in assignments {
                let column = column_at(&table.columns, *index)?;
                let value = match value {
                    Assigned::Null => "NULL".to_owned(),
                    Assigned::Literal(literal) => dialect.assigned(literal, column)?,
                    Assigned::Column(other) => {
                        dialect.identifier(&column_at(&table.columns, *other)?.name)?
                    }
                };
                written.push(format!("{} = {value}", dialect.identifier(&column.name)?));
            }
            format!("UPDATE {relation} SET {}", written.join(", "))
        }
    };
    let conditions = table.filters.iter().map(|filter| condition(dialect, &table.columns, filter));
    let conditions = conditions.collect::<Result<Vec<_>>>()?;
    if !conditions.is_empty() {
        statement.push_str(" WHERE ");
        statement.push_str(&conditions.join(" AND "));
    }
    Ok(statement)
}

fn column_at(columns: &[RemoteColumn], index: usize) -> Result<&RemoteColumn> {
    columns
        .get(index)
        .ok_or_else(|| Error::internal(format!("a change names column {index} of a table")))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;
    use meshwork_engine::remote::{Comparison, Literal, Predicate, RemoteScan};

    use super::*;

    #[derive(Debug)]
    struct Standard;
    impl Dialect for Standard {}

    #[test]
    fn a_change_becomes_one_statement() {
        let column = |name: &str, data_type| RemoteColumn {
            name: name.into(),
            data_type,
            nullable: true,
            remote_type: String::new(),
            detail: serde_json::Value::Null,
        };
        let columns = vec![column("Sel\"ect", DataType::Int64), column("name", DataType::Utf8)];
        let mut table = RemoteScan::whole("c", "public", "o'dd", columns);
        let all = Change { table: table.clone(), kind: ChangeKind::Delete };
        assert_eq!(change_statement(&Standard, &all).unwrap(), "DELETE FROM \"public\".\"o'dd\"");
        let value = Literal::Int(-5);
        table.filters =
            vec![Predicate::Compare { column: 0, comparison: Comparison::Equal, value }];
        let text = Assigned::Literal(Literal::Text("it's".into()));
        let update = ChangeKind::Update(vec![(1, text), (0, Assigned::Null)]);
        assert_eq!(
            change_statement(&Standard, &Change { table, kind: update }).unwrap(),
            "UPDATE \"public\".\"o'dd\" SET \"name\" = 'it''s', \"Sel\"\"ect\" = NULL WHERE \
             \"Sel\"\"ect\" = (-5)"
        );
    }
}
