//! What a device receives, before the kernel makes a socket buffer of it: hostile frames end here, at the
//! least cost.
//!
//! Only what [`super::from_uplink`] would drop for the same reason is dropped, and nothing else is decided:
//! what goes on is judged, and counted, there. So it makes no difference but in speed whether a device can
//! carry this hook.

use crate::{
    address::{Address, V4, V6},
    conntrack::Scope,
    engine::from_uplink::refuse_loopback,
    header::IpHeader,
    packet::Frame,
    parse::{self, Ip, Kind as _, NoTransport, Rare, Trackable, Transport},
    reason::Reason,
    tables::FamilyTables,
};

/// Runs the hook.
///
/// A frame for another MAC address is let through whatever is in it, as the classifier does: it belongs to
/// a macvlan device on top of this one, or to a capture.
///
/// # Errors
/// The reason to drop the frame.
#[inline(always)]
pub fn from_wire<P, T>(frame: &P, tables: &T) -> Result<(), Reason>
where
    P: Frame,
    T: FamilyTables<V4> + FamilyTables<V6>,
{
    let judged = match frame.ethertype() {
        V4::ETHERTYPE => judge::<V4, P, T>(frame, tables),
        V6::ETHERTYPE => judge::<V6, P, T>(frame, tables),
        // A tag among them: how many there are, and what the kernel makes of them, is seen later.
        _ => Ok(()),
    };
    match judged {
        // Asked last, so that good frames do not pay for it.
        Err(_) if !frame.is_to_this_host() => Ok(()),
        judged => judged,
    }
}

#[inline(always)]
fn judge<A, P, T>(frame: &P, tables: &T) -> Result<(), Reason>
where
    A: Address,
    P: Frame,
    T: FamilyTables<A>,
{
    let ip = parse::ip::<A, P>(frame)?;
    // What lists the way, or stands behind more headers, is seen later.
    if ip.has_options || A::has_extensions(&ip) {
        return Ok(());
    }
    refuse_loopback(&ip)?;
    if ip.dst.is_multicast() {
        return Ok(());
    }
    // Every field gets a value: before Linux 6.3 the verifier refuses to read what nobody has written, though
    // nothing comes of it.
    let (transport, missing) = match Rare::<A>::transport(frame, &ip) {
        Ok(transport) => (transport, None),
        Err(missing) => (Transport::NONE, Some(missing)),
    };
    if tables.network_of(ip.src).is_some() && !is_of_flow(tables, &ip, &transport, missing) {
        return Err(Reason::SpoofedSource);
    }
    // What the host only forwards may be whatever it likes.
    if missing == Some(NoTransport::Malformed) && tables.is_host_address(ip.dst) {
        return Err(Reason::Malformed);
    }
    Ok(())
}

/// Whether there is a flow that the packet may belong to: one from before the network had the subnet. Whose
/// piece a later fragment is, is seen later.
#[inline(always)]
fn is_of_flow<A: Address, T: FamilyTables<A>>(
    tables: &T,
    ip: &Ip<A>,
    transport: &Transport,
    missing: Option<NoTransport>,
) -> bool {
    match missing {
        None => tables.flow(&Trackable { ip, transport }.key(Scope::Uplink)).is_some(),
        Some(missing) => missing == NoTransport::Fragment,
    }
}
