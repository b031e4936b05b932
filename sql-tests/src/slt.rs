//! `.slt` cases through the real Flight SQL door.
//!
//! Values are shown so that nothing is hidden: NULL as `NULL`, the empty text as `(empty)`, numbers in full.
//! An error is shown as its code, its place and its message: `CODE at line:column: message`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use meshwork::client::{Answer, Client};
use meshwork_engine::Error;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};

/// A connection to the coordinator under test.
#[derive(Debug)]
pub struct Door {
    client: Client,
}

/// The server's error, as cases spell it.
#[derive(Debug)]
pub struct Shown(String);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Shown {}

impl From<Error> for Shown {
    fn from(error: Error) -> Self {
        let place = error.location.map(|at| format!(" at {}:{}", at.line, at.column));
        Self(format!("{}{}: {}", error.code, place.unwrap_or_default(), error.message))
    }
}

impl Door {
    /// Opens a session and runs `settings` in it, each a statement.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn open(url: &str, settings: &[String]) -> Result<Self, Error> {
        let mut client = Client::connect(url).await?;
        for statement in settings {
            client.run(statement).await?;
        }
        Ok(Self { client })
    }
}

#[async_trait]
impl AsyncDB for Door {
    type Error = Shown;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Shown> {
        match self.client.run(sql).await? {
            Answer::Changed(n_rows) => Ok(DBOutput::StatementComplete(n_rows)),
            Answer::Rows(batches) => Ok(shown(&batches).map_err(Error::from)?),
        }
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &'static str {
        "meshwork"
    }

    async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Runs one file of cases in sessions of its own.
///
/// # Errors
/// The first case whose result is not the expected one, with its line.
pub async fn run_file(url: &str, path: &Path, settings: &[String]) -> Result<()> {
    let open = || async { Door::open(url, settings).await.map_err(Shown::from) };
    let mut runner = Runner::new(open);
    // A case that names a type letter means it.
    runner.with_column_validator(sqllogictest::strict_column_validator);
    let outcome = runner.run_file_async(path).await;
    runner.shutdown_async().await;
    outcome.map_err(|error| anyhow::anyhow!("{}", error.display(false)))
}

/// Writes what the engine answers now into the file; a human reads the change.
///
/// # Errors
/// When the file cannot be read or written.
pub async fn update_file(url: &str, path: &Path, settings: &[String]) -> Result<()> {
    let open = || async { Door::open(url, settings).await.map_err(Shown::from) };
    let mut runner = Runner::new(open);
    runner
        .update_test_file(
            path,
            " ",
            sqllogictest::default_validator,
            sqllogictest::default_normalizer,
            sqllogictest::strict_column_validator,
        )
        .await
        .map_err(|error| anyhow::anyhow!("{error}"))
}

/// Returns all `.slt` files, sorted.
///
/// # Errors
/// When a folder cannot be read.
pub fn files() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("slt")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "slt") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn shown(batches: &[RecordBatch]) -> Result<DBOutput<DefaultColumnType>, arrow::error::ArrowError> {
    let options = FormatOptions::default().with_null("NULL").with_display_error(true);
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch.columns().iter();
        let formatters: Vec<ArrayFormatter<'_>> = columns
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
            .collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            rows.push(formatters.iter().map(|f| visible(f.value(row).to_string())).collect());
        }
    }
    let schema = batches.first().map(RecordBatch::schema);
    let types = schema.iter().flat_map(|schema| schema.fields()).map(|f| letter(f.data_type()));
    Ok(DBOutput::Rows { types: types.collect(), rows })
}

fn visible(text: String) -> String {
    match text.is_empty() {
        true => "(empty)".to_owned(),
        false => text,
    }
}

fn letter(data_type: &DataType) -> DefaultColumnType {
    if data_type.is_integer() {
        return DefaultColumnType::Integer;
    }
    match data_type {
        DataType::Float16
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => DefaultColumnType::FloatingPoint,
        // Dates, booleans, intervals and nested values are shown as text.
        _ => DefaultColumnType::Text,
    }
}
