//! Text to statement, with line and column in every error.
//!
//! Meshwork's own statements are read here ([`grammar`]); everything else is left to DataFusion's parser, and then made to mean
//! what its author meant, or refused. Nothing here looks a name up.

mod distinct;
mod exists;
mod grammar;
mod ignored;
mod names;
mod numbers;
mod pass_through;
mod versions;

use datafusion::sql::parser::{DFParserBuilder, Statement as DataFusionStatement};
use datafusion::sql::sqlparser::ast::{ObjectName, Statement as SqlStatement, Update};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{TokenWithSpan, Tokenizer};
use meshwork_engine::connector::{ReadVersion, Retention};
use meshwork_engine::{Error, Location, Result};

pub(crate) use grammar::parts_of;
pub(crate) use names::{is_repeated, shown_name, shown_text};
pub(crate) use pass_through::{functions_read, statement_of};
pub(crate) use versions::TableVersions;

/// The longest statement that is read, in bytes.
const STATEMENT_BYTES_MAX: usize = 4 << 20;

/// One statement, ready to be resolved.
#[derive(Debug, Clone)]
pub(crate) struct Parsed {
    pub(crate) statement: Statement,
    /// Which tables of the statement are read at a version of their own.
    pub(crate) versions: TableVersions,
}

/// What a statement asks for.
#[derive(Debug, Clone)]
pub(crate) enum Statement {
    /// A query, or an insert: whatever becomes a plan.
    Plan(Box<DataFusionStatement>),
    CreateTable(Box<CreateTable>),
    AlterTable {
        name: ObjectName,
        change: TableAlteration,
    },
    DropTable {
        name: ObjectName,
        if_exists: bool,
    },
    CreateSchema {
        name: ObjectName,
        if_not_exists: bool,
    },
    CreateView {
        name: ObjectName,
        or_replace: bool,
        sql: String,
    },
    DropView {
        name: ObjectName,
        if_exists: bool,
    },
    CreateCatalog {
        name: String,
        kind: String,
        properties: Vec<(String, String)>,
        if_not_exists: bool,
    },
    DropCatalog {
        name: String,
        if_exists: bool,
    },
    Show(Show),
    Analyze {
        table: ObjectName,
    },
    /// `OPTIMIZE table [FULL]`
    Optimize {
        table: ObjectName,
        full: bool,
    },
    /// `CREATE TABLE [IF NOT EXISTS] name CLONE of [{VERSION AS OF number | TIMESTAMP AS OF time}]`
    CloneTable {
        name: ObjectName,
        of: ObjectName,
        version: ReadVersion,
        if_not_exists: bool,
    },
    /// `RESTORE TABLE table, ... TO {VERSION AS OF number | TIMESTAMP AS OF time}`
    Restore {
        tables: Vec<ObjectName>,
        version: ReadVersion,
    },
    /// `VACUUM catalog [RETAIN number {VERSIONS | DAYS | HOURS}]`
    Vacuum {
        catalog: String,
        keep: Option<Retention>,
    },
    /// `BACKUP catalog TO catalog`
    Backup {
        catalog: String,
        to: String,
    },
    /// `CALL [catalog.]system.flush_metadata_cache()`: of one catalog, or of all.
    FlushMetadata {
        catalog: Option<String>,
    },
    Use {
        catalog: Option<String>,
        schema: Option<String>,
    },
    SetSession {
        name: String,
        value: String,
    },
    ResetSession {
        name: String,
    },
    Explain {
        mode: ExplainMode,
        statement: Box<Statement>,
    },
    BeginBatch,
    /// `COMMIT [AS APP 'feed' SEQ number]`
    CommitBatch {
        feed: Option<(String, u64)>,
    },
    RollbackBatch,
}

