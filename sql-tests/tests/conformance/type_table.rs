//! Every type of a source as it was seen: read, written back, asked of the source, made of a type of ours.

use anyhow::{Context, Result, bail, ensure};
use arrow::array::RecordBatch;
use arrow::datatypes::DECIMAL128_MAX_PRECISION;
use meshwork::client::Answer;
use meshwork_engine::Error;

use crate::doors::{Door, NULL, Rows, shown};
use crate::markdown::{brief, code, table};
use crate::source::{
    CATALOG, Column, Held, Kind, Table, Type, Value, name_in, name_of, text_literal,
};
use crate::suite::Trial;

/// The catalog of the same source that may be written.
pub(crate) const WRITABLE: &str = "writable";

/// The catalog of the same source under another policy.
const POLICY: &str = "policy";

/// Said where all other types of the source were tried; how many there are depends on its version.
const OTHERS_ARE_THERE: &str = "A table with one column of each other type that the source knows has all of them here, and is read.\n\n";

/// Values of our types, as SQL writes them.
const OURS: [(&str, &str); 25] = [
    ("BOOLEAN", "true"),
    ("TINYINT", "CAST(-128 AS TINYINT)"),
    ("SMALLINT", "CAST(-32768 AS SMALLINT)"),
    ("INT", "CAST(-2147483648 AS INT)"),
    ("BIGINT", "CAST('-9223372036854775808' AS BIGINT)"),
    ("TINYINT UNSIGNED", "CAST(255 AS TINYINT UNSIGNED)"),
    ("SMALLINT UNSIGNED", "CAST(65535 AS SMALLINT UNSIGNED)"),
    ("INT UNSIGNED", "CAST(4294967295 AS INT UNSIGNED)"),
    ("BIGINT UNSIGNED", "CAST('18446744073709551615' AS BIGINT UNSIGNED)"),
    ("REAL", "CAST('-3.4e38' AS REAL)"),
    ("DOUBLE", "CAST('-1.7976931348623157e308' AS DOUBLE)"),
    ("DOUBLE, not a number", "CAST('NaN' AS DOUBLE)"),
    ("DECIMAL(15, 2)", "CAST('-9999999999999.99' AS DECIMAL(15, 2))"),
    ("DECIMAL(38, 10)", "CAST('9999999999999999999999999999.9999999999' AS DECIMAL(38, 10))"),
    ("VARCHAR", "'Grüße 🦀'"),
    ("BYTEA", "X'00ff27'"),
    ("DATE", "DATE '2024-02-29'"),
    ("TIME", "TIME '23:59:59.999999'"),
    ("TIMESTAMP(0)", "CAST('2024-02-29 12:00:00' AS TIMESTAMP(0))"),
    ("TIMESTAMP(6)", "CAST('1969-12-31 23:59:59.999999' AS TIMESTAMP(6))"),
    (
        "TIMESTAMP(6) WITH TIME ZONE",
        "arrow_cast('2024-03-10T05:00:00Z', 'Timestamp(Microsecond, Some(\"UTC\"))')",
    ),
    ("INTERVAL", "INTERVAL '14 months -3 days 4 hours'"),
    ("a list of INT", "make_array(CAST(1 AS INT), NULL, CAST(3 AS INT))"),
    ("a struct", "named_struct('a', 1, 'b', 'x')"),
    ("no type at all", "NULL"),
];

/// Returns the tables of types; all that is not as expected is one error.
pub(crate) async fn types(trial: &mut Trial) -> Result<String> {
    if let Some(properties) = trial.source.writable() {
        trial.doors.define(WRITABLE, trial.source.kind(), &properties).await?;
    }
    let mut wrong = Vec::new();
    let mut text = theirs(trial, &mut wrong).await?;
    text.push_str(&specials(trial, &mut wrong).await?);
    text.push_str(&ours(trial, &mut wrong).await?);
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(text)
}

