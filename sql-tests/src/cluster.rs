//! Clusters of real processes of the binary `meshwork`, on free ports, with scratch folders of their own.
//!
//! A process says on its standard output where it listens; nothing is guessed and nothing waits by the
//! clock. Dropping a cluster kills its processes. Their logs are shown when a start fails.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use meshwork::client::Client;
use meshwork_engine::environment;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A process that has not said where it listens after this time never will.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// How long workers may take to be seen by the coordinator.
const JOIN_DEADLINE: Duration = Duration::from_secs(30);
const JOIN_POLL: Duration = Duration::from_millis(50);

/// How a cluster is made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `meshwork standalone`.
    Standalone,
    /// `meshwork coordinator` and so many `meshwork worker`.
    Workers(usize),
}

/// Where a cluster keeps what lasts.
#[derive(Debug, Clone)]
pub struct Root {
    /// A folder, below the cluster's own unless it is absolute, or `s3://bucket/prefix`.
    pub place: String,
    /// What all processes find in their environment, so that they get there.
    pub environment: Vec<(String, String)>,
}

impl Root {
    /// A folder that is gone with the cluster.
    fn scratch() -> Self {
        Self { place: "root".to_owned(), environment: Vec::new() }
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    url: String,
    /// Where workers join.
    join: Option<String>,
    coordinator: Node,
    workers: Vec<Node>,
    root: Root,
    home: TempDir,
}

impl Cluster {
    /// Starts a cluster whose catalogs are the given ones: a name and the text of its `etc/catalog` file.
    ///
    /// # Errors
    /// When a process does not start, or a worker is not seen in time; with the process's log.
    pub async fn start(shape: Shape, catalogs: &[(&str, String)]) -> Result<Self> {
        Self::start_at(Root::scratch(), shape, catalogs).await
    }

    /// Starts a cluster whose processes have these environment variables besides.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(
        shape: Shape,
        catalogs: &[(&str, String)],
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment = variables.iter().map(owned).collect();
        Self::start_at(Root { environment, ..Root::scratch() }, shape, catalogs).await
    }

    /// Starts a cluster whose root is the given one.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_at(root: Root, shape: Shape, catalogs: &[(&str, String)]) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let folder = home.path().join("etc").join("catalog");
        fs::create_dir_all(&folder)?;
        for (name, text) in catalogs {
            fs::write(folder.join(format!("{name}.toml")), text)?;
        }
        match shape {
            Shape::Standalone => {
                let arguments = durable(&root, &[("--listen", ANY_PORT)]);
                let mut node = Node::start(&home, &root, "standalone", &arguments)?;
                let url = node.says(READY).await?;
                Ok(Self { url, join: None, coordinator: node, workers: Vec::new(), root, home })
            }
            Shape::Workers(n_workers) => Self::start_workers(root, home, n_workers).await,
        }
    }

    async fn start_workers(root: Root, home: TempDir, n_workers: usize) -> Result<Self> {
        let arguments = durable(&root, &[("--listen", ANY_PORT), ("--internal", ANY_PORT)]);
        let mut coordinator = Node::start(&home, &root, "coordinator", &arguments)?;
        let url = coordinator.says(READY).await?;
        let join = coordinator.says(JOIN).await?;
        let join = Some(join);
        let mut cluster = Self { url, join, coordinator, workers: vec![], root, home };
        for _ in 0..n_workers {
            cluster.start_worker()?;
        }
        cluster.wait_for_workers(n_workers).await?;
        Ok(cluster)
    }

    /// Starts one more worker and waits until all are planned with.
    ///
    /// # Errors
    /// When it does not start, or is not seen in time.
    pub async fn add_worker(&mut self) -> Result<()> {
        self.start_worker()?;
        self.wait_for_workers(self.workers.len()).await
    }

    /// Forgets a worker and ends its process.
    pub fn remove_worker(&mut self, index: usize) {
        drop(self.workers.remove(index));
    }

    fn start_worker(&mut self) -> Result<()> {
        let join = self.join.as_deref().context("a standalone node has no workers")?;
        let arguments = ["--coordinator", join, "--listen", ANY_PORT].map(str::to_owned);
        self.workers.push(Node::start(&self.home, &self.root, "worker", &arguments)?);
        Ok(())
    }

    /// Kills the coordinator and starts it again at the same addresses; returns when all workers have joined it.
    ///
    /// # Errors
    /// When it does not start, or the workers are not seen in time.
    pub async fn restart_coordinator(&mut self) -> Result<()> {
        self.coordinator.kill().await?;
        let join = self.join.as_deref().context("a standalone node has no workers")?;
        let listen = self.url.trim_start_matches("grpc://");
        let internal = join.trim_start_matches("http://").trim_end_matches('/');
        let arguments = durable(&self.root, &[("--listen", listen), ("--internal", internal)]);
        self.coordinator = Node::start(&self.home, &self.root, "coordinator", &arguments)?;
        self.coordinator.says(JOIN).await?;
        self.wait_for_workers(self.workers.len()).await
    }

    /// Where clients connect.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Opens a session.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::connect(&self.url).await?)
    }

    /// The worker processes, in the order of their start.
    pub fn workers(&mut self) -> &mut [Node] {
        &mut self.workers
    }

    /// The process ids of the workers.
    ///
    /// # Errors
    /// When one has ended.
    pub fn worker_ids(&self) -> Result<Vec<u32>> {
        self.workers.iter().map(Node::id).collect()
    }

    /// The coordinator's process.
    pub fn coordinator(&mut self) -> &mut Node {
        &mut self.coordinator
    }

    /// Waits until the coordinator plans with so many workers.
    async fn wait_for_workers(&self, n_workers: usize) -> Result<()> {
        let mut client = self.client().await?;
        let joined = async {
            loop {
                let n_seen = n_rows(
                    &client
                        .query("SELECT node_id FROM system.runtime.nodes WHERE NOT coordinator AND state = 'active'")
                        .await?,
                );
                if n_seen >= n_workers {
                    return Ok::<_, anyhow::Error>(());
                }
                tokio::time::sleep(JOIN_POLL).await;
            }
        };
        let waited = environment::within(JOIN_DEADLINE, "the cluster's start", joined).await;
        match waited {
            Ok(outcome) => outcome,
            Err(late) => bail!("{late}\n{}", self.logs()),
        }
    }

    /// The folder of configuration (`etc`), definitions (`root`) and logs.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The coordinator and all workers.
    pub fn nodes(&mut self) -> impl Iterator<Item = &mut Node> {
        std::iter::once(&mut self.coordinator).chain(&mut self.workers)
    }

    /// The logs of all processes.
    pub fn logs(&self) -> String {
        let nodes = std::iter::once(&self.coordinator).chain(&self.workers);
        nodes.map(|node| format!("== {}\n{}", node.log.display(), node.log_text())).collect()
    }
}

