//! What holds whatever happens (dataplane.md D.6): of every packet that comes out of a hook, and of the
//! tables between two packets.

use std::collections::HashSet;

use netd_common::{
    address::{V4, V6},
    conntrack::CtFlags,
    engine,
    network::{FamilyFlags, Network, NetworkFlags},
    packet::Headers as _,
    reason::{Reason, Verdict},
    tables::Tables as _,
};

use super::host::FuzzedHost;
use crate::{
    checksums,
    family::Family,
    packet::{HostPacket, Redirection},
    place::{At, Hook},
    runs::changes,
    scene::{Scene, UPLINK},
};

const ETHERNET: usize = 14;
const IPV6_HEADER: usize = 40;

/// Longer than any timer.
const SILENCE_SECS: u32 = 500_000;

/// What [`Scene::judge`] does not see: checksums, payload and hops.
pub(super) fn packet(at: At, before: &HostPacket, after: &HostPacket, reason: Reason) {
    if reason.verdict() == Verdict::Drop {
        return;
    }
    if changes(reason)
        && let (Some(plain), Some(plain_after)) = (plain(&before.frame), plain(&after.frame))
    {
        let sums = |frame: &[u8]| (checksums::of_ip_header(frame), checksums::of_transport(frame));
        assert_eq!(sums(&plain), sums(&plain_after), "{at:?}: {reason:?}: {plain:02x?}");
        let (payload, payload_after) = (payload(&plain), payload(&plain_after));
        assert_eq!(payload, payload_after, "{at:?}: {reason:?}: payload");
    }
    let hops = if after.ethertype() == 0x0800 { 22 } else { 21 };
    if let (Some(before), Some(after)) = (before.frame.get(hops), after.frame.get(hops))
        && before != after
    {
        assert_eq!(*before, after.wrapping_add(1), "{at:?}: {reason:?}: hops");
    }
}

/// No packet leaves by an uplink with the address of a container whose network is masqueraded.
pub(super) fn leaves_masqueraded(scene: &Scene, at: At, after: &HostPacket, reason: Reason) {
    let is_out = match after.redirection {
        Some(Redirection::Out(..)) => true,
        Some(Redirection::Peer(_)) => false,
        None => at.hook == Hook::ToUplink && reason.verdict() == Verdict::Pass,
    };
    let is_inside = || {
        scene.tables.networks.iter().any(|(&number, network)| match after.ethertype() {
            0x0800 => hides::<V4>(scene, number, network, after.load(26)),
            0x86dd => hides::<V6>(scene, number, network, after.load(22)),
            _ => false,
        })
    };
    let is_local = matches!(reason, Reason::Multicast | Reason::LinkLocal | Reason::Vlan);
    assert!(!is_out || is_local || !is_inside(), "{at:?}: {reason:?}: {:02x?}", after.frame);
}

/// Whether an address is a container's that nobody outside may see. The gateway's is the host's, and who asks
/// a container of an open network by its own address is answered by it.
fn hides<A: Family>(scene: &Scene, number: u16, network: &Network, addr: Option<A>) -> bool {
    let side = A::side(network);
    network.has(NetworkFlags::PRESENT)
        && side.has(FamilyFlags::PRESENT | FamilyFlags::MASQUERADE)
        && !side.has(FamilyFlags::ROUTED)
        && !side.has(FamilyFlags::UNPROTECTED)
        && !scene.tables.is_trusted(UPLINK, number)
        && addr.is_some_and(|addr| {
            side.contains(addr) && !A::store(&scene.tables).host_addresses.contains(&addr)
        })
}

/// The frame without IPv6 extension headers, where it carries a whole TCP, UDP or ICMP packet.
fn plain(frame: &[u8]) -> Option<Vec<u8>> {
    let ip = frame.get(ETHERNET..)?;
    match ip.first()? >> 4 {
        4 => {
            let is_fragment = u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]) & 0x3fff != 0;
            (!is_fragment && [1, 6, 17].contains(ip.get(9)?)).then(|| frame.to_vec())
        }
        6 => {
            let (mut next, mut at) = (*ip.get(6)?, IPV6_HEADER);
            let end = IPV6_HEADER + usize::from(u16::from_be_bytes([ip[4], ip[5]]));
            while ![6, 17, 58].contains(&next) {
                let len = match next {
                    0 | 43 | 60 => 8 + usize::from(*ip.get(at + 1)?) * 8,
                    51 => 8 + usize::from(*ip.get(at + 1)?) * 4,
                    44 if ip.get(at + 2..at + 4)?.iter().all(|byte| byte & 0xf9 == 0) => 8,
                    _ => return None,
                };
                next = *ip.get(at)?;
                at += len;
            }
            let segment = ip.get(at..end)?;
            let len = (segment.len() as u16).to_be_bytes();
            let head = [&frame[..ETHERNET], &ip[..4], &len, &[next, ip[7]], &ip[8..IPV6_HEADER]];
            Some([&head.concat()[..], segment].concat())
        }
        _ => None,
    }
}

/// What follows the transport header of a plain frame; nothing of an ICMP error, which quotes a header.
fn payload(plain: &[u8]) -> Vec<u8> {
    let ip = &plain[ETHERNET..];
    let (proto, at) =
        if ip[0] >> 4 == 4 { (ip[9], usize::from(ip[0] & 0xf) * 4) } else { (ip[6], IPV6_HEADER) };
    let segment = &ip[at..];
    let payload = match proto {
        6 => segment.get(usize::from(segment[12] >> 4) * 4..),
        17 => segment.get(8..),
        1 if [0, 8].contains(&segment[0]) => segment.get(8..),
        58 if [128, 129].contains(&segment[0]) => segment.get(8..),
        _ => None,
    };
    payload.unwrap_or_default().to_vec()
}

/// No two flows share a reply tuple, and a flow has both halves.
pub(super) fn tables<A: Family>(host: &FuzzedHost) {
    let halves = host.scene.halves::<A>();
    let keys: HashSet<_> = halves.iter().map(|half| half.0).collect();
    let mut replies = HashSet::new();
    for (key, entry) in halves.iter().filter(|(_, entry)| !entry.is_reply()) {
        let peer = entry.peer_key(key);
        let is_shared = entry.flags & CtFlags::ENDPOINT_INDEPENDENT != 0;
        let is_alone = replies.insert(peer) || is_shared || host.has_lone_halves;
        assert!(is_alone, "two flows share {peer:?}");
        assert!(keys.contains(&peer) || host.has_lone_halves, "a lone half: {key:?}");
    }
    let capacity = host.scene.tables.capacity.get();
    assert!(halves.len() <= capacity, "{} halves of {capacity}", halves.len());
}

/// After the longest timer without a packet nothing is left.
pub(super) fn silence_ends_all<A: Family>(host: &FuzzedHost) {
    host.scene.wait(SILENCE_SECS);
    for (key, _) in host.scene.halves::<A>() {
        engine::expire(&host.scene.tables, &key, false);
    }
    assert_eq!(host.scene.halves::<A>(), [], "there is no end to them");
}
