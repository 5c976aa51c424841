//! ICMP errors as values, and their frames. `etherparse` writes what is quoted as well as what is around it,
//! so an expected frame has every checksum right and owes nothing to the engine.

use etherparse::PacketBuilder;
use netd_common::reason::Reason;

use crate::{
    family::Family,
    message::{Kind, Message, ip_headers},
    packet::HostPacket,
    place::{At, HOST_MAC, INWARDS, OUTSIDE_MAC, OUTWARDS},
    scene::{NET_A, Scene},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IcmpError<A> {
    pub(crate) src: A,
    pub(crate) dst: A,
    /// The header's first, second and last four bytes.
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) rest: [u8; 4],
    pub(crate) quote: Vec<u8>,
}

/// Types by what they say (RFC 792, RFC 4443).
pub(crate) fn unreachable<A: Family>() -> u8 {
    if A::ICMP == 1 { 3 } else { 1 }
}

pub(crate) fn time_exceeded<A: Family>() -> u8 {
    if A::ICMP == 1 { 11 } else { 3 }
}

/// A redirect, which IPv6 does not count among errors.
pub(crate) const REDIRECT: u8 = 5;

/// Length of an IP header without options.
pub(crate) fn ip_header_len<A: Family>() -> usize {
    if A::ICMP == 1 { 20 } else { 40 }
}

impl<A: Family> IcmpError<A> {
    /// What `src` says of a message that it has received and not delivered.
    pub(crate) fn about(message: &Message<A>, src: A) -> Self {
        Self {
            src,
            dst: message.src.0,
            kind: unreachable::<A>(),
            code: 3,
            rest: [0; 4],
            quote: message.frame()[14..].to_vec(),
        }
    }

    /// The same from another, about what the message has become.
    pub(crate) fn translated(&self, src: A, message: &Message<A>) -> Self {
        let mut quote = message.frame()[14..].to_vec();
        quote.truncate(self.quote.len());
        Self { src, dst: message.src.0, quote, ..self.clone() }
    }

    /// With no more than this much of the quoted packet behind its IP header.
    pub(crate) fn cut(&self, transport_len: usize) -> Self {
        let mut quote = self.quote.clone();
        quote.truncate(ip_header_len::<A>() + transport_len);
        Self { quote, ..self.clone() }
    }

    /// The Ethernet frame, with every checksum.
    pub(crate) fn frame(&self) -> Vec<u8> {
        self.frame_with(64)
    }

    /// The frame with this many hops to go.
    pub(crate) fn frame_with(&self, ttl: u8) -> Vec<u8> {
        let headers = ip_headers(self.src, self.dst, ttl);
        let step = PacketBuilder::ethernet2(OUTSIDE_MAC, HOST_MAC).ip(headers);
        let mut frame = Vec::new();
        if A::ICMP == 1 {
            step.icmpv4_raw(self.kind, self.code, self.rest).write(&mut frame, &self.quote)
        } else {
            step.icmpv6_raw(self.kind, self.code, self.rest).write(&mut frame, &self.quote)
        }
        .unwrap();
        frame
    }
}

/// Nobody's address but a router's.
pub(crate) const ROUTER: u8 = 77;

/// A container's call, and what leaves of it.
pub(crate) fn masqueraded<A: Family>(scene: &Scene, kind: Kind) -> (Message<A>, Message<A>) {
    let port = if kind == Kind::EchoRequest { 0 } else { 443 };
    let call = Message::<A>::new(kind, (A::inside(NET_A, 2), 50_000), (A::outside(9), port));
    let outside = scene.translated(OUTWARDS, &call, Reason::Masqueraded);
    // The source port is taken a second time, so that another one has to do.
    let call = Message { src: (A::inside(NET_A, 3), 50_000), ..call };
    let other = scene.translated(OUTWARDS, &call, Reason::Masqueraded);
    assert_ne!(outside.src.1, other.src.1);
    (call, other)
}

/// A client's request, and what reaches the container of it.
pub(crate) fn published<A: Family>(
    scene: &Scene,
    kind: Kind,
    port: u16,
) -> (Message<A>, Message<A>) {
    let request = Message::<A>::new(kind, (A::outside(7), 40_000), (A::host(1), port));
    let inside = scene.translated(INWARDS, &request, Reason::Published);
    (request, inside)
}

/// Sends an error through one hook; it comes out as the expected one, with as many hops to go.
#[track_caller]
pub(crate) fn becomes<A: Family>(
    scene: &Scene,
    at: At,
    error: &IcmpError<A>,
    reason: Reason,
    expected: &IcmpError<A>,
) -> HostPacket {
    let mut packet = at.packet(error.frame());
    let actual = scene.judge(at.hook, &mut packet);
    assert_eq!(actual, reason, "{error:?} at {at:?}");
    let hops = u8::from(packet.redirection.is_some());
    assert_eq!(packet.frame[12..], expected.frame_with(64 - hops)[12..], "{error:?} at {at:?}");
    packet
}
