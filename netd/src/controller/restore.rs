//! Brings about what is stored: at the start, and when something of ours has changed behind our back.

use std::collections::BTreeSet;

use tracing::{info, warn};

use super::{
    Controller, RequestError,
    endpoints::open_again,
    host::{BRIDGE, VETH},
    in_one_line,
    join::Joining,
    networks,
};
use crate::{
    datapath::Side,
    model::{Endpoint, Network},
    netlink::{link::Link, neighbour::Neighbour},
};

/// How many links are made together: each holds a file open, of which a process may have 1024.
const MADE_AT_ONCE: usize = 512;

/// What is done with an endpoint's link that is not plugged into its bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unplugged {
    /// It was left half made, by a daemon that died: it is made anew.
    MakeAnew,
    /// Somebody has unplugged it: it is plugged in again.
    PlugIn,
}

impl Controller {
    /// Brings networks and endpoints about, then uplinks and maps.
    pub(super) async fn restore(&mut self) -> Result<(), RequestError> {
        let ifindexes: Vec<u32> = self.host.links().iter().map(|link| link.ifindex).collect();
        self.devices.left = self.carried(ifindexes).await?;
        if self.datapath.has_predecessor() {
            self.succeed().await?;
        }
        // Programs first: the links may have carried packets all along.
        let endpoints = self.desired.endpoints.values();
        let links: Vec<String> = endpoints.map(|endpoint| endpoint.host_ifname.clone()).collect();
        for name in &links {
            if self.host.has(name, VETH) {
                self.attach_unless_left(name, Side::Endpoint)?;
            }
        }
        self.mend(Unplugged::MakeAnew, true).await?;
        self.detach_others();
        self.datapath.forget_others(&self.pins)?;
        self.keep_sysctls();
        Ok(())
    }

    /// Fills the maps while devices still carry the programs of another layout, whose flows then become ours.
    async fn succeed(&mut self) -> Result<(), RequestError> {
        self.find_blocked_uplinks().await?;
        let mut uplinks = self.host.uplinks(&self.desired, &self.config.uplinks.names);
        uplinks.retain(|uplink| !self.devices.blocked.contains(&uplink.ifindex));
        // They carry programs that leave packets to ours, if not ours yet.
        self.devices.uplinks = uplinks.iter().map(|it| (it.ifindex, it.ethernet)).collect();
        self.choose_paths();
        let programmed = self.program();
        self.devices.uplinks.clear();
        programmed?;
        Ok(self.datapath.succeed(&self.pins)?)
    }

    /// Brings the host in line with what is desired. A failure is said and tried again at the host's next
    /// change: one broken network must not keep the others from working.
    ///
    /// The kernel announces when it forgets neighbours, so they are looked at only where it `forgets` some.
    pub(super) async fn mend(
        &mut self,
        unplugged: Unplugged,
        forgets: bool,
    ) -> Result<(), RequestError> {
        self.mend_networks().await;
        self.keep_sysctls();
        self.catch_up().await?;
        let known = match forgets || self.has_failed {
            true => Some(self.netlink.neighbours().await?),
            false => None,
        };
        let mut has_failed = false;
        let mut anew = Vec::new();
        for endpoint in self.desired.endpoints.values() {
            let network = self.desired.network(&endpoint.network)?;
            if !network.manager.is_netd() {
                continue;
            }
            let bridge = self.host.ifindex(&network.bridge);
            let mended = match repair(self.host.link(&endpoint.host_ifname), bridge, unplugged) {
                Repair::Neighbours { ifindex } => match &known {
                    Some(known) => self.mend_neighbours(endpoint, ifindex, known).await,
                    None => Ok(()),
                },
                Repair::PlugIn { ifindex } => self.plug_again(endpoint, ifindex).await,
                Repair::MakeAnew => {
                    anew.push(endpoint.clone());
                    Ok(())
                }
            };
            has_failed |= mended.is_err();
            warn_unless(mended, endpoint);
        }
        self.has_failed = has_failed;
        for anew in anew.chunks(MADE_AT_ONCE) {
            self.make_anew(anew).await;
        }
        Ok(())
    }

    async fn mend_networks(&self) {
        for network in self.desired.networks.values().filter(|it| it.manager.is_netd()) {
            if let Err(error) = self.mend_network(network).await {
                let error = in_one_line(&error);
                warn!(network = network.name, error, "the bridge could not be mended");
            }
        }
    }

    async fn mend_network(&self, network: &Network) -> Result<(), RequestError> {
        match self.host.link(&network.bridge) {
            None => {
                self.netlink.create_bridge(&networks::bridge_spec(network)).await?;
                info!(network = network.name, bridge = network.bridge, "bridge made again");
            }
            Some(link) if link.kind.as_deref() == Some(BRIDGE) => {
                self.mend_bridge(network, link).await?;
            }
            Some(_) => {
                warn!(
                    network = network.name,
                    bridge = network.bridge,
                    "a device that is no bridge has the bridge's name: rename or remove it"
                );
            }
        }
        Ok(())
    }

