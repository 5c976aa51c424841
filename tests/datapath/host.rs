//! The host that the programs run on: one uplink, four networks, and some published ports, in both
//! families.
//!
//! ```text
//!   UPLINK ── host ──┬── NET_A   1: .2, .3    masquerade, icc
//!                    ├── NET_B   2: .2        masquerade
//!                    ├── ROUTED  3: .2        icc, gateway mode routed
//!                    └── OPEN    4: .2        masquerade, icc, gateway mode nat-unprotected
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context as _, Result};
use netd_common::{
    address::Address,
    config::{ConfigFlags, DatapathConfig},
    names,
    network::{BridgePort, Endpoint, FamilyFlags, Network, NetworkFamily, NetworkFlags},
    nptv6::OutsidePrefix,
    reason::Reason,
};
use netd_tests::{
    family::Family,
    packet::HOST_MAC,
    prog::{Datapath, Place, flows::Half, in_new_netns, maps::Published},
};

pub(crate) const UPLINK: u32 = 50;
pub(crate) const NET_A: u16 = 1;
pub(crate) const NET_B: u16 = 2;
pub(crate) const ROUTED: u16 = 3;
pub(crate) const OPEN: u16 = 4;
const ENDPOINTS: [(u16, u8); 5] = [(NET_A, 2), (NET_A, 3), (NET_B, 2), (ROUTED, 2), (OPEN, 2)];

/// The largest packet that a network's containers take.
pub(crate) const MTU: u16 = 1400;

/// 8080/tcp leads to port 80, and 5353/udp to port 53, of .2 on NET_A.
pub(crate) const WEB: u16 = 8080;
pub(crate) const WEB_SLOT: u32 = 1;
pub(crate) const SCTP: u16 = 36_412;
pub(crate) const DNS: u16 = 5353;
pub(crate) const DNS_SLOT: u32 = 2;
/// 20000 to 20099/udp lead to 30000 and on there.
pub(crate) const RANGE: u16 = 20_000;

/// Seconds that a UDP flow without replies lives.
pub(crate) const UDP_SECS: u32 = 30;

/// A program and where it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) program: &'static str,
    pub(crate) place: Place,
}

const fn at(program: &'static str, ifindex: u32, ingress_ifindex: u32) -> At {
    At { program, place: Place { ifindex, ingress_ifindex, segment_len: 0 } }
}

pub(crate) const FROM_UPLINK: At = at(names::FROM_UPLINK, UPLINK, UPLINK);
/// Forwarded from a bridge.
pub(crate) const TO_UPLINK: At = at(names::TO_UPLINK, UPLINK, 11);
/// The host's own.
pub(crate) const HOST_TO_UPLINK: At = at(names::TO_UPLINK, UPLINK, 0);

pub(crate) const fn from_endpoint(network: u16, n: u8) -> At {
    at(names::FROM_ENDPOINT, port(network, n), port(network, n))
}

pub(crate) const fn to_endpoint(network: u16, n: u8, ingress: u32) -> At {
    at(names::TO_ENDPOINT, port(network, n), ingress)
}

/// On a network's bridge, from one of its ports.
pub(crate) const fn from_bridge(network: u16) -> At {
    at(names::FROM_BRIDGE, bridge(network), bridge(network))
}

pub(crate) const fn to_bridge(network: u16, ingress: u32) -> At {
    at(names::TO_BRIDGE, bridge(network), ingress)
}

/// A network's bridge.
pub(crate) const fn bridge(network: u16) -> u32 {
    10 + network as u32
}

/// The host's end of an endpoint's veth pair.
pub(crate) const fn port(network: u16, n: u8) -> u32 {
    100 * network as u32 + n as u32
}

/// An endpoint's MAC address.
pub(crate) const fn mac(network: u16, n: u8) -> [u8; 6] {
    [2, 0, 0, network as u8, 1, n]
}

/// The MAC address of a network's bridge.
pub(crate) const fn bridge_mac(network: u16) -> [u8; 6] {
    [2, 0, 0, network as u8, 0, 0xbb]
}

pub(crate) const fn slot(network: u16, n: u8) -> u32 {
    1_000 + port(network, n)
}

/// A container's address; 1 is the bridge's own.
pub(crate) fn inside(family: Family, network: u16, n: u8) -> IpAddr {
    family.pick(
        [172, 16 + network as u8, 0, n].into(),
        [0x2001, 0xdb8, 0xac, network, 0, 0, 0, n.into()].into(),
    )
}

pub(crate) fn end(addr: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(addr, port)
}

/// The loaded programs, and what their maps held after the last packet.
pub(crate) struct Host {
    pub(crate) datapath: Datapath,
    /// Packets and bytes by reason, when the last packet had been seen.
    pub(crate) counters: BTreeMap<Reason, (u64, u64)>,
    /// The connection tables then.
    pub(crate) halves: BTreeSet<Half>,
}

/// Runs a test on a host of its own, once for each family.
pub(crate) fn on_a_host(test: fn(&mut Host, Family) -> Result<()>) -> Result<()> {
    on_a_host_with(1_024, test)
}

/// As [`on_a_host`], with redirection of new flows.
pub(crate) fn on_a_fast_host(test: fn(&mut Host, Family) -> Result<()>) -> Result<()> {
    for family in Family::BOTH {
        let run = || test(&mut Host::new(1_024, NetworkFlags::FAST)?, family);
        in_new_netns(&devices(), run).with_context(|| family.to_string())?;
    }
    Ok(())
}