/// Each type of the source: what it is here, examples, what an `INSERT` of what was read leaves there, what is asked of it.
async fn theirs(trial: &mut Trial, wrong: &mut Vec<String>) -> Result<String> {
    let (is_written, is_asked) = (trial.source.writable().is_some(), trial.source.speaks_sql());
    let mut head = vec!["there", "here", "for example"];
    head.extend(is_written.then_some("`INSERT` of what was read"));
    head.extend(is_asked.then_some("done there"));
    let mut rows = Vec::new();
    for (index, of) in trial.source.types().iter().enumerate() {
        let name = format!("kind{index}");
        let there = of_type(trial, &name, of.declared, &of.values);
        trial.source.make(&mut trial.doors, &there).await.with_context(|| of.declared)?;
        let found = values(trial.doors.first(), CATALOG, trial.source.schema(), &name).await?;
        let found = found.map_err(|error| anyhow::anyhow!("{}: {error:?}", of.declared))?;
        let expected: Vec<&str> = of.values.iter().map(|(_, shown)| *shown).chain([NULL]).collect();
        if found != expected {
            wrong.push(format!("{}: read {found:?}, not {expected:?}", of.declared));
        }
        let declared =
            if of.declared.is_empty() { "nothing".to_owned() } else { code(of.declared) };
        let mut row = vec![declared, of.shown.to_owned(), examples(of)];
        if is_written {
            row.push(written_back(trial, index, of, wrong).await?);
        }
        if is_asked {
            row.push(asked(trial, &name, of).await?);
        }
        rows.push(row);
    }
    let mut text = table("Types of the source", &head, &rows);
    if others(trial, wrong).await? {
        text.push_str(OTHERS_ARE_THERE);
    }
    Ok(text)
}

/// Returns one or two values with what is read of them.
fn examples(of: &Type) -> String {
    let example = |(literal, shown): &(&str, &str)| match literal.trim_matches('\'') == *shown {
        true => brief(literal),
        false => format!("{} is {}", brief(literal), brief(shown)),
    };
    of.values.iter().take(3).map(example).collect::<Vec<_>>().join(", ")
}

/// Inserts into a table of the same type what is read of the source, and asks the source whether it is the same.
async fn written_back(
    trial: &mut Trial,
    index: usize,
    of: &Type,
    wrong: &mut Vec<String>,
) -> Result<String> {
    let (name, back) = (format!("kind{index}"), format!("back{index}"));
    let empty = of_type(trial, &back, of.declared, &[]);
    let empty = Table { rows: Vec::new(), ..empty };
    trial.source.make(&mut trial.doors, &empty).await?;
    let schema = trial.source.schema();
    let door = trial.doors.first();
    let insert = format!(
        "INSERT INTO {} SELECT id, c FROM {}",
        name_in(WRITABLE, schema, &back),
        name_of(schema, &name)
    );
    match door.run(&insert).await? {
        Ok(Answer::Changed(n_rows)) => {
            ensure!(usize::try_from(n_rows)? == of.values.len() + 1, "{}: {n_rows}", of.declared);
        }
        Ok(Answer::Rows(_)) => bail!("{insert}\nanswered with rows"),
        Err(error) => return Ok(format!("refused: `{}`", error.code)),
    }
    let before = trial.source.held(&name, "c").await?;
    if before.is_some() && before == trial.source.held(&back, "c").await? {
        return Ok("the same".to_owned());
    }
    let schema = trial.source.schema();
    let one = values(trial.doors.first(), CATALOG, schema, &name).await?;
    let other = values(trial.doors.first(), CATALOG, schema, &back).await?;
    if one.as_ref().ok() != other.as_ref().ok() {
        wrong.push(format!("{}: {one:?} became {other:?}", of.declared));
    }
    // Where nobody but Meshwork can be asked, its reading has to do.
    Ok(if before.is_some() { "the same value, spelled anew" } else { "the same" }.to_owned())
}

