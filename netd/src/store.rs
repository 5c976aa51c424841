//! The desired state on disk: an embedded database, one transaction a change.
//!
//! What [`Store::save`] has returned from is on disk, and a crash at any point leaves the state before
//! or after the change, never one between. A database that cannot be read is reported and left as it
//! is, to the byte: it may be all that is left of somebody's networks. Since opening one writes to it, and a
//! repair does so before anything has been read, it is first opened and read as a copy in memory.
//!
//! It also keeps what the host must not forget and nobody configures: the id that its own IPv6 prefix
//! is made from, and the data path's secret.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase as _,
    ReadableTable as _, StorageBackend as _, TableDefinition, TableError, WriteTransaction,
    backends::InMemoryBackend,
};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{
    desired::Desired,
    fail_point,
    ids::{IdSource, random},
    locks::{self, Lock, LockError},
    model::{Endpoint, Network},
    traces::Traces,
};

/// The layout of the tables below. A change that older versions cannot read bumps it.
const SCHEMA: u64 = 1;

const FILE_NAME: &str = "netd.redb";

/// Where a new database is made: half of one would pass for a corrupt one.
const NEW_FILE_NAME: &str = "netd.redb.new";

/// Values are JSON, so that fields can be added.
const NETWORKS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("networks");
const ENDPOINTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("endpoints");
const ALLOWED: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("allowed");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

const SCHEMA_KEY: &str = "schema";
const ULA_KEY: &str = "ula_global_id";
const SECRET_KEYS: [&str; 2] = ["datapath_secret_0", "datapath_secret_1"];

/// The open database. It can be open once at a time.
#[derive(Debug)]
pub struct Store {
    /// None after a failed write: the database has to be opened again then.
    database: Option<Database>,
    path: PathBuf,
    /// A copy in memory needs none.
    _lock: Option<Lock>,
}

/// What the store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub desired: Desired,
    /// The global id of the host's own IPv6 prefix, for [`crate::ipam::ula_prefix`].
    pub ula_global_id: [u8; 5],
    /// The key of the data path's source port hash.
    pub datapath_secret: [u64; 2],
}

/// A change to the desired state.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    PutNetwork(&'a Network),
    /// Takes the network's allowances along.
    RemoveNetwork(&'a str),
    PutEndpoint(&'a Endpoint),
    RemoveEndpoint(&'a str),
    /// A pair as [`Desired::plan_allow`] gives it.
    Allow(&'a str, &'a str),
    Disallow(&'a str, &'a str),
    /// The global id of the host's own IPv6 prefix.
    SetUla([u8; 5]),
}

/// Why the store cannot be opened, read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("the state directory {path} cannot be made: {source}; check --state-dir")]
    Directory { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(
        "there is no store {path}: name the directory of the daemon with --state-dir or --config"
    )]
    Missing { path: PathBuf },
    #[error("{path} is of schema {found}, this netd knows {SCHEMA}: use the netd that wrote it")]
    Schema { path: PathBuf, found: u64 },
    #[error(
        "{path} is corrupt ({source}): restore it from a backup, or move it away to start afresh"
    )]
    Corrupt { path: PathBuf, source: CorruptError },
    #[error("{path} cannot be read: {source}; check its permissions and the disk")]
    Read { path: PathBuf, source: Box<redb::Error> },
    #[error("{path} cannot be written: {source}; check its permissions and the disk")]
    Write { path: PathBuf, source: Box<redb::Error> },
}

impl StoreError {
    /// Whether there is nothing that this netd can read, as opposed to a store that is in use or a disk that refuses
    /// to be written.
    pub fn is_unreadable(&self) -> bool {
        match self {
            Self::Missing { .. }
            | Self::Schema { .. }
            | Self::Corrupt { .. }
            | Self::Read { .. } => true,
            Self::Directory { .. } | Self::Lock(_) | Self::Write { .. } => false,
        }
    }
}

