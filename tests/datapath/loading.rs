//! The object itself.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use netd_common::names;
use netd_tests::prog::Datapath;

#[test]
fn every_program_of_the_object_is_known_and_loads() -> Result<()> {
    let classifiers = [
        names::FROM_UPLINK,
        names::TO_UPLINK,
        names::FROM_UPLINK_L3,
        names::TO_UPLINK_L3,
        names::FROM_ENDPOINT,
        names::TO_ENDPOINT,
        names::FROM_BRIDGE,
        names::TO_BRIDGE,
        names::EXPIRE_FLOWS,
    ];
    let frame_hooks = [names::FROM_WIRE];
    let socket_hooks = [names::CONNECT_V4, names::CONNECT_V6];
    let mut datapath = Datapath::load(2)?;
    for name in classifiers {
        datapath.classifier(name)?;
    }
    for name in frame_hooks {
        datapath.xdp(name)?;
    }
    for name in socket_hooks {
        datapath.load_socket_hook(name)?;
    }
    let known = classifiers.iter().chain(&frame_hooks).chain(&socket_hooks);
    let known: BTreeSet<String> = known.map(|name| (*name).to_owned()).collect();
    let present: BTreeSet<String> = datapath.program_names().into_iter().collect();
    ensure!(present == known, "{present:?}");
    Ok(())
}
