//! Every map, with its writer.
//!
//! Sizes here are the defaults; the daemon sets those that the configuration names. All maps are pinned
//! by the daemon, under a folder named after `netd_common::ABI_VERSION`.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, SockMap},
};
use netd_common::{
    address::{Address, V4, V6},
    config::{self, DatapathConfig},
    conntrack::{CtEntry, CtKey, Scratch},
    counters::{self, Counter, FlowCount, Traffic},
    fragment::{self, FirstFragment, FragmentKey, Held},
    names,
    network::{
        AcceptedMark, BridgePort, Endpoint, IsolationKey, LinkKey, MasqueradeKey, Network,
        TrustedKey,
    },
    published::{self, PublishedPort, PublishedPortKey, PublishedRangeKey},
    reason::Reason,
    socket::{Asked, AskedKey, ProxySocket},
    tables::Work,
};

use crate::{fragments::Frame, route::RouteScratch};

/// One element. Writer: the daemon.
#[map]
pub(crate) static CONFIG: Array<DatapathConfig> = Array::with_max_entries(1, 0);

/// Networks by number. Writer: the daemon.
#[map]
pub(crate) static NETWORKS: Array<Network> = Array::with_max_entries(4096, 0);

/// Bridge ports by interface index. Writer: the daemon.
#[map]
pub(crate) static BRIDGE_PORTS: HashMap<u32, BridgePort> = HashMap::with_max_entries(16_384, 0);

/// Networks' numbers by the interface index of their bridges. Writer: the daemon.
#[map]
pub(crate) static BRIDGES: HashMap<u32, u32> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// From which devices a network's containers are reached by their own addresses. Writer: the daemon.
#[map]
pub(crate) static TRUSTED_INTERFACES: HashMap<TrustedKey, u32> =
    HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// The marks with which packets from such devices enter at any port, by network. Writer: the daemon.
#[map]
pub(crate) static ACCEPTED_MARKS: HashMap<u32, AcceptedMark> =
    HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// What containers expose to those that are linked to them. Writer: the daemon.
#[map]
pub(crate) static LINKS: HashMap<LinkKey, u32> =
    HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// The devices that lead out and carry our programs, by interface index: bits of `UplinkFlags`. Writer:
/// the daemon.
#[map]
pub(crate) static UPLINKS: HashMap<u32, u32> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// The MAC addresses of uplinks, and of the ports of those that are bonds, by interface index. Writer: the
/// daemon.
#[map]
pub(crate) static UPLINK_MACS: HashMap<u32, [u8; 6]> =
    HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// The ports that nobody is given, a bit each. Writer: the daemon.
#[map]
pub(crate) static RESERVED_PORTS: Array<u64> = Array::with_max_entries(config::RESERVED_WORDS, 0);

/// The ports that the host's programs cannot bind, a bit each. Writer: the daemon.
#[map]
pub(crate) static KEPT_PORTS: Array<u64> = Array::with_max_entries(published::KEPT_WORDS, 0);

/// One element: when a flow of the host's own that is translated was last seen. Writer: the programs.
#[map]
pub(crate) static HOST_FLOWS_SEEN: Array<u32> = Array::with_max_entries(1, 0);

/// Isolation sets: which network may send to which other. Writer: the daemon.
#[map]
pub(crate) static ISOLATION_SETS: HashMap<IsolationKey, u32> =
    HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// The slots in use. Writer: the daemon, for the next one.
#[map]
pub(crate) static SLOTS: HashMap<u32, u32> =
    HashMap::with_max_entries(counters::SLOTS, BPF_F_NO_PREALLOC);

/// Generations by slot and by network; a flow of an older generation is dead. Writer: the daemon.
#[map]
pub(crate) static GENERATIONS: Array<u32> = Array::with_max_entries(counters::GENERATIONS, 0);

/// Packets and bytes by `Reason`. Writer: the programs.
#[map]
pub(crate) static COUNTERS: PerCpuArray<Counter> =
    PerCpuArray::with_max_entries(Reason::ALL.len() as u32, 0);

/// Traffic by slot: an array, since each packet is counted once or twice. Writer: the programs; the daemon
/// begins from zero.
#[map]
pub(crate) static TRAFFIC: PerCpuArray<Traffic> = PerCpuArray::with_max_entries(counters::SLOTS, 0);

