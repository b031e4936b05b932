//! What the store's tests share: a seeded environment, an object store that lies, two tables whose sums must agree.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, stream};
use meshwork_store::{
    Alteration, Batch, ColumnSpec, ColumnType, Committed, Database, Environment, Error, Location,
    Options, ReadAt, Result, TableDef, TableKind, TableSnapshot, TableSpec, VacuumOptions,
    ValueFunction, Version,
};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result as StoreResult,
};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// Deterministic: the clock ticks when asked, waits only yield, deadlines never pass.
pub(crate) struct SeededEnvironment {
    ticks: AtomicU64,
    random: Mutex<StdRng>,
}

impl SeededEnvironment {
    /// A greater seed is a later time.
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        Arc::new(Self { ticks: AtomicU64::new(seed * 1_000_000), random })
    }
}

impl fmt::Debug for SeededEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeededEnvironment")
    }
}

impl Environment for SeededEnvironment {
    fn now_us(&self) -> i64 {
        // Jumps back and forth: the log must be monotone by itself.
        let tick = self.ticks.fetch_add(1, Ordering::Relaxed);
        i64::try_from((1_000 + tick + tick % 7 * 3) * 1_000).unwrap()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.ticks.fetch_add(1, Ordering::Relaxed))
    }

    fn random(&self) -> u64 {
        self.random.lock().next_u64()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        if duration > Duration::from_secs(10) {
            return pending().boxed();
        }
        async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        }
        .boxed()
    }

    fn run_blocking(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        async move { job() }.boxed()
    }
}

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Fails, and nothing happened.
    Before,
    /// Fails, although it happened.
    After,
    /// Says that the object exists, although nothing happened (a 409 of S3).
    SpuriousExists,
    /// The process dies before the call: this one and all later ones fail.
    CrashBefore,
    /// The process dies after the call took effect.
    CrashAfter,
}

type Plan = Box<dyn Fn(u64, &'static str) -> Fault + Send + Sync>;

/// An object store that fails as planned, by the number of the call; calls of several at once overlap.
pub(crate) struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    faults: Arc<Faults>,
}

struct Faults {
    plan: Plan,
    calls: AtomicU64,
    dead: AtomicBool,
}

