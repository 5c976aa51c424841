//! Networks, the bridge ports and endpoints on them, and who may talk to whom.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::{Address, Port, V4, V6},
    nptv6::OutsidePrefix,
    pod::map_type,
};

/// What the programs know of a network, by its number. Layout: 128 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The IPv4 side.
    pub v4: NetworkFamily<V4>,
    /// The IPv6 side.
    pub v6: NetworkFamily<V6>,
    /// The bridge device.
    pub bridge_ifindex: u32,
    /// Bits of [`NetworkFlags`].
    pub flags: u32,
    /// The bridge's own MAC address, which containers know their gateway by.
    pub bridge_mac: [u8; 6],
    /// The largest IP packet that its containers take. Units: bytes.
    pub mtu: u16,
    /// What the MSS of TCP connections through an uplink is lowered to: 0 for nothing, else bytes or
    /// [`Network::MSS_OF_ROUTE`].
    pub mss_clamp: u16,
    /// Always zero.
    pub reserved: u16,
    /// What its IPv6 prefix is translated to, with [`FamilyFlags::PREFIX_TRANSLATED`].
    pub outside: OutsidePrefix,
}

/// One family of a network. Layout: 20 bytes for IPv4, 68 for IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkFamily<A> {
    /// The subnet's address.
    pub subnet: A,
    /// The subnet's mask.
    pub mask: A,
    /// The fixed source address of what leaves, or unspecified to masquerade.
    pub snat_source: A,
    /// The bridge's own address, or unspecified where it has none.
    pub bridge_addr: A,
    /// Bits of [`FamilyFlags`].
    pub flags: u32,
}

/// Bits of [`NetworkFamily::flags`].
pub struct FamilyFlags;

impl FamilyFlags {
    /// The network has a subnet of this family.
    pub const PRESENT: u32 = 1;
    /// What leaves the network gets another source address.
    pub const MASQUERADE: u32 = 1 << 1;
    /// Gateway mode `routed`: containers are reached by their own addresses, at their published ports.
    pub const ROUTED: u32 = 1 << 2;
    /// Gateway mode `nat-unprotected`: as `ROUTED`, at every port.
    pub const UNPROTECTED: u32 = 1 << 3;
    /// What leaves the network gets another prefix, and what enters that of the subnet (RFC 6296). Not with
    /// `MASQUERADE`.
    pub const PREFIX_TRANSLATED: u32 = 1 << 4;
}

/// Bits of [`Network::flags`].
pub struct NetworkFlags;

impl NetworkFlags {
    /// The number is in use.
    pub const PRESENT: u32 = 1;
    /// Nothing leaves or enters but the host's own traffic.
    pub const INTERNAL: u32 = 1 << 1;
    /// Containers of the network may talk to each other.
    pub const ICC: u32 = 1 << 2;
    /// New flows between its containers and an uplink are redirected past the host's stack.
    pub const FAST: u32 = 1 << 3;
    /// A container sends from the addresses and the MAC address that it was given, and from no other.
    pub const STRICT_SOURCE: u32 = 1 << 4;
    /// Without `ICC`, containers do not reach each other's published ports either.
    pub const ICC_STRICT: u32 = 1 << 5;
    /// Source ports are given independently of destinations (RFC 4787 REQ-1 and REQ-8).
    pub const ENDPOINT_INDEPENDENT: u32 = 1 << 6;
}

/// Bits of what is known of an uplink.
pub struct UplinkFlags;

impl UplinkFlags {
    /// It carries netd's programs.
    pub const PRESENT: u32 = 1;
    /// Its packets have an Ethernet header, so they can be redirected.
    pub const ETHERNET: u32 = 1 << 1;
}

/// Bits of what is known of an address of the host.
pub struct HostAddressFlags;

impl HostAddressFlags {
    /// The host has it.
    pub const PRESENT: u32 = 1;
    /// It lies in a network's subnet.
    pub const ON_BRIDGE: u32 = 1 << 1;
}

