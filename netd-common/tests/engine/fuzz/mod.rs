//! Targets for a fuzzer: each takes any bytes, makes of them a host and what happens on it, and panics where
//! something does not hold. `tests/fuzz` builds them with libFuzzer; here the inputs that it found worth
//! keeping are tried again.

mod checks;
mod frames;
mod host;
mod input;

#[cfg(test)]
mod replay;

use netd_common::{
    address::{V4, V6},
    engine,
    packet::Headers as _,
    parse::{Common, Kind, Rare},
    reason::{Reason, Verdict},
};

use self::{host::FuzzedHost, input::Input};
use crate::{
    packet::{ETHERNET_LEN, HostPacket},
    place::{At, FROM_UPLINK, Hook},
    scene::{Datapath, Scene},
};

/// The name of its corpus, and what it does with an input.
pub(crate) type Target = (&'static str, fn(&[u8]));

pub(crate) const TARGETS: [Target; 2] = [("parser", parser), ("engine", engine)];

/// How many things happen on one host. Units: steps.
const MAX_STEPS: u32 = 48;

/// Any bytes at every hook: whatever reads a header must stay within it, the programs of a hook agree about
/// what each of them may judge, and XDP drops nothing that the classifier lets through.
pub(crate) fn parser(data: &[u8]) {
    let mut input = Input::new(data);
    let scene = Scene::on(input.pick(&[Datapath::Stack, Datapath::Fast]));
    let at = host::place(&mut input);
    let frame = frames::raw(&mut input);
    let mut packet = at.packet(frame);
    packet.is_to_this_host = !input.one_in(16);
    packet.has_vlan_tag = input.one_in(32);
    let reason = scene.judge(at.hook, &mut packet.clone());
    programs_agree(at, &packet);
    if at.hook == Hook::FromUplink && packet.frame.len() as u32 >= ETHERNET_LEN {
        let dropped = engine::from_wire(&packet, &scene.tables).err();
        // XDP comes before tags are taken off and knows no other reason.
        assert!(
            dropped.is_none_or(|early| early == reason || packet.has_vlan_tag),
            "{dropped:?} on the wire, {reason:?} behind it",
        );
    }
}

/// A packet that is not rare is judged alike by the program for rare ones: both take the same steps.
fn programs_agree(at: At, packet: &HostPacket) {
    let judged = if packet.ethertype() == 0x86dd {
        [judge_by::<Common<V6>>(at, packet), judge_by::<Rare<V6>>(at, packet)]
    } else {
        [judge_by::<Common<V4>>(at, packet), judge_by::<Rare<V4>>(at, packet)]
    };
    if let [Some(common), Some(rare)] = &judged {
        assert_eq!(common, rare, "at {at:?}");
    }
}

/// What one program makes of a packet, unless it hands it over to another.
fn judge_by<K: Kind>(at: At, packet: &HostPacket) -> Option<(Reason, Vec<u8>)> {
    let mut packet = packet.clone();
    let reason = Scene::new().tables.ask_alone::<K>(at.hook, &mut packet)?;
    Some((reason, packet.frame))
}

/// Any host, and any packets, times and mishaps on it.
pub(crate) fn engine(data: &[u8]) {
    let mut input = Input::new(data);
    let mut host = FuzzedHost::new(&mut input);
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        host.step(&mut input);
        checks::tables::<V4>(&host);
        checks::tables::<V6>(&host);
    }
    host.scene.tables.at_call.take();
    checks::silence_ends_all::<V4>(&host);
    checks::silence_ends_all::<V6>(&host);
}

/// Sends a frame through a hook and, as the kernel would, through those behind it: the last frame.
fn travel(host: &mut FuzzedHost, from: Option<Hook>, at: At, mut packet: HostPacket) -> Vec<u8> {
    let before = packet.clone();
    let reason = host.scene.judge(at.hook, &mut packet);
    checks::packet(at, &before, &packet, reason);
    // Who may send what is judged where it comes in, so what is put at the uplink may be anything.
    if [Some(at.hook), from].contains(&Some(Hook::FromEndpoint)) {
        checks::leaves_masqueraded(&host.scene, at, &packet, reason);
    }
    let next = if reason.verdict() != Verdict::Pass {
        None
    } else if at.hook == Hook::FromUplink {
        host::port_of_destination(&host.scene, &packet, FROM_UPLINK.ifindex)
    } else {
        (at.hook == Hook::FromEndpoint).then(|| host::to_uplink_of(at))
    };
    match next {
        Some(next) => {
            let mut onward = HostPacket::new(packet.frame, next.ifindex, next.ingress);
            onward.has_memory = before.has_memory;
            travel(host, Some(at.hook), next, onward)
        }
        None => packet.frame,
    }
}
