//! EXPLAIN says of each predicate that stays with the engine which obstacle it met, by code and by name.

use anyhow::{Context, Result, ensure};
use arrow::array::AsArray;
use meshwork::client::Client;
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::servers::{MariaDb, Postgres};
use meshwork_sql_tests::spread::catalog_file;

/// Predicates on `pg.public.r` and on `my.shop.r`, the code of the obstacle, and what has to be named.
const IN_POSTGRES: [(&str, &str, &str); 18] = [
    ("icu > 'a'", "COLLATION", "en-US-x-icu"),
    ("loose <> 'a'", "COLLATION", "collation loose"),
    ("padded LIKE 'a%'", "COLLATION", "character(10)"),
    ("padded < 'a'", "COLLATION", "character(10)"),
    ("x = 0e0", "FLOAT", "zero"),
    ("x <> 1.5e0", "FLOAT", "floats"),
    ("upper(plain) = 'A'", "FUNCTION", "upper"),
    ("length(plain) > 3", "FUNCTION", "length"),
    ("plain LIKE '_a'", "PATTERN", "_"),
    ("plain ILIKE 'a%'", "PATTERN", "ILIKE"),
    ("plain = bytes", "COLUMNS", "bytes"),
    ("CAST(plain AS BIGINT) = 1", "CAST", "Int64"),
    ("ip = '127.0.0.1'", "TYPE", "inet"),
    ("free = '1'", "TYPE", "numeric"),
    ("u = 'no uuid'", "LITERAL", "UUID"),
    ("gap > INTERVAL '1' DAY", "LITERAL", "Interval"),
    ("CASE WHEN id > 1 THEN plain ELSE bytes END = 'x'", "EXPRESSION", "CASE"),
    ("id % 2 = 1", "EXPRESSION", "%"),
];
const IN_MYSQL: [(&str, &str, &str); 7] = [
    ("long <> 'a'", "COLLATION", "utf8mb4_general_ci"),
    ("long LIKE 'a%'", "COLLATION", "utf8mb4_general_ci"),
    ("latin = '日本'", "CHARACTER_SET", "latin1"),
    ("f = 1.5", "CAST", "Float64"),
    ("size = 'small'", "TYPE", "enum"),
    ("day IS NULL", "NULL", "zero date"),
    ("at = TIMESTAMP '1960-01-01 00:00:00+00:00'", "LITERAL", "type"),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_obstacle_has_a_code_and_a_name() -> Result<()> {
    let postgres = Postgres::start()?;
    postgres
        .execute(&[
            "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false)",
            "CREATE TABLE r (id int, big bigint, plain text, bytes text COLLATE \"C\", \
             icu text COLLATE \"en-US-x-icu\", loose text COLLATE loose, padded char(10), x double precision, \
             ip inet, free numeric, u uuid, gap interval)",
        ])
        .await?;
    let mariadb = MariaDb::start()?;
    mariadb
        .execute(&[
            "CREATE DATABASE shop",
            "CREATE TABLE shop.r (`long` longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci, \
             latin longtext CHARACTER SET latin1, f float, size enum('small', 'large'), day date, at timestamp NULL)",
        ])
        .await?;
    let catalogs = [
        ("pg", catalog_file("postgres", postgres.properties())),
        ("my", catalog_file("mysql", mariadb.properties())),
    ];
    let cluster = Cluster::start(Shape::Standalone, &catalogs).await?;
    let mut client = cluster.client().await?;
    let mut wrong = Vec::new();
    let cases = IN_POSTGRES.map(|case| ("pg.public.r", case)).into_iter();
    for (table, (predicate, code, name)) in cases.chain(IN_MYSQL.map(|case| ("my.shop.r", case))) {
        let said = not_pushed(&mut client, table, predicate).await?;
        let wanted = format!(": {code}: ");
        if !said.lines().any(|line| line.contains(&wanted) && line.contains(name)) {
            wrong.push(format!("{predicate}: wanted{wanted}{name}, EXPLAIN says {said:?}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Returns what EXPLAIN says was not pushed.
async fn not_pushed(client: &mut Client, table: &str, predicate: &str) -> Result<String> {
    let sql = format!("EXPLAIN SELECT * FROM {table} WHERE {predicate}");
    let mut said = String::new();
    for batch in client.query(&sql).await.with_context(|| predicate.to_owned())? {
        let (kinds, plans) =
            (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        let rows = kinds.iter().zip(plans).filter(|(kind, _)| *kind == Some("not_pushed"));
        said.extend(rows.filter_map(|(_, plan)| plan).map(str::to_owned));
    }
    Ok(said)
}
