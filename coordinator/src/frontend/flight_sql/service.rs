//! One method for each command of Flight SQL; each says who asks, hands over, and encodes the
//! answer.
//!
//! Which session a request belongs to has been decided by [`super::door`] and travels in its
//! extensions.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::metadata::{SqlInfoData, XdbcTypeInfoData};
use arrow_flight::sql::server::{DoPutError, FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any,
    CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys,
    CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes,
    CommandGetTables, CommandGetXdbcTypeInfo, CommandPreparedStatementQuery,
    CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery,
    CommandStatementUpdate, DoPutPreparedStatementResult, ProstMessageExt, SqlInfo,
    TicketStatementQuery,
};
use arrow_flight::{
    Action, ActionType, FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, SchemaAsIpc,
    Ticket,
};
use bytes::Bytes;
use meshwork_engine::{Error, Result};
use prost::Message;
use tonic::{Request, Response, Status};

use super::listing::{self, Listing};
use super::sessions::{Caller, Sessions};
use super::statements::{PreparedStatement, Statements};
use super::status::{status, status_of};
use super::{actions, keys, parameters, results, sql_info, type_info};
use crate::{Coordinator, StatementKind};

/// Answers the commands; shared by all connections.
pub(super) struct Service {
    pub(super) coordinator: Arc<Coordinator>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) statements: Statements,
    sql_info: SqlInfoData,
    type_info: XdbcTypeInfoData,
}

type FlightStream<T> = std::result::Result<Response<T>, Status>;
type DoGet = FlightStream<<Service as FlightService>::DoGetStream>;
type GetInfo = FlightStream<FlightInfo>;

impl Service {
    pub(super) fn new(coordinator: Arc<Coordinator>, sessions: Arc<Sessions>) -> Result<Self> {
        let broken = |error: arrow_flight::error::FlightError| {
            Error::internal("the answers about this server could not be made").caused_by(&error)
        };
        Ok(Self {
            statements: Statements::new(Arc::clone(&coordinator)),
            coordinator,
            sessions,
            sql_info: sql_info::sql_info().map_err(broken)?,
            type_info: type_info::type_info().map_err(broken)?,
        })
    }

    /// Returns the columns of what the statement would answer; nothing is kept.
    pub(super) async fn statement_schema(
        &self,
        caller: &Caller,
        sql: &str,
    ) -> Result<SchemaRef, Status> {
        let statement = self.statements.plan(caller, sql).await.map_err(status)?;
        Ok(statement.schema)
    }

