//! The commit protocol: many writers, no service, nothing but create-if-absent.
//!
//! ```text
//!        ┌──────────────────────────────────────────────────────────────┐
//!        ▼                                                              │
//!   read the log to its end ─► already in it? ─yes─► done               │
//!        │ no                                                           │
//!   conflicts with what came? ─yes─► error                              │
//!        │ no                                                           │
//!   create record end+1 ─ok─► done                                      │
//!        │ anything else                                                │
//!   read back what stands at end+1 ─ours─► done                         │
//!        └── another's: renumber / nothing: same position ── wait ──────┘
//! ```
//!
//! An error of the creation is never a verdict: a request that timed out, or that the store answered with "exists", may
//! have been our own first attempt landing. And a request in flight can still land after we looked, but only at its one
//! position. So a writer stays at a position until somebody's record stands there, and only if it has to give up before
//! that does it say [`Error::OutcomeUnknown`].
//!
//! No record is ever deleted in this format, so no name can be created a second time by a writer that slept. When
//! deletion of records comes, the boundary of the design page must be checked after the creation, by writers and by
//! readers. Data files are deleted, see [`crate::vacuum`]: a commit that rests on one that may be gone is a conflict.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::Mutex;

use crate::checksum::Checksum;
use crate::environment::jitter;
use crate::error::{Error, Result};
use crate::log::checkpoint::{self, RECORDS_PER_CHECKPOINT};
use crate::log::conflicts::validate;
use crate::log::reader;
use crate::log::record::{
    App, Definitions, Operation, ReadSet, Record, Removals, TableChange, TransactionId, encode,
};
use crate::log::state::{Applied, State, restored};
use crate::names::Names;
use crate::objects::Objects;
use crate::version::{Version, VersionRange};

/// How often a writer tries before it says that others are faster.
const ATTEMPTS_MAX: u32 = 500;

/// How long a writer tries; then its caller should know that it cannot keep up.
const DEADLINE: Duration = Duration::from_secs(300);

/// The wait after the first lost race: about the time of a local commit.
const WAIT_MIN: Duration = Duration::from_millis(2);

/// The longest wait after a lost race: a few commits on S3.
const WAIT_MAX: Duration = Duration::from_millis(250);

/// A change of the database that waits for its place in the log.
#[derive(Debug, Clone)]
pub(crate) struct Transaction {
    pub(crate) id: TransactionId,
    pub(crate) app: Option<App>,
    pub(crate) operation: Operation,
    pub(crate) read: ReadSet,
    pub(crate) define: Definitions,
    pub(crate) drop: Removals,
    pub(crate) tables: Vec<TableChange>,
    pub(crate) low_water: Option<Version>,
    pub(crate) named_since_ms: Option<u64>,
}

impl Transaction {
    pub(crate) fn new(id: TransactionId, operation: Operation, read_lsn: u64) -> Self {
        Self {
            id,
            app: None,
            operation,
            read: ReadSet { lsn: read_lsn, ..ReadSet::default() },
            define: Definitions::default(),
            drop: Removals::default(),
            tables: Vec::new(),
            low_water: None,
            named_since_ms: None,
        }
    }
}

/// Where a commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The position of the record.
    pub lsn: u64,
    /// The newest version after it: for an update, its own.
    pub version: Version,
    /// Whether the record stood there before this call: a batch that was sent again.
    pub repeated: bool,
}

impl Committed {
    fn now(applied: Applied) -> Self {
        Self { lsn: applied.lsn, version: applied.version, repeated: false }
    }

    fn before(applied: Applied) -> Self {
        Self { repeated: true, ..Self::now(applied) }
    }
}

/// A database's log as this process knows it.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) objects: Objects,
    pub(crate) names: Names,
    writer: String,
    state: RwLock<Arc<State>>,
    /// Held while the state moves on.
    advancing: Mutex<()>,
    /// Held while a commit of this process runs, so that it does not race against itself.
    committing: Mutex<()>,
    /// Why nothing is served any more.
    damage: OnceLock<String>,
}

/// Who stands at a position of the log.
enum Standing {
    Ours(Box<Record>, Checksum),
    Another,
    Nobody,
}

impl Log {
    /// Reads the newest checkpoint and what follows it.
    pub(crate) async fn open(
        objects: Objects,
        names: Names,
        writer: String,
        database: Checksum,
    ) -> Result<Self> {
        let newest = checkpoint::read_newest(&objects, &names).await?;
        let mut state = newest.unwrap_or_else(|| State::empty(database));
        let n_replayed = reader::catch_up(&objects, &names, &mut state).await?;
        let log = Self {
            objects,
            names,
            writer,
            state: RwLock::new(Arc::new(state)),
            advancing: Mutex::new(()),
            committing: Mutex::new(()),
            damage: OnceLock::new(),
        };
        if n_replayed > RECORDS_PER_CHECKPOINT {
            // The writer of the checkpoint that should be there died before it got to it.
            log.write_checkpoint(&log.current()).await;
        }
        Ok(log)
    }

