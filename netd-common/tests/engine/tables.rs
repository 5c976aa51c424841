//! The tables as hash maps, with a clock that stands still, a limit, and the moments between two steps of
//! the engine where another CPU may come in.

// Named, for the fuzz targets load this file from elsewhere.
#[path = "tables/family.rs"]
mod family;

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    ops::{ControlFlow, RangeInclusive},
};

use bytemuck::{Pod, Zeroable};
use netd_common::{
    address::{Address, Port, V4, V6},
    config::DatapathConfig,
    conntrack::{CtEntry, CtKey, NewFlow, Scratch},
    counters::Traffic,
    fragment::{Datagram, FirstFragment, FragmentKey},
    network::{AcceptedMark, BridgePort, Endpoint, LinkKey, Network, NetworkFlags, UplinkFlags},
    packet::NextHop,
    published::{PublishedPort, PublishedPortKey},
    tables::{Tables, Work},
};

use crate::{family::Family, message::End};

pub(crate) use family::published_key;

/// What another CPU does at a given moment.
pub(crate) type Interruption = Box<dyn FnOnce(&HostTables)>;

/// Every table, for both families.
pub(crate) struct HostTables {
    pub(crate) now_secs: Cell<u32>,
    pub(crate) config: DatapathConfig,
    pub(crate) networks: HashMap<u16, Network>,
    pub(crate) bridge_ports: HashMap<u32, BridgePort>,
    pub(crate) isolation_sets: HashSet<(u16, u16)>,
    /// Device and network.
    pub(crate) trusted: HashSet<(u32, u16)>,
    /// By network.
    pub(crate) accepted_marks: HashMap<u16, AcceptedMark>,
    pub(crate) links: HashSet<LinkKey>,
    pub(crate) reserved_ports: HashSet<u16>,
    pub(crate) host_flows_seen_secs: Cell<u32>,
    pub(crate) generations: RefCell<HashMap<u32, u32>>,
    pub(crate) traffic: RefCell<HashMap<u32, Traffic>>,
    pub(crate) flow_counts: RefCell<HashMap<u32, i64>>,
    pub(crate) flow_limits: HashMap<u32, u32>,
    /// The most entries that a connection table takes.
    pub(crate) capacity: Cell<usize>,
    /// Runs after the reply half is inserted and before the original half.
    pub(crate) between_halves: RefCell<Option<Interruption>>,
    /// Runs after a flow is inserted and before the packet's second look.
    pub(crate) after_insertion: RefCell<Option<Interruption>>,
    /// Whose fragments are held, once for each.
    pub(crate) held: RefCell<Vec<Datagram>>,
    /// Runs at one of the next calls that the life of a flow makes: after how many of them.
    pub(crate) at_call: RefCell<Option<(u32, Interruption)>>,
    pub(crate) v4: FamilyStore<V4>,
    pub(crate) v6: FamilyStore<V6>,
}

/// A half of a flow. Each is leaked: `Flow` is `Copy` and outlives removal from the table, as an element
/// of a kernel map does until the program ends.
type Half<A> = &'static Cell<CtEntry<A>>;

/// Protocol, remote end and local end of a socket.
type Connection<A> = (u8, End<A>, End<A>);

/// The tables of one family.
pub(crate) struct FamilyStore<A: Address + 'static> {
    pub(crate) flows: RefCell<HashMap<CtKey<A>, Half<A>>>,
    pub(crate) published: HashMap<PublishedPortKey<A>, PublishedPort<A>>,
    pub(crate) ranges: Vec<PublishedRange<A>>,
    pub(crate) host_addresses: HashSet<A>,
    /// Subnet, mask and network.
    pub(crate) subnets: Vec<(A, A, u16)>,
    pub(crate) endpoints: HashMap<A, Endpoint>,
    pub(crate) masquerade: Vec<Masquerade<A>>,
    /// Protocol and local port of unconnected sockets.
    pub(crate) host_sockets: RefCell<HashSet<(u8, u16)>>,
    pub(crate) connected_sockets: RefCell<HashSet<Connection<A>>>,
    /// Connected sockets of containers, by their sandbox.
    pub(crate) container_sockets: RefCell<HashSet<(u32, Connection<A>)>>,
    /// Where the host's routes lead from a bridge, by destination.
    pub(crate) routes: HashMap<(u32, A), HostRoute>,
    /// Where they lead else.
    pub(crate) default_route: HostRoute,
    young: RefCell<HashMap<u32, CtKey<A>>>,
    pub(crate) first_fragments: RefCell<HashMap<FragmentKey<A>, FirstFragment>>,
    scratch: RefCell<Scratch<A>>,
    /// What memory may hold that is to be filled in.
    stale: NewFlow<A>,
    kept: Cell<Work<A>>,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HostRoute {
    Uplink(Uplink),
    Elsewhere,
    Nowhere,
}

