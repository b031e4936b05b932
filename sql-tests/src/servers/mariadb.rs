//! A MariaDB server of its own for a test.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;

use anyhow::{Context, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use tempfile::TempDir;

use super::{Shared, free_port, give_to, is_root, program, run, stop, wait_until_ready};

/// Whom the package made for the server.
const SYSTEM_USER: &str = "mysql";

/// The files of the server's own certificate.
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// What the server does first.
const FIRST: &str = "first.sql";

/// Who the tests are; the password has what must be written with care.
const USER: &str = "tester";
const PASSWORD: &str = "it's \"s3cret\" `42`";

/// What InnoDB keeps of tables.
const MEMORY: &str = "128M";
const LARGE_MEMORY: &str = "2G";

/// The server that running tests share.
static SHARED: Shared<MariaDb> = Shared::new();

/// A running MariaDB, ended and removed when dropped.
#[derive(Debug)]
pub struct MariaDb {
    process: Child,
    port: u16,
    folder: TempDir,
    memory: &'static str,
}

impl MariaDb {
    /// Returns the server that all tests of this process share while any of them runs.
    pub fn shared() -> Result<Arc<Self>> {
        SHARED.get(Self::start)
    }

    /// Starts a server of its own.
    pub fn start() -> Result<Self> {
        Self::start_with(MEMORY)
    }

    /// Starts a server that keeps tables of a gigabyte in memory, as one in use does.
    pub fn start_large() -> Result<Self> {
        Self::start_with(LARGE_MEMORY)
    }

    fn start_with(memory: &'static str) -> Result<Self> {
        let folder = TempDir::with_prefix("mariadb-").context("no scratch folder")?;
        let rows = folder.path().join("rows");
        let as_user = is_root()?;
        if as_user {
            give_to(SYSTEM_USER, folder.path())?;
        }
        let mut install = Command::new(program("mariadb-install-db")?);
        install.arg("--no-defaults").arg(format!("--datadir={}", rows.display()));
        install.args(["--skip-test-db", "--auth-root-authentication-method=normal"]);
        install.env("TMPDIR", folder.path());
        if as_user {
            install.arg(format!("--user={SYSTEM_USER}"));
        }
        run(&mut install)?;
        let certificate = folder.path().join(CERTIFICATE);
        run(Command::new(program("openssl")?)
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout"])
            .arg(folder.path().join(KEY))
            .arg("-out")
            .arg(&certificate))?;
        let password = PASSWORD.replace('\'', "''");
        fs::write(
            folder.path().join(FIRST),
            format!(
                "CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{password}';\n\
                 GRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n\
                 SET GLOBAL sql_select_limit = 3;\n"
            ),
        )?;
        if as_user {
            give_to(SYSTEM_USER, folder.path())?;
        }
        let port = free_port()?;
        let process = serve(folder.path(), port, memory, as_user)?;
        Ok(Self { process, port, folder, memory })
    }

    /// Kills the server: its sessions break off.
    pub fn break_down(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait().map(drop).context("mariadbd did not end")
    }

    /// Starts the server again on its port, with what was committed.
    pub fn come_back(&mut self) -> Result<()> {
        self.process = serve(self.folder.path(), self.port, self.memory, is_root()?)?;
        Ok(())
    }

    /// Returns the port on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the file with the certificate by which the server proves that it is 127.0.0.1.
    pub fn certificate(&self) -> String {
        self.folder.path().join(CERTIFICATE).to_string_lossy().into_owned()
    }

    /// Returns the properties of a catalog of this server.
    pub fn properties(&self) -> BTreeMap<String, String> {
        let port = self.port.to_string();
        [("host", "127.0.0.1"), ("port", port.as_str()), ("user", USER), ("password", PASSWORD)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    /// Runs statements one after another, as an application would: with the server's own defaults.
    pub async fn execute(&self, statements: &[&str]) -> Result<()> {
        let mut connection = self.connect().await?;
        for statement in statements {
            connection.query_drop(*statement).await.with_context(|| (*statement).to_owned())?;
        }
        Ok(connection.disconnect().await?)
    }

    /// Returns a connection beside the connector's.
    pub async fn connect(&self) -> Result<Conn> {
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port)
            .user(Some(USER))
            .pass(Some(PASSWORD))
            .prefer_socket(false);
        let mut connection = Conn::new(options).await?;
        connection.query_drop("SET sql_select_limit = 18446744073709551615").await?;
        Ok(connection)
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        stop(&mut self.process);
    }
}

/// Starts the server and waits until it listens.
fn serve(folder: &Path, port: u16, memory: &str, as_user: bool) -> Result<Child> {
    let log = File::create(folder.join("log"))?;
    let mut command = Command::new(program("mariadbd")?);
    // A server that starts deletes temporary tables that it finds, in a common folder those of others.
    command
        .env("TMPDIR", folder)
        .arg("--no-defaults")
        .arg(format!("--datadir={}", folder.join("rows").display()))
        .arg(format!("--init-file={}", folder.join(FIRST).display()))
        .arg(format!("--socket={}", folder.join("socket").display()))
        .arg(format!("--pid-file={}", folder.join("pid").display()))
        .arg(format!("--port={port}"))
        .args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-log-bin"])
        .arg("--innodb-flush-log-at-trx-commit=0")
        .arg(format!("--innodb-buffer-pool-size={memory}"))
        // What the connector must pin is something else here.
        .args(["--default-time-zone=-05:00", "--sql-mode=ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH"])
        .arg("--character-set-server=latin1")
        .arg(format!("--ssl-cert={}", folder.join(CERTIFICATE).display()))
        .arg(format!("--ssl-key={}", folder.join(KEY).display()))
        .stdout(log.try_clone()?)
        .stderr(log);
    if as_user {
        command.arg(format!("--user={SYSTEM_USER}"));
    }
    let mut process = command.spawn().context("mariadbd did not start")?;
    let listens = |_said: &str| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok().map(drop);
    wait_until_ready("mariadbd", &mut process, &folder.join("log"), listens)?;
    Ok(process)
}
