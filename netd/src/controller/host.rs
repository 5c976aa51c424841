//! The host as the controller last read it, and what follows from it.

mod links;
mod ports;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use tracing::info;

use super::sources::Ways;
use crate::{
    desired::{Desired, HostView},
    model::NatMode,
    netlink::{
        Netlink, NetlinkError,
        addr::{Address, Scope},
        link::Link,
        monitor::HostEvent,
        route::Routes,
    },
    programmed::HostFacts,
    sysctl,
    uplinks::{self, Uplink, masquerade, xdp},
};
use links::Links;
use ports::{listeners, local_port_range, reserved_ports};

/// The kinds of our links, in the kernel's words.
pub(super) const BRIDGE: &str = "bridge";
pub(super) const VETH: &str = "veth";

/// Links, addresses and routes.
#[derive(Debug, Default)]
pub(super) struct Host {
    links: Links,
    addresses: Vec<Address>,
    routes: Routes,
    /// The ports that nobody may be given, as ranges.
    reserved_ports: Vec<(u16, u16)>,
    /// The bridges of another manager, whatever they are called.
    others_bridges: BTreeSet<String>,
}

impl Host {
    pub(super) async fn read(netlink: &Netlink) -> Result<Self, NetlinkError> {
        Ok(Self {
            links: Links::new(netlink.links().await?),
            addresses: netlink.addresses().await?,
            routes: netlink.all_routes().await?,
            reserved_ports: reserved_ports(),
            others_bridges: BTreeSet::new(),
        })
    }

    /// Reads what may have changed by these events, and says whether anything has. `is_endpoint` tells the links of
    /// our endpoints by their names, on which neither addresses nor routes depend.
    pub(super) async fn follow(
        &mut self,
        netlink: &Netlink,
        events: &[HostEvent],
        is_endpoint: impl Fn(&str) -> bool,
    ) -> Result<bool, NetlinkError> {
        if events.contains(&HostEvent::Overrun) {
            let others_bridges = std::mem::take(&mut self.others_bridges);
            *self = Self { others_bridges, ..Self::read(netlink).await? };
            return Ok(true);
        }
        let moves = |event: &HostEvent| {
            matches!(event, HostEvent::AddressesChanged | HostEvent::RoutesChanged)
        };
        let mut may_have_moved = events.iter().any(moves);
        let mut has_changed = self.reread_reserved_ports();
        let named: BTreeSet<u32> = events.iter().filter_map(HostEvent::link).collect();
        for ifindex in named {
            let link = netlink.link(ifindex).await?;
            let known = self.links.get(ifindex).or(link.as_ref());
            let is_endpoint = known.is_some_and(|link| is_endpoint(&link.name));
            if self.links.set(ifindex, link) {
                has_changed = true;
                may_have_moved |= !is_endpoint;
            }
        }
        if may_have_moved {
            let (addresses, routes) = (netlink.addresses().await?, netlink.all_routes().await?);
            has_changed |= addresses != self.addresses || routes != self.routes;
            (self.addresses, self.routes) = (addresses, routes);
        }
        Ok(has_changed)
    }

    /// Takes up a link that has just been read.
    pub(super) fn note(&mut self, link: Link) {
        self.links.set(link.ifindex, Some(link));
    }

    /// Takes bridges for another manager's, and no others; says whether that is news.
    pub(super) fn leave_alone(&mut self, bridges: BTreeSet<String>) -> bool {
        std::mem::replace(&mut self.others_bridges, bridges) != self.others_bridges
    }

    /// Reads the reserved ports again, of which the kernel announces no change; says whether they did.
    pub(super) fn reread_reserved_ports(&mut self) -> bool {
        let new = reserved_ports();
        let has_changed = new != self.reserved_ports;
        self.reserved_ports = new;
        has_changed
    }

    /// The names of all links.
    pub(super) fn link_names(&self) -> impl Iterator<Item = String> {
        self.links().iter().map(|link| link.name.clone())
    }

    /// Whether there is a link of this name and kind.
    pub(super) fn has(&self, name: &str, kind: &str) -> bool {
        self.link(name).is_some_and(|link| link.kind.as_deref() == Some(kind))
    }

    /// Whether a link has all these addresses.
    pub(super) fn has_addresses(&self, ifindex: u32, wanted: &[IpNet]) -> bool {
        let has = |net: &IpNet| {
            self.addresses.iter().any(|address| address.ifindex == ifindex && address.net == *net)
        };
        wanted.iter().all(has)
    }

    /// The addresses of a link, with their prefixes.
    pub(super) fn addresses_of(&self, ifindex: u32) -> impl Iterator<Item = IpNet> {
        self.addresses.iter().filter(move |it| it.ifindex == ifindex).map(|it| it.net)
    }

    pub(super) fn ifindex(&self, name: &str) -> Option<u32> {
        self.link(name).map(|link| link.ifindex)
    }

    pub(super) fn link(&self, name: &str) -> Option<&Link> {
        self.links.named(name)
    }

    /// The link of that number.
    pub(super) fn link_at(&self, ifindex: u32) -> Option<&Link> {
        self.links.get(ifindex)
    }

