//! Masqueraded flows whose source is not theirs any more. They end as the kernel ends its own
//! (`nf_nat_masquerade.c`): with the address, when its device is set down, and when the packets leave by
//! another device. The next packet begins a flow with the source that is right then.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use netd_common::conntrack::FlowState;
use tracing::info;

use super::{Controller, RequestError};
use crate::{
    datapath::conntrack::{Conntrack, FlowView},
    model::Network,
    netlink::{monitor::HostEvent, route::Route},
    uplinks,
};

/// What the flows have been compared with, as far as that has been done.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// The addresses that packets may leave with, by device.
    held: Option<BTreeSet<(u32, IpAddr)>>,
    ways: Option<Ways>,
}

/// What decides which of the uplinks a packet leaves by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ways {
    /// The uplinks that have a carrier.
    pub(super) operational: BTreeSet<u32>,
    /// The routes by uplinks, of every table.
    pub(super) routes: Vec<Route>,
}

/// What the kernel finds a flow's way by, and the source that was right for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    network: u16,
    from: IpAddr,
    to: IpAddr,
    source: IpAddr,
}

impl Way {
    fn of(flow: &FlowView) -> Self {
        Self {
            network: flow.network,
            from: flow.original.src,
            to: flow.original.dst,
            source: flow.reply.dst,
        }
    }
}

impl Sources {
    /// Has ways looked at again after events that do not show in the routes.
    pub(super) fn note(&mut self, events: &[HostEvent]) {
        if events.iter().any(|event| matches!(event, HostEvent::RulesChanged | HostEvent::Overrun))
        {
            self.ways = None;
        }
    }
}

impl Controller {
    /// Ends the masqueraded flows whose source is not theirs any more, where the host has changed so that
    /// there may be some, and at the start.
    pub(super) async fn end_flows_of_lost_sources(&mut self) -> Result<(), RequestError> {
        let uplinks = self.host.uplinks(&self.desired, &self.config.uplinks.names);
        let held = self.host.sources(&uplinks);
        let lost = self.sources.held.as_ref().map(|before| uplinks::lost_sources(before, &held));
        if lost.as_ref().is_none_or(|lost| !lost.is_empty()) {
            self.end_flows_from(&lost.unwrap_or_default(), &held)?;
        }
        let ways = self.host.ways(&uplinks);
        if uplinks.len() > 1 && self.sources.ways.as_ref() != Some(&ways) {
            self.end_flows_by_other_ways(&held).await?;
        }
        self.sources = Sources { held: Some(held), ways: Some(ways) };
        Ok(())
    }

    /// Ends the flows whose source the host has lost, now or while no daemon ran.
    fn end_flows_from(
        &self,
        lost: &BTreeSet<IpAddr>,
        held: &BTreeSet<(u32, IpAddr)>,
    ) -> Result<(), RequestError> {
        let held: BTreeSet<IpAddr> = held.iter().map(|(_, address)| *address).collect();
        let is_lost = |source: &IpAddr| lost.contains(source) || !held.contains(source);
        self.end_masqueraded(|flow| is_lost(&flow.reply.dst))
    }

    /// Ends the flows whose packets leave by a device that gives another source.
    async fn end_flows_by_other_ways(
        &self,
        held: &BTreeSet<(u32, IpAddr)>,
    ) -> Result<(), RequestError> {
        let bridges = self.bridges_by_number();
        let mut moved = BTreeSet::new();
        for way in self.ways_of_flows()? {
            let Some(&bridge) = bridges.get(&way.network) else { continue };
            let devices = self.netlink.ways_out(bridge, way.from, way.to).await?;
            if !devices.is_empty() && !devices.iter().any(|&it| held.contains(&(it, way.source))) {
                moved.insert(way);
            }
        }
        if moved.is_empty() {
            return Ok(());
        }
        self.end_masqueraded(|flow| moved.contains(&Way::of(flow)))
    }

    fn end_masqueraded(&self, is_meant: impl Fn(&FlowView) -> bool) -> Result<(), RequestError> {
        let fixed = self.fixed_sources();
        let mut conntrack = Conntrack::open(&self.pins)?;
        let ended = conntrack.flush(|flow| is_masqueraded(flow, &fixed) && is_meant(flow))?;
        if ended > 0 {
            info!(ended, "flows ended with their source address");
        }
        Ok(())
    }

    /// The ways of all masqueraded flows, each once.
    fn ways_of_flows(&self) -> Result<BTreeSet<Way>, RequestError> {
        let fixed = self.fixed_sources();
        let mut ways = BTreeSet::new();
        Conntrack::open(&self.pins)?.for_each_flow(|flows| {
            // A mapping is reached by its own address, whichever way is taken to leave.
            let leaves = |flow: &&FlowView| {
                is_masqueraded(flow, &fixed)
                    && flow.reply.src == flow.original.dst
                    && flow.state != FlowState::Mapping
            };
            ways.extend(flows.iter().filter(leaves).map(Way::of));
            true
        })?;
        Ok(ways)
    }

    /// The sources that networks have been told to use, whatever addresses the host has.
    fn fixed_sources(&self) -> BTreeSet<IpAddr> {
        let networks = self.desired.networks.values();
        networks.flat_map(|network| network.snat_addresses.iter().copied()).collect()
    }

    fn bridges_by_number(&self) -> BTreeMap<u16, u32> {
        let networks = self.desired.networks.values();
        let bridge =
            |network: &Network| Some((network.number, self.host.ifindex(&network.bridge)?));
        networks.filter_map(bridge).collect()
    }
}

/// Whether a flow, or a mapping, has been given its source by the device that it leaves by.
fn is_masqueraded(flow: &FlowView, fixed: &BTreeSet<IpAddr>) -> bool {
    flow.reply.dst != flow.original.src && !fixed.contains(&flow.reply.dst)
}