/// The programs that packets are handed over to, in the order of `names::PARTS`. Writer: the daemon, before
/// it attaches any.
#[map]
pub(crate) static PROGRAMS: ProgramArray =
    ProgramArray::with_max_entries(names::PARTS.len() as u32, 0);

/// The programs of the netd that comes after, by the hook's place in `names::PARTS`. Writer: that one's daemon.
#[map]
pub(crate) static SUCCESSORS: ProgramArray = ProgramArray::with_max_entries(names::HOOKS, 0);

/// What is where in the maps, for the daemon that comes after. Writer: the daemon.
#[map]
pub(crate) static LAYOUT: Array<[u8; names::LAYOUT_BYTES]> = Array::with_max_entries(1, 0);

/// Flows by `FlowCount`. Writer: the programs, and nobody else, or counts would be lost.
#[map]
pub(crate) static FLOW_COUNTS: Array<u64> = Array::with_max_entries(FlowCount::COUNT, 0);

/// The most flows of an endpoint or a network, by `FlowCount`; 0 where there is no limit. Writer: the
/// daemon.
#[map]
pub(crate) static FLOW_LIMITS: Array<u32> = Array::with_max_entries(FlowCount::COUNT, 0);

/// Fragments that came before the first one, without their bytes. Writer: the programs.
#[map]
pub(crate) static HELD: Array<Held> = Array::with_max_entries(fragment::HELD, 0);

/// Their frames, in the same places. Writer: the programs.
#[map]
pub(crate) static HELD_FRAMES: Array<Frame> = Array::with_max_entries(fragment::HELD, 0);

/// The place that a share fills next, counted on without end. Writer: the programs.
#[map]
pub(crate) static HELD_NEXT: Array<u64> = Array::with_max_entries(fragment::HELD_SHARES, 0);

/// Where the programs of one CPU keep a packet that lends itself. Writer: the programs.
#[map]
pub(crate) static LENT_FRAME: PerCpuArray<Frame> = PerCpuArray::with_max_entries(1, 0);

/// What sockets of the host have asked for that talk to a container instead. Writer: the programs.
#[map]
pub(crate) static ASKED: LruHashMap<AskedKey, Asked> = LruHashMap::with_max_entries(16_384, 0);

/// The proxy's sockets, by `ProxySocket`. Writer: the daemon; one that is closed is gone.
#[map]
pub(crate) static PROXY_SOCKETS: SockMap =
    SockMap::with_max_entries(ProxySocket::ALL.len() as u32, 0);

/// Where the programs of one CPU ask for a route. Writer: the programs.
#[map]
pub(crate) static ROUTE: PerCpuArray<RouteScratch> = PerCpuArray::with_max_entries(1, 0);

/// The maps of one address family.
pub(crate) trait FamilyMaps: Address + 'static {
    /// The connection table. Writer: the programs, always in pairs.
    fn conntrack() -> &'static HashMap<CtKey<Self>, CtEntry<Self>>;
    /// The first fragments of datagrams. Writer: the programs.
    fn first_fragments() -> &'static LruHashMap<FragmentKey<Self>, FirstFragment>;
    /// Single published ports. Writer: the daemon.
    fn published_ports() -> &'static HashMap<PublishedPortKey<Self>, PublishedPort<Self>>;
    /// Ranges of published ports. Writer: the daemon.
    fn published_ranges() -> &'static LpmTrie<PublishedRangeKey<Self>, PublishedPort<Self>>;
    /// The host's own addresses: bits of `HostAddressFlags`. Writer: the daemon.
    fn host_addresses() -> &'static HashMap<Self, u32>;
    /// The subnets of networks. Writer: the daemon.
    fn subnets() -> &'static LpmTrie<Self, u32>;
    /// Endpoints by address. Writer: the daemon.
    fn endpoints() -> &'static HashMap<Self, Endpoint>;
    /// Masquerade sources by uplink and destination. Writer: the daemon.
    fn masquerade_sources() -> &'static LpmTrie<MasqueradeKey<Self>, Self>;
    /// The original keys of the flows that began last, in a ring. Writer: the programs.
    fn young_flows() -> &'static Array<CtKey<Self>>;
    /// Where the programs of one CPU build an entry. Writer: the programs.
    fn scratch() -> &'static PerCpuArray<Scratch<Self>>;
    /// Where the programs of one CPU work on a packet. Writer: the programs.
    fn work() -> &'static PerCpuArray<Work<Self>>;
}

