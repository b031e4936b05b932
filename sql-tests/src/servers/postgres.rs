//! A PostgreSQL server of its own for a test.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;

use anyhow::{Context, Result};
use meshwork_engine::environment;
use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls};

use super::{Shared, free_port, give_to, is_root, program, run, stop, wait_until_ready};

/// Where Debian keeps each version's programs, newest last by name.
const DEBIAN_VERSIONS: &str = "/usr/lib/postgresql";

/// Whom the package made for the server.
const SYSTEM_USER: &str = "postgres";

/// Who the tests are; the password has what must be written with care.
const USER: &str = "tester";
const PASSWORD: &str = "it's \"s3cret\" `42`";
const DATABASE: &str = "postgres";

/// Settings of the server: quick, and wherever the connector must pin something, something else.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_connections=100",
    "ssl=on",
    "timezone=America/New_York",
    "datestyle=SQL, DMY",
    "intervalstyle=iso_8601",
    "extra_float_digits=-5",
    "standard_conforming_strings=off",
    "bytea_output=escape",
    "escape_string_warning=off",
    "backslash_quote=on",
];

/// The server that running tests share.
static SHARED: Shared<Postgres> = Shared::new();

/// A running PostgreSQL, ended and removed when dropped.
#[derive(Debug)]
pub struct Postgres {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl Postgres {
    /// Returns the server that all tests of this process share while any of them runs.
    pub fn shared() -> Result<Arc<Self>> {
        SHARED.get(Self::start)
    }

    /// Starts a server of its own.
    pub fn start() -> Result<Self> {
        let folder = TempDir::with_prefix("postgres-").context("no scratch folder")?;
        let rows = folder.path().join("rows");
        let password = folder.path().join("password");
        fs::write(&password, PASSWORD)?;
        make_certificate(folder.path())?;
        if is_root()? {
            give_to(SYSTEM_USER, folder.path())?;
        }
        let mut initdb = as_server(&programs()?.join("initdb"))?;
        initdb.arg(format!("--pgdata={}", rows.display()));
        initdb.arg(format!("--username={USER}"));
        initdb.arg(format!("--pwfile={}", password.display()));
        initdb.args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
        run(&mut initdb)?;
        let port = free_port()?;
        let mut process = serve(folder.path(), &rows, port)?;
        wait_until_ready("postgres", &mut process, &folder.path().join("log"), is_ready)?;
        Ok(Self { process, port, folder })
    }

    /// Ends the server at once, as `pg_ctl stop -m immediate` does: its sessions break off.
    pub fn break_down(&mut self) -> Result<()> {
        run(Command::new("kill").arg("-QUIT").arg(self.process.id().to_string()))?;
        stop(&mut self.process);
        Ok(())
    }

    /// Starts the server again on its port, with what was committed.
    pub fn come_back(&mut self) -> Result<()> {
        let rows = self.folder.path().join("rows");
        self.process = serve(self.folder.path(), &rows, self.port)?;
        wait_until_ready("postgres", &mut self.process, &self.folder.path().join("log"), is_ready)
    }

    /// Returns the port on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns what the server has written so far; `ALTER SYSTEM SET log_statement` says what that is.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.path().join("log"))?)
    }

    /// Returns the file of the authority that signed the server's certificate for `localhost`.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("server.crt")
    }

    /// Returns the properties of a catalog of this server.
    pub fn properties(&self) -> BTreeMap<String, String> {
        let port = self.port.to_string();
        [
            ("host", "127.0.0.1"),
            ("port", port.as_str()),
            ("database", DATABASE),
            ("user", USER),
            ("password", PASSWORD),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    /// Runs statements as an application would: with the server's own defaults. One text is one transaction.
    pub async fn execute(&self, statements: &[&str]) -> Result<()> {
        let connection = self.connect().await?;
        for statement in statements {
            connection
                .client
                .batch_execute(statement)
                .await
                .with_context(|| (*statement).to_owned())?;
        }
        Ok(())
    }

    /// Returns a connection beside the connector's.
    pub async fn connect(&self) -> Result<Session> {
        let (client, connection) = Config::new()
            .host("127.0.0.1")
            .port(self.port)
            .dbname(DATABASE)
            .user(USER)
            .password(PASSWORD)
            .application_name("test")
            .connect(NoTls)
            .await?;
        let driver = environment::spawn("test session", async move {
            // A test that ends its server ends its sessions too.
            drop(connection.await);
        });
        Ok(Session { client, _driver: driver })
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT ends it at once; on SIGTERM alone it waits for its clients.
        let asked = Command::new("kill").arg("-INT").arg(self.process.id().to_string()).status();
        if asked.is_ok() {
            stop(&mut self.process);
        }
    }
}

/// A connection of a test.
#[derive(Debug)]
pub struct Session {
    /// Speaks to the server.
    pub client: Client,
    _driver: environment::Task<()>,
}

/// Returns the folder of the newest version's programs.
fn programs() -> Result<PathBuf> {
    let versions = fs::read_dir(DEBIAN_VERSIONS).into_iter().flatten().filter_map(Result::ok);
    let newest = versions
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|version| {
            Path::new(DEBIAN_VERSIONS).join(version.to_string()).join("bin/initdb").is_file()
        })
        .max();
    if let Some(version) = newest {
        return Ok(Path::new(DEBIAN_VERSIONS).join(version.to_string()).join("bin"));
    }
    let initdb = program("initdb")?;
    Ok(initdb.parent().context("a program is in a folder")?.to_owned())
}

/// Returns the command that runs a program as the server's user, as itself where that is not root.
fn as_server(program: &Path) -> Result<Command> {
    if !is_root()? {
        return Ok(Command::new(program));
    }
    // It replaces itself by the program, so that the process to be stopped is the server.
    let mut command = Command::new("setpriv");
    command.args(["--reuid", SYSTEM_USER, "--regid", SYSTEM_USER, "--clear-groups", "--"]);
    command.arg(program);
    Ok(command)
}

/// It accepts connections before it is ready to serve them, and says so in its log.
fn is_ready(said: &str) -> Option<()> {
    said.contains("ready to accept connections").then_some(())
}

fn serve(folder: &Path, rows: &Path, port: u16) -> Result<Child> {
    let log = File::create(folder.join("log"))?;
    let mut command = as_server(&programs()?.join("postgres"))?;
    command.arg("-D").arg(rows).arg("-p").arg(port.to_string());
    command.arg("-k").arg(folder);
    for setting in SETTINGS {
        command.arg("-c").arg(setting);
    }
    command.arg("-c").arg(format!("ssl_cert_file={}", folder.join("server.crt").display()));
    command.arg("-c").arg(format!("ssl_key_file={}", folder.join("server.key").display()));
    command.current_dir(folder).stdout(log.try_clone()?).stderr(log);
    command.spawn().context("postgres did not start")
}

/// Makes a certificate for `localhost` that is its own authority.
fn make_certificate(folder: &Path) -> Result<()> {
    let mut openssl = Command::new(program("openssl")?);
    openssl.args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    openssl.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    openssl.args(["-addext", "subjectAltName=DNS:localhost"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.arg("-keyout").arg(folder.join("server.key"));
    openssl.arg("-out").arg(folder.join("server.crt"));
    run(&mut openssl).map(drop)
}
