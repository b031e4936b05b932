//! The statements that are Meshwork's own, or that it reads differently from DataFusion.

mod store;
mod tables;

use datafusion::sql::sqlparser::ast::{Ident, ObjectName};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};
use meshwork_engine::{Error, Location, Result};

use super::{ExplainMode, Show, Statement, parser_error};

/// The most parts of a name: catalog, schema, table.
const NAME_PARTS_MAX: usize = 3;

/// The procedure that forgets names of catalogs; Trino has it under this name.
const FLUSH: &str = "flush_metadata_cache";

static DIALECT: GenericDialect = GenericDialect {};

/// Reads a statement of ours; `None` if it is not one.
///
/// # Errors
/// `User` with the position when it begins like one of ours but does not go on so.
pub(super) fn parse_own(sql: &str, tokens: &[TokenWithSpan]) -> Result<Option<Statement>> {
    let mut reader = Reader { sql, parser: over(tokens) };
    let statement = reader.statement()?;
    if statement.is_some() {
        reader.end()?;
    }
    Ok(statement)
}

fn over(tokens: &[TokenWithSpan]) -> Parser<'static> {
    Parser::new(&DIALECT).with_tokens_with_locations(tokens.to_vec())
}

/// Reads words and names off a statement's tokens.
struct Reader<'a> {
    sql: &'a str,
    parser: Parser<'static>,
}