    /// Answers with a ticket for one execution of the statement.
    fn ticket_for(&self, statement: &PreparedStatement, descriptor: FlightDescriptor) -> GetInfo {
        let handle = self.statements.ticket(statement).map_err(status)?;
        let ticket = TicketStatementQuery { statement_handle: handle.into() };
        let kind = results::kind(statement.kind);
        let answer = flight_info(&ticket, &statement.schema, descriptor)?;
        Ok(Response::new(answer.with_app_metadata(format!(r#"{{"kind":"{kind}"}}"#))))
    }
}

/// Returns the caller that the door put into the request.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let missing = || status(Error::internal("a request came in without passing the door"));
    request.extensions().get::<Caller>().cloned().ok_or_else(missing)
}

/// Returns the answer whose one endpoint takes the message as its ticket.
fn flight_info(
    ticket: &impl ProstMessageExt,
    schema: &Schema,
    descriptor: FlightDescriptor,
) -> Result<FlightInfo, Status> {
    let ticket = Ticket::new(ticket.as_any().encode_to_vec());
    let endpoint = FlightEndpoint::new().with_ticket(ticket);
    let answer = FlightInfo::new().try_with_schema(schema).map_err(status_of)?;
    Ok(answer.with_endpoint(endpoint).with_descriptor(descriptor))
}

/// Answers a question for metadata: its ticket is the command itself.
fn metadata_info(
    command: &impl ProstMessageExt,
    schema: &Schema,
    request: Request<FlightDescriptor>,
) -> GetInfo {
    flight_info(command, schema, request.into_inner()).map(Response::new)
}

fn empty(schema: SchemaRef) -> DoGet {
    Ok(results::respond_batch(RecordBatch::new_empty(schema)))
}

/// Returns the schema as a message of Arrow's IPC, as prepared statements carry it.
fn ipc_schema(schema: &Schema) -> Result<Bytes, Status> {
    let options = arrow::ipc::writer::IpcWriteOptions::default();
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &options).try_into().map_err(status_of)?;
    Ok(bytes)
}

#[tonic::async_trait]
impl FlightSqlService for Service {
    type FlightService = Self;

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> GetInfo {
        let caller = caller(&request)?;
        let statement = self.statements.plan(&caller, &query.query).await.map_err(status)?;
        self.ticket_for(&statement, request.into_inner())
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        request: Request<Ticket>,
    ) -> DoGet {
        let caller = caller(&request)?;
        let redeemed = self.statements.redeem(&caller, &ticket.statement_handle).await;
        Ok(results::respond(redeemed.map_err(status)?))
    }

    /// A query's text instead of a ticket: planned and executed in one request, for clients that need no plan.
    async fn do_get_fallback(&self, request: Request<Ticket>, message: Any) -> DoGet {
        let caller = caller(&request)?;
        let query: Option<CommandStatementQuery> = message.unpack().map_err(status_of)?;
        let query = query.ok_or_else(|| {
            status(Error::not_supported(format!("DoGet of {}", message.type_url)))
        })?;
        let redeemed = self.statements.run(&caller, &query.query).await;
        Ok(results::respond(redeemed.map_err(status)?))
    }

    async fn do_put_statement_update(
        &self,
        command: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let caller = caller(&request)?;
        let statement = self.statements.plan(&caller, &command.query).await.map_err(status)?;
        self.statements.update(&caller, &statement, vec![Vec::new()]).await.map_err(status)
    }

    async fn do_put_statement_ingest(
        &self,
        _command: CommandStatementIngest,
        _request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let error = Error::not_supported("bulk ingestion over Flight SQL");
        Err(status(error.with_hint("Use a prepared INSERT with several rows of parameters.")))
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let caller = caller(&request)?;
        let statement = self.statements.plan(&caller, &query.query).await.map_err(status)?;
        // Drivers take a statement without result columns for an update.
        let dataset_schema = match statement.kind {
            StatementKind::Rows => ipc_schema(&statement.schema)?,
            StatementKind::Update => ipc_schema(&Schema::empty())?,
        };
        let parameter_schema = ipc_schema(&statement.parameters)?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: self.statements.keep(statement).into(),
            dataset_schema,
            parameter_schema,
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        self.statements.close(&caller(&request)?, &query.prepared_statement_handle);
        Ok(())
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let handle = query.prepared_statement_handle;
        let statement = self.statements.prepared(&caller(&request)?, &handle).map_err(status)?;
        statement.bind(parameters::read(request.into_inner()).await?.rows);
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) })
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> GetInfo {
        let handle = query.prepared_statement_handle;
        let statement = self.statements.prepared(&caller(&request)?, &handle).map_err(status)?;
        self.ticket_for(&statement, request.into_inner())
    }

