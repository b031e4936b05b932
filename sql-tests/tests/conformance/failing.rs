//! Cases of what goes wrong or is not there: statements that a source does not take, queries that nobody
//! waits for, sources that do not answer, tables that cannot be read.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use meshwork_engine::{ErrorKind, environment};

use crate::doors::{Door, NULL, Rows};
use crate::source::{CATALOG, Writes, name_of, quoted, text_literal};
use crate::suite::Trial;

/// How long a source may go on with a query that nobody waits for.
const CANCEL_DEADLINE: Duration = Duration::from_secs(2);

/// Workers say once a second how many tasks they run.
const IDLE_DEADLINE: Duration = Duration::from_secs(4);

/// How long the source may take to be seen at work.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// How long a query waits for its first rows before it is dropped.
const FIRST_ROWS: Duration = Duration::from_millis(300);

/// How long a source that is not there may keep a query waiting.
const AWAY_DEADLINE: Duration = Duration::from_secs(15);

/// Between two looks at another process.
const POLL: Duration = Duration::from_millis(20);

/// Where nobody makes a table, `CREATE TABLE` says so; nothing else of these cases can be tried.
pub(crate) async fn tables_are_refused(trial: &mut Trial) -> Result<()> {
    let name = name_of(trial.source.schema(), "made");
    refused(trial, &format!("CREATE TABLE {name} (id BIGINT)")).await
}

/// What can be written is there for the next query; what cannot is refused as such.
pub(crate) async fn writes(trial: &mut Trial) -> Result<()> {
    let schema = trial.source.schema();
    let standard = trial.standard.clone();
    if trial.source.limits().writes == Writes::Yes {
        return written(trial).await;
    }
    let name = name_of(schema, "made");
    let there = match trial.source.limits().writes {
        Writes::Never => format!("{CATALOG}.{}.supplier", quoted(schema)),
        Writes::Yes | Writes::No => name_of(schema, "standard"),
    };
    for sql in [
        format!("CREATE SCHEMA {CATALOG}.made"),
        format!("CREATE TABLE {name} (id BIGINT)"),
        format!("CREATE TABLE {name} AS SELECT id FROM {standard} LIMIT 1"),
        format!("INSERT INTO {there} SELECT * FROM {there} LIMIT 1"),
        format!("DELETE FROM {there}"),
        format!("DROP TABLE {there}"),
    ] {
        refused(trial, &sql).await?;
    }
    // Nothing of it has happened.
    trial.doors.rows(&format!("SELECT count(*) FROM {there}")).await.map(drop)
}

async fn written(trial: &mut Trial) -> Result<()> {
    let schema = trial.source.schema();
    let (made, copied) = (name_of(schema, "made"), name_of(schema, "copied"));
    let door = trial.doors.first();
    door.change(&format!("CREATE TABLE {made} (id BIGINT, note VARCHAR)")).await?;
    door.change(&format!("CREATE TABLE IF NOT EXISTS {made} (id BIGINT)")).await?;
    let error = door.error(&format!("CREATE TABLE {made} (id BIGINT)")).await?;
    ensure!(error.code == "TABLE_ALREADY_EXISTS", "{error:?}");
    ensure!(door.change(&format!("INSERT INTO {made} VALUES (1, 'a'), (2, NULL)")).await? == 2);
    ensure!(door.change(&format!("INSERT INTO {made} (note) VALUES ('b')")).await? == 1);
    let n_copied =
        door.change(&format!("CREATE TABLE {copied} AS SELECT * FROM {}", trial.standard)).await?;
    let found = trial
        .doors
        .value(&format!("SELECT count(*) FROM {made} WHERE id IS NULL OR note = 'a'"))
        .await?;
    ensure!(found == "2", "{found}");
    let columns = format!("SELECT * FROM {}", trial.standard);
    let expected = trial.doors.rows(&columns).await?;
    let copy = trial.doors.rows(&format!("SELECT * FROM {copied}")).await?;
    ensure!(copy == expected && usize::try_from(n_copied)? == copy.len(), "{copy:?}");
    for sql in [format!("DELETE FROM {made}"), format!("UPDATE {made} SET id = 1")] {
        refused(trial, &sql).await?;
    }
    let door = trial.doors.first();
    for name in [&made, &copied] {
        door.change(&format!("DROP TABLE {name}")).await?;
        door.change(&format!("DROP TABLE IF EXISTS {name}")).await?;
    }
    let error = trial.doors.error(&format!("SELECT * FROM {made}")).await?;
    ensure!(error.code == "TABLE_NOT_FOUND", "{error:?}");
    Ok(())
}

async fn refused(trial: &mut Trial, sql: &str) -> Result<()> {
    let error = trial.doors.error(sql).await?;
    let named = error.message.contains(trial.source.kind()) || error.message.contains(CATALOG);
    let statement = sql.split(' ').next().is_some_and(|word| error.message.contains(word));
    let is_known = ["NOT_SUPPORTED", "CATALOG_READ_ONLY"].contains(&error.code.as_str());
    let clear = error.kind == ErrorKind::User && is_known;
    ensure!(clear && (named || statement), "{sql}\n{error:?}");
    Ok(())
}

