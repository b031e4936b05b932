//! No literal and no name changes the shape of a statement for a source: 10,000 texts made of what parsers take for
//! something else, in filters that the source runs, and names of columns made of the same.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use meshwork_sql_tests::servers::{MariaDb, Postgres};
use meshwork_sql_tests::source::Source;
use mysql_async::params;
use mysql_async::prelude::Queryable;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// What means something to a parser, a driver or a pattern somewhere.
const PIECES: [&str; 34] = [
    "'", "''", "\\", "\\'", "\"", "`", "--", "/*", "*/", ";", " OR 1=1 ", "%", "_", "?", ":a",
    "$1", "$$", "{", "}", "#", "\n", "\r", "\t", "é", "\u{2019}", "x", "E'", "U&'", "0x27", ")",
    "(", ",", "NULL", " ",
];
const N_TEXTS: usize = 10_000;
/// One in so many of them is in the table.
const STORED_EVERY: usize = 4;
/// Texts in one list.
const LISTED: usize = 100;
const N_NAMES: usize = 120;
const PIECES_MAX: usize = 8;
const SEED: u64 = 20_261_126;

#[tokio::test(flavor = "multi_thread")]
async fn postgres_reads_each_literal_as_one_value() -> Result<()> {
    let server = Postgres::start()?;
    let columns = columns('"', "bigint");
    server
        .execute(&[
            "CREATE TABLE texts (id bigint, s text)",
            &format!("CREATE TABLE named ({columns})"),
        ])
        .await?;
    let session = server.connect().await?;
    let (ids, texts): (Vec<i64>, Vec<String>) = stored().into_iter().unzip();
    let fill = "INSERT INTO texts SELECT * FROM unnest($1::bigint[], $2::text[])";
    session.client.execute(fill, &[&ids, &texts]).await?;
    server.execute(&[&format!("INSERT INTO named VALUES ({})", values())]).await?;
    let source = Source::new("postgres", server.properties())?;
    check(&source, "public").await
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_reads_each_literal_as_one_value() -> Result<()> {
    let server = MariaDb::start()?;
    let columns = columns('`', "bigint");
    let table = "CREATE TABLE f.texts (id bigint, s varchar(200) CHARACTER SET utf8mb4)";
    let named = format!("CREATE TABLE f.named ({columns})");
    let row = format!("INSERT INTO f.named VALUES ({})", values());
    server.execute(&["CREATE DATABASE f", table, &named, &row]).await?;
    let mut session = server.connect().await?;
    let rows = stored().into_iter().map(|(id, s)| params! { id, s });
    session.exec_batch("INSERT INTO f.texts VALUES (:id, :s)", rows).await?;
    session.disconnect().await?;
    let source = Source::new("mysql", server.properties())?;
    check(&source, "f").await
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_reads_each_literal_as_one_value() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("file.sqlite");
    let mut file = rusqlite::Connection::open(&path)?;
    let columns = columns('"', "INTEGER");
    file.execute_batch(&format!(
        "CREATE TABLE texts (id INTEGER, s TEXT) STRICT; CREATE TABLE named ({columns}); \
         INSERT INTO named VALUES ({})",
        values()
    ))?;
    let filling = file.transaction()?;
    for (id, s) in stored() {
        filling.execute("INSERT INTO texts VALUES (?1, ?2)", rusqlite::params![id, s])?;
    }
    filling.commit()?;
    let properties = BTreeMap::from([("path".to_owned(), path.to_string_lossy().into_owned())]);
    check(&Source::new("sqlite", properties)?, "main").await
}

/// Asks for lists of texts, and for each column by its name.
async fn check(source: &Source, schema: &str) -> Result<()> {
    let texts = texts();
    for listed in texts.chunks(LISTED) {
        let literals: Vec<String> = listed.iter().map(|text| quoted(text, '\'')).collect();
        let sql = format!("SELECT id FROM t WHERE s IN ({})", literals.join(", "));
        let wanted = BTreeSet::from_iter(listed);
        let is_wanted = |(_, text): &(i64, String)| wanted.contains(text);
        let expected: Vec<i64> = stored().into_iter().filter(is_wanted).map(|(id, _)| id).collect();
        let found = ids(source, schema, "texts", &sql).await.with_context(|| sql.clone())?;
        ensure!(found == expected, "{sql}\n{found:?}, not {expected:?}");
    }
    let plan =
        source.explain(schema, "texts", "SELECT id FROM t WHERE s IN ('a', 'b', 'c', 'd')").await?;
    ensure!(plan.contains(" IN ("), "the source is not asked at all: {plan}");
    for (value, name) in names().iter().enumerate() {
        let name = quoted(name, '"');
        let sql = format!("SELECT {name} FROM t WHERE {name} = {value}");
        let found = ids(source, schema, "named", &sql).await.with_context(|| sql.clone())?;
        ensure!(found == [i64::try_from(value)?], "{sql}: {found:?}");
    }
    Ok(())
}

/// Returns the numbers of the first column, sorted.
async fn ids(source: &Source, schema: &str, table: &str, sql: &str) -> Result<Vec<i64>> {
    let batches = source.rows(schema, table, sql).await?;
    let numbers = |batch: &arrow::array::RecordBatch| {
        batch.column(0).as_primitive::<Int64Type>().values().to_vec()
    };
    let mut ids: Vec<i64> = batches.iter().flat_map(numbers).collect();
    ids.sort_unstable();
    Ok(ids)
}

fn quoted(text: &str, quote: char) -> String {
    format!("{quote}{}{quote}", text.replace(quote, &format!("{quote}{quote}")))
}

fn random(random: &mut StdRng) -> String {
    let n_pieces = random.random_range(0..=PIECES_MAX);
    (0..n_pieces).filter_map(|_| PIECES.choose(random)).copied().collect()
}

/// The texts, the same in every run.
fn texts() -> Vec<String> {
    let mut source = StdRng::seed_from_u64(SEED);
    (0..N_TEXTS).map(|_| random(&mut source)).collect()
}

/// What is in the table of texts: those of them, with numbers.
fn stored() -> Vec<(i64, String)> {
    (0_i64..).zip(texts().into_iter().step_by(STORED_EVERY)).collect()
}

/// Names that all three can have: not empty, no two alike but for case, no space at the end.
fn names() -> Vec<String> {
    let mut source = StdRng::seed_from_u64(SEED + 1);
    let mut names = BTreeMap::new();
    while names.len() < N_NAMES {
        let name = random(&mut source).trim().to_owned();
        if !name.is_empty() && name.len() < 60 {
            names.insert(name.to_lowercase(), name);
        }
    }
    names.into_values().collect()
}

fn columns(quote: char, data_type: &str) -> String {
    let column = |name: &String| format!("{} {data_type}", quoted(name, quote));
    names().iter().map(column).collect::<Vec<_>>().join(", ")
}

fn values() -> String {
    (0..N_NAMES).map(|value| value.to_string()).collect::<Vec<_>>().join(", ")
}
