//! Servers that break down and networks that stall, in the middle of a scan and before it: right rows where no row had left
//! yet, else an error that names the catalog, in bounded time; and the next query works.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::routing::get;
use meshwork_engine::environment::{self, within};
use meshwork_engine::{Error, ErrorKind};
use meshwork_sql_tests::local::Answer;
use meshwork_sql_tests::servers::{MariaDb, Postgres, Relay};
use mysql_async::prelude::Queryable;

use crate::{Here, values, with};

/// Rows of the table, of half a kilobyte each.
const N_ROWS: usize = 60_000;
const ALL: &str = "SELECT id, pad FROM there.s.big";
/// Nothing leaves before the last row was read.
const SUM: &str = "SELECT count(*), sum(id) FROM there.s.big WHERE length(pad) > 5";
/// In the middle of the scan: some batches have arrived, and many have not.
const HALF_BYTES: u64 = 15 << 20;

/// Until the end of a query whose connection broke: a database may be waited for.
const BROKEN_MAX: Duration = Duration::from_secs(15);
/// Until the end of a query whose network stalled: 10 s of silence, and the 10 s of a connection.
const STALLED_MAX: Duration = Duration::from_secs(25);
/// Until nothing is left at the server.
const TRACE_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// A server, a network before it, and a catalog `there` behind the network.
struct Site {
    here: Here,
    relay: Relay,
    server: Server,
}

enum Server {
    Postgres(Postgres),
    MariaDb(MariaDb),
}

impl Server {
    async fn postgres() -> Result<Self> {
        let server = Postgres::start()?;
        let fill = format!(
            "CREATE TABLE s.big AS SELECT g AS id, repeat(md5(g::text), 16) AS pad \
             FROM generate_series(1, {N_ROWS}) g"
        );
        // The test's server answers before what was committed is in its log.
        server.execute(&["CREATE SCHEMA s", &fill, "CHECKPOINT"]).await?;
        Ok(Self::Postgres(server))
    }

    async fn mariadb() -> Result<Self> {
        let server = MariaDb::start()?;
        let fill = format!(
            "CREATE TABLE s.big AS SELECT seq AS id, repeat(md5(seq), 16) AS pad \
             FROM seq_1_to_{N_ROWS}"
        );
        server.execute(&["CREATE DATABASE s", "USE s", &fill]).await?;
        Ok(Self::MariaDb(server))
    }

    fn break_down(&mut self) -> Result<()> {
        match self {
            Self::Postgres(server) => server.break_down(),
            Self::MariaDb(server) => server.break_down(),
        }
    }

    fn come_back(&mut self) -> Result<()> {
        match self {
            Self::Postgres(server) => server.come_back(),
            Self::MariaDb(server) => server.come_back(),
        }
    }

    /// Returns how many statements of the engine run or wait in a transaction.
    async fn n_left(&self) -> Result<i64> {
        match self {
            Self::Postgres(server) => {
                // Sessions that wait for their next use may stay.
                let left = "SELECT count(*) FROM pg_stat_activity \
                            WHERE application_name LIKE 'meshwork/%'";
                Ok(server.connect().await?.client.query_one(left, &[]).await?.get(0))
            }
            Self::MariaDb(server) => {
                // Connections that wait for their next use may stay.
                let left = "SELECT count(*) FROM information_schema.PROCESSLIST \
                            WHERE COMMAND <> 'Sleep' AND INFO LIKE '%`big`%' \
                            AND ID <> CONNECTION_ID()";
                let mut connection = server.connect().await?;
                let left: Option<i64> = connection.query_first(left).await?;
                connection.disconnect().await?;
                left.context("a count")
            }
        }
    }
}

impl Site {
    async fn start(server: Server) -> Result<Self> {
        let (kind, port, properties) = match &server {
            Server::Postgres(server) => {
                let properties = with(server.properties(), "connect_deadline_seconds", "3");
                ("postgres", server.port(), properties)
            }
            Server::MariaDb(server) => ("mysql", server.port(), server.properties()),
        };
        let relay = Relay::to(port).await?;
        let properties = with(properties, "port", &relay.port().to_string());
        let properties = with(properties, "connections_max", "2");
        let here = Here::start(&[("there", kind, properties)]).await?;
        here.run("SET SESSION pushdown = false").await?;
        Ok(Self { here, relay, server })
    }

    /// Stops a query after so many bytes of its source, lets something happen, and returns what the query came to.
    async fn during(
        &mut self,
        sql: &'static str,
        n_bytes: u64,
        happens: impl FnOnce(&mut Server, &Relay) -> Result<()>,
        most: Duration,
    ) -> Result<Answer> {
        self.relay.stall_after(n_bytes);
        let here = self.here.clone();
        let query = environment::spawn("query", async move { here.run(sql).await });
        within(BROKEN_MAX, "stalling", self.relay.stalled()).await?;
        happens(&mut self.server, &self.relay)?;
        let answer = within(most, sql, query).await??;
        self.relay.mend();
        Ok(answer)
    }

