//! The Flight SQL door as clients meet it: a standalone node on a free port and arrow-flight's own client.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type, Schema};
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetPrimaryKeys,
    CommandGetTables, CommandGetXdbcTypeInfo, CommandStatementQuery, ProstMessageExt,
};
use arrow_flight::{FlightInfo, Ticket};
use futures::{StreamExt, TryStreamExt};
use meshwork::node::{CoordinatorNode, NodeArgs, StandaloneArgs, start_standalone};
use meshwork_engine::environment;
use prost::Message;
use tonic::Code;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};

/// A running node with the catalogs `tpch` and `files`, and its scratch folder.
struct Server {
    node: CoordinatorNode,
    _folder: tempfile::TempDir,
}

impl Server {
    async fn start(users: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (etc, lake) = (folder.path().join("etc"), folder.path().join("lake"));
        std::fs::create_dir_all(etc.join("catalog"))?;
        std::fs::create_dir_all(&lake)?;
        std::fs::write(etc.join("catalog/tpch.toml"), "connector = \"tpch\"\n")?;
        let files = format!("connector = \"lake\"\nlocation = {lake:?}\n");
        std::fs::write(etc.join("catalog/files.toml"), files)?;
        if !users.is_empty() {
            std::fs::write(etc.join("users.toml"), users)?;
        }
        let node = NodeArgs {
            etc,
            root: folder.path().join("root").display().to_string(),
            memory_max_mb: None,
            listen: "127.0.0.1:0".parse()?,
            tls_certificate: None,
            tls_key: None,
            catalog: None,
            schema: None,
        };
        let node = start_standalone(&StandaloneArgs { node, workers: 1 }).await?;
        Ok(Self { node, _folder: folder })
    }

    async fn connect(&self) -> Result<FlightSqlServiceClient<Channel>> {
        let url = format!("http://{}", self.node.address());
        Ok(FlightSqlServiceClient::new(Endpoint::from_shared(url)?.connect().await?))
    }
}

type Client = FlightSqlServiceClient<Channel>;

async fn fetch(client: &mut Client, planned: FlightInfo) -> Result<RecordBatch, FlightError> {
    let schema = Arc::new(planned.clone().try_decode_schema()?);
    let ticket = planned.endpoint[0].ticket.clone().expect("an endpoint has a ticket");
    let batches: Vec<RecordBatch> = client.do_get(ticket).await?.try_collect().await?;
    Ok(arrow::compute::concat_batches(&schema, &batches)?)
}

async fn query(client: &mut Client, sql: &str) -> Result<RecordBatch, FlightError> {
    let planned = client.execute(sql.to_owned(), None).await?;
    fetch(client, planned).await
}

async fn number(client: &mut Client, sql: &str) -> Result<i64> {
    let batch = query(client, sql).await?;
    Ok(batch.column(0).as_primitive::<Int64Type>().value(0))
}

fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
    let column = batch.column_by_name(column).expect("the column is in the answer");
    column.as_string::<i32>().iter().flatten().map(str::to_owned).collect()
}

