//! Links inside a sandbox: configuring, naming and removing them.
//!
//! A netlink socket stays in the namespace that it was made in, so a thread makes it inside and
//! the requests are made from outside.

use std::{net::IpAddr, pin::pin};

use futures_util::future::{Either, select};
use ipnet::IpNet;
use tokio::runtime;

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
    /// The gateways, at most one of each family, if this link is the sandbox's way out.
    pub default_routes: Vec<IpAddr>,
    /// Without it the link has no IPv6 at all, not even a link-local address.
    pub ipv6: bool,
}

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
    /// Gives a link its addresses and routes and sets it and the loopback device up.
    ///
    /// After an error the sandbox's default routes are as they were; the link is for the caller to
    /// delete.
    pub async fn configure(&self, link: &SandboxLink) -> Result<(), SandboxLinkError> {
        self.inside(|| sysctl::apply(&sysctls(link)))??;
        self.with_netlink(async |netlink| configure(&netlink, link).await).await
    }

    /// Tells the link's neighbours which MAC address its addresses have: gratuitous ARP and an
    /// unsolicited neighbour advertisement, which the kernel sends when the MAC address is set, be it to
    /// what it was (`arp_notify`, `ndisc_notify`).
    pub async fn announce(&self, ifname: &str, mac: [u8; 6]) -> Result<(), SandboxLinkError> {
        self.with_netlink(async |netlink| {
            let ifindex = netlink.until_operational(ifname).await?.ifindex;
            netlink.set_mac(ifindex, mac).await
        })
        .await
    }

    /// Makes a link the sandbox's way out, in place of the one before.
    pub async fn set_default_routes(
        &self,
        ifname: &str,
        gateways: &[IpAddr],
    ) -> Result<(), SandboxLinkError> {
        self.with_netlink(async |netlink| {
            let ifindex = netlink.link_named(ifname).await?.ifindex;
            netlink.set_default_routes(ifindex, gateways).await
        })
        .await
    }

    /// Lists the names of the sandbox's links, its loopback device among them.
    pub async fn link_names(&self) -> Result<Vec<String>, SandboxLinkError> {
        let links = self.with_netlink(async |netlink| netlink.links().await).await?;
        Ok(links.into_iter().map(|link| link.name).collect())
    }

    /// Makes requests to the rtnetlink of the namespace.
    ///
    /// The socket is served here rather than by a task, so that it is closed on return: an open
    /// one would keep the namespace alive.
    async fn with_netlink<T>(
        &self,
        work: impl AsyncFnOnce(Netlink) -> Result<T, NetlinkError>,
    ) -> Result<T, SandboxLinkError> {
        let runtime = runtime::Handle::current();
        let (netlink, connection) = self.inside(|| {
            let _reactor = runtime.enter();
            Netlink::connect()
        })??;
        let serve = async {
            connection.await;
            // A broken connection has answered each request with an error; `work` is about to end.
            std::future::pending::<()>().await;
        };
        match select(pin!(work(netlink)), pin!(serve)).await {
            Either::Left((result, _)) => Ok(result?),
            Either::Right(((), _)) => unreachable!("serving never ends"),
        }
    }
}

async fn configure(netlink: &Netlink, link: &SandboxLink) -> Result<(), NetlinkError> {
    netlink.set_up(LOOPBACK_IFINDEX).await?;
    let ifindex = netlink.link_named(&link.ifname).await?.ifindex;
    for net in &link.addresses {
        netlink.add_address(ifindex, *net).await?;
    }
    netlink.set_up(ifindex).await?;
    netlink.set_default_routes(ifindex, &link.default_routes).await
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
