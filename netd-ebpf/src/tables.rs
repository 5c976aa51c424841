//! The engine's tables, over the maps.

use core::{
    ffi::{c_long, c_void},
    mem::offset_of,
    ops::ControlFlow,
    ptr::{self, NonNull},
};

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_CURRENT_NETNS, BPF_NOEXIST, BPF_TCP_LISTEN, bpf_sock, bpf_sock_tuple,
    },
    helpers::{
        bpf_ktime_get_coarse_ns, bpf_loop, bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp,
    },
    maps::lpm_trie::Key,
};
use netd_common::{
    address::{Port, V6},
    config::{DatapathConfig, Timeout, reserved_port},
    conntrack::{CtEntry, CtKey, NewFlow},
    counters::Traffic,
    fragment::{Datagram, FirstFragment, FragmentKey},
    header::proto,
    network::{
        BridgePort, Endpoint, HostAddressFlags, IsolationKey, MasqueradeKey, Network, NetworkFlags,
        TrustedKey,
    },
    parse::Ip,
    published::{PublishedPort, PublishedPortKey, PublishedRangeKey},
    reason::Reason,
    tables::{FamilyTables, Flow, HostSocket, InsertError, Route, SocketTuple, Tables, Work},
};

use crate::{
    fragments,
    maps::{
        BRIDGE_PORTS, BRIDGES, CONFIG, FLOW_COUNTS, FLOW_LIMITS, FamilyMaps, GENERATIONS,
        HOST_FLOWS_SEEN, ISOLATION_SETS, NETWORKS, RESERVED_PORTS, TRAFFIC, TRUSTED_INTERFACES,
    },
    route,
};

const NANOS_PER_SEC: u64 = 1_000_000_000;
/// The bits of an interface index, which are matched in full.
const IFINDEX_BITS: u32 = 32;
/// The bits of a port.
const PORT_BITS: u32 = 16;
/// `EEXIST` of `asm-generic/errno-base.h`, as helpers return it.
const EEXIST: i32 = -17;

/// The maps, for a program that looks at one packet.
pub(crate) struct KernelTables {
    skb: *mut __sk_buff,
}

impl KernelTables {
    /// The maps as a classifier sees them.
    #[inline(always)]
    pub(crate) const fn new(skb: *mut __sk_buff) -> Self {
        Self { skb }
    }

    /// The maps as those hooks see them that begin no flow, so that they need no packet.
    #[inline(always)]
    pub(crate) const fn without_packet() -> Self {
        Self { skb: ptr::null_mut() }
    }
}

/// An element of the connection table.
#[derive(Clone, Copy)]
pub(crate) struct KernelFlow<A> {
    entry: NonNull<CtEntry<A>>,
}

#[inline(always)]
fn config() -> Option<&'static DatapathConfig> {
    CONFIG.get(0)
}

#[inline(always)]
fn with_traffic(slot: u32, count: impl FnOnce(&mut Traffic)) {
    if let Some(traffic) = TRAFFIC.get_ptr_mut(slot) {
        // SAFETY: the element is this CPU's own, and programs are not migrated while they run.
        count(unsafe { &mut *traffic });
    }
}

impl Tables for KernelTables {
    #[inline(always)]
    fn now_secs(&self) -> u32 {
        // SAFETY: the helper reads a clock and touches nothing.
        (unsafe { bpf_ktime_get_coarse_ns() } / NANOS_PER_SEC) as u32
    }

    #[inline(always)]
    fn timer_secs(&self, timer: u32) -> u32 {
        config().map_or(u32::MAX, |config| config.timer(timer))
    }

    #[inline(always)]
    fn secret(&self) -> [u64; 2] {
        config().map_or([0; 2], |config| config.secret)
    }

    #[inline(always)]
    fn is_configured(&self, flag: u32) -> bool {
        config().is_some_and(|config| config.flags & flag != 0)
    }

    #[inline(always)]
    fn repeat(&self, times: u32, mut step: impl FnMut(u32) -> ControlFlow<()>) {
        repeat(times, &mut step);
    }

    #[inline(always)]
    fn network(&self, number: u16) -> Option<&Network> {
        // The array has an element for every number; one of zeros would be a network that is routed.
        NETWORKS.get(u32::from(number)).filter(|network| network.has(NetworkFlags::PRESENT))
    }

    #[inline(always)]
    fn bridge_port(&self, ifindex: u32) -> Option<BridgePort> {
        // SAFETY: an element is replaced as a whole and read once.
        unsafe { BRIDGE_PORTS.get(ifindex) }.copied()
    }

    #[inline(always)]
    fn network_of_bridge(&self, ifindex: u32) -> Option<u16> {
        // SAFETY: an element is one word.
        unsafe { BRIDGES.get(ifindex) }.map(|&number| number as u16)
    }

    #[inline(always)]
    fn is_trusted(&self, ifindex: u32, network: u16) -> bool {
        TRUSTED_INTERFACES.get_ptr(TrustedKey { ifindex, network: u32::from(network) }).is_some()
    }

