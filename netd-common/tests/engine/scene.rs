//! A host with eight networks and some published ports, in both families.
//!
//! ```text
//!   outside ── UPLINK ── host ──┬── NET_A     1: .2, .3    masquerade, icc
//!              SECOND_UPLINK ───┤── NET_B     2: .2        masquerade, icc
//!              (no address)     ├── INTERNAL  3: .2, .3    internal
//!                               ├── PLAIN     4: .2        no masquerade
//!                               ├── FIXED     5: .2        fixed source host(9)
//!                               ├── QUIET     6: .2, .3    masquerade, no icc
//!                               ├── ROUTED    7: .2        gateway mode routed
//!                               └── OPEN      8: .2        gateway mode nat-unprotected
//! ```

use netd_common::{
    address::{Port, V4, V6},
    config::ConfigFlags,
    conntrack::{CtEntry, CtKey},
    engine,
    network::{BridgePort, Endpoint, FamilyFlags, Network, NetworkFamily, NetworkFlags},
    nptv6::OutsidePrefix,
    published::PublishedPort,
};

use crate::{
    family::Family,
    place::{bridge, bridge_mac, mac, port, slot},
    tables::{HostRoute, HostTables, Masquerade, PublishedRange, Uplink, published_key},
};

pub(crate) const UPLINK: u32 = 2;
pub(crate) const SECOND_UPLINK: u32 = 3;

pub(crate) const NET_A: u16 = 1;
pub(crate) const NET_B: u16 = 2;
pub(crate) const INTERNAL: u16 = 3;
pub(crate) const PLAIN: u16 = 4;
pub(crate) const FIXED: u16 = 5;
pub(crate) const QUIET: u16 = 6;
pub(crate) const ROUTED: u16 = 7;
pub(crate) const OPEN: u16 = 8;
pub(crate) const NETWORKS: [u16; 8] = [NET_A, NET_B, INTERNAL, PLAIN, FIXED, QUIET, ROUTED, OPEN];

/// 8080 on every address leads to port 80 of .2 on NET_A.
pub(crate) const WEB: u16 = 8080;
pub(crate) const WEB_SLOT: u32 = 1;
/// 8081 leads there as well.
pub(crate) const WEB_TOO: u16 = 8081;
/// 36412/sctp leads to port 9899 there, and 9899/sctp to the same port.
pub(crate) const S1AP: u16 = 36_412;
pub(crate) const SCTP_PORT: u16 = 9899;
/// 5353/udp leads to port 53 there.
pub(crate) const DNS: u16 = 5353;
pub(crate) const DNS_SLOT: u32 = 3;
/// 9000 on the host's second address alone leads to port 90 of .2 on NET_B.
pub(crate) const SPECIFIC: u16 = 9000;
pub(crate) const SPECIFIC_SLOT: u32 = 4;
/// 9001 on the loopback address alone leads to port 82 of .2 on NET_A.
pub(crate) const LOCAL: u16 = 9001;
/// 8006 leads to port 80 of .2 on QUIET.
pub(crate) const SHY: u16 = 8006;
/// Port 80 of .2 on ROUTED is reached there, and so is each port of a range.
pub(crate) const OWN: u16 = 80;
pub(crate) const OWN_SLOT: u32 = 9;
pub(crate) const OWN_RANGE: u16 = 7000;
/// 20000 to 20099/udp lead to 30000 and on of .2 on NET_A.
pub(crate) const RANGE: u16 = 20_000;
/// 21000 to 21009 on the host's first address alone lead to the same ports of .2 on NET_B.
pub(crate) const SPECIFIC_RANGE: u16 = 21_000;

/// The largest packet that a network's containers take.
pub(crate) const MTU: u16 = 1400;

/// How packets between a container and an uplink go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Datapath {
    Stack,
    Fast,
}

/// The host.
pub(crate) struct Scene {
    pub(crate) datapath: Datapath,
    pub(crate) tables: HostTables,
    /// Whether there are programs to hand packets over to.
    pub(crate) has_rare_programs: bool,
}

impl Scene {
    /// On the host's stack.
    pub(crate) fn new() -> Self {
        Self::on(Datapath::Stack)
    }

    pub(crate) fn on(datapath: Datapath) -> Self {
        let mut tables = HostTables::new();
        tables.config.flags |= ConfigFlags::RANGES_PUBLISHED;
        let (masquerade, icc) = (FamilyFlags::MASQUERADE, NetworkFlags::ICC);
        for (number, side, flags, endpoints) in [
            (NET_A, masquerade, icc, &[2, 3][..]),
            (NET_B, masquerade, icc, &[2]),
            (INTERNAL, masquerade, icc | NetworkFlags::INTERNAL, &[2, 3]),
            (PLAIN, 0, icc, &[2]),
            (FIXED, masquerade, icc, &[2]),
            (QUIET, masquerade, 0, &[2, 3]),
            (ROUTED, FamilyFlags::ROUTED, icc, &[2]),
            (OPEN, masquerade | FamilyFlags::UNPROTECTED, icc, &[2]),
        ] {
            let fast = if datapath == Datapath::Fast { NetworkFlags::FAST } else { 0 };
            add_network(&mut tables, number, side, flags | fast);
            endpoints.iter().for_each(|&n| add_endpoint(&mut tables, number, n));
        }
        populate::<V4>(&mut tables);
        populate::<V6>(&mut tables);
        Self { datapath, tables, has_rare_programs: true }
    }

    pub(crate) fn wait(&self, secs: u32) {
        self.tables.now_secs.set(self.tables.now_secs.get() + secs);
    }

    /// Has the expiry look at every half, as the daemon's scan does.
    pub(crate) fn expire<A: Family>(&self) {
        for (key, _) in self.halves::<A>() {
            let _ = engine::expire(&self.tables, &key, false);
        }
    }

