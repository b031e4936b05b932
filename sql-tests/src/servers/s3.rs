//! An S3 server over a scratch folder: `sql-tests/s3-server`, built by `install-servers.sh`.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::stop;

/// What clients show the server.
pub const ACCESS_KEY: &str = "meshwork";
/// The secret that goes with it.
pub const SECRET_KEY: &str = "meshwork-secret";

/// A running S3 server; it and its objects end when this is dropped.
#[derive(Debug)]
pub struct S3 {
    process: Child,
    url: String,
    folder: TempDir,
}

impl S3 {
    /// Starts a server with one empty bucket.
    ///
    /// # Errors
    /// When it is not built, or does not start.
    pub fn start(bucket: &str) -> Result<Self> {
        let folder = TempDir::with_prefix("s3-")?;
        std::fs::create_dir(folder.path().join(bucket))?;
        let program = program()?;
        let mut process = Command::new(&program)
            .arg(folder.path())
            .args([ACCESS_KEY, SECRET_KEY])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| program.display().to_string())?;
        let said = process.stdout.take().context("standard output is piped")?;
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        let url = line.trim().strip_prefix("s3 is ready: ").map(str::to_owned);
        match url {
            Some(url) => Ok(Self { process, url, folder }),
            None => {
                stop(&mut process);
                bail!("the S3 server said {line:?}")
            }
        }
    }

    /// The endpoint that clients are given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder whose folders are the buckets.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        stop(&mut self.process);
    }
}

/// Returns the server's program, where `install-servers.sh` puts it.
fn program() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let folder = cache.or(home).context("neither XDG_CACHE_HOME nor HOME is set")?;
    let program = folder.join("meshwork/s3-server/debug/meshwork-s3-server");
    if !program.is_file() {
        bail!("{} is not there; run sql-tests/install-servers.sh", program.display());
    }
    Ok(program)
}
