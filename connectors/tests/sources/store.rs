//! The native store behind the contract. What the store itself promises is tested in its own crate.

use std::fmt::Write;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::execution::SendableRecordBatchStream;
use meshwork_engine::connector::{CreateTable, ReadVersion};
use meshwork_engine::scope::QueryScope;
use meshwork_engine::settings::QuerySettings;
use meshwork_engine::{Error, ErrorKind, Result, environment};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use crate::harness::Catalogs;

/// A directory with one catalog `s` over it.
struct Store {
    directory: TempDir,
    catalogs: Catalogs,
}

impl Store {
    /// A store whose deltas are merged by `OPTIMIZE` only.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let catalogs = Catalogs::new();
        let location = directory.path().join("made/with/the/first/table");
        let properties = [("location", location.to_str().unwrap()), ("maintenance", "off")];
        catalogs.define("s", "store", &properties);
        Self { directory, catalogs }
    }

    /// A table as the coordinator asks for it: `columns` are (name, type, function).
    async fn create(
        &self,
        table: &str,
        columns: &[(&str, DataType, Option<&str>)],
        options: &[(&str, &str)],
    ) -> Result<()> {
        let field = |(name, data_type, _): &(&str, DataType, Option<&str>)| {
            Field::new(*name, data_type.clone(), true)
        };
        let functions = columns.iter().filter_map(|(name, _, function)| {
            Some((format!("function.{name}"), (*function)?.to_owned()))
        });
        let options = options.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        self.catalogs
            .connector("s")
            .create_table(CreateTable {
                schema: "ads".to_owned(),
                table: table.to_owned(),
                columns: Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>())),
                options: functions.chain(options).collect(),
                if_not_exists: false,
            })
            .await
    }

    /// `ads.clicks (day, site, n SUM, label REPLACE) AGGREGATE KEY (day, site)`
    async fn create_clicks(&self) {
        let columns = [
            ("n", DataType::Int32, Some("sum")),
            ("site", DataType::Utf8, None),
            ("day", DataType::Int64, None),
            ("label", DataType::Utf8, Some("replace")),
        ];
        let options = [("model", "aggregate"), ("key", "day, site")];
        self.create("clicks", &columns, &options).await.unwrap();
    }

    async fn run(&self, sql: &str) {
        self.catalogs.run(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    async fn rows(&self, sql: &str) -> Vec<String> {
        let rows = self.catalogs.rows(sql).await;
        assert_eq!(self.catalogs.rows_shipped(sql).await, rows, "{sql}");
        rows
    }

    async fn rows_at(&mut self, version: u64, sql: &str) -> Vec<String> {
        self.rows_of(ReadVersion::At(version), sql).await
    }

    async fn rows_of(&mut self, version: ReadVersion, sql: &str) -> Vec<String> {
        self.catalogs.version = version;
        let rows = self.rows(sql).await;
        self.catalogs.version = ReadVersion::Committed;
        rows
    }

    async fn stream(&self, sql: &str) -> SendableRecordBatchStream {
        let context = self.catalogs.context(sql).await.unwrap();
        let plan = context.state().create_logical_plan(sql).await.unwrap();
        context.execute_logical_plan(plan).await.unwrap().execute_stream().await.unwrap()
    }
}

const ALL_CLICKS: &str = "SELECT * FROM s.ads.clicks ORDER BY day, site";

#[tokio::test]
async fn rows_of_one_key_fold_over_versions() {
    let mut store = Store::new();
    store.create_clicks().await;
    assert_eq!(store.rows(ALL_CLICKS).await, Vec::<String>::new());
    store
        .run(
            "INSERT INTO s.ads.clicks VALUES (3, 'a', 1, 'x'), (4, 'a', 1, 'y'), (1, 'b', 1, NULL)",
        )
        .await;
    store.run("INSERT INTO s.ads.clicks (day, site, n) VALUES (1, 'a', 10), (2, 'a', 0)").await;
    store.run("INSERT INTO s.ads.clicks VALUES (-1, 'b', 1, 'z'), (5, NULL, 2, 'w')").await;

    assert_eq!(store.rows_at(1, ALL_CLICKS).await, ["7|a|1|y", "1|b|1|"]);
    assert_eq!(store.rows_at(2, ALL_CLICKS).await, ["17|a|1|", "1|b|1|", "0|a|2|"]);
    // A sum of zero is a row like any other.
    let newest = ["17|a|1|", "0|b|1|z", "0|a|2|", "5||2|w"];
    assert_eq!(store.rows(ALL_CLICKS).await, newest);
    assert_eq!(store.rows_at(3, ALL_CLICKS).await, newest);
    assert_eq!(store.rows_at(0, ALL_CLICKS).await, Vec::<String>::new());

    assert_eq!(store.rows("SELECT count(*) FROM s.ads.clicks").await, ["4"]);
    assert_eq!(store.rows("SELECT sum(n), max(label) FROM s.ads.clicks").await, ["22|z"]);
    assert_eq!(
        store.rows("SELECT label FROM s.ads.clicks WHERE n = 0 ORDER BY 1").await,
        ["z", ""]
    );
    assert_eq!(
        store.rows("SELECT n FROM s.ads.clicks WHERE site = 'a' ORDER BY 1").await,
        ["0", "17"]
    );
    assert_eq!(store.rows("SELECT day FROM s.ads.clicks WHERE site IS NULL").await, ["2"]);
}

#[tokio::test]
async fn a_time_names_the_version_that_was_the_newest_then() {
    let mut store = Store::new();
    store.create_clicks().await;
    let mut times = Vec::new();
    for n in 1..=3 {
        store.run(&format!("INSERT INTO s.ads.clicks (day, site, n) VALUES (1, 'a', {n})")).await;
        times.push(environment::unix_micros());
    }
    for (time, n) in times.into_iter().zip(["1", "3", "6"]) {
        let found = store.rows_of(ReadVersion::AsOf(time), "SELECT n FROM s.ads.clicks").await;
        assert_eq!(found, [n]);
    }
    for time in [0, environment::unix_micros() + 60_000_000] {
        store.catalogs.version = ReadVersion::AsOf(time);
        assert_eq!(store.catalogs.error(ALL_CLICKS).await.code, "VERSION_NOT_FOUND");
    }
}

#[tokio::test]
async fn versions_that_are_not_there_are_errors_and_those_read_are_recorded() {
    let mut store = Store::new();
    store.create_clicks().await;
    store.run("INSERT INTO s.ads.clicks (day, site, n) VALUES (1, 'a', 10)").await;
    store.catalogs.version = ReadVersion::At(7);
    let error = store.catalogs.error(ALL_CLICKS).await;
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::User, "VERSION_NOT_FOUND"));
    assert!(error.message.contains("the newest committed version is 1"), "{error}");
    store.catalogs.version = ReadVersion::Committed;

    let connector = store.catalogs.connector("s");
    let scope = QueryScope::new(QuerySettings::default());
    let table = |name| connector.table("ads", name, ReadVersion::Committed, &scope);
    assert!(table("clicks").await.unwrap().is_some());
    assert_eq!(scope.versions().into_iter().collect::<Vec<_>>(), [("s".into(), "1".into())]);
    assert!(table("nothing").await.unwrap().is_none());

    // What is committed while a query is planned does not show in it, but for a new table.
    store.run("INSERT INTO s.ads.clicks (day, site, n) VALUES (1, 'a', 10)").await;
    assert!(table("clicks").await.unwrap().is_some());
    assert_eq!(scope.versions().into_values().collect::<Vec<_>>(), ["1"]);
    store.create("late", &[("k", DataType::Int64, None)], &[]).await.unwrap();
    assert!(table("late").await.unwrap().is_some());
}

