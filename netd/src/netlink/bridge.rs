//! Bridges: one per network, made complete or not at all.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec};
use tracing::warn;

use super::{
    Netlink, NetlinkError, Request,
    link::{Link, check_name},
};
use crate::{
    model::LINK_LOCAL_GATEWAY,
    sysctl::{self, Family, Sysctl},
};

/// A bridge to create.
#[derive(Debug, Clone)]
pub struct BridgeSpec {
    pub name: String,
    pub mtu: u32,
    pub mac: [u8; 6],
    /// The gateway addresses, each with the prefix length of its subnet.
    pub addresses: Vec<IpNet>,
    /// Whether the network has an IPv6 subnet; without one the bridge has no IPv6 at all.
    pub ipv6: bool,
}

impl Netlink {
    /// Creates a bridge with its addresses, sets it up and returns its ifindex; after an error
    /// there is no bridge.
    ///
    /// # Errors
    /// [`NetlinkError::NameTaken`] for any device of that name, a bridge of ours too.
    pub async fn create_bridge(&self, spec: &BridgeSpec) -> Result<u32, NetlinkError> {
        check_name(&spec.name)?;
        // A MAC address that is given stays; the kernel's own choice would change with the ports that come
        // and go, and containers would keep the old one in their ARP caches.
        let builder = LinkMessageBuilder::<LinkBridge>::new(&spec.name).address(spec.mac.to_vec());
        let message = RouteNetlinkMessage::NewLink(builder.build());
        let request = Request::CreateBridge { ifname: spec.name.clone() };
        match self.change(message, NLM_F_CREATE | NLM_F_EXCL, request).await {
            Err(error) if error.is(Errno::EEXIST) => {
                return Err(NetlinkError::NameTaken { ifname: spec.name.clone() });
            }
            result => result?,
        }
        let link = self.link_named(&spec.name).await?;
        if let Err(error) = self.finish_bridge(spec, &link).await {
            if let Err(left) = self.delete_link(link.ifindex).await {
                warn!(ifname = spec.name, error = %left, "an unfinished bridge is left behind");
            }
            return Err(error);
        }
        Ok(link.ifindex)
    }

    async fn finish_bridge(&self, spec: &BridgeSpec, link: &Link) -> Result<(), NetlinkError> {
        sysctl::apply(&bridge_sysctls(spec))?;
        let mut builder = LinkMessageBuilder::<LinkUnspec>::new().index(link.ifindex);
        // Given with RTM_NEWLINK, the MTU would fall back to 1500 when the last port goes
        // (br_mtu_auto_adjust); a later change is remembered as the user's choice.
        if spec.mtu != link.mtu {
            builder = builder.mtu(spec.mtu);
        }
        let request = Request::SetLink { ifindex: link.ifindex };
        self.set_link(builder.build(), request).await?;
        if spec.ipv6 {
            self.add_address(link.ifindex, IpNet::V6(LINK_LOCAL_GATEWAY)).await?;
        }
        // It has none yet, so none is looked for.
        for net in &spec.addresses {
            self.add_address(link.ifindex, *net).await?;
        }
        self.set_up(link.ifindex).await
    }

    /// Gives a bridge its MAC address back and tells its containers, which may have learned another one meanwhile:
    /// the kernel sends gratuitous ARP and unsolicited neighbour advertisements when the address is set
    /// (`arp_notify`, `ndisc_notify`).
    pub async fn restore_mac(&self, link: &Link, mac: [u8; 6]) -> Result<(), NetlinkError> {
        sysctl::apply(&notifications(&link.name))?;
        self.set_mac(link.ifindex, mac).await
    }

    /// Gives a bridge the wanted addresses and takes away others that netd put there.
    ///
    /// Link-local IPv6 addresses and those that someone else added stay. After an error, calling
    /// again goes on from there.
    pub async fn set_bridge_addresses(
        &self,
        ifindex: u32,
        wanted: &[IpNet],
    ) -> Result<(), NetlinkError> {
        self.add_missing(ifindex, wanted).await?;
        let mut removed = false;
        for address in self.addresses_of(ifindex).await? {
            if address.ours && !wanted.contains(&address.net) && !is_link_local(address.net) {
                self.remove_address(ifindex, address.net).await?;
                removed = true;
            }
        }
        // With an IPv4 address the kernel removes the later ones of the same subnet.
        if removed { self.add_missing(ifindex, wanted).await } else { Ok(()) }
    }

    async fn add_missing(&self, ifindex: u32, wanted: &[IpNet]) -> Result<(), NetlinkError> {
        let present = self.addresses_of(ifindex).await?;
        for net in wanted {
            if !present.iter().any(|address| address.net == *net) {
                self.add_address(ifindex, *net).await?;
            }
        }
        Ok(())
    }
}

fn is_link_local(net: IpNet) -> bool {
    matches!(net.addr(), IpAddr::V6(addr) if addr.is_unicast_link_local())
}

fn notifications(ifname: &str) -> [Sysctl; 2] {
    let why = "containers learn their gateway's MAC address again";
    let notify = |family, key| Sysctl::of_link(family, ifname, key, "1", why).if_present();
    [notify(Family::V4, "arp_notify"), notify(Family::V6, "ndisc_notify")]
}

/// What a bridge needs whatever the defaults of the host are.
fn bridge_sysctls(spec: &BridgeSpec) -> Vec<Sysctl> {
    let forward = "packets of containers are routed";
    let mut sysctls = vec![Sysctl::of_link(Family::V4, &spec.name, "forwarding", "1", forward)];
    if spec.ipv6 {
        sysctls.extend([
            Sysctl::of_link(Family::V6, &spec.name, "disable_ipv6", "0", "the network has IPv6"),
            Sysctl::of_link(Family::V6, &spec.name, "forwarding", "1", forward),
            Sysctl::of_link(
                Family::V6,
                &spec.name,
                "accept_ra",
                "0",
                "a container must not reconfigure the host (CVE-2020-13401)",
            ),
        ]);
    } else {
        let why = "the network has no IPv6";
        let off = Sysctl::of_link(Family::V6, &spec.name, "disable_ipv6", "1", why);
        sysctls.push(off.if_present());
    }
    sysctls
}