/// What an `ALTER TABLE` changes.
#[derive(Debug, Clone)]
pub(crate) enum TableAlteration {
    /// `ADD [COLUMN] name type [FUNCTION] [NOT NULL] [DEFAULT value]`
    AddColumn {
        /// As a table of this one column.
        column: Box<DataFusionStatement>,
        function: Option<String>,
        default: Option<String>,
    },
    /// `DROP [COLUMN] name`
    DropColumn { name: String },
    /// `RENAME [COLUMN] name TO name`
    RenameColumn { name: String, to: String },
    /// `ALTER [COLUMN] name [SET DATA] TYPE type`, as a table of this one column.
    ColumnType { column: Box<DataFusionStatement> },
    /// `RENAME TO name`
    Rename { to: String },
    /// `CREATE ROLLUP name ON table (columns)`
    AddRollup { name: String, columns: Vec<String> },
    /// `DROP ROLLUP name ON table`
    DropRollup { name: String },
}

/// `CREATE TABLE`, with or without a query.
#[derive(Debug, Clone)]
pub(crate) struct CreateTable {
    pub(crate) name: ObjectName,
    /// `CREATE TABLE name (columns)` as DataFusion reads it; `None` with a query alone.
    pub(crate) columns: Option<Box<DataFusionStatement>>,
    pub(crate) options: Vec<(String, String)>,
    pub(crate) if_not_exists: bool,
    pub(crate) query: Option<Box<DataFusionStatement>>,
}

/// What a `SHOW` lists; `like` is a pattern with `%` and `_`.
#[derive(Debug, Clone)]
pub(crate) enum Show {
    Catalogs {
        like: Option<String>,
    },
    Schemas {
        catalog: Option<String>,
        like: Option<String>,
    },
    Tables {
        schema: Option<ObjectName>,
        like: Option<String>,
    },
    Columns {
        table: ObjectName,
    },
    Stats {
        table: ObjectName,
    },
    Functions {
        like: Option<String>,
    },
    Session,
    CreateCatalog {
        name: String,
    },
    CreateView {
        name: ObjectName,
    },
    /// `CHECK TABLE table [QUICK | FULL]`
    Check {
        table: ObjectName,
        full: bool,
    },
}

/// What `EXPLAIN` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExplainMode {
    /// All plans and what was pushed into sources.
    Full,
    /// Only the optimised logical plan.
    Logical,
    /// Only the plan as it is distributed.
    Distributed,
    /// All plans, and the logical plan after each rule that changed it.
    Verbose,
    /// Runs the statement and prints what each operator did.
    Analyze,
}

/// Returns the one statement of `sql`; a final semicolon is accepted.
///
/// # Errors
/// `User` with the code `SYNTAX_ERROR` and the position.
pub(crate) fn parse(sql: &str) -> Result<Parsed> {
    if sql.len() > STATEMENT_BYTES_MAX {
        let megabytes = STATEMENT_BYTES_MAX >> 20;
        return Err(Error::user(
            "STATEMENT_TOO_LONG",
            format!("the statement is longer than {megabytes} MiB"),
        ));
    }
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, sql).tokenize_with_location().map_err(|e| {
        let at = Location { line: e.location.line, column: e.location.column };
        Error::user("SYNTAX_ERROR", lowered(&e.message)).at(at)
    })?;
    let (tokens, versions) = versions::take_versions(tokens)?;
    let statement = match grammar::parse_own(sql, &tokens)? {
        Some(statement) => statement,
        None => Statement::Plan(Box::new(parse_foreign(tokens)?)),
    };
    Ok(Parsed { statement, versions })
}

