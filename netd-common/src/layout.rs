//! What is where in the keys and values of the tables that programs write: a netd of another layout reads them by
//! the names of their fields. A field that gets another meaning gets another name.

use core::mem::offset_of;

use crate::{
    address::{V4, V6},
    config::DatapathConfig,
    conntrack::{CtEntry, CtKey},
    counters::{Counter, Traffic},
};

/// A field's place. Units: bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Where it begins.
    pub offset: usize,
    /// How long it is.
    pub len: usize,
}

/// A type that maps hold.
pub trait Fields {
    /// All of its fields.
    const FIELDS: &'static [Field];
}

/// The length of what a function leads to.
const fn len_of<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

macro_rules! fields {
    ($($ty:ty { $($(#[$attribute:meta])? $field:ident)+ })+) => {$(
        impl Fields for $ty {
            const FIELDS: &'static [Field] = &[$($(#[$attribute])? Field {
                name: stringify!($field),
                offset: offset_of!($ty, $field),
                len: len_of(|value: &$ty| &value.$field),
            }),+];
        }
        const _: () = {
            let (mut index, mut sum) = (0, 0);
            while index < <$ty>::FIELDS.len() {
                sum += <$ty>::FIELDS[index].len;
                index += 1;
            }
            assert!(sum == size_of::<$ty>());
        };
    )+};
}

fields! {
    CtKey<V4> { src dst sport dport proto scope zone }
    CtKey<V6> { src dst sport dport proto scope zone }
    CtEntry<V4> {
        #[cfg(feature = "other-layout")] moved
        new_src new_dst new_sport new_dport redirect last_seen_secs created_secs slot endpoint_slot generation network
        flags seen peer_scope mtu peer_seen reserved packets bytes
    }
    CtEntry<V6> {
        #[cfg(feature = "other-layout")] moved
        new_src new_dst new_sport new_dport redirect last_seen_secs created_secs slot endpoint_slot generation network
        flags seen peer_scope mtu peer_seen reserved packets bytes
    }
    DatapathConfig { netns_cookie secret timeout_secs flags max_flows }
    Counter { packets bytes }
    Traffic { received sent flows }
}
