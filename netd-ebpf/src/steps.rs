//! The steps of the engine that many paths lead to, each a global function: the verifier checks it once, by
//! itself, and not with all that may have been before. Arguments are numbers and memory of a known length; a
//! pointer may be null, as far as the verifier knows. Keys are copied to the stack: before Linux 6.2 maps take
//! none from such memory.

use core::ptr::NonNull;

use aya_ebpf::bindings::__sk_buff;
use netd_common::{
    address::{Port, V4, V6},
    conntrack::{CtEntry, CtKey},
    engine,
    published::PublishedPort,
    reason::Reason,
};

use crate::{
    maps::FamilyMaps,
    tables::{KernelFlow, KernelTables},
    words::{copy, load},
};

/// The steps of one address family.
pub(crate) trait FamilySteps: FamilyMaps {
    /// [`engine::insert_pair`] on the scratch memory; 0, or the number of the reason.
    fn insert_pair(skb: *mut __sk_buff) -> u32;
    /// [`engine::is_over`].
    fn is_over(key: *const CtKey<Self>, half: *mut CtEntry<Self>, also: u32) -> u32;
    /// [`engine::forget`]; 0 where it did not.
    fn forget(key: *const CtKey<Self>, half: *mut CtEntry<Self>, over: u32) -> u32;
    /// [`engine::find_published`]; 0 where there is none, else it is in `found`.
    fn find_published(
        addr: *const Self,
        proto: u32,
        port: u32,
        found: *mut PublishedPort<Self>,
    ) -> u32;
}

macro_rules! family_steps {
    ($family:ty: $insert_pair:ident, $is_over:ident, $forget:ident, $find_published:ident) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $insert_pair(skb: *mut __sk_buff) -> u32 {
            let Some(scratch) = <$family>::scratch().get_ptr_mut(0) else {
                return Reason::NoMemory as u32;
            };
            // SAFETY: the element is this CPU's own, and the caller is the only one to use it.
            let scratch = unsafe { &mut *scratch };
            match engine::insert_pair::<$family, _>(&KernelTables::new(skb), scratch) {
                Ok(()) => 0,
                Err(reason) => reason as u32,
            }
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $is_over(
            key: *const CtKey<$family>,
            half: *mut CtEntry<$family>,
            also: u32,
        ) -> u32 {
            let (Some(key), Some(half)) = (NonNull::new(key.cast_mut()), NonNull::new(half)) else {
                return engine::LIVE;
            };
            // SAFETY: who calls has a key, which is made for maps.
            let (key, half) = (unsafe { load(key) }, KernelFlow::new(half));
            engine::is_over(&KernelTables::without_packet(), &key, half, also as u16)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $forget(
            key: *const CtKey<$family>,
            half: *mut CtEntry<$family>,
            over: u32,
        ) -> u32 {
            let (Some(key), Some(half)) = (NonNull::new(key.cast_mut()), NonNull::new(half)) else {
                return 0;
            };
            // SAFETY: as above.
            let (key, half) = (unsafe { load(key) }, KernelFlow::new(half));
            engine::forget(&KernelTables::without_packet(), &key, half, over).into()
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $find_published(
            addr: *const $family,
            proto: u32,
            port: u32,
            found: *mut PublishedPort<$family>,
        ) -> u32 {
            // SAFETY: who calls has both.
            let (Some(addr), Some(found)) = (unsafe { addr.as_ref() }, unsafe { found.as_mut() })
            else {
                return 0;
            };
            let (tables, port) = (KernelTables::without_packet(), Port::from_wire(port as u16));
            match engine::find_published(&tables, *addr, proto as u8, port) {
                Some(published) => {
                    // SAFETY: it is an element of a map.
                    unsafe { copy(published, found) };
                    1
                }
                None => 0,
            }
        }

        impl FamilySteps for $family {
            #[inline(always)]
            fn insert_pair(skb: *mut __sk_buff) -> u32 {
                $insert_pair(skb)
            }
            #[inline(always)]
            fn is_over(key: *const CtKey<Self>, half: *mut CtEntry<Self>, also: u32) -> u32 {
                $is_over(key, half, also)
            }
            #[inline(always)]
            fn forget(key: *const CtKey<Self>, half: *mut CtEntry<Self>, over: u32) -> u32 {
                $forget(key, half, over)
            }
            #[inline(always)]
            fn find_published(
                addr: *const Self,
                proto: u32,
                port: u32,
                found: *mut PublishedPort<Self>,
            ) -> u32 {
                $find_published(addr, proto, port, found)
            }
        }
    };
}

family_steps!(V4: insert_pair_v4, is_over_v4, forget_v4, find_published_v4);
family_steps!(V6: insert_pair_v6, is_over_v6, forget_v6, find_published_v6);
