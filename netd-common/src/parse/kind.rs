//! The two kinds of packets, what nearly all are and the rest, in each family. A hook has a program for each.

use core::marker::PhantomData;

use super::{Ip, NoTransport, Transport, rare, transport};
use crate::{
    address::{Address, Family},
    packet::Headers,
};

/// Which packets a program judges. All take the same steps, but the verifier walks each program by itself,
/// and common packets pay for no line that only rare ones need.
pub trait Kind {
    /// The family of its packets.
    const FAMILY: Family;
    /// Whether this is the program for rare packets.
    const IS_RARE: bool;

    /// Reads the transport header.
    ///
    /// # Errors
    /// Why the packet can't be matched to a flow by its own header.
    fn transport<A: Address, P: Headers>(packet: &P, ip: &Ip<A>) -> Result<Transport, NoTransport>;
}

/// TCP, UDP and ICMP but its errors: whole, without IPv4 options and IPv6 extension headers.
#[derive(Clone, Copy, Debug)]
pub struct Common<F>(PhantomData<F>);

/// Everything else; what is common is read as well, where there is only one program.
#[derive(Clone, Copy, Debug)]
pub struct Rare<F>(PhantomData<F>);

impl<F: Address> Kind for Common<F> {
    const FAMILY: Family = F::FAMILY;
    const IS_RARE: bool = false;

    #[inline(always)]
    fn transport<A: Address, P: Headers>(packet: &P, ip: &Ip<A>) -> Result<Transport, NoTransport> {
        transport::transport(packet, ip)
    }
}

impl<F: Address> Kind for Rare<F> {
    const FAMILY: Family = F::FAMILY;
    const IS_RARE: bool = true;

    #[inline(always)]
    fn transport<A: Address, P: Headers>(packet: &P, ip: &Ip<A>) -> Result<Transport, NoTransport> {
        if ip.fragment.is_part() && !ip.fragment.is_first() {
            return Err(NoTransport::Fragment);
        }
        let read = match transport::transport(packet, ip) {
            Err(NoTransport::Unsupported) => rare::transport(packet, ip),
            read => read,
        };
        match read {
            // Nothing of it can be told from a part of it, and nobody is to heed one (RFC 6980).
            Err(missing) if missing != NoTransport::Malformed && ip.fragment.is_first() => {
                Err(NoTransport::Fragment)
            }
            read => read,
        }
    }
}

/// Whether a packet is not [`Common`]. One that is cut short is malformed to either program.
#[inline(always)]
pub fn is_rare<A: Address, P: Headers>(packet: &P) -> bool {
    A::is_rare(packet, packet.network_offset())
}
