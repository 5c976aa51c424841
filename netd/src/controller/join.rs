//! The links of endpoints: many are made together.
//!
//! What costs the more the larger the host is, reading it and working out the maps, is done once for all of
//! them; what is left for each is what the kernel is asked for on its behalf.

use std::{collections::BTreeSet, net::IpAddr};

use netd_common::counters::FlowCount;

use super::{Controller, RequestError, endpoints::in_sandbox, sandbox};
use crate::{
    datapath::Side,
    model::{Endpoint, Family},
    netlink::{neighbour::Neighbour, veth::VethSpec},
    netns::{
        EnterError, Sandbox,
        link::{self, SandboxLink, SandboxLinkError, WayOut},
        visit::visit_each,
    },
};

/// An endpoint that is stored, and the sandbox where its link is to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joining<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) sandbox: &'a Sandbox,
}

/// A link that is being made: the endpoint, and the number of the host's end.
type Made<'a> = (Joining<'a>, u32);

/// The endpoints whose links could not be made, and why. What has been made of them is for the caller to delete.
pub(super) type Failures<'a> = Vec<(&'a Endpoint, RequestError)>;

impl Controller {
    /// As [`Self::join`], where one failure fails all.
    pub(super) async fn join_all(&mut self, joining: &[Joining<'_>]) -> Result<(), RequestError> {
        let mut failures = self.join(joining).await?;
        failures.pop().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Makes the links of endpoints that are stored, and lets packets through. One that fails does not keep the
    /// others from working. Plugging them in comes last: a link that is plugged in is complete.
    pub(super) async fn join<'a>(
        &mut self,
        joining: &[Joining<'a>],
    ) -> Result<Failures<'a>, RequestError> {
        if joining.is_empty() {
            return Ok(Vec::new());
        }
        let mut failures = Vec::new();
        let mut made = Vec::new();
        for &joining in joining {
            match self.make_veth(joining).await {
                Ok(ifindex) => made.push((joining, ifindex)),
                Err(error) => failures.push((joining.endpoint, error)),
            }
        }
        for (joining, _) in &made {
            self.desired.insert_endpoint(joining.endpoint.clone());
        }
        let configured = configure(&made)?;
        let made = successful(made, configured, &mut failures);
        let routed = self.route(&made)?;
        let made = successful(made, routed, &mut failures);
        let mut known = Vec::new();
        for (joining, _) in &made {
            known.push(self.make_known(joining.endpoint).await);
        }
        let made = successful(made, known, &mut failures);
        self.refresh().await?;
        self.end_flows_of_networks(&made)?;
        let mut plugged = Vec::new();
        for (joining, ifindex) in &made {
            plugged.push(self.plug(joining.endpoint, *ifindex).await);
        }
        let made = successful(made, plugged, &mut failures);
        let opened = self.until_operational(&made).await;
        let made = successful(made, opened, &mut failures);
        successful(made.clone(), announce(&made)?, &mut failures);
        Ok(failures)
    }

    /// Makes a veth pair. It carries our programs before it can carry a packet.
    async fn make_veth(&mut self, joining: Joining<'_>) -> Result<u32, RequestError> {
        let Joining { endpoint, sandbox } = joining;
        let spec = VethSpec {
            host_ifname: endpoint.host_ifname.clone(),
            ifname: endpoint.ifname.clone(),
            mac: endpoint.mac.0,
            mtu: self.desired.network(&endpoint.network)?.mtu,
        };
        let ifindex = self.netlink.create_veth(&spec, sandbox).await?;
        if let Err(error) = self.datapath.attach(&endpoint.host_ifname, Side::Endpoint) {
            self.delete_link(ifindex).await;
            return Err(error.into());
        }
        Ok(ifindex)
    }

    /// Points the default routes of the sandboxes at the best of their networks.
    fn route(&self, made: &[Made<'_>]) -> Result<Vec<Result<(), RequestError>>, EnterError> {
        let ways =
            made.iter().map(|(joining, _)| (joining.sandbox, self.ways_out(joining.endpoint)));
        let ways: Vec<(&Sandbox, Vec<WayOut<'_>>)> = ways.collect();
        let routed = visit_each(
            &ways,
            |(sandbox, _)| sandbox,
            async |(_, ways), netlink| link::set_default_routes(netlink, ways).await,
        );
        Ok(each_in_sandbox(made, routed?))
    }

    pub(super) fn ways_out(&self, of: &Endpoint) -> Vec<WayOut<'_>> {
        let ways = sandbox::ways_out(&self.desired, &of.sandbox);
        ways.map(|(endpoint, gateway)| (endpoint.ifname.as_str(), gateway)).collect()
    }

    /// Ends the flows of networks: a neighbour may have begun some from an address when it was nobody's.
    fn end_flows_of_networks(&mut self, made: &[Made<'_>]) -> Result<(), RequestError> {
        let mut numbers = BTreeSet::new();
        for (joining, _) in made {
            numbers.insert(self.desired.network(&joining.endpoint.network)?.number);
        }
        Ok(self.datapath.end_flows(numbers.into_iter().map(FlowCount::of_network))?)
    }

    /// Tells the host where an endpoint's addresses are: before its ports are published, since a neighbour may have
    /// claimed them while they were nobody's.
    pub(super) async fn make_known(&self, endpoint: &Endpoint) -> Result<(), RequestError> {
        for neighbour in self.addresses_of(endpoint) {
            self.netlink.set_neighbour(&neighbour).await?;
        }
        Ok(())
    }

    /// Plugs the host's end into the bridge.
    pub(super) async fn plug(&self, endpoint: &Endpoint, ifindex: u32) -> Result<(), RequestError> {
        let network = self.desired.network(&endpoint.network)?;
        let bridge = self.host.ifindex(&network.bridge).ok_or_else(|| RequestError::NoBridge {
            network: network.name.clone(),
            bridge: network.bridge.clone(),
        })?;
        self.netlink.plug(ifindex, bridge).await?;
        Ok(self.netlink.set_neighbour(&forwarding_entry(endpoint, ifindex)).await?)
    }

    /// Waits until the host's ends are open for what the containers send.
    async fn until_operational(&mut self, made: &[Made<'_>]) -> Vec<Result<(), RequestError>> {
        let mut opened = Vec::new();
        for (joining, _) in made {
            let link = self.netlink.until_operational(&joining.endpoint.host_ifname).await;
            opened.push(link.map(|link| self.host.note(link)).map_err(Into::into));
        }
        opened
    }

    /// What the kernel is to know of an endpoint whose link is plugged in.
    pub(super) fn neighbours_of(&self, endpoint: &Endpoint, ifindex: u32) -> Vec<Neighbour> {
        let mut neighbours = self.addresses_of(endpoint);
        neighbours.push(forwarding_entry(endpoint, ifindex));
        neighbours
    }

    /// The addresses of an endpoint as the host knows them on the bridge. Where the bridge has none of
    /// its own, the host has nothing to say there.
    pub(super) fn addresses_of(&self, endpoint: &Endpoint) -> Vec<Neighbour> {
        let Some(network) = self.desired.networks.get(&endpoint.network) else {
            return Vec::new();
        };
        let Some(ifindex) = self.host.ifindex(&network.bridge) else { return Vec::new() };
        let is_reached = |addr: &IpAddr| {
            network.subnet(Family::of(*addr)).is_some_and(|subnet| subnet.gateway.is_some())
        };
        let addresses = endpoint.addresses().map(|net| net.addr()).filter(is_reached);
        let mac = endpoint.mac.0;
        addresses.map(|addr| Neighbour { ifindex, addr: Some(addr), mac }).collect()
    }
}

/// What a bridge is to know of an endpoint that is plugged in.
fn forwarding_entry(endpoint: &Endpoint, ifindex: u32) -> Neighbour {
    Neighbour { ifindex, addr: None, mac: endpoint.mac.0 }
}

/// Addresses and state of the sandboxes' ends.
fn configure(made: &[Made<'_>]) -> Result<Vec<Result<(), RequestError>>, EnterError> {
    let configured = visit_each(made, sandbox_of, async |(joining, _), netlink| {
        let endpoint = joining.endpoint;
        let link = SandboxLink {
            ifname: endpoint.ifname.clone(),
            addresses: endpoint.addresses().collect(),
            ipv6: endpoint.ipv6.is_some(),
        };
        link::configure(netlink, &link).await
    });
    Ok(each_in_sandbox(made, configured?))
}

/// Tells the neighbours of containers, which may remember others by their addresses. Until a container's end can
/// send and the host's is open for what it sends, they would not hear of it.
fn announce(made: &[Made<'_>]) -> Result<Vec<Result<(), RequestError>>, EnterError> {
    let announced = visit_each(made, sandbox_of, async |(joining, _), netlink| {
        let endpoint = joining.endpoint;
        link::announce(netlink, &endpoint.ifname, endpoint.mac.0).await
    });
    Ok(each_in_sandbox(made, announced?))
}

fn sandbox_of<'a>((joining, _): &'a Made<'_>) -> &'a Sandbox {
    joining.sandbox
}

/// Names the sandboxes that something failed in.
fn each_in_sandbox(
    made: &[Made<'_>],
    results: Vec<Result<(), SandboxLinkError>>,
) -> Vec<Result<(), RequestError>> {
    let named = made.iter().zip(results);
    named.map(|((joining, _), result)| result.map_err(in_sandbox(joining.endpoint))).collect()
}

/// Those that a step has not failed for.
fn successful<'a>(
    made: Vec<Made<'a>>,
    results: Vec<Result<(), RequestError>>,
    failures: &mut Failures<'a>,
) -> Vec<Made<'a>> {
    let mut successful = Vec::new();
    for (made, result) in made.into_iter().zip(results) {
        match result {
            Ok(()) => successful.push(made),
            Err(error) => failures.push((made.0.endpoint, error)),
        }
    }
    successful
}