fn code(error: FlightError) -> (Code, String) {
    match error {
        FlightError::Tonic(status) => (status.code(), status.message().to_owned()),
        other => (Code::Unknown, format!("not a status: {other}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_works_once_and_only_in_its_session() -> Result<()> {
    let server = Server::start("").await?;
    let (mut client, mut other) = (server.connect().await?, server.connect().await?);
    let planned = client.execute("SELECT 1 AS one, 'a' AS text".to_owned(), None).await?;
    let stolen = code(fetch(&mut other, planned.clone()).await.unwrap_err());
    assert_eq!(stolen.0, Code::NotFound, "{}", stolen.1);
    let batch = fetch(&mut client, planned.clone()).await?;
    assert_eq!(batch.num_rows(), 1);
    assert_eq!(batch.column(1).data_type(), &DataType::Utf8);
    let again = code(fetch(&mut client, planned).await.unwrap_err());
    assert!(again.1.starts_with("TICKET_NOT_FOUND: "), "{}", again.1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_columns_may_have_one_name() -> Result<()> {
    let server = Server::start("").await?;
    let mut client = server.connect().await?;
    for sql in ["SELECT 1 AS a, 2 AS a", "SELECT *, a FROM (VALUES (1)) AS t(a)"] {
        let planned = client.execute(sql.to_owned(), None).await?;
        let named = |schema: &Schema| schema.fields().iter().all(|field| field.name() == "a");
        assert!(named(&planned.clone().try_decode_schema()?), "{sql}");
        let batch = fetch(&mut client, planned).await?;
        assert!(batch.num_columns() == 2 && named(&batch.schema()), "{sql}");
    }
    Ok(())
}

/// What `meshwork sql` sends: the text in place of a ticket, planned and executed in one request.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_taken_for_a_ticket() -> Result<()> {
    let server = Server::start("").await?;
    let mut client = server.connect().await?;
    let ticket = |sql: &str| {
        let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
        Ticket::new(command.as_any().encode_to_vec())
    };
    let rows = client.do_get(ticket("SELECT 7 AS seven")).await?;
    assert_eq!(
        rows.headers().get("x-meshwork-kind").map(MetadataValue::as_bytes),
        Some(&b"rows"[..])
    );
    let batches: Vec<RecordBatch> = rows.try_collect().await?;
    assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), 7);

    let changed = client.do_get(ticket("USE tpch.tiny")).await?;
    assert_eq!(
        changed.headers().get("x-meshwork-kind").map(MetadataValue::as_bytes),
        Some(&b"update"[..])
    );
    let _counts: Vec<RecordBatch> = changed.try_collect().await?;

    let refused = code(client.do_get(ticket("SELECT ?")).await.unwrap_err());
    assert!(refused.1.starts_with("WRONG_PARAMETER_COUNT: "), "{}", refused.1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_listed_over_all_catalogs() -> Result<()> {
    let server = Server::start("").await?;
    let mut client = server.connect().await?;
    let planned = client.get_catalogs().await?;
    let catalogs = texts(&fetch(&mut client, planned).await?, "catalog_name");
    assert!(catalogs.contains(&"tpch".to_owned()) && catalogs.contains(&"files".to_owned()));

    let planned = client.get_db_schemas(CommandGetDbSchemas::default()).await?;
    let schemas = texts(&fetch(&mut client, planned).await?, "db_schema_name");
    assert!(schemas.contains(&"tiny".to_owned()), "{schemas:?}");

    let command = CommandGetTables {
        db_schema_filter_pattern: Some("ti_y".to_owned()),
        table_name_filter_pattern: Some("n%".to_owned()),
        include_schema: true,
        ..CommandGetTables::default()
    };
    let planned = client.get_tables(command).await?;
    let tables = fetch(&mut client, planned).await?;
    assert_eq!(texts(&tables, "table_name"), ["nation"]);
    let encoded = tables.column_by_name("table_schema").context("no schemas")?;
    let described = FlightInfo {
        schema: encoded.as_binary::<i32>().value(0).to_vec().into(),
        ..FlightInfo::default()
    };
    assert_eq!(described.try_decode_schema()?.field(0).name(), "n_nationkey");

    let planned = client.get_table_types().await?;
    let types = texts(&fetch(&mut client, planned).await?, "table_type");
    assert_eq!(types, ["SYSTEM TABLE", "TABLE", "VIEW"]);
    let planned = client.get_sql_info(Vec::new()).await?;
    assert!(fetch(&mut client, planned).await?.num_rows() > 80);
    let planned = client.get_xdbc_type_info(CommandGetXdbcTypeInfo::default()).await?;
    assert_eq!(fetch(&mut client, planned).await?.num_rows(), 13);
    let planned = client.get_primary_keys(CommandGetPrimaryKeys::default()).await?;
    assert_eq!(fetch(&mut client, planned).await?.num_rows(), 0);
    let planned = client.get_exported_keys(CommandGetExportedKeys::default()).await?;
    assert_eq!(fetch(&mut client, planned).await?.num_rows(), 0);
    let planned = client.get_cross_reference(CommandGetCrossReference::default()).await?;
    assert_eq!(fetch(&mut client, planned).await?.num_rows(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_take_parameters() -> Result<()> {
    let server = Server::start("").await?;
    let mut client = server.connect().await?;
    let sql = "SELECT count(*) FROM tpch.tiny.nation WHERE n_nationkey < ? AND n_name <> '?'";
    let mut statement = client.prepare(sql.to_owned(), None).await?;
    assert_eq!(statement.parameter_schema()?.fields().len(), 1);
    for bound in [5, 10] {
        let keys: ArrayRef = Arc::new(Int64Array::from(vec![bound]));
        statement.set_parameters(RecordBatch::try_from_iter([("1", keys)])?)?;
        let planned = statement.execute().await?;
        let counted = fetch(&mut client, planned).await?;
        assert_eq!(counted.column(0).as_primitive::<Int64Type>().value(0), bound);
    }
    statement.close().await?;

    let twelve: Vec<String> = (1..=12).map(|n| format!("${n} AS c{n}")).collect();
    let mut statement = client.prepare(format!("SELECT {}", twelve.join(", ")), None).await?;
    let values = (1..=12).map(|n| {
        let value: ArrayRef = Arc::new(StringArray::from(vec![format!("value {n}")]));
        (format!("p{n}"), value)
    });
    statement.set_parameters(RecordBatch::try_from_iter(values)?)?;
    let planned = statement.execute().await?;
    let found = fetch(&mut client, planned).await?;
    for n in 1..=12 {
        assert_eq!(texts(&found, &format!("c{n}")), [format!("value {n}")]);
    }

    let mut statement = client.prepare("SELECT ?".to_owned(), None).await?;
    let planned = statement.execute().await?;
    let missing = code(fetch(&mut client, planned).await.unwrap_err());
    assert!(missing.1.contains("PARAMETER"), "{}", missing.1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_are_executed_and_counted() -> Result<()> {
    let server = Server::start("").await?;
    let mut client = server.connect().await?;
    client.execute_update("CREATE SCHEMA files.s".to_owned(), None).await?;
    let create =
        "CREATE TABLE files.s.t AS SELECT CAST(1 AS BIGINT) AS id, nullif('one', '') AS name";
    assert_eq!(client.execute_update(create.to_owned(), None).await?, 1);
    let insert = "INSERT INTO files.s.t VALUES (2, 'two')";
    assert_eq!(client.execute_update(insert.to_owned(), None).await?, 1);

    let insert = "INSERT INTO files.s.t VALUES (?, ?)";
    let mut statement = client.prepare(insert.to_owned(), None).await?;
    assert!(statement.dataset_schema()?.fields().is_empty());
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..2500));
    let names: ArrayRef =
        Arc::new(StringArray::from_iter((0..2500).map(|n| (n % 2 == 0).then(|| n.to_string()))));
    statement.set_parameters(RecordBatch::try_from_iter([("1", ids), ("2", names)])?)?;
    assert_eq!(statement.execute_update().await?, 2500);
    assert_eq!(number(&mut client, "SELECT count(*) FROM files.s.t").await?, 2502);
    assert_eq!(number(&mut client, "SELECT count(name) FROM files.s.t").await?, 1252);
    assert_eq!(number(&mut client, "SELECT sum(id) FROM files.s.t").await?, 2499 * 1250 + 3);

    // A prepared query sees what the session changed since.
    let count = "SELECT count(*) FROM files.s.t";
    let mut prepared = client.prepare(count.to_owned(), None).await?;
    let insert = "INSERT INTO files.s.t VALUES (4, 'four')";
    assert_eq!(client.execute_update(insert.to_owned(), None).await?, 1);
    let planned = prepared.execute().await?;
    let counted = fetch(&mut client, planned).await?;
    assert_eq!(counted.column(0).as_primitive::<Int64Type>().value(0), 2503);

    // An update that comes as a query answers its count, and is executed once.
    let batch = query(&mut client, "INSERT INTO files.s.t VALUES (3, 'three')").await?;
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(0), 1);
    assert_eq!(number(&mut client, "SELECT count(*) FROM files.s.t").await?, 2504);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_carry_code_place_and_kind() -> Result<()> {
    let server = Server::start("").await?;
    let mut client = server.connect().await?;
    for (sql, expected, begins) in [
        ("SELECT * FROM tpch.tiny.nothing", Code::NotFound, "TABLE_NOT_FOUND: "),
        ("SELEC 1", Code::InvalidArgument, "SYNTAX_ERROR: "),
    ] {
        let (code, message) = code(query(&mut client, sql).await.unwrap_err());
        assert_eq!(code, expected, "{message}");
        assert!(message.starts_with(begins), "{message}");
    }
    let Err(FlightError::Tonic(status)) =
        query(&mut client, "SELECT 1\nFROM no_table_here.s.t").await
    else {
        panic!("no status")
    };
    let trailer = status.metadata().get("x-meshwork-error").context("no trailer")?.to_str()?;
    let error: meshwork_engine::Error = serde_json::from_str(trailer)?;
    assert_eq!(error.location.map(|at| at.line), Some(2), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_users_come_in_where_there_are_users() -> Result<()> {
    let server = Server::start("[users]\nada = \"engine\"\n").await?;
    let mut client = server.connect().await?;
    let refused = code(query(&mut client, "SELECT 1").await.unwrap_err());
    assert_eq!(refused.0, Code::Unauthenticated);
    assert!(client.handshake("ada", "motor").await.is_err());
    client.handshake("ada", "engine").await?;
    assert_eq!(query(&mut client, "SELECT 1").await?.num_rows(), 1);

    // The token is the session, over whatever connection it comes.
    client.execute_update("SET SESSION batch_size = 77".to_owned(), None).await?;
    let mut second = server.connect().await?;
    second.set_token(client.token().context("no token")?.clone());
    let shown = query(&mut second, "SHOW SESSION").await?;
    assert!(texts(&shown, "value").contains(&"77".to_owned()));
    second.set_token("not a token".to_owned());
    let refused = code(query(&mut second, "SELECT 1").await.unwrap_err());
    assert_eq!(refused.0, Code::Unauthenticated);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_login_is_its_connection() -> Result<()> {
    let server = Server::start("").await?;
    let (mut one, mut two) = (server.connect().await?, server.connect().await?);
    one.execute_update("USE tpch.tiny".to_owned(), None).await?;
    assert_eq!(number(&mut one, "SELECT count(*) FROM region").await?, 5);
    assert!(query(&mut two, "SELECT count(*) FROM region").await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_stream_and_a_dropped_stream_cancels() -> Result<()> {
    let server = Server::start("").await?;
    let mut client = server.connect().await?;
    let planned = client.execute("SELECT * FROM tpch.sf1.lineitem".to_owned(), None).await?;
    let ticket = planned.endpoint[0].ticket.clone().context("no ticket")?;
    let mut rows = client.do_get(ticket).await?;
    let first = rows.next().await.context("no batch")??;
    assert!(first.num_rows() > 0);
    let running = "SELECT count(*) FROM system.runtime.queries \
                   WHERE state = 'RUNNING' AND query LIKE 'SELECT * FROM tpch%'";
    assert_eq!(number(&mut client, running).await?, 1);
    drop(rows);
    let deadline = environment::instant() + Duration::from_secs(5);
    while number(&mut client, running).await? > 0 {
        anyhow::ensure!(environment::instant() < deadline, "the query still runs");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
