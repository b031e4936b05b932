//! `CREATE TABLE`, `ALTER TABLE`, `CREATE ROLLUP` and `DROP ROLLUP`.

use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::{ObjectName, Statement as SqlStatement};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use meshwork_engine::connector::ReadVersion;
use meshwork_engine::{Error, Result};

use super::super::{CreateTable, Statement, TableAlteration, parse_foreign, parser_error};
use super::{DIALECT, Reader, folded};

/// Functions that fold a value column of an aggregate table.
const VALUE_FUNCTIONS: [&str; 9] = [
    "SUM",
    "MIN",
    "MAX",
    "COUNT",
    "REPLACE",
    "REPLACE_IF_NOT_NULL",
    "FIRST",
    "BOOL_AND",
    "BOOL_OR",
];

impl Reader<'_> {
    /// `CREATE TABLE [IF NOT EXISTS] name [(columns)] [AGGREGATE|UNIQUE|DUPLICATE KEY (...)] [WITH (...)] [AS query]`
    pub(super) fn create_table(&mut self) -> Result<Statement> {
        let if_not_exists = self.words(&["IF", "NOT", "EXISTS"]);
        let name = self.name()?;
        if self.words(&["CLONE"]) {
            let of = self.name()?;
            let is_newest = self.parser.peek_token().token == Token::EOF;
            let version = if is_newest { ReadVersion::Committed } else { self.version()? };
            return Ok(Statement::CloneTable { name, of, version, if_not_exists });
        }
        let mut options = Vec::new();
        let has_columns = matches!(self.parser.peek_token().token, Token::LParen);
        let columns = if has_columns { Some(self.columns(&name, &mut options)?) } else { None };
        for model in ["AGGREGATE", "UNIQUE", "DUPLICATE"] {
            if self.words(&[model, "KEY"]) {
                options.push(("model".to_owned(), model.to_lowercase()));
                options.push(("key".to_owned(), self.identifiers()?.join(",")));
            }
        }
        options.extend(self.with_options()?);
        let query = if self.words(&["AS"]) {
            let query = parse_foreign(self.rest())?;
            self.skip_all();
            Some(Box::new(query))
        } else {
            None
        };
        if query.is_none() && columns.is_none() {
            return Err(self.unexpected("a list of columns, or AS and a query"));
        }
        let columns = columns.map(Box::new);
        Ok(Statement::CreateTable(Box::new(CreateTable {
            name,
            columns,
            options,
            if_not_exists,
            query,
        })))
    }

    /// Reads `(name type [FUNCTION] [NOT NULL], ...)`; functions become options `function.<column>`.
    fn columns(
        &mut self,
        table: &ObjectName,
        options: &mut Vec<(String, String)>,
    ) -> Result<DataFusionStatement> {
        self.expect_symbol(&Token::LParen)?;
        let mut columns = Vec::new();
        loop {
            let (name, column, function) = self.column()?;
            if let Some(function) = function {
                options.push((format!("function.{name}"), function));
            }
            columns.push(column);
            if !self.symbol(&Token::Comma) {
                break;
            }
        }
        self.expect_symbol(&Token::RParen)?;
        defined(table, &columns.join(", "))
    }

    /// Reads `name type [FUNCTION] [NOT NULL]`; returns the name, what a plain definition says, and the function.
    fn column(&mut self) -> Result<(String, String, Option<String>)> {
        let name = self.parser.parse_identifier().map_err(|e| parser_error(&e))?;
        let data_type = self.parser.parse_data_type().map_err(|e| parser_error(&e))?;
        let function = VALUE_FUNCTIONS.into_iter().find(|function| self.words(&[function]));
        let null = if self.words(&["NOT", "NULL"]) { " NOT NULL" } else { "" };
        let column = format!("{name} {data_type}{null}");
        Ok((folded(&name), column, function.map(str::to_lowercase)))
    }

    /// Reads what stands behind `ALTER TABLE`.
    pub(super) fn alter_table(&mut self) -> Result<Statement> {
        let name = self.name()?;
        let change = self.alteration(&name)?;
        Ok(Statement::AlterTable { name, change })
    }

    /// Reads what stands behind `CREATE ROLLUP`.
    pub(super) fn create_rollup(&mut self) -> Result<Statement> {
        let rollup = self.identifier()?;
        self.expect_words(&["ON"])?;
        let name = self.name()?;
        let columns = self.identifiers()?;
        Ok(Statement::AlterTable {
            name,
            change: TableAlteration::AddRollup { name: rollup, columns },
        })
    }

    /// Reads what stands behind `DROP ROLLUP`.
    pub(super) fn drop_rollup(&mut self) -> Result<Statement> {
        let rollup = self.identifier()?;
        self.expect_words(&["ON"])?;
        let name = self.name()?;
        Ok(Statement::AlterTable { name, change: TableAlteration::DropRollup { name: rollup } })
    }

    fn alteration(&mut self, table: &ObjectName) -> Result<TableAlteration> {
        if self.words(&["RENAME", "TO"]) {
            return Ok(TableAlteration::Rename { to: self.identifier()? });
        }
        let what = ["ADD", "DROP", "RENAME", "ALTER"].into_iter().find(|word| self.words(&[word]));
        self.words(&["COLUMN"]);
        Ok(match what {
            Some("ADD") => {
                let (_name, column, function) = self.column()?;
                let default = match self.words(&["DEFAULT"]) {
                    true => {
                        let value = self.parser.parse_expr().map_err(|e| parser_error(&e))?;
                        Some(value.to_string())
                    }
                    false => None,
                };
                let column = Box::new(defined(table, &column)?);
                TableAlteration::AddColumn { column, function, default }
            }
            Some("DROP") => TableAlteration::DropColumn { name: self.identifier()? },
            Some("RENAME") => {
                let name = self.identifier()?;
                self.expect_words(&["TO"])?;
                TableAlteration::RenameColumn { name, to: self.identifier()? }
            }
            Some(_) => {
                let name = self.parser.parse_identifier().map_err(|e| parser_error(&e))?;
                self.words(&["SET", "DATA"]);
                self.expect_words(&["TYPE"])?;
                let data_type = self.parser.parse_data_type().map_err(|e| parser_error(&e))?;
                let column = Box::new(defined(table, &format!("{name} {data_type}"))?);
                TableAlteration::ColumnType { column }
            }
            None => return Err(self.unexpected("ADD, DROP, RENAME or ALTER")),
        })
    }
}

/// Returns the definition of a table with these columns, as DataFusion's parser reads it.
fn defined(table: &ObjectName, columns: &str) -> Result<DataFusionStatement> {
    let plain = format!("CREATE TABLE {table} ({columns})");
    let mut parsed = Parser::parse_sql(&DIALECT, &plain).map_err(|e| parser_error(&e))?;
    let statement: SqlStatement =
        parsed.pop().ok_or_else(|| Error::internal("a table without a statement"))?;
    Ok(DataFusionStatement::Statement(Box::new(statement)))
}