/// As [`on_a_host`], with connection tables that hold `max_halves` halves of flows.
pub(crate) fn on_a_host_with(
    max_halves: u32,
    test: fn(&mut Host, Family) -> Result<()>,
) -> Result<()> {
    for family in Family::BOTH {
        let run = || test(&mut Host::new(max_halves, 0)?, family);
        in_new_netns(&devices(), run).with_context(|| family.to_string())?;
    }
    Ok(())
}

fn devices() -> Vec<String> {
    let mac = HOST_MAC.map(|byte| format!("{byte:02x}")).join(":");
    let ports = ENDPOINTS.map(|(network, n)| port(network, n));
    let veth = |index: &u32| {
        format!("link add h{index} index {index} address {mac} type veth peer name p{index}")
    };
    // Bridges come first, before the kernel numbers peers like them. Who is plugged into them the programs
    // know from their maps.
    let bridges = [NET_A, NET_B, ROUTED, OPEN].map(bridge);
    bridges.iter().chain(&[UPLINK]).chain(&ports).map(veth).collect()
}

impl Host {
    fn new(max_halves: u32, flags: u32) -> Result<Self> {
        let mut datapath = Datapath::load(max_halves)?;
        let config = DatapathConfig {
            secret: [1, 2],
            flags: ConfigFlags::RANGES_PUBLISHED | ConfigFlags::TCP_LOOSE,
            ..DatapathConfig::DEFAULT
        };
        datapath.configure(&config)?;
        let (masquerade, icc) = (FamilyFlags::MASQUERADE, flags | NetworkFlags::ICC);
        add_network(&mut datapath, NET_A, masquerade, icc)?;
        add_network(&mut datapath, NET_B, masquerade, flags)?;
        add_network(&mut datapath, ROUTED, FamilyFlags::ROUTED, icc)?;
        add_network(&mut datapath, OPEN, masquerade | FamilyFlags::UNPROTECTED, icc)?;
        for family in Family::BOTH {
            datapath.add_host_address(family.host())?;
            datapath.add_masquerade_source(UPLINK, family.host())?;
            for (proto, ports, port, slot) in [
                (6, WEB..=WEB, 80, WEB_SLOT),
                (17, DNS..=DNS, 53, DNS_SLOT),
                (132, SCTP..=SCTP, 9899, 4),
                (17, RANGE..=RANGE + 99, 30_000, 3),
            ] {
                datapath.publish(&Published {
                    addr: family.pick(IpAddr::from([0; 4]), IpAddr::from([0; 16])),
                    proto,
                    ports,
                    container: end(inside(family, NET_A, 2), port),
                    network: NET_A,
                    slot,
                    endpoint_slot: slot_of_the_published_container(),
                })?;
            }
        }
        Ok(Self { datapath, counters: BTreeMap::new(), halves: BTreeSet::new() })
    }
}

const fn slot_of_the_published_container() -> u32 {
    slot(NET_A, 2)
}

/// What the programs know of a network.
pub(crate) fn network(number: u16, side_flags: u32, flags: u32) -> Result<Network> {
    Ok(Network {
        v4: side(Family::V4, number, side_flags)?,
        v6: side(Family::V6, number, side_flags)?,
        bridge_ifindex: bridge(number),
        flags: flags | NetworkFlags::PRESENT,
        bridge_mac: bridge_mac(number),
        mss_clamp: 0,
        reserved: 0,
        mtu: MTU,
        outside: OutsidePrefix::NONE,
    })
}

fn add_network(datapath: &mut Datapath, number: u16, side_flags: u32, flags: u32) -> Result<()> {
    datapath.set_network(number, &network(number, side_flags, flags)?)?;
    datapath.add_bridge(bridge(number), number)?;
    for family in Family::BOTH {
        datapath.add_subnet(inside(family, number, 0), family.pick(16, 64), number)?;
        datapath.add_host_address(inside(family, number, 1))?;
    }
    for (network, n) in ENDPOINTS.into_iter().filter(|endpoint| endpoint.0 == number) {
        let (slot, ifindex, mac) = (slot(network, n), port(network, n), mac(network, n));
        datapath.add_bridge_port(ifindex, &BridgePort { slot, network, mac, sandbox: slot })?;
        for family in Family::BOTH {
            let endpoint = Endpoint { ifindex, slot, network, mac, sandbox: slot };
            datapath.add_endpoint(inside(family, network, n), &endpoint)?;
        }
    }
    Ok(())
}

fn side<A: Address>(family: Family, number: u16, flags: u32) -> Result<NetworkFamily<A>> {
    let addr = |ip| A::from_ip(ip).context("the family of the subnet");
    let mask: IpAddr = match family {
        Family::V4 => (u32::MAX << 16).to_be_bytes().into(),
        Family::V6 => (u128::MAX << 64).to_be_bytes().into(),
    };
    Ok(NetworkFamily {
        subnet: addr(inside(family, number, 0))?,
        mask: addr(mask)?,
        snat_source: A::UNSPECIFIED,
        bridge_addr: addr(inside(family, number, 1))?,
        flags: flags | FamilyFlags::PRESENT,
    })
}
