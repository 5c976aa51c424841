//! A crash at any moment: what a disk may hold then, of what was written and not yet synchronised.

use std::sync::{Arc, Mutex};

use redb::{Database, StorageBackend, backends::InMemoryBackend};

use super::{
    super::{Change, Store, Stored, checked},
    sample,
};
use crate::{ids::Counting, model::Network};

/// What a database has asked its file for.
#[derive(Clone, Debug)]
enum Operation {
    SetLen(u64),
    Write(u64, Vec<u8>),
    Sync,
}

/// A file in memory that remembers how it came to be.
#[derive(Debug)]
struct Recorder {
    file: InMemoryBackend,
    log: Arc<Mutex<Vec<Operation>>>,
}

impl Recorder {
    fn note(&self, operation: Operation) {
        self.log.lock().unwrap().push(operation);
    }
}

impl StorageBackend for Recorder {
    fn len(&self) -> std::io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.note(Operation::SetLen(len));
        self.file.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.note(Operation::Sync);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.note(Operation::Write(offset, data.to_vec()));
        self.file.write(offset, data)
    }
}

fn store(file: impl StorageBackend) -> Result<Store, super::StoreError> {
    let database = Database::builder().create_with_backend(file).unwrap();
    let database = checked("memory".as_ref(), database)?;
    Ok(Store { database: Some(database), path: "memory".into(), _lock: None })
}

/// What is on a disk after these operations; of the last ones, which were not synchronised, those that are
/// kept.
fn file_after(operations: &[Operation], is_kept: impl Fn(usize) -> bool) -> InMemoryBackend {
    let is_sync = |operation: &Operation| matches!(operation, Operation::Sync);
    let synchronised = operations.iter().rposition(is_sync).unwrap_or(0);
    let file = InMemoryBackend::new();
    for (at, operation) in operations.iter().enumerate() {
        match operation {
            // A file's length is the file system's own business, which keeps it in order.
            Operation::SetLen(len) => file.set_len(*len).unwrap(),
            Operation::Write(offset, data) if at < synchronised || is_kept(at - synchronised) => {
                file.write(*offset, data).unwrap();
            }
            Operation::Write(..) | Operation::Sync => {}
        }
    }
    file
}

fn networks(network: &Network) -> Vec<Network> {
    let name = |n: u16| Network { name: format!("n{n}"), number: n, ..network.clone() };
    (1..=20).map(name).collect()
}

#[test]
fn a_crash_leaves_the_state_before_or_after_a_change() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let mut recorded =
        store(Recorder { file: InMemoryBackend::new(), log: Arc::clone(&log) }).unwrap();
    recorded.initialise(&mut Counting::default()).unwrap();
    let len = || log.lock().unwrap().len();
    let mut states: Vec<(usize, Stored)> = vec![(len(), recorded.load().unwrap())];
    let (network, endpoint) = sample();
    let networks = networks(&network);
    let all: Vec<Change<'_>> = networks.iter().map(Change::PutNetwork).collect();
    for changes in [
        &[Change::PutNetwork(&network), Change::PutEndpoint(&endpoint)][..],
        &all,
        &[Change::Allow("front", "n1"), Change::SetUla([7; 5])],
        &[Change::RemoveEndpoint("web"), Change::RemoveNetwork("front")],
    ] {
        recorded.save(changes).unwrap();
        states.push((len(), recorded.load().unwrap()));
    }
    drop(recorded);
    let log = log.lock().unwrap();
    for end in states[0].0..=log.len() {
        let saved = states.iter().rposition(|(at, _)| *at <= end).unwrap();
        let allowed: Vec<&Stored> =
            states[saved..].iter().take(2).map(|(_, state)| state).collect();
        // Nothing of what is not synchronised, everything, every second, and all but one.
        let kept: [fn(usize) -> bool; 5] =
            [|_| false, |_| true, |at| at % 2 == 0, |at| at % 2 == 1, |at| at != 1];
        for (way, is_kept) in kept.into_iter().enumerate() {
            let mut after = store(file_after(&log[..end], is_kept)).unwrap();
            let state = after.load().unwrap();
            assert!(allowed.contains(&&state), "crash at {end}, way {way}");
        }
    }
}
