//! Tables that are changed after a query was planned and before it reads them: right rows by a second plan, or an error
//! that says which table, and what of it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use meshwork_engine::{Error, ErrorKind};
use meshwork_sql_tests::local::Rows;
use meshwork_sql_tests::servers::{MariaDb, Postgres};

use crate::{Here, values};

/// A server whose tables are changed past the engine.
enum Server {
    Postgres(Postgres),
    MariaDb(MariaDb),
    Sqlite(tempfile::TempDir),
}

impl Server {
    fn kind(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::MariaDb(_) => "mysql",
            Self::Sqlite(_) => "sqlite",
        }
    }

    fn properties(&self) -> BTreeMap<String, String> {
        match self {
            Self::Postgres(server) => server.properties(),
            Self::MariaDb(server) => server.properties(),
            Self::Sqlite(folder) => {
                let path = folder.path().join("rows.db").to_string_lossy().into_owned();
                [("path".to_owned(), path)].into()
            }
        }
    }

    /// Runs statements on the schema that [`Self::schema`] names.
    async fn execute(&self, statements: &[&str]) -> Result<()> {
        match self {
            Self::Postgres(server) => server.execute(statements).await,
            Self::MariaDb(server) => {
                let all: Vec<&str> = ["USE s"].iter().chain(statements).copied().collect();
                server.execute(&all).await
            }
            Self::Sqlite(folder) => {
                let connection = rusqlite::Connection::open(folder.path().join("rows.db"))?;
                Ok(connection.execute_batch(&statements.join(";"))?)
            }
        }
    }

    fn schema(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "public",
            Self::MariaDb(_) => "s",
            Self::Sqlite(_) => "main",
        }
    }
}

/// A table, made anew for each case.
const MAKE: [&str; 3] = [
    "DROP TABLE IF EXISTS t",
    "CREATE TABLE t (id INTEGER, n INTEGER, name VARCHAR(20))",
    "INSERT INTO t VALUES (1, 10, 'one'), (2, 20, 'two')",
];

struct Trial {
    here: Here,
    server: Server,
}

impl Trial {
    async fn start(server: Server) -> Result<Self> {
        if let Server::MariaDb(server) = &server {
            server.execute(&["CREATE DATABASE s"]).await?;
        }
        let here = Here::start(&[("there", server.kind(), server.properties())]).await?;
        Ok(Self { here, server })
    }

    /// Plans a query of `t`, changes the table, and then reads.
    async fn read(&self, query: &str, changes: &[&str]) -> Result<Result<Rows, Error>> {
        self.server.execute(&MAKE).await?;
        let query = query.replace(" t", &format!(" there.{}.t", self.server.schema()));
        let coordinator = &self.here.coordinator;
        let prepared = coordinator.prepare(&self.here.session, &query).await?;
        let plan = prepared.plan.context("a query without parameters is planned")?;
        self.server.execute(changes).await.with_context(|| format!("{changes:?}"))?;
        let running = coordinator.execute(&self.here.session, &query, Vec::new(), Some(plan)).await;
        Ok(match running {
            Err(error) => Err(error),
            Ok(running) => {
                let schema = running.schema;
                let batches = running.rows.try_collect().await;
                batches
                    .map(|batches| Rows { schema, batches })
                    .map_err(|error| Error::from_datafusion(&error))
            }
        })
    }

    async fn rows(&self, query: &str, changes: &[&str], expected: &[&str]) -> Result<()> {
        let what = || format!("{}: {query}, {changes:?}", self.server.kind());
        let rows = self.read(query, changes).await?.with_context(what)?;
        let found = values(&rows.batches)?;
        ensure!(found == expected, "{}: {found:?}", what());
        Ok(())
    }