impl Reader<'_> {
    fn statement(&mut self) -> Result<Option<Statement>> {
        if let Some(statement) = self.store_statement()? {
            return Ok(Some(statement));
        }
        if self.words(&["EXPLAIN"]) {
            return self.explain().map(Some);
        }
        if self.words(&["SHOW"]) {
            return self.show().map(|show| Some(Statement::Show(show)));
        }
        if self.words(&["ANALYZE"]) {
            return Ok(Some(Statement::Analyze { table: self.name()? }));
        }
        if self.words(&["DESCRIBE"]) || self.words(&["DESC"]) {
            let table = self.name()?;
            return Ok(Some(Statement::Show(Show::Columns { table })));
        }
        if self.words(&["USE"]) {
            return self.use_names().map(Some);
        }
        if self.words(&["SET", "SESSION"]) {
            return self.set_session().map(Some);
        }
        if self.words(&["RESET", "SESSION"]) {
            return Ok(Some(Statement::ResetSession { name: self.setting_name()? }));
        }
        if self.words(&["CALL"]) {
            return self.call().map(Some);
        }
        if self.words(&["CREATE"]) {
            return self.create();
        }
        if self.words(&["ALTER", "TABLE"]) {
            return self.alter_table().map(Some);
        }
        if self.words(&["DROP"]) {
            return self.drop();
        }
        Ok(None)
    }

    fn explain(&mut self) -> Result<Statement> {
        let mode = if self.words(&["ANALYZE"]) {
            ExplainMode::Analyze
        } else if self.words(&["VERBOSE"]) {
            ExplainMode::Verbose
        } else if self.symbol(&Token::LParen) {
            self.expect_words(&["TYPE"])?;
            let mode = if self.words(&["LOGICAL"]) {
                ExplainMode::Logical
            } else {
                self.expect_words(&["DISTRIBUTED"])?;
                ExplainMode::Distributed
            };
            self.expect_symbol(&Token::RParen)?;
            mode
        } else {
            ExplainMode::Full
        };
        let statement = match self.statement()? {
            Some(statement) => statement,
            None => Statement::Plan(Box::new(super::parse_foreign(self.rest())?)),
        };
        self.skip_all();
        Ok(Statement::Explain { mode, statement: Box::new(statement) })
    }

    fn show(&mut self) -> Result<Show> {
        if self.words(&["CATALOGS"]) {
            return Ok(Show::Catalogs { like: self.like()? });
        }
        if self.words(&["SCHEMAS"]) || self.words(&["DATABASES"]) {
            let from = self.words(&["FROM"]) || self.words(&["IN"]);
            let catalog = if from { Some(self.identifier()?) } else { None };
            return Ok(Show::Schemas { catalog, like: self.like()? });
        }
        if self.words(&["TABLES"]) {
            let from = self.words(&["FROM"]) || self.words(&["IN"]);
            let schema = if from { Some(self.name()?) } else { None };
            return Ok(Show::Tables { schema, like: self.like()? });
        }
        if self.words(&["COLUMNS"]) {
            if !self.words(&["FROM"]) {
                self.expect_words(&["IN"])?;
            }
            return Ok(Show::Columns { table: self.name()? });
        }
        if self.words(&["STATS", "FOR"]) {
            return Ok(Show::Stats { table: self.name()? });
        }
        if self.words(&["FUNCTIONS"]) {
            return Ok(Show::Functions { like: self.like()? });
        }
        if self.words(&["SESSION"]) {
            return Ok(Show::Session);
        }
        if self.words(&["CREATE", "CATALOG"]) {
            return Ok(Show::CreateCatalog { name: self.identifier()? });
        }
        if self.words(&["CREATE", "VIEW"]) {
            return Ok(Show::CreateView { name: self.name()? });
        }
        Err(self.unexpected(
            "CATALOGS, SCHEMAS, TABLES, COLUMNS, STATS FOR, FUNCTIONS, SESSION or CREATE",
        ))
    }

    fn use_names(&mut self) -> Result<Statement> {
        let name = self.name()?;
        let parts = parts_of(&name);
        Ok(match parts.as_slice() {
            [schema] => Statement::Use { catalog: None, schema: Some(schema.clone()) },
            [catalog, schema] => {
                Statement::Use { catalog: Some(catalog.clone()), schema: Some(schema.clone()) }
            }
            _ => return Err(self.unexpected("a schema, or a catalog and a schema")),
        })
    }

    fn set_session(&mut self) -> Result<Statement> {
        let name = self.setting_name()?;
        if !self.symbol(&Token::Eq) {
            self.expect_words(&["TO"])?;
        }
        let value = self.value()?;
        Ok(Statement::SetSession { name, value })
    }

    /// `CALL [catalog.]system.flush_metadata_cache()`: the one procedure.
    fn call(&mut self) -> Result<Statement> {
        let name = parts_of(&self.name()?);
        let name: Vec<&str> = name.iter().map(String::as_str).collect();
        let catalog = match name.as_slice() {
            ["system", FLUSH] => None,
            [catalog, "system", FLUSH] => Some((*catalog).to_owned()),
            other => {
                let message = format!("the procedure {}", other.join("."));
                return Err(Error::not_supported(message).with_hint(
                    "CALL catalog.system.flush_metadata_cache() is the one that there is.",
                ));
            }
        };
        self.expect_symbol(&Token::LParen)?;
        self.expect_symbol(&Token::RParen)?;
        Ok(Statement::FlushMetadata { catalog })
    }

    fn create(&mut self) -> Result<Option<Statement>> {
        let or_replace = self.words(&["OR", "REPLACE"]);
        if self.words(&["VIEW"]) {
            return self.create_view(or_replace).map(Some);
        }
        if or_replace {
            return Err(self.unexpected("VIEW"));
        }
        if self.words(&["CATALOG"]) {
            return self.create_catalog().map(Some);
        }
        if self.words(&["SCHEMA"]) {
            let if_not_exists = self.words(&["IF", "NOT", "EXISTS"]);
            return Ok(Some(Statement::CreateSchema { name: self.name()?, if_not_exists }));
        }
        if self.words(&["TABLE"]) {
            return self.create_table().map(Some);
        }
        if self.words(&["ROLLUP"]) {
            return self.create_rollup().map(Some);
        }
        Ok(None)
    }

    fn create_view(&mut self, or_replace: bool) -> Result<Statement> {
        let name = self.name()?;
        self.expect_words(&["AS"])?;
        let start = self.parser.peek_token().span.start;
        // Parsed now, so that a view that cannot be read is refused when it is made.
        super::parse_foreign(self.rest())?;
        self.skip_all();
        let sql = text_from(self.sql, Location { line: start.line, column: start.column });
        Ok(Statement::CreateView { name, or_replace, sql })
    }

    fn create_catalog(&mut self) -> Result<Statement> {
        let if_not_exists = self.words(&["IF", "NOT", "EXISTS"]);
        let name = self.identifier()?;
        self.expect_words(&["USING"])?;
        let kind = self.identifier()?;
        // The parser's own words could quote a password.
        let properties = self.with_options().map_err(|error| Error {
            message: "the properties of a catalog are written ('name' = 'value', ...)".to_owned(),
            causes: Vec::new(),
            ..error
        })?;
        Ok(Statement::CreateCatalog { name, kind, properties, if_not_exists })
    }

    fn drop(&mut self) -> Result<Option<Statement>> {
        if self.words(&["ROLLUP"]) {
            return self.drop_rollup().map(Some);
        }
        let kind = ["TABLE", "VIEW", "CATALOG"].into_iter().find(|kind| self.words(&[kind]));
        let Some(kind) = kind else { return Ok(None) };
        let if_exists = self.words(&["IF", "EXISTS"]);
        Ok(Some(match kind {
            "TABLE" => Statement::DropTable { name: self.name()?, if_exists },
            "VIEW" => Statement::DropView { name: self.name()?, if_exists },
            _ => Statement::DropCatalog { name: self.identifier()?, if_exists },
        }))
    }

    /// Reads `WITH (name = value, ...)` if it is there. Names are folded to lower case.
    fn with_options(&mut self) -> Result<Vec<(String, String)>> {
        let mut options = Vec::new();
        if !self.words(&["WITH"]) {
            return Ok(options);
        }
        self.expect_symbol(&Token::LParen)?;
        while !self.symbol(&Token::RParen) {
            let name = self.option_name()?;
            self.expect_symbol(&Token::Eq)?;
            options.push((name, self.value()?));
            if !self.symbol(&Token::Comma) {
                self.expect_symbol(&Token::RParen)?;
                break;
            }
        }
        Ok(options)
    }

    /// An option is a word, dotted words, or a text: `host`, `tables.raw.events`, `'s3.endpoint'`.
    fn option_name(&mut self) -> Result<String> {
        if let Token::SingleQuotedString(text) = self.parser.peek_token().token {
            self.parser.next_token();
            return Ok(text);
        }
        Ok(parts_of(&self.long_name()?).join("."))
    }

    fn setting_name(&mut self) -> Result<String> {
        Ok(parts_of(&self.name()?).join("."))
    }

    /// A value: text, number, or a bare word such as `true`.
    fn value(&mut self) -> Result<String> {
        let minus = self.symbol(&Token::Minus);
        let token = self.parser.next_token();
        // Everything that is not a plain value is refused.
        match token.token {
            Token::Number(digits, _) => Ok(if minus { format!("-{digits}") } else { digits }),
            Token::SingleQuotedString(text) if !minus => Ok(text),
            Token::Word(word) if !minus => Ok(word.value),
            _ => {
                self.parser.prev_token();
                Err(self.unexpected("a value"))
            }
        }
    }

    fn like(&mut self) -> Result<Option<String>> {
        if !self.words(&["LIKE"]) {
            return Ok(None);
        }
        self.parser.parse_literal_string().map(Some).map_err(|e| parser_error(&e))
    }

    fn identifiers(&mut self) -> Result<Vec<String>> {
        self.expect_symbol(&Token::LParen)?;
        let mut names = vec![self.identifier()?];
        while self.symbol(&Token::Comma) {
            names.push(self.identifier()?);
        }
        self.expect_symbol(&Token::RParen)?;
        Ok(names)
    }

    fn identifier(&mut self) -> Result<String> {
        self.parser.parse_identifier().map(|name| folded(&name)).map_err(|e| parser_error(&e))
    }

    fn name(&mut self) -> Result<ObjectName> {
        let name = self.long_name()?;
        match name.0.len() <= NAME_PARTS_MAX {
            true => Ok(name),
            false => Err(self.unexpected("a name of at most three parts")),
        }
    }

    fn long_name(&mut self) -> Result<ObjectName> {
        self.parser.parse_object_name(false).map_err(|e| parser_error(&e))
    }

    /// Takes the words if all of them come next; takes nothing otherwise.
    fn words(&mut self, words: &[&str]) -> bool {
        let is = |index: usize, word: &&str| {
            matches!(self.parser.peek_nth_token(index).token,
                Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(word))
        };
        let all = words.iter().enumerate().all(|(index, word)| is(index, word));
        if all {
            for _word in words {
                self.parser.next_token();
            }
        }
        all
    }

    fn expect_words(&mut self, words: &[&str]) -> Result<()> {
        match self.words(words) {
            true => Ok(()),
            false => Err(self.unexpected(&words.join(" "))),
        }
    }

    fn symbol(&mut self, symbol: &Token) -> bool {
        self.parser.consume_token(symbol)
    }

    fn expect_symbol(&mut self, symbol: &Token) -> Result<()> {
        match self.symbol(symbol) {
            true => Ok(()),
            false => Err(self.unexpected(&symbol.to_string())),
        }
    }

    /// Returns the tokens that nobody has taken.
    fn rest(&self) -> Vec<TokenWithSpan> {
        (0..).map(|n| self.parser.peek_nth_token(n)).take_while(|t| t.token != Token::EOF).collect()
    }

    fn skip_all(&mut self) {
        while self.parser.next_token().token != Token::EOF {}
    }

    fn end(&mut self) -> Result<()> {
        self.symbol(&Token::SemiColon);
        match self.parser.peek_token().token {
            Token::EOF => Ok(()),
            _ => Err(self.unexpected("the end of the statement")),
        }
    }

    fn unexpected(&self, wanted: &str) -> Error {
        let found = self.parser.peek_token();
        let at = found.span.start;
        let message = format!("expected {wanted}, found {}", found.token);
        Error::user("SYNTAX_ERROR", message).at(Location { line: at.line, column: at.column })
    }
}