/// A query that nobody waits for leaves its source within two seconds.
pub(crate) async fn cancel(trial: &mut Trial) -> Result<()> {
    let relations = trial.source.endless(&mut trial.doors).await?;
    let source = &trial.source;
    for door in &mut trial.doors.all {
        let ids = door.process_ids()?;
        for relation in &relations {
            let sql = format!("SELECT * FROM {relation}");
            let mut rows = door.stream(&sql).await?;
            // Some have rows at once and more than anybody takes, some have none for a long time.
            if let Ok(first) = tokio::time::timeout(FIRST_ROWS, rows.next()).await {
                first.context("no rows")?.context("no first rows")?;
            }
            until(START_DEADLINE, "the source to be read", async || {
                Ok(source.is_read(&ids).await?.unwrap_or(true))
            })
            .await?;
            tasks_are_shown(door, &sql).await?;
            drop(rows);
            until(CANCEL_DEADLINE, &format!("the source to be left: {sql}"), async || {
                Ok(!source.is_read(&ids).await?.unwrap_or(false))
            })
            .await?;
            is_cancelled(door, &sql).await?;
        }
        let since = environment::instant();
        while busy(door).await? {
            ensure!(since.elapsed() < IDLE_DEADLINE, "tasks run on");
            tokio::time::sleep(POLL).await;
        }
    }
    // What was taken for those queries has been given back.
    trial.doors.rows(&format!("SELECT count(*) FROM {}", trial.standard)).await.map(drop)
}

/// A query that was cut into tasks has them in `system.tasks`.
async fn tasks_are_shown(door: &mut Door, sql: &str) -> Result<()> {
    let query = format!("WHERE query = {} AND state = 'RUNNING'", text_literal(sql));
    // A plan of one stage runs where it was made.
    let n_tasks = format!("SELECT sum(tasks) FROM system.runtime.queries {query} AND stages > 1");
    if door.rows(&n_tasks).await? == [[NULL]] {
        return Ok(());
    }
    let shown = format!(
        "SELECT count(*) FROM system.tasks WHERE query_id IN \
         (SELECT query_id FROM system.runtime.queries {query})"
    );
    let since = environment::instant();
    while door.rows(&shown).await? == [["0"]] {
        if since.elapsed() > IDLE_DEADLINE {
            let queries = door.rows("SELECT * FROM system.queries WHERE state = 'RUNNING'").await?;
            let tasks = door.rows("SELECT * FROM system.tasks").await?;
            bail!("no task is shown of {sql}\n{queries:?}\n{tasks:?}");
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

async fn is_cancelled(door: &mut Door, sql: &str) -> Result<()> {
    let state = format!(
        "SELECT DISTINCT state FROM system.runtime.queries WHERE query = {}",
        text_literal(sql)
    );
    let since = environment::instant();
    loop {
        let states: Rows = door.rows(&state).await?;
        if states == [["CANCELLED"]] {
            return Ok(());
        }
        ensure!(since.elapsed() < CANCEL_DEADLINE, "{sql} is {states:?}");
        tokio::time::sleep(POLL).await;
    }
}

async fn busy(door: &mut Door) -> Result<bool> {
    let tasks = door.rows("SELECT sum(tasks) FROM system.runtime.nodes").await?;
    Ok(tasks != [["0"]])
}

async fn until(limit: Duration, what: &str, reached: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let since = environment::instant();
    while !reached().await? {
        ensure!(since.elapsed() < limit, "waited {limit:?} for {what}");
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// A source that is not there is named, soon, and disturbs nobody else.
pub(crate) async fn away(trial: &mut Trial) -> Result<()> {
    let away = match trial.source.away() {
        Ok(away) => away,
        Err(why) => {
            let state = "SELECT state FROM system.runtime.catalogs";
            let state = trial.doors.rows(&format!("{state} WHERE catalog = '{CATALOG}'")).await?;
            ensure!(state == [["ok"]], "{why}, and yet it is {state:?}");
            return Ok(());
        }
    };
    let kind = trial.source.kind();
    trial.doors.define("gone", kind, &away.properties).await?;
    let schema = quoted(trial.source.schema());
    for sql in [
        format!("SELECT * FROM gone.{schema}.standard"),
        format!(
            "SELECT count(*) FROM gone.{schema}.standard a JOIN {} b ON a.id = b.id",
            trial.standard
        ),
    ] {
        let since = environment::instant();
        let error = trial.doors.error(&sql).await?;
        let elapsed = since.elapsed() / 2;
        ensure!(elapsed < AWAY_DEADLINE, "{sql}\nwaited {elapsed:?}");
        let clear = error.code == away.code && error.kind == ErrorKind::Source;
        ensure!(clear && error.message.contains("\"gone\""), "{sql}\n{error:?}");
    }
    let sql = format!(
        "SELECT catalog, state FROM system.runtime.catalogs WHERE catalog IN ('gone', '{CATALOG}')"
    );
    let states = trial.doors.rows(&sql).await?;
    ensure!(states == [["gone", away.code], [CATALOG, "ok"]], "{states:?}");
    trial.doors.rows(&format!("SELECT count(*) FROM {}", trial.standard)).await?;
    trial.doors.change_all("DROP CATALOG gone").await
}

/// A table that cannot be read says why, and hides no other.
pub(crate) async fn broken(trial: &mut Trial) -> Result<()> {
    let all = trial.source.broken(&mut trial.doors).await?;
    for broken in &all {
        let error = trial.doors.error(&format!("SELECT * FROM {}", broken.relation)).await?;
        let clear = error.code == broken.code && error.message.contains(&broken.names);
        ensure!(clear, "{}\n{error:?}", broken.relation);
    }
    trial.doors.rows(&format!("SELECT count(*) FROM {}", trial.standard)).await?;
    let sql = format!("SELECT count(*) > 0 FROM {CATALOG}.information_schema.columns");
    ensure!(trial.doors.value(&sql).await? == "true");
    Ok(())
}
