//! The NAT engine: what each hook does with a packet, from parsing to the verdict.
//!
//! Every hook is one function that returns a [`Reason`]; a reason has one verdict and one counter.
//! Steps return `Result<T, Reason>`, so `?` ends a packet's life with the reason it met. Nothing is
//! written before every decision has been made ([`rewrite`] cannot fail).
//!
//! ```text
//!             outside                                   container
//!   from_uplink: parse, flow | published -> DNAT   to_endpoint: who may enter
//!   to_uplink:   parse, flow | masquerade -> SNAT  from_endpoint: who may leave, and where to
//! ```
//! Translation happens on the uplink only, so that the host's own stack, firewall and routing see the
//! containers' addresses, as they do with iptables.

mod expiry;
mod flow;
mod from_endpoint;
mod from_uplink;
mod published;
mod rewrite;
mod source_port;
mod to_endpoint;
mod to_uplink;

pub use expiry::{Expiry, expire};
pub use flow::insert_pair;
pub use from_endpoint::from_endpoint;
pub use from_uplink::from_uplink;
pub use published::{published_for_host, published_on_every_address};
pub use to_endpoint::to_endpoint;
pub use to_uplink::to_uplink;

use crate::{
    address::{Address, V4, V6},
    header::{IpHeader, ethertype},
    packet::Packet,
    reason::Reason,
    tables::FamilyTables,
};

/// The bits of a tag that name the VLAN (IEEE 802.1Q).
const VLAN_ID_MASK: u16 = 0xfff;

/// The steps of one hook, in the packet's family.
trait Steps<P, T> {
    /// Decides and translates. `None` asks for the flow that the steps have described to
    /// [`FamilyTables::describe_flow`]; once it is in the table, the steps run again and find it. So the
    /// first and the millionth packet of a flow are translated by the same lines.
    fn run<A: Address>(packet: &mut P, tables: &T) -> Result<Option<Reason>, Reason>
    where
        T: FamilyTables<A>;
}

/// What all hooks do first: leave alone what is not an untagged IP packet.
#[inline(always)]
fn by_family<S, P, T>(packet: &mut P, tables: &T) -> Reason
where
    S: Steps<P, T>,
    P: Packet,
    T: FamilyTables<V4> + FamilyTables<V6>,
{
    if packet.has_vlan_tag() {
        return Reason::Vlan;
    }
    match packet.ethertype() {
        V4::ETHERTYPE => run::<V4, S, P, T>(packet, tables),
        V6::ETHERTYPE => run::<V6, S, P, T>(packet, tables),
        ethertype::VLAN | ethertype::VLAN_SERVICE => by_tag(packet),
        _ => Reason::NotIp,
    }
}

/// A tag that names no VLAN is left in the frame only behind another one. The kernel takes off both after
/// our programs have run, and goes on with a packet that nobody has judged.
#[inline(always)]
fn by_tag<P: Packet>(packet: &P) -> Reason {
    match packet.load::<[u8; 2]>(packet.network_offset()) {
        Some(tag) if u16::from_be_bytes(tag) & VLAN_ID_MASK != 0 => Reason::Vlan,
        Some(_) | None => Reason::Malformed,
    }
}

#[inline(always)]
fn run<A, S, P, T>(packet: &mut P, tables: &T) -> Reason
where
    A: Address,
    S: Steps<P, T>,
    T: FamilyTables<A>,
{
    if let Some(reason) = run_once::<A, S, P, T>(packet, tables) {
        return reason;
    }
    match tables.insert_pair() {
        // Gone between insertion and look-up: only another CPU's removal can do that.
        Ok(()) => run_once::<A, S, P, T>(packet, tables).unwrap_or(Reason::ConntrackRace),
        Err(reason) => reason,
    }
}

/// Not inlined: a stack frame that is gone before the flow is inserted, which needs one of its own.
#[inline(never)]
fn run_once<A, S, P, T>(packet: &mut P, tables: &T) -> Option<Reason>
where
    A: Address,
    S: Steps<P, T>,
    T: FamilyTables<A>,
{
    match S::run::<A>(packet, tables) {
        Ok(reason) => reason,
        Err(reason) => Some(reason),
    }
}
