//! Nodes over a bucket, and what they answer.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use meshwork::client::{Answer, Client};
use meshwork_engine::{Error, environment};

/// How often a state is looked at again.
const POLL: Duration = Duration::from_millis(20);

/// Returns the text of a catalog's file.
pub(crate) fn catalog(kind: &str, properties: &BTreeMap<String, String>) -> String {
    let mut text = format!("connector = {kind:?}\n");
    for (key, value) in properties {
        text += &format!("{key:?} = {value:?}\n");
    }
    text
}

/// Returns the `WITH` of a `CREATE CATALOG`.
pub(crate) fn with(properties: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> =
        properties.iter().map(|(key, value)| format!("'{key}' = '{value}'")).collect();
    format!("WITH ({})", pairs.join(", "))
}

/// Runs a statement; returns its rows as `a|b`, or how many rows it changed.
pub(crate) async fn run(client: &mut Client, sql: &str) -> Result<Vec<String>> {
    let batches = match client.run(sql).await {
        Ok(Answer::Changed(n_rows)) => return Ok(vec![n_rows.to_string()]),
        Ok(Answer::Rows(batches)) => batches,
        Err(error) => bail!("{sql}: {error} ({}) {:?}", error.code, error.causes),
    };
    let options = FormatOptions::default();
    let mut rows = Vec::new();
    for batch in &batches {
        let columns = batch.columns().iter();
        let columns: Vec<_> = columns
            .map(|column| ArrayFormatter::try_new(column, &options))
            .collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns.iter().map(|c| c.value(row).to_string()).collect();
            rows.push(cells.join("|"));
        }
    }
    Ok(rows)
}

/// Returns the error of a statement that must fail within `deadline`.
pub(crate) async fn error_of(client: &mut Client, sql: &str, deadline: Duration) -> Result<Error> {
    match environment::within(deadline, sql, client.run(sql)).await? {
        Ok(answer) => bail!("{sql} answered {answer:?}"),
        Err(error) => Ok(error),
    }
}

/// Waits until `holds`, which others bring about.
pub(crate) async fn eventually(
    deadline: Duration,
    what: &str,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let waiting = async {
        while !holds()? {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    };
    environment::within(deadline, what, waiting).await?
}