/// A device that carries the programs, on the way to a next hop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uplink {
    pub(crate) ifindex: u32,
    pub(crate) flags: u32,
    pub(crate) mtu: u32,
    pub(crate) next_hop: NextHop,
}

impl Uplink {
    /// With Ethernet header, and the MTU of one.
    pub(crate) fn ethernet<A: Family>(ifindex: u32, gateway: A) -> Self {
        let next_hop = NextHop { family: A::AF, addr: gateway.to_wire_words() };
        Self { ifindex, flags: UplinkFlags::PRESENT | UplinkFlags::ETHERNET, mtu: 1500, next_hop }
    }
}

pub(crate) struct PublishedRange<A> {
    pub(crate) addr: A,
    pub(crate) proto: u8,
    pub(crate) ports: RangeInclusive<u16>,
    pub(crate) leads_to: PublishedPort<A>,
}

pub(crate) struct Masquerade<A> {
    pub(crate) ifindex: u32,
    pub(crate) prefix: A,
    pub(crate) bits: u32,
    pub(crate) source: A,
}

impl HostTables {
    pub(crate) fn new() -> Self {
        Self {
            now_secs: Cell::new(1_000),
            config: DatapathConfig { secret: [1, 2], ..DatapathConfig::DEFAULT },
            networks: HashMap::new(),
            bridge_ports: HashMap::new(),
            isolation_sets: HashSet::new(),
            trusted: HashSet::new(),
            accepted_marks: HashMap::new(),
            links: HashSet::new(),
            reserved_ports: HashSet::new(),
            host_flows_seen_secs: Cell::new(0),
            generations: RefCell::default(),
            traffic: RefCell::default(),
            flow_counts: RefCell::default(),
            flow_limits: HashMap::new(),
            capacity: Cell::new(usize::MAX),
            between_halves: RefCell::default(),
            after_insertion: RefCell::default(),
            held: RefCell::default(),
            at_call: RefCell::default(),
            v4: FamilyStore::new(),
            v6: FamilyStore::new(),
        }
    }

    /// Runs an interruption on another CPU, which has memory of its own for its packets.
    fn run_elsewhere(&self, interruption: Interruption) {
        let (v4, v6) = (self.v4.own_memory(), self.v6.own_memory());
        interruption(self);
        v4();
        v6();
    }

    /// A moment at which another CPU may come in.
    fn pass_moment(&self) {
        let next = self.at_call.take();
        match next {
            Some((0, interruption)) => self.run_elsewhere(interruption),
            next => *self.at_call.borrow_mut() = next.map(|(calls, then)| (calls - 1, then)),
        }
    }

    fn count(&self, slot: u32, count: impl FnOnce(&mut Traffic)) {
        count(self.traffic.borrow_mut().entry(slot).or_default());
    }
}

impl<A: Family> FamilyStore<A> {
    /// Leaves this CPU's memory as another one's may be: what puts it back.
    fn own_memory(&self) -> impl FnOnce() {
        let (kept, scratch) = (self.kept.get(), *self.scratch.borrow());
        self.kept.set(Work::new());
        move || {
            self.kept.set(kept);
            *self.scratch.borrow_mut() = scratch;
        }
    }