/// What is wrong inside a database.
#[derive(Debug, Error)]
pub enum CorruptError {
    #[error(transparent)]
    Database(Box<redb::Error>),
    #[error("not a database")]
    NotDatabase,
    #[error("{key} is missing")]
    Missing { key: &'static str },
    #[error("{table} {key} cannot be decoded: {source}")]
    Value { table: &'static str, key: String, source: serde_json::Error },
    #[error("endpoint {endpoint} is on network {network}, which is missing")]
    NoNetwork { endpoint: String, network: String },
    #[error("the database's own structure is damaged")]
    Structure,
}

impl Store {
    /// Opens the store of a state directory, and makes both where they do not exist.
    ///
    /// # Errors
    /// Where the database is in use, of another schema, or cannot be read.
    pub fn open(
        state_dir: &Path,
        ids: &mut dyn IdSource,
        traces: &mut Traces,
    ) -> Result<Self, StoreError> {
        let path = state_dir.join(FILE_NAME);
        let directory_error = |source| StoreError::Directory { path: state_dir.to_owned(), source };
        traces.directory(state_dir);
        create_dir(state_dir).map_err(directory_error)?;
        let lock = locks::state(state_dir)?;
        match Self::copy_of(&path)? {
            Some(mut copy) => drop(copy.load()?),
            None => {
                traces.file(state_dir.join(NEW_FILE_NAME));
                create(state_dir, ids)?;
                traces.file(path.clone());
            }
        }
        let mut store = Self { database: None, path, _lock: Some(lock) };
        store.database()?;
        store.secure()?;
        Ok(store)
    }

    /// Reads the store of a state directory whose daemon does not run, and changes nothing.
    ///
    /// # Errors
    /// Where there is none, or it is in use, of another schema, or cannot be read.
    pub fn read(state_dir: &Path) -> Result<Stored, StoreError> {
        let path = state_dir.join(FILE_NAME);
        if !path.exists() {
            return Err(StoreError::Missing { path });
        }
        let _lock = locks::state(state_dir)?;
        Self::copy_of(&path)?.ok_or(StoreError::Missing { path })?.load()
    }

    /// Checks that this netd knows the schema of a store, be it in use.
    ///
    /// # Errors
    /// Where it does not. A store in use may be caught between two states; whoever opens it reads all of it.
    pub fn check_schema(state_dir: &Path) -> Result<(), StoreError> {
        let read =
            || Self::copy_of(&state_dir.join(FILE_NAME))?.map(|mut copy| copy.load()).transpose();
        match read() {
            Err(error @ StoreError::Schema { .. }) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// A copy in memory of a database; none where there is no database yet.
    fn copy_of(path: &Path) -> Result<Option<Self>, StoreError> {
        let error = |source: io::Error| read_error(path, source.into());
        let bytes = match fs::read(path) {
            Ok(bytes) if bytes.is_empty() => return Ok(None),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(error(source)),
        };
        let database = guarded(path, || {
            let backend = InMemoryBackend::new();
            let copied =
                backend.set_len(bytes.len() as u64).and_then(|()| backend.write(0, &bytes));
            copied.map_err(error)?;
            let database = Database::builder().create_with_backend(backend);
            checked(path, database.map_err(|e| open_error(path, e))?)
        })?;
        Ok(Some(Self { database: Some(database), path: path.to_owned(), _lock: None }))
    }

    /// The open database.
    fn database(&mut self) -> Result<&Database, StoreError> {
        let path = &self.path;
        let database = match self.database.take() {
            Some(database) => database,
            None => guarded(path, || {
                checked(path, Database::create(path).map_err(|e| open_error(path, e))?)
            })?,
        };
        Ok(self.database.insert(database))
    }

    /// Reads everything.
    ///
    /// # Errors
    /// Where the database is of another schema or corrupt.
    pub fn load(&mut self) -> Result<Stored, StoreError> {
        let transaction = self.begin_read()?;
        guarded(&self.path, || self.read_all(&transaction))
    }

    fn begin_read(&mut self) -> Result<ReadTransaction, StoreError> {
        let transaction = self.database()?.begin_read();
        transaction.map_err(|error| self.read_error(error))
    }

    /// Writes changes, all or none; they are on disk when this returns.
    ///
    /// # Errors
    /// Where the disk refuses. Nothing has changed then.
    pub fn save(&mut self, changes: &[Change<'_>]) -> Result<(), StoreError> {
        self.write(|transaction| changes.iter().try_for_each(|change| apply(transaction, *change)))
    }

    fn secure(&self) -> Result<(), StoreError> {
        let error = |source| StoreError::Directory { path: self.path.clone(), source };
        fs::set_permissions(&self.path, Permissions::from_mode(0o600)).map_err(error)
    }

    /// Writes the schema and the secrets into a new database.
    fn initialise(&mut self, ids: &mut dyn IdSource) -> Result<(), StoreError> {
        let [a, b, c, d, e] = random(ids);
        let ula = ula_value([a, b, c, d, e]);
        let secret = SECRET_KEYS.map(|key| (key, u64::from_le_bytes(random(ids))));
        self.write(|transaction| {
            transaction.open_table(NETWORKS)?;
            transaction.open_table(ENDPOINTS)?;
            transaction.open_table(ALLOWED)?;
            let mut meta = transaction.open_table(META)?;
            for (key, value) in [(SCHEMA_KEY, SCHEMA), (ULA_KEY, ula)].into_iter().chain(secret) {
                meta.insert(key, value)?;
            }
            Ok(())
        })
    }

    fn write(
        &mut self,
        change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let path = self.path.clone();
        let database = self.database()?;
        let write = || {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            change(&transaction)?;
            fail_point::before_step();
            transaction.commit()?;
            fail_point::before_step();
            Ok(())
        };
        let error = |source| StoreError::Write { path: path.clone(), source: Box::new(source) };
        let result = guarded(&path, || write().map_err(error));
        if result.is_err() {
            // After an I/O error redb refuses everything until it is opened again; the disk may have
            // room by then.
            self.database = None;
        }
        result
    }

    fn read_all(&self, transaction: &ReadTransaction) -> Result<Stored, StoreError> {
        let meta = transaction.open_table(META).map_err(|e| self.table_error(e, "meta"))?;
        let get = |key| {
            let value = meta.get(key).map_err(|e| self.read_error(e))?;
            value
                .map(|value| value.value())
                .ok_or_else(|| self.corrupt(CorruptError::Missing { key }))
        };
        let found = get(SCHEMA_KEY)?;
        if found != SCHEMA {
            return Err(StoreError::Schema { path: self.path.clone(), found });
        }
        let [_, _, _, ula_global_id @ ..] = get(ULA_KEY)?.to_be_bytes();
        let datapath_secret = [get(SECRET_KEYS[0])?, get(SECRET_KEYS[1])?];

        let networks =
            transaction.open_table(NETWORKS).map_err(|e| self.table_error(e, "networks"))?;
        let networks: Vec<Network> = self.values(&networks, "network")?;
        let endpoints =
            transaction.open_table(ENDPOINTS).map_err(|e| self.table_error(e, "endpoints"))?;
        let endpoints: Vec<Endpoint> = self.values(&endpoints, "endpoint")?;
        let allowed =
            transaction.open_table(ALLOWED).map_err(|e| self.table_error(e, "allowed"))?;
        let mut pairs = BTreeSet::new();
        for entry in allowed.iter().map_err(|e| self.read_error(e))? {
            let (pair, ()) = entry.map(|(pair, _)| (pair, ())).map_err(|e| self.read_error(e))?;
            let (a, b) = pair.value();
            pairs.insert((a.to_owned(), b.to_owned()));
        }
        let desired = Desired::new(
            networks.into_iter().map(|network| (network.name.clone(), network)).collect(),
            endpoints.into_iter().map(|endpoint| (endpoint.name.clone(), endpoint)).collect(),
            pairs,
        );
        self.check_references(&desired)?;
        Ok(Stored { desired, ula_global_id, datapath_secret })
    }

    fn values<T: DeserializeOwned>(
        &self,
        table: &impl redb::ReadableTable<&'static str, &'static [u8]>,
        name: &'static str,
    ) -> Result<Vec<T>, StoreError> {
        let mut values = Vec::new();
        for entry in table.iter().map_err(|e| self.read_error(e))? {
            let (key, value) = entry.map_err(|e| self.read_error(e))?;
            values.push(serde_json::from_slice(value.value()).map_err(|source| {
                let key = key.value().to_owned();
                self.corrupt(CorruptError::Value { table: name, key, source })
            })?);
        }
        Ok(values)
    }

    fn check_references(&self, desired: &Desired) -> Result<(), StoreError> {
        let mut endpoints = desired.endpoints.values();
        match endpoints.find(|endpoint| !desired.networks.contains_key(&endpoint.network)) {
            None => Ok(()),
            Some(endpoint) => Err(self.corrupt(CorruptError::NoNetwork {
                endpoint: endpoint.name.clone(),
                network: endpoint.network.clone(),
            })),
        }
    }

    fn read_error(&self, error: impl Into<redb::Error>) -> StoreError {
        read_error(&self.path, error.into())
    }

    fn table_error(&self, error: TableError, key: &'static str) -> StoreError {
        if matches!(error, TableError::TableDoesNotExist(_)) {
            self.corrupt(CorruptError::Missing { key })
        } else {
            self.read_error(error)
        }
    }

    fn corrupt(&self, source: CorruptError) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), source }
    }
}

/// Makes the database of a state directory, all of it or none.
fn create(state_dir: &Path, ids: &mut dyn IdSource) -> Result<(), StoreError> {
    let path = state_dir.join(NEW_FILE_NAME);
    let directory_error = |source| StoreError::Directory { path: state_dir.to_owned(), source };
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(directory_error(error));
        }
        Ok(()) | Err(_) => {}
    }
    let mut store = Store { database: None, path: path.clone(), _lock: None };
    store.database()?;
    store.secure()?;
    store.initialise(ids)?;
    // Closing it writes.
    drop(store);
    let renamed = fs::rename(&path, state_dir.join(FILE_NAME));
    renamed.and_then(|()| File::open(state_dir)?.sync_all()).map_err(directory_error)
}

