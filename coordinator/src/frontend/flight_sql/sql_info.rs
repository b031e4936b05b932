//! `GetSqlInfo`: what this server can do, complete, because JDBC reads about a hundred of these and
//! tools fail on a missing one.
//!
//! Says only what is true: no transactions, no positioned updates, no stored procedures. Function
//! and keyword lists are those of the planner.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_flight::error::Result;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity,
    SqlSupportedTransaction, SqlSupportsConvert, SqlTransactionIsolationLevel,
};
use datafusion::functions::{core, crypto, datetime, encoding, math, regex, string, unicode};
use datafusion::logical_expr::ScalarUDF;
use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;

/// ARROW's format version that results are encoded with.
const ARROW_FORMAT: &str = "1.5";

/// Returns all that `GetSqlInfo` can be asked for.
pub(super) fn sql_info() -> Result<SqlInfoData> {
    let mut builder = SqlInfoDataBuilder::new();
    append_server(&mut builder);
    append_language(&mut builder);
    append_support(&mut builder);
    append_limits(&mut builder);
    append_transactions(&mut builder);
    builder.build()
}

fn append_server(builder: &mut SqlInfoDataBuilder) {
    builder.append(SqlInfo::FlightSqlServerName, "Meshwork");
    builder.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    builder.append(SqlInfo::FlightSqlServerArrowVersion, ARROW_FORMAT);
    builder.append(SqlInfo::FlightSqlServerReadOnly, false);
    builder.append(SqlInfo::FlightSqlServerSql, true);
    builder.append(SqlInfo::FlightSqlServerSubstrait, false);
    builder.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    builder.append(SqlInfo::FlightSqlServerCancel, true);
    builder.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    builder.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    builder.append(SqlInfo::FlightSqlServerStatementTimeout, 0);
    builder.append(SqlInfo::FlightSqlServerTransactionTimeout, 0);
}

fn append_language(builder: &mut SqlInfoDataBuilder) {
    let folded = SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32;
    let exact = SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32;
    builder.append(SqlInfo::SqlIdentifierCase, folded);
    builder.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    builder.append(SqlInfo::SqlQuotedIdentifierCase, exact);
    builder.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedAtEnd as i32);
    builder.append(SqlInfo::SqlKeywords, ALL_KEYWORDS);
    let text = [string::functions(), unicode::functions(), regex::functions()].concat();
    builder.append(SqlInfo::SqlNumericFunctions, names(&math::functions()));
    builder.append(SqlInfo::SqlStringFunctions, names(&text));
    let system = [core::functions(), crypto::functions(), encoding::functions()].concat();
    builder.append(SqlInfo::SqlSystemFunctions, names(&system));
    builder.append(SqlInfo::SqlDatetimeFunctions, names(&datetime::functions()));
    builder.append(SqlInfo::SqlSearchStringEscape, "\\");
    builder.append(SqlInfo::SqlExtraNameCharacters, "");
    builder.append(SqlInfo::SqlSchemaTerm, "schema");
    builder.append(SqlInfo::SqlCatalogTerm, "catalog");
    builder.append(SqlInfo::SqlProcedureTerm, "procedure");
    builder.append(SqlInfo::SqlCatalogAtStart, true);
}

/// Returns the functions' names with their aliases, sorted.
fn names(functions: &[Arc<ScalarUDF>]) -> Vec<String> {
    let mut names: Vec<String> = functions
        .iter()
        .flat_map(|function| function.aliases().iter().cloned().chain([function.name().to_owned()]))
        .collect();
    names.sort();
    names.dedup();
    names
}

fn append_support(builder: &mut SqlInfoDataBuilder) {
    for (what, supported) in [
        (SqlInfo::SqlDdlCatalog, true),
        (SqlInfo::SqlDdlSchema, false),
        (SqlInfo::SqlDdlTable, true),
        (SqlInfo::SqlAllTablesAreSelectable, true),
        (SqlInfo::SqlSupportsColumnAliasing, true),
        (SqlInfo::SqlNullPlusNullIsNull, true),
        (SqlInfo::SqlSupportsTableCorrelationNames, true),
        (SqlInfo::SqlSupportsDifferentTableCorrelationNames, false),
        (SqlInfo::SqlSupportsExpressionsInOrderBy, true),
        (SqlInfo::SqlSupportsOrderByUnrelated, true),
        (SqlInfo::SqlSupportsLikeEscapeClause, true),
        (SqlInfo::SqlSupportsNonNullableColumns, true),
        (SqlInfo::SqlSupportsIntegrityEnhancementFacility, false),
        (SqlInfo::SqlSelectForUpdateSupported, false),
        (SqlInfo::SqlStoredProceduresSupported, false),
        (SqlInfo::SqlCorrelatedSubqueriesSupported, true),
        (SqlInfo::SqlMaxRowSizeIncludesBlobs, true),
        (SqlInfo::SqlBatchUpdatesSupported, true),
        (SqlInfo::SqlSavepointsSupported, false),
        (SqlInfo::SqlNamedParametersSupported, false),
        (SqlInfo::SqlLocatorsUpdateCopy, false),
        (SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported, false),
    ] {
        builder.append(what, supported);
    }
    // Bit masks: each supported member of the enum is the bit of its number.
    let joins = SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32;
    for (what, mask) in [
        (SqlInfo::SqlSupportedGroupBy, 0b11),
        (SqlInfo::SqlSupportedGrammar, 0b11),
        (SqlInfo::SqlAnsi92SupportedLevel, 0b1),
        (SqlInfo::SqlOuterJoinsSupportLevel, 1 << joins),
        (SqlInfo::SqlSchemasSupportedActions, 0),
        (SqlInfo::SqlCatalogsSupportedActions, 0),
        (SqlInfo::SqlSupportedPositionedCommands, 0),
        (SqlInfo::SqlSupportedSubqueries, 0b1111),
        (SqlInfo::SqlSupportedUnions, 0b11),
        (SqlInfo::SqlSupportedResultSetTypes, 0b10),
        (SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified, 0),
        (SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly, 0b10),
        (SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive, 0),
        (SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive, 0),
    ] {
        builder.append(what, mask);
    }
    builder.append(SqlInfo::SqlSupportsConvert, conversions());
}

