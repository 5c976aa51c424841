//! What the maps should hold, as a pure function of the desired state and the host.
//!
//! Nothing here is incremental: each change computes the whole contents anew, and the data path writes
//! only the difference to what it holds. So there is one description of the maps and no way to forget
//! an entry, and a restart is the same step as any other.

mod ports;
mod targets;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroU32,
};

use ipnet::IpNet;
use netd_common::{
    address::{Address, Family, Port, V4, V6},
    config::{ConfigFlags, reserved_port},
    counters::FlowCount,
    network::{
        AcceptedMark, BridgePort, Endpoint, FamilyFlags, HostAddressFlags, IsolationKey, LinkKey,
        MasqueradeKey, Network, NetworkFamily, NetworkFlags, TrustedKey, UNKNOWN_NETNS,
        UplinkFlags,
    },
    nptv6::OutsidePrefix,
    published::{PublishedPort, PublishedPortKey, PublishedRangeKey, kept_port},
};

pub(crate) use targets::Targets;

use crate::{
    desired::Desired,
    model::{self, GatewayMode, MssClamp, NatMode},
    uplinks::masquerade::MasqueradeSource,
};

/// The bits of an interface index, which prefixes match in full.
const IFINDEX_BITS: u32 = 32;

/// What the host has, as far as the maps depend on it.
#[derive(Debug, Default)]
pub(crate) struct HostFacts {
    /// The index of each link, by name.
    pub(crate) ifindexes: BTreeMap<String, u32>,
    /// The MAC address of each link that has one, by name.
    pub(crate) macs: BTreeMap<String, [u8; 6]>,
    /// The number of the network namespace that a veth pair's other end is in, by the name of this one.
    pub(crate) netns: BTreeMap<String, u32>,
    /// The addresses of each link, by name.
    pub(crate) addresses: BTreeMap<String, Vec<IpAddr>>,
    /// The uplinks that carry our programs, and whether their packets have an Ethernet header.
    pub(crate) uplinks: BTreeMap<u32, bool>,
    /// The MAC addresses that frames for the host have, by the device that receives them.
    pub(crate) uplink_macs: BTreeMap<u32, [u8; 6]>,
    /// The ports that nobody is given, as ranges.
    pub(crate) reserved_ports: Vec<(u16, u16)>,
    /// Published ports are reached at the containers' own addresses too, from every uplink.
    pub(crate) trusts_every_uplink: bool,
    /// The networks whose new flows are redirected past the stack.
    pub(crate) fast_networks: BTreeSet<String>,
    /// The most flows of an endpoint and of a network that do not say it themselves.
    pub(crate) default_flow_limits: [Option<NonZeroU32>; 2],
    /// How source ports are given on networks that do not say it themselves.
    pub(crate) default_nat: NatMode,
    /// Which source a packet gets, by uplink and destination.
    pub(crate) masquerade_sources: Vec<MasqueradeSource>,
}

/// The contents of all maps that the daemon writes.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Programmed {
    pub(crate) networks: BTreeMap<u32, Network>,
    pub(crate) isolation_sets: BTreeMap<IsolationKey, u32>,
    pub(crate) bridges: BTreeMap<u32, u32>,
    pub(crate) trusted_interfaces: BTreeMap<TrustedKey, u32>,
    pub(crate) accepted_marks: BTreeMap<u32, AcceptedMark>,
    pub(crate) links: BTreeMap<LinkKey, u32>,
    pub(crate) bridge_ports: BTreeMap<u32, BridgePort>,
    pub(crate) uplinks: BTreeMap<u32, u32>,
    pub(crate) uplink_macs: BTreeMap<u32, [u8; 6]>,
    /// The most flows of endpoints and networks, by `FlowCount`.
    pub(crate) flow_limits: BTreeMap<u32, u32>,
    /// The ports that nobody is given, a bit each.
    pub(crate) reserved_ports: BTreeMap<u32, u64>,
    /// The ports that the host's programs cannot bind, a bit each.
    pub(crate) kept_ports: BTreeMap<u32, u64>,
    /// The slots that are in use.
    pub(crate) slots: BTreeMap<u32, u32>,
    pub(crate) v4: FamilyContents<V4>,
    pub(crate) v6: FamilyContents<V6>,
}

/// The contents of one family's maps. A prefix is keyed with its length in bits.
#[derive(Debug, PartialEq)]
pub(crate) struct FamilyContents<A: Address> {
    pub(crate) published_ports: BTreeMap<PublishedPortKey<A>, PublishedPort<A>>,
    pub(crate) published_ranges: BTreeMap<(u32, PublishedRangeKey<A>), PublishedPort<A>>,
    pub(crate) host_addresses: BTreeMap<A, u32>,
    pub(crate) subnets: BTreeMap<(u32, A), u32>,
    pub(crate) endpoints: BTreeMap<A, Endpoint>,
    pub(crate) masquerade_sources: BTreeMap<(u32, MasqueradeKey<A>), A>,
}