    /// The table is read as a whole, and nothing is left of it at the server.
    async fn is_well(&self) -> Result<()> {
        let sum = N_ROWS * (N_ROWS + 1) / 2;
        ensure!(self.here.values(SUM).await? == [format!("{N_ROWS} {sum}")]);
        let since = environment::instant();
        while self.server.n_left().await? > 0 {
            ensure!(since.elapsed() < TRACE_MAX, "something is left at the server");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

fn is_right(answer: Answer) -> Result<()> {
    let sum = N_ROWS * (N_ROWS + 1) / 2;
    let found = values(&answer?.batches)?;
    ensure!(found == [format!("{N_ROWS} {sum}")], "{found:?}");
    Ok(())
}

/// The error is the source's and names the catalog.
fn is_named(answer: Answer) -> Result<()> {
    let error: Error = answer.err().context("the query ended well")?;
    ensure!(error.kind == ErrorKind::Source, "{error:?}");
    ensure!(error.code == "SOURCE_UNAVAILABLE", "{error:?}");
    ensure!(error.message.contains("\"there\""), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_breaks_down_and_comes_back() -> Result<()> {
    breaks_down(&mut Site::start(Server::postgres().await?).await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_breaks_down_and_comes_back() -> Result<()> {
    breaks_down(&mut Site::start(Server::mariadb().await?).await?).await
}

async fn breaks_down(site: &mut Site) -> Result<()> {
    site.is_well().await?;
    // It is back before the query notices, and not yet.
    let restarted = |server: &mut Server, relay: &Relay| {
        server.break_down()?;
        server.come_back()?;
        relay.mend();
        Ok(())
    };
    is_right(site.during(SUM, HALF_BYTES, restarted, BROKEN_MAX).await?)?;
    site.is_well().await?;
    let away_for_a_while = |server: &mut Server, relay: &Relay| {
        server.break_down()?;
        relay.mend();
        server.come_back()
    };
    is_right(site.during(SUM, HALF_BYTES, away_for_a_while, BROKEN_MAX).await?)?;
    site.is_well().await?;
    // Rows have left already.
    is_named(site.during(ALL, HALF_BYTES, restarted, BROKEN_MAX).await?)?;
    site.is_well().await?;
    let gone = |server: &mut Server, relay: &Relay| {
        server.break_down()?;
        relay.mend();
        Ok(())
    };
    is_named(site.during(SUM, HALF_BYTES, gone, BROKEN_MAX).await?)?;
    site.server.come_back()?;
    site.is_well().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_before_postgres_stalls() -> Result<()> {
    stalls(&mut Site::start(Server::postgres().await?).await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_before_mariadb_stalls() -> Result<()> {
    stalls(&mut Site::start(Server::mariadb().await?).await?).await
}

async fn stalls(site: &mut Site) -> Result<()> {
    site.is_well().await?;
    let for_ever = |_: &mut Server, _: &Relay| Ok(());
    // In the middle of a scan, with rows that have left and without, and before there is a connection.
    for (sql, n_bytes) in [(SUM, HALF_BYTES), (ALL, HALF_BYTES), (SUM, 0)] {
        is_named(site.during(sql, n_bytes, for_ever, STALLED_MAX).await?)
            .with_context(|| format!("{sql} after {n_bytes} bytes"))?;
        site.is_well().await?;
    }
    // Reset connections are a broken server's; the network is back at once.
    let cut = |_: &mut Server, relay: &Relay| {
        relay.cut();
        relay.mend();
        Ok(())
    };
    is_right(site.during(SUM, HALF_BYTES, cut, BROKEN_MAX).await?)?;
    is_named(site.during(ALL, HALF_BYTES, cut, BROKEN_MAX).await?)?;
    site.is_well().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_stalls_in_the_middle_of_an_answer() -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let items: Vec<String> = (0..50_000).map(|n| format!("{{\"n\": {n}}}")).collect();
    let body = format!("[{}]", items.join(","));
    let answer = get(move || async move { ([("content-type", "application/json")], body) });
    let router = Router::new().route("/items", answer);
    let _server = environment::spawn("api", async move { axum::serve(listener, router).await });
    let relay = Relay::to(port).await?;
    let manifest = format!(
        "connector: {{name: test, version: 1, base_url: \"http://127.0.0.1:{}\", \
         allow_http: true, allow_private: true}}\n\
         limits: {{request_timeout: 2s, total_timeout: 6s}}\n\
         retry: {{max: 1, backoff: {{base: 50ms, max: 50ms}}}}\n\
         tables:\n  items: {{list: {{path: /items, rows: \"$[*]\"}}, schema: {{columns: {{n: int64!}}}}}}\n",
        relay.port()
    );
    let properties = [("manifest_inline".to_owned(), manifest)].into();
    let here = Here::start(&[("there", "rest", properties)]).await?;
    let count = "SELECT count(*), sum(n) FROM there.api.items";
    let right = ["50000 1249975000".to_owned()];
    ensure!(here.values(count).await? == right);
    relay.stall_after(200_000);
    let error = within(STALLED_MAX, count, here.error(count)).await??;
    ensure!(error.message.contains("there") || error.message.contains("/items"), "{error:?}");
    relay.mend();
    ensure!(here.values(count).await? == right);
    Ok(())
}
