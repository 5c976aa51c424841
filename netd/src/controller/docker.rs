//! Docker's networks and containers, brought in line with what dockerd says of them.
//!
//! Nothing of Docker's is made or changed here: its links get our programs, its networks and endpoints a place in
//! the desired state, and so in the maps and on disk. A daemon that starts while dockerd is away goes by the disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ipnet::IpNet;
use netd_common::counters::FlowCount;
use tracing::{info, warn};

use super::{
    Controller, RequestError,
    endpoints::sandbox_ref,
    host::{BRIDGE, VETH},
    in_one_line,
};
use crate::{
    api::{ConflictInfo, DockerInfo, DockerState},
    config::DockerMode,
    datapath::{Datapath, Side},
    docker::{
        View,
        adopt::{Adopted, Facts, HostLink, adopt},
        follow::{Seen, State},
        view::Sandbox as DockerSandbox,
    },
    model::{Endpoint, MacAddr, Network, SandboxRef},
    netlink::link::Link,
    netns::Sandbox,
    store::Change,
    uplinks::is_docker_veth,
};

/// How soon something is looked for again, twice as long each time.
const FIRST_LOOK_AFTER: Duration = Duration::from_millis(5);

/// How often, before it waits for the host's next change: some five seconds.
const MOST_LOOKS: u32 = 10;

/// What is known of Docker, and what has become of it.
#[derive(Debug, Default)]
pub(super) struct Docker {
    pub(super) seen: Seen,
    /// What could not be adopted, and why.
    pub(super) faults: BTreeSet<String>,
    /// Something is still to come: a container's link, or another try.
    is_pending: bool,
    /// How often it has been looked for in vain since something was new.
    looks: u32,
}

/// What changes with an adoption.
#[derive(Debug, Default)]
struct Difference {
    networks: Vec<Network>,
    endpoints: Vec<Endpoint>,
    lost_networks: Vec<Network>,
    lost_endpoints: Vec<Endpoint>,
    /// The slots of endpoints and ports that are gone.
    lost_slots: BTreeSet<u32>,
    /// Endpoints that were not there, or on another link.
    joined: Vec<Endpoint>,
}

impl Controller {
    /// Takes up what has been seen of Docker.
    pub(crate) async fn follow_docker(&mut self, seen: Seen) {
        if seen.state != self.docker.seen.state {
            say(&seen.state);
        }
        let is_missed = self.config.docker.enabled == DockerMode::On
            && matches!(seen.state, State::Away { .. })
            && seen.state != self.docker.seen.state;
        if let (true, State::Away { why }) = (is_missed, &seen.state) {
            warn!(why, "Docker is to be followed and does not answer");
        }
        self.docker.seen = seen;
        self.docker.looks = 0;
        if let Err(error) = self.adopt().await {
            self.docker.is_pending = true;
            warn!(error = in_one_line(&error), "Docker's networks could not be taken up");
        }
    }

    /// How soon to look again for what was not there: a container's link gets its MAC address as it moves into the
    /// sandbox, which nobody announces.
    pub(crate) fn adoption_pause(&self) -> Option<Duration> {
        let is_soon = self.docker.is_pending && self.docker.looks < MOST_LOOKS;
        is_soon.then(|| FIRST_LOOK_AFTER * (1 << self.docker.looks))
    }

    /// Looks again for what was not there.
    pub(crate) async fn adopt_pending(&mut self) {
        self.docker.looks += 1;
        if self.docker.is_pending
            && let Err(error) = self.adopt().await
        {
            warn!(error = in_one_line(&error), "Docker's networks could not be taken up");
        }
    }

    /// Brings the desired state in line with Docker, and everything with that.
    pub(super) async fn adopt(&mut self) -> Result<(), RequestError> {
        let bridges = match &self.docker.seen.state {
            State::LeftAlone { bridges, .. } => bridges.clone(),
            State::Off | State::Away { .. } | State::Elsewhere | State::Followed { .. } => {
                BTreeSet::new()
            }
        };
        if self.host.leave_alone(bridges) {
            // They may have been taken for uplinks.
            self.bring_in_line().await?;
        }
        let view = match (&self.docker.seen.state, &self.docker.seen.view) {
            (_, Some(view)) => view.clone(),
            // It may come back with what is stored.
            (State::Away { .. } | State::Followed { .. }, None) => return Ok(()),
            (State::Off | State::Elsewhere | State::LeftAlone { .. }, None) => {
                View::default().into()
            }
        };
        self.catch_up().await?;
        let facts = self.docker_facts(&view).await?;
        let adopted = adopt(&view, &self.desired, &facts);
        self.docker.is_pending = adopted.is_pending;
        for fault in adopted.faults.difference(&self.docker.faults) {
            warn!(fault, "not all of Docker's is taken up");
        }
        self.docker.faults.clone_from(&adopted.faults);
        let difference = self.difference(adopted);
        if difference.is_nothing() { Ok(()) } else { self.take_over(difference).await }
    }