/// Functions whose order matters and those whose does not, before and after deltas are merged, by a worker too.
#[tokio::test]
async fn merged_deltas_answer_as_they_did() {
    let store = Store::new();
    let functions = ["first", "replace", "replace_if_not_null", "min", "max", "sum"];
    let mut columns = vec![("k", DataType::Int64, None)];
    columns.extend(functions.map(|function| (function, DataType::Int64, Some(function))));
    columns.extend(["bool_and", "bool_or"].map(|name| (name, DataType::Boolean, Some(name))));
    store.create("all", &columns, &[("model", "aggregate"), ("key", "k")]).await.unwrap();
    for rows in [
        "(1, NULL, 5, 5, 5, 5, 5, true, false), (2, 1, 1, 1, 1, 1, 1, NULL, NULL)",
        "(1, 7, NULL, NULL, 7, 7, 7, false, true)",
        "(3, 3, 3, 3, 3, 3, 3, true, true), (1, 9, 9, NULL, -1, 9, -2, NULL, NULL)",
    ] {
        store.run(&format!("INSERT INTO s.ads.all VALUES {rows}")).await;
    }
    let sql = "SELECT * FROM s.ads.all ORDER BY k";
    let expected = ["1||9|5|-1|9|10|false|true", "2|1|1|1|1|1|1||", "3|3|3|3|3|3|3|true|true"];
    assert_eq!(store.catalogs.rows(sql).await, expected);
    assert_eq!(store.catalogs.rows_shipped(sql).await, expected);
    let connector = store.catalogs.connector("s");
    assert_eq!(connector.deltas().await.unwrap().len(), 3);
    assert_eq!(connector.optimize("ads", "all", false).await.unwrap(), 0);
    assert_eq!(connector.optimize("ads", "all", true).await.unwrap(), 3);
    let read: Vec<_> =
        connector.deltas().await.unwrap().into_iter().filter(|delta| delta.is_read).collect();
    assert_eq!((read.len(), read[0].made_by.as_str(), read[0].rows), (1, "base", 3));
    assert!(!store.catalogs.plan(sql).await.contains("AggregateExec"));
    assert_eq!(store.catalogs.rows(sql).await, expected);
}

