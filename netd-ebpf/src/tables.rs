//! The engine's tables, over the maps.

mod family;
mod flow;
mod socket;

pub(crate) use flow::KernelFlow;

use core::{ops::ControlFlow, ptr};

use aya_ebpf::{bindings::__sk_buff, helpers::bpf_ktime_get_coarse_ns};
use netd_common::{
    address::Port,
    config::{DatapathConfig, reserved_port},
    counters::Traffic,
    fragment::Datagram,
    network::{AcceptedMark, BridgePort, IsolationKey, LinkKey, Network, NetworkFlags, TrustedKey},
    tables::Tables,
};

use crate::{
    atomic::atomic_add,
    fragments,
    maps::{
        ACCEPTED_MARKS, BRIDGE_PORTS, BRIDGES, CONFIG, FLOW_COUNTS, FLOW_LIMITS, GENERATIONS,
        HOST_FLOWS_SEEN, ISOLATION_SETS, LINKS, NETWORKS, RESERVED_PORTS, TRAFFIC,
        TRUSTED_INTERFACES,
    },
    repeat::repeat,
};

const NANOS_PER_SEC: u64 = 1_000_000_000;

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
    fn accepted_mark(&self, network: u16) -> Option<&AcceptedMark> {
        let mark = ACCEPTED_MARKS.get_ptr(u32::from(network))?;
        // SAFETY: the pointer is to an aligned element of the map.
        Some(unsafe { &*mark })
    }

    #[inline(always)]
    fn is_linked(&self, key: &LinkKey) -> bool {
        LINKS.get_ptr(key).is_some()
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
    fn generation(&self, index: u32) -> u32 {
        GENERATIONS.get(index).copied().unwrap_or(0)
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
