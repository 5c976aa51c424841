//! The object itself.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use netd_common::{
    names,
    reason::{Reason, Verdict},
};
use netd_tests::prog::{Datapath, Place, in_new_netns};

#[test]
fn every_program_of_the_object_is_known_and_loads() -> Result<()> {
    let classifiers = names::PARTS.into_iter().chain([names::EXPIRE_FLOWS, names::INHERIT_FLOWS]);
    let frame_hooks = [names::FROM_WIRE];
    let socket_hooks = names::SOCKET_HOOKS_V4.into_iter().chain(names::SOCKET_HOOKS_V6);
    let mut datapath = Datapath::load(2)?;
    for name in classifiers.clone() {
        datapath.classifier(name)?;
    }
    for name in frame_hooks {
        datapath.xdp(name)?;
    }
    for name in socket_hooks.clone() {
        datapath.load_socket_hook(name)?;
    }
    datapath.load_socket_lookup(names::TO_SOCKET)?;
    let known: BTreeSet<String> = classifiers
        .chain(frame_hooks)
        .chain(socket_hooks)
        .chain([names::TO_SOCKET])
        .map(str::to_owned)
        .collect();
    let present: BTreeSet<String> = datapath.program_names().into_iter().collect();
    ensure!(present == known, "{present:?}");
    Ok(())
}

/// An IPv4 fragment, from the middle of a packet.
const FRAGMENT: [u8; 60] = {
    let mut frame = [0; 60];
    (frame[12], frame[13]) = (8, 0);
    (frame[14], frame[17], frame[20], frame[22], frame[23]) = (0x45, 46, 0x20, 64, 17);
    frame
};

#[test]
fn a_packet_is_dropped_where_nobody_takes_it_over() -> Result<()> {
    let hooks = [
        names::FROM_UPLINK,
        names::TO_UPLINK,
        names::FROM_ENDPOINT,
        names::TO_ENDPOINT,
        names::FROM_BRIDGE,
        names::TO_BRIDGE,
    ];
    in_new_netns(&["link set lo up".to_owned()], || {
        let mut datapath = Datapath::load(2)?;
        for name in hooks {
            let place = Place { ifindex: 1, ingress_ifindex: 1, segment_len: 0 };
            ensure!(
                datapath.run_alone(name, place, &FRAGMENT)? == (Verdict::Drop, FRAGMENT.into())
            );
        }
        let (packets, bytes) = (hooks.len() as u64, (hooks.len() * FRAGMENT.len()) as u64);
        ensure!(datapath.counters()? == BTreeMap::from([(Reason::NoProgram, (packets, bytes))]));
        Ok(())
    })
}