/// A device from which a network's containers may be reached by their own addresses, at their published
/// ports. Layout: 8 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct TrustedKey {
    /// The device.
    pub ifindex: u32,
    /// The network's number.
    pub network: u32,
}

/// A bridge port, by the interface index of the host's end of a veth pair. Layout: 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BridgePort {
    /// The endpoint's slot.
    pub slot: u32,
    /// The network's number.
    pub network: u16,
    /// The container's MAC address.
    pub mac: [u8; 6],
    /// The number of the sandbox: see [`Endpoint::sandbox`].
    pub sandbox: u32,
}

/// An endpoint, by its address. Layout: 20 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Endpoint {
    /// The host's end of the veth pair.
    pub ifindex: u32,
    /// The endpoint's slot.
    pub slot: u32,
    /// The network's number.
    pub network: u16,
    /// The container's MAC address.
    pub mac: [u8; 6],
    /// The number of the sandbox: endpoints that share it are one container's. The kernel's number for the network
    /// namespace, as seen from the host's (`IFLA_LINK_NETNSID`), or one from [`UNKNOWN_NETNS`] on.
    pub sandbox: u32,
}

/// The lowest number of a sandbox whose network namespace has no number: the kernel's are below.
pub const UNKNOWN_NETNS: u32 = 1 << 31;

/// A member of an isolation set: packets of `from` may enter `to`. Layout: 4 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct IsolationKey {
    /// The sender's network.
    pub from: u16,
    /// The receiver's network.
    pub to: u16,
}

/// A link between containers of a network without [`NetworkFlags::ICC`]: what one exposes, the other may ask for.
/// Layout: 12 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkKey {
    /// The slot of the endpoint that asks.
    pub from: u32,
    /// The slot of the one that is asked.
    pub to: u32,
    /// The port that it exposes.
    pub port: Port,
    /// IP protocol number.
    pub proto: u8,
    /// Always zero.
    pub reserved: u8,
}

/// The firewall mark with which packets from a trusted device enter a network, whatever port they are for.
/// Layout: 8 bytes, native order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedMark {
    /// What the bits of `mask` are.
    pub value: u32,
    /// The bits that count.
    pub mask: u32,
}

/// Which source a masqueraded packet gets: longest prefix match on the uplink and the destination, as
/// the kernel picks it by next hop. Layout: 8 bytes for IPv4, 20 for IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MasqueradeKey<A> {
    /// The uplink, always matched in full.
    pub ifindex: u32,
    /// The destination.
    pub dst: A,
}

map_type! {
    NetworkFamily<V4> = 20;
    NetworkFamily<V6> = 68;
    Network = 128;
    LinkKey = 12;
    AcceptedMark = 8;
    MasqueradeKey<V4> = 8;
    MasqueradeKey<V6> = 20;
}

#[cfg(feature = "user")]
mod user {
    use super::{BridgePort, Endpoint, IsolationKey, TrustedKey};

    // SAFETY: each is `bytemuck::Pod`, which asks for more than `aya::Pod` does.
    unsafe impl aya::Pod for BridgePort {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Endpoint {}
    // SAFETY: as above.
    unsafe impl aya::Pod for IsolationKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for TrustedKey {}
}

impl<A: Address> NetworkFamily<A> {
    /// Whether the address lies in the network's subnet.
    #[inline(always)]
    pub fn contains(&self, addr: A) -> bool {
        self.has(FamilyFlags::PRESENT) && addr.same_prefix(self.subnet, self.mask)
    }

    /// Whether all bits of `flags` are set.
    #[inline(always)]
    pub fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }
}

impl AcceptedMark {
    /// Whether a packet has the mark (`-m mark --mark VALUE/MASK` of iptables-extensions(8)).
    #[inline(always)]
    pub fn is_on(&self, mark: u32) -> bool {
        mark & self.mask == self.value
    }
}

impl Network {
    /// In place of a size: what the route to the other end takes.
    pub const MSS_OF_ROUTE: u16 = u16::MAX;

    /// Whether all bits of `flags` are set.
    #[inline(always)]
    pub fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }
}