    /// Returns the state as last known, without asking the object store.
    pub(crate) fn current(&self) -> Arc<State> {
        Arc::clone(&self.state.read())
    }

    /// Reads the log to its end and returns the state there.
    pub(crate) async fn refresh(&self) -> Result<Arc<State>> {
        if let Some(evidence) = self.damage.get() {
            return Err(Error::corrupt(self.names.root().as_ref(), evidence.as_str()));
        }
        let _advancing = self.advancing.lock().await;
        let mut next = State::clone(&self.current());
        if reader::catch_up(&self.objects, &self.names, &mut next).await? > 0 {
            *self.state.write() = Arc::new(next);
        }
        Ok(self.current())
    }

    /// Brings a transaction into the log, exactly once.
    ///
    /// Not cancel-safe: dropping the future leaves open whether the record lands.
    pub(crate) async fn commit(&self, transaction: Transaction) -> Result<Committed> {
        let committed = {
            let _committing = self.committing.lock().await;
            self.commit_alone(transaction).await?
        };
        if committed.lsn % RECORDS_PER_CHECKPOINT == 0 && !committed.repeated {
            let state = self.current();
            // Another writer may have gone on meanwhile; then the checkpoint stands a little later.
            self.write_checkpoint(&state).await;
        }
        Ok(committed)
    }

