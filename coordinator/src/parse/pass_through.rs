//! `TABLE(catalog.system.query(query => '...'))`: a statement in a source's own words, read as a table.
//!
//! It becomes a table of the schema `system` whose name holds the statement ([`statement_of`]), so that everything behind
//! treats it as any other table. Nothing of the statement is read here. Other functions in `FROM` are the planner's.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart,
    TableAlias, TableFactor, Value, Visit, VisitMut, Visitor, VisitorMut,
};
use meshwork_engine::{Error, Result};

use super::parts_of;

/// Where such tables are, and how their names begin.
const SCHEMA: &str = "system";
const FUNCTION: &str = "query";
const MARK: &str = "query: ";

/// Returns the statement that a table's name stands for.
pub(crate) fn statement_of<'a>(schema: &str, table: &'a str) -> Option<&'a str> {
    table.strip_prefix(MARK).filter(|_| schema == SCHEMA)
}

/// Makes tables of all calls.
///
/// # Errors
/// `User` when a call has other arguments than one text.
pub(super) fn name_queries(statement: &mut DataFusionStatement) -> Result<()> {
    let DataFusionStatement::Statement(statement) = statement else { return Ok(()) };
    match VisitMut::visit(statement.as_mut(), &mut NameQueries) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Returns the names of the functions that the statement reads from: no catalog has them.
pub(crate) fn functions_read(statement: &DataFusionStatement) -> BTreeSet<Vec<String>> {
    let mut read = FunctionsRead::default();
    if let DataFusionStatement::Statement(statement) = statement {
        // It never breaks off.
        let _infallible = statement.visit(&mut read);
    }
    read.0
}

struct NameQueries;

impl VisitorMut for NameQueries {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        let Some((catalog, arguments, alias)) = call(factor) else {
            return ControlFlow::Continue(());
        };
        let statement = match only_text(arguments) {
            Ok(statement) => statement,
            Err(error) => return ControlFlow::Break(error),
        };
        let alias = alias.clone().unwrap_or_else(|| TableAlias {
            explicit: true,
            name: Ident::new(FUNCTION),
            columns: Vec::new(),
            at: None,
        });
        let quoted = |text: String| ObjectNamePart::Identifier(Ident::with_quote('"', text));
        let name = [catalog, SCHEMA.to_owned(), format!("{MARK}{statement}")].map(quoted);
        *factor = TableFactor::Table {
            name: ObjectName(name.into()),
            alias: Some(alias),
            args: None,
            with_hints: Vec::new(),
            version: None,
            with_ordinality: false,
            partitions: Vec::new(),
            json_path: None,
            sample: None,
            index_hints: Vec::new(),
        };
        ControlFlow::Continue(())
    }
}

/// Returns the catalog, arguments and alias of a call of `catalog.system.query`.
fn call(factor: &TableFactor) -> Option<(String, &[FunctionArg], &Option<TableAlias>)> {
    // Nothing else calls a function.
    let (name, arguments, alias) = match factor {
        TableFactor::Table { name, args: Some(arguments), alias, .. } => {
            (name, arguments.args.as_slice(), alias)
        }
        TableFactor::TableFunction { expr: Expr::Function(function), alias } => {
            match &function.args {
                FunctionArguments::List(list) => (&function.name, list.args.as_slice(), alias),
                _ => return None,
            }
        }
        _ => return None,
    };
    match parts_of(name).as_slice() {
        [catalog, schema, function] if schema == SCHEMA && function == FUNCTION => {
            Some((catalog.clone(), arguments, alias))
        }
        _ => None,
    }
}

fn only_text(arguments: &[FunctionArg]) -> Result<String> {
    let value = match arguments {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(value))] => value,
        [FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. }]
            if name.value.eq_ignore_ascii_case(FUNCTION) =>
        {
            value
        }
        [
            FunctionArg::ExprNamed {
                name: Expr::Identifier(name),
                arg: FunctionArgExpr::Expr(value),
                ..
            },
        ] if name.value.eq_ignore_ascii_case(FUNCTION) => value,
        _ => return Err(wrong_argument()),
    };
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Ok(text.clone()),
            _ => Err(wrong_argument()),
        },
        _ => Err(wrong_argument()),
    }
}

fn wrong_argument() -> Error {
    Error::user("INVALID_QUERY", "system.query takes one argument, the text of a statement")
        .with_hint("Write TABLE(catalog.system.query(query => 'SELECT ...')).")
}

#[derive(Default)]
struct FunctionsRead(BTreeSet<Vec<String>>);

impl Visitor for FunctionsRead {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: Some(_), .. } = factor {
            self.0.insert(parts_of(name));
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Statement, parse};
    use super::*;

    fn shown(sql: &str) -> String {
        match parse(sql).unwrap().statement {
            Statement::Plan(statement) => statement.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_call_becomes_a_table() {
        let named =
            shown("SELECT * FROM TABLE(pg.system.query(query => 'SELECT ''a'' AS x')) AS q");
        let positional = shown("SELECT * FROM pg.system.query('SELECT ''a'' AS x') AS q");
        assert_eq!(named, positional);
        assert!(named.contains("\"pg\".\"system\".\"query: SELECT 'a' AS x\" AS q"), "{named}");
        assert_eq!(statement_of("system", "query: SELECT 1"), Some("SELECT 1"));
        assert_eq!(statement_of("public", "query: SELECT 1"), None);
    }

    #[test]
    fn anything_but_one_text_is_refused() {
        for arguments in ["", "1", "query => 1", "text => 'SELECT 1'", "'a', 'b'"] {
            let sql = format!("SELECT * FROM TABLE(pg.system.query({arguments}))");
            assert_eq!(parse(&sql).unwrap_err().code, "INVALID_QUERY", "{arguments}");
        }
    }
}
