//! Who the server is: what it may be asked, and how names are quoted, depends on it.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, UInt32Type};
use arrow_flight::sql::{CommandGetSqlInfo, SqlInfo};
use meshwork_engine::remote::{RemoteColumn, RemoteScan};
use meshwork_engine::{Error, Result};
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::listing::Place;

/// What `GetSqlInfo` calls a server whose rules are ours.
const MESHWORK: &str = "Meshwork";

/// A server, as far as its statements depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Peer {
    /// Whether it is a Meshwork, so that its operators are the engine's own.
    pub(super) is_meshwork: bool,
    /// What stands around a name.
    pub(super) quote: char,
}

impl Default for Peer {
    fn default() -> Self {
        Self { is_meshwork: false, quote: '"' }
    }
}

/// What the connector keeps in `RemoteColumn::detail`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Detail {
    pub(super) peer: Peer,
    /// The table's catalog and schema there.
    pub(super) catalog: Option<String>,
    pub(super) schema: Option<String>,
}

impl Detail {
    pub(super) fn new(peer: &Peer, place: &Place) -> Self {
        let Place { catalog, schema } = place.clone();
        Self { peer: peer.clone(), catalog, schema }
    }

    /// Returns what is known of the table of a scan; nothing of one without columns.
    pub(super) fn of(scan: &RemoteScan) -> Self {
        let column = scan.base().columns.first();
        column.map(Self::of_column).unwrap_or_default()
    }

    pub(super) fn of_column(column: &RemoteColumn) -> Self {
        Self::deserialize(&column.detail).unwrap_or_default()
    }
}

/// Asks the server who it is; one that does not say is a stranger.
pub(super) async fn peer(client: &Client) -> Result<Peer> {
    let wanted = [SqlInfo::FlightSqlServerName as u32, SqlInfo::SqlIdentifierQuoteChar as u32];
    let mut peer = Peer::default();
    let said = match client.list(&CommandGetSqlInfo { info: wanted.to_vec() }).await {
        Ok(said) => said,
        Err(error) if error.code == "SOURCE_QUERY_FAILED" => return Ok(peer),
        Err(error) => return Err(error),
    };
    for (name, value) in said.iter().flat_map(facts) {
        match name {
            name if name == wanted[0] => peer.is_meshwork = value == MESHWORK,
            name if name == wanted[1] => {
                let mut letters = value.chars();
                if let (Some(quote @ ('"' | '`')), None) = (letters.next(), letters.next()) {
                    peer.quote = quote;
                }
            }
            _unasked => {}
        }
    }
    Ok(peer)
}

/// Returns the facts that are texts.
fn facts(batch: &RecordBatch) -> Vec<(u32, String)> {
    let (Some(names), Some(values)) =
        (batch.column_by_name("info_name"), batch.column_by_name("value"))
    else {
        return Vec::new();
    };
    let names = names.as_primitive_opt::<UInt32Type>();
    let (Some(names), Some(values)) = (names, values.as_union_opt()) else { return Vec::new() };
    let fact = |row: usize| {
        let value = values.value(row);
        let text = value.as_string_opt::<i32>().filter(|text| text.len() == 1 && text.is_valid(0));
        Some((names.value(row), text?.value(0).to_owned()))
    };
    (0..batch.num_rows()).filter_map(fact).collect()
}

/// Returns the columns of a table or a query.
pub(super) fn remote_columns(schema: &Schema, detail: &Detail) -> Result<Vec<RemoteColumn>> {
    let kept = serde_json::to_value(detail)
        .map_err(|e| Error::internal("a column's detail cannot be kept").caused_by(&e))?;
    let column = |field: &Field| RemoteColumn {
        name: field.name().clone(),
        data_type: plain(field.data_type()),
        // What a stranger promises of NULL is not relied on.
        nullable: true,
        remote_type: field.data_type().to_string(),
        detail: kept.clone(),
    };
    Ok(schema.fields().iter().map(|field| column(field)).collect())
}

/// Returns the type as which a column is read: texts and bytes in one form each, dictionaries as their values.
fn plain(data_type: &DataType) -> DataType {
    // All other types are read as they are.
    match data_type {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_keys, values) => plain(values),
        DataType::RunEndEncoded(_ends, values) => plain(values.data_type()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_has_one_form() {
        let keys = || Box::new(DataType::Int32);
        let of_words = DataType::Dictionary(keys(), Box::new(DataType::LargeUtf8));
        assert_eq!(plain(&of_words), DataType::Utf8);
        assert_eq!(plain(&DataType::BinaryView), DataType::Binary);
        assert_eq!(plain(&DataType::Date64), DataType::Date64);
    }
}
