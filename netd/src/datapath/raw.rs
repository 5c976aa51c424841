//! Maps whose keys and values are bytes to this build, since another one has made them.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

use aya::{
    maps::{MapData, MapError, MapInfo, MapType},
    util::nr_cpus,
};
use nix::libc;

use super::batch;

/// Commands of `linux/bpf.h`.
const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;

/// The arm of `union bpf_attr` for single elements.
#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// A map, and the lengths of what it holds. Units: bytes.
pub(super) struct RawMap {
    map: MapData,
    key_len: usize,
    value_len: usize,
    /// From one CPU's value to the next one's.
    stride: usize,
    /// How many CPUs have a value of their own.
    cpus: usize,
    max_entries: u32,
}

impl RawMap {
    /// Opens a map by its pin.
    pub(super) fn open(path: &Path) -> Result<Self, MapError> {
        let map = MapData::from_pin(path)?;
        let info = MapInfo::from_pin(path)?;
        let (key_len, value_len) = (info.key_size() as usize, info.value_size() as usize);
        let (stride, cpus) = if info.map_type()? == MapType::PerCpuArray {
            let cpus = nr_cpus().map_err(|(_, source)| MapError::IoError(source))?;
            (value_len.next_multiple_of(size_of::<u64>()), cpus)
        } else {
            (value_len, 1)
        };
        Ok(Self { map, key_len, value_len, stride, cpus, max_entries: info.max_entries() })
    }

    /// The lengths of keys and values.
    pub(super) fn lens(&self) -> (usize, usize) {
        (self.key_len, self.value_len)
    }

    /// How far apart the CPUs' values are.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// How many elements it has room for.
    pub(super) fn max_entries(&self) -> u32 {
        self.max_entries
    }

    /// The value of a key, or the values that CPUs have, one after the other.
    pub(super) fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0; self.stride * self.cpus];
        match self.element(BPF_MAP_LOOKUP_ELEM, key, &mut value) {
            Ok(()) => Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a value in the place of a key's.
    pub(super) fn set(&self, key: &[u8], value: &mut [u8]) -> io::Result<()> {
        self.element(BPF_MAP_UPDATE_ELEM, key, value)
    }

    fn element(&self, command: libc::c_int, key: &[u8], value: &mut [u8]) -> io::Result<()> {
        let lens = (self.key_len, self.stride * self.cpus);
        assert_eq!((key.len(), value.len()), lens, "of another map");
        let mut attr = ElementAttr {
            map_fd: self.map.fd().as_fd().as_raw_fd() as u32,
            padding: 0,
            key: key.as_ptr() as usize as u64,
            value: value.as_mut_ptr() as usize as u64,
            flags: 0,
        };
        // SAFETY: the attribute has the layout of the kernel's, and its pointers lead to memory of the lengths that
        // the map has, for all CPUs.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, command, &raw mut attr, size_of::<ElementAttr>())
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Hands the elements of a map without values for each CPU to `visit`, one by one.
    pub(super) fn for_each(
        &self,
        mut visit: impl FnMut(&[u8], &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut result = Ok(());
        batch::for_each_chunk_of(&self.map, self.key_len, self.value_len, |keys, values| {
            let elements = keys.chunks_exact(self.key_len).zip(values.chunks_exact(self.value_len));
            result = elements.into_iter().try_for_each(|(key, value)| visit(key, value));
            result.is_ok()
        })?;
        result
    }
}
