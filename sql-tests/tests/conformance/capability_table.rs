//! What a source was seen to do beyond returning rows.

use anyhow::{Context, Result, ensure};
use meshwork::client::Answer;

use crate::doors::{Rows, shown};
use crate::markdown::{brief, code, table};
use crate::source::{CATALOG, Column, Kind, Table, Value, Writes, name_in, name_of};
use crate::suite::Trial;
use crate::type_table::{Done, WRITABLE, request};

/// Pieces of a query over the standard table `{t}` and a small one `{few}`, and what tells that the source was asked for it.
const PIECES: [(&str, &str, &str); 19] = [
    ("filter", "SELECT name FROM {t} WHERE id > 5", " WHERE "),
    ("filter on text", "SELECT id FROM {t} WHERE name = 'apple'", " WHERE "),
    ("`IN`", "SELECT name FROM {t} WHERE id IN (1, 2, 3, 5, 8)", " WHERE "),
    ("`LIKE`", "SELECT id FROM {t} WHERE name LIKE 'a%b'", " WHERE "),
    ("`LIKE 'a%'`", "SELECT id FROM {t} WHERE name LIKE 'a%'", " WHERE "),
    (
        "`AND`, `OR`, `NOT`",
        "SELECT name FROM {t} WHERE id = 3 OR NOT (id < 5 OR amount IS NULL)",
        " WHERE ",
    ),
    ("function in a filter", "SELECT id FROM {t} WHERE lower(name) = 'apple'", " WHERE "),
    ("`LIMIT`", "SELECT name FROM {t} LIMIT 3", "LIMIT 3"),
    ("first rows of an order", "SELECT name FROM {t} ORDER BY id DESC LIMIT 3", " ORDER BY "),
    ("`count(*)`", "SELECT count(*) FROM {t}", "count(*)"),
    ("`count` of a column", "SELECT count(name) FROM {t}", "count("),
    ("`min`, `max`", "SELECT max(id) FROM {t}", "max("),
    ("`sum` of decimals", "SELECT sum(amount) FROM {t}", "sum("),
    ("`avg` of decimals", "SELECT avg(amount) FROM {t}", "sum("),
    ("`sum` of floats", "SELECT sum(ratio) FROM {t}", "sum("),
    ("aggregate with `FILTER`", "SELECT count(*) FILTER (WHERE id > 5) FROM {t}", "CASE"),
    ("`GROUP BY`", "SELECT id, count(*) FROM {t} GROUP BY id", " GROUP BY "),
    ("join", "SELECT t.id, t.amount FROM {t} t JOIN {few} f ON t.id = f.id", " JOIN "),
    ("semi join", "SELECT id, amount FROM {t} WHERE id IN (SELECT id FROM {few})", "EXISTS"),
];

/// Rows that are added, one by one, while two scans of a query are compared: a store has a file for each.
const ADDED: usize = 60;

/// Returns the table of what a source does.
pub(crate) async fn capabilities(trial: &mut Trial) -> Result<String> {
    let mut rows = Vec::new();
    if trial.source.speaks_sql() {
        pieces(trial, &mut rows).await?;
    }
    requests(trial, &mut rows).await?;
    splits(trial, &mut rows).await?;
    if trial.source.limits().writes != Writes::Never {
        writes(trial, &mut rows).await?;
        snapshot(trial, &mut rows).await?;
    }
    pass_through(trial, &mut rows).await?;
    Ok(table("What the source does", &["", "", "seen"], &rows))
}

fn row(what: &str, answer: &str, seen: String) -> Vec<String> {
    vec![what.to_owned(), answer.to_owned(), seen]
}

/// Who does each piece of a query.
async fn pieces(trial: &mut Trial, rows: &mut Vec<Vec<String>>) -> Result<()> {
    let standard = trial.standard.clone();
    let few = few(trial).await?;
    for (what, sql, mark) in PIECES {
        let sql = sql.replace("{t}", &standard).replace("{few}", &few);
        let door = trial.doors.first();
        let answer = match request(door, &sql, mark).await? {
            Some(Done::There) => "there",
            Some(Done::Twice) => "there, checked again here",
            None => "here",
        };
        let plan = door.rows(&format!("EXPLAIN {sql}")).await?;
        let seen = match answer {
            "here" => reason(&plan),
            _ => clause(&plan, mark),
        };
        rows.push(row(what, answer, seen));
    }
    Ok(())
}

/// A table of few rows, of which as much is known as of the standard table.
async fn few(trial: &mut Trial) -> Result<String> {
    let declared = trial.source.declared(Kind::Integer).to_owned();
    let row = |id| vec![Some(trial.source.literal(&Value::Integer(id)))];
    let few = Table {
        name: "few".to_owned(),
        columns: vec![Column { name: "id".to_owned(), declared }],
        rows: (1..=3).map(row).collect(),
    };
    trial.source.make(&mut trial.doors, &few).await?;
    for table in ["few", "standard"] {
        trial.source.analyze(table).await?;
    }
    Ok(name_of(trial.source.schema(), "few"))
}

/// Returns what a request says of the piece.
fn clause(plan: &Rows, mark: &str) -> String {
    let request = plan.iter().find(|row| row[0] == "pushed").map_or("", |row| row[1].as_str());
    let line = request.lines().find(|line| line.contains(mark)).unwrap_or_default();
    let place = line.find(mark).unwrap_or_default();
    brief(line.get(place..).unwrap_or_default().trim())
}

/// Returns why nothing was asked of the source.
fn reason(plan: &Rows) -> String {
    let said = plan.iter().find(|row| row[0] == "not_pushed").map_or("", |row| row[1].as_str());
    let first = said.lines().next().unwrap_or_default();
    let is_code = |part: &&str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    };
    first.split(": ").find(is_code).map_or_else(String::new, code)
}