/// Returns a name's parts as the planner sees them: unquoted ones in lower case.
pub(crate) fn parts_of(name: &ObjectName) -> Vec<String> {
    name.0.iter().filter_map(|part| part.as_ident().map(folded)).collect()
}

pub(super) fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

/// Returns the text from a position to the end, without a final semicolon.
fn text_from(sql: &str, from: Location) -> String {
    let (mut line, mut column) = (1, 1);
    let text: String = sql
        .chars()
        .filter(|letter| {
            let inside = (line, column) >= (from.line, from.column);
            (line, column) = if *letter == '\n' { (line + 1, 1) } else { (line, column + 1) };
            inside
        })
        .collect();
    text.trim_end().trim_end_matches(';').trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{Statement, parse};
    use meshwork_engine::connector::ReadVersion;

    #[test]
    fn a_catalog_statement_is_read() {
        let sql = "CREATE CATALOG pg USING postgres WITH (host = 'db', port = 5432, \"Tls\" = off, a.b = -1);";
        let Statement::CreateCatalog { name, kind, properties, .. } = parse(sql).unwrap().statement
        else {
            panic!("another statement");
        };
        assert_eq!((name.as_str(), kind.as_str()), ("pg", "postgres"));
        let expected = [("host", "db"), ("port", "5432"), ("Tls", "off"), ("a.b", "-1")];
        assert!(properties.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(expected));
    }

    #[test]
    fn the_one_procedure_is_of_a_catalog_or_of_all() {
        for (sql, expected) in [
            ("CALL Pg.system.flush_metadata_cache()", Some("pg")),
            ("call system.flush_metadata_cache();", None),
        ] {
            let Statement::FlushMetadata { catalog } = parse(sql).unwrap().statement else {
                panic!("another statement");
            };
            assert_eq!(catalog.as_deref(), expected);
        }
        assert_eq!(parse("CALL pg.system.sync()").unwrap_err().code, "NOT_SUPPORTED");
    }

    #[test]
    fn an_aggregate_table_is_read() {
        let sql = "CREATE TABLE ads.clicks (day DATE, site BIGINT NOT NULL, n BIGINT SUM, cost DECIMAL(18,4) SUM, \
                   label VARCHAR REPLACE) AGGREGATE KEY (day, site) WITH (retention = '7 days')";
        let Statement::CreateTable(table) = parse(sql).unwrap().statement else {
            panic!("another statement");
        };
        let expected = [
            ("function.n", "sum"),
            ("function.cost", "sum"),
            ("function.label", "replace"),
            ("model", "aggregate"),
            ("key", "day,site"),
            ("retention", "7 days"),
        ];
        assert!(table.options.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(expected));
    }

    #[test]
    fn a_view_keeps_its_text() {
        let sql = "CREATE OR REPLACE VIEW a.b.v AS\n  SELECT 'x;' AS y -- why\n;";
        let Statement::CreateView { sql, or_replace, .. } = parse(sql).unwrap().statement else {
            panic!("another statement");
        };
        assert!(or_replace);
        assert_eq!(sql, "SELECT 'x;' AS y -- why");
    }

    #[test]
    fn a_version_becomes_a_name_of_its_own() {
        let parsed = parse(
            "SELECT clicks.n, b.n FROM s.clicks FOR VERSION AS OF 3 JOIN s.clicks FOR VERSION AS OF 4 b \
             ON clicks.k = b.k",
        )
        .unwrap();
        let Statement::Plan(plan) = &parsed.statement else { panic!("another statement") };
        let text = plan.to_string();
        assert!(text.contains("s.\"clicks@3\" AS clicks"), "{text}");
        assert!(
            text.contains("s.\"clicks@4\" AS b") || text.contains("s.\"clicks@4\" b"),
            "{text}"
        );
        assert_eq!(parsed.versions.get("clicks@4"), Some(("clicks", ReadVersion::At(4))));
    }

    #[test]
    fn a_time_becomes_a_name_of_its_own() {
        let second = 1_000_000;
        for (said, time) in [
            ("TIMESTAMP '1970-01-01 00:00:07'", 7 * second),
            ("'1970-01-01 01:00:07+01:00'", 7 * second),
            ("DATE '1970-01-02'", 24 * 60 * 60 * second),
        ] {
            let sql = format!("SELECT n FROM s.clicks FOR TIMESTAMP AS OF {said} WHERE n > 0");
            let parsed = parse(&sql).unwrap();
            let Statement::Plan(plan) = &parsed.statement else { panic!("another statement") };
            let name = format!("clicks@{time}us");
            assert!(plan.to_string().contains(&format!("s.\"{name}\" AS clicks")), "{plan}");
            assert_eq!(parsed.versions.get(&name), Some(("clicks", ReadVersion::AsOf(time))));
        }
        let error = parse("SELECT n FROM t FOR TIMESTAMP AS OF 7").unwrap_err();
        assert_eq!(error.location.map(|at| (at.line, at.column)), Some((1, 17)));
    }

    #[test]
    fn what_follows_a_statement_is_refused_with_its_place() {
        let error = parse("SHOW CATALOGS nonsense").unwrap_err();
        assert_eq!(error.location.map(|at| (at.line, at.column)), Some((1, 15)));
    }
}
