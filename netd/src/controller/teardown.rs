//! Takes every device, program, map and pin of ours away. What is stored stays: the next start brings it
//! about again.

use std::collections::BTreeSet;

use tracing::info;

use super::{Controller, RequestError, host::Host};
use crate::{
    config::Config,
    datapath::{self, Pins},
    desired::Desired,
    netlink::Netlink,
};

impl Controller {
    pub(super) async fn remove_everything(&self) -> Result<(), RequestError> {
        tear_down(&self.desired, &self.config, &self.netlink).await
    }
}

/// Removes what a daemon with this desired state and configuration has made, whether it runs or not.
pub(crate) async fn tear_down(
    desired: &Desired,
    config: &Config,
    netlink: &Netlink,
) -> Result<(), RequestError> {
    let host = Host::read(netlink).await?;
    let veths = desired.endpoints.values().map(|endpoint| &endpoint.host_ifname);
    let bridges = desired.networks.values().map(|network| &network.bridge);
    for name in veths.chain(bridges) {
        netlink.delete_link_named(name).await?;
    }
    let uplinks = host.uplinks(desired, &config.uplinks.names);
    let names: BTreeSet<String> = uplinks.into_iter().map(|uplink| uplink.name).collect();
    datapath::remove_all(&Pins::new(&config.daemon.bpffs), &names)?;
    info!("every device, program and map of netd removed");
    Ok(())
}