/// Leaves a statement to DataFusion's parser; refuses what Meshwork does not run.
fn parse_foreign(tokens: Vec<TokenWithSpan>) -> Result<DataFusionStatement> {
    let only_one = |count: usize| match count {
        1 => Ok(()),
        0 => Err(Error::user("SYNTAX_ERROR", "there is no statement")),
        _ => Err(Error::user("SYNTAX_ERROR", "there is more than one statement")
            .with_hint("Send one statement at a time.")),
    };
    let dialect = GenericDialect {};
    let mut statements = DFParserBuilder::new(tokens)
        .with_dialect(&dialect)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|e| syntax_error(&e))?;
    only_one(statements.len())?;
    let mut statement = statements.pop_front().expect("there is exactly one statement");
    refuse_unsupported(&statement)?;
    pass_through::name_queries(&mut statement)?;
    distinct::bind_distinct(&mut statement);
    names::name_columns(&mut statement);
    exists::count_existing(&mut statement)?;
    numbers::type_exponents(&mut statement);
    Ok(statement)
}

/// Only queries and changes of rows become plans; all else has its own statement or is not there.
fn refuse_unsupported(statement: &DataFusionStatement) -> Result<()> {
    let DataFusionStatement::Statement(inner) = statement else {
        let text = statement.to_string();
        let head = text.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        return Err(Error::not_supported(format!("the statement {head}")));
    };
    // Of sqlparser's many statements these are run; the others are named in the error.
    match inner.as_ref() {
        SqlStatement::Query(_) | SqlStatement::Insert(_) | SqlStatement::Delete(_) => {
            ignored::refuse_ignored(inner)
        }
        SqlStatement::Update(update) => {
            refuse_repeated_targets(update)?;
            ignored::refuse_ignored(inner)
        }
        other => {
            let text = other.to_string();
            let head = text.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            Err(Error::not_supported(format!("the statement {head}")))
        }
    }
}

/// The planner would take one of two values for a column, whichever.
fn refuse_repeated_targets(update: &Update) -> Result<()> {
    let mut targets: Vec<String> = update
        .assignments
        .iter()
        .map(|assignment| assignment.target.to_string().to_lowercase())
        .collect();
    targets.sort();
    match targets.windows(2).find(|pair| pair.first() == pair.last()) {
        None => Ok(()),
        Some(pair) => {
            let message = format!("column {} is set twice", pair.first().map_or("", |name| name));
            Err(Error::user("DUPLICATE_COLUMN", message))
        }
    }
}

/// Returns the error of DataFusion's parser with its position taken out of the text.
fn syntax_error(error: &datafusion::common::DataFusionError) -> Error {
    let ours = Error::from_datafusion(error);
    match split_position(&ours.message) {
        Some((message, at)) => Error::user("SYNTAX_ERROR", message).at(at),
        None => Error::user("SYNTAX_ERROR", lowered(strip_prefixes(&ours.message))),
    }
}

/// The same for sqlparser's own errors.
fn parser_error(error: &ParserError) -> Error {
    let text = error.to_string();
    match split_position(&text) {
        Some((message, at)) => Error::user("SYNTAX_ERROR", message).at(at),
        None => Error::user("SYNTAX_ERROR", lowered(strip_prefixes(&text))),
    }
}

/// sqlparser writes positions as ` at Line: 1, Column: 8` behind the message.
fn split_position(text: &str) -> Option<(String, Location)> {
    let (message, rest) = text.rsplit_once(" at Line: ")?;
    let (line, rest) = rest.split_once(", Column: ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let at = Location { line: line.parse().ok()?, column: digits.parse().ok()? };
    Some((lowered(strip_prefixes(message)), at))
}

fn strip_prefixes(text: &str) -> &str {
    let mut text = text;
    for prefix in ["SQL error: ", "sQL error: ", "ParserError(\"", "sql parser error: "] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    text.trim_end_matches("\")")
}

fn lowered(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syntax_error_has_its_position() {
        let error = parse("SELECT (1\nFROM t").unwrap_err();
        assert_eq!(error.code, "SYNTAX_ERROR");
        assert_eq!(error.location.map(|at| at.line), Some(2), "{error:?}");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error =
            parse("MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE").unwrap_err();
        assert_eq!(error.code, "NOT_SUPPORTED");
        assert!(error.message.contains("MERGE INTO"), "{error}");
    }
}
