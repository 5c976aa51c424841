//! What the engine asks of the tables. The kernel's maps and the tests' hash tables answer.

use core::{mem::MaybeUninit, ops::ControlFlow};

use crate::{
    address::{Address, Port},
    config::Timeout,
    conntrack::{CtEntry, CtKey, NewFlow, Translation},
    engine::{self, Afterwards, Piece, Remembered},
    fragment::{Datagram, FirstFragment, FragmentKey},
    network::{AcceptedMark, BridgePort, Endpoint, LinkKey, Network},
    packet::NextHop,
    parse::{Ip, Parsed, Quote},
    published::{PublishedPort, PublishedPortKey},
    reason::Reason,
};

/// Tables and facts that do not depend on the address family.
pub trait Tables {
    /// The monotonic clock. Units: seconds.
    fn now_secs(&self) -> u32;
    /// How long a flow with this timer lives without a packet. Units: seconds.
    #[inline(always)]
    fn timeout_secs(&self, timeout: Timeout) -> u32 {
        self.timer_secs(timeout as u32)
    }

    /// The same for the timer with a number.
    fn timer_secs(&self, timer: u32) -> u32;
    /// The key of the source port hash.
    fn secret(&self) -> [u64; 2];
    /// Whether a bit of [`crate::config::ConfigFlags`] is set.
    fn is_configured(&self, flag: u32) -> bool;
    /// Calls `step` with 0, 1, ... until it breaks or `times` is reached. A loop written out would
    /// make the verifier walk every path of every turn.
    fn repeat(&self, times: u32, step: impl FnMut(u32) -> ControlFlow<()>);
    /// A network by its number, if the number is in use.
    fn network(&self, number: u16) -> Option<&Network>;
    /// The bridge port behind a device.
    fn bridge_port(&self, ifindex: u32) -> Option<BridgePort>;
    /// The number of the network whose bridge a device is.
    fn network_of_bridge(&self, ifindex: u32) -> Option<u16>;
    /// Whether a network's containers may be reached by their own addresses from a device.
    fn is_trusted(&self, ifindex: u32, network: u16) -> bool;
    /// The mark with which packets from such a device enter the network, if there is one.
    fn accepted_mark(&self, network: u16) -> Option<&AcceptedMark>;
    /// Whether there is this link between containers.
    fn is_linked(&self, key: &LinkKey) -> bool;
    /// Whether packets of one network may enter another.
    fn may_enter(&self, from: u16, to: u16) -> bool;
    /// Whether the administrator keeps the port from everybody (`ip_local_reserved_ports`).
    fn is_reserved(&self, port: Port) -> bool;
    /// When a flow of the host's own that is translated was last seen; 0 where none was. Units: seconds.
    fn host_flows_seen_secs(&self) -> u32;
    /// Sets that.
    fn set_host_flows_seen(&self, secs: u32);
    /// The current generation of a slot, or of a network ([`crate::counters::owner`]).
    fn generation(&self, index: u32) -> u32;
    /// Counts a packet that the slot's container receives.
    fn count_received(&self, slot: u32, bytes: u32);
    /// Counts a packet that the slot's container sends.
    fn count_sent(&self, slot: u32, bytes: u32);
    /// Counts a new flow of the slot.
    fn count_flow(&self, slot: u32);
    /// A count of flows, by an index of [`crate::counters::FlowCount`].
    fn flow_count(&self, index: u32) -> u32;
    /// Adds to a count of flows, or takes from it.
    fn add_to_flow_count(&self, index: u32, change: i64);
    /// The most flows that the endpoint or network of this index may have; 0 where there is no limit.
    fn flow_limit(&self, index: u32) -> u32;
    /// The most flows of one family.
    fn max_flows(&self) -> u32;
    /// Holds a copy of the packet, a fragment that came before the first one. `false` where it is too long
    /// or somebody else is at the place.
    fn hold_fragment(&self, datagram: Datagram) -> bool;
    /// Lets the fragments that are held of a datagram come in again, as if just received. `false` where
    /// the packet that the hook is at has been lost over it.
    fn release_fragments(&self, datagram: Datagram) -> bool;
}

/// The tables of one address family.
pub trait FamilyTables<A: Address>: Tables {
    /// An element of the connection table, in place.
    type Flow: Flow<A>;

    /// The entry of a flow.
    fn flow(&self, key: &CtKey<A>) -> Option<Self::Flow>;
    /// Adds an entry where there is none.
    ///
    /// # Errors
    /// Whether the key is taken or the table full.
    fn insert_flow(&self, key: &CtKey<A>, entry: &CtEntry<A>) -> Result<(), InsertError>;
    /// Removes an entry, if it is there.
    fn remove_flow(&self, key: &CtKey<A>);
    /// Remembers a flow by its original key, at an index below [`crate::counters::YOUNG_FLOWS`].
    fn remember_young_flow(&self, index: u32, key: &CtKey<A>);
    /// Copies the key that was remembered at an index; says whether there is one.
    fn recall_young_flow(&self, index: u32, key: &mut CtKey<A>) -> bool;

