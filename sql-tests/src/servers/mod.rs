//! Real servers, started for a test in a scratch folder on a free loopback port, ended with it.
//!
//! `install-servers.sh` installs the programs; nothing here touches a server that it did not start.

mod mariadb;
mod postgres;
mod relay;
mod s3;

pub use mariadb::MariaDb;
pub use postgres::{Postgres, Session};
pub use relay::Relay;
pub use s3::S3;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use meshwork_engine::environment;

/// How long a server may take until it is ready.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long a server may take to end by itself.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// The server of a kind that running tests share while any of them runs.
struct Shared<T>(Mutex<Weak<T>>);

impl<T> Shared<T> {
    const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    fn get(&self, start: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return Ok(server);
        }
        let server = Arc::new(start()?);
        *shared = Arc::downgrade(&server);
        Ok(server)
    }
}

/// Waits until `ready` finds what it looks for in the log of a server that was started; a server that does not get
/// there is ended.
fn wait_until_ready<T>(
    name: &str,
    process: &mut Child,
    log: &Path,
    ready: impl Fn(&str) -> Option<T>,
) -> Result<T> {
    let since = environment::instant();
    while since.elapsed() < START_DEADLINE {
        let said = fs::read_to_string(log).unwrap_or_default();
        if let Some(found) = ready(&said) {
            return Ok(found);
        }
        if let Some(status) = process.try_wait()? {
            bail!("{name} ended with {status}: {said}");
        }
        pause();
    }
    stop(process);
    let said = fs::read_to_string(log).unwrap_or_default();
    bail!("{name} was not ready in {START_DEADLINE:?}: {said}")
}

/// Returns a port that nobody listened on a moment ago.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// Returns the program of that name, looked for on the path and where distributions hide servers.
fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let hidden = ["/usr/sbin", "/usr/local/sbin", "/usr/libexec"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(hidden)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("{name} is not installed; run sql-tests/install-servers.sh"))
}

/// Runs a program to its end; its output is in the error if it fails.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} did not start"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        bail!("{command:?} failed: {}{}", text(&output.stdout), text(&output.stderr));
    }
    Ok(text(&output.stdout))
}

/// Whether this process is root, as which servers refuse to run.
fn is_root() -> Result<bool> {
    Ok(run(Command::new("id").arg("-u"))?.trim() == "0")
}

/// Gives a scratch folder to the user that the server will run as.
fn give_to(user: &str, folder: &Path) -> Result<()> {
    run(Command::new("chown").arg("-R").arg(user).arg(folder)).map(drop)
}

/// Ends a server that was started here: politely by its pid, then by force.
fn stop(process: &mut Child) {
    if matches!(process.try_wait(), Ok(Some(_))) {
        // Its pid may be another's by now.
        return;
    }
    let asked = Command::new("kill").arg(process.id().to_string()).status();
    let since = environment::instant();
    while asked.is_ok() && since.elapsed() < STOP_DEADLINE {
        match process.try_wait() {
            Ok(None) => pause(),
            Ok(Some(_)) | Err(_) => return,
        }
    }
    // It may have ended in between.
    drop(process.kill());
    drop(process.wait());
}

/// Waits a moment between two looks at another process, which cannot be waited for in another way.
#[expect(clippy::disallowed_methods, reason = "the other side is a process, not a task")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
