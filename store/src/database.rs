//! A database: the door of the crate.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::batch::Batch;
use crate::checksum::Checksum;
use crate::delta::file;
use crate::delta::merge::Run;
use crate::environment::{Environment, SystemEnvironment, new_ulid};
use crate::error::{Error, Result};
use crate::export;
use crate::location::Location;
use crate::log::commit::{Committed, Log, Transaction};
use crate::log::record::{FileEntry, Operation, TransactionId};
use crate::log::state::State;
use crate::names::Names;
use crate::objects::Objects;
use crate::sealed::{seal, unseal};
use crate::snapshot::{ReadAt, Snapshot};
use crate::table::{Alteration, TableDef, TableId, TableSpec};

/// The format of `_db.json` and of all that it stands for.
const FORMAT: u32 = 1;

/// The content of `_db.json`: written once, first of all.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    format: u32,
    id: Ulid,
    created_us: i64,
    checksum: String,
    /// What a reader has to know beyond the format.
    reader: Vec<String>,
    /// What a writer has to know beyond the format.
    writer: Vec<String>,
}

/// How a database is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where time and randomness come from.
    pub environment: Arc<dyn Environment>,
    /// Who writes, for people who read the history.
    pub writer: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            environment: Arc::new(SystemEnvironment::new()),
            writer: format!("process {}", std::process::id()),
        }
    }
}

/// A database that is open in this process. Any number of processes may have it open; none is special.
#[derive(Debug)]
pub struct Database {
    identity: Identity,
    location: Location,
    log: Log,
}

impl Database {
    /// Opens the database at a location, creating it if there is none.
    ///
    /// # Errors
    /// Source if the object store fails, Internal if the database is damaged, User if its format is newer.
    pub async fn open_or_create(location: Location, options: Options) -> Result<Self> {
        let (objects, names) = at(&location, &options);
        let path = names.database();
        if objects.get(&path).await?.is_none() {
            let identity = Identity {
                format: FORMAT,
                id: new_ulid(options.environment.as_ref()),
                created_us: options.environment.now_us(),
                checksum: "xxh3-128".to_owned(),
                reader: Vec::new(),
                writer: Vec::new(),
            };
            let sealed: Bytes = seal(path.as_ref(), &identity)?.into();
            // Whether it was created by us or by another, what is there now is the identity.
            if let Err(error) = objects.create(&path, sealed).await
                && objects.get(&path).await?.is_none()
            {
                return Err(error);
            }
        }
        Self::open(location, options).await
    }

    /// Opens the database at a location.
    ///
    /// # Errors
    /// User if there is none or its format is newer, Source if the object store fails, Internal if it is damaged.
    pub async fn open(location: Location, options: Options) -> Result<Self> {
        let (objects, names) = at(&location, &options);
        let path = names.database();
        let Some(stored) = objects.get(&path).await? else {
            return Err(Error::DatabaseNotFound { location: location.name });
        };
        let identity: Identity = unseal(path.as_ref(), &stored)?;
        check_format(&identity)?;
        let log = Log::open(objects, names, options.writer, Checksum::of(&stored)).await?;
        Ok(Self { identity, location, log })
    }

    /// Returns the identity that no other database has.
    pub fn id(&self) -> Ulid {
        self.identity.id
    }

    /// Returns where the database lies.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Returns the object that a path of a [`FileEntry`] names.
    pub fn object_path(&self, relative: &str) -> Path {
        self.log.names.absolute(relative)
    }