    async fn commit_alone(&self, mut transaction: Transaction) -> Result<Committed> {
        let give_up_at = self.objects.environment.monotonic() + DEADLINE;
        let mut wait = WAIT_MIN;
        // The position at which a request of ours may still be under way.
        let mut in_flight: Option<u64> = None;
        for attempt in 1..=ATTEMPTS_MAX {
            let state = match self.refresh().await {
                Ok(state) => state,
                Err(error) => return Err(unknown_if_in_flight(&transaction, in_flight, error)),
            };
            if let Some(applied) = state.applied(transaction.id) {
                // Our own attempt if we made one, otherwise a batch that was sent again.
                let committed = Committed::before(applied);
                return Ok(Committed { repeated: in_flight.is_none(), ..committed });
            }
            if let Some(applied) = repeated_feed_batch(&state, &transaction) {
                return Ok(Committed::before(applied));
            }
            validate(&state, &transaction)?;

            let lsn = state.lsn + 1;
            let record = self.number(&state, &mut transaction);
            let stored = encode(&record)?;
            if Names::opens_folder(lsn)
                && let Err(error) = self.settle(state.lsn).await
            {
                return Err(unknown_if_in_flight(&transaction, in_flight, error));
            }
            match self.create(&record, stored).await {
                Ok(Some(applied)) => return Ok(Committed::now(applied)),
                Ok(None) => in_flight = Some(lsn),
                Err(error) => {
                    tracing::debug!(%error, lsn, "log position could not be read back");
                    in_flight = Some(lsn);
                }
            }
            if self.objects.environment.monotonic() > give_up_at {
                let error = Error::Contention { attempts: attempt };
                return Err(self.give_up(&transaction, in_flight, error).await);
            }
            let pause = jitter(self.objects.environment.as_ref(), wait);
            self.objects.environment.sleep(pause).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
        let error = Error::Contention { attempts: ATTEMPTS_MAX };
        Err(self.give_up(&transaction, in_flight, error).await)
    }

    /// Makes sure that a record of another folder outlives a power cut before one follows it. On a local disk, syncing
    /// a folder brings all its names to disk, those of other writers too, but only its own; creating a name again syncs
    /// the folder it is in.
    async fn settle(&self, lsn: u64) -> Result<()> {
        let path = self.names.record(lsn);
        let Some(stored) = self.objects.get(&path).await? else {
            return Err(Error::corrupt(path.as_ref(), "it was read before and is gone"));
        };
        match self.objects.create(&path, stored).await {
            Err(Error::Storage { source, .. })
                if matches!(*source, object_store::Error::AlreadyExists { .. }) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Numbers the transaction as the next record after `state`.
    fn number(&self, state: &State, transaction: &mut Transaction) -> Record {
        let version = state.version_after(transaction.operation);
        let v = match transaction.operation {
            Operation::Update => Some(VersionRange::single(version)),
            Operation::Restore => Some(restored(version)),
            Operation::Table | Operation::Schema | Operation::Compact | Operation::Vacuum => None,
        };
        if let Some(v) = v {
            let files = transaction.tables.iter_mut().flat_map(|change| &mut change.add);
            files.for_each(|file| Arc::make_mut(file).v = v);
        }
        Record {
            lsn: state.lsn + 1,
            prev: state.last,
            txn: transaction.id,
            app: transaction.app.clone(),
            ts_us: self.objects.environment.now_us().max(state.ts_us + 1),
            writer: self.writer.clone(),
            op: transaction.operation,
            version,
            read: transaction.read.clone(),
            define: transaction.define.clone(),
            drop: transaction.drop.clone(),
            tables: transaction.tables.clone(),
            low_water: transaction.low_water,
            named_since_ms: transaction.named_since_ms,
        }
    }

    /// Creates the record; None if another stands there or nobody does.
    async fn create(&self, record: &Record, stored: Bytes) -> Result<Option<Applied>> {
        let lsn = record.lsn;
        let digest = Checksum::of(&stored);
        let Err(error) = self.objects.create(&self.names.record(lsn), stored).await else {
            return self.advance(record, digest).await.map(Some);
        };
        tracing::debug!(%error, lsn, txn = %record.txn, "record was not created, reading back");
        match self.standing(lsn, record.txn).await? {
            Standing::Ours(record, digest) => self.advance(&record, digest).await.map(Some),
            Standing::Another | Standing::Nobody => Ok(None),
        }
    }

    async fn standing(&self, lsn: u64, txn: TransactionId) -> Result<Standing> {
        Ok(match reader::read(&self.objects, &self.names, lsn).await? {
            Some((record, digest)) if record.txn == txn => Standing::Ours(Box::new(record), digest),
            Some(_) => Standing::Another,
            None => Standing::Nobody,
        })
    }

    /// Takes our own record into the state without reading it again.
    async fn advance(&self, record: &Record, digest: Checksum) -> Result<Applied> {
        let applied = Applied { lsn: record.lsn, version: record.version };
        let _advancing = self.advancing.lock().await;
        let mut next = State::clone(&self.current());
        // A reader of this process may have met the record already.
        if next.lsn < record.lsn {
            next.apply(self.names.record(record.lsn).as_ref(), record, digest)?;
            *self.state.write() = Arc::new(next);
        }
        Ok(applied)
    }

    /// Decides what to say when trying ends: a request may still be under way, unless its position is taken.
    async fn give_up(
        &self,
        transaction: &Transaction,
        in_flight: Option<u64>,
        error: Error,
    ) -> Error {
        let Some(lsn) = in_flight else { return error };
        match self.standing(lsn, transaction.id).await {
            Ok(Standing::Another) => error,
            Ok(Standing::Ours(..) | Standing::Nobody) => {
                unknown_if_in_flight(transaction, in_flight, error)
            }
            Err(unread) => unknown_if_in_flight(transaction, in_flight, unread),
        }
    }

    /// Writes a checkpoint. It is only an aid, so failing to write one is no failure of the commit before it; but one
    /// that contradicts ours stops this process from serving.
    async fn write_checkpoint(&self, state: &State) {
        match checkpoint::write(&self.objects, &self.names, state).await {
            Ok(parts) => {
                let _advancing = self.advancing.lock().await;
                let mut next = State::clone(&self.current());
                for (id, parts) in parts {
                    if let Some(table) = next.tables.get_mut(&id) {
                        Arc::make_mut(table).parts = parts;
                    }
                }
                next.checkpoint = state.lsn;
                *self.state.write() = Arc::new(next);
                tracing::debug!(lsn = state.lsn, "store checkpoint written");
            }
            Err(Error::Corrupt { object, evidence }) => {
                tracing::error!(object, evidence, "store checkpoint contradicts the log");
                self.damage.get_or_init(|| format!("{object}: {evidence}"));
            }
            Err(error) => tracing::warn!(%error, lsn = state.lsn, "store checkpoint not written"),
        }
    }
}

fn unknown_if_in_flight(transaction: &Transaction, in_flight: Option<u64>, error: Error) -> Error {
    match in_flight {
        None => error,
        Some(lsn) => {
            Error::OutcomeUnknown { txn: transaction.id.to_string(), lsn, source: Box::new(error) }
        }
    }
}

fn repeated_feed_batch(state: &State, transaction: &Transaction) -> Option<Applied> {
    let app = transaction.app.as_ref()?;
    let last = state.apps.get(&app.id)?;
    (last.seq >= app.seq).then_some(last.applied)
}