/// Returns which work on a column of the type the source does, and which of it is checked again here.
async fn asked(trial: &mut Trial, name: &str, of: &Type) -> Result<String> {
    let t = name_of(trial.source.schema(), name);
    let mut work: Vec<(&str, String, &str)> = Vec::new();
    if let Some(value) = comparable(of) {
        for operator in ["=", "<>", "<"] {
            let sql = format!("SELECT id FROM {t} WHERE c {operator} {value}");
            work.push((operator, sql, " WHERE "));
        }
    }
    if of.shown == "varchar" {
        work.push(("LIKE", format!("SELECT id FROM {t} WHERE c LIKE 'a%'"), " WHERE "));
    }
    work.push(("IS NULL", format!("SELECT id FROM {t} WHERE c IS NULL"), " WHERE "));
    work.push(("ORDER BY", format!("SELECT id FROM {t} ORDER BY c LIMIT 1"), " ORDER BY "));
    work.push(("GROUP BY", format!("SELECT c, count(*) FROM {t} GROUP BY c"), " GROUP BY "));
    work.push(("max", format!("SELECT max(c) FROM {t}"), "max("));
    work.push(("sum", format!("SELECT sum(c) FROM {t}"), "sum("));
    let (mut exact, mut checked) = (Vec::new(), Vec::new());
    for (what, sql, mark) in work {
        match request(trial.doors.first(), &sql, mark).await? {
            Some(Done::There) => exact.push(code(what)),
            Some(Done::Twice) => checked.push(code(what)),
            None => {}
        }
    }
    let again = |checked: Vec<String>| format!("checked again: {}", checked.join(" "));
    Ok(match (exact.is_empty(), checked.is_empty()) {
        (_, true) => exact.join(" "),
        (true, false) => again(checked),
        (false, false) => format!("{}; {}", exact.join(" "), again(checked)),
    })
}

/// Who does a piece of work that went to the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// The source alone.
    There,
    /// The source, and the engine filters again.
    Twice,
}

/// Returns what became of a piece of work that leaves `mark` in a request; `None` if it stays here or cannot be asked.
pub(crate) async fn request(door: &mut Door, sql: &str, mark: &str) -> Result<Option<Done>> {
    // What a type has not, a sum of texts for instance, is no query.
    let Ok(Answer::Rows(batches)) = door.run(&format!("EXPLAIN {sql}")).await? else {
        return Ok(None);
    };
    let plan = shown(&batches)?;
    let of = |kind: &str| plan.iter().find(|row| row[0] == kind).map_or("", |row| row[1].as_str());
    Ok(match (of("pushed").contains(mark), of("distributed_plan").contains("FilterExec")) {
        (false, _) => None,
        (true, false) => Some(Done::There),
        (true, true) => Some(Done::Twice),
    })
}

/// Returns a constant of the type to compare with, if SQL has one.
fn comparable(of: &Type) -> Option<String> {
    let odd = ["", "0", "0.0", "inf", "NaN"];
    let plain = |value: &&str| !value.starts_with('-') && !odd.contains(value);
    let mut values = of.values.iter().map(|(_, shown)| *shown);
    let value = values.clone().find(plain).or_else(|| values.next())?;
    let text = text_literal(value);
    let cast = |data_type: &str| format!("arrow_cast({text}, '{data_type}')");
    match of.shown {
        "boolean" => Some(value.to_owned()),
        "real" => Some(cast("Float32")),
        "double" => Some(cast("Float64")),
        "varchar" => Some(text),
        "varbinary" => Some(format!("X{text}")),
        "date" => Some(cast("Date32")),
        "timestamp(6)" => Some(cast("Timestamp(Microsecond, None)")),
        "timestamp(6) with time zone" => Some(cast("Timestamp(Microsecond, Some(\"UTC\"))")),
        "time(6)" => Some(cast("Time64(Microsecond)")),
        shown if shown.contains("int") && !shown.contains("interval") && !shown.contains('(') => {
            Some(value.to_owned())
        }
        shown => {
            let digits = shown.strip_prefix("decimal(")?.strip_suffix(')')?;
            let precision: u8 = digits.split_once(',')?.0.parse().ok()?;
            let width = if precision > DECIMAL128_MAX_PRECISION { 256 } else { 128 };
            Some(cast(&format!("Decimal{width}({digits})")))
        }
    }
}

