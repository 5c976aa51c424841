//! Reads a map in batches: one system call for thousands of elements where aya's iterator takes two
//! for each. (aya 0.14 has no call for it.)

use std::{
    io, mem,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{Pod, maps::MapData};
use bytemuck::cast_slice;
use nix::libc;

/// Elements asked for at once. A hash bucket is never split, so it must hold the longest one.
const CHUNK: usize = 4096;

/// `BPF_MAP_LOOKUP_BATCH` of `linux/bpf.h`, since 5.6.
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;

/// The `batch` arm of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Hands every element of the map to `visit`, a chunk at a time; `false` from it ends the walk.
///
/// Elements that come or go meanwhile may or may not be seen; none is seen twice.
pub(super) fn for_each_chunk<K: Pod, V: Pod>(
    map: &MapData,
    mut visit: impl FnMut(&[K], &[V]) -> bool,
) -> io::Result<()> {
    for_each_chunk_of(map, size_of::<K>(), size_of::<V>(), |keys, values| {
        // SAFETY: the bytes are of whole elements of the map's own sizes, which are those of the types: the map was
        // made by this ABI version's object. `Pod` types take any bytes, and the memory is aligned for all of them.
        let (keys, values) = unsafe { (elements(keys), elements(values)) };
        visit(keys, values)
    })
}

/// # Safety
/// `bytes` must be aligned for `T`, and hold whole ones.
unsafe fn elements<T>(bytes: &[u8]) -> &[T] {
    // SAFETY: by the contract above.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<T>()) }
}

/// The same for elements of these lengths. What is handed over is aligned for words.
pub(super) fn for_each_chunk_of(
    map: &MapData,
    key_len: usize,
    value_len: usize,
    mut visit: impl FnMut(&[u8], &[u8]) -> bool,
) -> io::Result<()> {
    let words = |len: usize| vec![0_u64; (CHUNK * len).div_ceil(size_of::<u64>())];
    let (mut keys, mut values) = (words(key_len), words(value_len));
    // The kernel's cursor: the number of a hash map's bucket, or an array's index.
    let (mut cursor, mut next) = (0_u32, 0_u32);
    let mut is_first = true;
    loop {
        let mut attr = BatchAttr {
            in_batch: if is_first { 0 } else { address_of(&raw mut cursor) },
            out_batch: address_of(&raw mut next),
            keys: address_of(keys.as_mut_ptr()),
            values: address_of(values.as_mut_ptr()),
            count: CHUNK as u32,
            map_fd: map.fd().as_fd().as_raw_fd() as u32,
            ..BatchAttr::default()
        };
        let result = lookup_batch(&mut attr);
        let is_last = match &result {
            Ok(()) => false,
            // The kernel's way to say that this was the last chunk.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(_) => return result,
        };
        let count = (attr.count as usize).min(CHUNK);
        let (found, with) = (cast_slice(&keys), cast_slice(&values));
        if !visit(&found[..count * key_len], &with[..count * value_len]) || is_last {
            return Ok(());
        }
        (cursor, is_first) = (next, false);
    }
}

fn address_of<T>(pointer: *mut T) -> u64 {
    pointer as usize as u64
}

fn lookup_batch(attr: &mut BatchAttr) -> io::Result<()> {
    // SAFETY: the attribute has the layout of the kernel's, and its pointers lead to memory of the
    // lengths that the count and the map's sizes say.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_LOOKUP_BATCH,
            &raw mut *attr,
            mem::size_of::<BatchAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