/// A database whose pages are whole.
fn checked(path: &Path, mut database: Database) -> Result<Database, StoreError> {
    // Reading trusts the pages; only this compares their checksums.
    if !database.check_integrity().map_err(|e| open_error(path, e))? {
        tracing::warn!(path = %path.display(), "the store was damaged and is repaired");
    }
    Ok(database)
}

/// A global id as it is stored.
fn ula_value([a, b, c, d, e]: [u8; 5]) -> u64 {
    u64::from_be_bytes([0, 0, 0, a, b, c, d, e])
}

fn create_dir(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        result => result,
    }
}

fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
        let path = path.parent().unwrap_or(path).to_owned();
        return StoreError::Lock(LockError::State { path });
    }
    let error = redb::Error::from(error);
    if matches!(&error, redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData) {
        return StoreError::Corrupt { path: path.to_owned(), source: CorruptError::NotDatabase };
    }
    read_error(path, error)
}

fn read_error(path: &Path, error: redb::Error) -> StoreError {
    let (path, source) = (path.to_owned(), Box::new(error));
    if matches!(*source, redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_)) {
        StoreError::Corrupt { path, source: CorruptError::Database(source) }
    } else {
        StoreError::Read { path, source }
    }
}

/// Turns a panic of the database, which asserts its own structure, into an error.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(StoreError::Corrupt { path: path.to_owned(), source: CorruptError::Structure })
    })
}