impl<A: Address> Default for FamilyContents<A> {
    fn default() -> Self {
        Self {
            published_ports: BTreeMap::new(),
            published_ranges: BTreeMap::new(),
            host_addresses: BTreeMap::new(),
            subnets: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            masquerade_sources: BTreeMap::new(),
        }
    }
}

impl Programmed {
    /// The contents for this desired state on this host. A network or endpoint whose device does not
    /// exist is left out: nothing can come from it.
    pub(crate) fn new(desired: &Desired, host: &HostFacts) -> Self {
        let mut this = Self {
            v4: family(desired, host),
            v6: family(desired, host),
            isolation_sets: isolation_sets(desired),
            links: links(desired),
            flow_limits: flow_limits(desired, host.default_flow_limits),
            uplinks: host.uplinks.iter().map(|(&ifindex, &e)| (ifindex, uplink(e))).collect(),
            uplink_macs: host.uplink_macs.clone(),
            reserved_ports: reserved_ports(&host.reserved_ports),
            kept_ports: kept_ports(desired),
            ..Self::default()
        };
        for network in desired.networks.values() {
            if let Some(&ifindex) = host.ifindexes.get(&network.bridge) {
                let number = u32::from(network.number);
                this.networks.insert(number, self::network(network, ifindex, host));
                this.bridges.insert(ifindex, number);
                this.trusted_interfaces.extend(trusted(network, host));
                let accepted = network.accept_mark;
                let accepted = accepted.map(|it| AcceptedMark { value: it.value, mask: it.mask });
                this.accepted_marks.extend(accepted.map(|accepted| (number, accepted)));
            }
        }
        let sandboxes = sandbox_numbers(desired, host);
        for endpoint in desired.endpoints.values() {
            this.slots.insert(endpoint.slot, 1);
            this.slots.extend(endpoint.ports.iter().map(|port| (port.slot, 1)));
            let (Some(&ifindex), Some(network)) = (
                host.ifindexes.get(&endpoint.host_ifname),
                desired.networks.get(&endpoint.network),
            ) else {
                continue;
            };
            let port = BridgePort {
                slot: endpoint.slot,
                network: network.number,
                mac: endpoint.mac.0,
                sandbox: sandbox_number(&sandboxes, endpoint),
            };
            this.bridge_ports.insert(ifindex, port);
        }
        this
    }

    /// The switches that say which contents are worth a look.
    pub(crate) fn config_flags(&self) -> u32 {
        let has_ranges =
            !self.v4.published_ranges.is_empty() || !self.v6.published_ranges.is_empty();
        let clamps = self.networks.values().any(|network| network.mss_clamp != 0);
        let has = |flag| self.networks.values().any(|network| network.has(flag));
        flag(has_ranges, ConfigFlags::RANGES_PUBLISHED)
            | flag(clamps, ConfigFlags::MSS_CLAMPED)
            | flag(has(NetworkFlags::ENDPOINT_INDEPENDENT), ConfigFlags::MAPPINGS)
    }
}

/// The most flows of every network and endpoint that has a limit.
fn flow_limits(
    desired: &Desired,
    [of_endpoint, of_network]: [Option<NonZeroU32>; 2],
) -> BTreeMap<u32, u32> {
    let networks = desired
        .networks
        .values()
        .map(|network| (FlowCount::of_network(network.number), network.max_flows.or(of_network)));
    let endpoints = desired.endpoints.values();
    let endpoints = endpoints.map(|endpoint| (endpoint.slot, endpoint.max_flows.or(of_endpoint)));
    networks.chain(endpoints).filter_map(|(index, limit)| Some((index, limit?.get()))).collect()
}

/// The devices that a network trusts, as far as they are there.
fn trusted(network: &model::Network, host: &HostFacts) -> impl Iterator<Item = (TrustedKey, u32)> {
    let trusts_every_uplink = host.trusts_every_uplink || network.direct_routing;
    let every = host.uplinks.keys().filter(move |_| trusts_every_uplink);
    let named = network.trusted_interfaces.iter().filter_map(|name| host.ifindexes.get(name));
    let number = u32::from(network.number);
    every.chain(named).map(move |&ifindex| (TrustedKey { ifindex, network: number }, 1))
}

