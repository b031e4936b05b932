//! Statements about versioned stores.

use std::time::Duration;

use datafusion::sql::sqlparser::tokenizer::Token;
use meshwork_engine::Result;
use meshwork_engine::connector::{ReadVersion, Retention};

use super::super::versions::{Kind, version_of};
use super::super::{Show, Statement, parser_error};
use super::Reader;

impl Reader<'_> {
    pub(super) fn store_statement(&mut self) -> Result<Option<Statement>> {
        let statement = if self.words(&["OPTIMIZE"]) {
            let table = self.name()?;
            Statement::Optimize { table, full: self.words(&["FULL"]) }
        } else if self.words(&["CHECK", "TABLE"]) {
            let table = self.name()?;
            let full = !self.words(&["QUICK"]) && self.words(&["FULL"]);
            Statement::Show(Show::Check { table, full })
        } else if self.words(&["RESTORE", "TABLE"]) {
            self.restore()?
        } else if self.words(&["VACUUM"]) {
            let catalog = self.identifier()?;
            Statement::Vacuum { catalog, keep: self.retention()? }
        } else if self.words(&["BACKUP"]) {
            let catalog = self.identifier()?;
            self.expect_words(&["TO"])?;
            Statement::Backup { catalog, to: self.identifier()? }
        } else if self.words(&["BEGIN", "UPDATE", "BATCH"]) {
            Statement::BeginBatch
        } else if self.words(&["COMMIT"]) {
            Statement::CommitBatch { feed: self.feed()? }
        } else if self.words(&["ROLLBACK"]) {
            Statement::RollbackBatch
        } else {
            return Ok(None);
        };
        Ok(Some(statement))
    }

    fn restore(&mut self) -> Result<Statement> {
        let mut tables = vec![self.name()?];
        while self.symbol(&Token::Comma) {
            tables.push(self.name()?);
        }
        self.expect_words(&["TO"])?;
        Ok(Statement::Restore { tables, version: self.version()? })
    }

    /// Reads `AS APP 'feed' SEQ number` if it is there.
    fn feed(&mut self) -> Result<Option<(String, u64)>> {
        if !self.words(&["AS", "APP"]) {
            return Ok(None);
        }
        let feed = self.parser.parse_literal_string().map_err(|e| parser_error(&e))?;
        self.expect_words(&["SEQ"])?;
        let number = self.parser.parse_literal_uint().map_err(|e| parser_error(&e))?;
        Ok(Some((feed, number)))
    }

    /// Reads `VERSION AS OF number` or `TIMESTAMP AS OF time`.
    pub(super) fn version(&mut self) -> Result<ReadVersion> {
        let (kind, what) = match self.words(&["VERSION"]) {
            true => (Kind::Version, "VERSION"),
            false => (Kind::Time, "TIMESTAMP"),
        };
        if kind == Kind::Time {
            self.expect_words(&["TIMESTAMP"])?;
        }
        self.expect_words(&["AS", "OF"])?;
        if kind == Kind::Time && !self.words(&["TIMESTAMP"]) {
            self.words(&["DATE"]);
        }
        let said = self.parser.next_token();
        version_of(kind, &said.token).ok_or_else(|| {
            self.parser.prev_token();
            self.unexpected(&format!("what {what} AS OF can name"))
        })
    }

    /// Reads `RETAIN number unit` if it is there.
    fn retention(&mut self) -> Result<Option<Retention>> {
        if !self.words(&["RETAIN"]) {
            return Ok(None);
        }
        let number = self.parser.parse_literal_uint().map_err(|e| parser_error(&e))?;
        if self.words(&["VERSIONS"]) || self.words(&["VERSION"]) {
            return Ok(Some(Retention::Versions(number)));
        }
        let unit_s = if self.words(&["DAYS"]) || self.words(&["DAY"]) {
            24 * 60 * 60
        } else if self.words(&["HOURS"]) || self.words(&["HOUR"]) {
            60 * 60
        } else {
            return Err(self.unexpected("VERSIONS, DAYS or HOURS"));
        };
        Ok(Some(Retention::Time(Duration::from_secs(number.saturating_mul(unit_s)))))
    }
}
