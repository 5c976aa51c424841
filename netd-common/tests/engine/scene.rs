//! A host with six networks and some published ports, in both families, and a way to send it messages.
//!
//! ```text
//!   outside ── UPLINK ── host ──┬── NET_A     1: .2, .3    masquerade, icc
//!              SECOND_UPLINK ───┤── NET_B     2: .2        masquerade, icc
//!              (no address)     ├── INTERNAL  3: .2        internal
//!                               ├── ROUTED    4: .2        no masquerade
//!                               ├── FIXED     5: .2        fixed source host(9)
//!                               └── QUIET     6: .2, .3    masquerade, no icc
//! ```

use netd_common::{
    address::{Port, V4, V6},
    config::ConfigFlags,
    conntrack::{CtEntry, CtKey},
    engine,
    network::{BridgePort, Endpoint, Network, NetworkFamily, NetworkFlags},
    published::PublishedPort,
    reason::{Reason, Verdict},
};

use crate::{
    family::Family,
    message::Message,
    packet::HostPacket,
    tables::{HostTables, Masquerade, PublishedRange, published_key},
};

pub(crate) const UPLINK: u32 = 2;
pub(crate) const SECOND_UPLINK: u32 = 3;

pub(crate) const NET_A: u16 = 1;
pub(crate) const NET_B: u16 = 2;
pub(crate) const INTERNAL: u16 = 3;
pub(crate) const ROUTED: u16 = 4;
pub(crate) const FIXED: u16 = 5;
pub(crate) const QUIET: u16 = 6;

/// 8080 on every address leads to port 80 of .2 on NET_A.
pub(crate) const WEB: u16 = 8080;
pub(crate) const WEB_SLOT: u32 = 1;
/// 8081 leads there as well.
pub(crate) const WEB_TOO: u16 = 8081;
/// 5353/udp leads to port 53 there.
pub(crate) const DNS: u16 = 5353;
/// 9000 on the host's second address alone leads to port 90 of .2 on NET_B.
pub(crate) const SPECIFIC: u16 = 9000;
/// 9001 on the loopback address alone leads to port 82 of .2 on NET_A.
pub(crate) const LOCAL: u16 = 9001;
/// 20000 to 20099/udp lead to 30000 and on of .2 on NET_A.
pub(crate) const RANGE: u16 = 20_000;
/// 21000 to 21009 on the host's first address alone lead to the same ports of .2 on NET_B.
pub(crate) const SPECIFIC_RANGE: u16 = 21_000;

/// The bridge of a network.
pub(crate) fn bridge(network: u16) -> u32 {
    10 + u32::from(network)
}

/// The host's end of an endpoint's veth pair.
pub(crate) fn port(network: u16, n: u8) -> u32 {
    100 * u32::from(network) + u32::from(n)
}

/// The slot of an endpoint.
pub(crate) fn slot(network: u16, n: u8) -> u32 {
    1_000 + port(network, n)
}

/// A hook and the device that the packet came in on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) hook: Hook,
    pub(crate) ifindex: u32,
    pub(crate) ingress: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    FromUplink,
    ToUplink,
    FromEndpoint,
    ToEndpoint,
}

pub(crate) const FROM_UPLINK: At = At { hook: Hook::FromUplink, ifindex: UPLINK, ingress: UPLINK };
/// Forwarded from the first network's bridge.
pub(crate) const TO_UPLINK: At = At { hook: Hook::ToUplink, ifindex: UPLINK, ingress: 11 };

pub(crate) fn from_endpoint(network: u16, n: u8) -> At {
    let ifindex = port(network, n);
    At { hook: Hook::FromEndpoint, ifindex, ingress: ifindex }
}

pub(crate) fn to_endpoint(network: u16, n: u8, ingress: u32) -> At {
    At { hook: Hook::ToEndpoint, ifindex: port(network, n), ingress }
}

