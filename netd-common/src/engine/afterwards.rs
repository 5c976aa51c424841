//! What else a translation changes in rare packets: SCTP's checksum, and the MSS of a connection.
//!
//! Planned before the first byte is written, since a plan may fail, and done after all of them, when the
//! steps' stack frames have gone. Common packets pay for none of it.

use core::hint::black_box;

use crate::{
    address::{Address, Port},
    conntrack::{Scope, Translation},
    crc32c::Change,
    engine::mss,
    header::proto,
    packet::Packet,
    parse::Trackable,
    reason::{Reason, Verdict},
    tables::{FamilyTables, Tables},
};

/// Where an SCTP header has its checksum.
const SCTP_CHECKSUM_OFFSET: u32 = 8;

/// What is left to do to a packet once it is translated.
#[derive(Clone, Copy, Debug)]
pub enum Afterwards {
    /// Nothing.
    Nothing,
    /// Its ports have changed from `old` to `new`, which its CRC is to follow.
    Sctp {
        /// Where the header begins.
        offset: u32,
        /// The length of what the CRC covers. Units: bytes.
        len: u32,
        /// Both ports as they stood.
        old: u32,
        /// Both ports as they stand.
        new: u32,
    },
    /// Its MSS is to be `limit` at most.
    Mss {
        /// Where the header begins.
        offset: u32,
        /// The header's length. Units: bytes.
        len: u32,
        /// Units: bytes.
        limit: u32,
    },
}

/// Plans what is to be done to a packet that becomes what `to` says. Says what it is dropped for instead:
/// `Fragment` for a part of an SCTP packet whose ports change, since the checksum covers the other parts too,
/// and nobody knows how long they are.
///
/// Not inlined: a stack frame of its own.
#[inline(never)]
pub(super) fn plan<A: Address, T: FamilyTables<A>>(
    tables: &T,
    scope: Scope,
    tracked: &Trackable<'_, A>,
    to: &Translation<A>,
    plan: &mut Afterwards,
) -> Option<Reason> {
    let Trackable { ip, transport } = tracked;
    match ip.proto {
        proto::SCTP if changes_ports(tracked, to) => {
            if ip.fragment.is_part() {
                // Read back as unknown: the verifier would walk what follows once for each answer.
                return black_box(Some(Reason::Fragment));
            }
            *plan = Afterwards::Sctp {
                offset: transport.offset,
                len: ip.payload_len,
                old: word(transport.sport, transport.dport),
                new: word(to.sport, to.dport),
            };
        }
        proto::TCP => {
            if let Some(limit) = mss::limit_of(tables, scope, tracked, to) {
                let (offset, len) = (transport.offset, transport.header_len);
                *plan = Afterwards::Mss { offset, len, limit: u32::from(limit) };
            }
        }
        _ => {}
    }
    black_box(None)
}

/// Does what is planned for a packet that goes on with `reason`.
#[inline(always)]
pub(super) fn complete<A, P, T>(packet: &mut P, tables: &T, reason: Reason)
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    if !is_translated(reason) {
        return;
    }
    match tables.with_work(|work| work.afterwards) {
        Some(Afterwards::Sctp { offset, len, old, new }) => {
            packet.update_sctp_checksum(offset, len as u16, (old, new));
        }
        Some(Afterwards::Mss { offset, len, limit }) => {
            packet.lower_mss(offset, len, limit as u16);
        }
        Some(Afterwards::Nothing) | None => {}
    }
}

/// Whether a packet has been translated that goes on with `reason`. One that the stack refuses is read by
/// nobody.
#[inline(always)]
fn is_translated(reason: Reason) -> bool {
    let is_left = matches!(reason, Reason::ContainerToOutside | Reason::NotDeliverable);
    !is_left && reason.verdict() != Verdict::Drop
}

#[inline(always)]
fn changes_ports<A: Address>(tracked: &Trackable<'_, A>, to: &Translation<A>) -> bool {
    tracked.transport.sport != to.sport || tracked.transport.dport != to.dport
}

/// Two ports as they lie in a header.
#[inline(always)]
fn word(sport: Port, dport: Port) -> u32 {
    bytemuck::cast([sport, dport])
}

/// Keeps the checksum of an SCTP packet right, whose header begins at `offset` and which is `len` bytes long.
/// It covers nothing of what is translated but the ports.
#[inline(always)]
pub fn update_sctp_checksum<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    offset: u32,
    len: u16,
    (old, new): (u32, u32),
) {
    let at = offset + SCTP_CHECKSUM_OFFSET;
    match packet.load(at) {
        // A container's stack leaves it to the device that the packet leaves by.
        Some(0_u32) | None => {}
        Some(checksum) => {
            let mut change = Change::of_ports(old, new, len);
            tables.repeat(Change::STEPS, |_| change.step());
            packet.store(at, &change.apply(checksum));
        }
    }
}
