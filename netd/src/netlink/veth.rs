//! Veth pairs: one end in the host's namespace, the other born inside the sandbox.

use std::os::fd::AsRawFd;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoData, InfoVeth, LinkMessage},
};
use nix::errno::Errno;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};
use tracing::warn;

use super::{Netlink, NetlinkError, Request, link::check_name};
use crate::{
    netns::Sandbox,
    sysctl::{self, Family, Sysctl},
};

/// A veth pair to create.
#[derive(Debug, Clone)]
pub struct VethSpec {
    /// The name of the host's end.
    pub host_ifname: String,
    /// The name of the sandbox's end.
    pub ifname: String,
    /// The MAC address of the sandbox's end; the host's end gets a random one.
    pub mac: [u8; 6],
    /// The MTU of both ends.
    pub mtu: u32,
}

impl Netlink {
    /// Creates a veth pair, both ends down, and returns the ifindex of the host's end; after an
    /// error there is no pair.
    ///
    /// The peer is made in the sandbox's namespace rather than moved there: a device that passes
    /// through the host's namespace can collide with a name there and starts other managers.
    ///
    /// # Errors
    /// [`NetlinkError::NameTaken`] or [`NetlinkError::NameTakenInSandbox`].
    pub async fn create_veth(
        &self,
        spec: &VethSpec,
        sandbox: &Sandbox,
    ) -> Result<u32, NetlinkError> {
        check_name(&spec.host_ifname)?;
        check_name(&spec.ifname)?;
        let message = RouteNetlinkMessage::NewLink(veth_message(spec, sandbox));
        let request = Request::CreateVeth { ifname: spec.host_ifname.clone() };
        match self.change(message, NLM_F_CREATE | NLM_F_EXCL, request).await {
            Err(error) if error.is(Errno::EEXIST) => return Err(self.name_taken(spec).await),
            result => result?,
        }
        let host_ifindex = self.link_named(&spec.host_ifname).await?.ifindex;
        if let Err(error) = sysctl::apply(&host_end_sysctls(spec)) {
            if let Err(left) = self.delete_link(host_ifindex).await {
                warn!(ifname = spec.host_ifname, error = %left, "an unfinished veth is left");
            }
            return Err(error.into());
        }
        Ok(host_ifindex)
    }

    /// The kernel says EEXIST for either end.
    async fn name_taken(&self, spec: &VethSpec) -> NetlinkError {
        if self.link_named(&spec.host_ifname).await.is_ok() {
            NetlinkError::NameTaken { ifname: spec.host_ifname.clone() }
        } else {
            NetlinkError::NameTakenInSandbox { ifname: spec.ifname.clone() }
        }
    }
}

fn veth_message(spec: &VethSpec, sandbox: &Sandbox) -> LinkMessage {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(&spec.ifname)
        .mtu(spec.mtu)
        .address(spec.mac.to_vec())
        .setns_by_fd(sandbox.fd().as_raw_fd())
        .build();
    LinkMessageBuilder::<LinkVeth>::new(&spec.host_ifname, &spec.ifname)
        .mtu(spec.mtu)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build()
}

/// A bridge port needs no address of its own; with IPv6 it would make one and announce it to the
/// container, and each would add three routes to the host.
fn host_end_sysctls(spec: &VethSpec) -> [Sysctl; 1] {
    let why = "a bridge port needs no address";
    [Sysctl::of_link(Family::V6, &spec.host_ifname, "disable_ipv6", "1", why).if_present()]
}