/// Returns which casts exist: numbers, text, dates and times among themselves, and text to and from
/// all.
fn conversions() -> BTreeMap<i32, Vec<i32>> {
    use SqlSupportsConvert as Type;
    let numbers = [
        Type::SqlConvertBigint,
        Type::SqlConvertBit,
        Type::SqlConvertDecimal,
        Type::SqlConvertFloat,
        Type::SqlConvertInteger,
        Type::SqlConvertNumeric,
        Type::SqlConvertReal,
        Type::SqlConvertSmallint,
        Type::SqlConvertTinyint,
    ];
    let times = [Type::SqlConvertDate, Type::SqlConvertTimestamp];
    let texts = [Type::SqlConvertChar, Type::SqlConvertVarchar, Type::SqlConvertLongvarchar];
    let all = || numbers.iter().chain(&times).chain(&texts);
    let numbered = |types: Vec<&Type>| types.into_iter().map(|kind| *kind as i32).collect();
    let from_number = || numbered(numbers.iter().chain(&texts).collect());
    let from_time = || numbered(times.iter().chain(&texts).collect());
    let from_text = || numbered(all().collect());
    let mut casts = BTreeMap::new();
    casts.extend(numbers.iter().map(|kind| (*kind as i32, from_number())));
    casts.extend(times.iter().map(|kind| (*kind as i32, from_time())));
    casts.extend(texts.iter().map(|kind| (*kind as i32, from_text())));
    casts
}

fn append_limits(builder: &mut SqlInfoDataBuilder) {
    // Zero says that there is no limit, or none that is known.
    for what in [
        SqlInfo::SqlMaxBinaryLiteralLength,
        SqlInfo::SqlMaxCharLiteralLength,
        SqlInfo::SqlMaxColumnNameLength,
        SqlInfo::SqlMaxColumnsInGroupBy,
        SqlInfo::SqlMaxColumnsInIndex,
        SqlInfo::SqlMaxColumnsInOrderBy,
        SqlInfo::SqlMaxColumnsInSelect,
        SqlInfo::SqlMaxColumnsInTable,
        SqlInfo::SqlMaxConnections,
        SqlInfo::SqlMaxCursorNameLength,
        SqlInfo::SqlMaxIndexLength,
        SqlInfo::SqlDbSchemaNameLength,
        SqlInfo::SqlMaxProcedureNameLength,
        SqlInfo::SqlMaxCatalogNameLength,
        SqlInfo::SqlMaxRowSize,
        SqlInfo::SqlMaxStatementLength,
        SqlInfo::SqlMaxStatements,
        SqlInfo::SqlMaxTableNameLength,
        SqlInfo::SqlMaxTablesInSelect,
        SqlInfo::SqlMaxUsernameLength,
    ] {
        builder.append(what, 0_i64);
    }
}

fn append_transactions(builder: &mut SqlInfoDataBuilder) {
    let none = SqlTransactionIsolationLevel::SqlTransactionNone as i32;
    builder.append(SqlInfo::SqlDefaultTransactionIsolation, none);
    builder.append(SqlInfo::SqlTransactionsSupported, false);
    builder.append(SqlInfo::SqlSupportedTransactionsIsolationLevels, 1 << none);
    builder.append(SqlInfo::SqlDataDefinitionCausesTransactionCommit, false);
    builder.append(SqlInfo::SqlDataDefinitionsInTransactionsIgnored, false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_the_specification_is_answered() {
        let known = sql_info().unwrap();
        let all = known.record_batch([]).unwrap();
        // 0 to 5 and 8 to 11 and 100, 101 of the server (versions of Substrait have no answer), 500
        // to 576.
        assert_eq!(all.num_rows(), 6 + 4 + 2 + 77);
        let name = known.record_batch([SqlInfo::FlightSqlServerName as u32]).unwrap();
        assert_eq!(name.num_rows(), 1);
    }
}