fn apply(transaction: &WriteTransaction, change: Change<'_>) -> Result<(), redb::Error> {
    match change {
        Change::PutNetwork(network) => put(transaction, NETWORKS, &network.name, network)?,
        Change::RemoveNetwork(name) => {
            transaction.open_table(NETWORKS)?.remove(name)?;
            transaction.open_table(ALLOWED)?.retain(|(a, b), ()| a != name && b != name)?;
        }
        Change::PutEndpoint(endpoint) => put(transaction, ENDPOINTS, &endpoint.name, endpoint)?,
        Change::RemoveEndpoint(name) => {
            transaction.open_table(ENDPOINTS)?.remove(name)?;
        }
        Change::Allow(a, b) => {
            transaction.open_table(ALLOWED)?.insert((a, b), ())?;
        }
        Change::Disallow(a, b) => {
            transaction.open_table(ALLOWED)?.remove((a, b))?;
        }
        Change::SetUla(id) => {
            transaction.open_table(META)?.insert(ULA_KEY, ula_value(id))?;
        }
    }
    Ok(())
}

fn put(
    transaction: &WriteTransaction,
    table: TableDefinition<'_, &str, &[u8]>,
    name: &str,
    value: &impl Serialize,
) -> Result<(), redb::Error> {
    let json = serde_json::to_vec(value).map_err(|error| redb::Error::Io(error.into()))?;
    transaction.open_table(table)?.insert(name, json.as_slice())?;
    Ok(())
}

#[cfg(test)]
mod tests;