    fn difference(&self, adopted: Adopted) -> Difference {
        let mut difference = Difference::default();
        let Adopted { networks, endpoints, .. } = adopted;
        for known in self.desired.networks.values().filter(|it| !it.manager.is_netd()) {
            if networks.get(&known.name).is_none_or(|it| it.id != known.id) {
                difference.lost_networks.push(known.clone());
            }
        }
        let by_id: BTreeMap<&str, &Endpoint> =
            endpoints.values().map(|endpoint| (endpoint.id.as_str(), endpoint)).collect();
        for known in self.desired.endpoints.values().filter(|it| self.desired.is_dockers(it)) {
            let now = by_id.get(known.id.as_str()).copied();
            let kept = now.into_iter().flat_map(slots).collect::<BTreeSet<_>>();
            difference.lost_slots.extend(slots(known).filter(|slot| !kept.contains(slot)));
            if now.is_none_or(|now| now.name != known.name) {
                difference.lost_endpoints.push(known.clone());
            }
        }
        let is_new = |network: &Network| self.desired.networks.get(&network.name) != Some(network);
        difference.networks = networks.into_values().filter(is_new).collect();
        let known = |endpoint: &Endpoint| self.desired.endpoints.get(&endpoint.name);
        let is_new = |endpoint: &Endpoint| known(endpoint) != Some(endpoint);
        difference.endpoints = endpoints.into_values().filter(is_new).collect();
        let joins = |endpoint: &&Endpoint| {
            known(endpoint).is_none_or(|known| known.host_ifname != endpoint.host_ifname)
        };
        difference.joined = difference.endpoints.iter().filter(joins).cloned().collect();
        difference
    }

    /// Stored first: what packets meet is always stored.
    async fn take_over(&mut self, difference: Difference) -> Result<(), RequestError> {
        self.save(&difference.changes())?;
        for endpoint in &difference.lost_endpoints {
            self.desired.remove_endpoint(&endpoint.name);
        }
        for network in difference.nameless() {
            self.desired.remove_network(&network.name);
        }
        for network in &difference.networks {
            self.desired.insert_network(network.clone());
        }
        for endpoint in &difference.joined {
            self.attach_link(endpoint);
        }
        for endpoint in &difference.endpoints {
            self.desired.insert_endpoint(endpoint.clone());
        }
        self.datapath.end_flows(difference.lost_slots.iter().copied())?;
        self.refresh().await?;
        // A neighbour may have begun some from an address when it was nobody's.
        let joined = difference.joined.iter().map(|endpoint| endpoint.network.as_str());
        let joined: BTreeSet<&str> = joined.collect();
        let numbers = joined.into_iter().filter_map(|name| self.desired.networks.get(name));
        let numbers = numbers.chain(&difference.lost_networks).map(|network| network.number);
        let flows: Vec<u32> = numbers.map(FlowCount::of_network).collect();
        self.datapath.end_flows(flows)?;
        self.detach_lost(&difference);
        difference.say();
        Ok(())
    }

    /// The link may have been closed before anybody knew whose it is; then it carries the programs already.
    fn attach_link(&mut self, endpoint: &Endpoint) {
        let ifindex = self.host.ifindex(&endpoint.host_ifname);
        let is_closed = ifindex.is_some_and(|ifindex| self.devices.strangers.contains(&ifindex));
        if !is_closed
            && let Err(error) = self.attach_unless_left(&endpoint.host_ifname, Side::Endpoint)
        {
            self.docker.is_pending = true;
            warn!(endpoint = endpoint.name, error = in_one_line(&error), "programs not attached");
        }
    }

    /// Takes our programs off what is not our work any more, but still there.
    fn detach_lost(&mut self, difference: &Difference) {
        let bridges = difference.lost_networks.iter().map(|network| network.bridge.as_str());
        let bridges: Vec<u32> = bridges
            .filter(|bridge| !self.desired.networks.values().any(|it| it.bridge == *bridge))
            .filter_map(|bridge| self.host.ifindex(bridge))
            .collect();
        let is_lost = |link: &&Link| {
            bridges.contains(&link.ifindex)
                || link.controller.is_some_and(|it| bridges.contains(&it))
        };
        let lost: Vec<(u32, String)> = self
            .host
            .links()
            .iter()
            .filter(is_lost)
            .map(|it| (it.ifindex, it.name.clone()))
            .collect();
        for (ifindex, name) in lost {
            Datapath::detach(&name);
            self.devices.strangers.remove(&ifindex);
        }
    }

