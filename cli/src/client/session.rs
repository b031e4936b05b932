//! What a client asks besides statements: its session's options, and the names that the server knows.

use arrow::array::{AsArray, RecordBatch};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetTables, ProstMessageExt,
};
use arrow_flight::{FlightInfo, Ticket};
use futures::TryStreamExt;
use meshwork_coordinator::frontend::flight_sql::session_options::{
    GET_SESSION_OPTIONS, GetSessionOptionsResult, OptionValue, SET_SESSION_OPTIONS,
    SetSessionOptionsRequest, SetSessionOptionsResult, Value,
};
use meshwork_engine::{Error, Result, environment};
use prost::Message;

use super::{ANSWER_DEADLINE, Client, answered, from_flight};

impl Client {
    /// Sets options of the session; those without a value are left alone.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn set_options(&mut self, options: &[(&str, Option<&str>)]) -> Result<()> {
        let session_options = options
            .iter()
            .filter_map(|(name, value)| {
                let value = Some(Value::Text((*value)?.to_owned()));
                Some(((*name).to_owned(), OptionValue { value }))
            })
            .collect();
        let request = SetSessionOptionsRequest { session_options };
        if request.session_options.is_empty() {
            return Ok(());
        }
        let body = self.act(SET_SESSION_OPTIONS, request.encode_to_vec()).await?;
        let refused = SetSessionOptionsResult::decode(body.as_ref()).unwrap_or_default().errors;
        match refused.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::user(
                "INVALID_SESSION_SETTING",
                format!("the server did not take the session option {name}"),
            )),
        }
    }

    /// Returns the session's catalog and schema of names without one.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn place(&mut self) -> Result<(Option<String>, Option<String>)> {
        let body = self.act(GET_SESSION_OPTIONS, Vec::new()).await?;
        let mut options =
            GetSessionOptionsResult::decode(body.as_ref()).unwrap_or_default().session_options;
        let mut text = |name: &str| match options.remove(name)?.value? {
            Value::Text(text) => Some(text),
            Value::Bool(_) | Value::Int(_) | Value::Double(_) | Value::List(_) => None,
        };
        Ok((text("catalog"), text("schema")))
    }

    /// Returns the names of all catalogs.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn catalogs(&mut self) -> Result<Vec<String>> {
        let batches = self.list(&CommandGetCatalogs {}).await?;
        Ok(texts(&batches, "catalog_name"))
    }

    /// Returns the names of the catalog's schemas.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn schemas(&mut self, catalog: &str) -> Result<Vec<String>> {
        let command = CommandGetDbSchemas {
            catalog: Some(catalog.to_owned()),
            db_schema_filter_pattern: None,
        };
        Ok(texts(&self.list(&command).await?, "db_schema_name"))
    }

    /// Returns the names of the schema's tables.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn tables(&mut self, catalog: &str, schema: &str) -> Result<Vec<String>> {
        let command = CommandGetTables {
            catalog: Some(catalog.to_owned()),
            db_schema_filter_pattern: Some(exactly(schema)),
            ..CommandGetTables::default()
        };
        Ok(texts(&self.list(&command).await?, "table_name"))
    }

    /// Returns the names of the table's columns.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn columns(
        &mut self,
        catalog: &str,
        schema: &str,
        table: &str,
    ) -> Result<Vec<String>> {
        let command = CommandGetTables {
            catalog: Some(catalog.to_owned()),
            db_schema_filter_pattern: Some(exactly(schema)),
            table_name_filter_pattern: Some(exactly(table)),
            include_schema: true,
            ..CommandGetTables::default()
        };
        let batches = self.list(&command).await?;
        let mut names = Vec::new();
        for encoded in batches.iter().filter_map(|batch| batch.column_by_name("table_schema")) {
            for bytes in encoded.as_binary::<i32>().iter().flatten() {
                let schema = FlightInfo { schema: bytes.to_vec().into(), ..FlightInfo::default() };
                let columns = schema.try_decode_schema()?;
                names.extend(columns.fields().iter().map(|field| field.name().clone()));
            }
        }
        Ok(names)
    }

    /// Returns the whole answer to a question for metadata.
    async fn list(&mut self, command: &impl ProstMessageExt) -> Result<Vec<RecordBatch>> {
        let ticket = Ticket::new(command.as_any().encode_to_vec());
        let request = self.request(ticket);
        let messages = answered("a listing", self.service.do_get(request)).await?.into_inner();
        let messages = messages.map_err(|status| FlightError::Tonic(Box::new(status)));
        let batches = FlightRecordBatchStream::new_from_flight_data(messages).try_collect();
        environment::within(ANSWER_DEADLINE, "a listing", batches).await?.map_err(from_flight)
    }
}

/// Returns the pattern that matches exactly this name.
fn exactly(name: &str) -> String {
    name.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

fn texts(batches: &[RecordBatch], column: &str) -> Vec<String> {
    let columns = batches.iter().filter_map(|batch| batch.column_by_name(column));
    let mut names: Vec<String> = columns
        .flat_map(|column| column.as_string::<i32>().iter().flatten().map(str::to_owned))
        .collect();
    names.sort();
    names.dedup();
    names
}
