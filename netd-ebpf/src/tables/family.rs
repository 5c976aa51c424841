//! The tables of one address family.

use core::{hint::black_box, mem::MaybeUninit, ptr::NonNull};

use aya_ebpf::{bindings::BPF_NOEXIST, maps::lpm_trie::Key};
use netd_common::{
    address::Port,
    conntrack::{CtEntry, CtKey, NewFlow},
    fragment::{FirstFragment, FragmentKey},
    network::{Endpoint, HostAddressFlags, MasqueradeKey},
    parse::Ip,
    published::{PublishedPort, PublishedPortKey, PublishedRangeKey},
    reason::Reason,
    tables::{FamilyTables, InsertError, Route, Socket, SocketTuple, Work},
};

use super::{KernelTables, flow::KernelFlow, socket};
use crate::{
    route,
    steps::FamilySteps,
    words::{copy, fill},
};

/// The bits of an interface index, which are matched in full.
const IFINDEX_BITS: u32 = 32;
/// The bits of a port.
const PORT_BITS: u32 = 16;
/// `EEXIST` of `asm-generic/errno-base.h`, as helpers return it.
const EEXIST: i32 = -17;

impl<A: FamilySteps> FamilyTables<A> for KernelTables {
    type Flow = KernelFlow<A>;

    #[inline(always)]
    fn flow(&self, key: &CtKey<A>) -> Option<Self::Flow> {
        A::conntrack().get_ptr_mut(key).and_then(NonNull::new).map(KernelFlow::new)
    }

    #[inline(always)]
    fn insert_flow(&self, key: &CtKey<A>, entry: &CtEntry<A>) -> Result<(), InsertError> {
        A::conntrack().insert(key, entry, u64::from(BPF_NOEXIST)).map_err(|errno| match errno {
            EEXIST => InsertError::Exists,
            _ => InsertError::Full,
        })
    }

    #[inline(always)]
    fn remove_flow(&self, key: &CtKey<A>) {
        // That there is none is as well.
        let _ = A::conntrack().remove(key);
    }

    #[inline(always)]
    fn remember_young_flow(&self, index: u32, key: &CtKey<A>) {
        if let Some(place) = A::young_flows().get_ptr_mut(index) {
            // SAFETY: the element is as large as a key; another CPU may write to it meanwhile, and what
            // comes of it is a key that no flow has, or that of another flow.
            unsafe { *place = *key };
        }
    }

    #[inline(always)]
    fn recall_young_flow(&self, index: u32, key: &mut CtKey<A>) -> bool {
        match A::young_flows().get(index) {
            Some(found) => {
                // SAFETY: the table's keys are made for maps.
                unsafe { copy(found, key) };
                true
            }
            None => false,
        }
    }

    #[inline(always)]
    fn with_work<R>(&self, run: impl FnOnce(&mut Work<A>) -> R) -> Option<R> {
        // SAFETY: as below.
        A::work().get_ptr_mut(0).map(|work| run(unsafe { &mut *work }))
    }

    #[inline(always)]
    fn describe_flow(&self, fill: impl FnOnce(&mut NewFlow<A>)) {
        if let Some(scratch) = A::scratch().get_ptr_mut(0) {
            // SAFETY: the element is this CPU's own; classifiers run with bottom halves off, so no
            // other one comes between.
            fill(unsafe { &mut (*scratch).new });
        }
    }

    #[inline(always)]
    fn with_description<R>(&self, run: impl FnOnce(&mut NewFlow<A>) -> R) -> Option<R> {
        // SAFETY: as above.
        A::scratch().get_ptr_mut(0).map(|scratch| run(unsafe { &mut (*scratch).new }))
    }

    #[inline(always)]
    fn insert_pair(&self) -> Result<(), Reason> {
        match A::insert_pair(self.skb) {
            0 => Ok(()),
            code => Err(Reason::from_code(code).unwrap_or(Reason::NoMemory)),
        }
    }

    #[inline(always)]
    fn is_over(&self, key: &CtKey<A>, half: Self::Flow, also: u16) -> u32 {
        A::is_over(key, half.entry.as_ptr(), also.into())
    }

    #[inline(always)]
    fn forget(&self, key: &CtKey<A>, half: Self::Flow, over: u32) -> bool {
        A::forget(key, half.entry.as_ptr(), over) != 0
    }

    #[inline(always)]
    fn find_published(&self, addr: &A, proto: u8, port: Port) -> Option<PublishedPort<A>> {
        // The verifier wants memory that has been written. Not known to be zero, or the compiler would call
        // memset.
        let mut found = MaybeUninit::uninit();
        // SAFETY: it is made for maps, so whatever its words are, they are a published port.
        let mut found = unsafe {
            fill(&mut found, black_box(0));
            found.assume_init()
        };
        let is_found = A::find_published(addr, proto.into(), port.to_wire().into(), &raw mut found);
        (is_found != 0).then_some(found)
    }

    #[inline(always)]
    fn first_fragment(&self, key: &FragmentKey<A>) -> Option<FirstFragment> {
        // SAFETY: whatever another CPU writes there meanwhile, it is a valid element, of another datagram at
        // worst.
        unsafe { A::first_fragments().get(key) }.copied()
    }

    #[inline(always)]
    fn remember_first_fragment(&self, key: &FragmentKey<A>, first: &FirstFragment) {
        // Without memory for it, the others are fragments without a first one.
        let _ = A::first_fragments().insert(key, first, 0);
    }

    #[inline(always)]
    fn published(&self, key: &PublishedPortKey<A>) -> Option<&PublishedPort<A>> {
        // SAFETY: an element is replaced as a whole and read once.
        unsafe { A::published_ports().get(key) }
    }

    #[inline(always)]
    fn published_range(&self, key: &PublishedPortKey<A>) -> Option<&PublishedPort<A>> {
        let data = PublishedRangeKey::new(key.addr, key.proto, key.port.number());
        A::published_ranges().get(Key::new(PublishedRangeKey::<A>::HEAD_BITS + PORT_BITS, data))
    }

    #[inline(always)]
    fn is_host_address(&self, addr: A) -> bool {
        A::host_addresses().get_ptr(addr).is_some()
    }

    #[inline(always)]
    fn is_bridge_address(&self, addr: A) -> bool {
        // SAFETY: an element is one word.
        let flags = unsafe { A::host_addresses().get(addr) };
        flags.is_some_and(|flags| flags & HostAddressFlags::ON_BRIDGE != 0)
    }

    #[inline(always)]
    fn network_of(&self, addr: A) -> Option<u16> {
        A::subnets().get(Key::new(A::BITS, addr)).map(|&number| number as u16)
    }

    #[inline(always)]
    fn endpoint(&self, addr: A) -> Option<Endpoint> {
        // SAFETY: an element is replaced as a whole and read once.
        unsafe { A::endpoints().get(addr) }.copied()
    }

    #[inline(always)]
    fn masquerade_source(&self, ifindex: u32, dst: A) -> Option<A> {
        let key = Key::new(IFINDEX_BITS + A::BITS, MasqueradeKey { ifindex, dst });
        A::masquerade_sources().get(key).copied()
    }

    #[inline(always)]
    fn socket(&self, netns: u32, protocol: u8, tuple: &SocketTuple<A>) -> Option<Socket> {
        socket::look_up(self.skb, netns, protocol, tuple)
    }

    #[inline(always)]
    fn route(&self, ifindex: u32, ip: &Ip<A>, len: u32) -> Route<'_> {
        route::route(self.skb, ifindex, ip, len)
    }
}
