//! The way that all hooks' packets take: what is read, in which order steps are taken, and what follows from
//! what they say.

use core::hint::black_box;

use crate::{
    address::{Address, Family, V4, V6},
    config::ConfigFlags,
    engine::{
        Outcome, Part,
        afterwards::{self, Afterwards},
        fragments::{self, Piece, Remembered},
        mapping, mss,
        step::step,
    },
    header::{IpHeader, ethertype},
    packet::Packet,
    parse::{self, Kind, NoTransport, Parsed},
    reason::Reason,
    tables::{Begun, FamilyTables, Work},
};

/// The bits of a tag that name the VLAN (IEEE 802.1Q).
const VLAN_ID_MASK: u16 = 0xfff;

/// The steps of one hook, in the packet's family.
pub(super) trait Steps<P, T> {
    /// Whether flows that begin here may get another source address.
    const MAY_MASQUERADE: bool;
    /// Whether the ports of a packet count at the hook, so that those of fragments are remembered.
    const NEEDS_PORTS: bool = true;

    /// Whether packets of a kind are translated at the hook.
    fn translates<K: Kind>() -> bool {
        true
    }

    /// Whether a packet is rare at this hook though it is common at others.
    #[inline(always)]
    fn is_rare<A: Address>(packet: &P, tables: &T) -> bool
    where
        P: Packet,
        T: FamilyTables<A>,
    {
        mss::is_for_clamp::<A, P, T>(packet, tables)
    }

    /// What can be said of a packet by its addresses, before more of it is read.
    #[inline(always)]
    fn glance<A: Address, K: Kind>(_packet: &P, _tables: &T) -> Option<Reason>
    where
        T: FamilyTables<A>,
    {
        None
    }

    /// Reads the packet and decides on it, if it is of a flow that is known, which it translates, or can be of
    /// none. `None` leaves it to [`Self::begin`].
    fn judge<A: Address, K: Kind>(
        packet: &mut P,
        tables: &T,
        work: &mut Work<A>,
    ) -> Result<Option<Reason>, Reason>
    where
        T: FamilyTables<A>;

    /// Decides on a packet of no known flow, which has been read. `None` asks for the flow that has been
    /// described to [`FamilyTables::describe_flow`]; once it is in the table, the program runs again and finds
    /// it. So the first and the millionth packet of a flow are translated by the same lines.
    #[inline(always)]
    fn begin<A: Address, K: Kind>(
        _packet: &mut P,
        _tables: &T,
        _work: &mut Work<A>,
    ) -> Result<Option<Reason>, Reason>
    where
        T: FamilyTables<A>,
    {
        Ok(None)
    }
}

