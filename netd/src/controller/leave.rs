//! The links of endpoints: many are taken away together.

use tracing::warn;

use super::{Controller, RequestError, endpoints::open_again, host::VETH, in_one_line};
use crate::{model::Endpoint, netns::link};

impl Controller {
    /// Takes endpoints off the host: their ports and flows first, then their links, and their sandboxes have
    /// their way out by other networks.
    pub(super) async fn take_away(&mut self, endpoints: &[Endpoint]) -> Result<(), RequestError> {
        for endpoint in endpoints {
            self.desired.remove_endpoint(&endpoint.name);
            let ports = endpoint.ports.iter().map(|port| port.slot);
            self.datapath.end_flows(ports.chain([endpoint.slot]))?;
        }
        self.program()?;
        for endpoint in endpoints {
            self.netlink.delete_named(&endpoint.host_ifname, VETH).await?;
            // These do not go with the link.
            for neighbour in self.addresses_of(endpoint) {
                self.netlink.remove_neighbour(&neighbour).await?;
            }
        }
        self.catch_up().await?;
        endpoints.iter().for_each(|endpoint| self.move_way_out(endpoint));
        Ok(())
    }

    /// Points the default routes of a sandbox elsewhere that has lost an endpoint. The sandbox may be about to
    /// end; then its routes do not matter.
    fn move_way_out(&self, lost: &Endpoint) {
        let Some(sandbox) = open_again(lost) else { return };
        let ways = self.ways_out(lost);
        let moved = sandbox.visit(async |netlink| link::set_default_routes(netlink, &ways).await);
        if let Err(error) = moved {
            let error = in_one_line(&error);
            warn!(sandbox = lost.sandbox.text, error, "default routes not moved");
        }
    }
}
