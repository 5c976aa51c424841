//! Requests about endpoints: a sandbox joins a network and leaves it.

use std::net::IpAddr;

use netd_common::counters::FlowCount;
use tracing::{info, warn};

use super::{Controller, RequestError, host::VETH, in_one_line, sandbox};
use crate::{
    api::{Connect, EndpointInfo, Item},
    datapath::Side,
    desired::SandboxView,
    model::{Endpoint, Family, SandboxRef},
    netlink::{neighbour::Neighbour, veth::VethSpec},
    netns::{
        Sandbox, SandboxError,
        link::{SandboxLink, SandboxLinkError},
    },
    store::Change,
};

impl Controller {
    pub(super) async fn connect(&mut self, request: &Connect) -> Result<Vec<Item>, RequestError> {
        let network = self.desired.network(&request.network)?.clone();
        let sandbox = Sandbox::open(&request.sandbox)?;
        let view = SandboxView {
            sandbox: sandbox_ref(&request.sandbox, &sandbox),
            link_names: sandbox.link_names().await?.into_iter().collect(),
        };
        self.refresh().await?;
        let host = self.host.view();
        let endpoint = self.desired.plan_endpoint(request, &view, &host, &mut self.ids)?;
        self.save(&[Change::PutEndpoint(&endpoint)])?;
        if let Err(error) = self.join(&endpoint, network.mtu, &sandbox).await {
            self.forget_endpoint(&endpoint).await;
            return Err(error);
        }
        info!(endpoint = endpoint.name, network = network.name, "endpoint connected");
        Ok(vec![Item::Endpoint(self.endpoint_info(&endpoint)?)])
    }

    /// Makes the veth pair. It carries our programs before it can carry a packet.
    pub(super) async fn make_veth(
        &mut self,
        endpoint: &Endpoint,
        mtu: u32,
        sandbox: &Sandbox,
    ) -> Result<u32, RequestError> {
        let spec = VethSpec {
            host_ifname: endpoint.host_ifname.clone(),
            ifname: endpoint.ifname.clone(),
            mac: endpoint.mac.0,
            mtu,
        };
        let ifindex = self.netlink.create_veth(&spec, sandbox).await?;
        if let Err(error) = self.datapath.attach(&endpoint.host_ifname, Side::Endpoint) {
            self.delete_link(ifindex).await;
            return Err(error.into());
        }
        Ok(ifindex)
    }

    /// Makes the link of an endpoint that is stored, and lets packets through. Plugging it in comes last:
    /// a link that is plugged in is complete.
    pub(super) async fn join(
        &mut self,
        endpoint: &Endpoint,
        mtu: u32,
        sandbox: &Sandbox,
    ) -> Result<(), RequestError> {
        let ifindex = self.make_veth(endpoint, mtu, sandbox).await?;
        self.desired.insert_endpoint(endpoint.clone());
        self.configure(endpoint, sandbox).await?;
        self.refresh().await?;
        // A neighbour may have begun flows from the address when it was nobody's.
        let network = self.desired.network(&endpoint.network)?.number;
        self.datapath.end_flows([FlowCount::of_network(network)])?;
        self.plug(endpoint, ifindex).await?;
        // Its neighbours may remember another container by this address. Until its own end can send and the
        // host's is open for what it sends, they would not hear of it.
        self.netlink.until_operational(&endpoint.host_ifname).await?;
        let announced = sandbox.announce(&endpoint.ifname, endpoint.mac.0).await;
        announced.map_err(in_sandbox(endpoint))
    }

    /// Addresses, state and default routes of the sandbox's end.
    async fn configure(&self, endpoint: &Endpoint, sandbox: &Sandbox) -> Result<(), RequestError> {
        let link = SandboxLink {
            ifname: endpoint.ifname.clone(),
            addresses: endpoint.addresses().collect(),
            default_routes: Vec::new(),
            ipv6: endpoint.ipv6.is_some(),
        };
        sandbox.configure(&link).await.map_err(in_sandbox(endpoint))?;
        self.set_default_routes(endpoint, sandbox).await
    }

    /// Plugs the host's end into the bridge.
    pub(super) async fn plug(&self, endpoint: &Endpoint, ifindex: u32) -> Result<(), RequestError> {
        let network = self.desired.network(&endpoint.network)?;
        let bridge = self.host.ifindex(&network.bridge).ok_or_else(|| RequestError::NoBridge {
            network: network.name.clone(),
            bridge: network.bridge.clone(),
        })?;
        self.netlink.plug(ifindex, bridge).await?;
        for neighbour in self.neighbours_of(endpoint, ifindex) {
            self.netlink.set_neighbour(&neighbour).await?;
        }
        Ok(())
    }

    /// What the kernel is to know of an endpoint whose link is plugged in.
    pub(super) fn neighbours_of(&self, endpoint: &Endpoint, ifindex: u32) -> Vec<Neighbour> {
        let mac = endpoint.mac.0;
        let mut neighbours = self.addresses_of(endpoint);
        neighbours.push(Neighbour { ifindex, addr: None, mac });
        neighbours
    }

