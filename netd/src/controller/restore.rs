//! Brings about what is stored: at the start, and when something of ours has changed behind our back.

use std::collections::BTreeSet;

use tracing::{info, warn};

use super::{
    Controller, RequestError,
    endpoints::open_again,
    host::{BRIDGE, VETH},
    in_one_line, networks,
};
use crate::{
    datapath::Side,
    model::{Endpoint, Network},
    netlink::neighbour::Neighbour,
};

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
        // Programs first: the links may have carried packets all along.
        let endpoints = self.desired.endpoints.values();
        let links: Vec<String> = endpoints.map(|endpoint| endpoint.host_ifname.clone()).collect();
        for name in &links {
            if self.host.has(name, VETH) {
                self.attach_unless_left(name, Side::Endpoint)?;
            }
        }
        self.mend(Unplugged::MakeAnew).await?;
        self.detach_others();
        self.datapath.forget_other_programs()?;
        self.keep_sysctls();
        Ok(())
    }

    /// Brings the host in line with what is desired. A failure is said and tried again at the host's next
    /// change: one broken network must not keep the others from working.
    pub(super) async fn mend(&mut self, unplugged: Unplugged) -> Result<(), RequestError> {
        let networks: Vec<Network> = self.desired.networks.values().cloned().collect();
        for network in &networks {
            if let Err(error) = self.mend_network(network).await {
                let error = in_one_line(&error);
                warn!(network = network.name, error, "the bridge could not be mended");
            }
        }
        self.keep_sysctls();
        self.refresh().await?;
        let known = self.netlink.neighbours().await?;
        let endpoints: Vec<Endpoint> = self.desired.endpoints.values().cloned().collect();
        for endpoint in &endpoints {
            if let Err(error) = self.mend_endpoint(endpoint, unplugged, &known).await {
                let error = in_one_line(&error);
                warn!(endpoint = endpoint.name, error, "the endpoint could not be mended");
            }
        }
        Ok(())
    }

    async fn mend_network(&mut self, network: &Network) -> Result<(), RequestError> {
        match self.host.link(&network.bridge) {
            None => {
                self.netlink.create_bridge(&networks::bridge_spec(network)).await?;
                info!(network = network.name, bridge = network.bridge, "bridge made again");
                self.host.reread(&self.netlink).await?;
            }
            Some(link) if link.kind.as_deref() == Some(BRIDGE) => {
                let (ifindex, is_up) = (link.ifindex, link.up);
                let gateways = networks::gateways(network);
                if !self.host.has_addresses(ifindex, &gateways) {
                    self.netlink.set_bridge_addresses(ifindex, &gateways).await?;
                    info!(network = network.name, "gateway address set again");
                }
                if !is_up {
                    self.netlink.set_up(ifindex).await?;
                    info!(network = network.name, "bridge set up again");
                }
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

    async fn mend_endpoint(
        &mut self,
        endpoint: &Endpoint,
        unplugged: Unplugged,
        known: &BTreeSet<Neighbour>,
    ) -> Result<(), RequestError> {
        let network = self.desired.network(&endpoint.network)?.clone();
        let link = self.host.link(&endpoint.host_ifname).cloned();
        if let Some(link) = &link {
            if link.up && link.controller == self.host.ifindex(&network.bridge) {
                return self.mend_neighbours(endpoint, link.ifindex, known).await;
            }
            if unplugged == Unplugged::PlugIn {
                self.plug(endpoint, link.ifindex).await?;
                info!(endpoint = endpoint.name, "plugged in again");
                return Ok(());
            }
        }
        let Some(sandbox) = open_again(endpoint) else {
            info!(endpoint = endpoint.name, "sandbox gone");
            return self.remove_endpoint(endpoint).await;
        };
        if let Some(link) = link {
            self.netlink.delete_link(link.ifindex).await?;
        }
        if let Err(error) = self.join(endpoint, network.mtu, &sandbox).await {
            // Half a link would pass for one that somebody has unplugged.
            self.netlink.delete_named(&endpoint.host_ifname, VETH).await?;
            return Err(error);
        }
        info!(endpoint = endpoint.name, "link made again");
        Ok(())
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
