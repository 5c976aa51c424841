//! Takes every device, program, map and pin of ours away. What is stored stays: the next start brings it
//! about again.

use std::collections::BTreeSet;

use netd_common::names;
use tracing::info;

use super::{
    Controller, RequestError,
    host::{BRIDGE, Host, VETH},
};
use crate::{
    config::Config,
    datapath::{self, HANDLE, PRIORITY, Pins},
    desired::Desired,
    ids, mounts,
    netlink::{Netlink, NetlinkError, classifier::Classifier, link::Link},
};

/// What was there to take away.
#[derive(Debug)]
pub(crate) struct TornDown {
    /// Any program was pinned: where none was, those on devices stay.
    pub(crate) was_pinned: bool,
    /// The names of the devices that were to go.
    pub(crate) devices: Vec<String>,
}

/// A device that may be ours, by its name and kind.
type Device = (String, &'static str);

impl Controller {
    pub(super) async fn remove_everything(&self) -> Result<(), RequestError> {
        tear_down(Some(&self.desired), &self.config, &self.netlink).await.map(|_| ())
    }
}

/// Removes what a daemon with this desired state and configuration has made, whether it runs or not. Where the
/// desired state is not known, devices of ours are those with our programs.
pub(crate) async fn tear_down(
    desired: Option<&Desired>,
    config: &Config,
    netlink: &Netlink,
) -> Result<TornDown, RequestError> {
    let host = Host::read(netlink).await?;
    let pins = Pins::new(&config.daemon.bpffs);
    // What is on another file system was never pinned, whatever it is called.
    let is_on_bpffs = mounts::is_on_bpffs(&config.daemon.bpffs)?;
    let was_pinned = is_on_bpffs && pins.exist()?;
    let devices = match desired {
        Some(desired) => stored_devices(desired),
        // Without pins the programs may be those of a netd that has its pins elsewhere.
        None if was_pinned => devices_by_programs(&host, netlink).await?,
        None => Vec::new(),
    };
    for (name, kind) in &devices {
        netlink.delete_named(name, kind).await?;
    }
    if is_on_bpffs {
        // Every device, for one that is no uplink today may have been one yesterday.
        datapath::remove_all(&pins, host.link_names())?;
    }
    if was_pinned {
        info!("every device, program and map of netd removed");
    }
    Ok(TornDown { was_pinned, devices: devices.into_iter().map(|(name, _)| name).collect() })
}

/// Links of endpoints first. What Docker has made is Docker's.
fn stored_devices(desired: &Desired) -> Vec<Device> {
    let endpoints = desired.endpoints.values().filter(|endpoint| !desired.is_dockers(endpoint));
    let links = endpoints.map(|endpoint| (endpoint.host_ifname.clone(), VETH));
    let networks = desired.networks.values().filter(|network| network.manager.is_netd());
    let bridges = networks.map(|network| (network.bridge.clone(), BRIDGE));
    links.chain(bridges).collect()
}

/// The bridges with our programs for bridges, and the links with those for endpoints. A stranger's port that was
/// plugged into such a bridge has them too: it stays, unless its name could be one of ours.
async fn devices_by_programs(host: &Host, netlink: &Netlink) -> Result<Vec<Device>, NetlinkError> {
    let qdiscs = netlink.qdiscs().await?;
    let can_carry: BTreeSet<u32> = qdiscs.into_iter().map(|qdisc| qdisc.ifindex).collect();
    let (mut links, mut bridges) = (Vec::new(), Vec::new());
    for link in host.links().iter().filter(|link| can_carry.contains(&link.ifindex)) {
        let is = |kind: &str| link.kind.as_deref() == Some(kind);
        if is(VETH) && ids::is_host_ifname(&link.name) {
            if carries(netlink, link, names::FROM_ENDPOINT).await? {
                links.push((link.name.clone(), VETH));
            }
        } else if is(BRIDGE) && carries(netlink, link, names::FROM_BRIDGE).await? {
            bridges.push((link.name.clone(), BRIDGE));
        }
    }
    Ok([links, bridges].concat())
}

/// Whether a program of that name is our classifier on a device.
async fn carries(netlink: &Netlink, link: &Link, program: &str) -> Result<bool, NetlinkError> {
    let is_ours = |classifier: &Classifier| {
        (classifier.priority, classifier.handle) == (PRIORITY, HANDLE.into())
            && classifier.program.as_deref() == Some(program)
    };
    Ok(netlink.classifiers(link.ifindex).await?.iter().any(is_ours))
}