    /// The addresses of an endpoint as the host knows them on the bridge. Where the bridge has none of
    /// its own, the host has nothing to say there.
    fn addresses_of(&self, endpoint: &Endpoint) -> Vec<Neighbour> {
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

    /// Points a sandbox's default routes at the best of its networks.
    async fn set_default_routes(
        &self,
        of: &Endpoint,
        sandbox: &Sandbox,
    ) -> Result<(), RequestError> {
        for (endpoint, gateway) in sandbox::ways_out(&self.desired, &of.sandbox) {
            let set = sandbox.set_default_routes(&endpoint.ifname, &[gateway]).await;
            set.map_err(in_sandbox(of))?;
        }
        Ok(())
    }

    /// Undoes `join`, however far it came. The store comes last: what exists is always stored.
    pub(super) async fn forget_endpoint(&mut self, endpoint: &Endpoint) {
        let undone = match self.take_away(endpoint).await {
            Ok(()) => self.save(&[Change::RemoveEndpoint(&endpoint.name)]).map_err(Into::into),
            Err(error) => Err(error),
        };
        if let Err(error) = undone {
            warn!(
                endpoint = endpoint.name,
                error = in_one_line(&error),
                "an endpoint stays behind"
            );
        }
    }

    pub(super) async fn disconnect(
        &mut self,
        network: &str,
        text: &str,
        force: bool,
    ) -> Result<Vec<Item>, RequestError> {
        let sandbox = match Sandbox::open(text) {
            Ok(sandbox) => Some(sandbox),
            // A sandbox that is gone can still be disconnected, by the text it was connected with.
            Err(SandboxError::UnknownName { .. } | SandboxError::UnknownProcess { .. }) => None,
            Err(_) if force => None,
            Err(error) => return Err(error.into()),
        };
        let meant = sandbox.as_ref().map(|sandbox| sandbox_ref(text, sandbox));
        let endpoint = self.desired.find_attachment(network, text, meant.as_ref())?.clone();
        self.remove_endpoint(&endpoint).await?;
        Ok(vec![Item::Name(endpoint.name)])
    }

    /// Removes an endpoint from host and store.
    pub(super) async fn remove_endpoint(
        &mut self,
        endpoint: &Endpoint,
    ) -> Result<(), RequestError> {
        if let Err(error) = self.take_away(endpoint).await {
            self.desired.insert_endpoint(endpoint.clone());
            self.program()?;
            return Err(error);
        }
        self.save(&[Change::RemoveEndpoint(&endpoint.name)])?;
        info!(endpoint = endpoint.name, network = endpoint.network, "endpoint disconnected");
        Ok(())
    }

    /// Takes an endpoint off the host: its ports and flows first, then its link, and its sandbox has its way
    /// out by another network.
    async fn take_away(&mut self, endpoint: &Endpoint) -> Result<(), RequestError> {
        self.desired.remove_endpoint(&endpoint.name);
        let ports = endpoint.ports.iter().map(|port| port.slot);
        self.datapath.end_flows(ports.chain([endpoint.slot]))?;
        self.program()?;
        self.netlink.delete_named(&endpoint.host_ifname, VETH).await?;
        // These do not go with the link.
        for neighbour in self.addresses_of(endpoint) {
            self.netlink.remove_neighbour(&neighbour).await?;
        }
        self.refresh().await?;
        self.move_way_out(endpoint).await;
        Ok(())
    }

    /// Points the default routes of a sandbox elsewhere that has lost an endpoint. The sandbox may be about to
    /// end; then its routes do not matter.
    async fn move_way_out(&self, lost: &Endpoint) {
        let Some(sandbox) = open_again(lost) else { return };
        if let Err(error) = self.set_default_routes(lost, &sandbox).await {
            let error = in_one_line(&error);
            warn!(sandbox = lost.sandbox.text, error, "default routes not moved");
        }
    }

    pub(super) fn endpoints(&self) -> Result<Vec<Item>, RequestError> {
        let endpoints = self.desired.endpoints.values();
        endpoints.map(|endpoint| Ok(Item::Endpoint(self.endpoint_info(endpoint)?))).collect()
    }

    pub(super) fn inspect_endpoints(&self, names: &[String]) -> Result<Vec<Item>, RequestError> {
        let inspect = |name: &String| {
            let endpoint = self.desired.endpoint(name)?;
            Ok(Item::Endpoint(self.endpoint_info(endpoint)?))
        };
        names.iter().map(inspect).collect()
    }

    fn endpoint_info(&self, endpoint: &Endpoint) -> Result<EndpointInfo, RequestError> {
        let network = self.desired.network(&endpoint.network)?;
        Ok(EndpointInfo::new(endpoint, &network.id, self.port_infos(endpoint)?))
    }
}

/// The sandbox that the endpoint was connected to, if it is still the same one.
pub(super) fn open_again(endpoint: &Endpoint) -> Option<Sandbox> {
    let sandbox = Sandbox::open(&endpoint.sandbox.text).ok()?;
    sandbox_ref(&endpoint.sandbox.text, &sandbox).is_same(&endpoint.sandbox).then_some(sandbox)
}

/// Names the sandbox that something failed in.
pub(super) fn in_sandbox(endpoint: &Endpoint) -> impl Fn(SandboxLinkError) -> RequestError {
    let sandbox = endpoint.sandbox.text.clone();
    move |source| RequestError::InSandbox { sandbox: sandbox.clone(), source }
}

/// How a sandbox is remembered.
pub(super) fn sandbox_ref(text: &str, sandbox: &Sandbox) -> SandboxRef {
    let id = sandbox.id();
    SandboxRef { text: text.to_owned(), dev: id.dev, ino: id.ino }
}

/// The gateways of an endpoint, IPv4 first.
pub(super) fn gateways(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> {
    endpoint.gateway.map(IpAddr::V4).into_iter().chain(endpoint.gateway6.map(IpAddr::V6))
}