    /// Both halves of every flow.
    pub(crate) fn halves<A: Family>(&self) -> Vec<(CtKey<A>, CtEntry<A>)> {
        let flows = A::store(&self.tables).flows.borrow();
        flows.iter().map(|(key, half)| (*key, half.get())).collect()
    }

    /// Makes one container of two endpoints.
    pub(crate) fn share_sandbox<A: Family>(&mut self, one: (u16, u8), other: (u16, u8)) {
        for (network, n) in [one, other] {
            let port = self.tables.bridge_ports.get_mut(&port(network, n)).unwrap();
            port.sandbox = 7;
            let endpoints = &mut A::store_mut(&mut self.tables).endpoints;
            endpoints.get_mut(&A::inside(network, n)).unwrap().sandbox = 7;
        }
    }

    /// Sets flags of a network.
    pub(crate) fn set(&mut self, network: u16, flags: u32) {
        self.tables.networks.get_mut(&network).unwrap().flags |= flags;
    }

    pub(crate) fn bump_generation(&self, slot: u32) {
        *self.tables.generations.borrow_mut().entry(slot).or_default() += 1;
    }
}

fn add_network(tables: &mut HostTables, number: u16, side_flags: u32, flags: u32) {
    let network = Network {
        v4: side(number, side_flags),
        v6: side(number, side_flags),
        bridge_ifindex: bridge(number),
        flags: flags | NetworkFlags::PRESENT,
        bridge_mac: bridge_mac(number),
        mtu: MTU,
        mss_clamp: 0,
        reserved: 0,
        outside: OutsidePrefix::NONE,
    };
    tables.networks.insert(number, network);
    // As the daemon has it.
    tables.isolation_sets.insert((number, number));
    tables.v4.subnets.push((V4::inside(number, 0), V4::mask(V4::SUBNET_BITS), number));
    tables.v6.subnets.push((V6::inside(number, 0), V6::mask(V6::SUBNET_BITS), number));
    tables.v4.host_addresses.insert(V4::inside(number, 1));
    tables.v6.host_addresses.insert(V6::inside(number, 1));
}

fn add_endpoint(tables: &mut HostTables, network: u16, n: u8) {
    let (slot, ifindex, mac) = (slot(network, n), port(network, n), mac(network, n));
    tables.bridge_ports.insert(ifindex, BridgePort { slot, network, mac, sandbox: slot });
    let endpoint = Endpoint { ifindex, slot, network, mac, sandbox: slot };
    tables.v4.endpoints.insert(V4::inside(network, n), endpoint);
    tables.v6.endpoints.insert(V6::inside(network, n), endpoint);
}

fn side<A: Family>(number: u16, flags: u32) -> NetworkFamily<A> {
    NetworkFamily {
        subnet: A::inside(number, 0),
        mask: A::mask(A::SUBNET_BITS),
        snat_source: if number == FIXED { A::host(9) } else { A::UNSPECIFIED },
        bridge_addr: A::inside(number, 1),
        flags: flags | FamilyFlags::PRESENT,
    }
}

fn populate<A: Family>(tables: &mut HostTables) {
    let store = A::store_mut(tables);
    store.host_addresses.extend([A::host(1), A::host(2), A::host(9)]);
    store.default_route = HostRoute::Uplink(Uplink::ethernet(UPLINK, A::outside(1)));
    // Half of the outside world is reached from the host's second address.
    let (all, half) = ((A::UNSPECIFIED, 0, A::host(1)), (A::outside(128), A::BITS - 7, A::host(2)));
    for (prefix, bits, source) in [all, half] {
        store.masquerade.push(Masquerade { ifindex: UPLINK, prefix, bits, source });
    }
    let (a, b) = (NET_A, NET_B);
    for (addr, proto, host_port, network, port, slot) in [
        (A::UNSPECIFIED, 6, WEB, a, 80, WEB_SLOT),
        (A::UNSPECIFIED, 6, WEB_TOO, a, 80, 2),
        (A::UNSPECIFIED, 132, S1AP, a, SCTP_PORT, 11),
        (A::UNSPECIFIED, 132, SCTP_PORT, a, SCTP_PORT, 12),
        (A::UNSPECIFIED, 17, DNS, a, 53, DNS_SLOT),
        (A::host(2), 6, SPECIFIC, b, 90, SPECIFIC_SLOT),
        (A::LOOPBACK, 6, LOCAL, a, 82, 7),
        (A::UNSPECIFIED, 6, SHY, QUIET, 80, 8),
        (A::inside(ROUTED, 2), 6, OWN, ROUTED, OWN, OWN_SLOT),
    ] {
        let leads_to = leads_to(host_port, network, port, slot);
        store.published.insert(published_key(addr, proto, host_port), leads_to);
    }
    for (addr, proto, ports, network, port, slot) in [
        (A::UNSPECIFIED, 17, RANGE..=RANGE + 99, a, 30_000, 5),
        (A::host(1), 6, SPECIFIC_RANGE..=SPECIFIC_RANGE + 9, b, SPECIFIC_RANGE, 6),
        (A::inside(ROUTED, 2), 17, OWN_RANGE..=OWN_RANGE + 9, ROUTED, OWN_RANGE, 10),
    ] {
        let leads_to = leads_to(*ports.start(), network, port, slot);
        store.ranges.push(PublishedRange { addr, proto, ports, leads_to });
    }
}

fn leads_to<A: Family>(host_port: u16, network: u16, port: u16, slot: u32) -> PublishedPort<A> {
    PublishedPort {
        addr: A::inside(network, 2),
        port: Port::new(port),
        host_port: Port::new(host_port),
        network,
        flags: 0,
        slot,
        endpoint_slot: self::slot(network, 2),
    }
}
