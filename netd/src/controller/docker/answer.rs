//! What is said of Docker, and what is refused on its behalf.

use super::{
    super::{Controller, RequestError},
    State,
};
use crate::{
    api::{ConflictInfo, DockerInfo, DockerState},
    model::Network,
};

impl Controller {
    /// How things stand.
    pub(in crate::controller) fn docker_info(&self) -> DockerInfo {
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
        let faults = self.docker.faults.iter().cloned();
        let faults =
            faults.chain(networks.clone().filter_map(|network| self.without_bridge(network)));
        let endpoints = self.desired.endpoints.values();
        let endpoints = endpoints.filter(|endpoint| self.desired.is_dockers(endpoint));
        DockerInfo {
            state,
            socket: self.config.docker.host.clone(),
            version,
            error,
            conflicts: conflicts.iter().copied().map(ConflictInfo::new).collect(),
            faults: faults.collect(),
            networks: networks.map(|network| network.name.clone()).collect(),
            endpoints: endpoints.clone().count(),
            ports: endpoints.map(|endpoint| endpoint.ports.len()).sum(),
        }
    }

    /// What is wrong with a network of Docker's whose bridge somebody has deleted.
    fn without_bridge(&self, network: &Network) -> Option<String> {
        let Network { name, bridge, .. } = network;
        let is_followed = matches!(self.docker.seen.state, State::Followed { .. });
        let is_gone = is_followed && self.host.ifindex(bridge).is_none();
        is_gone.then(|| {
            format!("network {name}: its bridge {bridge} is gone; Docker makes its own ones anew when it is restarted")
        })
    }

    /// Refuses what is Docker's to do.
    pub(in crate::controller) fn check_own_network(
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
    pub(in crate::controller) fn check_own_endpoint(&self, name: &str) -> Result<(), RequestError> {
        match self.desired.endpoints.get(name) {
            Some(endpoint) if self.desired.is_dockers(endpoint) => {
                Err(RequestError::DockersEndpoint { endpoint: name.to_owned() })
            }
            _ => Ok(()),
        }
    }
}