fn uplink(has_ethernet: bool) -> u32 {
    UplinkFlags::PRESENT | if has_ethernet { UplinkFlags::ETHERNET } else { 0 }
}

fn network(network: &model::Network, bridge_ifindex: u32, host: &HostFacts) -> Network {
    let flags = NetworkFlags::PRESENT
        | flag(network.internal, NetworkFlags::INTERNAL)
        | flag(network.icc, NetworkFlags::ICC)
        | flag(network.strict_source, NetworkFlags::STRICT_SOURCE)
        | flag(network.icc_strict && !network.icc, NetworkFlags::ICC_STRICT)
        | flag(
            network.nat.unwrap_or(host.default_nat) == NatMode::Eim,
            NetworkFlags::ENDPOINT_INDEPENDENT,
        )
        | flag(host.fast_networks.contains(&network.name), NetworkFlags::FAST);
    Network {
        v4: side(network),
        v6: side(network),
        bridge_ifindex,
        flags,
        bridge_mac: host.macs.get(&network.bridge).copied().unwrap_or_default(),
        mtu: u16::try_from(network.mtu).unwrap_or(u16::MAX),
        mss_clamp: match network.mss_clamp {
            None => 0,
            Some(MssClamp::Auto) => Network::MSS_OF_ROUTE,
            Some(MssClamp::Bytes(bytes)) => bytes.get(),
        },
        reserved: 0,
        outside: outside(network),
    }
}

/// What the IPv6 prefix is translated to.
fn outside(network: &model::Network) -> OutsidePrefix {
    let v6 = |subnet: &model::Subnet| V6::from_ip(subnet.subnet.network());
    match (network.nptv6, network.subnets.iter().find_map(v6)) {
        (Some(prefix), Some(subnet)) => OutsidePrefix::new(subnet, V6::new(prefix.network())),
        _ => OutsidePrefix::NONE,
    }
}

fn side<A: Address>(network: &model::Network) -> NetworkFamily<A> {
    let none = A::UNSPECIFIED;
    let of_family = |subnet: &&model::Subnet| A::from_ip(subnet.subnet.addr()).is_some();
    let Some(subnet) = network.subnets.iter().find(of_family) else {
        return NetworkFamily {
            subnet: none,
            mask: none,
            snat_source: none,
            bridge_addr: none,
            flags: 0,
        };
    };
    let mode = subnet.gateway_mode;
    let is_translated = A::FAMILY == Family::V6 && network.nptv6.is_some();
    let masquerades = network.masquerade && mode.translates() && !is_translated;
    let snat_source = network.snat_addresses.iter().find_map(|&address| A::from_ip(address));
    NetworkFamily {
        subnet: A::from_ip(subnet.subnet.network()).unwrap_or(none),
        mask: A::from_ip(subnet.subnet.netmask()).unwrap_or(none),
        snat_source: snat_source.unwrap_or(none),
        bridge_addr: network.bridge_address(subnet).and_then(A::from_ip).unwrap_or(none),
        flags: FamilyFlags::PRESENT
            | flag(masquerades, FamilyFlags::MASQUERADE)
            | flag(is_translated, FamilyFlags::PREFIX_TRANSLATED)
            | flag(mode == GatewayMode::Routed, FamilyFlags::ROUTED)
            | flag(mode == GatewayMode::NatUnprotected, FamilyFlags::UNPROTECTED),
    }
}

fn flag(is_set: bool, flag: u32) -> u32 {
    if is_set { flag } else { 0 }
}

/// The number of each container: the kernel's for its network namespace, or, where none is known, one that follows
/// from the lowest slot of its endpoints.
fn sandbox_numbers(desired: &Desired, host: &HostFacts) -> BTreeMap<(u64, u64), u32> {
    let mut numbers = BTreeMap::new();
    for endpoint in desired.endpoints.values() {
        let known = host.netns.get(&endpoint.host_ifname).copied();
        let own = known.unwrap_or(UNKNOWN_NETNS | endpoint.slot);
        let number = numbers.entry(sandbox_key(endpoint)).or_insert(own);
        *number = own.min(*number);
    }
    numbers
}

fn sandbox_number(numbers: &BTreeMap<(u64, u64), u32>, endpoint: &model::Endpoint) -> u32 {
    numbers.get(&sandbox_key(endpoint)).copied().unwrap_or(UNKNOWN_NETNS | endpoint.slot)
}

fn sandbox_key(endpoint: &model::Endpoint) -> (u64, u64) {
    (endpoint.sandbox.dev, endpoint.sandbox.ino)
}

