//! Addresses: reading them, adding and removing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{
        AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
        AddressScope,
    },
};
use nix::errno::Errno;
use rtnetlink::AddressMessageBuilder;

use super::{Netlink, NetlinkError, Request};

/// Marks the addresses that netd adds (IFA_PROTO, Linux 5.18; older kernels forget it, and
/// addresses on them look like someone else's). 1 to 3 are the kernel's own.
const ADDED_BY_NETD: AddressProtocol = AddressProtocol::Other(110);

/// The bit that IPv6 shares with IFA_F_SECONDARY: there it means temporary (RFC 8981).
const TEMPORARY: AddressFlags = AddressFlags::Secondary;

/// An address of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub ifindex: u32,
    /// The address with its prefix length; not truncated to the subnet.
    pub net: IpNet,
    /// The other side of a point-to-point link; the prefix length is then that side's.
    pub peer: Option<IpAddr>,
    pub scope: Scope,
    /// Its preferred lifetime is over.
    pub deprecated: bool,
    /// An IPv6 privacy address.
    pub temporary: bool,
    /// Not yet, or not at all, found to be unique on the link.
    pub tentative: bool,
    /// An IPv4 address that came after another one of the same subnet.
    pub secondary: bool,
    /// Added by netd.
    pub ours: bool,
}

/// How far an address is good for, from the widest to the narrowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    Universe,
    /// Between universe and link: a site, or a scope of the administrator's own.
    Site,
    Link,
    Host,
}

impl Address {
    /// Returns the subnet that the device reaches without a router through this address.
    pub fn on_link(&self) -> IpNet {
        let net = self.peer.and_then(|peer| IpNet::new(peer, self.net.prefix_len()).ok());
        net.unwrap_or(self.net).trunc()
    }
}

impl Netlink {
    /// Lists the addresses of both families, in the kernel's order of preference per device.
    pub async fn addresses(&self) -> Result<Vec<Address>, NetlinkError> {
        let messages = self
            .dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))
            .await
            .map_err(|source| NetlinkError::Failed { request: Request::ListAddresses, source })?;
        Ok(messages.into_iter().filter_map(read_address).collect())
    }

    pub(super) async fn addresses_of(&self, ifindex: u32) -> Result<Vec<Address>, NetlinkError> {
        let mut addresses = self.addresses().await?;
        addresses.retain(|address| address.ifindex == ifindex);
        Ok(addresses)
    }

    /// Adds an address, usable at once: nobody else has what netd hands out, so IPv6 need not ask.
    pub async fn add_address(&self, ifindex: u32, net: IpNet) -> Result<(), NetlinkError> {
        let mut message = address_message(ifindex, net);
        message.attributes.push(AddressAttribute::Protocol(ADDED_BY_NETD));
        if matches!(net, IpNet::V6(_)) {
            message.header.flags |= AddressHeaderFlags::Nodad;
        }
        let request = Request::AddAddress { ifindex, net };
        let message = RouteNetlinkMessage::NewAddress(message);
        self.change(message, NLM_F_CREATE | NLM_F_EXCL, request).await
    }

    /// Removes an address; one that is gone already is no error.
    pub async fn remove_address(&self, ifindex: u32, net: IpNet) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelAddress(address_message(ifindex, net));
        match self.change(message, 0, Request::RemoveAddress { ifindex, net }).await {
            Err(error) if error.is(Errno::EADDRNOTAVAIL) => Ok(()),
            result => result,
        }
    }
}

fn address_message(ifindex: u32, net: IpNet) -> AddressMessage {
    match net {
        IpNet::V4(net) => AddressMessageBuilder::<Ipv4Addr>::new()
            .index(ifindex)
            .address(net.addr(), net.prefix_len())
            .build(),
        IpNet::V6(net) => AddressMessageBuilder::<Ipv6Addr>::new()
            .index(ifindex)
            .address(net.addr(), net.prefix_len())
            .build(),
    }
}

fn read_address(message: RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(AddressMessage { header, attributes, .. }) = message else {
        return None;
    };
    let (mut address, mut local, mut ours) = (None, None, false);
    let mut flags = AddressFlags::from_bits_retain(u32::from(header.flags.bits()));
    for attribute in attributes {
        if let AddressAttribute::Address(addr) = attribute {
            address = Some(addr);
        } else if let AddressAttribute::Local(addr) = attribute {
            local = Some(addr);
        } else if let AddressAttribute::Flags(all) = attribute {
            flags = all;
        } else if let AddressAttribute::Protocol(protocol) = attribute {
            ours = protocol == ADDED_BY_NETD;
        }
    }
    // IFA_ADDRESS is the peer's where there is one; IPv6 leaves IFA_LOCAL out where there is none.
    let own = local.or(address)?;
    Some(Address {
        ifindex: header.index,
        net: IpNet::new(own, header.prefix_len).ok()?,
        peer: address.filter(|address| *address != own),
        scope: read_scope(header.scope),
        deprecated: flags.contains(AddressFlags::Deprecated),
        temporary: own.is_ipv6() && flags.contains(TEMPORARY),
        tentative: flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
        secondary: own.is_ipv4() && flags.contains(AddressFlags::Secondary),
        ours,
    })
}

fn read_scope(scope: AddressScope) -> Scope {
    match u8::from(scope) {
        0 => Scope::Universe,
        1..=252 => Scope::Site,
        253 => Scope::Link,
        254.. => Scope::Host,
    }
}