#[tokio::test]
async fn files_that_cannot_match_are_not_read_and_disjoint_ones_not_merged() {
    let store = Store::new();
    store.create_clicks().await;
    for day in 1..=9 {
        store
            .run(&format!(
                "INSERT INTO s.ads.clicks VALUES (1, 'a', {day}, 'x'), (2, 'b', {day}, 'y')"
            ))
            .await;
    }
    let n_files = |plan: &str| plan.matches(".parquet").count();
    // Days are disjoint, so that nothing is merged.
    let plan = store.catalogs.plan(ALL_CLICKS).await;
    assert!(!plan.contains("AggregateExec"), "{plan}");
    assert_eq!(n_files(&plan), 9, "{plan}");
    let plan = store.catalogs.plan("SELECT n FROM s.ads.clicks WHERE day BETWEEN 3 AND 4").await;
    assert_eq!(n_files(&plan), 2, "{plan}");

    store.run("INSERT INTO s.ads.clicks VALUES (5, 'a', 4, 'z')").await;
    let one_day = "SELECT n, label FROM s.ads.clicks WHERE day = 4 AND site = 'a'";
    let plan = store.catalogs.plan(one_day).await;
    assert_eq!(n_files(&plan), 2, "{plan}");
    assert!(
        plan.contains("AggregateExec") && plan.contains("aggr=[SUM(n), REPLACE(label)]"),
        "{plan}"
    );
    assert_eq!(store.rows(one_day).await, ["6|z"]);
    // Without the label there is no need to know versions.
    let plan = store.catalogs.plan("SELECT n FROM s.ads.clicks WHERE day = 4").await;
    assert!(!plan.contains("version"), "{plan}");
    let plan = store.catalogs.plan("SELECT n FROM s.ads.clicks WHERE day = 5").await;
    assert!(!plan.contains("AggregateExec") && n_files(&plan) == 1, "{plan}");
    let plan = store.catalogs.plan("SELECT n FROM s.ads.clicks WHERE day > 99").await;
    assert!(plan.contains("EmptyExec"), "{plan}");

    // Of all files, only those of day 4 share keys.
    let plan = store.catalogs.plan(ALL_CLICKS).await;
    let (merged, plain) =
        plan.split_once("UnionExec").unwrap().1.rsplit_once("DataSourceExec").unwrap();
    assert_eq!((n_files(merged), n_files(plain)), (2, 8), "{plan}");
    assert_eq!(store.rows("SELECT count(*), sum(n) FROM s.ads.clicks").await, ["18|32"]);

    // A filter on a value stays above the merge: 1 + 5 passes, though neither delta does.
    let by_value = "SELECT day FROM s.ads.clicks WHERE n = 6 AND label = 'z'";
    assert_eq!(store.rows(by_value).await, ["4"]);
    let plan = store.catalogs.plan(by_value).await;
    let (filter, merge) = (plan.find("FilterExec"), plan.find("AggregateExec"));
    assert!(filter.unwrap() < merge.unwrap(), "{plan}");
}