/// The loopback interface, and a port that the system chooses.
const ANY_PORT: &str = "127.0.0.1:0";

/// What a node says when clients may connect, and where workers join it.
const READY: &str = "meshwork is ready: ";
const JOIN: &str = "workers join at: ";

fn durable(root: &Root, doors: &[(&str, &str)]) -> Vec<String> {
    let fixed = ["--etc", "etc", "--root", &root.place];
    let doors = doors.iter().flat_map(|(door, address)| [*door, *address]);
    fixed.into_iter().chain(doors).map(str::to_owned).collect()
}

fn n_rows(batches: &[arrow::array::RecordBatch]) -> usize {
    batches.iter().map(arrow::array::RecordBatch::num_rows).sum()
}

/// One process of the cluster.
#[derive(Debug)]
pub struct Node {
    process: Child,
    said: Lines<BufReader<ChildStdout>>,
    /// What was read of it so far.
    heard: String,
    log: PathBuf,
}

impl Node {
    /// Starts `meshwork <command> <arguments>` in `home`.
    fn start(home: &TempDir, root: &Root, command: &str, arguments: &[String]) -> Result<Self> {
        let home = home.path();
        let n_logs = fs::read_dir(home)?.count();
        let log = home.join(format!("{command}-{n_logs}.log"));
        let program = program()?;
        let mut process = Command::new(&program)
            .arg(command)
            .args(arguments)
            .envs(root.environment.iter().cloned())
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let said = process.stdout.take().context("standard output is piped")?;
        let said = BufReader::new(said).lines();
        Ok(Node { process, said, heard: String::new(), log })
    }
}

impl Node {
    /// The process id.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn id(&self) -> Result<u32> {
        self.process.id().context("the process has ended")
    }

    /// Sends the process a signal: `STOP` freezes it as a machine that hangs would.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, name: &str) -> Result<()> {
        let sent = std::process::Command::new("kill")
            .args(["-s", name, &self.id()?.to_string()])
            .status()?;
        ensure!(sent.success(), "kill -s {name}");
        Ok(())
    }

    /// Kills the process, as a machine that loses power would, and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(&mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }

    /// Waits for the line that begins with `prefix` and returns the rest of it.
    async fn says(&mut self, prefix: &str) -> Result<String> {
        let waiting = async {
            while let Some(line) = self.said.next_line().await? {
                self.heard.push_str(&line);
                self.heard.push('\n');
                if let Some(rest) = line.strip_prefix(prefix) {
                    return Ok(Some(rest.trim().to_owned()));
                }
            }
            Ok::<_, std::io::Error>(None)
        };
        let outcome = environment::within(START_DEADLINE, "a node's start", waiting).await;
        match outcome {
            Ok(Ok(Some(rest))) => Ok(rest),
            Ok(Ok(None)) => bail!("a node ended before it said \"{prefix}\":\n{}", self.log_text()),
            Ok(Err(error)) => Err(error.into()),
            Err(late) => bail!("{late}:\n{}", self.log_text()),
        }
    }

    /// Kills the process and returns all that it has written: to standard output, then to standard error.
    ///
    /// # Errors
    /// When it cannot be killed, or what it wrote not be read.
    pub async fn written(&mut self) -> Result<String> {
        self.kill().await?;
        while let Some(line) = self.said.next_line().await? {
            self.heard.push_str(&line);
            self.heard.push('\n');
        }
        Ok(format!("{}{}", self.heard, fs::read_to_string(&self.log)?))
    }

    fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_else(|error| error.to_string())
    }
}

/// Returns the binary that lies beside this test or benchmark: built by the same cargo command.
///
/// # Errors
/// When it was not built.
pub fn program() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let folder = here.parent().context("a program lies in a folder")?;
    let folder = match folder.ends_with("deps") {
        true => folder.parent().context("deps lies in a folder")?,
        false => folder,
    };
    let program = folder.join(format!("meshwork{}", std::env::consts::EXE_SUFFIX));
    if !program.exists() {
        bail!("{} is not there; build it: cargo build --workspace --bins", program.display());
    }
    Ok(program)
}