fn isolation_sets(desired: &Desired) -> BTreeMap<IsolationKey, u32> {
    let number = |name: &str| desired.networks.get(name).map(|network| network.number);
    let own = desired.networks.values().map(|network| (network.number, network.number));
    let others = desired.allowed.iter().filter_map(|(a, b)| Some((number(a)?, number(b)?)));
    own.chain(others)
        .flat_map(|(a, b)| [IsolationKey { from: a, to: b }, IsolationKey { from: b, to: a }])
        .map(|key| (key, 1))
        .collect()
}

fn links(desired: &Desired) -> BTreeMap<LinkKey, u32> {
    let of = |endpoint: &'_ model::Endpoint| {
        let from = endpoint.slot;
        let keys = endpoint.links.iter().filter_map(move |link| {
            let to = desired.endpoints.get(&link.endpoint)?.slot;
            let (port, proto) = (Port::new(link.port), ports::number(link.proto));
            Some((LinkKey { from, to, port, proto, reserved: 0 }, 1))
        });
        keys.collect::<Vec<_>>()
    };
    desired.endpoints.values().flat_map(of).collect()
}

fn family<A: Address>(desired: &Desired, host: &HostFacts) -> FamilyContents<A> {
    let mut contents =
        FamilyContents { host_addresses: host_addresses(desired, host), ..Default::default() };
    for network in desired.networks.values() {
        let outside = network.nptv6.map(IpNet::V6);
        let subnets = network.subnets.iter().map(|subnet| subnet.subnet).chain(outside);
        let subnets = subnets.filter_map(prefix::<A>);
        contents.subnets.extend(subnets.map(|prefix| (prefix, u32::from(network.number))));
    }
    for source in &host.masquerade_sources {
        if let (Some((bits, dst)), Some(address)) =
            (prefix::<A>(source.destination), A::from_ip(source.source))
        {
            let key = MasqueradeKey { ifindex: source.ifindex, dst };
            contents.masquerade_sources.insert((IFINDEX_BITS + bits, key), address);
        }
    }
    let sandboxes = sandbox_numbers(desired, host);
    for endpoint in desired.endpoints.values() {
        let Some(network) = desired.networks.get(&endpoint.network) else { continue };
        let addr = endpoint.addresses().find_map(|net| A::from_ip(net.addr()));
        let Some(addr) = addr else {
            ports::publish_for_host(&mut contents, host, network, endpoint);
            continue;
        };
        ports::publish(&mut contents, host, network, endpoint, addr);
        if let Some(&ifindex) = host.ifindexes.get(&endpoint.host_ifname) {
            let value = Endpoint {
                ifindex,
                slot: endpoint.slot,
                network: network.number,
                mac: endpoint.mac.0,
                sandbox: sandbox_number(&sandboxes, endpoint),
            };
            contents.endpoints.insert(addr, value);
        }
    }
    contents
}

/// The host's addresses, and which of them lie in a network's subnet.
fn host_addresses<A: Address>(desired: &Desired, host: &HostFacts) -> BTreeMap<A, u32> {
    let subnets = desired.networks.values().flat_map(|network| &network.subnets);
    let flags = |ip: &IpAddr| {
        let is_on_bridge = subnets.clone().any(|subnet| subnet.subnet.contains(ip));
        HostAddressFlags::PRESENT | flag(is_on_bridge, HostAddressFlags::ON_BRIDGE)
    };
    let addresses = host.addresses.values().flatten();
    addresses.filter_map(|ip| Some((A::from_ip(*ip)?, flags(ip)))).collect()
}

fn reserved_ports(ranges: &[(u16, u16)]) -> BTreeMap<u32, u64> {
    let mut words = BTreeMap::new();
    for (word, bit) in ranges.iter().flat_map(|&(first, last)| first..=last).map(reserved_port) {
        *words.entry(word).or_default() |= bit;
    }
    words
}

/// What netd publishes itself. Docker holds what it publishes, by sockets of its own.
fn kept_ports(desired: &Desired) -> BTreeMap<u32, u64> {
    let mut words = BTreeMap::new();
    let is_kept = |(endpoint, port): &(&model::Endpoint, &model::PublishedPort)| {
        !desired.is_dockers(endpoint) && port.host_ip != model::HostIp::Container
    };
    for (_, row) in desired.published_ports().filter(is_kept) {
        let ports = row.host_port..=row.host_port_end;
        for (word, bit) in ports.filter_map(|port| kept_port(ports::number(row.proto), port)) {
            *words.entry(word).or_default() |= bit;
        }
    }
    words
}

/// A prefix of this family, as its length and its address.
fn prefix<A: Address>(net: IpNet) -> Option<(u32, A)> {
    Some((u32::from(net.prefix_len()), A::from_ip(net.network())?))
}