#[tokio::test]
async fn append_tables_keep_every_row() {
    let store = Store::new();
    let columns = [("at", DataType::Int64, None), ("text", DataType::Utf8View, None)];
    store.create("events", &columns, &[("model", "duplicate"), ("key", "at")]).await.unwrap();
    store.run("INSERT INTO s.ads.events VALUES (2, 'b'), (1, 'a'), (2, 'b')").await;
    store.run("INSERT INTO s.ads.events VALUES (2, NULL), (7, 'c')").await;
    let all = "SELECT * FROM s.ads.events ORDER BY at, text NULLS LAST";
    assert_eq!(store.rows(all).await, ["1|a", "2|b", "2|b", "2|", "7|c"]);
    assert_eq!(store.rows("SELECT at FROM s.ads.events WHERE text = 'c'").await, ["7"]);
    assert_eq!(store.rows("SELECT count(*) FROM s.ads.events").await, ["5"]);
    assert_eq!(store.rows("SELECT 1 FROM s.ads.events LIMIT 2").await, ["1", "1"]);
    let plan = store.catalogs.plan("SELECT at FROM s.ads.events WHERE text = 'c'").await;
    assert_eq!(plan.matches(".parquet").count(), 1, "{plan}");
}

#[tokio::test]
async fn batch_over_two_tables_is_one_version_or_nothing() {
    let store = Store::new();
    store.create_clicks().await;
    let columns = [("site", DataType::Utf8, None), ("n", DataType::Int64, Some("SUM"))];
    let options = [("model", "AGGREGATE"), ("key", "site")];
    store.create("sites", &columns, &options).await.unwrap();
    let connector = store.catalogs.connector("s");
    let session = store.catalogs.context("SELECT 1").await.unwrap().state();
    let clicks = "SELECT 1, 'a', 5, 'x' UNION ALL SELECT 2, 'a', 5, 'x'";
    let total = "SELECT sum(n) FROM s.ads.clicks UNION ALL SELECT sum(n) FROM s.ads.sites";

    for commit in [false, true] {
        let mut batch = connector.begin_batch().await.unwrap();
        let rows = store.stream(clicks).await;
        assert_eq!(batch.insert(&session, "ads", "clicks", rows).await.unwrap(), 2);
        let rows = store.stream("SELECT 'a', 3").await;
        assert_eq!(batch.insert(&session, "ads", "sites", rows).await.unwrap(), 1);
        let missing =
            batch.insert(&session, "ads", "nothing", store.stream("SELECT 1").await).await;
        assert_eq!(missing.unwrap_err().code, "TABLE_NOT_FOUND");
        assert_eq!(store.rows(total).await, ["", ""]);
        if commit {
            assert_eq!(batch.commit().await.unwrap(), 1);
        }
    }
    assert_eq!(store.rows(total).await, ["3", "3"]);
}