macro_rules! family_maps {
    ($family:ty: $conntrack:ident, $fragments:ident, $ports:ident, $ranges:ident, $addresses:ident, $subnets:ident,
     $endpoints:ident, $masquerade:ident, $young:ident, $scratch:ident, $work:ident) => {
        #[map]
        static $conntrack: HashMap<CtKey<$family>, CtEntry<$family>> =
            HashMap::with_max_entries(524_288, BPF_F_NO_PREALLOC);
        #[map]
        static $fragments: LruHashMap<FragmentKey<$family>, FirstFragment> =
            LruHashMap::with_max_entries(fragment::DATAGRAMS, 0);
        #[map]
        static $ports: HashMap<PublishedPortKey<$family>, PublishedPort<$family>> =
            HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);
        #[map]
        static $ranges: LpmTrie<PublishedRangeKey<$family>, PublishedPort<$family>> =
            LpmTrie::with_max_entries(65_536, 0);
        #[map]
        static $addresses: HashMap<$family, u32> =
            HashMap::with_max_entries(8_192, BPF_F_NO_PREALLOC);
        #[map]
        static $subnets: LpmTrie<$family, u32> = LpmTrie::with_max_entries(8_192, 0);
        #[map]
        static $endpoints: HashMap<$family, Endpoint> =
            HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);
        #[map]
        static $masquerade: LpmTrie<MasqueradeKey<$family>, $family> =
            LpmTrie::with_max_entries(65_536, 0);
        #[map]
        static $young: Array<CtKey<$family>> = Array::with_max_entries(counters::YOUNG_FLOWS, 0);
        #[map]
        static $scratch: PerCpuArray<Scratch<$family>> = PerCpuArray::with_max_entries(1, 0);
        #[map]
        static $work: PerCpuArray<Work<$family>> = PerCpuArray::with_max_entries(1, 0);

        impl FamilyMaps for $family {
            #[inline(always)]
            fn conntrack() -> &'static HashMap<CtKey<Self>, CtEntry<Self>> {
                &$conntrack
            }
            #[inline(always)]
            fn first_fragments() -> &'static LruHashMap<FragmentKey<Self>, FirstFragment> {
                &$fragments
            }
            #[inline(always)]
            fn published_ports() -> &'static HashMap<PublishedPortKey<Self>, PublishedPort<Self>> {
                &$ports
            }
            #[inline(always)]
            fn published_ranges() -> &'static LpmTrie<PublishedRangeKey<Self>, PublishedPort<Self>>
            {
                &$ranges
            }
            #[inline(always)]
            fn host_addresses() -> &'static HashMap<Self, u32> {
                &$addresses
            }
            #[inline(always)]
            fn subnets() -> &'static LpmTrie<Self, u32> {
                &$subnets
            }
            #[inline(always)]
            fn endpoints() -> &'static HashMap<Self, Endpoint> {
                &$endpoints
            }
            #[inline(always)]
            fn masquerade_sources() -> &'static LpmTrie<MasqueradeKey<Self>, Self> {
                &$masquerade
            }
            #[inline(always)]
            fn young_flows() -> &'static Array<CtKey<Self>> {
                &$young
            }
            #[inline(always)]
            fn scratch() -> &'static PerCpuArray<Scratch<Self>> {
                &$scratch
            }
            #[inline(always)]
            fn work() -> &'static PerCpuArray<Work<Self>> {
                &$work
            }
        }
    };
}

family_maps!(V4: CONNTRACK_V4, FRAGMENTS_V4, PUBLISHED_PORTS_V4, PUBLISHED_RANGES_V4, HOST_ADDRESSES_V4, SUBNETS_V4,
    ENDPOINTS_V4, MASQUERADE_SOURCES_V4, YOUNG_FLOWS_V4, SCRATCH_V4, WORK_V4);
family_maps!(V6: CONNTRACK_V6, FRAGMENTS_V6, PUBLISHED_PORTS_V6, PUBLISHED_RANGES_V6, HOST_ADDRESSES_V6, SUBNETS_V6,
    ENDPOINTS_V6, MASQUERADE_SOURCES_V6, YOUNG_FLOWS_V6, SCRATCH_V6, WORK_V6);
