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
        names::EXPIRE_FLOWS,
    ];
    let socket_hooks = [names::CONNECT_V4, names::CONNECT_V6];
    let mut datapath = Datapath::load(2)?;
    for name in classifiers {
        datapath.classifier(name)?;
    }
    for name in socket_hooks {
        datapath.load_socket_hook(name)?;
    }
    let known: BTreeSet<String> =
        classifiers.iter().chain(&socket_hooks).map(|name| (*name).to_owned()).collect();
    let present: BTreeSet<String> = datapath.program_names().into_iter().collect();
    ensure!(present == known, "{present:?}");
    Ok(())
}