/// A column of each type that nothing else is known of: none vanishes, and each is read. Returns whether there are any.
async fn others(trial: &mut Trial, wrong: &mut Vec<String>) -> Result<bool> {
    let others = trial.source.other_types().await?;
    if others.is_empty() {
        return Ok(false);
    }
    let column = |(index, declared): (usize, &String)| Column {
        name: format!("c{index}"),
        declared: declared.clone(),
    };
    let columns: Vec<Column> = others.iter().enumerate().map(column).collect();
    let there = Table { name: "others".to_owned(), rows: vec![vec![None; columns.len()]], columns };
    trial.source.make(&mut trial.doors, &there).await?;
    let name = name_of(trial.source.schema(), "others");
    let here = trial.doors.rows(&format!("SHOW COLUMNS FROM {name}")).await?;
    for (index, declared) in others.iter().enumerate() {
        if !here.iter().any(|row| row[0] == format!("c{index}")) {
            wrong.push(format!("a column of type {declared} is not there"));
        }
    }
    let rows = trial.doors.rows(&format!("SELECT * FROM {name}")).await?;
    ensure!(rows == [vec![NULL; others.len()]], "{rows:?}");
    Ok(true)
}

/// Values that the type here has not, under each policy.
async fn specials(trial: &mut Trial, wrong: &mut Vec<String>) -> Result<String> {
    let specials = trial.source.specials();
    let policies = trial.source.policies();
    let mut becomes = vec![Vec::new(); specials.len()];
    for (index, special) in specials.iter().enumerate() {
        let name = format!("special{index}");
        let there = of_type(trial, &name, special.declared, &[(special.value, "")]);
        trial.source.make(&mut trial.doors, &there).await.with_context(|| special.value)?;
    }
    let schema = trial.source.schema();
    for place in 0..=policies.len() {
        let catalog = match place.checked_sub(1).and_then(|policy| policies.get(policy)) {
            None => CATALOG,
            Some((_, properties)) => {
                trial.doors.define(POLICY, trial.source.kind(), properties).await?;
                POLICY
            }
        };
        for (index, special) in specials.iter().enumerate() {
            let found =
                values(trial.doors.first(), catalog, schema, &format!("special{index}")).await?;
            let found = match found {
                Ok(found) => found.into_iter().next().unwrap_or_default(),
                Err(error) => {
                    ensure!(error.message.contains("\"c\""), "the column is not named: {error:?}");
                    error.code
                }
            };
            let expected = special.becomes.get(place).copied().unwrap_or_default();
            if found != expected {
                let (declared, value) = (special.declared, special.value);
                let policy = place.checked_sub(1).map_or("default", |policy| policies[policy].0);
                wrong.push(format!("{declared} {value}, {policy}: {found}, not {expected}"));
            }
            becomes[index].push(found);
        }
    }
    let mut head = vec!["type there", "value", "by default"];
    let labels: Vec<String> = policies.iter().map(|(label, _)| code(label)).collect();
    head.extend(labels.iter().map(String::as_str));
    let shown = |found: &String| if found == NULL { "NULL".to_owned() } else { brief(found) };
    let row = |(special, becomes): (&crate::source::Special, &Vec<String>)| {
        let cells = [code(special.declared), brief(special.value)];
        cells.into_iter().chain(becomes.iter().map(shown)).collect::<Vec<_>>()
    };
    let rows: Vec<Vec<String>> = specials.iter().zip(&becomes).map(row).collect();
    Ok(table("Values without a counterpart", &head, &rows))
}