    fn new() -> Self
    where
        Scratch<A>: Zeroable,
        NewFlow<A>: Pod,
    {
        Self {
            flows: RefCell::default(),
            published: HashMap::new(),
            ranges: Vec::new(),
            host_addresses: HashSet::new(),
            subnets: Vec::new(),
            endpoints: HashMap::new(),
            masquerade: Vec::new(),
            host_sockets: RefCell::default(),
            connected_sockets: RefCell::default(),
            container_sockets: RefCell::default(),
            routes: HashMap::new(),
            default_route: HostRoute::Nowhere,
            young: RefCell::default(),
            first_fragments: RefCell::default(),
            scratch: RefCell::new(Scratch::zeroed()),
            stale: bytemuck::pod_read_unaligned(&[0x5a; 256][..size_of::<NewFlow<A>>()]),
            kept: Cell::new(Work::new()),
        }
    }
}

impl Tables for HostTables {
    fn now_secs(&self) -> u32 {
        self.now_secs.get()
    }

    fn timer_secs(&self, timer: u32) -> u32 {
        self.pass_moment();
        self.config.timer(timer)
    }

    fn secret(&self) -> [u64; 2] {
        self.config.secret
    }

    fn is_configured(&self, flag: u32) -> bool {
        self.config.flags & flag != 0
    }

    fn repeat(&self, times: u32, mut step: impl FnMut(u32) -> ControlFlow<()>) {
        let _ = (0..times).try_for_each(&mut step);
    }

    fn network(&self, number: u16) -> Option<&Network> {
        self.networks.get(&number).filter(|network| network.has(NetworkFlags::PRESENT))
    }

    fn bridge_port(&self, ifindex: u32) -> Option<BridgePort> {
        self.bridge_ports.get(&ifindex).copied()
    }

    fn network_of_bridge(&self, ifindex: u32) -> Option<u16> {
        let mut networks = self.networks.iter();
        networks.find(|(_, network)| network.bridge_ifindex == ifindex).map(|network| *network.0)
    }

    fn is_trusted(&self, ifindex: u32, network: u16) -> bool {
        self.trusted.contains(&(ifindex, network))
    }

    fn accepted_mark(&self, network: u16) -> Option<&AcceptedMark> {
        self.accepted_marks.get(&network)
    }

    fn is_linked(&self, key: &LinkKey) -> bool {
        self.links.contains(key)
    }

    fn may_enter(&self, from: u16, to: u16) -> bool {
        self.isolation_sets.contains(&(from, to))
    }

    fn is_reserved(&self, port: Port) -> bool {
        self.reserved_ports.contains(&port.number())
    }

    fn host_flows_seen_secs(&self) -> u32 {
        self.host_flows_seen_secs.get()
    }

    fn set_host_flows_seen(&self, secs: u32) {
        self.host_flows_seen_secs.set(secs);
    }

    fn generation(&self, slot: u32) -> u32 {
        self.pass_moment();
        self.generations.borrow().get(&slot).copied().unwrap_or(0)
    }

    fn count_received(&self, slot: u32, bytes: u32) {
        self.count(slot, |traffic| {
            traffic.received.packets += 1;
            traffic.received.bytes += u64::from(bytes);
        });
    }

    fn count_sent(&self, slot: u32, bytes: u32) {
        self.count(slot, |traffic| {
            traffic.sent.packets += 1;
            traffic.sent.bytes += u64::from(bytes);
        });
    }

    fn count_flow(&self, slot: u32) {
        self.count(slot, |traffic| traffic.flows += 1);
    }

    fn flow_count(&self, index: u32) -> u32 {
        self.flow_counts.borrow().get(&index).map_or(0, |&count| u32::try_from(count).unwrap())
    }

    fn add_to_flow_count(&self, index: u32, change: i64) {
        *self.flow_counts.borrow_mut().entry(index).or_default() += change;
    }

    fn flow_limit(&self, index: u32) -> u32 {
        self.flow_limits.get(&index).copied().unwrap_or(0)
    }

    fn max_flows(&self) -> u32 {
        self.config.max_flows
    }

    fn hold_fragment(&self, datagram: Datagram) -> bool {
        self.held.borrow_mut().push(datagram);
        true
    }

    fn release_fragments(&self, datagram: Datagram) -> bool {
        self.held.borrow_mut().retain(|held| *held != datagram);
        true
    }
}
