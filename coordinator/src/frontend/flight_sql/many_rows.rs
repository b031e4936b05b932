//! An INSERT of one row of placeholders, written as an INSERT of many.
//!
//! Drivers send `INSERT INTO t VALUES (?, ?)` with a thousand rows of parameters. Run one by one they
//! would be a thousand commits; as one statement they are there as a whole or not at all.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, SetExpr, Statement, Value, visit_expressions_mut};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// The most rows that become one statement; a larger one takes too long to plan.
pub(super) const ROWS_MAX: usize = 1000;

/// Returns the INSERT for so many rows, whose placeholders count on from row to row; nothing where the
/// statement is not an INSERT of one row of values.
pub(super) fn insert_of(sql: &str, n_rows: usize, n_parameters: usize) -> Option<String> {
    let mut statements = Parser::parse_sql(&GenericDialect {}, sql).ok()?;
    let [Statement::Insert(insert)] = statements.as_mut_slice() else { return None };
    let SetExpr::Values(values) = insert.source.as_mut()?.body.as_mut() else { return None };
    let [row] = values.rows.as_slice() else { return None };
    let mut rows = vec![row.clone(); n_rows];
    for (position, row) in rows.iter_mut().enumerate() {
        let by = position * n_parameters;
        let moved = visit_expressions_mut(&mut row.content, |expression| shift(expression, by));
        if moved.is_break() {
            return None;
        }
    }
    values.rows = rows;
    statements.first().map(ToString::to_string)
}

/// Adds to the number of a placeholder; breaks at one that has a name.
fn shift(expression: &mut Expr, by: usize) -> ControlFlow<()> {
    if let Expr::Value(value) = expression
        && let Value::Placeholder(name) = &mut value.value
    {
        let number = name.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok());
        let Some(number) = number else { return ControlFlow::Break(()) };
        *name = format!("${}", number + by);
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insert_of_one_row_is_written_for_many() {
        assert_eq!(
            insert_of("insert into \"T\" (a, b) values ($2 + 1, lower($1))", 3, 2).unwrap(),
            "INSERT INTO \"T\" (a, b) VALUES ($2 + 1, lower($1)), ($4 + 1, lower($3)), \
             ($6 + 1, lower($5))"
        );
    }

    #[test]
    fn other_statements_are_left_alone() {
        for sql in [
            "INSERT INTO t SELECT $1",
            "INSERT INTO t VALUES ($1), ($2)",
            "INSERT INTO t VALUES (:name)",
            "SELECT $1",
            "not SQL",
        ] {
            assert_eq!(insert_of(sql, 2, 1), None, "{sql}");
        }
    }
}
