//! The columns of a query in the server's own words: what it says of a statement that it prepares and does not run.

use std::sync::Arc;

use meshwork_engine::connections::Purpose;
use meshwork_engine::environment::within;
use meshwork_engine::remote::RemoteColumn;
use meshwork_engine::{Error, Result};
use mysql_async::Column;
use mysql_async::consts::{ColumnFlags, ColumnType};
use mysql_async::prelude::Queryable;
use serde_json::json;

use super::client::Client;
use super::options::ZeroDates;
use super::types::{Declared, Detail, type_under};

/// The character set of bytes that are no text.
const BINARY: u16 = 63;

/// Returns the columns of a query; the server has checked that it is one statement, and whole.
///
/// # Errors
/// `Source` with what the server says of the query; `User` when it returns no columns, or two of one name.
pub(super) async fn columns(client: &Arc<Client>, statement: &str) -> Result<Vec<RemoteColumn>> {
    let wrong = |message: String| Error::user("INVALID_QUERY", message);
    // The driver looks for parameters outside of strings, and takes a backslash before a quote for a part of one.
    if ["\\'", "\\\"", "\\`"].iter().any(|pair| statement.contains(pair)) {
        let what = "a backslash before a quote in a query for MySQL";
        return Err(Error::not_supported(what).with_hint("Write the string as X'...'."));
    }
    let doing = "describing a query";
    let mut session = client.session(Purpose::Look).await?;
    let prepare = session.connection()?.prep(statement.trim().trim_end_matches(';'));
    let prepared = within(client.options.answer_deadline(), doing, prepare).await?;
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(mysql_async::Error::Server(refusal)) => {
            session.finish();
            let said = format!("{}: {} (error {})", client.named(), refusal.message, refusal.code);
            return Err(Error::source("SOURCE_QUERY_FAILED", said));
        }
        Err(error) => return Err(client.failed(doing, error)),
    };
    let found = prepared.columns();
    let n_parameters = prepared.num_params();
    let closed = session.connection()?.close(prepared);
    if let Ok(Ok(())) = within(client.options.answer_deadline(), doing, closed).await {
        session.finish();
    }
    if n_parameters > 0 {
        return Err(wrong("the query for the source has parameters".to_owned()));
    }
    if found.is_empty() {
        return Err(wrong("the query for the source returns no columns".to_owned()));
    }
    let mut columns: Vec<RemoteColumn> = Vec::with_capacity(found.len());
    for column in found.iter() {
        let name = column.name_str().into_owned();
        if columns.iter().any(|other| other.name.eq_ignore_ascii_case(&name)) {
            let message = format!("the query for the source has two columns named \"{name}\"");
            return Err(wrong(message).with_hint("Give one of them another name with AS."));
        }
        columns.push(described(column, name, client.options.zero_dates));
    }
    Ok(columns)
}

/// Of text nobody says by which collation it is compared, so only numbers are known in filters.
fn described(column: &Column, name: String, zero_dates: ZeroDates) -> RemoteColumn {
    let unsigned = column.flags().contains(ColumnFlags::UNSIGNED_FLAG);
    let base = base_of(column);
    let digits = column.column_length();
    let (precision, scale) = match base {
        "decimal" => {
            let signs = u32::from(!unsigned) + u32::from(column.decimals() > 0);
            (digits.checked_sub(signs), Some(column.decimals()))
        }
        "bit" => (Some(digits), None),
        _ => (None, None),
    };
    let full = if unsigned { format!("{base} unsigned") } else { base.to_owned() };
    let declared = Declared {
        base,
        full: &full,
        precision: precision.map(Into::into),
        scale: scale.map(Into::into),
    };
    let is_number = matches!(base, "tinyint" | "smallint" | "int" | "bigint" | "decimal");
    let known = if is_number { base } else { "" };
    RemoteColumn {
        name,
        data_type: type_under(zero_dates, declared),
        nullable: true,
        detail: json!(Detail { base: known.to_owned(), of_view: true, ..Detail::default() }),
        remote_type: full,
    }
}

/// Returns the name of a column's type as `information_schema` has it.
fn base_of(column: &Column) -> &'static str {
    let is_binary = column.character_set() == BINARY;
    // Whatever else there is arrives as text or as bytes.
    match column.column_type() {
        ColumnType::MYSQL_TYPE_TINY => "tinyint",
        ColumnType::MYSQL_TYPE_SHORT => "smallint",
        ColumnType::MYSQL_TYPE_INT24 | ColumnType::MYSQL_TYPE_LONG => "int",
        ColumnType::MYSQL_TYPE_LONGLONG => "bigint",
        ColumnType::MYSQL_TYPE_DECIMAL | ColumnType::MYSQL_TYPE_NEWDECIMAL => "decimal",
        ColumnType::MYSQL_TYPE_FLOAT => "float",
        ColumnType::MYSQL_TYPE_DOUBLE => "double",
        ColumnType::MYSQL_TYPE_BIT => "bit",
        ColumnType::MYSQL_TYPE_YEAR => "year",
        ColumnType::MYSQL_TYPE_DATE | ColumnType::MYSQL_TYPE_NEWDATE => "date",
        ColumnType::MYSQL_TYPE_DATETIME | ColumnType::MYSQL_TYPE_DATETIME2 => "datetime",
        ColumnType::MYSQL_TYPE_TIMESTAMP | ColumnType::MYSQL_TYPE_TIMESTAMP2 => "timestamp",
        ColumnType::MYSQL_TYPE_TIME | ColumnType::MYSQL_TYPE_TIME2 => "time",
        ColumnType::MYSQL_TYPE_GEOMETRY => "geometry",
        ColumnType::MYSQL_TYPE_JSON => "json",
        _ if is_binary => "blob",
        _ => "text",
    }
}
