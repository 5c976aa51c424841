//! Brings about what is stored: at the start, and when something of ours has gone.

use tracing::{info, warn};

use super::{Controller, RequestError, endpoints::sandbox_ref, in_one_line, networks};
use crate::{
    datapath::Side,
    model::{Endpoint, Network},
    netns::Sandbox,
};

impl Controller {
    /// Brings networks and endpoints about, then uplinks and maps.
    pub(super) async fn restore(&mut self) -> Result<(), RequestError> {
        let networks: Vec<Network> = self.desired.networks.values().cloned().collect();
        for network in &networks {
            self.restore_network(network).await?;
        }
        self.keep_sysctls();
        let endpoints: Vec<Endpoint> = self.desired.endpoints.values().cloned().collect();
        for endpoint in &endpoints {
            // Programs first: the link may have carried packets all along.
            if self.host.link(&endpoint.host_ifname).is_some() {
                self.datapath.attach(&endpoint.host_ifname, Side::Endpoint)?;
            }
        }
        self.refresh().await?;
        self.mend_endpoints().await?;
        self.keep_sysctls();
        Ok(())
    }

    async fn restore_network(&mut self, network: &Network) -> Result<(), RequestError> {
        match self.host.link(&network.bridge) {
            Some(link) => {
                let gateways = networks::gateways(network);
                self.netlink.set_bridge_addresses(link.ifindex, &gateways).await?;
            }
            None => {
                self.netlink.create_bridge(&networks::bridge_spec(network)).await?;
                info!(network = network.name, bridge = network.bridge, "bridge made again");
            }
        }
        self.host.reread(&self.netlink).await?;
        Ok(())
    }

    /// Brings endpoints about whose link is missing, and removes those whose sandbox has gone.
    pub(super) async fn mend_endpoints(&mut self) -> Result<(), RequestError> {
        let is_missing = |endpoint: &&Endpoint| self.host.link(&endpoint.host_ifname).is_none();
        let missing: Vec<Endpoint> =
            self.desired.endpoints.values().filter(is_missing).cloned().collect();
        for endpoint in &missing {
            match open_again(endpoint) {
                Some(sandbox) => self.mend(endpoint, &sandbox).await,
                None => {
                    info!(endpoint = endpoint.name, "sandbox gone");
                    self.remove_endpoint(endpoint).await?;
                }
            }
        }
        Ok(())
    }

    /// Makes an endpoint's link again. A failure is said and tried again at the host's next change.
    async fn mend(&mut self, endpoint: &Endpoint, sandbox: &Sandbox) {
        let mtu = match self.desired.network(&endpoint.network) {
            Ok(network) => network.mtu,
            Err(_) => return,
        };
        match self.join(endpoint, mtu, sandbox).await {
            Ok(()) => info!(endpoint = endpoint.name, "link made again"),
            Err(error) => {
                let error = in_one_line(&error);
                warn!(endpoint = endpoint.name, error, "the link could not be made again");
            }
        }
    }
}

/// The sandbox that the endpoint was connected to, if it is still the same one.
fn open_again(endpoint: &Endpoint) -> Option<Sandbox> {
    let sandbox = Sandbox::open(&endpoint.sandbox.text).ok()?;
    sandbox_ref(&endpoint.sandbox.text, &sandbox).is_same(&endpoint.sandbox).then_some(sandbox)
}
