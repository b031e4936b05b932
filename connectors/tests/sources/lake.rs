//! Files as tables.

use std::fs;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use meshwork_engine::ErrorKind;
use meshwork_engine::connector::CreateTable;
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;

use crate::harness::Catalogs;

/// A location with one catalog `lake` over it.
struct Lake {
    directory: TempDir,
    catalogs: Catalogs,
}

impl Lake {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(properties: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let catalogs = Catalogs::new();
        let location = directory.path().to_str().unwrap();
        let mut all = vec![("location", location)];
        all.extend_from_slice(properties);
        catalogs.define("lake", "lake", &all);
        Self { directory, catalogs }
    }

    fn text(&self, path: &str, content: &str) {
        let file = self.path(path);
        fs::write(file, content).unwrap();
    }

    fn parquet(&self, path: &str, ids: &[i64]) {
        let names: Vec<String> = ids.iter().map(|id| format!("name {id}")).collect();
        let columns: [(&str, ArrayRef); 2] = [
            ("id", Arc::new(Int64Array::from(ids.to_vec()))),
            ("name", Arc::new(StringArray::from(names))),
        ];
        self.batch(path, &RecordBatch::try_from_iter(columns).unwrap());
    }

    fn batch(&self, path: &str, batch: &RecordBatch) {
        let file = fs::File::create(self.path(path)).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        let file = self.directory.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        file
    }

    async fn rows(&self, sql: &str) -> Vec<String> {
        self.catalogs.rows(sql).await
    }

    async fn create(&self, table: &str, columns: Vec<Field>) -> meshwork_engine::Result<()> {
        let create = CreateTable {
            schema: "made".to_owned(),
            table: table.to_owned(),
            columns: Arc::new(Schema::new(columns)),
            options: Vec::new(),
            if_not_exists: false,
        };
        self.catalogs.connector("lake").create_table(create).await
    }
}

fn names(entries: &[meshwork_engine::connector::TableEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.name.as_str()).collect()
}

#[tokio::test]
async fn directories_and_files_are_tables() {
    let lake = Lake::new();
    lake.parquet("sales/orders/a.parquet", &[1, 2]);
    lake.parquet("sales/orders/deep/b.parquet", &[3]);
    lake.parquet("sales/orders/_temporary/c.parquet", &[99]);
    lake.text("sales/orders/_SUCCESS", "");
    lake.parquet("sales/single.parquet", &[7]);
    lake.text("sales/people.csv", "id,name,born\n1,Ann,1999-12-31\n2,\"Bo, the \n2nd\",\n");
    lake.text("sales/events.jsonl", "{\"id\": 1, \"tag\": \"x\"}\n{\"id\": 2, \"extra\": 2.5}\n");
    lake.text("sales/README.md", "not a table");
    let connector = lake.catalogs.connector("lake");
    assert_eq!(connector.schema_names().await.unwrap(), ["sales"]);
    let tables = connector.tables("sales").await.unwrap();
    assert_eq!(names(&tables), ["events", "orders", "people", "single"]);
    assert!(connector.tables("nothing").await.unwrap().is_empty());

    let sql = "SELECT id, name FROM lake.sales.orders ORDER BY id";
    assert_eq!(lake.rows(sql).await, ["1|name 1", "2|name 2", "3|name 3"]);
    assert_eq!(lake.rows("SELECT count(*) FROM lake.sales.single").await, ["1"]);
    let sql = "SELECT id, born, name LIKE 'Bo, the%2nd' FROM lake.sales.people ORDER BY id";
    assert_eq!(lake.rows(sql).await, ["1|1999-12-31|false", "2||true"]);
    let sql = "SELECT id, tag, extra FROM lake.sales.events ORDER BY id";
    assert_eq!(lake.rows(sql).await, ["1|x|", "2||2.5"]);
}