    /// The error names the table and has these words; the next query has no trouble.
    async fn fails(&self, query: &str, changes: &[&str], words: &[&str]) -> Result<()> {
        let what = format!("{}: {query}, {changes:?}", self.server.kind());
        let error = self.read(query, changes).await?.err().with_context(|| what.clone())?;
        ensure!(error.code == "SCHEMA_CHANGED", "{what}: {error:?}");
        ensure!(error.kind == ErrorKind::Source && !error.retryable, "{what}: {error:?}");
        let table = format!("there.{}.t", self.server.schema());
        for word in words.iter().chain([&table.as_str()]) {
            let said = format!("{} {}", error.message, error.causes.join(" "));
            ensure!(said.contains(word), "{what}: \"{word}\" is not in {error:?}");
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_postgres() -> Result<()> {
    let trial = Trial::start(Server::Postgres(Postgres::start()?)).await?;
    same_everywhere(&trial).await?;
    // What is not read may change; what is rewritten, emptied or made anew is read as it is now.
    trial.rows("SELECT id FROM t", &["ALTER TABLE t DROP COLUMN n"], &["1", "2"]).await?;
    trial.rows("SELECT name FROM t", &["ALTER TABLE t ALTER n TYPE text"], &["one", "two"]).await?;
    trial
        .rows(
            "SELECT name FROM t",
            &["TRUNCATE t", "INSERT INTO t VALUES (3, 3, 'three')"],
            &["three"],
        )
        .await?;
    trial.rows("SELECT name FROM t", &["VACUUM FULL t"], &["one", "two"]).await?;
    let anew =
        ["DROP TABLE t", "CREATE TABLE t (name varchar(20))", "INSERT INTO t VALUES ('new')"];
    trial.rows("SELECT name FROM t", &anew, &["new"]).await?;
    // As long as before, and something else.
    let moment = "ALTER TABLE t ALTER n TYPE int8, ALTER id TYPE float4";
    trial.rows("SELECT CAST(n AS VARCHAR) FROM t", &[moment], &["10", "20"]).await?;
    trial.fails("SELECT n FROM t", &[moment], &["column \"n\"", "integer", "int8"]).await?;
    trial.fails("SELECT id FROM t", &[moment], &["column \"id\"", "float4"]).await?;
    trial
        .fails(
            "SELECT id FROM t WHERE n = 10",
            &["ALTER TABLE t ALTER n TYPE bytea USING 'x'"],
            &["operator"],
        )
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_mariadb() -> Result<()> {
    let trial = Trial::start(Server::MariaDb(MariaDb::start()?)).await?;
    same_everywhere(&trial).await?;
    trial.rows("SELECT id FROM t", &["ALTER TABLE t DROP COLUMN n"], &["1", "2"]).await?;
    trial
        .rows("SELECT CAST(n AS VARCHAR) FROM t", &["ALTER TABLE t MODIFY n BIGINT"], &["10", "20"])
        .await?;
    trial
        .fails("SELECT n FROM t", &["ALTER TABLE t MODIFY n BIGINT"], &["column \"n\"", "int"])
        .await?;
    let date = ["UPDATE t SET n = 20200101", "ALTER TABLE t MODIFY n DATE"];
    trial.fails("SELECT n FROM t", &date, &["column \"n\"", "DATE"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_sqlite() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let trial = Trial::start(Server::Sqlite(folder)).await?;
    same_everywhere(&trial).await
}

/// What every kind of server does alike.
async fn same_everywhere(trial: &Trial) -> Result<()> {
    trial
        .rows(
            "SELECT id, name FROM t",
            &["ALTER TABLE t ADD COLUMN m INTEGER"],
            &["1 one", "2 two"],
        )
        .await?;
    let renamed = ["ALTER TABLE t RENAME COLUMN name TO title"];
    trial.fails("SELECT name FROM t", &renamed, &["name"]).await?;
    trial.fails("SELECT * FROM t", &renamed, &["name"]).await?;
    trial.fails("SELECT sum(n) FROM t", &["ALTER TABLE t DROP COLUMN n"], &["n"]).await?;
    trial.fails("SELECT name FROM t", &["DROP TABLE t"], &["t"]).await?;
    // The text alone, planned now, sees what is there.
    let table = format!("there.{}.t", trial.server.schema());
    trial.server.execute(&MAKE).await?;
    ensure!(
        trial.here.values(&format!("SELECT * FROM {table}")).await? == ["1 10 one", "2 20 two"]
    );
    trial.server.execute(&renamed).await?;
    let now = trial.here.run(&format!("SELECT * FROM {table}")).await?;
    ensure!(now.schema.field(2).name() == "title");
    let gone = trial.here.error(&format!("SELECT name FROM {table}")).await?;
    ensure!(gone.code == "COLUMN_NOT_FOUND", "{gone:?}");
    Ok(())
}
