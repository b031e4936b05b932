//! How nodes speak to each other outside of queries: announcements of workers, and the list of catalogs.
//!
//! The messages are JSON over HTTP on the coordinator's internal address; the coordinator's `cluster/`
//! serves them, the worker asks. Nothing here may carry a resolved secret.

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use url::Url;

use crate::catalog::{CatalogDefinition, Secret};
use crate::connections::{LeaseRequest, Wanted};

/// What coordinator and workers must have in common: plans of one version are not read by another.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The header that carries the cluster's secret, where one is configured.
pub const SECRET_HEADER: &str = "x-meshwork-secret";

/// The header that names a task towards its worker: query, stage and number.
pub const TASK_HEADER: &str = "x-meshwork-task";

/// Where workers announce themselves (`POST`, [`Announcement`], answers [`Announced`]).
pub const ANNOUNCE_PATH: &str = "/v1/node/announce";

/// Where workers ask for the catalogs (`GET`, answers [`CatalogList`]).
pub const CATALOGS_PATH: &str = "/v1/node/catalogs";

/// Where workers ask for the right to a connection (`POST`, [`WorkerLease`]). The answer begins when there is one, and
/// the right lasts as long as the answer: bytes, of which the last says who waits ([`wanted_byte`]).
pub const LEASE_PATH: &str = "/v1/node/lease";

/// Returns the byte that says for which connections somebody waits.
pub fn wanted_byte(wanted: Wanted) -> u8 {
    b'0' + u8::from(wanted.plan) + 2 * u8::from(wanted.read)
}

/// Returns what a byte of [`wanted_byte`] says.
pub fn wanted_of(byte: u8) -> Wanted {
    Wanted { plan: byte & 1 > 0, read: byte & 2 > 0 }
}

/// A worker's request for the right to a connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerLease {
    /// The worker, as it announces itself.
    pub worker: Url,
    /// What it asks for.
    pub request: LeaseRequest,
}

/// What a worker says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Takes tasks.
    Active,
    /// Finishes the tasks it has and takes no new ones.
    Draining,
    /// Is about to end.
    Left,
}

/// Tasks that one announcement tells of; how many there are is told besides.
pub const TASKS_TOLD_MAX: usize = 1_000;

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TaskState {
    /// Its plan is there, and nobody has asked for rows.
    Planned,
    /// Rows have been asked for.
    Running,
}

impl TaskState {
    /// The state as `system.runtime.tasks` shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Planned => "PLANNED",
            Self::Running => "RUNNING",
        }
    }
}

/// A task on a worker at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskStatus {
    /// The query, as users know it.
    pub query_id: String,
    /// The stage of its plan.
    pub stage: u64,
    /// Which of the tasks of the stage.
    pub task: u64,
    /// How far it is.
    pub state: TaskState,
    /// Rows that it has made.
    pub rows: u64,
    /// What they took in memory.
    pub bytes: u64,
    /// Since it came to the worker.
    pub elapsed_ms: u64,
}

/// A sign of life; a worker sends one every second.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Announcement {
    /// Where tasks are sent to.
    pub url: Url,
    /// [`VERSION`] of the worker.
    pub version: String,
    /// Differs between two processes that use the same address one after the other.
    pub instance: String,
    /// What the worker says of itself.
    pub state: NodeState,
    /// Tasks that it holds right now.
    pub n_tasks_running: usize,
    /// The first of them, [`TASKS_TOLD_MAX`] at most.
    pub tasks: Vec<TaskStatus>,
}

/// The coordinator's answer to an accepted announcement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Announced {
    /// The generation of the coordinator's list of catalogs.
    pub catalogs_generation: u64,
}

/// The catalogs as they were written, secrets unresolved.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CatalogList {
    /// Counts changes of the list.
    pub generation: u64,
    /// The definitions, sorted by name.
    pub definitions: Vec<CatalogDefinition>,
}

/// Why a request between nodes was refused.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Refusal {
    /// One line.
    pub message: String,
}

/// Whether a presented secret is the configured one; takes the same time wherever they differ.
/// Without a configured secret everybody is let in.
pub fn secret_matches(configured: Option<&Secret>, presented: Option<&[u8]>) -> bool {
    match (configured, presented) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(configured), Some(presented)) => {
            configured.expose().as_bytes().ct_eq(presented).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_configured_secret_is_let_in() {
        let configured = Secret::from("s3cret".to_owned());
        assert!(secret_matches(None, None));
        assert!(secret_matches(Some(&configured), Some(b"s3cret")));
        assert!(!secret_matches(Some(&configured), Some(b"s3creT")));
        assert!(!secret_matches(Some(&configured), None));
    }
}