#[tokio::test]
async fn folders_are_columns_and_prune_files() {
    let lake = Lake::new();
    lake.parquet("s/t/year=2024/day=2024-02-29/kind=a%20b/1.parquet", &[1]);
    lake.parquet("s/t/year=2025/day=2025-01-01/kind=c/2.parquet", &[2, 3]);
    lake.parquet("s/t/year=2026/day=2026-01-01/kind=__HIVE_DEFAULT_PARTITION__/3.parquet", &[4]);
    let sql = "SELECT id, year + 1, day, kind FROM lake.s.t ORDER BY id";
    assert_eq!(
        lake.rows(sql).await,
        [
            "1|2025|2024-02-29|a b",
            "2|2026|2025-01-01|c",
            "3|2026|2025-01-01|c",
            "4|2027|2026-01-01|"
        ]
    );
    let sql = "SELECT id FROM lake.s.t WHERE year > 2024 AND day < DATE '2026-01-01' AND id > 2";
    assert_eq!(lake.rows(sql).await, ["3"]);
    let plan = lake.catalogs.plan(sql).await;
    assert!(plan.contains("2.parquet") && !plan.contains("1.parquet"), "{plan}");
    // NULL is neither 'c' nor another value.
    assert_eq!(lake.rows("SELECT id FROM lake.s.t WHERE kind <> 'c'").await, ["1"]);
    assert_eq!(lake.rows("SELECT id FROM lake.s.t WHERE kind IS NULL").await, ["4"]);
    assert_eq!(lake.rows("SELECT count(*) FROM lake.s.t WHERE year = 1999").await, ["0"]);
    let sql = "SELECT year, count(*) FROM lake.s.t GROUP BY year ORDER BY year";
    assert_eq!(lake.rows(sql).await, ["2024|1", "2025|2", "2026|1"]);

    lake.parquet("s/t/year=2027/stray.parquet", &[9]);
    assert_eq!(lake.catalogs.error("SELECT * FROM lake.s.t").await.code, "PARTITION_MISMATCH");
}

#[tokio::test]
async fn a_glob_is_a_table() {
    let lake = Lake::with(&[("tables.raw.events", "in/2026-*/events-*.parquet")]);
    lake.parquet("in/2026-01/events-1.parquet", &[1]);
    lake.parquet("in/2026-02/events-2.parquet", &[2]);
    lake.parquet("in/2026-02/others-2.parquet", &[3]);
    lake.parquet("in/2025-12/events-0.parquet", &[4]);
    let tables = lake.catalogs.connector("lake").tables("raw").await.unwrap();
    assert_eq!(names(&tables), ["events"]);
    assert_eq!(lake.rows("SELECT id FROM lake.raw.events ORDER BY id").await, ["1", "2"]);
    assert_eq!(lake.catalogs.connector("lake").schema_names().await.unwrap(), ["in", "raw"]);
}

#[tokio::test]
async fn a_broken_file_fails_its_own_table_and_is_named() {
    let lake = Lake::new();
    lake.parquet("s/good/a.parquet", &[1]);
    lake.parquet("s/bad/a.parquet", &[1]);
    lake.parquet("s/bad/cut.parquet", &[2, 3]);
    let cut = lake.path("s/bad/cut.parquet");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    lake.text("s/empty/zero.parquet", "");
    let tables = lake.catalogs.connector("lake").tables("s").await.unwrap();
    assert_eq!(names(&tables), ["bad", "empty", "good"]);
    assert_eq!(lake.rows("SELECT count(*) FROM lake.s.good").await, ["1"]);
    for (table, file) in [("bad", "bad/cut.parquet"), ("empty", "empty/zero.parquet")] {
        let error = lake.catalogs.error(&format!("SELECT * FROM lake.s.{table}")).await;
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Source, "CORRUPT_FILE"));
        assert!(error.message.contains(file), "{error:?}");
    }
    // The file's end is whole, its middle is not: found while reading.
    let mut bytes = bytes;
    for byte in &mut bytes[4..60] {
        *byte = 0xff;
    }
    fs::write(&cut, &bytes).unwrap();
    let error = lake.catalogs.error("SELECT * FROM lake.s.bad").await;
    assert_eq!(error.kind, ErrorKind::Source, "{error:?}");
}

