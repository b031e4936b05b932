//! Deltas merged, versions and files let go: behind the commits of this process, and by `OPTIMIZE` and `VACUUM`.
//!
//! A merge changes nothing that is read and stands in nobody's way. One that is given up, because the process ends, leaves
//! files that nobody knows of; the next commit begins it anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meshwork_engine::Result;
use meshwork_engine::catalog::Properties;
use meshwork_engine::connector::Retention;
use meshwork_engine::environment::{self, Task};
use meshwork_store::policy::{BASE_LEVEL, Policy};
use meshwork_store::{
    CompactOptions, Compacted, Database, DeltaId, Error as StoreError, ReadAt, TableId,
    VacuumOptions, Vacuumed, Version,
};
use parking_lot::Mutex;

/// How often a merge of all deltas is begun before others are said to be faster.
const ATTEMPTS_MAX: u32 = 5;

/// How long versions are served where the catalog does not say.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// For how long files stay that nobody needs, where the catalog does not say.
const GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// The time between vacuums behind commits; the first one comes so long after the first commit.
const VACUUM_EVERY: Duration = Duration::from_secs(60 * 60);

/// What a process does for the tables that it writes, and what it is at.
#[derive(Debug)]
pub(super) struct Maintenance {
    is_on: bool,
    /// None keeps all versions.
    retention: Option<Retention>,
    grace: Duration,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    merges: BTreeMap<TableId, Task<()>>,
    vacuum: Option<Task<()>>,
    /// When the last vacuum began, or the first commit came.
    since: Option<Instant>,
}

impl Maintenance {
    /// Reads the properties `maintenance`, `retention` and `grace`.
    ///
    /// # Errors
    /// `User` if one of them cannot be read.
    pub(super) fn from_properties(properties: &mut Properties) -> Result<Self> {
        let is_on = match properties.optional("maintenance").as_deref() {
            None | Some("auto") => true,
            Some("off") => false,
            Some(_) => {
                return Err(properties.wrong("property \"maintenance\" is neither auto nor off"));
            }
        };
        let retention = match properties.optional("retention").as_deref() {
            None => Some(Retention::Time(RETENTION)),
            Some("forever") => None,
            Some(text) => Some(Retention::Time(duration(properties, "retention", text)?)),
        };
        let grace = match properties.optional("grace").as_deref() {
            None => GRACE,
            Some(text) => duration(properties, "grace", text)?,
        };
        Ok(Self { is_on, retention, grace, running: Mutex::default() })
    }

    /// Lets versions and files go: versions that `keep` does not name, or those that the properties say.
    pub(super) async fn vacuum(
        &self,
        database: &Database,
        keep: Option<Retention>,
    ) -> Result<Vacuumed, StoreError> {
        vacuum(database, keep.or(self.retention), self.grace).await
    }

    /// Begins to merge the deltas of tables that have got rows, unless that is under way; and now and then a vacuum.
    pub(super) fn after_commit(&self, database: &Arc<Database>, tables: Vec<TableId>) {
        if !self.is_on {
            return;
        }
        let mut running = self.running.lock();
        let now = environment::instant();
        if now.duration_since(*running.since.get_or_insert(now)) >= VACUUM_EVERY {
            running.since = Some(now);
            let (database, keep, grace) = (Arc::clone(database), self.retention, self.grace);
            running.vacuum = Some(environment::spawn("store vacuum", async move {
                if let Err(error) = vacuum(&database, keep, grace).await {
                    tracing::warn!(%error, "old versions and files were not let go");
                }
            }));
        }
        running.merges.retain(|_, task| !task.is_finished());
        for table in tables {
            running.merges.entry(table).or_insert_with(|| {
                let database = Arc::clone(database);
                environment::spawn("store maintenance", async move {
                    if let Err(error) = as_asked(&database, table).await {
                        tracing::warn!(%table, %error, "deltas were not merged");
                    }
                })
            });
        }
    }
}

fn duration(properties: &Properties, name: &str, text: &str) -> Result<Duration> {
    environment::duration_of(text).ok_or_else(|| {
        properties.wrong(format!("property \"{name}\" is not a time like 24h or 7d"))
    })
}

async fn vacuum(
    database: &Database,
    keep: Option<Retention>,
    grace: Duration,
) -> Result<Vacuumed, StoreError> {
    let state = database.snapshot(ReadAt::Committed).await?;
    let oldest = match keep {
        None => None,
        Some(Retention::Versions(number)) => Some(state.version().0.saturating_sub(number)),
        Some(Retention::Time(time)) => {
            let ago = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
            match database.version_at(environment::unix_micros().saturating_sub(ago)).await {
                Ok(version) => Some(version.0),
                Err(StoreError::TimeNotFound { .. }) => None,
                Err(error) => return Err(error),
            }
        }
    };
    // What has gone does not come back.
    let oldest = oldest.map(Version).filter(|oldest| *oldest > database.state().low_water);
    database.vacuum(VacuumOptions { oldest, writing_max: grace, reading_max: grace }).await
}

/// Does the merges that the policy asks for.
pub(super) async fn as_asked(
    database: &Database,
    table: TableId,
) -> Result<Vec<Compacted>, StoreError> {
    database.maintain(table, &Policy::default(), CompactOptions::default()).await
}

/// Gives rollups what came before them; begins again when another was first.
pub(super) async fn fill_rollups(
    database: &Database,
    table: TableId,
) -> Result<Vec<Compacted>, StoreError> {
    let mut attempt = 1;
    loop {
        match database.fill_rollups(table).await {
            Err(StoreError::Conflict { .. }) if attempt < ATTEMPTS_MAX => attempt += 1,
            done => return done,
        }
    }
}

/// Merges all deltas of a table into one, and those of each of its rollups; begins again when another merge came first.
pub(super) async fn into_one(
    database: &Database,
    table: TableId,
) -> Result<Vec<Compacted>, StoreError> {
    let options = CompactOptions { level: BASE_LEVEL, ..CompactOptions::default() };
    let mut done = fill_rollups(database, table).await?;
    let mut attempt = 1;
    loop {
        let snapshot = database.snapshot(ReadAt::Committed).await?;
        let Some(newest) = snapshot.table_of(table)? else { return Ok(done) };
        let from = newest.orders().into_iter().find_map(|order| {
            let from: Vec<DeltaId> = order.chosen().iter().map(|delta| delta.id).collect();
            (from.len() > 1).then_some(from)
        });
        let Some(from) = from else {
            database.export_as_asked(table).await?;
            return Ok(done);
        };
        match database.compact(table, &from, options).await {
            Err(StoreError::Conflict { .. }) if attempt < ATTEMPTS_MAX => attempt += 1,
            compacted => done.push(compacted?),
        }
    }
}
