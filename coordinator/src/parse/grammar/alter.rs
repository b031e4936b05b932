//! `ALTER TABLE`.

use datafusion::sql::sqlparser::ast::ObjectName;
use meshwork_engine::Result;

use super::super::{Statement, TableAlteration, parser_error};
use super::{Reader, defined};

impl Reader<'_> {
    /// Reads what stands behind `ALTER TABLE`.
    pub(super) fn alter_table(&mut self) -> Result<Statement> {
        let name = self.name()?;
        let change = self.alteration(&name)?;
        Ok(Statement::AlterTable { name, change })
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