#[tokio::test]
async fn columns_may_come_and_go_but_not_change() {
    let lake = Lake::new();
    lake.parquet("s/t/1.parquet", &[1]);
    let one: [(&str, ArrayRef); 1] = [("id", Arc::new(Int64Array::from(vec![2])))];
    lake.batch("s/t/2.parquet", &RecordBatch::try_from_iter(one).unwrap());
    let sql = "SELECT id, name FROM lake.s.t ORDER BY id";
    assert_eq!(lake.rows(sql).await, ["1|name 1", "2|"]);
    assert_eq!(lake.rows("SELECT id FROM lake.s.t WHERE name IS NULL").await, ["2"]);
    let text: [(&str, ArrayRef); 1] = [("id", Arc::new(StringArray::from(vec!["x"])))];
    lake.batch("s/t/3.parquet", &RecordBatch::try_from_iter(text).unwrap());
    assert_eq!(lake.catalogs.error("SELECT id FROM lake.s.t").await.code, "SCHEMA_CONFLICT");
}

#[tokio::test]
async fn names_that_others_chose_are_read_as_they_are() {
    let lake = Lake::new();
    lake.parquet("s/Odd Table, ü #1 50%/a b.parquet", &[1]);
    assert_eq!(lake.rows("SELECT id FROM lake.s.\"Odd Table, ü #1 50%\"").await, ["1"]);
}

#[tokio::test]
async fn tables_that_cannot_be_read_right_are_refused() {
    let lake = Lake::new();
    lake.parquet("s/delta/a.parquet", &[1]);
    lake.text("s/delta/_delta_log/00000000000000000000.json", "{}");
    lake.parquet("s/mixed/a.parquet", &[1]);
    lake.text("s/mixed/b.csv", "id\n1\n");
    lake.parquet("s/twice/a.parquet", &[1]);
    lake.parquet("s/twice.parquet", &[1]);
    fs::create_dir_all(lake.path("s/nothing/in/x")).unwrap();
    for (table, code) in [
        ("delta", "NOT_SUPPORTED"),
        ("mixed", "MIXED_FORMATS"),
        ("twice", "AMBIGUOUS_TABLE"),
        ("nothing", "TABLE_WITHOUT_FILES"),
    ] {
        let error = lake.catalogs.error(&format!("SELECT * FROM lake.s.{table}")).await;
        assert_eq!(error.code, code, "{error:?}");
        assert!(error.message.contains("catalog \"lake\""), "{error:?}");
    }
}

#[tokio::test]
async fn two_catalogs_with_the_same_paths_are_told_apart() {
    let lake = Lake::new();
    lake.parquet("one/s/t/a.parquet", &[1]);
    lake.parquet("two/s/t/a.parquet", &[2]);
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    for name in ["one", "two"] {
        let file = lake.path(&format!("{name}/s/t/a.parquet"));
        fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        let location = lake.path(name);
        lake.catalogs.define(name, "lake", &[("location", location.to_str().unwrap())]);
    }
    for (name, id) in [("one", "1"), ("two", "2"), ("one", "1")] {
        let sql = format!("SELECT min(id), max(id) FROM {name}.s.t");
        assert_eq!(lake.rows(&sql).await, [format!("{id}|{id}")]);
    }
}

#[tokio::test]
async fn of_a_struct_only_the_members_are_read_that_a_query_names() {
    let lake = Lake::new();
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000));
    let texts = (0..1_000).map(|n| format!("{n:04}").repeat(250));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    let members = vec![
        (Arc::new(Field::new("number", DataType::Int64, false)), numbers),
        (Arc::new(Field::new("text", DataType::Utf8, false)), texts),
    ];
    let columns: [(&str, ArrayRef); 1] = [("s", Arc::new(StructArray::from(members)))];
    lake.batch("s/t.parquet", &RecordBatch::try_from_iter(columns).unwrap());
    let sql = "SELECT sum(s['number']) FROM lake.s.t";
    assert_eq!(lake.rows(sql).await, ["499500"]);
    let number = lake.catalogs.bytes_read(sql).await;
    let text = lake.catalogs.bytes_read("SELECT max(s['text']) FROM lake.s.t").await;
    assert!(0 < number && number < 50_000 && text > 500_000, "{number} and {text} bytes");
}

