//! A map and what it holds, brought to what it should hold by the fewest writes.

use std::{borrow::Borrow, collections::BTreeMap};

use aya::{
    Pod,
    maps::{Array, HashMap, LpmTrie, MapData, MapError, lpm_trie::Key},
};
use bytemuck::Zeroable;

use super::batch;
use crate::fail_point;

/// A kind of map that can be written element by element.
pub(super) trait Table<K, V> {
    /// Everything that it holds; `raw` is the same map.
    fn read(&self, raw: &MapData) -> Result<BTreeMap<K, V>, MapError>;
    /// Writes an element.
    fn put(&mut self, key: &K, value: &V) -> Result<(), MapError>;
    /// Removes an element.
    fn delete(&mut self, key: &K) -> Result<(), MapError>;
}

impl<K: Pod + Ord, V: Pod> Table<K, V> for HashMap<MapData, K, V> {
    /// In batches: one element after the other takes two system calls for each.
    fn read(&self, raw: &MapData) -> Result<BTreeMap<K, V>, MapError> {
        let mut held = BTreeMap::new();
        let read = batch::for_each_chunk(raw, |keys: &[K], values: &[V]| {
            held.extend(keys.iter().copied().zip(values.iter().copied()));
            true
        });
        read.map_err(MapError::IoError)?;
        Ok(held)
    }

    fn put(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        self.insert(key, value, 0)
    }

    fn delete(&mut self, key: &K) -> Result<(), MapError> {
        gone_is_fine(self.remove(key))
    }
}

/// Prefixes, keyed with their length in bits.
impl<K: Pod + Ord, V: Pod> Table<(u32, K), V> for LpmTrie<MapData, K, V> {
    fn read(&self, _: &MapData) -> Result<BTreeMap<(u32, K), V>, MapError> {
        let with_length = |(key, value): (Key<K>, V)| ((key.prefix_len(), key.data()), value);
        self.iter().map(|element| element.map(with_length)).collect()
    }

    fn put(&mut self, (bits, key): &(u32, K), value: &V) -> Result<(), MapError> {
        self.insert(&Key::new(*bits, *key), value, 0)
    }

    fn delete(&mut self, (bits, key): &(u32, K)) -> Result<(), MapError> {
        gone_is_fine(self.remove(&Key::new(*bits, *key)))
    }
}

/// An array holds an element where it is not zero.
impl<V: Pod + Zeroable + PartialEq> Table<u32, V> for Array<MapData, V> {
    fn read(&self, raw: &MapData) -> Result<BTreeMap<u32, V>, MapError> {
        let mut held = BTreeMap::new();
        let read = batch::for_each_chunk(raw, |keys: &[u32], values: &[V]| {
            let elements = keys.iter().copied().zip(values.iter().copied());
            held.extend(elements.filter(|(_, value)| *value != V::zeroed()));
            true
        });
        read.map_err(MapError::IoError)?;
        Ok(held)
    }

    fn put(&mut self, key: &u32, value: &V) -> Result<(), MapError> {
        self.set(*key, Borrow::<V>::borrow(value), 0)
    }

    fn delete(&mut self, key: &u32) -> Result<(), MapError> {
        self.set(*key, V::zeroed(), 0)
    }
}

fn gone_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        result => result,
    }
}

/// A map together with its contents.
pub(super) struct Synced<M, K, V> {
    map: M,
    held: BTreeMap<K, V>,
}

impl<M: Table<K, V>, K: Ord + Clone, V: PartialEq + Clone> Synced<M, K, V> {
    /// The map with whatever an earlier daemon has left in it.
    pub(super) fn new(map: M, raw: &MapData) -> Result<Self, MapError> {
        let held = map.read(raw)?;
        Ok(Self { map, held })
    }

    /// What it holds.
    pub(super) fn contents(&self) -> &BTreeMap<K, V> {
        &self.held
    }

    /// Writes the elements that are missing or different.
    pub(super) fn put_missing(&mut self, wanted: &BTreeMap<K, V>) -> Result<(), MapError> {
        for (key, value) in wanted {
            if self.held.get(key) != Some(value) {
                fail_point::before_step();
                self.map.put(key, value)?;
                self.held.insert(key.clone(), value.clone());
            }
        }
        Ok(())
    }

    /// Removes the elements that are not wanted.
    pub(super) fn remove_others(&mut self, wanted: &BTreeMap<K, V>) -> Result<(), MapError> {
        let others: Vec<K> =
            self.held.keys().filter(|key| !wanted.contains_key(key)).cloned().collect();
        for key in others {
            fail_point::before_step();
            self.map.delete(&key)?;
            self.held.remove(&key);
        }
        Ok(())
    }
}