    async fn mend_bridge(&self, network: &Network, link: &Link) -> Result<(), RequestError> {
        let (ifindex, mac, gateways) =
            (link.ifindex, network.bridge_mac(), network.bridge_addresses());
        if link.mac != Some(mac.0) {
            self.netlink.restore_mac(link, mac.0).await?;
            info!(network = network.name, %mac, "bridge's MAC address set again");
        }
        if !self.host.has_addresses(ifindex, &gateways) {
            self.netlink.set_bridge_addresses(ifindex, &gateways).await?;
            info!(network = network.name, "gateway address set again");
        }
        if !link.up {
            self.netlink.set_up(ifindex).await?;
            info!(network = network.name, "bridge set up again");
        }
        Ok(())
    }

    async fn plug_again(&self, endpoint: &Endpoint, ifindex: u32) -> Result<(), RequestError> {
        self.make_known(endpoint).await?;
        self.plug(endpoint, ifindex).await?;
        info!(endpoint = endpoint.name, "plugged in again");
        Ok(())
    }

    /// Makes links anew, and removes endpoints whose sandboxes are gone.
    async fn make_anew(&mut self, endpoints: &[Endpoint]) {
        let opened = endpoints.iter().map(|endpoint| (endpoint, open_again(endpoint)));
        let (there, gone): (Vec<_>, Vec<_>) = opened.partition(|(_, sandbox)| sandbox.is_some());
        self.remove_gone(gone.into_iter().map(|(endpoint, _)| endpoint.clone()).collect()).await;
        let there = there.iter().filter_map(|(it, sandbox)| Some((*it, sandbox.as_ref()?)));
        let mut joining = Vec::new();
        for (endpoint, sandbox) in there {
            let deleted = match self.host.link(&endpoint.host_ifname) {
                Some(link) => self.netlink.delete_link(link.ifindex).await,
                None => Ok(()),
            };
            match deleted {
                Ok(()) => joining.push(Joining { endpoint, sandbox }),
                Err(error) => warn_unless(Err(error.into()), endpoint),
            }
        }
        match self.join(&joining).await {
            Ok(failures) => {
                let has_failed = |it: &Joining<'_>| failures.iter().any(|(f, _)| *f == it.endpoint);
                for joining in joining.iter().filter(|joining| !has_failed(joining)) {
                    info!(endpoint = joining.endpoint.name, "link made again");
                }
                for (endpoint, error) in failures {
                    self.unmake(endpoint).await;
                    warn_unless(Err(error), endpoint);
                }
            }
            Err(error) => {
                for joining in &joining {
                    self.unmake(joining.endpoint).await;
                }
                warn!(error = in_one_line(&error), "links could not be made again");
            }
        }
    }

    /// Takes half a link away, which would pass for one that somebody has unplugged.
    async fn unmake(&self, endpoint: &Endpoint) {
        let deleted = self.netlink.delete_named(&endpoint.host_ifname, VETH).await;
        warn_unless(deleted.map_err(Into::into), endpoint);
    }

    async fn remove_gone(&mut self, endpoints: Vec<Endpoint>) {
        for endpoint in &endpoints {
            info!(endpoint = endpoint.name, "sandbox gone");
        }
        if !endpoints.is_empty()
            && let Err(error) = self.remove_endpoints(&endpoints).await
        {
            warn!(error = in_one_line(&error), "endpoints without sandbox could not be removed");
        }
    }

    /// Puts back what the kernel has forgotten of an endpoint.
    async fn mend_neighbours(
        &self,
        endpoint: &Endpoint,
        ifindex: u32,
        known: &BTreeSet<Neighbour>,
    ) -> Result<(), RequestError> {
        let wanted = self.neighbours_of(endpoint, ifindex);
        let lost: Vec<_> = wanted.into_iter().filter(|wanted| !known.contains(wanted)).collect();
        for neighbour in &lost {
            self.netlink.set_neighbour(neighbour).await?;
        }
        if !lost.is_empty() {
            info!(endpoint = endpoint.name, "neighbour entries set again");
        }
        Ok(())
    }
}

/// What an endpoint's link needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repair {
    /// Nothing but what the kernel may have forgotten beside it.
    Neighbours {
        ifindex: u32,
    },
    PlugIn {
        ifindex: u32,
    },
    MakeAnew,
}

fn repair(link: Option<&Link>, bridge: Option<u32>, unplugged: Unplugged) -> Repair {
    match (link, unplugged) {
        (Some(link), _) if link.up && link.controller == bridge => {
            Repair::Neighbours { ifindex: link.ifindex }
        }
        (Some(link), Unplugged::PlugIn) => Repair::PlugIn { ifindex: link.ifindex },
        (Some(_), Unplugged::MakeAnew) | (None, _) => Repair::MakeAnew,
    }
}

fn warn_unless(mended: Result<(), RequestError>, endpoint: &Endpoint) {
    if let Err(error) = mended {
        let error = in_one_line(&error);
        warn!(endpoint = endpoint.name, error, "the endpoint could not be mended");
    }
}