#[tokio::test]
async fn sums_that_overflow_are_errors_when_written_and_when_read() {
    let store = Store::new();
    store.create_clicks().await;
    let big = i64::MAX;
    let twice = format!("INSERT INTO s.ads.clicks VALUES ({big}, 'a', 1, 'x'), (1, 'a', 1, 'x')");
    let error = store.catalogs.error(&twice).await;
    assert_eq!(error.code, "NUMERIC_OVERFLOW", "{error}");
    store.run(&format!("INSERT INTO s.ads.clicks VALUES ({big}, 'a', 1, 'x')")).await;
    store.run("INSERT INTO s.ads.clicks VALUES (1, 'a', 1, 'x')").await;
    let error = store.catalogs.error(ALL_CLICKS).await;
    assert_eq!(error.code, "NUMERIC_OVERFLOW", "{error}");
    // A newer version can bring the sum back.
    store.run("INSERT INTO s.ads.clicks VALUES (-2, 'a', 1, 'x')").await;
    assert_eq!(store.rows(ALL_CLICKS).await, [format!("{}|a|1|x", big - 1)]);
}

#[tokio::test]
async fn a_count_that_is_left_out_is_one() {
    let store = Store::new();
    let columns = [("k", DataType::Utf8, None), ("n", DataType::Int64, Some("count"))];
    let options = [("model", "aggregate"), ("key", "k")];
    store.create("counts", &columns, &options).await.unwrap();
    store.run("INSERT INTO s.ads.counts (k) VALUES ('a'), ('a'), ('b')").await;
    store.run("INSERT INTO s.ads.counts VALUES ('a', 40)").await;
    assert_eq!(store.rows("SELECT * FROM s.ads.counts ORDER BY k").await, ["a|42", "b|1"]);
}

#[tokio::test]
async fn tables_come_and_go() {
    let store = Store::new();
    let connector = store.catalogs.connector("s");
    store.create_clicks().await;
    assert_eq!(connector.schema_names().await.unwrap(), ["ads"]);
    connector.create_schema("ads", true).await.unwrap();
    let error = connector.create_schema("ads", false).await.unwrap_err();
    assert_eq!(error.code, "SCHEMA_ALREADY_EXISTS");
    assert_eq!(connector.tables("ads").await.unwrap()[0].name, "clicks");
    assert!(connector.tables("none").await.unwrap().is_empty());
    assert!(connector.drop_table("ads", "clicks").await.unwrap());
    assert!(!connector.drop_table("ads", "clicks").await.unwrap());
    assert!(connector.tables("ads").await.unwrap().is_empty());
}

#[tokio::test]
async fn only_a_schema_or_a_table_makes_a_database() {
    let store = Store::new();
    let connector = store.catalogs.connector("s");
    let made = store.directory.path().join("made");
    let refused = |error: Error| {
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::User, "STORE_NOT_FOUND"));
        assert!(error.message.contains("with/the/first/table"), "{error}");
        assert!(!made.exists(), "{error}");
    };
    refused(connector.schema_names().await.unwrap_err());
    refused(connector.check().await.unwrap_err());
    refused(store.catalogs.error(ALL_CLICKS).await);
    refused(store.catalogs.error("INSERT INTO s.ads.clicks VALUES (1, 'a', 1, 'x')").await);
    refused(connector.drop_table("ads", "clicks").await.unwrap_err());
    refused(connector.begin_batch().await.map(drop).unwrap_err());
    // CREATE TABLE looks here first.
    assert!(connector.tables("ads").await.unwrap().is_empty() && !made.exists());
    let list = DataType::new_list(DataType::Int64, true);
    store.create("t", &[("k", list, None)], &[]).await.unwrap_err();
    assert!(!made.exists());
    connector.create_schema("ads", false).await.unwrap();
    assert_eq!(connector.schema_names().await.unwrap(), ["ads"]);
}

