//! A process of Python that has `DuckDB` beside what is measured, where `BENCH_PYTHON` names a Python that has it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::setting;

/// One of the scripts in `sql-tests/clients`: a line is a question, and so is its answer.
pub(crate) struct DuckDb {
    _process: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl DuckDb {
    /// Starts a script, if `BENCH_PYTHON` is set.
    pub(crate) fn start<A: AsRef<OsStr>>(
        script: &str,
        arguments: impl IntoIterator<Item = A>,
        variables: &[(&str, String)],
    ) -> Result<Option<Self>> {
        let python: PathBuf = setting("BENCH_PYTHON", PathBuf::new())?;
        if python.as_os_str().is_empty() {
            return Ok(None);
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
        let mut process = Command::new(python)
            .arg(folder.join(script))
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let questions = process.stdin.take().context("standard input is piped")?;
        let answers = process.stdout.take().context("standard output is piped")?;
        let answers = BufReader::new(answers).lines();
        Ok(Some(Self { _process: process, questions, answers }))
    }

    /// Returns the answer to a question, and the milliseconds that it took.
    pub(crate) async fn ask(&mut self, question: &Value) -> Result<(Value, f64)> {
        self.questions.write_all(format!("{question}\n").as_bytes()).await?;
        let answer = self.answers.next_line().await?.context("DuckDB ended")?;
        let answer: Value = serde_json::from_str(&answer)?;
        let took = answer["ms"].as_f64().context("DuckDB says no time")?;
        Ok((answer, took))
    }
}