/// The host.
pub(crate) struct Scene {
    pub(crate) tables: HostTables,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let mut tables = HostTables::new();
        tables.config.flags = ConfigFlags::RANGES_PUBLISHED;
        let translated = NetworkFlags::MASQUERADE | NetworkFlags::ICC;
        add_network(&mut tables, NET_A, translated, &[2, 3]);
        add_network(&mut tables, NET_B, translated, &[2]);
        add_network(&mut tables, INTERNAL, translated | NetworkFlags::INTERNAL, &[2]);
        add_network(&mut tables, ROUTED, NetworkFlags::ICC, &[2]);
        add_network(&mut tables, FIXED, translated, &[2]);
        add_network(&mut tables, QUIET, NetworkFlags::MASQUERADE, &[2, 3]);
        populate::<V4>(&mut tables);
        populate::<V6>(&mut tables);
        Self { tables }
    }

    /// Runs one hook and holds it to what no hook may do: change a packet without saying so.
    #[track_caller]
    pub(crate) fn judge(&self, hook: Hook, packet: &mut HostPacket) -> Reason {
        let before = packet.frame.clone();
        let reason = match hook {
            Hook::FromUplink => engine::from_uplink(packet, &self.tables),
            Hook::ToUplink => engine::to_uplink(packet, &self.tables),
            Hook::FromEndpoint => engine::from_endpoint(packet, &self.tables),
            Hook::ToEndpoint => engine::to_endpoint(packet, &self.tables),
        };
        if reason.verdict() == Verdict::Drop || !translates(reason) {
            assert!(!packet.is_stored, "{hook:?}: a store into what is {reason:?}");
            assert_eq!(packet.frame, before, "{hook:?}: {reason:?}");
        }
        assert_eq!(packet.frame.len(), before.len(), "{hook:?}: {reason:?}");
        reason
    }

    /// Runs one hook on a message: the reason, and the message that comes out.
    #[track_caller]
    pub(crate) fn run<A: Family>(&self, at: At, message: &Message<A>) -> (Reason, Message<A>) {
        let mut packet = HostPacket::new(message.frame(), at.ifindex, at.ingress);
        let reason = self.judge(at.hook, &mut packet);
        let after = Message::read(&packet.frame);
        // `etherparse` writes what it read again: nothing but addresses, ports and right checksums changed.
        assert_eq!(packet.frame, after.frame(), "{message:?} at {at:?}: {reason:?}");
        (reason, after)
    }

    /// A message that is translated, and into what.
    #[track_caller]
    pub(crate) fn becomes<A: Family>(
        &self,
        at: At,
        message: &Message<A>,
        reason: Reason,
        expected: &Message<A>,
    ) {
        assert_eq!(self.run(at, message), (reason, expected.clone()), "{message:?} at {at:?}");
    }

    /// A message that is not translated.
    #[track_caller]
    pub(crate) fn stays<A: Family>(&self, at: At, message: &Message<A>, reason: Reason) {
        self.becomes(at, message, reason, message);
    }

    /// A message whose translation is not known beforehand.
    #[track_caller]
    pub(crate) fn translated<A: Family>(
        &self,
        at: At,
        message: &Message<A>,
        reason: Reason,
    ) -> Message<A> {
        let (actual, after) = self.run(at, message);
        assert_eq!(actual, reason, "{message:?} at {at:?}");
        after
    }

    /// Frames that are not translated, each with the reason why.
    #[track_caller]
    pub(crate) fn judges(&self, rows: &[(&str, At, Vec<u8>, Reason)]) {
        for (row, at, frame, expected) in rows {
            let mut packet = HostPacket::new(frame.clone(), at.ifindex, at.ingress);
            let reason = self.judge(at.hook, &mut packet);
            assert_eq!(reason, *expected, "{row}");
            assert!(!packet.is_stored, "{row}");
        }
    }

    pub(crate) fn wait(&self, secs: u32) {
        self.tables.now_secs.set(self.tables.now_secs.get() + secs);
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

    pub(crate) fn bump_generation(&self, slot: u32) {
        *self.tables.generations.borrow_mut().entry(slot).or_default() += 1;
    }
}

