//! What adopting depends on beside Docker itself: bridges, links and sandboxes, as they are.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::super::{
    Controller, RequestError,
    endpoints::sandbox_ref,
    host::{BRIDGE, VETH},
};
use crate::{
    docker::{
        View,
        adopt::{Facts, HostLink},
        view::Sandbox as DockerSandbox,
    },
    model::{MacAddr, SandboxRef},
    netlink::link::Link,
    netns::Sandbox,
    uplinks::is_docker_veth,
};

impl Controller {
    pub(super) async fn docker_facts(&self, view: &View) -> Result<Facts, RequestError> {
        let bridges: BTreeMap<u32, &str> = self
            .host
            .links()
            .iter()
            .filter(|link| link.kind.as_deref() == Some(BRIDGE))
            .map(|link| (link.ifindex, link.name.as_str()))
            .collect();
        let addresses = |(ifindex, name): (&u32, &&str)| {
            ((*name).to_owned(), self.host.addresses_of(*ifindex).collect::<Vec<IpNet>>())
        };
        let containers = view.containers.iter();
        let sandboxes = containers.filter_map(|(id, container)| {
            Some((id.clone(), sandbox(container.sandbox.as_ref()?)?))
        });
        Ok(Facts {
            config: self.config.docker.clone(),
            settings: self.docker.seen.settings,
            bridge_addresses: bridges.iter().map(addresses).collect(),
            other_ports: self.other_ports(&bridges),
            other_devices: self
                .host
                .links()
                .iter()
                .filter(|link| link.kind.as_deref() != Some(BRIDGE))
                .map(|link| link.name.clone())
                .collect(),
            links: self.docker_links(view, &bridges).await?,
            sandboxes: sandboxes.collect(),
        })
    }

    /// What is plugged into bridges beside what Docker plugs in.
    fn other_ports(&self, bridges: &BTreeMap<u32, &str>) -> BTreeMap<String, Vec<String>> {
        let mut ports: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for link in self.host.links().iter().filter(|link| !is_docker_veth(&link.name)) {
            if let Some(bridge) = link.controller.and_then(|controller| bridges.get(&controller)) {
                ports.entry((*bridge).to_owned()).or_default().push(link.name.clone());
            }
        }
        ports
    }

    /// The links that lead to containers, by bridge and the MAC address of their other end.
    async fn docker_links(
        &self,
        view: &View,
        bridges: &BTreeMap<u32, &str>,
    ) -> Result<BTreeMap<(String, MacAddr), HostLink>, RequestError> {
        let mut links = BTreeMap::new();
        let mut known = BTreeSet::new();
        let ids = view.containers.values().flat_map(|container| container.attachments.values());
        let ids: BTreeSet<&str> = ids.map(|attachment| attachment.endpoint_id.as_str()).collect();
        for endpoint in self.desired.endpoints.values().filter(|it| ids.contains(it.id.as_str())) {
            let link = self.host.link(&endpoint.host_ifname);
            if let Some(bridge) = link.and_then(|link| bridges.get(&link.controller?)) {
                known.insert(endpoint.host_ifname.as_str());
                let (host_ifname, ifname) = (endpoint.host_ifname.clone(), endpoint.ifname.clone());
                let link = HostLink { host_ifname, ifname: Some(ifname) };
                links.insert(((*bridge).to_owned(), endpoint.mac), link);
            }
        }
        if known.len() == ids.len() {
            return Ok(links);
        }
        for link in self.host.links().iter().filter(|link| !known.contains(link.name.as_str())) {
            let bridge = link.controller.and_then(|controller| bridges.get(&controller));
            let (Some(bridge), Some(VETH)) = (bridge, link.kind.as_deref()) else { continue };
            let (Some(netns), Some(below)) = (link.below_netns, link.below) else { continue };
            let other = self.netlink.link_elsewhere(netns, below).await?;
            if let Some((mac, name)) = other.and_then(|other| Some((other.mac?, other.name))) {
                let link = HostLink { host_ifname: link.name.clone(), ifname: Some(name) };
                links.insert(((*bridge).to_owned(), MacAddr(mac)), link);
            }
        }
        Ok(links)
    }

    /// Whether a port looks like a container's of Docker's, on a bridge of Docker's.
    pub(in crate::controller) fn is_dockers_port(&self, port: &Link) -> bool {
        if !is_docker_veth(&port.name) {
            return false;
        }
        let bridge = port.controller.and_then(|controller| self.host.link_at(controller));
        let networks = self.desired.networks.values();
        bridge.is_some_and(|bridge| {
            networks.filter(|it| !it.manager.is_netd()).any(|it| it.bridge == bridge.name)
        })
    }
}

/// The namespace of a container's process, by the name that Docker has for it.
fn sandbox(docker: &DockerSandbox) -> Option<SandboxRef> {
    let sandbox = Sandbox::open(&format!("pid:{}", docker.pid)).ok()?;
    Some(sandbox_ref(&docker.path, &sandbox))
}
