//! Links inside a sandbox: configuring, naming and removing them. What stands here is done by a thread that is
//! inside, with a connection to the sandbox's own rtnetlink.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{EnterError, Sandbox};
use crate::{
    netlink::{Netlink, NetlinkError, link::LOOPBACK_IFINDEX},
    sysctl::{self, ApplyError, Family, Sysctl},
};

/// What a link inside a sandbox is to become.
#[derive(Debug, Clone)]
pub struct SandboxLink {
    pub ifname: String,
    pub addresses: Vec<IpNet>,
    /// Without it the link has no IPv6 at all, not even a link-local address.
    pub ipv6: bool,
}

/// A link's name, and a gateway that is reached by it.
pub type WayOut<'a> = (&'a str, IpAddr);

/// Why a link inside a sandbox is not as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SandboxLinkError {
    #[error(transparent)]
    Enter(#[from] EnterError),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Sysctl(#[from] ApplyError),
}

impl Sandbox {
    /// Lists the names of the sandbox's links, its loopback device among them.
    pub fn link_names(&self) -> Result<Vec<String>, SandboxLinkError> {
        let links = self.visit(async |netlink| Ok(netlink.links().await?))?;
        Ok(links.into_iter().map(|link| link.name).collect())
    }
}

/// Gives a link its addresses and sets it and the loopback device up.
///
/// After an error the link is for the caller to delete.
pub async fn configure(netlink: &Netlink, link: &SandboxLink) -> Result<(), SandboxLinkError> {
    sysctl::apply(&sysctls(link))?;
    netlink.set_up(LOOPBACK_IFINDEX).await?;
    let ifindex = netlink.link_named(&link.ifname).await?.ifindex;
    for net in &link.addresses {
        netlink.add_address(ifindex, *net).await?;
    }
    Ok(netlink.set_up(ifindex).await?)
}

/// Makes these the sandbox's ways out, in place of those before.
pub async fn set_default_routes(
    netlink: &Netlink,
    ways: &[WayOut<'_>],
) -> Result<(), SandboxLinkError> {
    for (ifname, gateway) in ways {
        let ifindex = netlink.link_named(ifname).await?.ifindex;
        netlink.set_default_routes(ifindex, &[*gateway]).await?;
    }
    Ok(())
}

/// Tells the link's neighbours which MAC address its addresses have: gratuitous ARP and an
/// unsolicited neighbour advertisement, which the kernel sends when the MAC address is set, be it to
/// what it was (`arp_notify`, `ndisc_notify`).
pub async fn announce(
    netlink: &Netlink,
    ifname: &str,
    mac: [u8; 6],
) -> Result<(), SandboxLinkError> {
    let ifindex = netlink.until_operational(ifname).await?.ifindex;
    Ok(netlink.set_mac(ifindex, mac).await?)
}

fn sysctls(link: &SandboxLink) -> [Sysctl; 3] {
    let why = "neighbours learn a new container's MAC address";
    let notify = |family, key| Sysctl::of_link(family, &link.ifname, key, "1", why).if_present();
    [ipv6_sysctl(link), notify(Family::V4, "arp_notify"), notify(Family::V6, "ndisc_notify")]
}

fn ipv6_sysctl(link: &SandboxLink) -> Sysctl {
    if link.ipv6 {
        let why = "the network has IPv6";
        Sysctl::of_link(Family::V6, &link.ifname, "disable_ipv6", "0", why)
    } else {
        let why = "the network has no IPv6";
        Sysctl::of_link(Family::V6, &link.ifname, "disable_ipv6", "1", why).if_present()
    }
}
