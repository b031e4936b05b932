//! Cases of what is read: the same values, whoever filters, chooses columns or counts.

use anyhow::{Context, Result, ensure};
use arrow::array::RecordBatch;
use meshwork_sql_tests::source::conditions_on_text;

use crate::doors::{NULL, Rows};
use crate::source::{
    CATALOG, Column, Kind, Table, Type, Value, name_of, quoted, sql_literal, text_literal,
};
use crate::suite::{STANDARD, Trial, standard_rows};

/// Scans of one statement: few statements ask many conditions.
const CONDITIONS_AT_ONCE: usize = 24;

/// Names that a parser, a quoter or a path may take for something else.
const ODD_NAMES: [&str; 15] = [
    "Mixed Case",
    "UPPER",
    "select",
    "qu\"ote",
    "back`tick",
    "it's",
    "ünï",
    "😀",
    "dot.ted",
    "semi;colon --x",
    "per%cent",
    "question?",
    "back\\slash",
    "a/b",
    "a=b",
];

/// Every type arrives as itself, its extremes included.
pub(crate) async fn types(trial: &mut Trial) -> Result<()> {
    let types = trial.source.types();
    let n_rows = types.iter().map(|of| of.values.len()).max().unwrap_or_default() + 1;
    let table = of_types(trial, "types", n_rows);
    trial.source.make(&mut trial.doors, &table).await?;
    let name = name_of(trial.source.schema(), "types");

    let shown = trial.doors.rows(&format!("SHOW COLUMNS FROM {name}")).await?;
    let mut wrong = Vec::new();
    for (index, of) in types.iter().enumerate() {
        let column = column_name(index);
        let found = shown.iter().find(|row| row[0] == column).context("a column is missing")?;
        if found[1] != of.shown {
            wrong.push(format!("{} is {}, not {}", of.declared, found[1], of.shown));
        }
    }
    let rows = trial.doors.rows(&format!("SELECT * FROM {name}")).await?;
    ensure!(rows.len() == n_rows, "{} rows of {n_rows}", rows.len());
    for row in &rows {
        let place: usize = row[0].parse()?;
        for (of, found) in types.iter().zip(&row[1..]) {
            let expected = of.values.get(place).map_or(NULL, |(_, shown)| *shown);
            if found != expected {
                wrong.push(format!("{} row {place} is {found}, not {expected}", of.declared));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// A NULL is a NULL in every type: where it is shown, where it is counted, where it is asked for.
pub(crate) async fn nulls(trial: &mut Trial) -> Result<()> {
    let types = trial.source.types();
    let mut table = of_types(trial, "nulls", 0);
    for row in 0..3 {
        let id = trial.source.literal(&Value::Integer(row));
        let values = types.iter().map(|_| None);
        table.rows.push(std::iter::once(Some(id)).chain(values).collect());
    }
    trial.source.make(&mut trial.doors, &table).await?;
    let name = name_of(trial.source.schema(), "nulls");
    let columns: Vec<String> = (0..types.len()).map(column_name).collect();

    let rows = trial.doors.rows(&format!("SELECT {} FROM {name}", columns.join(", "))).await?;
    ensure!(rows == vec![vec![NULL.to_owned(); types.len()]; 3], "{rows:?}");
    let counts: Vec<String> = columns.iter().map(|column| format!("count({column})")).collect();
    let counts = trial.doors.rows(&format!("SELECT {} FROM {name}", counts.join(", "))).await?;
    ensure!(counts == [vec!["0"; types.len()]], "{counts:?}");
    for columns in columns.chunks(CONDITIONS_AT_ONCE) {
        let asked = |column: &String| {
            format!(
                "SELECT '{column}', 3, count(*) FROM {name} WHERE {column} IS NULL UNION ALL \
                 SELECT '{column}', 0, count(*) FROM {name} WHERE {column} IS NOT NULL"
            )
        };
        let sql = columns.iter().map(asked).collect::<Vec<_>>().join(" UNION ALL ");
        let wrong: Rows = trial.doors.rows(&sql).await?;
        let wrong: Vec<_> = wrong.iter().filter(|row| row[1] != row[2]).collect();
        ensure!(wrong.is_empty(), "column, expected, found: {wrong:?}");
    }
    Ok(())
}

/// A table without rows has columns all the same.
pub(crate) async fn empty(trial: &mut Trial) -> Result<()> {
    let table = of_types(trial, "empty", 0);
    trial.source.make(&mut trial.doors, &table).await?;
    let name = name_of(trial.source.schema(), "empty");
    for door in &mut trial.doors.all {
        let batches = door.batches(&format!("SELECT * FROM {name}")).await?;
        let n_rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        ensure!((n_rows, batches[0].num_columns()) == (0, table.columns.len()));
    }
    let sql = format!("SELECT count(*), count(c0), max(id) FROM {name}");
    ensure!(trial.doors.rows(&sql).await? == [["0", "0", NULL]]);
    for rest in ["WHERE id = 1", "WHERE id IS NULL", "LIMIT 3", "ORDER BY id"] {
        let rows = trial.doors.rows(&format!("SELECT id FROM {name} {rest}")).await?;
        ensure!(rows.is_empty(), "{rest}: {rows:?}");
    }
    let sql = format!(
        "SELECT count(*), count(e.id) FROM {} t LEFT JOIN {name} e ON t.id = e.id",
        trial.standard
    );
    ensure!(trial.doors.rows(&sql).await? == [[standard_rows().len().to_string(), "0".to_owned()]]);
    Ok(())
}

/// Hundreds of columns, all of them and some of them.
pub(crate) async fn wide(trial: &mut Trial) -> Result<()> {
    let n_columns = trial.source.limits().n_columns;
    let declared = trial.source.declared(Kind::Integer);
    let columns =
        (0..n_columns).map(|n| Column { name: column_name(n), declared: declared.to_owned() });
    let row = |row: i64| {
        let value = |n: i64| Some(trial.source.literal(&Value::Integer(row * 1000 + n)));
        (0..).take(n_columns).map(value).collect::<Vec<_>>()
    };
    let table =
        Table { name: "wide".to_owned(), columns: columns.collect(), rows: vec![row(1), row(2)] };
    trial.source.make(&mut trial.doors, &table).await?;
    let name = name_of(trial.source.schema(), "wide");
    let rows = trial.doors.rows(&format!("SELECT * FROM {name}")).await?;
    let expected =
        |row: usize| (0..n_columns).map(|n| (row * 1000 + n).to_string()).collect::<Vec<_>>();
    ensure!(rows == [expected(1), expected(2)], "{rows:?}");
    let (last, sum) = (n_columns - 1, 2 * (n_columns - 1) + 3000);
    let rows = trial.doors.rows(&format!("SELECT c{last}, c0 FROM {name} WHERE c1 = 2001")).await?;
    ensure!(rows == [[(2000 + last).to_string(), "2000".to_owned()]], "{rows:?}");
    let found = trial.doors.value(&format!("SELECT sum(c{last}) FROM {name}")).await?;
    ensure!(found == sum.to_string(), "{found}");
    let found = trial.doors.rows(&format!("DESCRIBE {name}")).await?;
    ensure!(found.len() == n_columns, "{} columns", found.len());
    Ok(())
}

/// Names mean what is between the quotes, for tables and for columns.
pub(crate) async fn names(trial: &mut Trial) -> Result<()> {
    let refused = trial.source.limits().names_refused;
    let schema = trial.source.schema();
    let declared = trial.source.declared(Kind::Integer).to_owned();
    for (place, name) in (0..).zip(ODD_NAMES) {
        let column = Column { name: "n".to_owned(), declared: declared.clone() };
        let value = trial.source.literal(&Value::Integer(place));
        let rows = vec![vec![Some(value)]];
        let table = Table { name: name.to_owned(), columns: vec![column], rows };
        let made = trial.source.make(&mut trial.doors, &table).await;
        if let Some((_, code)) = refused.iter().find(|(refused, _)| *refused == name) {
            let error = format!("{:?}", made.err().context(name)?);
            ensure!(error.contains(code), "{name} was to be refused with {code}: {error}");
            continue;
        }
        made.context(name)?;
        let found = trial.doors.value(&format!("SELECT n FROM {}", name_of(schema, name))).await;
        ensure!(found.context(name)? == place.to_string(), "{name}");
    }
    let allowed = |name: &&str| !refused.iter().any(|(refused, _)| refused == name);
    let allowed: Vec<&str> = ODD_NAMES.into_iter().filter(allowed).collect();
    let listed =
        trial.doors.rows(&format!("SHOW TABLES FROM {CATALOG}.{}", quoted(schema))).await?;
    for name in &allowed {
        ensure!(listed.contains(&vec![(*name).to_owned()]), "{name} is not listed: {listed:?}");
    }
    // A name that nobody quoted stands for the only one that differs in case.
    let found =
        trial.doors.value(&format!("SELECT n FROM {CATALOG}.{}.upper", quoted(schema))).await?;
    ensure!(found == "1", "{found}");

    let columns =
        allowed.iter().map(|name| Column { name: (*name).to_owned(), declared: declared.clone() });
    let row = (0..).take(allowed.len()).map(|n| Some(trial.source.literal(&Value::Integer(n))));
    let table =
        Table { name: "columns".to_owned(), columns: columns.collect(), rows: vec![row.collect()] };
    trial.source.make(&mut trial.doors, &table).await?;
    let table = name_of(schema, "columns");
    for (place, name) in allowed.iter().enumerate() {
        let column = quoted(name);
        let sql = format!(
            "SELECT t.{column} FROM {table} t WHERE {column} = {place} AND {column} IS NOT NULL"
        );
        ensure!(trial.doors.value(&sql).await.context(column)? == place.to_string());
    }
    let all = trial.doors.rows(&format!("SELECT * FROM {table}")).await?;
    ensure!(all.len() == 1 && all[0].len() == allowed.len(), "{all:?}");
    Ok(())
}

/// What is there is listed, in each of the places that list.
pub(crate) async fn listing(trial: &mut Trial) -> Result<()> {
    let catalogs = trial.doors.rows("SHOW CATALOGS").await?;
    ensure!(catalogs.contains(&vec![CATALOG.to_owned()]), "{catalogs:?}");
    let schema = trial.source.schema();
    let schemas = trial.doors.rows(&format!("SHOW SCHEMAS FROM {CATALOG}")).await?;
    ensure!(schemas.contains(&vec![schema.to_owned()]), "{schemas:?}");
    let shown = trial.doors.rows(&format!("SHOW TABLES FROM {CATALOG}.{}", quoted(schema))).await?;
    ensure!(!shown.is_empty());
    let named = format!(
        "FROM {CATALOG}.information_schema.tables WHERE table_schema = {}",
        text_literal(schema)
    );
    let tables = trial.doors.rows(&format!("SELECT table_name {named}")).await?;
    ensure!(tables == shown, "SHOW TABLES: {shown:?}\ninformation_schema: {tables:?}");
    let sql = format!("SELECT state FROM system.runtime.catalogs WHERE catalog = '{CATALOG}'");
    let state = trial.doors.value(&sql).await?;
    ensure!(state == "ok", "{state}");
    let missing = name_of(schema, "no such table");
    let error = trial.doors.error(&format!("SELECT * FROM {missing}")).await?;
    ensure!(
        error.code == "TABLE_NOT_FOUND" && error.message.contains("no such table"),
        "{error:?}"
    );
    let error = trial.doors.error(&format!("SELECT * FROM {CATALOG}.\"no such schema\".t")).await?;
    ensure!(error.code == "SCHEMA_NOT_FOUND" && error.message.contains(CATALOG), "{error:?}");
    Ok(())
}

/// The same rows, whether the source filters or the engine does, and as over the same values without a source.
pub(crate) async fn filters(trial: &mut Trial) -> Result<()> {
    // Generated tables have values of their own.
    if trial.source.kind() != "tpch" {
        let there = trial.doors.rows(&format!("SELECT * FROM {}", trial.standard)).await?;
        let here = trial.doors.rows(&format!("SELECT * FROM {}", local_rows())).await?;
        ensure!(there == here, "there: {there:?}\nhere: {here:?}");
    }
    let conditions = conditions();
    let mut n_pushed = 0;
    for (place, some) in conditions.chunks(CONDITIONS_AT_ONCE).enumerate() {
        let sql = asked(some, &trial.standard);
        let door = trial.doors.first();
        let pushed = door.rows(&sql).await?;
        let plan = door.rows(&format!("EXPLAIN {sql}")).await?;
        door.change("SET SESSION pushdown = false").await?;
        let unpushed = door.rows(&sql).await?;
        door.change("RESET SESSION pushdown").await?;
        same(some, &pushed, &unpushed)?;
        if trial.source.kind() != "tpch" {
            same(some, &pushed, &door.rows(&asked(some, &local_rows())).await?)?;
        }
        // That workers answer the same takes fewer of them to show.
        if place % 4 == 0 {
            ensure!(trial.doors.rows(&sql).await? == pushed);
        }
        let requests = plan.iter().find(|row| row[0] == "pushed").map_or("", |row| &row[1]);
        let marks = trial.source.limits().pushed_marks;
        n_pushed +=
            requests.lines().filter(|line| marks.iter().any(|mark| line.contains(mark))).count();
    }
    let wanted = trial.source.limits().n_pushed_min;
    ensure!(n_pushed >= wanted, "{n_pushed} of {} conditions were pushed", conditions.len());
    Ok(())
}

/// Columns in any order, several times, computed, or none.
pub(crate) async fn projection(trial: &mut Trial) -> Result<()> {
    let t = trial.standard.clone();
    let whole = trial.doors.rows(&format!("SELECT id, name, amount, day FROM {t}")).await?;
    let turned =
        trial.doors.rows(&format!("SELECT day, amount, name, id, day AS again FROM {t}")).await?;
    let mut again: Rows =
        turned.iter().map(|row| [3, 2, 1, 0].map(|column| row[column].clone()).to_vec()).collect();
    again.sort();
    ensure!(again == whole && turned.iter().all(|row| row[0] == row[4]));
    let n_rows = whole.len().to_string();
    for none in ["count(*)", "count(1)", "sum(1)"] {
        let found = trial.doors.value(&format!("SELECT {none} FROM {t}")).await?;
        ensure!(found == n_rows, "{none}: {found} of {n_rows}");
    }
    let ones = trial.doors.rows(&format!("SELECT 1 FROM {t}")).await?;
    ensure!(ones == vec![vec!["1".to_owned()]; whole.len()]);
    let n_named = whole.iter().filter(|row| row[1] != NULL).count().to_string();
    let found =
        trial.doors.value(&format!("SELECT count(*) FROM {t} WHERE name IS NOT NULL")).await?;
    ensure!(found == n_named, "{found} of {n_named}");
    let computed =
        trial.doors.value(&format!("SELECT count(*) FROM {t} WHERE id + 1 - id = 1")).await?;
    ensure!(computed == n_rows, "{computed}");
    for (sql, request) in trial.source.requests() {
        let sql = sql.replace("{t}", &t);
        let plan = trial.doors.first().rows(&format!("EXPLAIN {sql}")).await?;
        let text = plan.iter().map(|row| format!("{}\n", row[1])).collect::<String>();
        ensure!(text.contains(request), "{sql}\nwas to ask {request}\n{text}");
    }
    Ok(())
}

/// So many rows and no more, of those that pass.
pub(crate) async fn limit(trial: &mut Trial) -> Result<()> {
    let t = trial.standard.clone();
    let n_rows: usize = trial.doors.value(&format!("SELECT count(*) FROM {t}")).await?.parse()?;
    for (limit, expected) in [(0, 0), (1, 1), (17, 17), (n_rows, n_rows), (n_rows + 5, n_rows)] {
        // Any rows will do, so that only their number is the same from both doors.
        for door in &mut trial.doors.all {
            let found = door.rows(&format!("SELECT name FROM {t} LIMIT {limit}")).await?;
            ensure!(found.len() == expected, "LIMIT {limit}: {} rows", found.len());
        }
    }
    let passed: usize =
        trial.doors.value(&format!("SELECT count(*) FROM {t} WHERE id > 20")).await?.parse()?;
    for (limit, expected) in [(3, 3), (n_rows, passed)] {
        for filter in ["id > 20", "id > 20 AND (name LIKE '%' OR name IS NULL)"] {
            for door in &mut trial.doors.all {
                let sql = format!("SELECT id FROM {t} WHERE {filter} LIMIT {limit}");
                let found = door.rows(&sql).await?;
                let right = found.len() == expected
                    && found.iter().all(|row| row[0].parse::<i64>().is_ok_and(|id| id > 20));
                ensure!(right, "{sql}: {found:?}");
            }
        }
    }
    let least =
        trial.doors.rows(&format!("SELECT id FROM {t} ORDER BY id LIMIT 2 OFFSET 3")).await?;
    let all = trial.doors.rows(&format!("SELECT id FROM {t}")).await?;
    let mut ids = all.iter().map(|row| row[0].parse()).collect::<Result<Vec<i64>, _>>()?;
    ids.sort_unstable();
    let mut expected: Rows = ids[3..5].iter().map(|id| vec![id.to_string()]).collect();
    expected.sort();
    ensure!(least == expected, "{least:?}");
    let sql = format!("SELECT count(*) FROM (SELECT id FROM {t} LIMIT 7) AS few");
    ensure!(trial.doors.value(&sql).await? == "7");
    Ok(())
}

/// A table with an id and one column of each type; its values, then NULLs.
fn of_types(trial: &Trial, name: &str, n_rows: usize) -> Table {
    let types = trial.source.types();
    let id =
        Column { name: "id".to_owned(), declared: trial.source.declared(Kind::Integer).to_owned() };
    let column = |(index, of): (usize, &Type)| Column {
        name: column_name(index),
        declared: of.declared.to_owned(),
    };
    let row = |row: usize| {
        let id = trial.source.literal(&Value::Integer(i64::try_from(row).unwrap()));
        let value = |of: &Type| of.values.get(row).map(|(literal, _)| (*literal).to_owned());
        std::iter::once(Some(id)).chain(types.iter().map(value)).collect()
    };
    Table {
        name: name.to_owned(),
        columns: std::iter::once(id).chain(types.iter().enumerate().map(column)).collect(),
        rows: (0..n_rows).map(row).collect(),
    }
}

fn column_name(index: usize) -> String {
    format!("c{index}")
}

fn conditions() -> Vec<String> {
    let mut conditions = conditions_on_text("name");
    let columns: [(&str, &[&str]); 5] = [
        ("id", &["-3", "0", "20", "9223372036854775807", "0.5"]),
        ("amount", &["0.01", "-0.01", "0", "1234567890.12", "0.015"]),
        ("ratio", &["0.1", "0.0", "CAST('1e300' AS DOUBLE)", "CAST('-1e-300' AS DOUBLE)"]),
        ("day", &["DATE '2024-02-29'", "DATE '1970-01-01'", "DATE '9999-12-31'"]),
        ("at", &["TIMESTAMP '2024-03-10 05:00:00'", "TIMESTAMP '1969-12-31 23:59:59.999999'"]),
    ];
    for (column, values) in columns {
        for value in values {
            for operator in ["=", "<>", "<", "<=", ">", ">="] {
                conditions.push(format!("{column} {operator} {value}"));
            }
        }
        conditions.push(format!("{column} IN ({})", values.join(", ")));
        conditions.push(format!("{column} NOT IN ({})", values[..2].join(", ")));
        conditions.push(format!("{column} BETWEEN {} AND {}", values[0], values[1]));
        conditions.push(format!("{column} IS NULL"));
        conditions.push(format!("NOT ({column} IS NULL) AND NOT ({column} = {})", values[0]));
    }
    conditions.extend(
        [
            "flag",
            "NOT flag",
            "flag IS NULL",
            "flag = false",
            "flag IS NOT TRUE",
            "id > 5 AND id <= 9 AND name <> 'apple'",
            "id = 3 OR id = 4 OR amount IS NULL",
            "NOT (id > 5 OR name = 'apple')",
            "(id < 5 OR name LIKE 'a%') AND (flag OR day IS NULL)",
            "NOT (id > 5 AND NOT (name = 'apple' OR amount > 0))",
            "id IN (1, 2, 3) AND name NOT IN ('apple', 'Apple')",
            "id = 1 AND id = 2",
            "name = 'apple' OR ratio > 1",
            "lower(name) = 'apple'",
            "true",
            "false",
        ]
        .map(str::to_owned),
    );
    conditions
}

/// One statement that asks all conditions: the place of the condition, and the ids that pass.
fn asked(conditions: &[String], relation: &str) -> String {
    let one = |(place, condition): (usize, &String)| {
        format!("SELECT {place} AS place, id FROM t WHERE {condition}")
    };
    let all = conditions.iter().enumerate().map(one).collect::<Vec<_>>().join("\nUNION ALL ");
    format!("WITH t AS (SELECT * FROM {relation})\n{all}")
}

/// Names each condition for which two answers differ.
fn same(conditions: &[String], one: &Rows, two: &Rows) -> Result<()> {
    let mut wrong = String::new();
    for (place, condition) in conditions.iter().enumerate() {
        let ids = |rows: &Rows| {
            let of = rows.iter().filter(|row| row[0] == place.to_string());
            of.map(|row| row[1].clone()).collect::<Vec<_>>()
        };
        let (one, two) = (ids(one), ids(two));
        if one != two {
            wrong.push_str(&format!("{condition}: {one:?} and {two:?}\n"));
        }
    }
    ensure!(wrong.is_empty(), "{wrong}");
    Ok(())
}

/// The standard table without a source.
fn local_rows() -> String {
    let column = |(place, (name, kind)): (usize, &(&str, Kind))| {
        let data_type = match kind {
            Kind::Integer => "BIGINT",
            Kind::Text => "VARCHAR",
            Kind::Decimal => "DECIMAL(12, 2)",
            Kind::Double => "DOUBLE",
            Kind::Truth => "BOOLEAN",
            Kind::Date => "DATE",
            Kind::Moment => "TIMESTAMP(6)",
        };
        format!("CAST(column{} AS {data_type}) AS {name}", place + 1)
    };
    let columns: Vec<String> = STANDARD.iter().enumerate().map(column).collect();
    let row = |row: &[Value; 7]| {
        let values: Vec<String> =
            row.iter().map(|value| sql_literal(value, text_literal)).collect();
        format!("({})", values.join(", "))
    };
    let rows: Vec<String> = standard_rows().iter().map(row).collect();
    format!("(SELECT {} FROM (VALUES {}))", columns.join(", "), rows.join(", "))
}
