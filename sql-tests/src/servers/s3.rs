//! An S3 server of its own for a test: `sql-tests/s3-server`, built by `install-servers.sh`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{stop, wait_until_ready};

/// The one bucket that is there.
const BUCKET: &str = "mesh";

/// Whom the server knows; the secret has what must be written with care.
const ACCESS_KEY: &str = "tester";
const SECRET_KEY: &str = "s3cret/key+of=tester";

/// A running S3 server with one bucket; it and its objects are gone when this is dropped.
#[derive(Debug)]
pub struct S3 {
    process: Child,
    url: String,
    folder: TempDir,
}

impl S3 {
    /// Starts a server whose bucket is empty.
    pub fn start() -> Result<Self> {
        let folder = TempDir::with_prefix("s3-").context("no scratch folder")?;
        fs::create_dir_all(folder.path().join("rows").join(BUCKET))?;
        let log = File::create(folder.path().join("log"))?;
        let mut process = Command::new(program()?)
            .arg(folder.path().join("rows"))
            .args([ACCESS_KEY, SECRET_KEY])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("the S3 server did not start")?;
        // Whole lines only: the file may be read while it is written.
        let address = |said: &str| {
            let (line, _) = said.split_once('\n')?;
            line.strip_prefix("s3 is ready: ").map(str::to_owned)
        };
        let log = folder.path().join("log");
        let url = wait_until_ready("the S3 server", &mut process, &log, address)?;
        Ok(Self { process, url, folder })
    }

    /// Returns where clients send requests.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the bucket's name.
    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// Returns the secret, which nothing may show.
    pub fn secret(&self) -> &'static str {
        SECRET_KEY
    }

    /// Returns the properties of a catalog whose location is a folder of the bucket.
    pub fn properties(&self, prefix: &str) -> BTreeMap<String, String> {
        let location = format!("s3://{BUCKET}/{prefix}");
        [
            ("location", location.as_str()),
            ("endpoint", self.url.as_str()),
            ("allow_http", "true"),
            ("access_key_id", ACCESS_KEY),
            ("secret_access_key", SECRET_KEY),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    /// Returns the environment of a process whose root is in the bucket.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT", self.url.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    /// Returns the folder whose files are the objects below a prefix.
    pub fn folder(&self, prefix: &str) -> PathBuf {
        self.folder.path().join("rows").join(BUCKET).join(prefix)
    }

    /// Returns the file that is an object of the bucket; its folder is made.
    pub fn object(&self, key: &str) -> Result<PathBuf> {
        let file = self.folder(key);
        fs::create_dir_all(file.parent().context("an object lies in the bucket")?)?;
        Ok(file)
    }

    /// Returns how many uploads in parts were begun and neither completed nor aborted.
    pub fn n_unfinished_uploads(&self) -> Result<usize> {
        let mut n_uploads = 0;
        for entry in fs::read_dir(self.folder.path().join("rows"))? {
            // The server's own file for an upload; parts are `.upload_id-…`.
            let name = entry?.file_name();
            n_uploads += usize::from(name.to_string_lossy().starts_with(".upload-"));
        }
        Ok(n_uploads)
    }

    /// Ends the server; its objects stay, and nobody answers any more.
    pub fn stop(&mut self) {
        stop(&mut self.process);
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns the server's program: `install-servers.sh` builds it below the folder that these programs are built in.
fn program() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let below = |folder: &std::path::Path| folder.join("s3-server/debug/meshwork-s3-server");
    let built = here.ancestors().skip(1).map(below).find(|file| file.is_file());
    built.context("the S3 server is not built; run sql-tests/install-servers.sh")
}