#[tokio::test]
async fn a_file_that_was_replaced_is_read_anew_whatever_its_time() {
    let lake = Lake::new();
    lake.parquet("s/t/a.parquet", &[1, 2]);
    assert_eq!(lake.rows("SELECT id FROM lake.s.t WHERE id < 5 ORDER BY id").await, ["1", "2"]);
    lake.parquet("new.parquet", &[8, 9]);
    let (old, new) = (lake.path("s/t/a.parquet"), lake.path("new.parquet"));
    let (before, after) = (fs::metadata(&old).unwrap(), fs::metadata(&new).unwrap());
    assert_eq!(before.len(), after.len());
    let file = fs::File::options().append(true).open(&new).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    fs::rename(new, old).unwrap();
    assert_eq!(lake.rows("SELECT id FROM lake.s.t WHERE id > 5 ORDER BY id").await, ["8", "9"]);
}

#[tokio::test]
async fn rows_are_written_and_read_back() {
    let lake = Lake::new();
    let connector = lake.catalogs.connector("lake");
    let columns = || {
        vec![
            Field::new("id", DataType::Int64, false),
            Field::new("amount", DataType::Decimal128(18, 2), true),
            Field::new("note", DataType::Utf8, true),
        ]
    };
    let error = lake.create("t", columns()).await.unwrap_err();
    assert_eq!(error.code, "SCHEMA_NOT_FOUND");
    connector.create_schema("made", false).await.unwrap();
    assert_eq!(connector.schema_names().await.unwrap(), ["made"]);
    assert_eq!(
        connector.create_schema("made", false).await.unwrap_err().code,
        "SCHEMA_ALREADY_EXISTS"
    );
    lake.create("t", columns()).await.unwrap();
    assert_eq!(lake.create("t", columns()).await.unwrap_err().code, "TABLE_ALREADY_EXISTS");
    assert_eq!(names(&connector.tables("made").await.unwrap()), ["t"]);
    assert_eq!(lake.rows("SELECT count(*) FROM lake.made.t").await, ["0"]);

    let sql = "INSERT INTO lake.made.t VALUES (1, 1.50, 'a'), (2, NULL, NULL)";
    assert_eq!(lake.rows(sql).await, ["2"]);
    lake.catalogs.define("tpch", "tpch", &[]);
    let sql = "INSERT INTO lake.made.t SELECT o_orderkey + 10, o_totalprice, o_comment \
               FROM tpch.tiny.orders";
    assert_eq!(lake.rows(sql).await, ["15000"]);
    let sql = "SELECT count(*), sum(amount) - CAST(1.5 AS DECIMAL(18, 2)) = (SELECT sum(o_totalprice) FROM \
               tpch.tiny.orders), count(note) FROM lake.made.t";
    assert_eq!(lake.rows(sql).await, ["15002|true|15001"]);
    assert_eq!(fs::read_dir(lake.path("made/t/x").parent().unwrap()).unwrap().count(), 3);

    assert!(connector.drop_table("made", "t").await.unwrap());
    assert!(!connector.drop_table("made", "t").await.unwrap());
    assert!(connector.tables("made").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_failed_insert_leaves_nothing() {
    let lake = Lake::new();
    let connector = lake.catalogs.connector("lake");
    connector.create_schema("made", false).await.unwrap();
    lake.create("t", vec![Field::new("id", DataType::Int64, true)]).await.unwrap();
    lake.text("made/many.csv", &format!("x\n{}oops\n", "1\n".repeat(5000)));
    let sql = "INSERT INTO lake.made.t SELECT x FROM lake.made.many";
    assert!(lake.catalogs.run(sql).await.is_err());
    assert_eq!(lake.rows("SELECT count(*) FROM lake.made.t").await, ["0"]);
    let left = fs::read_dir(lake.path("made/t/x").parent().unwrap()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["_schema.json"]);
}

#[tokio::test]
async fn what_others_made_is_not_dropped_unless_allowed() {
    let lake = Lake::new();
    lake.parquet("s/t/a.parquet", &[1]);
    let connector = lake.catalogs.connector("lake");
    assert_eq!(connector.drop_table("s", "t").await.unwrap_err().code, "DROP_REFUSED");
    let insert = "INSERT INTO lake.s.t VALUES (2, 'two')";
    assert_eq!(lake.rows(insert).await, ["1"]);
    assert_eq!(lake.rows("SELECT count(*) FROM lake.s.t").await, ["2"]);

    let open = Lake::with(&[("allow_drop", "true")]);
    open.parquet("s/t/a.parquet", &[1]);
    assert!(open.catalogs.connector("lake").drop_table("s", "t").await.unwrap());
    assert!(!open.directory.path().join("s/t").exists());
}

#[tokio::test]
async fn names_that_are_no_folders_are_refused() {
    let lake = Lake::new();
    lake.catalogs.connector("lake").create_schema("made", false).await.unwrap();
    for name in ["..", "", "a/b", "_x", ".x", "a=b", "a%2fb"] {
        let error = lake.create(name, vec![Field::new("id", DataType::Int64, true)]).await;
        assert_eq!(error.unwrap_err().code, "INVALID_NAME", "{name}");
    }
    let connector = lake.catalogs.connector("lake");
    for name in ["..", "../..", "."] {
        assert!(connector.tables(name).await.unwrap().is_empty(), "{name}");
    }
}

#[tokio::test]
async fn wrong_properties_are_named_and_a_missing_place_is_an_error() {
    let catalogs = Catalogs::new();
    let directory = tempfile::tempdir().unwrap();
    let gone = directory.path().join("gone");
    let gone = gone.to_str().unwrap();
    catalogs.define("gone", "lake", &[("location", gone)]);
    let error = catalogs.connector("gone").schema_names().await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Source, "SOURCE_UNAVAILABLE"));
    for (properties, named) in [
        (vec![], "location"),
        (vec![("location", gone), ("colour", "red")], "colour"),
        (vec![("location", gone), ("csv.delimiter", "ab")], "csv.delimiter"),
        (vec![("location", gone), ("tables.x", "a/*")], "tables.x"),
        (vec![("location", "gs://bucket")], "location"),
        (vec![("location", "s3://bucket")], "access_key_id"),
    ] {
        catalogs.define("wrong", "lake", &properties);
        let error = catalogs.refusal("wrong");
        assert!(error.message.contains(named), "{error:?}");
    }
    let secret = "hunter2";
    let properties = [
        ("location", "s3://bucket/prefix"),
        ("endpoint", "http://127.0.0.1:1"),
        ("allow_http", "true"),
        ("access_key_id", "me"),
        ("secret_access_key", secret),
    ];
    catalogs.define("s3", "lake", &properties);
    let connector = catalogs.connector("s3");
    assert!(!format!("{connector:?} {:?}", connector.stores()).contains(secret));
}

#[tokio::test]
async fn csv_files_of_a_table_have_one_header() {
    let lake = Lake::with(&[]);
    lake.text("s/t/1.csv", "a,b\n1,2\n");
    lake.text("s/t/2.csv", "a,b\n3,4\n");
    lake.text("s/swapped/1.csv", "a,b\n1,2\n");
    lake.text("s/swapped/2.csv", "b,a\n20,10\n");
    assert_eq!(lake.rows("SELECT sum(a), sum(b) FROM lake.s.t").await, ["4|6"]);
    let error = lake.catalogs.error("SELECT * FROM lake.s.swapped").await;
    assert_eq!(error.code, "SCHEMA_CONFLICT");
    assert!(error.message.contains("s/swapped/2.csv"), "{error}");
}

#[tokio::test]
async fn csv_options_hold() {
    let lake = Lake::with(&[("csv.delimiter", ";"), ("csv.header", "false")]);
    lake.text("s/t/a.csv", "1;x,y\n2;z\n");
    let sql = "SELECT column_1, column_2 FROM lake.s.t ORDER BY 1";
    assert_eq!(lake.rows(sql).await, ["1|x,y", "2|z"]);
}
