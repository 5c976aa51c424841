//! Which uplinks carry the XDP program.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use tracing::{info, warn};

use super::{Controller, in_one_line};
use crate::{
    config::XdpMode,
    datapath::Datapath,
    uplinks::{Uplink, xdp},
};

/// Whether an uplink carries the program, or why it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Xdp {
    Attached,
    Without(String),
}

impl Controller {
    /// Puts the XDP program on every uplink that should carry it, and takes it off the others. What stands
    /// in the way is said once, and tried again at the host's next change.
    pub(super) fn attach_xdp(&mut self) {
        let mut states = BTreeMap::new();
        let mut earlier = mem::take(&mut self.devices.xdp);
        for uplink in self.xdp_candidates() {
            let before = earlier.remove(&uplink.ifindex);
            let state = self.attach_xdp_to(&uplink, before.as_ref() == Some(&Xdp::Attached));
            if before.as_ref() != Some(&state) {
                self.say_xdp(&uplink.name, &state);
            }
            states.insert(uplink.ifindex, state);
        }
        self.devices.xdp = states;
        self.detach_xdp();
    }

    /// The uplinks that carry our classifiers and have an Ethernet header.
    fn xdp_candidates(&self) -> Vec<Uplink> {
        if self.config.datapath.xdp == XdpMode::Off {
            return Vec::new();
        }
        let attached = &self.devices.uplinks;
        let mut uplinks = self.host.uplinks(&self.desired, &self.config.uplinks.names);
        uplinks.retain(|uplink| attached.get(&uplink.ifindex) == Some(&true));
        uplinks
    }

    /// What becomes of one that carries it already, or not yet.
    fn attach_xdp_to(&mut self, uplink: &Uplink, is_attached: bool) -> Xdp {
        let mode = self.config.datapath.xdp;
        if let Err(why) = xdp::check(mode, uplink, self.host.links()) {
            return Xdp::Without(why.to_string());
        }
        if is_attached {
            return Xdp::Attached;
        }
        match self.datapath.attach_xdp(&self.pins, uplink.ifindex) {
            Ok(()) => Xdp::Attached,
            Err(error) => Xdp::Without(in_one_line(&error)),
        }
    }

    fn say_xdp(&self, uplink: &str, state: &Xdp) {
        match state {
            Xdp::Attached => info!(uplink, "XDP program attached"),
            // Somebody has asked for it.
            Xdp::Without(why) if self.config.datapath.xdp == XdpMode::Drop => {
                warn!(uplink, why, "no XDP program");
            }
            Xdp::Without(why) => info!(uplink, why, "no XDP program"),
        }
    }

    fn detach_xdp(&self) {
        let states = self.devices.xdp.iter();
        let kept: BTreeSet<u32> = states
            .filter(|(_, state)| **state == Xdp::Attached)
            .map(|(&ifindex, _)| ifindex)
            .collect();
        match Datapath::detach_xdp_from_others(&self.pins, &kept) {
            Ok(detached) => {
                for ifindex in detached {
                    info!(ifindex, "XDP program taken off");
                }
            }
            Err(error) => {
                warn!(error = in_one_line(&error), "an XDP program could not be taken off")
            }
        }
    }
}