/// Whether a packet with this reason may leave changed.
pub(crate) fn translates(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Published
            | Reason::PublishedReply
            | Reason::Masqueraded
            | Reason::MasqueradeReply
            | Reason::Untranslated
    )
}

fn add_network(tables: &mut HostTables, number: u16, flags: u32, endpoints: &[u8]) {
    let network = Network {
        v4: side(number),
        v6: side(number),
        bridge_ifindex: bridge(number),
        flags: flags | NetworkFlags::PRESENT,
        reserved: 0,
    };
    tables.networks.insert(number, network);
    for &n in endpoints {
        let (slot, ifindex, mac) = (slot(number, n), port(number, n), [2, 0, 0, 0, 1, n]);
        tables
            .bridge_ports
            .insert(ifindex, BridgePort { slot, network: number, mac, sandbox: slot });
        let endpoint = Endpoint { ifindex, slot, network: number, mac, sandbox: slot };
        tables.v4.endpoints.insert(V4::inside(number, n), endpoint);
        tables.v6.endpoints.insert(V6::inside(number, n), endpoint);
    }
    tables.v4.subnets.push((V4::inside(number, 0), V4::mask(V4::SUBNET_BITS), number));
    tables.v6.subnets.push((V6::inside(number, 0), V6::mask(V6::SUBNET_BITS), number));
    tables.v4.host_addresses.insert(V4::inside(number, 1));
    tables.v6.host_addresses.insert(V6::inside(number, 1));
}

fn side<A: Family>(number: u16) -> NetworkFamily<A> {
    NetworkFamily {
        subnet: A::inside(number, 0),
        mask: A::mask(A::SUBNET_BITS),
        snat_source: if number == FIXED { A::host(9) } else { A::UNSPECIFIED },
        present: 1,
    }
}

fn populate<A: Family>(tables: &mut HostTables) {
    let store = A::store_mut(tables);
    store.host_addresses.extend([A::host(1), A::host(2), A::host(9)]);
    // Half of the outside world is reached from the host's second address.
    let (all, half) = ((A::UNSPECIFIED, 0, A::host(1)), (A::outside(128), A::BITS - 7, A::host(2)));
    for (prefix, bits, source) in [all, half] {
        store.masquerade.push(Masquerade { ifindex: UPLINK, prefix, bits, source });
    }
    let a = A::inside(NET_A, 2);
    let b = A::inside(NET_B, 2);
    for (addr, proto, host_port, container, port, slot) in [
        (A::UNSPECIFIED, 6, WEB, a, 80, WEB_SLOT),
        (A::UNSPECIFIED, 6, WEB_TOO, a, 80, 2),
        (A::UNSPECIFIED, 17, DNS, a, 53, 3),
        (A::host(2), 6, SPECIFIC, b, 90, 4),
        (A::LOOPBACK, 6, LOCAL, a, 82, 7),
    ] {
        let leads_to = leads_to(host_port, container, port, slot);
        store.published.insert(published_key(addr, proto, host_port), leads_to);
    }
    for (addr, proto, ports, container, port, slot) in [
        (A::UNSPECIFIED, 17, RANGE..=RANGE + 99, a, 30_000, 5),
        (A::host(1), 6, SPECIFIC_RANGE..=SPECIFIC_RANGE + 9, b, SPECIFIC_RANGE, 6),
    ] {
        let leads_to = leads_to(*ports.start(), container, port, slot);
        store.ranges.push(PublishedRange { addr, proto, ports, leads_to });
    }
}

fn leads_to<A: Family>(host_port: u16, container: A, port: u16, slot: u32) -> PublishedPort<A> {
    let network = if container == A::inside(NET_A, 2) { NET_A } else { NET_B };
    PublishedPort {
        addr: container,
        port: Port::new(port),
        host_port: Port::new(host_port),
        network,
        reserved: 0,
        slot,
        endpoint_slot: self::slot(network, 2),
    }
}