    /// The uplinks, in the order of their indices.
    pub(super) fn uplinks(&self, desired: &Desired, named: &[String]) -> Vec<Uplink> {
        let bridges = desired.networks.values().map(|network| network.bridge.as_str());
        let veths = desired.endpoints.values().map(|endpoint| endpoint.host_ifname.as_str());
        let others = self.others_bridges.iter().map(String::as_str);
        let ours: BTreeSet<u32> =
            bridges.chain(veths).chain(others).filter_map(|name| self.ifindex(name)).collect();
        let trusted = desired.networks.values().flat_map(|network| &network.trusted_interfaces);
        let trusted: BTreeSet<&str> = trusted.map(String::as_str).collect();
        uplinks::uplinks(self.links(), &ours, named, &trusted)
    }

    /// The uplinks that have learned their default route from a router's advertisement.
    pub(super) fn router_advertised(&self, desired: &Desired, named: &[String]) -> Vec<String> {
        uplinks::router_advertised(&self.uplinks(desired, named), &self.routes.without_rule)
    }

    /// What the maps depend on.
    pub(super) fn facts(
        &self,
        desired: &Desired,
        named: &[String],
        attached: &BTreeMap<u32, bool>,
    ) -> HostFacts {
        let uplinks = self.uplinks(desired, named);
        HostFacts {
            trusts_every_uplink: false,
            default_flow_limits: [None; 2],
            default_nat: NatMode::default(),
            reserved_ports: self.reserved_ports.clone(),
            ifindexes: self.links.ifindexes().clone(),
            macs: self.macs(),
            netns: self.netns(),
            addresses: self.link_addresses(),
            uplinks: attached.clone(),
            uplink_macs: xdp::macs(self.links(), |ifindex| attached.contains_key(&ifindex)),
            fast_networks: BTreeSet::new(),
            masquerade_sources: masquerade::masquerade_sources(
                &uplinks,
                &self.addresses,
                &self.routes.without_rule,
            ),
        }
    }

    /// What planning may know.
    pub(super) fn view(&self) -> HostView {
        HostView {
            addresses: self.addresses.iter().map(|address| address.net).collect(),
            routes: self.routes.without_rule.iter().map(|route| route.destination).collect(),
            link_names: self.link_names().collect(),
            link_addresses: self.link_addresses(),
            default_mtu: uplinks::default_route_mtu(self.links(), &self.routes.without_rule),
            local_port_range: local_port_range(),
            reserved_ports: reserved_ports(),
            listeners: listeners(),
        }
    }

    fn netns(&self) -> BTreeMap<String, u32> {
        let links = self.links().iter();
        links.filter_map(|link| Some((link.name.clone(), link.below_netns?))).collect()
    }

    fn macs(&self) -> BTreeMap<String, [u8; 6]> {
        let links = self.links().iter();
        links.filter_map(|link| Some((link.name.clone(), link.mac?))).collect()
    }

    /// The addresses that packets may leave with now, by device: its own, and what an uplink borrows.
    pub(super) fn sources(&self, uplinks: &[Uplink]) -> BTreeSet<(u32, IpAddr)> {
        let routes = &self.routes.without_rule;
        let given = masquerade::masquerade_sources(uplinks, &self.addresses, routes);
        let given = given.into_iter().map(|given| (given.ifindex, given.source));
        let own = self.addresses.iter().filter(|address| address.scope == Scope::Universe);
        let own = own.map(|address| (address.ifindex, address.net.addr()));
        let up: BTreeSet<u32> =
            self.links().iter().filter(|link| link.up).map(|link| link.ifindex).collect();
        given.chain(own).filter(|(ifindex, _)| up.contains(ifindex)).collect()
    }

    /// What decides which of the uplinks a packet leaves by.
    pub(super) fn ways(&self, uplinks: &[Uplink]) -> Ways {
        let is_uplink = |ifindex: u32| uplinks.iter().any(|uplink| uplink.ifindex == ifindex);
        let routes = self.routes.without_rule.iter().chain(&self.routes.by_rule);
        let by_uplinks =
            routes.filter(|route| route.unicast && route.ifindex.is_some_and(is_uplink));
        let operational =
            self.links().iter().filter(|link| link.operational && is_uplink(link.ifindex));
        Ways {
            operational: operational.map(|link| link.ifindex).collect(),
            routes: by_uplinks.cloned().collect(),
        }
    }

    /// All links, in the order of their numbers.
    pub(super) fn links(&self) -> &[Link] {
        self.links.as_slice()
    }

    /// The addresses of each link that has any.
    fn link_addresses(&self) -> BTreeMap<String, Vec<IpAddr>> {
        let mut addresses: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for address in &self.addresses {
            if let Some(link) = self.links.get(address.ifindex) {
                addresses.entry(link.name.clone()).or_default().push(address.net.addr());
            }
        }
        addresses
    }
}

/// Says that a sysctl was set.
pub(super) fn say_changed(change: &sysctl::Change) {
    let sysctl::Change { path, from, to, why } = change;
    info!(path = %path.display(), from, to, why, "sysctl set");
}