    async fn docker_facts(&self, view: &View) -> Result<Facts, RequestError> {
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
            ip_masq: self.docker.seen.settings.is_none_or(|settings| settings.ip_masq),
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
    pub(super) fn is_dockers_port(&self, port: &Link) -> bool {
        if !is_docker_veth(&port.name) {
            return false;
        }
        let bridge = port.controller.and_then(|controller| self.host.link_at(controller));
        let networks = self.desired.networks.values();
        bridge.is_some_and(|bridge| {
            networks.filter(|it| !it.manager.is_netd()).any(|it| it.bridge == bridge.name)
        })
    }

    /// How things stand.
    pub(super) fn docker_info(&self) -> DockerInfo {
        let (state, version, error, conflicts) = match &self.docker.seen.state {
            State::Off => (DockerState::Off, None, None, &[][..]),
            State::Away { why } => (DockerState::Away, None, Some(why.clone()), &[][..]),
            State::Elsewhere => (DockerState::Elsewhere, None, None, &[][..]),
            State::LeftAlone { version, conflicts, .. } => {
                (DockerState::LeftAlone, Some(version.clone()), None, conflicts.as_slice())
            }
            State::Followed { version } => {
                (DockerState::Followed, Some(version.clone()), None, &[][..])
            }
        };
        let networks = self.desired.networks.values().filter(|it| !it.manager.is_netd());
        let endpoints = self.desired.endpoints.values();
        let endpoints = endpoints.filter(|endpoint| self.desired.is_dockers(endpoint));
        DockerInfo {
            state,
            socket: self.config.docker.host.clone(),
            version,
            error,
            conflicts: conflicts.iter().copied().map(ConflictInfo::new).collect(),
            faults: self.docker.faults.iter().cloned().collect(),
            networks: networks.map(|network| network.name.clone()).collect(),
            endpoints: endpoints.clone().count(),
            ports: endpoints.map(|endpoint| endpoint.ports.len()).sum(),
        }
    }

    /// Refuses what is Docker's to do.
    pub(super) fn check_own_network(
        &self,
        name: &str,
        command: &'static str,
    ) -> Result<(), RequestError> {
        match self.desired.networks.get(name) {
            Some(network) if !network.manager.is_netd() => {
                Err(RequestError::DockersNetwork { network: name.to_owned(), command })
            }
            _ => Ok(()),
        }
    }

    /// Refuses what is Docker's to do.
    pub(super) fn check_own_endpoint(&self, name: &str) -> Result<(), RequestError> {
        match self.desired.endpoints.get(name) {
            Some(endpoint) if self.desired.is_dockers(endpoint) => {
                Err(RequestError::DockersEndpoint { endpoint: name.to_owned() })
            }
            _ => Ok(()),
        }
    }
}

impl Difference {
    fn is_nothing(&self) -> bool {
        self.networks.is_empty()
            && self.endpoints.is_empty()
            && self.lost_networks.is_empty()
            && self.lost_endpoints.is_empty()
    }

    /// The lost networks whose names no other one has now, which is then in their place, with what they were allowed.
    fn nameless(&self) -> impl Iterator<Item = &Network> {
        let is_taken = |lost: &&Network| self.networks.iter().any(|it| it.name == lost.name);
        self.lost_networks.iter().filter(move |lost| !is_taken(lost))
    }

    fn changes(&self) -> Vec<Change<'_>> {
        let lost_endpoints = self.lost_endpoints.iter().map(|it| Change::RemoveEndpoint(&it.name));
        let lost_networks = self.nameless().map(|it| Change::RemoveNetwork(&it.name));
        let networks = self.networks.iter().map(Change::PutNetwork);
        let endpoints = self.endpoints.iter().map(Change::PutEndpoint);
        lost_endpoints.chain(lost_networks).chain(networks).chain(endpoints).collect()
    }

    fn say(&self) {
        for network in &self.lost_networks {
            info!(network = network.name, "Docker's network is gone");
        }
        for network in &self.networks {
            info!(network = network.name, bridge = network.bridge, "Docker's network taken up");
        }
        for endpoint in &self.lost_endpoints {
            info!(
                endpoint = endpoint.name,
                network = endpoint.network,
                "Docker's endpoint is gone"
            );
        }
        for endpoint in &self.joined {
            info!(
                endpoint = endpoint.name,
                network = endpoint.network,
                "Docker's endpoint taken up"
            );
        }
    }
}

/// The slots of an endpoint and its ports.
fn slots(endpoint: &Endpoint) -> impl Iterator<Item = u32> {
    endpoint.ports.iter().map(|port| port.slot).chain([endpoint.slot])
}

/// The namespace of a container's process, by the name that Docker has for it.
fn sandbox(docker: &DockerSandbox) -> Option<SandboxRef> {
    let sandbox = Sandbox::open(&format!("pid:{}", docker.pid)).ok()?;
    Some(sandbox_ref(&docker.path, &sandbox))
}

fn say(state: &State) {
    match state {
        State::Off => info!("Docker is not followed"),
        State::Away { why } => tracing::debug!(why, "no Docker"),
        State::Elsewhere => info!("the Docker that answers is another host's"),
        State::LeftAlone { version, conflicts, .. } => {
            for conflict in conflicts {
                let (why, fix) = (conflict.message(), conflict.fix());
                warn!(version, why, fix, "Docker's networks are left alone");
            }
        }
        State::Followed { version } => info!(version, "Docker is followed"),
    }
}
