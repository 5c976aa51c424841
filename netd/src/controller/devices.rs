//! Which devices carry our programs: uplinks, bridges, and the ports of bridges that are not ours.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use nix::net::if_::if_nametoindex;
use tracing::{debug, info, warn};

use super::{Controller, attached::warn_of_blocked, in_one_line, xdp::Xdp};
use crate::{
    datapath::{Carried, Datapath, Side},
    netlink::{link::Link, monitor::HostEvent},
    uplinks::Uplink,
};

/// The devices that carry our programs, by interface index. Endpoints' own links get theirs when they
/// are made.
#[derive(Debug, Default)]
pub(super) struct Devices {
    /// The uplinks, and whether their packets have an Ethernet header.
    pub(super) uplinks: BTreeMap<u32, bool>,
    /// The bridges of our networks.
    pub(super) bridges: BTreeSet<u32>,
    /// Ports that somebody else has plugged into them.
    pub(super) strangers: BTreeSet<u32>,
    /// Uplinks that cannot carry them.
    pub(super) blocked: BTreeSet<u32>,
    /// What an earlier daemon has left on devices, until that is looked at.
    pub(super) left: BTreeMap<u32, Carried>,
    /// What has become of the XDP program, by uplink.
    pub(super) xdp: BTreeMap<u32, Xdp>,
}

impl Devices {
    /// Forgets devices that are gone: the number of one may be that of another by now, or it may have been to
    /// another namespace and back, which takes everything off it.
    pub(super) fn forget_gone(&mut self, events: &[HostEvent]) {
        for event in events {
            if let HostEvent::LinkGone { ifindex, .. } = event {
                self.uplinks.remove(ifindex);
                self.bridges.remove(ifindex);
                self.strangers.remove(ifindex);
                self.xdp.remove(ifindex);
            }
        }
    }
}

impl Controller {
    /// Puts our programs on every device that should carry them, and takes them off the others.
    pub(super) fn attach_devices(&mut self) {
        self.attach_bridges();
        self.attach_uplinks();
        self.attach_xdp();
        // After uplinks: a port may have been one.
        self.close_strangers();
    }

    fn attach_bridges(&mut self) {
        let names: Vec<String> = self.desired.networks.values().map(|n| n.bridge.clone()).collect();
        let mut present = BTreeSet::new();
        for name in names {
            let Some(ifindex) = self.host.ifindex(&name) else { continue };
            if self.devices.bridges.contains(&ifindex) || self.attach(&name, Side::Bridge) {
                present.insert(ifindex);
            }
        }
        self.devices.bridges = present;
    }

    /// Closes the ports that somebody else has plugged into our bridges: the programs refuse what comes
    /// from a port that no endpoint has, and what goes there.
    fn close_strangers(&mut self) {
        let endpoints = self.desired.endpoints.values();
        let ours: BTreeSet<&str> = endpoints.map(|it| it.host_ifname.as_str()).collect();
        let ports = self.host.links().iter().filter(|link| self.is_plugged(link));
        let strangers = ports.filter(|port| !ours.contains(port.name.as_str()));
        let strangers: Vec<Link> = strangers.cloned().collect();
        let present: BTreeSet<u32> = strangers.iter().map(|port| port.ifindex).collect();
        self.devices.strangers.retain(|ifindex| present.contains(ifindex));
        for port in &strangers {
            self.close(port);
        }
    }

    /// Closes a port as soon as the kernel says that it is one, before anything else is read.
    pub(crate) async fn close_stranger(&mut self, event: &HostEvent) {
        if let HostEvent::LinkChanged { ifindex } = event
            && let Ok(Some(link)) = self.netlink.link(*ifindex).await
            && self.is_stranger(&link)
        {
            self.close(&link);
        }
    }

    /// Whether a link is a port of a network's bridge.
    fn is_plugged(&self, link: &Link) -> bool {
        link.controller.is_some_and(|it| self.devices.bridges.contains(&it))
    }

    fn is_stranger(&self, link: &Link) -> bool {
        self.is_plugged(link)
            && !self.desired.endpoints.values().any(|it| it.host_ifname == link.name)
    }

    fn close(&mut self, port: &Link) {
        if !self.devices.strangers.contains(&port.ifindex)
            && self.attach(&port.name, Side::Endpoint)
        {
            self.devices.strangers.insert(port.ifindex);
            // Docker plugs a container's link in before it says so.
            if self.is_dockers_port(port) {
                debug!(port = port.name, "a port is closed until Docker says whose it is");
            } else {
                warn!(port = port.name, "a port that is no endpoint is closed: unplug it");
            }
        }
    }

    fn attach_uplinks(&mut self) {
        let uplinks = self.host.uplinks(&self.desired, &self.config.uplinks.names);
        for uplink in &uplinks {
            if self.devices.uplinks.contains_key(&uplink.ifindex) {
                continue;
            }
            if self.devices.blocked.contains(&uplink.ifindex) {
                warn_of_blocked(&uplink.name);
                continue;
            }
            let side = if uplink.ethernet { Side::Uplink } else { Side::UplinkL3 };
            if self.attach(&uplink.name, side) {
                info!(uplink = uplink.name, "uplink attached");
                self.devices.uplinks.insert(uplink.ifindex, uplink.ethernet);
            }
        }
        self.warn_of_missing_uplinks(&uplinks);
        let current: BTreeSet<u32> = uplinks.iter().map(|uplink| uplink.ifindex).collect();
        let attached: BTreeSet<u32> = self.devices.uplinks.keys().copied().collect();
        for lost in &attached - &current {
            self.devices.uplinks.remove(&lost);
            if let Some(link) = self.host.link_at(lost) {
                info!(uplink = link.name, "no uplink any more");
                // A bridge or a port that it has just become keeps the programs that it has as such.
                if self.side_of(link).is_none() {
                    Datapath::detach(&link.name);
                }
            }
        }
    }

    /// Whether the programs are on the device now. A failure is said, and tried again at the host's next
    /// change.
    fn attach(&mut self, name: &str, side: Side) -> bool {
        match self.attach_unless_left(name, side) {
            Ok(()) => true,
            // Containers' links go at any time.
            Err(error) if if_nametoindex(name).is_err() => {
                debug!(
                    device = name,
                    error = in_one_line(&error),
                    "gone before programs were attached"
                );
                false
            }
            Err(error) => {
                warn!(device = name, error = in_one_line(&error), "programs not attached");
                false
            }
        }
    }

    fn warn_of_missing_uplinks(&self, uplinks: &[Uplink]) {
        for name in &self.config.uplinks.names {
            if !uplinks.iter().any(|uplink| uplink.name == *name) {
                warn!(uplink = name, "no such uplink: nothing leaves by it until it is there");
            }
        }
    }

    /// Takes our programs off every device that an earlier daemon has left them on and that is not to carry
    /// them: it may have been told of other uplinks.
    pub(super) fn detach_others(&mut self) {
        for ifindex in mem::take(&mut self.devices.left).into_keys() {
            if let Some(link) = self.host.link_at(ifindex) {
                Datapath::detach(&link.name);
            }
        }
    }
}