#[tokio::test]
async fn what_a_table_cannot_be_is_said() {
    let store = Store::new();
    let key = ("k", DataType::Int64, None);
    let aggregate = [("model", "aggregate"), ("key", "k")];
    let refusal = async |columns: &[(&str, DataType, Option<&str>)], options: &[(&str, &str)]| {
        let error: Error = store.create("t", columns, options).await.unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::User, "INVALID_TABLE"));
        error.message
    };
    let plain = ("v", DataType::Int64, None);
    let message = refusal(&[key.clone(), plain], &aggregate).await;
    assert!(
        message.contains("column \"v\" is not in the key and has no value function"),
        "{message}"
    );
    let message = refusal(std::slice::from_ref(&key), &[("retention", "7 days")]).await;
    assert!(message.contains("the option retention does not exist"), "{message}");
    let list = DataType::new_list(DataType::Int64, true);
    let message = refusal(&[key.clone(), ("v", list, None)], &[]).await;
    assert!(message.contains("column \"v\" has the type"), "{message}");
    let message = refusal(&[key, ("v", DataType::Utf8, Some("sum"))], &aggregate).await;
    assert!(message.contains("SUM cannot fold column \"v\" of type utf8"), "{message}");
}

/// The merge of a store against DataFusion's own aggregates over all rows that ever came, at every version.
#[tokio::test]
async fn every_version_equals_its_raw_rows_aggregated() {
    for seed in 0..4 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut store = Store::new();
        let value = |name, function| (name, DataType::Int64, Some(function));
        let columns = [
            ("a", DataType::Int64, None),
            value("total", "sum"),
            value("least", "min"),
            value("most", "max"),
            value("newest", "replace"),
            ("b", DataType::Utf8, None),
        ];
        let key = if seed % 2 == 0 { "a,b" } else { "b,a" };
        let options = [("model", "aggregate"), ("key", key)];
        store.create("folded", &columns, &options).await.unwrap();
        let raw = ["update", "row", "a", "v"].map(|name| (name, DataType::Int64, None));
        let raw: Vec<_> = raw.into_iter().chain([("b", DataType::Utf8, None)]).collect();
        store.create("raw", &raw, &[]).await.unwrap();

        for update in 1..=12 {
            let (mut folded, mut raw) = (Vec::new(), Vec::new());
            for row in 0..random.random_range(1..40) {
                // Some updates share keys with others, some do not.
                let a = random.random_range(0..6) + update / 4 * 5;
                let b = ["'x'", "'y'", "NULL"][random.random_range(0..3)];
                let v = match random.random_range(0..5) {
                    0 => "NULL".to_owned(),
                    _ => random.random_range(-50..50).to_string(),
                };
                folded.push(format!("({a}, {v}, {v}, {v}, {v}, {b})"));
                raw.push(format!("({update}, {row}, {a}, {v}, {b})"));
            }
            // The raw rows come first, so that version 2n of both is update n.
            store.run(&format!("INSERT INTO s.ads.raw VALUES {}", raw.join(", "))).await;
            store.run(&format!("INSERT INTO s.ads.folded VALUES {}", folded.join(", "))).await;
        }
        for update in [1, 2, 5, 12] {
            for filter in
                ["true", "a > 3", "b = 'x' AND a <> 2", "b IS NULL", "newest > 10 AND a < 9"]
            {
                compare(&mut store, update, filter, seed).await;
            }
        }
    }
}

async fn compare(store: &mut Store, update: u64, filter: &str, seed: u64) {
    let columns = "a, b, total, least, most, newest";
    let order = "ORDER BY a, b NULLS LAST";
    let folded = format!("SELECT {columns} FROM s.ads.folded WHERE {filter} {order}");
    let mut raw = String::new();
    write!(
        raw,
        "SELECT {columns} FROM (SELECT a, b, sum(v) AS total, min(v) AS least, max(v) AS most, \
         last_value(v ORDER BY \"update\", \"row\") AS newest FROM s.ads.raw GROUP BY a, b) \
         WHERE {filter} {order}"
    )
    .unwrap();
    let expected = store.rows_at(2 * update, &raw).await;
    let found = store.rows_at(2 * update, &folded).await;
    assert_eq!(found, expected, "seed {seed}, update {update}, {filter}");
    let less = format!("SELECT newest, b FROM s.ads.folded WHERE {filter} {order}, newest");
    let n_rows = store.rows_at(2 * update, &less.replace("a, b NULLS", "b NULLS")).await.len();
    assert_eq!(n_rows, expected.len(), "seed {seed}, update {update}, {filter}");
}