    pub(crate) fn environment(&self) -> &Arc<dyn Environment> {
        &self.log.objects.environment
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Returns the state that this process knows; may be behind what others have committed.
    pub fn state(&self) -> Arc<State> {
        self.log.current()
    }

    /// Pins a version for reading. Looks for commits of others first.
    ///
    /// # Errors
    /// User if the version is not there yet or no longer; Source and Internal as for opening.
    pub async fn snapshot(&self, at: ReadAt) -> Result<Snapshot> {
        Snapshot::pin(self.log.refresh().await?, at)
    }

    /// Starts an update of any number of tables.
    pub fn batch(self: &Arc<Self>) -> Batch {
        self.batch_of(self.new_transaction())
    }

    /// Starts an update under an identity drawn before: of several commits under one identity, only one has an effect.
    pub fn batch_of(self: &Arc<Self>, transaction: TransactionId) -> Batch {
        Batch::new(Arc::clone(self), transaction)
    }

    /// Draws the identity of a transaction.
    pub fn new_transaction(&self) -> TransactionId {
        TransactionId(new_ulid(self.environment().as_ref()))
    }

    /// Creates a namespace.
    ///
    /// # Errors
    /// User if it is there; otherwise as [`Batch::commit`].
    pub async fn create_namespace(&self, namespace: &str) -> Result<Committed> {
        let mut transaction = self.transaction(Operation::Table).await?;
        transaction.define.namespaces.push(namespace.to_owned());
        self.log.commit(transaction).await
    }

    /// Drops an empty namespace.
    ///
    /// # Errors
    /// User if it is not there or not empty; otherwise as [`Batch::commit`].
    pub async fn drop_namespace(&self, namespace: &str) -> Result<Committed> {
        let mut transaction = self.transaction(Operation::Table).await?;
        transaction.drop.namespaces.push(namespace.to_owned());
        self.log.commit(transaction).await
    }

    /// Creates an empty table; it can be read at the newest version and all later ones.
    ///
    /// # Errors
    /// User if the name is taken, the namespace is not there or the table cannot be defined so; otherwise as
    /// [`Batch::commit`].
    pub async fn create_table(&self, spec: TableSpec) -> Result<Arc<TableDef>> {
        let id = TableId(new_ulid(self.environment().as_ref()));
        let def = Arc::new(TableDef::new(id, spec)?);
        export::is_asked_for(&def)?;
        let mut transaction = self.transaction(Operation::Table).await?;
        transaction.define.tables.push(Arc::clone(&def));
        self.log.commit(transaction).await?;
        Ok(def)
    }

    /// Gives a table its next definition, in a version of its own; no file is touched, and earlier versions keep theirs.
    ///
    /// # Errors
    /// User if the table is not there or cannot be defined so; [`Error::Conflict`] if another definition came first; otherwise
    /// as [`Batch::commit`].
    pub async fn alter_table(
        &self,
        namespace: &str,
        name: &str,
        alteration: &Alteration,
    ) -> Result<Arc<TableDef>> {
        let state = self.log.refresh().await?;
        let Some(table) = state.table(namespace, name) else {
            return Err(Error::TableNotFound { table: format!("{namespace}.{name}") });
        };
        let def = Arc::new(table.def.altered(alteration)?);
        export::is_asked_for(&def)?;
        let mut transaction =
            Transaction::new(self.new_transaction(), Operation::Schema, state.lsn);
        transaction.define.altered.push(Arc::clone(&def));
        self.log.commit(transaction).await?;
        Ok(def)
    }

    /// Drops a table. Its files stay until a vacuum, see [`crate::VacuumOptions`].
    ///
    /// # Errors
    /// User if it is not there; otherwise as [`Batch::commit`].
    pub async fn drop_table(&self, namespace: &str, name: &str) -> Result<Committed> {
        let state = self.log.refresh().await?;
        let Some(table) = state.table(namespace, name) else {
            return Err(Error::TableNotFound { table: format!("{namespace}.{name}") });
        };
        let mut transaction = self.transaction(Operation::Table).await?;
        transaction.drop.tables.push(table.def.id);
        self.log.commit(transaction).await
    }

    /// Reads a whole data file after checking its digest; batches have the columns of [`TableDef::file_schema`].
    ///
    /// # Errors
    /// [`Error::Conflict`] if a vacuum has deleted the file; Internal if it is gone otherwise, or is not what the log says;
    /// Source if the object store fails.
    pub async fn read_file(&self, def: &TableDef, entry: &FileEntry) -> Result<Run> {
        file::open(def, entry, self.file_bytes(entry).await?)
    }

    /// Checks rows and digests of a data file against the log.
    ///
    /// # Errors
    /// As [`Self::read_file`].
    pub async fn verify_file(&self, entry: &FileEntry) -> Result<()> {
        file::verify(entry, self.file_bytes(entry).await?)
    }

    pub(crate) async fn file_bytes(&self, entry: &FileEntry) -> Result<Bytes> {
        let path = entry.path.as_str();
        if let Some(bytes) = self.log.objects.get(&self.object_path(path)).await? {
            return Ok(bytes);
        }
        let state = self.log.refresh().await?;
        if state.files().any(|file| file.path == path) {
            return Err(Error::corrupt(path, "the log names it, it is not there"));
        }
        let reason = format!("file \"{path}\" went with the versions that needed it");
        Err(Error::Conflict { reason })
    }

    pub(crate) async fn transaction(&self, operation: Operation) -> Result<Transaction> {
        let lsn = self.log.refresh().await?.lsn;
        Ok(Transaction::new(self.new_transaction(), operation, lsn))
    }
}

pub(crate) fn at(location: &Location, options: &Options) -> (Objects, Names) {
    let objects = Objects {
        store: Arc::clone(&location.store),
        environment: Arc::clone(&options.environment),
    };
    (objects, Names::new(location.root.clone()))
}

fn check_format(identity: &Identity) -> Result<()> {
    let what = if identity.format != FORMAT {
        format!("format {}", identity.format)
    } else if identity.checksum != "xxh3-128" {
        format!("checksum {}", identity.checksum)
    } else if let Some(feature) = identity.reader.iter().chain(&identity.writer).next() {
        format!("feature {feature}")
    } else {
        return Ok(());
    };
    Err(Error::FormatNotSupported { what })
}
