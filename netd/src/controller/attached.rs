//! Whether our programs are on the devices that should carry them: found there at the start, put back where
//! somebody takes them off.

use std::collections::{BTreeMap, BTreeSet};

use tracing::warn;

use super::{Controller, RequestError, in_one_line};
use crate::{
    datapath::{Carried, Datapath, DatapathError, HANDLE, PRIORITY, Side},
    netlink::{link::Link, monitor::HostEvent},
};

/// The qdisc that stands where ours would, for one direction only: the kernel then takes what is attached for
/// the other one for a second filter of the same.
const INGRESS: &str = "ingress";

impl Controller {
    /// The programs that are classifiers of ours on these devices.
    pub(super) async fn carried(
        &self,
        ifindexes: impl IntoIterator<Item = u32>,
    ) -> Result<BTreeMap<u32, Carried>, RequestError> {
        let attached = self.netlink.attached(ifindexes, (PRIORITY, HANDLE)).await?;
        let carried = |[ingress, egress]: [Option<u32>; 2]| Carried { ingress, egress };
        Ok(attached.into_iter().map(|(ifindex, programs)| (ifindex, carried(programs))).collect())
    }

    /// Attaches the programs, unless an earlier daemon has left these very ones there.
    pub(super) fn attach_unless_left(
        &mut self,
        name: &str,
        side: Side,
    ) -> Result<(), DatapathError> {
        let ifindex = self.host.ifindex(name);
        let left = ifindex.and_then(|ifindex| self.devices.left.remove(&ifindex));
        if let Some(left) = left
            && self.datapath.is_attached(left, side)?
        {
            return Ok(());
        }
        self.datapath.attach(name, side)
    }

    /// Looks for uplinks that cannot carry our programs, if there is one that does not carry them yet.
    pub(super) async fn find_blocked_uplinks(&mut self) -> Result<(), RequestError> {
        let uplinks = self.host.uplinks(&self.desired, &self.config.uplinks.names);
        let is_new = |ifindex: u32| !self.devices.uplinks.contains_key(&ifindex);
        self.devices.blocked = if uplinks.iter().any(|uplink| is_new(uplink.ifindex)) {
            self.with_ingress_qdisc().await?
        } else {
            BTreeSet::new()
        };
        Ok(())
    }

    async fn with_ingress_qdisc(&self) -> Result<BTreeSet<u32>, RequestError> {
        let qdiscs = self.netlink.qdiscs().await?;
        let blocking = qdiscs.into_iter().filter(|qdisc| qdisc.kind == INGRESS);
        Ok(blocking.map(|qdisc| qdisc.ifindex).collect())
    }

    /// Puts the programs back on devices whose classifiers have changed.
    pub(super) async fn attach_again(&mut self, events: &[HostEvent]) -> Result<(), RequestError> {
        let is_any = events.contains(&HostEvent::Overrun);
        let changed: BTreeSet<u32> = events.iter().filter_map(HostEvent::classifiers_of).collect();
        let links = self.host.links().iter();
        let changed = links.filter(|link| is_any || changed.contains(&link.ifindex));
        let changed: Vec<(u32, String, Side)> = changed
            .filter_map(|link| Some((link.ifindex, link.name.clone(), self.side_of(link)?)))
            .collect();
        let carried = self.carried(changed.iter().map(|(ifindex, ..)| *ifindex)).await?;
        for (ifindex, name, side) in changed {
            let carried = carried.get(&ifindex).copied().unwrap_or_default();
            if !self.datapath.is_attached(carried, side)? {
                self.put_back(ifindex, &name, side).await?;
            }
        }
        Ok(())
    }

    async fn put_back(&mut self, ifindex: u32, name: &str, side: Side) -> Result<(), RequestError> {
        if self.with_ingress_qdisc().await?.contains(&ifindex) {
            Datapath::detach(name);
            self.devices.uplinks.remove(&ifindex);
            self.devices.blocked.insert(ifindex);
            warn_of_blocked(name);
            return Ok(());
        }
        match self.datapath.attach(name, side) {
            Ok(()) => warn!(device = name, "somebody took netd's programs off; they are back"),
            Err(error) => {
                warn!(device = name, error = in_one_line(&error), "programs not attached")
            }
        }
        Ok(())
    }

    /// What a device is to carry.
    pub(super) fn side_of(&self, link: &Link) -> Option<Side> {
        let devices = &self.devices;
        if let Some(is_ethernet) = devices.uplinks.get(&link.ifindex) {
            return Some(if *is_ethernet { Side::Uplink } else { Side::UplinkL3 });
        }
        if devices.bridges.contains(&link.ifindex) {
            return Some(Side::Bridge);
        }
        let is_endpoint = || self.desired.endpoints.values().any(|it| it.host_ifname == link.name);
        (devices.strangers.contains(&link.ifindex) || is_endpoint()).then_some(Side::Endpoint)
    }
}

pub(super) fn warn_of_blocked(uplink: &str) {
    warn!(
        uplink,
        "its qdisc `ingress` stands where netd's has to, so nothing of netd's comes in or leaves by it: \
         `tc qdisc del dev {uplink} ingress`"
    );
}
