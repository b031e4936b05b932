//! The shell, `meshwork sql`: statements from the keyboard, a file or an argument, results as text
//! or files.
//!
//! It speaks Flight SQL to the server like any other client and knows nothing that they do not; it
//! never links to a running coordinator. Rows are written as they come: only the table format holds
//! some, to measure columns.
//!
//! [`statement`] runs one statement, [`output`] writes its rows,
//! [`interactive`] is the prompt.

mod complete;
mod interactive;
mod names;
mod output;
mod progress;
mod report;
mod statement;

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use meshwork_coordinator::frontend::sql_text;

use self::output::Target;
use self::statement::{Outcome, Runner};
use crate::client::Client;

/// What `meshwork sql` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct SqlArgs {
    /// The server's address: http:// or https:// (grpc:// and grpc+tls:// mean the same).
    #[arg(long, env = "MESHWORK_SERVER", default_value = "http://127.0.0.1:8815")]
    pub server: String,
    /// The user to log in as.
    #[arg(long, env = "MESHWORK_USER")]
    pub user: Option<String>,
    /// The environment variable that holds the password.
    #[arg(long, value_name = "VAR", default_value = "MESHWORK_PASSWORD")]
    pub password_env: String,
    /// A PEM file with the certificate authority that signed the server's certificate.
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// The catalog of names without one.
    #[arg(long)]
    pub catalog: Option<String>,
    /// The schema of names without one.
    #[arg(long)]
    pub schema: Option<String>,
    /// Run these statements, separated by semicolons, and leave.
    #[arg(short = 'c', long = "command", value_name = "SQL", conflicts_with = "file")]
    pub command: Option<String>,
    /// Run the statements of this file and leave.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How rows are written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Write rows to this file instead of the standard output.
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns for people.
    Table,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object for each row and line.
    Json,
    /// An Apache Parquet file.
    Parquet,
    /// One line for each value.
    Vertical,
}

/// Runs the shell; the exit code is 0 when all statements succeeded, 1 when one failed.
///
/// # Errors
/// When the server cannot be reached, or a file cannot be read or written.
pub async fn run(args: SqlArgs) -> anyhow::Result<ExitCode> {
    let target = Target::new(args.format, args.output.as_deref())?;
    let script = script(&args)?;
    let client = match connect(&args).await {
        Ok(client) => client,
        Err(error) => {
            report::failure(&error, None);
            return Ok(ExitCode::FAILURE);
        }
    };
    match script {
        Some(script) => run_script(client, target, &script).await,
        None => interactive::run(client, target).await,
    }
}

/// Returns the statements to run, or nothing when somebody sits at the keyboard.
fn script(args: &SqlArgs) -> anyhow::Result<Option<String>> {
    if let Some(command) = &args.command {
        return Ok(Some(command.clone()));
    }
    if let Some(path) = &args.file {
        let text = std::fs::read_to_string(path);
        return text.map(Some).with_context(|| format!("cannot read {}", path.display()));
    }
    if std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read the standard input")?;
    Ok(Some(text))
}

async fn connect(args: &SqlArgs) -> meshwork_engine::Result<Client> {
    let password = std::env::var(&args.password_env).unwrap_or_default();
    let mut client = Client::connect_trusting(&args.server, args.tls_ca.as_deref()).await?;
    client.log_in(args.user.as_deref().unwrap_or_default(), &password).await?;
    client
        .set_options(&[("catalog", args.catalog.as_deref()), ("schema", args.schema.as_deref())])
        .await?;
    Ok(client)
}

/// Runs the statements one after the other and stops at the first that fails.
async fn run_script(client: Client, target: Target, script: &str) -> anyhow::Result<ExitCode> {
    let mut runner = Runner::new(client, target);
    for statement in sql_text::statements(script) {
        match runner.run(statement.text).await? {
            Outcome::Done => {}
            Outcome::Failed => return Ok(ExitCode::FAILURE),
            Outcome::Cancelled => return Ok(ExitCode::from(130)),
            Outcome::ReaderLeft => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}