    /// Lends the memory that a packet is worked on in; `None` if there is none.
    fn with_work<R>(&self, run: impl FnOnce(&mut Work<A>) -> R) -> Option<R>;
    /// Lends the memory that a new flow is described in; `fill` sets every field.
    fn describe_flow(&self, fill: impl FnOnce(&mut NewFlow<A>));
    /// Lends the same memory with what was described.
    fn with_description<R>(&self, run: impl FnOnce(&mut NewFlow<A>) -> R) -> Option<R>;
    /// Inserts both halves of the flow or the mapping that was described: [`crate::engine::insert_pair`] with memory to
    /// build them in. A step of its own, so that the verifier looks at it once and not at every path that
    /// leads to it.
    ///
    /// # Errors
    /// As for the engine's function.
    fn insert_pair(&self) -> Result<(), Reason>;
    /// [`engine::is_over`], a step of its own in the data path; so are the next two.
    fn is_over(&self, key: &CtKey<A>, half: Self::Flow, also: u16) -> u32
    where
        Self: Sized,
    {
        engine::is_over(self, key, half, also)
    }
    /// [`engine::forget`].
    fn forget(&self, key: &CtKey<A>, half: Self::Flow, over: u32) -> bool
    where
        Self: Sized,
    {
        engine::forget(self, key, half, over)
    }
    /// [`engine::find_published`].
    fn find_published(&self, addr: &A, proto: u8, port: Port) -> Option<PublishedPort<A>>
    where
        Self: Sized,
    {
        engine::find_published(self, *addr, proto, port).copied()
    }

    /// The first fragment of a datagram.
    fn first_fragment(&self, key: &FragmentKey<A>) -> Option<FirstFragment>;
    /// Remembers the first fragment of a datagram, in place of the oldest if need be.
    fn remember_first_fragment(&self, key: &FragmentKey<A>, first: &FirstFragment);

    /// A single published port.
    fn published(&self, key: &PublishedPortKey<A>) -> Option<&PublishedPort<A>>;
    /// The range of published ports that the port lies in.
    fn published_range(&self, key: &PublishedPortKey<A>) -> Option<&PublishedPort<A>>;
    /// Whether the host itself has the address.
    fn is_host_address(&self, addr: A) -> bool;
    /// Whether the host has the address, and it lies in a network's subnet: that of a bridge.
    fn is_bridge_address(&self, addr: A) -> bool;
    /// The network whose subnet has the address, or whose outside prefix.
    fn network_of(&self, addr: A) -> Option<u16>;
    /// The endpoint that has the address.
    fn endpoint(&self, addr: A) -> Option<Endpoint>;
    /// The source that masquerading gives to packets for `dst` on an uplink.
    fn masquerade_source(&self, ifindex: u32, dst: A) -> Option<A>;
    /// The socket that would receive packets of this tuple in a namespace, by its number: [`HOST_NETNS`], or a
    /// container's.
    fn socket(&self, netns: u32, proto: u8, tuple: &SocketTuple<A>) -> Option<Socket>;
    /// Where the host's routes lead a packet of this length that came in on `ifindex`.
    fn route(&self, ifindex: u32, ip: &Ip<A>, len: u32) -> Route<'_>;
}

impl<A: Address> SocketTuple<A> {
    /// The tuple of packets with this key.
    #[inline(always)]
    pub fn of(key: &CtKey<A>) -> Self {
        Self { src: key.src, dst: key.dst, sport: key.sport, dport: key.dport }
    }
}

/// Memory of one CPU for the packet that it works on. What every packet needs comes first.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Work<A: Address> {
    /// What is read of the packet.
    pub parsed: Parsed<A>,
    /// Its flow.
    pub flow: FlowWork<A>,
    /// What is left to do to it then.
    pub afterwards: Afterwards,
    /// What is read of an ICMP error, and what it becomes.
    pub error: ErrorWork<A>,
    /// What a program that has judged the packet before has begun for it.
    pub begun: Begun,
    /// The network whose subnet its source lies in, or [`Self::NO_NETWORK`].
    source_network: u32,
    /// What is to be remembered of a fragment.
    pub remembered: Remembered<A>,
}

/// How far a packet has come that begins a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Begun {
    /// Nobody has judged it before.
    Nothing,
    /// The mapping that its flow needs is there.
    Mapping,
    /// Its flow is there.
    Flow,
}

