//! From bytes to what the engine decides on.
//!
//! Two steps, because policy by address must hold for packets whose transport header nobody can read:
//! [`ip`] gives the addresses, [`transport`] the ports.

mod extensions;
mod ip;
mod kind;
mod quote;
mod rare;
mod transport;

pub use ip::{Fragment, Ip};
pub use kind::{Common, Kind, Rare, is_rare};
pub(crate) use quote::IPV4_CHECKSUM;
pub use quote::{Quote, QuotedIp, QuotedTransport, quote};
pub use transport::{Fields, NoTransport, Transport, is_echo_request, is_icmp_error};

use crate::{
    address::Address,
    conntrack::{CtKey, Scope},
    fragment::FirstFragment,
    header::TcpHeader,
    packet::{Headers, Packet},
    reason::Reason,
};

/// What is read of a packet before anything is decided.
#[derive(Clone, Copy, Debug)]
pub struct Parsed<A> {
    /// The IP header.
    pub ip: Ip<A>,
    /// The transport header; of no meaning where it is missing.
    transport: Transport,
    /// Why there is no transport header to go by, where that is so.
    pub missing: Option<NoTransport>,
}

/// A packet with a transport header to go by, so that it can belong to a flow.
#[derive(Clone, Copy, Debug)]
pub struct Trackable<'a, A> {
    /// The IP header.
    pub ip: &'a Ip<A>,
    /// The transport header.
    pub transport: &'a Transport,
}

impl<A: Address> Parsed<A> {
    /// What stands where nothing has been read.
    pub(crate) const NONE: Self = Self { ip: Ip::NONE, transport: Transport::NONE, missing: None };

    /// The packet as one that can belong to a flow.
    ///
    /// # Errors
    /// Why it cannot be matched to a flow by its own header.
    #[inline(always)]
    pub fn trackable(&self) -> Result<Trackable<'_, A>, NoTransport> {
        match self.missing {
            None => Ok(Trackable { ip: &self.ip, transport: &self.transport }),
            Some(missing) => Err(missing),
        }
    }

    /// Gives a later fragment what its first one says.
    #[inline(always)]
    pub fn complete(&mut self, first: &FirstFragment) {
        let FirstFragment { sport, dport, proto, .. } = *first;
        self.transport = Transport::of_later_fragment(sport, dport, self.ip.payload_offset);
        self.ip.proto = proto;
        self.missing = None;
    }
}

/// Reads both headers.
///
/// Not into the stack: of other memory the verifier forgets what lies in it, so that it walks what follows once and
/// not once for each kind of header.
///
/// # Errors
/// `Malformed` where the IP header is broken.
#[inline(always)]
pub fn read<A: Address, K: Kind, P: Headers>(
    packet: &P,
    parsed: &mut Parsed<A>,
) -> Result<(), Reason> {
    let ip = &mut parsed.ip;
    A::parse(packet, packet.network_offset(), ip)?;
    if !K::IS_RARE {
        // As the peek has seen; said here, so that no time is spent on reading it.
        ip.fragment = Fragment::NONE;
    }
    if K::IS_RARE && ip.has_options {
        packet.make_readable(ip.payload_offset + size_of::<TcpHeader>() as u32);
        ip.has_source_route = A::has_source_route(packet, ip);
    }
    let whole =
        if K::IS_RARE && A::has_extensions(ip) { A::read_extensions(packet, ip) } else { Ok(()) };
    match whole.and_then(|()| K::transport(packet, &parsed.ip)) {
        Ok(transport) => (parsed.transport, parsed.missing) = (transport, None),
        Err(missing) => parsed.missing = Some(missing),
    }
    Ok(())
}

/// Reads the source address, whatever else the IP header says.
#[inline(always)]
pub fn source<A: Address, P: Headers>(packet: &P) -> Option<A> {
    packet.load(packet.network_offset() + A::SOURCE_OFFSET)
}

/// Reads the destination address, likewise.
#[inline(always)]
pub fn destination<A: Address, P: Headers>(packet: &P) -> Option<A> {
    packet.load(packet.network_offset() + A::SOURCE_OFFSET + size_of::<A>() as u32)
}

/// Reads the IP header.
///
/// # Errors
/// `Malformed`, see [`IpHeader::parse`].
#[inline(always)]
pub fn ip<A: Address, P: Headers>(packet: &P) -> Result<Ip<A>, Reason> {
    let mut ip = Ip::NONE;
    A::parse(packet, packet.network_offset(), &mut ip)?;
    Ok(ip)
}

impl<A: Address> Trackable<'_, A> {
    /// The length of the largest IP packet that a device will make of `packet`: its own, if nobody has
    /// merged it from several. Units: bytes.
    #[inline(always)]
    pub fn wire_len<P: Packet>(&self, packet: &P) -> u32 {
        let Self { ip, transport } = self;
        match packet.segment_len() {
            0 => packet.len_bytes() - ip.offset,
            segment => transport.offset - ip.offset + transport.header_len + segment,
        }
    }

    /// The key of the flow that the packet belongs to, seen in `scope`.
    #[inline(always)]
    pub fn key(&self, scope: Scope) -> CtKey<A> {
        let Self { ip, transport } = self;
        CtKey {
            src: ip.src,
            dst: ip.dst,
            sport: transport.sport,
            dport: transport.dport,
            proto: ip.proto,
            scope: scope as u8,
            zone: 0,
        }
    }

    /// The key of the opposite direction, not translated, seen in `scope`.
    #[inline(always)]
    pub fn reverse_key(&self, scope: Scope) -> CtKey<A> {
        let Self { ip, transport } = self;
        CtKey {
            src: ip.dst,
            dst: ip.src,
            sport: transport.dport,
            dport: transport.sport,
            proto: ip.proto,
            scope: scope as u8,
            zone: 0,
        }
    }
}