/// What all hooks do first: leave alone what is not an untagged IP packet.
#[inline(always)]
pub(super) fn by_family<S, K, P, T>(packet: &mut P, tables: &T) -> Outcome
where
    S: Steps<P, T>,
    K: Kind,
    P: Packet,
    T: FamilyTables<V4> + FamilyTables<V6>,
{
    if packet.has_vlan_tag() {
        return Outcome::Judged(Reason::Vlan);
    }
    match packet.ethertype() {
        V4::ETHERTYPE => run::<V4, S, K, P, T>(packet, tables),
        V6::ETHERTYPE => run::<V6, S, K, P, T>(packet, tables),
        ethertype::VLAN | ethertype::VLAN_SERVICE => Outcome::Judged(by_tag(packet)),
        _ => Outcome::Judged(Reason::NotIp),
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

/// Reads the headers, and refuses what nobody may send.
#[inline(always)]
pub(super) fn read<'a, A, K, P, T>(
    packet: &P,
    tables: &T,
    parsed: &'a mut Parsed<A>,
    remembered: &mut Remembered<A>,
) -> Result<&'a Parsed<A>, Reason>
where
    A: Address,
    K: Kind,
    P: Packet,
    T: FamilyTables<A>,
{
    step!(K, parse::read::<A, K, P>, packet, parsed)?;
    if parsed.ip.has_source_route {
        return Err(Reason::SourceRoute);
    }
    // The kernel routes nothing that was sent to many, so neither do we.
    if packet.is_to_many() {
        if parsed.missing.is_none() {
            parsed.missing = Some(NoTransport::Unsupported);
        }
    } else if K::IS_RARE && parsed.ip.fragment.is_part() {
        fragments::complete(packet, tables, parsed, remembered);
    }
    Ok(parsed)
}

#[inline(always)]
fn run<A, S, K, P, T>(packet: &mut P, tables: &T) -> Outcome
where
    A: Address,
    S: Steps<P, T>,
    K: Kind,
    P: Packet,
    T: FamilyTables<A>,
{
    if K::FAMILY != A::FAMILY {
        return Outcome::Elsewhere(Part::of(A::FAMILY, K::IS_RARE));
    }
    if !K::IS_RARE && (parse::is_rare::<A, P>(packet) || S::is_rare::<A>(packet, tables)) {
        return Outcome::Elsewhere(Part::of(A::FAMILY, true));
    }
    if K::IS_RARE {
        tables.with_work(|work: &mut Work<A>| {
            work.remembered.piece = Piece::Settled;
            work.afterwards = Afterwards::Nothing;
        });
    }
    let seen = S::glance::<A, K>(packet, tables);
    if seen.is_some() && S::translates::<K>() {
        set_begun::<A, T>(tables, Begun::Nothing);
    }
    // Read back as unknown: the verifier would walk what follows once for each reason.
    let judged = black_box(
        seen.or_else(|| judge::<A, S, K, P, T>(packet, tables))
            .or_else(|| begin::<A, S, K, P, T>(packet, tables)),
    );
    if tables.is_configured(ConfigFlags::SUCCEEDED) && !judged.is_some_and(Reason::is_done) {
        set_begun::<A, T>(tables, Begun::Nothing);
        return Outcome::Successors(judged.unwrap_or(Reason::NoProgram));
    }
    match judged {
        Some(reason) => {
            if K::IS_RARE && S::translates::<K>() {
                afterwards::complete::<A, P, T>(packet, tables, reason);
            }
            if K::IS_RARE && S::NEEDS_PORTS {
                tables.with_work(|work: &mut Work<A>| work.remembered.reason = reason);
                return Outcome::Judged(fragments::remember::<A, P, T>(packet, tables));
            }
            Outcome::Judged(reason)
        }
        // Where nothing is translated, no flow begins.
        None if !S::translates::<K>() => Outcome::Judged(Reason::ConntrackRace),
        None => match insert::<A, S, P, T>(tables) {
            Ok(begun) => {
                set_begun::<A, T>(tables, begun);
                Outcome::Again
            }
            Err(reason) => {
                set_begun::<A, T>(tables, Begun::Nothing);
                Outcome::Judged(reason)
            }
        },
    }
}

/// Inserts the flow that the steps have described, or first the mapping that it needs.
#[inline(always)]
fn insert<A, S, P, T>(tables: &T) -> Result<Begun, Reason>
where
    A: Address,
    S: Steps<P, T>,
    T: FamilyTables<A>,
{
    let begun = if S::MAY_MASQUERADE { mapping::prepare(tables) } else { Begun::Flow };
    let before = tables.with_work(|work| work.begun);
    // Gone between insertion and look-up: only another CPU's removal can do that.
    if begun == Begun::Mapping && before == Some(Begun::Mapping) {
        return Err(Reason::ConntrackRace);
    }
    tables.insert_pair()?;
    Ok(begun)
}

/// Takes the first step; `None` where it leaves the packet to the second one.
///
/// Not inlined: a stack frame that is gone before that, and the only call that most packets pay for.
#[inline(never)]
fn judge<A, S, K, P, T>(packet: &mut P, tables: &T) -> Option<Reason>
where
    A: Address,
    S: Steps<P, T>,
    K: Kind,
    T: FamilyTables<A>,
{
    let judged = tables.with_work(|work| {
        let judged = S::judge::<A, K>(packet, tables, work);
        if !matches!(judged, Ok(None)) {
            work.begun = Begun::Nothing;
        }
        judged
    });
    match judged.unwrap_or(Err(Reason::NoMemory)) {
        Ok(reason) => reason,
        Err(reason) => Some(reason),
    }
}

/// Takes the second step; `None` where it asks for a flow.
///
/// Not inlined: a stack frame that is gone before the flow is inserted, which needs one of its own.
#[inline(never)]
fn begin<A, S, K, P, T>(packet: &mut P, tables: &T) -> Option<Reason>
where
    A: Address,
    S: Steps<P, T>,
    K: Kind,
    T: FamilyTables<A>,
{
    let judged = tables.with_work(|work| match S::begin::<A, K>(packet, tables, work) {
        Ok(None) if work.begun != Begun::Flow => None,
        judged => {
            work.begun = Begun::Nothing;
            match judged {
                Ok(Some(reason)) | Err(reason) => Some(reason),
                // As above.
                Ok(None) => Some(Reason::ConntrackRace),
            }
        }
    });
    judged.unwrap_or(Some(Reason::NoMemory))
}

/// Says how far the next packet of this CPU has come, which is the one that was judged last.
#[inline(always)]
fn set_begun<A: Address, T: FamilyTables<A>>(tables: &T, begun: Begun) {
    tables.with_work(|work| work.begun = begun);
}

/// Ends a packet that was to be judged again, where no program does it or it has become another one's.
#[inline(always)]
pub fn give_up<K: Kind, T: FamilyTables<V4> + FamilyTables<V6>>(tables: &T) {
    match K::FAMILY {
        Family::V4 => set_begun::<V4, T>(tables, Begun::Nothing),
        Family::V6 => set_begun::<V6, T>(tables, Begun::Nothing),
    }
}