/// Memory for a look at the connection table.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FlowWork<A: Address> {
    /// The key of the packet's flow.
    pub key: MaybeUninit<CtKey<A>>,
    /// What its packets become.
    pub to: MaybeUninit<Translation<A>>,
}

/// Memory for an ICMP error.
#[derive(Clone, Copy)]
pub struct ErrorWork<A: Address> {
    /// The packet that it quotes.
    pub quote: MaybeUninit<Quote<A>>,
    /// What packets of that one's flow become that go the error's way.
    pub to: MaybeUninit<Translation<A>>,
}

impl<A: Address> Work<A> {
    /// In place of a network's number. No `Option`: the compiler leaves unwritten what that of none would have
    /// beside it, which the verifier refuses to read.
    const NO_NETWORK: u32 = u32::MAX;

    /// The network whose subnet the packet's source lies in.
    #[inline(always)]
    pub fn source_network(&self) -> Option<u16> {
        (self.source_network != Self::NO_NETWORK).then_some(self.source_network as u16)
    }

    /// Notes that network.
    #[inline(always)]
    pub fn set_source_network(&mut self, number: Option<u16>) {
        self.source_network = number.map_or(Self::NO_NETWORK, u32::from);
    }

    /// Memory that nothing is in.
    pub const fn new() -> Self {
        let key = FragmentKey {
            src: A::UNSPECIFIED,
            dst: A::UNSPECIFIED,
            id: 0,
            ifindex: 0,
            ingress_ifindex: 0,
            proto: 0,
        };
        let (sport, dport) = (Port::ZERO, Port::ZERO);
        let first = FirstFragment { sport, dport, seen_secs: 0, proto: 0, reserved: [0; 3] };
        let (piece, reason) = (Piece::Settled, Reason::NotOurs);
        Self {
            parsed: Parsed::NONE,
            flow: FlowWork { key: MaybeUninit::uninit(), to: MaybeUninit::uninit() },
            error: ErrorWork { quote: MaybeUninit::uninit(), to: MaybeUninit::uninit() },
            afterwards: Afterwards::Nothing,
            begun: Begun::Nothing,
            source_network: Self::NO_NETWORK,
            remembered: Remembered { key, first, piece, reason },
        }
    }
}

impl<A: Address> Default for Work<A> {
    fn default() -> Self {
        Self::new()
    }
}

/// Why an entry was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// Another flow has the key.
    Exists,
    /// No room, or no memory.
    Full,
}

/// An element of the connection table, in place. Packets of its direction write to it from several CPUs, and
/// whoever ends its flow: but for the last-seen time a field may be written twice with nearly the same value,
/// never torn.
pub trait Flow<A: Address>: Copy {
    /// The entry in its place, not copied: it would fill a program's stack. `seen` and the counters
    /// may change meanwhile, so each is to be read once; for `last_seen_secs` there is a method.
    fn entry(&self) -> &CtEntry<A>;
    /// When the direction was seen last, or [`CLAIMED`](crate::conntrack::CLAIMED). Units: seconds of the
    /// monotonic clock.
    fn last_seen_secs(&self) -> u32;
    /// Puts `new` in place of `old`, unless something else stands there, or the element has another flow
    /// by now: says whether it did. Of two CPUs that ask for the same, one does.
    fn replace_last_seen(&self, old: u32, new: u32) -> bool;
    /// Sets what the direction has carried.
    fn set_seen(&self, seen: u8);
    /// Sets what the other direction has carried.
    fn set_peer_seen(&self, seen: u8);
    /// Counts a packet.
    fn count(&self, bytes: u32);
}

/// In place of a namespace's number: the host's own, where the programs run (`BPF_F_CURRENT_NETNS`).
pub const HOST_NETNS: u32 = u32::MAX;

/// A socket, by what it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// It takes packets from anybody.
    Listening,
    /// It takes packets of this tuple only: they belong to its connection.
    Connected,
}

/// Where the host's routes lead a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// Out of a device that carries netd's programs.
    Uplink {
        /// The device.
        ifindex: u32,
        /// Bits of [`crate::network::UplinkFlags`].
        flags: u32,
        /// Whether the device takes a packet of this length.
        fits: bool,
        /// The largest IP packet that the route takes; known where one of any length was asked for.
        mtu: u16,
        /// Who takes the packet next. Lent until the next question.
        next_hop: &'a NextHop,
    },
    /// Out of a device that does not.
    Elsewhere,
    /// Nowhere: the stack answers with its error.
    Nowhere,
}

/// Addresses and ports of a packet, in the layout of the kernel's `struct bpf_sock_tuple`.
/// Layout: 12 bytes for IPv4, 36 for IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SocketTuple<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port.
    pub sport: Port,
    /// Destination port.
    pub dport: Port,
}
