//! Takes every device, program, map and pin of ours away. What is stored stays: the next start brings it
//! about again.

use tracing::info;

use super::{
    Controller, RequestError,
    host::{BRIDGE, Host, VETH},
};
use crate::{
    config::Config,
    datapath::{self, Pins},
    desired::Desired,
    netlink::Netlink,
};

impl Controller {
    pub(super) async fn remove_everything(&self) -> Result<(), RequestError> {
        tear_down(&self.desired, &self.config, &self.netlink).await.map(|_was_pinned| ())
    }
}

/// Removes what a daemon with this desired state and configuration has made, whether it runs or not. Says
/// whether any program of it was pinned: where none was, those on devices stay.
pub(crate) async fn tear_down(
    desired: &Desired,
    config: &Config,
    netlink: &Netlink,
) -> Result<bool, RequestError> {
    let host = Host::read(netlink).await?;
    for endpoint in desired.endpoints.values() {
        netlink.delete_named(&endpoint.host_ifname, VETH).await?;
    }
    for network in desired.networks.values() {
        netlink.delete_named(&network.bridge, BRIDGE).await?;
    }
    // Every device, for one that is no uplink today may have been one yesterday.
    let was_pinned = datapath::remove_all(&Pins::new(&config.daemon.bpffs), host.link_names())?;
    if was_pinned {
        info!("every device, program and map of netd removed");
    }
    Ok(was_pinned)
}
