//! Every `.slt` case, on one process and on a coordinator with three workers, with tiny batches: the same
//! file, the same answers.
//!
//! `MESHWORK_TEST_ONLY=joins` runs files whose path contains the word; `MESHWORK_TEST_UPDATE=1` writes what
//! one process answers into the files, for a human to read; `MESHWORK_TEST_MATRIX=1` runs 1, 2, 3 and 7 tasks
//! with 1, 2 and 8 partitions.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::{fixtures, slt};
use tempfile::TempDir;

/// So few rows in a batch that every operator sees many of them.
const BATCH_ROWS: [usize; 2] = [3, 16];

/// A store that merges when it is told to, and deletes at once what nobody needs.
const BRIEF: &str = "maintenance = \"off\"\ngrace = \"0h\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn cases_hold_on_one_process() -> Result<()> {
    let lake = Lake::new()?;
    let cluster = Cluster::start(Shape::Standalone, &lake.catalogs()).await?;
    for path in files()? {
        if std::env::var_os("MESHWORK_TEST_UPDATE").is_some() {
            slt::update_file(cluster.url(), &path, &settings(BATCH_ROWS[0], None)).await?;
        }
    }
    run(&cluster, &files()?, "one process", &settings(BATCH_ROWS[0], None)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_hold_on_three_workers() -> Result<()> {
    let lake = Lake::new()?;
    let cluster = Cluster::start(Shape::Workers(3), &lake.catalogs()).await?;
    run(&cluster, &files()?, "three workers", &settings(BATCH_ROWS[1], None)).await?;
    if std::env::var_os("MESHWORK_TEST_MATRIX").is_none() {
        return Ok(());
    }
    for n_tasks in [1, 2, 3, 7] {
        for n_partitions in [1, 2, 8] {
            let settings = settings(BATCH_ROWS[0], Some(Cut { n_tasks, n_partitions }));
            let what = format!("{n_tasks} tasks x {n_partitions} partitions");
            let again: Vec<_> = files()?.into_iter().filter(|path| !runs_once(path)).collect();
            run(&cluster, &again, &what, &settings).await?;
        }
    }
    Ok(())
}

/// How stages are cut.
#[derive(Clone, Copy)]
struct Cut {
    n_tasks: usize,
    n_partitions: usize,
}

fn settings(batch_rows: usize, cut: Option<Cut>) -> Vec<String> {
    let mut settings = vec![format!("SET SESSION batch_size = {batch_rows}")];
    if let Some(Cut { n_tasks, n_partitions }) = cut {
        settings.push(format!("SET SESSION tasks_max = {n_tasks}"));
        settings.push(format!("SET SESSION target_partitions = {n_partitions}"));
    }
    settings.push("USE lake.cases".to_owned());
    settings
}

/// Runs all files and reports all that fail, not only the first.
async fn run(cluster: &Cluster, files: &[PathBuf], what: &str, settings: &[String]) -> Result<()> {
    let mut failures = Vec::new();
    for path in files {
        if let Err(error) = slt::run_file(cluster.url(), path, settings).await {
            failures.push(format!("{error}"));
        }
    }
    match failures.is_empty() {
        true => Ok(()),
        false => bail!(
            "{} files fail on {what}:\n{}\n{}",
            failures.len(),
            failures.join("\n"),
            cluster.logs()
        ),
    }
}

/// Whether the file leaves behind what it made: it runs once on each cluster.
fn runs_once(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "once")
}

fn files() -> Result<Vec<PathBuf>> {
    let only = std::env::var("MESHWORK_TEST_ONLY").unwrap_or_default();
    let wanted = |path: &PathBuf| path.to_string_lossy().contains(&only);
    Ok(slt::files()?.into_iter().filter(wanted).collect())
}

/// The sources of the cases, in scratch folders.
struct Lake {
    home: TempDir,
}

impl Lake {
    fn new() -> Result<Self> {
        let home = tempfile::tempdir()?;
        fixtures::write_lake(&home.path().join("lake"))?;
        // A file without tables: the cases make them.
        rusqlite::Connection::open(home.path().join("lite.db"))?
            .execute_batch("PRAGMA user_version = 1")?;
        Ok(Self { home })
    }

    fn catalogs(&self) -> Vec<(&'static str, String)> {
        let at = |folder: &str| quoted(&self.home.path().join(folder));
        vec![
            (
                "lake",
                format!("connector = \"lake\"\nlocation = {}\nallow_drop = \"true\"\n", at("lake")),
            ),
            (
                "lite",
                format!("connector = \"sqlite\"\npath = {}\nwritable = \"true\"\n", at("lite.db")),
            ),
            ("sealed", format!("connector = \"sqlite\"\npath = {}\n", at("lite.db"))),
            ("store", format!("connector = \"store\"\nlocation = {}\n", at("store"))),
            ("brief", format!("connector = \"store\"\nlocation = {}\n{BRIEF}", at("brief"))),
            ("tpch", "connector = \"tpch\"\n".to_owned()),
        ]
    }
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}
