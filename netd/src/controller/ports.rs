//! Requests about published ports.

use super::{Controller, RequestError};
use crate::{
    api::{Item, PortInfo, PortTraffic},
    desired::PublishError,
    listeners,
    model::{Endpoint, Proto, PublishedPort},
    port_spec::PortSpec,
    store::Change,
};

/// Names whose socket is in the way of a port.
pub(super) fn with_owner(error: PublishError) -> PublishError {
    if let PublishError::PortHeld { wanted, listener, .. } = error {
        let owner = listeners::process(&listener);
        return PublishError::PortHeld { wanted, listener, owner };
    }
    error
}

impl Controller {
    pub(super) async fn add_ports(
        &mut self,
        name: &str,
        specs: &[PortSpec],
    ) -> Result<Vec<Item>, RequestError> {
        self.check_own_endpoint(name)?;
        // An address may have come a moment ago.
        self.catch_up().await?;
        let ports = self.desired.plan_ports(name, specs, &self.host.view()).map_err(with_owner)?;
        let mut endpoint = self.desired.endpoint(name)?.clone();
        endpoint.ports.extend(ports.iter().cloned());
        self.change_ports(endpoint)?;
        let infos = ports.iter().map(|port| self.port_info(name, port));
        infos.map(|info| Ok(Item::Port(info?))).collect()
    }

    pub(super) fn remove_ports(
        &mut self,
        name: &str,
        specs: &[PortSpec],
        kill: bool,
    ) -> Result<Vec<Item>, RequestError> {
        self.check_own_endpoint(name)?;
        let ports = self.desired.plan_unpublish(name, specs)?;
        let infos: Result<Vec<_>, _> =
            ports.iter().map(|port| self.port_info(name, port)).collect();
        let infos = infos?;
        let mut endpoint = self.desired.endpoint(name)?.clone();
        endpoint.ports.retain(|port| !ports.iter().any(|gone| gone.slot == port.slot));
        self.change_ports(endpoint)?;
        // A TCP or SCTP connection may be finished; UDP has none, so its packets follow the change at once.
        let ended = ports.iter().filter(|port| kill || port.proto == Proto::Udp);
        self.datapath.end_flows(ended.map(|port| port.slot))?;
        Ok(infos.into_iter().map(Item::Port).collect())
    }

    /// Stores and programs an endpoint whose published ports are others than before; all or none.
    fn change_ports(&mut self, endpoint: Endpoint) -> Result<(), RequestError> {
        let before = self.desired.endpoint(&endpoint.name)?.clone();
        self.save(&[Change::PutEndpoint(&endpoint)])?;
        self.desired.insert_endpoint(endpoint);
        if let Err(error) = self.program() {
            self.save(&[Change::PutEndpoint(&before)])?;
            self.desired.insert_endpoint(before);
            self.program()?;
            return Err(error.into());
        }
        Ok(())
    }

    pub(super) fn ports(&self, endpoint: Option<&str>) -> Result<Vec<Item>, RequestError> {
        let endpoints: Vec<&Endpoint> = match endpoint {
            Some(name) => vec![self.desired.endpoint(name)?],
            None => self.desired.endpoints.values().collect(),
        };
        let mut items = Vec::new();
        for endpoint in endpoints {
            items.extend(self.port_infos(endpoint)?.into_iter().map(Item::Port));
        }
        Ok(items)
    }

    /// The published ports of an endpoint with what they have carried.
    pub(super) fn port_infos(&self, endpoint: &Endpoint) -> Result<Vec<PortInfo>, RequestError> {
        endpoint.ports.iter().map(|port| self.port_info(&endpoint.name, port)).collect()
    }

    fn port_info(&self, endpoint: &str, port: &PublishedPort) -> Result<PortInfo, RequestError> {
        let traffic = self.datapath.traffic(port.slot)?;
        let sum = PortTraffic {
            packets: traffic.received.packets + traffic.sent.packets,
            bytes: traffic.received.bytes + traffic.sent.bytes,
            flows: traffic.flows,
        };
        Ok(PortInfo::new(endpoint, port, sum))
    }
}