/// Each type of ours in a table that `CREATE TABLE AS` makes.
async fn ours(trial: &mut Trial, wrong: &mut Vec<String>) -> Result<String> {
    if trial.source.writable().is_none() {
        return Ok(String::new());
    }
    let schema = trial.source.schema();
    let mut rows = Vec::new();
    for (index, (label, value)) in OURS.iter().enumerate() {
        let name = format!("ours{index}");
        let query = format!("SELECT CAST(0 AS BIGINT) AS id, {value} AS c");
        let made = format!("CREATE TABLE {} AS {query}", name_in(WRITABLE, schema, &name));
        let mut row = vec![code(label), brief(value)];
        match trial.doors.first().run(&made).await? {
            Err(error) => row.extend([format!("refused: `{}`", error.code), String::new()]),
            Ok(Answer::Rows(_)) => bail!("{made}\nanswered with rows"),
            Ok(Answer::Changed(_)) => {
                let door = trial.doors.first();
                let columns =
                    door.rows(&format!("SHOW COLUMNS FROM {}", name_of(schema, &name))).await?;
                let here = columns.iter().find(|row| row[0] == "c").context("a column vanished")?;
                let found = values(door, CATALOG, schema, &name).await?;
                let expected = sorted_values(door.rows(&query).await?);
                let is_same = found.as_ref().ok() == Some(&expected);
                let type_of = |batches: &[RecordBatch]| batches[0].column(1).data_type().clone();
                let there = name_of(schema, &name);
                let there = door.batches(&format!("SELECT id, c FROM {there}")).await?;
                let same_type = type_of(&there) == type_of(&door.batches(&query).await?);
                if !is_same && (same_type || found.is_err()) {
                    wrong.push(format!("{label}: {expected:?} was written, {found:?} is read"));
                }
                let found = found.unwrap_or_default();
                let read = match is_same {
                    true => here[1].clone(),
                    false => format!(
                        "{}, {}",
                        here[1],
                        found.iter().map(|v| brief(v)).collect::<String>()
                    ),
                };
                let held = trial.source.held(&name, "c").await?;
                let there =
                    held.map_or_else(|| code(&here[1]), |Held { declared, .. }| code(&declared));
                row.extend([there, read]);
            }
        }
        rows.push(row);
    }
    Ok(table(
        "Types of a `CREATE TABLE AS`",
        &["type here", "value", "becomes there", "is read as"],
        &rows,
    ))
}

/// Reads a column in the order of its ids.
async fn values(
    door: &mut Door,
    catalog: &str,
    schema: &str,
    name: &str,
) -> Result<Result<Vec<String>, Error>> {
    let sql = format!("SELECT id, c FROM {}", name_in(catalog, schema, name));
    Ok(match door.run(&sql).await? {
        Ok(Answer::Rows(batches)) => Ok(sorted_values(shown(&batches)?)),
        Ok(Answer::Changed(_)) => bail!("{sql}\nanswered without rows"),
        Err(error) => Err(error),
    })
}

fn sorted_values(rows: Rows) -> Vec<String> {
    rows.into_iter().filter_map(|row| row.into_iter().nth(1)).collect()
}

/// A table of an id and one column `c`: its values, then a NULL.
fn of_type(trial: &Trial, name: &str, declared: &str, values: &[(&str, &str)]) -> Table {
    let id = trial.source.declared(Kind::Integer).to_owned();
    let literals = values.iter().map(|(literal, _)| Some((*literal).to_owned())).chain([None]);
    let row = |(place, value): (i64, Option<String>)| {
        vec![Some(trial.source.literal(&Value::Integer(place))), value]
    };
    Table {
        name: name.to_owned(),
        columns: vec![
            Column { name: "id".to_owned(), declared: id },
            Column { name: "c".to_owned(), declared: declared.to_owned() },
        ],
        rows: (0..).zip(literals).map(row).collect(),
    }
}