impl FaultStore {
    pub(crate) fn new(
        inner: Arc<dyn ObjectStore>,
        plan: impl Fn(u64, &'static str) -> Fault + Send + Sync + 'static,
    ) -> Arc<Self> {
        let plan: Plan = Box::new(plan);
        let faults = Faults { plan, calls: AtomicU64::new(0), dead: AtomicBool::new(false) };
        Arc::new(Self { inner, faults: Arc::new(faults) })
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.faults.is_dead()
    }
}

impl Faults {
    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Returns whether the call takes effect, and how it fails.
    async fn next(&self, operation: &'static str, path: &Path) -> (bool, Option<StoreError>) {
        if self.is_dead() {
            return (false, Some(broken("the process is dead")));
        }
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        for _ in 0..call % 3 {
            tokio::task::yield_now().await;
        }
        let fault = (self.plan)(call, operation);
        if matches!(fault, Fault::CrashBefore | Fault::CrashAfter) {
            self.dead.store(true, Ordering::SeqCst);
        }
        match fault {
            Fault::None => (true, None),
            Fault::Before | Fault::CrashBefore => (false, Some(broken("before"))),
            Fault::After | Fault::CrashAfter => (true, Some(broken("after"))),
            Fault::SpuriousExists => {
                let source = "409 conflict".into();
                (false, Some(StoreError::AlreadyExists { path: path.to_string(), source }))
            }
        }
    }
}

fn broken(what: &str) -> StoreError {
    StoreError::Generic { store: "FaultStore", source: what.into() }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultStore")
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultStore")
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        match self.faults.next("put", location).await {
            (true, None) => self.inner.put_opts(location, payload, options).await,
            (true, Some(error)) => {
                drop(self.inner.put_opts(location, payload, options).await);
                Err(error)
            }
            (false, error) => Err(error.unwrap()),
        }
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        Err(broken("no uploads in parts"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        match self.faults.next("get", location).await {
            (_, Some(error)) => Err(error),
            (_, None) => self.inner.get_opts(location, options).await,
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        let (inner, faults) = (Arc::clone(&self.inner), Arc::clone(&self.faults));
        let delete = move |location: StoreResult<Path>| {
            let (inner, faults) = (Arc::clone(&inner), Arc::clone(&faults));
            async move {
                let location = location?;
                let (happens, fault) = faults.next("delete", &location).await;
                let deleted = if happens { inner.delete(&location).await } else { Ok(()) };
                fault.map_or(deleted, Err).map(|()| location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let faults = Arc::clone(&self.faults);
        let folder = prefix.cloned().unwrap_or_default();
        let first = async move { faults.next("list", &folder).await.1.map(Err) };
        let failed = stream::once(first).filter_map(ready);
        failed.chain(self.inner.list(prefix)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        match self.faults.next("list", &prefix.cloned().unwrap_or_default()).await {
            (_, Some(error)) => Err(error),
            (_, None) => self.inner.list_with_delimiter(prefix).await,
        }
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> StoreResult<()> {
        panic!("the store never copies")
    }
}

/// A vacuum that spares nothing, not even what is being written.
pub(crate) fn at_once(oldest: Option<Version>) -> VacuumOptions {
    VacuumOptions { oldest, writing_max: Duration::ZERO, reading_max: Duration::ZERO }
}

/// A vacuum that bears with the clock of a [`SeededEnvironment`].
pub(crate) fn patient(oldest: Version) -> VacuumOptions {
    VacuumOptions { writing_max: Duration::from_millis(20), ..at_once(Some(oldest)) }
}

pub(crate) fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

pub(crate) async fn open(store: Arc<dyn ObjectStore>, seed: u64) -> Result<Arc<Database>> {
    open_in(store, SeededEnvironment::new(seed)).await
}

pub(crate) async fn open_in(
    store: Arc<dyn ObjectStore>,
    environment: Arc<SeededEnvironment>,
) -> Result<Arc<Database>> {
    let location = Location { store, root: Path::from("db"), name: "test".to_owned() };
    let options = Options { environment, writer: "test".to_owned() };
    Database::open_or_create(location, options).await.map(Arc::new)
}

pub(crate) fn column(
    name: &str,
    column_type: ColumnType,
    function: Option<ValueFunction>,
) -> ColumnSpec {
    ColumnSpec { name: name.to_owned(), column_type, nullable: true, function }
}

pub(crate) fn table(
    name: &str,
    kind: TableKind,
    columns: Vec<ColumnSpec>,
    key: &[&str],
) -> TableSpec {
    TableSpec {
        namespace: "ns".to_owned(),
        name: name.to_owned(),
        kind,
        columns,
        key: key.iter().map(|name| (*name).to_owned()).collect(),
        properties: BTreeMap::new(),
    }
}

/// Two tables of (writer, batch, amount SUM); every batch of [`commit_pair`] adds the same amounts to both.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) a: Arc<TableDef>,
    pub(crate) b: Arc<TableDef>,
}

/// Creates the pair, or what is missing of it after an earlier attempt.
pub(crate) async fn create_pair(database: &Database) -> Result<Pair> {
    match database.create_namespace("ns").await {
        Ok(_) | Err(Error::NamespaceExists { .. }) => {}
        Err(error) => return Err(error),
    }
    let columns = |last: &str| {
        vec![
            column("writer", ColumnType::Utf8, None),
            column("batch", ColumnType::Int64, None),
            column("amount", ColumnType::Int64, Some(ValueFunction::Sum)),
            column(last, ColumnType::Int64, Some(ValueFunction::Replace)),
        ]
    };
    let create = async |spec: TableSpec| match database.create_table(spec).await {
        Ok(_) | Err(Error::TableExists { .. }) => Ok(()),
        Err(error) => Err(error),
    };
    create(table("a", TableKind::Aggregate, columns("x"), &["writer", "batch"])).await?;
    create(table("b", TableKind::Aggregate, columns("y"), &["batch", "writer"])).await?;
    Ok(find_pair(database))
}

/// Gives the first of the pair a rollup by batch, if it has none yet: that is a version of its own.
pub(crate) async fn add_rollup(database: &Database) -> Result<Pair> {
    let columns = vec!["batch".to_owned(), "amount".to_owned()];
    let rollup = Alteration::AddRollup { name: "batches".to_owned(), columns };
    match database.alter_table("ns", "a", &rollup).await {
        Ok(_) | Err(Error::Definition { .. }) => Ok(find_pair(database)),
        Err(error) => Err(error),
    }
}

pub(crate) fn find_pair(database: &Database) -> Pair {
    let state = database.state();
    let def = |name| Arc::clone(&state.table("ns", name).unwrap().def);
    Pair { a: def("a"), b: def("b") }
}

/// Adds 1 under (writer, batch) to both tables, as a feed that may send the batch again.
pub(crate) async fn commit_pair(
    database: &Arc<Database>,
    pair: &Pair,
    writer: &str,
    number: u64,
) -> Result<Committed> {
    let mut batch = pair_batch(database, pair, writer, number)?;
    batch.of_feed(writer, number);
    batch.commit().await
}

/// Returns the batch that adds 1 under (writer, batch) to both tables.
pub(crate) fn pair_batch(
    database: &Arc<Database>,
    pair: &Pair,
    writer: &str,
    number: u64,
) -> Result<Batch> {
    let rows = RecordBatch::try_from_iter([
        ("writer", Arc::new(StringArray::from(vec![writer])) as ArrayRef),
        ("batch", Arc::new(Int64Array::from(vec![i64::try_from(number).unwrap()]))),
        ("amount", Arc::new(Int64Array::from(vec![1]))),
    ])
    .unwrap();
    let mut batch = database.batch();
    batch.insert(&pair.a, rows.clone())?;
    batch.insert(&pair.b, rows)?;
    Ok(batch)
}

/// Returns amounts by (writer, batch) of one table at a version.
pub(crate) async fn amounts(
    database: &Database,
    table: &str,
    version: Version,
) -> BTreeMap<(String, i64), i64> {
    let snapshot = database.snapshot(ReadAt::Version(version)).await.unwrap();
    let table = snapshot.table("ns", table).unwrap();
    let mut found = BTreeMap::new();
    for batch in table.merge(database).await.unwrap() {
        let batch = batch.unwrap();
        let named = |name: &str| batch.column_by_name(name).unwrap();
        let writers = named("writer").as_string::<i32>();
        let numbers = named("batch").as_primitive::<Int64Type>();
        let amounts = named("amount").as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let key = (writers.value(row).to_owned(), numbers.value(row));
            assert!(found.insert(key, amounts.value(row)).is_none(), "a key stands twice");
        }
    }
    found
}

/// Returns amounts by batch of a rollup.
async fn of_rollup(database: &Database, rollup: &TableSnapshot) -> BTreeMap<i64, i64> {
    let mut found = BTreeMap::new();
    for rows in rollup.merge(database).await.unwrap() {
        let rows = rows.unwrap();
        let column = |name: &str| rows.column_by_name(name).unwrap().as_primitive::<Int64Type>();
        let (batches, amounts) = (column("batch").values(), column("amount").values());
        found.extend(batches.iter().copied().zip(amounts.iter().copied()));
    }
    found
}

/// How many random histories are tried: more where a long run asks for them.
pub(crate) fn n_seeds(usual: u64) -> u64 {
    std::env::var("MESHWORK_SEEDS").map_or(usual, |text| text.parse().unwrap())
}

/// How many updates a long history has: more where a long run asks for them.
pub(crate) fn n_updates(usual: u64) -> u64 {
    std::env::var("MESHWORK_UPDATES").map_or(usual, |text| text.parse().unwrap())
}

/// How many random histories are compared with a model.
pub(crate) fn n_cases() -> u32 {
    u32::try_from(n_seeds(60)).unwrap()
}

/// Every acknowledged batch is there exactly once, and both tables and the rollup agree at every version: no half is visible.
pub(crate) async fn check_pair(database: &Database, acknowledged: &[(String, u64)]) {
    let snapshot = database.snapshot(ReadAt::Committed).await.unwrap();
    if snapshot.table("ns", "b").is_err() {
        assert!(acknowledged.is_empty());
        return;
    }
    let mut last = BTreeMap::new();
    for version in database.state().low_water.0..=snapshot.version().0 {
        let a = amounts(database, "a", Version(version)).await;
        let b = amounts(database, "b", Version(version)).await;
        assert_eq!(a, b, "tables differ at version {version}");
        let snapshot = database.snapshot(ReadAt::Version(Version(version))).await.unwrap();
        let table = snapshot.table("ns", "a").unwrap();
        let n_definitions = u64::from(table.def().schema) - 1;
        assert_eq!(a.len() as u64, version - n_definitions, "a version is not one batch");
        let rollups = table.rollups();
        assert_eq!(rollups.len(), table.def().rollups.len(), "a rollup misses version {version}");
        for (_name, rollup) in rollups {
            let mut by_batch = BTreeMap::new();
            for ((_writer, batch), amount) in &a {
                *by_batch.entry(*batch).or_insert(0) += amount;
            }
            assert_eq!(by_batch, of_rollup(database, &rollup).await, "version {version}");
        }
        assert!(a.values().all(|amount| *amount == 1), "a batch was applied twice: {a:?}");
        last = a;
    }
    for (writer, number) in acknowledged {
        let key = (writer.clone(), i64::try_from(*number).unwrap());
        assert!(last.contains_key(&key), "acknowledged batch {key:?} is gone");
    }
}
