//! Requests about networks.

use netd_common::counters::FlowCount;
use tracing::{info, warn};

use super::{Controller, RequestError, host::BRIDGE, in_one_line};
use crate::{
    api::{Item, NetworkCreate, NetworkInfo},
    clock,
    model::Network,
    netlink::bridge::BridgeSpec,
    store::Change,
};

impl Controller {
    pub(super) async fn create_network(
        &mut self,
        request: &NetworkCreate,
    ) -> Result<Vec<Item>, RequestError> {
        self.read_firewall().await;
        self.catch_up().await?;
        let (host, pools) = (self.host.view(), self.pools());
        let plan = self.desired.plan_network(request, &host, &pools, &mut self.ids)?;
        let network = Network { created: clock::unix_secs(), ..plan };
        self.save(&[Change::PutNetwork(&network)])?;
        if let Err(error) = self.enter_network(&network).await {
            self.forget_network(&network).await;
            return Err(error);
        }
        info!(network = network.name, bridge = network.bridge, "network created");
        Ok(vec![Item::Network(self.network_info(&network))])
    }

    /// Makes the bridge of a network that is stored.
    async fn enter_network(&mut self, network: &Network) -> Result<(), RequestError> {
        self.netlink.create_bridge(&bridge_spec(network)).await?;
        self.desired.insert_network(network.clone());
        self.keep_sysctls();
        self.refresh().await
    }

    /// Undoes `enter_network`, however far it came. The store comes last: what exists is always stored.
    pub(super) async fn forget_network(&mut self, network: &Network) {
        // A bridge that was there before is somebody else's: planning had not seen it.
        let was_made = self.desired.remove_network(&network.name).is_some();
        let undone = if was_made {
            self.netlink.delete_named(&network.bridge, BRIDGE).await.map_err(RequestError::from)
        } else {
            Ok(())
        };
        let saved = |()| Ok(self.save(&[Change::RemoveNetwork(&network.name)])?);
        if let Err(error) = undone.and_then(saved) {
            let error = in_one_line(&error);
            warn!(network = network.name, error, "a network could not be undone");
        }
    }

    pub(super) async fn remove_network(&mut self, name: &str) -> Result<Vec<Item>, RequestError> {
        self.check_own_network(name, "rm")?;
        let network = self.desired.check_remove_network(name)?.clone();
        self.netlink.delete_named(&network.bridge, BRIDGE).await?;
        self.save(&[Change::RemoveNetwork(name)])?;
        self.desired.remove_network(name);
        self.refresh().await?;
        self.datapath.end_flows([FlowCount::of_network(network.number)])?;
        info!(network = name, "network removed");
        Ok(vec![Item::Name(name.to_owned())])
    }

    pub(super) async fn prune_networks(&mut self) -> Result<Vec<Item>, RequestError> {
        let mut items = Vec::new();
        for name in self.desired.unused_networks() {
            items.extend(self.remove_network(&name).await?);
        }
        Ok(items)
    }

    pub(super) fn allow(&mut self, a: &str, b: &str) -> Result<Vec<Item>, RequestError> {
        let pair = self.desired.plan_allow(a, b)?;
        self.save(&[Change::Allow(&pair.0, &pair.1)])?;
        self.desired.allowed.insert(pair);
        self.program()?;
        Ok(Vec::new())
    }

    pub(super) fn disallow(&mut self, a: &str, b: &str) -> Result<Vec<Item>, RequestError> {
        let pair = self.desired.plan_disallow(a, b)?;
        self.save(&[Change::Disallow(&pair.0, &pair.1)])?;
        self.desired.allowed.remove(&pair);
        self.program()?;
        Ok(Vec::new())
    }

    pub(super) fn networks(&self) -> Vec<Item> {
        let networks = self.desired.networks.values();
        networks.map(|network| Item::Network(self.network_info(network))).collect()
    }

    pub(super) fn inspect_networks(&self, names: &[String]) -> Result<Vec<Item>, RequestError> {
        let inspect = |name: &String| {
            let network = self.desired.network(name)?;
            Ok(Item::Network(self.network_info(network)))
        };
        names.iter().map(inspect).collect()
    }

    fn network_info(&self, network: &Network) -> NetworkInfo {
        let endpoints = self.desired.endpoints_of(&network.name);
        let allowed = self.desired.allowed_with(&network.name);
        NetworkInfo::new(
            network,
            self.config.datapath.nat,
            self.datapath_info(network),
            endpoints.map(|endpoint| endpoint.name.clone()).collect(),
            allowed.map(str::to_owned).collect(),
        )
    }

    /// Deletes a link on the way back from a failure: what remains is said, for nobody waits for it.
    pub(super) async fn delete_link(&self, ifindex: u32) {
        if let Err(error) = self.netlink.delete_link(ifindex).await {
            warn!(ifindex, error = in_one_line(&error), "a link could not be removed");
        }
    }
}

/// The bridge of a network.
pub(super) fn bridge_spec(network: &Network) -> BridgeSpec {
    BridgeSpec {
        name: network.bridge.clone(),
        mtu: network.mtu,
        mac: network.bridge_mac().0,
        addresses: network.bridge_addresses(),
        ipv6: network.has_ipv6_gateway(),
    }
}