    async fn do_put_prepared_statement_update(
        &self,
        query: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let caller = caller(&request)?;
        let handle = query.prepared_statement_handle;
        let statement = self.statements.prepared(&caller, &handle).map_err(status)?;
        let sent = parameters::read(request.into_inner()).await?;
        let rows = match sent.has_columns {
            true => sent.rows,
            // Bound by an earlier request, or a statement without parameters.
            false => Some(statement.take_bound())
                .filter(|rows| !rows.is_empty())
                .unwrap_or_else(|| vec![Vec::new()]),
        };
        self.statements.update(&caller, &statement, rows).await.map_err(status)
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> GetInfo {
        metadata_info(&query, &query.into_builder().schema(), request)
    }

    async fn do_get_catalogs(&self, query: CommandGetCatalogs, request: Request<Ticket>) -> DoGet {
        let (coordinator, caller) = (&self.coordinator, &caller(&request)?);
        Ok(results::respond_batch(Listing { coordinator, caller }.catalogs(query)?))
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> GetInfo {
        metadata_info(&query, &query.clone().into_builder().schema(), request)
    }

    async fn do_get_schemas(&self, query: CommandGetDbSchemas, request: Request<Ticket>) -> DoGet {
        let (coordinator, caller) = (&self.coordinator, &caller(&request)?);
        Ok(results::respond_batch(Listing { coordinator, caller }.schemas(query).await?))
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> GetInfo {
        metadata_info(&query, &query.clone().into_builder().schema(), request)
    }

    async fn do_get_tables(&self, query: CommandGetTables, request: Request<Ticket>) -> DoGet {
        let (coordinator, caller) = (&self.coordinator, &caller(&request)?);
        Ok(results::respond_batch(Listing { coordinator, caller }.tables(query).await?))
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> GetInfo {
        metadata_info(&query, &query.into_builder().schema(), request)
    }

    async fn do_get_table_types(&self, query: CommandGetTableTypes, _: Request<Ticket>) -> DoGet {
        Ok(results::respond_batch(listing::table_types(query)?))
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> GetInfo {
        metadata_info(&query, &self.sql_info.schema(), request)
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, _: Request<Ticket>) -> DoGet {
        Ok(results::respond_batch(self.sql_info.record_batch(query.info)?))
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> GetInfo {
        metadata_info(&query, &self.type_info.schema(), request)
    }

    async fn do_get_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        _: Request<Ticket>,
    ) -> DoGet {
        Ok(results::respond_batch(self.type_info.record_batch(query.data_type)?))
    }

    async fn get_flight_info_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> GetInfo {
        metadata_info(&query, &keys::primary_keys_schema(), request)
    }

    async fn do_get_primary_keys(&self, _: CommandGetPrimaryKeys, _: Request<Ticket>) -> DoGet {
        empty(keys::primary_keys_schema())
    }

    async fn get_flight_info_exported_keys(
        &self,
        query: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> GetInfo {
        metadata_info(&query, &keys::foreign_keys_schema(), request)
    }

    async fn do_get_exported_keys(&self, _: CommandGetExportedKeys, _: Request<Ticket>) -> DoGet {
        empty(keys::foreign_keys_schema())
    }

    async fn get_flight_info_imported_keys(
        &self,
        query: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> GetInfo {
        metadata_info(&query, &keys::foreign_keys_schema(), request)
    }

    async fn do_get_imported_keys(&self, _: CommandGetImportedKeys, _: Request<Ticket>) -> DoGet {
        empty(keys::foreign_keys_schema())
    }

    async fn get_flight_info_cross_reference(
        &self,
        query: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> GetInfo {
        metadata_info(&query, &keys::foreign_keys_schema(), request)
    }

    async fn do_get_cross_reference(
        &self,
        _: CommandGetCrossReference,
        _: Request<Ticket>,
    ) -> DoGet {
        empty(keys::foreign_keys_schema())
    }

    async fn do_put_fallback(
        &self,
        _request: Request<PeekableFlightDataStream>,
        message: Any,
    ) -> FlightStream<<Self as FlightService>::DoPutStream> {
        Err(status(Error::not_supported(format!("DoPut of {}", message.type_url))))
    }

    async fn do_put_error_callback(
        &self,
        _request: Request<PeekableFlightDataStream>,
        error: DoPutError,
    ) -> FlightStream<<Self as FlightService>::DoPutStream> {
        let missing = match error {
            DoPutError::MissingCommand => "command",
            DoPutError::MissingFlightDescriptor => "flight descriptor",
        };
        Err(status(Error::user("INVALID_REQUEST", format!("the DoPut has no {missing}"))))
    }

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        request: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        let caller = caller(&request)?;
        let result = actions::cancel_flight(self, &caller, &query.info)?;
        // The two enums have the same numbers: cancelled is 1, cancelling 2, not cancellable 3.
        Ok(ActionCancelQueryResult { result: result.into() })
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> FlightStream<<Self as FlightService>::DoActionStream> {
        let caller = caller(&request)?;
        let body = actions::perform(self, &caller, &request.into_inner())?;
        let answer = arrow_flight::Result::new(body);
        Ok(Response::new(Box::pin(futures::stream::iter([Ok(answer)]))))
    }

    async fn list_custom_actions(&self) -> Option<Vec<Result<ActionType, Status>>> {
        Some(actions::list().into_iter().map(Ok).collect())
    }

    async fn register_sql_info(&self, _id: i32, _result: &SqlInfo) {}
}