/// The requests that the source's own file lists, each seen in `EXPLAIN`.
async fn requests(trial: &mut Trial, rows: &mut Vec<Vec<String>>) -> Result<()> {
    if trial.source.speaks_sql() {
        return Ok(());
    }
    for (sql, request) in trial.source.requests() {
        let plan = trial
            .doors
            .first()
            .rows(&format!("EXPLAIN {}", sql.replace("{t}", &trial.standard)))
            .await?;
        ensure!(plan.iter().any(|row| row[1].contains(request)), "{sql}\n{plan:?}");
        rows.push(row(&code(&sql.replace("{t}", "t")), "asks for", code(request.trim())));
    }
    Ok(())
}

/// Whether a large table is read by several connections.
async fn splits(trial: &mut Trial, rows: &mut Vec<Vec<String>>) -> Result<()> {
    if !trial.source.large().await? {
        return Ok(());
    }
    let large = name_of(trial.source.schema(), "large");
    let plan = trial.doors.first().rows(&format!("EXPLAIN SELECT * FROM {large}")).await?;
    let pushed = plan.iter().find(|row| row[0] == "pushed").context("no request")?;
    let n_splits = pushed[1].split_once("[splits=").and_then(|(_, rest)| rest.split_once(','));
    let n_splits: usize = n_splits.context("no splits")?.0.parse()?;
    // How many depends on the machine.
    let answer = if n_splits > 1 { "several" } else { "one" };
    rows.push(row("splits of a large table", answer, String::new()));
    Ok(())
}

/// Statements that change the source; those of a catalog that was not made writable are refused.
async fn writes(trial: &mut Trial, rows: &mut Vec<Vec<String>>) -> Result<()> {
    let schema = trial.source.schema();
    if trial.source.writable().is_none() {
        let made = format!("CREATE TABLE {} (id BIGINT)", name_of(schema, "changed"));
        let error = trial.doors.first().error(&made).await?;
        rows.push(row("tables made and changed", "no", code(&error.code)));
        return Ok(());
    }
    let made = name_in(WRITABLE, schema, "changed");
    let scratch = format!("{WRITABLE}.\"made by the suite\"");
    for (what, sql) in [
        ("`CREATE SCHEMA`", format!("CREATE SCHEMA {scratch}")),
        ("`CREATE TABLE`", format!("CREATE TABLE {made} (id BIGINT NOT NULL, n BIGINT)")),
        ("`INSERT`", format!("INSERT INTO {made} VALUES (1, 1), (2, 2), (3, 3)")),
        ("`UPDATE` with an exact condition", format!("UPDATE {made} SET n = 7 WHERE id = 1")),
        ("`DELETE` with an exact condition", format!("DELETE FROM {made} WHERE id = 2")),
        ("`DELETE` with a function", format!("DELETE FROM {made} WHERE abs(id) = 3")),
        ("`DROP TABLE`", format!("DROP TABLE {made}")),
    ] {
        let answer = match trial.doors.first().run(&sql).await? {
            Ok(_) => ("yes", String::new()),
            Err(error) => ("no", code(&error.code)),
        };
        rows.push(row(what, answer.0, answer.1));
    }
    Ok(())
}

/// Whether scans of one query see one state, while another cluster adds rows.
async fn snapshot(trial: &mut Trial, rows: &mut Vec<Vec<String>>) -> Result<()> {
    if trial.source.writable().is_none() {
        return Ok(());
    }
    let schema = trial.source.schema();
    let added = name_in(WRITABLE, schema, "added");
    let [reader, writer] = &mut trial.doors.all;
    reader.change(&format!("CREATE TABLE {added} (id BIGINT, filler VARCHAR)")).await?;
    // The inner scan ends before the outer one begins: of one state, nothing comes after its last row.
    let read = name_of(schema, "added");
    let after = format!("SELECT count(id) FROM {read} WHERE id > (SELECT max(id) FROM {read})");
    let reading = async {
        while reader.rows(&after).await? == [["0"]] {}
        anyhow::Ok(())
    };
    let writing = async {
        for id in 1..=ADDED {
            writer.change(&format!("INSERT INTO {added} VALUES ({id}, 'a')")).await?;
        }
        anyhow::Ok(())
    };
    let answer = tokio::select! {
        differs = reading => differs.map(|()| "no, each its own")?,
        all_added = writing => all_added.map(|()| "yes")?,
    };
    // What EXPLAIN says beforehand.
    let plan = trial.doors.first().rows(&format!("EXPLAIN {after}")).await?;
    let said = ["snapshot=shared", "snapshot=own"]
        .into_iter()
        .find(|said| plan.iter().any(|row| row[0] == "pushed" && row[1].contains(said)));
    rows.push(row("scans of one query see one state", answer, said.map_or_else(String::new, code)));
    Ok(())
}

/// Whether a query in the source's own words is a table.
async fn pass_through(trial: &mut Trial, rows: &mut Vec<Vec<String>>) -> Result<()> {
    let sql =
        format!("SELECT * FROM TABLE({CATALOG}.system.query(query => 'SELECT 1 AS one')) AS q");
    let answer = match trial.doors.first().run(&sql).await? {
        Ok(Answer::Rows(batches)) => {
            ensure!(shown(&batches)? == [["1"]], "{sql}");
            ("yes", String::new())
        }
        Ok(Answer::Changed(_)) => anyhow::bail!("{sql}\nanswered without rows"),
        Err(error) => ("no", code(&error.code)),
    };
    rows.push(row("queries in its own words", answer.0, answer.1));
    Ok(())
}
