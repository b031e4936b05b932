//! The connector `flight`: against another Meshwork, and against a server of which nothing is known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::server::FlightSqlService;
use arrow_flight::sql::{
    CommandGetDbSchemas, CommandGetTables, CommandStatementQuery, ProstMessageExt, SqlInfo,
    TicketStatementQuery,
};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use futures::{StreamExt, TryStreamExt};
use meshwork::node::{CoordinatorNode, NodeArgs, StandaloneArgs, start_standalone};
use meshwork_engine::environment::{self, Task};
use meshwork_sql_tests::source::{Source, assert_lines, failure};
use prost::Message;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// What the connector takes for the name of the stranger's schema.
const SCHEMA: &str = "db.main";

/// How long the server may be seen at work when nobody waits any more.
const CANCEL_DEADLINE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_believed_little() -> Result<()> {
    let stranger = Stranger::start(Habits::default()).await?;
    let source = stranger.source(&[])?;
    let rows =
        source.text(SCHEMA, "t", "SELECT id, word FROM t WHERE word = 'b' ORDER BY id").await?;
    assert_lines(&rows, &["| 1 | b |", "| 11 | b |"]);
    ensure!(rows.lines().count() == 6, "{rows}");
    for (condition, is_pushed, is_checked) in [
        ("id > 5", true, false),
        ("id IN (1, 2) AND word IS NULL", true, false),
        ("word = 'b'", true, true),
        ("word = 'grün'", false, true),
        ("word = 'a\\b'", false, true),
        ("word > 'b'", false, true),
        ("word <> 'b'", false, true),
        ("word LIKE 'b%'", false, true),
    ] {
        let sql = format!("SELECT id, word FROM t WHERE {condition}");
        let plan = source.explain(SCHEMA, "t", &sql).await?;
        let found = (plan.contains(" WHERE "), plan.contains("FilterExec"));
        ensure!(found == (is_pushed, is_checked), "{condition}\n{plan}");
    }
    for sql in
        ["SELECT sum(id) FROM t", "SELECT id FROM t ORDER BY id LIMIT 1", "SELECT max(word) FROM t"]
    {
        let plan = source.explain(SCHEMA, "t", sql).await?;
        ensure!(
            !plan.contains("sum(\"") && !plan.contains("max(\"") && !plan.contains("ORDER BY"),
            "{plan}"
        );
    }
    let error = failure(source.connector.query("SELECT 1", &scope()).await.map_err(Into::into));
    assert_eq!(error.code, "NOT_SUPPORTED");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_lie_elsewhere_need_leave() -> Result<()> {
    let other = Stranger::start(Habits::default()).await?;
    let there = format!("grpc+tcp://127.0.0.1:{}", other.port);
    let stranger = Stranger::start(Habits { location: Some(there), ..Habits::default() }).await?;
    let sql = "SELECT id, word FROM t";
    let error = failure(stranger.source(&[])?.rows(SCHEMA, "t", sql).await);
    assert_eq!(error.code, "SOURCE_FORBIDDEN_ADDRESS");
    let address = format!("127.0.0.1:{}", other.port);
    ensure!(error.message.contains(&address) && error.message.contains("\"source\""), "{error:?}");
    ensure!(other.asked().is_empty());

    let allowed = stranger.source(&[("allowed_hosts", &address)])?;
    let rows = allowed.rows(SCHEMA, "t", sql).await?;
    ensure!(rows.iter().map(RecordBatch::num_rows).sum::<usize>() == 6);
    ensure!(other.asked() == ["rows", "rows"], "{:?}", other.asked());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_silent_is_given_up() -> Result<()> {
    let stranger = Stranger::start(Habits { is_silent: true, ..Habits::default() }).await?;
    let source = stranger.source(&[("answer_deadline_seconds", "1")])?;
    let error = failure(source.rows(SCHEMA, "t", "SELECT id, word FROM t").await);
    assert_eq!(error.code, "DEADLINE_EXCEEDED");
    ensure!(error.message.contains("catalog \"source\" (Flight SQL at 127.0.0.1:"), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_nobody_waits_for_is_dropped_there() -> Result<()> {
    let stranger = Stranger::start(Habits { is_endless: true, ..Habits::default() }).await?;
    let source = stranger.source(&[])?;
    let frame = source.plan(SCHEMA, "t", "SELECT id, word FROM t").await?;
    // The service itself holds it, once for each connection.
    let at_rest = Arc::strong_count(&stranger.running);
    let mut rows = frame.execute_stream().await?;
    rows.next().await.context("no rows")??;
    ensure!(Arc::strong_count(&stranger.running) > at_rest, "nothing runs");
    drop(rows);
    let since = environment::instant();
    while Arc::strong_count(&stranger.running) > at_rest {
        ensure!(since.elapsed() < CANCEL_DEADLINE, "the server goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_has_to_be_known() -> Result<()> {
    let peer = Peer::start("[users]\nada = \"engine\"\n", None).await?;
    let rows = |source: Source| async move {
        source.text("tpch.tiny", "region", "SELECT r_name FROM t WHERE r_regionkey = 3").await
    };
    let known = [("user", "ada"), ("password", "engine")];
    assert_lines(&rows(peer.source("grpc", &known)?).await?, &["| EUROPE |"]);
    for (properties, said) in [
        (vec![("user", "ada"), ("password", "gear")], "AUTHENTICATION_FAILED"),
        (vec![("token", "s3cret")], "bearer token"),
        (vec![], "user and password"),
    ] {
        let error = failure(rows(peer.source("grpc", &properties)?).await);
        assert_eq!(error.code, "SOURCE_AUTHENTICATION", "{error:?}");
        ensure!(error.message.contains(said) || error.message.contains("refused"), "{error:?}");
        let text = format!("{error:?}");
        ensure!(!text.contains("gear") && !text.contains("s3cret"), "{text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_has_to_be_trusted() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let certificate = certificate(folder.path())?;
    let peer = Peer::start("", Some(&certificate)).await?;
    let sql = "SELECT r_name FROM t WHERE r_regionkey = 3";
    let ca = certificate.0.display().to_string();
    let trusted = peer.source("grpc+tls", &[("tls_ca", &ca)])?;
    assert_lines(&trusted.text("tpch.tiny", "region", sql).await?, &["| EUROPE |"]);
    for (scheme, properties) in [("grpc+tls", vec![]), ("grpc", vec![])] {
        let error =
            failure(peer.source(scheme, &properties)?.rows("tpch.tiny", "region", sql).await);
        assert_eq!(error.code, "SOURCE_UNAVAILABLE", "{error:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_meshwork_takes_what_it_does_as_we_do() -> Result<()> {
    let peer = Peer::start("", None).await?;
    let source = peer.source("grpc", &[])?;
    let names = source.connector.schema_names().await?;
    ensure!(names.contains(&"tpch.tiny".to_owned()), "{names:?}");
    let narrow = peer.source("grpc", &[("catalog", "tpch")])?;
    let names = narrow.connector.schema_names().await?;
    ensure!(names.contains(&"tiny".to_owned()), "{names:?}");
    let sql = "SELECT o_orderstatus, count(*) AS n, sum(o_totalprice) AS s, max(o_orderdate) AS d FROM t \
               WHERE o_clerk LIKE '%7' AND o_orderdate >= DATE '1995-01-01' GROUP BY o_orderstatus ORDER BY 1";
    let plan = narrow.explain("tiny", "orders", sql).await?;
    ensure!(plan.contains("o_clerk\" LIKE '%7'"), "{plan}");
    let there = narrow.text("tiny", "orders", sql).await?;
    let here =
        narrow.with(|settings| settings.pushdown = false).text("tiny", "orders", sql).await?;
    assert_eq!(there, here);
    let conditions = [
        "o_totalprice > 100000.5",
        "o_totalprice = 173665.47",
        "o_orderdate < DATE '1992-02-01' OR o_orderkey IN (1, 7, 39)",
        "NOT (o_comment LIKE '%special%requests%')",
        "o_comment LIKE '%100\\%%'",
        "o_shippriority IS NULL",
        "o_clerk >= 'Clerk#000000500'",
    ];
    let n_pushed = narrow.check_filters("tiny", "orders", &conditions.map(str::to_owned)).await?;
    ensure!(n_pushed >= 5, "{n_pushed}");
    Ok(())
}

fn scope() -> Arc<meshwork_engine::scope::QueryScope> {
    meshwork_engine::scope::QueryScope::new(meshwork_engine::settings::QuerySettings::default())
}

/// A standalone node of this process with the catalog `tpch`.
struct Peer {
    node: CoordinatorNode,
    _folder: tempfile::TempDir,
}

impl Peer {
    async fn start(users: &str, tls: Option<&(PathBuf, PathBuf)>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let etc = folder.path().join("etc");
        std::fs::create_dir_all(etc.join("catalog"))?;
        std::fs::write(etc.join("catalog/tpch.toml"), "connector = \"tpch\"\n")?;
        if !users.is_empty() {
            std::fs::write(etc.join("users.toml"), users)?;
        }
        let node = NodeArgs {
            etc,
            root: folder.path().join("root").display().to_string(),
            memory_max_mb: None,
            listen: "127.0.0.1:0".parse()?,
            tls_certificate: tls.map(|(certificate, _)| certificate.clone()),
            tls_key: tls.map(|(_, key)| key.clone()),
            catalog: None,
            schema: None,
        };
        let node = start_standalone(&StandaloneArgs { node, workers: 1 }).await?;
        Ok(Self { node, _folder: folder })
    }

    fn source(&self, scheme: &str, extra: &[(&str, &str)]) -> Result<Source> {
        let url = format!("{scheme}://localhost:{}", self.node.address().port());
        Source::new("flight", properties(&url, extra))
    }
}

fn properties(url: &str, extra: &[(&str, &str)]) -> BTreeMap<String, String> {
    let all = [("url", url)].into_iter().chain(extra.iter().copied());
    all.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Makes a certificate for `localhost` that is its own authority, and its key.
fn certificate(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let (certificate, key) = (folder.join("server.crt"), folder.join("server.key"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()?;
    ensure!(made.status.success(), "{made:?}");
    Ok((certificate, key))
}

/// What a stranger does.
#[derive(Debug, Clone, Default)]
struct Habits {
    /// Where it says that its rows lie.
    location: Option<String>,
    /// Whether it never answers a query.
    is_silent: bool,
    /// Whether its rows have no end.
    is_endless: bool,
}

/// A server that says nothing of itself. It has one table, in two parts, and answers every query with all of it.
struct Stranger {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    /// Held by every stream of rows.
    running: Arc<()>,
    _serving: Task<Result<(), tonic::transport::Error>>,
}

impl Stranger {
    async fn start(habits: Habits) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (asked, running) = (Arc::new(Mutex::default()), Arc::new(()));
        let service = Service { habits, asked: Arc::clone(&asked), running: Arc::clone(&running) };
        let serving = tonic::transport::Server::builder()
            .add_service(FlightServiceServer::new(service))
            .serve_with_incoming(TcpIncoming::from(listener));
        Ok(Self {
            port,
            asked,
            running: Arc::clone(&running),
            _serving: environment::spawn("stranger", serving),
        })
    }

    fn source(&self, extra: &[(&str, &str)]) -> Result<Source> {
        Source::new("flight", properties(&format!("grpc://127.0.0.1:{}", self.port), extra))
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panics while it is held").clone()
    }
}

struct Service {
    habits: Habits,
    asked: Arc<Mutex<Vec<String>>>,
    running: Arc<()>,
}

fn columns() -> SchemaRef {
    let words = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("word", words, true),
        Field::new("long", DataType::LargeUtf8, true),
    ]))
}

/// Two of the columns in the order in which the tests ask for them.
fn part(first: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + 3));
    let words: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::from_iter(["a", "b", "c"]));
    let all = columns().project(&[0, 1]).expect("there are more columns");
    RecordBatch::try_new(Arc::new(all), vec![ids, words]).expect("as many of each")
}

type Answer<T> = Result<Response<T>, Status>;

fn answer_at(ticket: &impl ProstMessageExt) -> FlightInfo {
    let ticket = Ticket::new(ticket.as_any().encode_to_vec());
    FlightInfo::new().with_endpoint(FlightEndpoint::new().with_ticket(ticket))
}

impl Service {
    fn rows(&self, batch: RecordBatch) -> <Self as FlightService>::DoGetStream {
        let rows = futures::stream::iter([Ok(batch.clone())]);
        let rows = match self.habits.is_endless {
            true => futures::stream::repeat_with(move || Ok(batch.clone())).boxed(),
            false => rows.boxed(),
        };
        let running = Arc::clone(&self.running);
        let rows = rows.inspect(move |_batch| {
            let _held = &running;
        });
        Box::pin(FlightDataEncoderBuilder::new().build(rows).map_err(Status::from))
    }
}

#[tonic::async_trait]
impl FlightSqlService for Service {
    type FlightService = Self;

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        _request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        Ok(Response::new(answer_at(&query)))
    }

    async fn do_get_schemas(
        &self,
        query: CommandGetDbSchemas,
        _request: Request<Ticket>,
    ) -> Answer<<Self as FlightService>::DoGetStream> {
        let mut schemas = query.into_builder();
        schemas.append("db", "main");
        let listed = futures::stream::iter([Ok(schemas.build()?)]);
        let listed = FlightDataEncoderBuilder::new().build(listed).map_err(Status::from);
        Ok(Response::new(Box::pin(listed)))
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        _request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        Ok(Response::new(answer_at(&query)))
    }

    async fn do_get_tables(
        &self,
        query: CommandGetTables,
        _request: Request<Ticket>,
    ) -> Answer<<Self as FlightService>::DoGetStream> {
        let mut tables = query.into_builder();
        tables.append("db", "main", "t", "TABLE", &columns())?;
        let listed = futures::stream::iter([Ok(tables.build()?)]);
        let listed = FlightDataEncoderBuilder::new().build(listed).map_err(Status::from);
        Ok(Response::new(Box::pin(listed)))
    }

    async fn get_flight_info_statement(
        &self,
        _query: CommandStatementQuery,
        _request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        if self.habits.is_silent {
            std::future::pending::<()>().await;
        }
        let mut answer = FlightInfo::new();
        for first in ["0", "10"] {
            let ticket = TicketStatementQuery { statement_handle: first.into() };
            let mut endpoint =
                FlightEndpoint::new().with_ticket(Ticket::new(ticket.as_any().encode_to_vec()));
            if let Some(location) = &self.habits.location {
                endpoint = endpoint.with_location(location.clone());
            }
            answer = answer.with_endpoint(endpoint);
        }
        Ok(Response::new(answer))
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        _request: Request<Ticket>,
    ) -> Answer<<Self as FlightService>::DoGetStream> {
        self.asked.lock().expect("nobody panics while it is held").push("rows".to_owned());
        let first = std::str::from_utf8(&ticket.statement_handle).ok();
        let first = first.and_then(|text| text.parse().ok());
        let first = first.ok_or_else(|| Status::invalid_argument("no such ticket"))?;
        Ok(Response::new(self.rows(part(first))))
    }

    async fn register_sql_info(&self, _id: i32, _result: &SqlInfo) {}
}