    #[inline(always)]
    fn may_enter(&self, from: u16, to: u16) -> bool {
        ISOLATION_SETS.get_ptr(IsolationKey { from, to }).is_some()
    }

    #[inline(always)]
    fn is_reserved(&self, port: Port) -> bool {
        let (word, bit) = reserved_port(port.number());
        RESERVED_PORTS.get(word).is_some_and(|word| word & bit != 0)
    }

    #[inline(always)]
    fn host_flows_seen_secs(&self) -> u32 {
        HOST_FLOWS_SEEN.get(0).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn set_host_flows_seen(&self, secs: u32) {
        if let Some(seen) = HOST_FLOWS_SEEN.get_ptr_mut(0) {
            // SAFETY: the element is one aligned word.
            unsafe { ptr::write_volatile(seen, secs) }
        }
    }

    #[inline(always)]
    fn generation(&self, slot: u32) -> u32 {
        GENERATIONS.get(slot).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn count_received(&self, slot: u32, bytes: u32) {
        with_traffic(slot, |traffic| {
            traffic.received.packets += 1;
            traffic.received.bytes += u64::from(bytes);
        });
    }

    #[inline(always)]
    fn count_sent(&self, slot: u32, bytes: u32) {
        with_traffic(slot, |traffic| {
            traffic.sent.packets += 1;
            traffic.sent.bytes += u64::from(bytes);
        });
    }

    #[inline(always)]
    fn count_flow(&self, slot: u32) {
        with_traffic(slot, |traffic| traffic.flows += 1);
    }

    #[inline(always)]
    fn flow_count(&self, index: u32) -> u32 {
        FLOW_COUNTS.get(index).map_or(0, |&count| count as u32)
    }

    #[inline(always)]
    fn add_to_flow_count(&self, index: u32, change: i64) {
        if let Some(count) = FLOW_COUNTS.get_ptr_mut(index) {
            // SAFETY: the pointer is to an aligned word of the map.
            unsafe { atomic_add(count, change as u64) };
        }
    }

    #[inline(always)]
    fn flow_limit(&self, index: u32) -> u32 {
        FLOW_LIMITS.get(index).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn max_flows(&self) -> u32 {
        config().map_or(u32::MAX, |config| config.max_flows)
    }

    #[inline(always)]
    fn hold_fragment(&self, datagram: Datagram) -> bool {
        fragments::hold_fragment(self.skb, datagram.token, datagram.share) != 0
    }

    #[inline(always)]
    fn release_fragments(&self, datagram: Datagram) -> bool {
        fragments::release_fragments(self.skb, datagram.token, datagram.share) != 0
    }
}

impl<A: FamilyMaps> FamilyTables<A> for KernelTables {
    type Flow = KernelFlow<A>;

    #[inline(always)]
    fn flow(&self, key: &CtKey<A>) -> Option<Self::Flow> {
        A::conntrack().get_ptr_mut(key).and_then(NonNull::new).map(|entry| KernelFlow { entry })
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
                const { assert!(align_of::<CtKey<V6>>() == size_of::<u32>()) };
                let (from, to) =
                    (ptr::from_ref(found).cast::<u32>(), ptr::from_mut(key).cast::<u32>());
                for word in 0..size_of::<CtKey<A>>() / size_of::<u32>() {
                    // SAFETY: both are keys, of so many aligned words. Volatile, or the compiler would make
                    // one call of memmove of it.
                    unsafe { to.add(word).write(ptr::read_volatile(from.add(word))) };
                }
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
    fn host_socket(&self, protocol: u8, tuple: &SocketTuple<A>) -> Option<HostSocket> {
        let skb = self.skb.cast();
        let tuple_ptr = ptr::from_ref(tuple).cast_mut().cast::<bpf_sock_tuple>();
        let len = size_of::<SocketTuple<A>>() as u32;
        let netns = BPF_F_CURRENT_NETNS as u64;
        if protocol == proto::TCP {
            // SAFETY: the tuple has the layout and length that the helper asks for.
            tcp_socket(unsafe { bpf_skc_lookup_tcp(skb, tuple_ptr, len, netns, 0) })
        } else {
            // SAFETY: as above.
            udp_socket(unsafe { bpf_sk_lookup_udp(skb, tuple_ptr, len, netns, 0) })
        }
    }

    #[inline(always)]
    fn route(&self, ifindex: u32, ip: &Ip<A>, len: u32) -> Route<'_> {
        route::route(self.skb, ifindex, ip, len)
    }
}

impl<A: FamilyMaps> Flow<A> for KernelFlow<A> {
    #[inline(always)]
    fn entry(&self) -> &CtEntry<A> {
        // SAFETY: the element is in the map's memory for as long as the program runs. A field may be
        // written meanwhile by another packet of the flow, as a whole word.
        unsafe { self.entry.as_ref() }
    }

    #[inline(always)]
    fn last_seen_secs(&self) -> u32 {
        // SAFETY: as for `entry`; the field is one aligned word.
        unsafe { ptr::read_volatile(&raw const (*self.entry.as_ptr()).last_seen_secs) }
    }

    #[inline(always)]
    fn replace_last_seen(&self, old: u32, new: u32) -> bool {
        // The time of creation is compared as well: it is another one if the kernel has given the memory to
        // another flow. And the assembler knows no instruction for less than a long word.
        const {
            assert!(offset_of!(CtEntry<A>, last_seen_secs).is_multiple_of(8));
            assert!(
                offset_of!(CtEntry<A>, created_secs) == offset_of!(CtEntry<A>, last_seen_secs) + 4
            );
        }
        let entry = self.entry.as_ptr();
        // SAFETY: as for `entry`; both fields are in one aligned long word of the element.
        unsafe {
            let created = u64::from((*entry).created_secs) << u32::BITS;
            let word = entry.byte_add(offset_of!(CtEntry<A>, last_seen_secs)).cast();
            compare_exchange(word, created | u64::from(old), created | u64::from(new))
        }
    }

    #[inline(always)]
    fn set_seen(&self, seen: u8) {
        // SAFETY: as for `entry`; the field is one byte.
        unsafe { ptr::write_volatile(&raw mut (*self.entry.as_ptr()).seen, seen) }
    }

    #[inline(always)]
    fn set_peer_seen(&self, seen: u8) {
        // SAFETY: as for `entry`; the field is one byte.
        unsafe { ptr::write_volatile(&raw mut (*self.entry.as_ptr()).peer_seen, seen) }
    }

    #[inline(always)]
    fn count(&self, bytes: u32) {
        let entry = self.entry.as_ptr();
        // SAFETY: both fields are aligned words of the element.
        unsafe {
            atomic_add(&raw mut (*entry).packets, 1);
            atomic_add(&raw mut (*entry).bytes, u64::from(bytes));
        }
    }
}

/// What kind of socket a look-up has found; gives the reference back.
#[inline(always)]
fn tcp_socket(socket: *mut bpf_sock) -> Option<HostSocket> {
    if socket.is_null() {
        return None;
    }
    // SAFETY: the helper's reference is valid until it is given back.
    let state = unsafe {
        let state = (*socket).state;
        bpf_sk_release(socket.cast());
        state
    };
    Some(if state == BPF_TCP_LISTEN { HostSocket::Listening } else { HostSocket::Connected })
}

/// As `tcp_socket`, by another field: the verifier does not let one instruction read through the
/// pointers of both kinds, and the compiler would merge two that are alike.
#[inline(always)]
fn udp_socket(socket: *mut bpf_sock) -> Option<HostSocket> {
    if socket.is_null() {
        return None;
    }
    // SAFETY: the helper's reference is valid until it is given back.
    let peer_port = unsafe {
        let peer_port = (*socket).dst_port;
        bpf_sk_release(socket.cast());
        peer_port
    };
    Some(if peer_port == 0 { HostSocket::Listening } else { HostSocket::Connected })
}

/// Adds to a word that other CPUs add to as well. `AtomicU64` has no such method for the BPF target.
///
/// # Safety
/// `word` must point to an aligned word of map memory.
#[inline(always)]
unsafe fn atomic_add(word: *mut u64, value: u64) {
    // SAFETY: by the contract above; the instruction touches nothing else.
    unsafe {
        core::arch::asm!("lock *(u64 *)({word} + 0) += {value}", word = in(reg) word, value = in(reg) value);
    }
}

/// Puts `new` in place of `old`, if that is what stands there: says whether it is.
///
/// # Safety
/// `word` must point to an aligned word of map memory.
#[inline(always)]
unsafe fn compare_exchange(word: *mut u64, old: u64, new: u64) -> bool {
    let mut found = old;
    // SAFETY: by the contract above; the instruction touches nothing else.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inlateout("r0") found,
        );
    }
    found == old
}

/// Runs `step` by `bpf_loop`, whose body the verifier checks once.
#[inline(always)]
pub(crate) fn repeat<F: FnMut(u32) -> ControlFlow<()>>(times: u32, step: &mut F) {
    /// The helper's callback: 0 goes on, 1 ends the loop.
    unsafe extern "C" fn call<F: FnMut(u32) -> ControlFlow<()>>(
        index: u32,
        step: *mut c_void,
    ) -> c_long {
        // SAFETY: the helper passes on the pointer that it was given below, which outlives the loop.
        match unsafe { (*step.cast::<F>())(index) } {
            ControlFlow::Continue(()) => 0,
            ControlFlow::Break(()) => 1,
        }
    }
    let callback = call::<F> as unsafe extern "C" fn(u32, *mut c_void) -> c_long;
    // SAFETY: the callback has the helper's signature, and `step` is its own argument.
    unsafe { bpf_loop(times, callback as *mut c_void, ptr::from_mut(step).cast(), 0) };
}
