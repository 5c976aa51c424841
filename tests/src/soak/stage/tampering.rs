//! What a stranger does to what is netd's, as command lines.

use super::{
    super::operation::{Endpoint, Network, Sandbox, Tampering},
    Stage,
};
use crate::topology::gateway;

/// What a stranger does, on the host or in a sandbox.
pub(super) struct Command {
    sandbox: Option<Sandbox>,
    line: String,
}

impl Stage {
    /// How that is done. Nothing, where there is nothing to do it to.
    pub(super) fn tampering(&self, tampering: Tampering) -> Option<Command> {
        let bridge = |network: Network| self.fact(&network.to_string(), "bridge");
        let link = |endpoint: Endpoint| self.fact(&endpoint.to_string(), "host_ifname");
        let (sandbox, line) = match tampering {
            Tampering::DeleteBridge(network) => (None, format!("link del {}", bridge(network)?)),
            Tampering::SetDown(network) => (None, format!("link set {} down", bridge(network)?)),
            Tampering::DeleteGateway(network, family) => {
                let number = self.model.networks.get(&network)?.subnet?;
                let (address, len) = (gateway(family, number), family.pick(24, 64));
                (None, format!("address del {address}/{len} dev {}", bridge(network)?))
            }
            Tampering::DeleteLink(endpoint) => (None, format!("link del {}", link(endpoint)?)),
            Tampering::Unplug(endpoint) => (None, format!("link set {} nomaster", link(endpoint)?)),
            Tampering::DeleteInside(endpoint) => {
                let plan = self.model.endpoints.get(&endpoint)?;
                (Some(plan.sandbox), format!("link del eth{}", plan.device))
            }
        };
        Some(Command { sandbox, line })
    }
}

impl Command {
    pub(super) fn run(&self, stage: &Stage) {
        let guest = self.sandbox.and_then(|sandbox| stage.guests.get(&sandbox));
        let namespace = guest.map_or(&stage.world.host, |guest| &guest.namespace);
        // An IPv4 network has no IPv6 gateway to delete.
        let _ = namespace.run(&format!("ip {}", self.line));
    }
}
