//! Where containers are, told to the kernel once and for all: entries that neither age nor have to be
//! learnt, since redirected packets are seen by no bridge and confirm no neighbour.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
};
use nix::errno::Errno;

use super::{Netlink, NetlinkError, Request};
use crate::model::MacAddr;

/// Where a MAC address is, or whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// A port of a bridge, or the device that the address is reached by.
    pub ifindex: u32,
    /// None: an entry of the bridge's forwarding table.
    pub addr: Option<IpAddr>,
    pub mac: [u8; 6],
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mac, ifindex) = (MacAddr(self.mac), self.ifindex);
        match self.addr {
            Some(addr) => write!(f, "neighbour {addr} ({mac}) of link {ifindex}"),
            None => write!(f, "forwarding of {mac} to link {ifindex}"),
        }
    }
}

impl Netlink {
    /// Lists the entries that do not age.
    pub async fn neighbours(&self) -> Result<BTreeSet<Neighbour>, NetlinkError> {
        let mut found = BTreeSet::new();
        for family in [AddressFamily::Unspec, AddressFamily::Bridge] {
            let mut message = NeighbourMessage::default();
            message.header.family = family;
            let messages = self.dump(RouteNetlinkMessage::GetNeighbour(message)).await;
            let messages = messages.map_err(|source| NetlinkError::Failed {
                request: Request::ListNeighbours,
                source,
            })?;
            found.extend(messages.into_iter().filter_map(read_neighbour));
        }
        Ok(found)
    }

    /// Sets an entry, in place of what was known of the address.
    ///
    /// # Errors
    /// Where the device has gone, or is no port of a bridge.
    pub async fn set_neighbour(&self, neighbour: &Neighbour) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewNeighbour(neighbour_message(neighbour));
        let request = Request::SetNeighbour { neighbour: *neighbour };
        self.change(message, NLM_F_CREATE | NLM_F_REPLACE, request).await
    }

    /// Removes an entry; one that is gone already is no error.
    pub async fn remove_neighbour(&self, neighbour: &Neighbour) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelNeighbour(neighbour_message(neighbour));
        let request = Request::RemoveNeighbour { neighbour: *neighbour };
        match self.change(message, 0, request).await {
            Err(error) if error.is(Errno::ENOENT) || error.is(Errno::ENODEV) => Ok(()),
            result => result,
        }
    }
}

fn neighbour_message(neighbour: &Neighbour) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = neighbour.ifindex;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(neighbour.mac.to_vec()));
    let Some(addr) = neighbour.addr else {
        message.header.family = AddressFamily::Bridge;
        message.header.state = NeighbourState::Noarp;
        // Sticky, or a frame that another port sends with the same source would move it there.
        message.header.flags = NeighbourFlags::Controller | NeighbourFlags::Sticky;
        return message;
    };
    message.header.family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::Destination(addr.into()));
    message
}

fn read_neighbour(message: RouteNetlinkMessage) -> Option<Neighbour> {
    let RouteNetlinkMessage::NewNeighbour(NeighbourMessage { header, attributes, .. }) = message
    else {
        return None;
    };
    let is_forwarding = header.family == AddressFamily::Bridge;
    let lasting = if is_forwarding { NeighbourState::Noarp } else { NeighbourState::Permanent };
    if header.state != lasting {
        return None;
    }
    let (mut addr, mut mac) = (None, None);
    for attribute in attributes {
        if let NeighbourAttribute::LinkLayerAddress(bytes) = attribute {
            mac = bytes.try_into().ok();
        } else if let NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) = attribute {
            addr = Some(IpAddr::V4(v4));
        } else if let NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) = attribute {
            addr = Some(IpAddr::V6(v6));
        }
    }
    Some(Neighbour { ifindex: header.ifindex, addr, mac: mac? })
}

#[cfg(test)]
mod tests {
    use super::{
        Neighbour, NeighbourState, RouteNetlinkMessage, neighbour_message, read_neighbour,
    };

    #[test]
    fn what_is_set_is_what_is_read_unless_it_ages() {
        for addr in [None, Some("10.1.0.2".parse().unwrap()), Some("fd00::2".parse().unwrap())] {
            let neighbour = Neighbour { ifindex: 7, addr, mac: [2, 0, 0, 0, 0, 1] };
            let message = neighbour_message(&neighbour);
            let read = read_neighbour(RouteNetlinkMessage::NewNeighbour(message.clone()));
            assert_eq!(read, Some(neighbour));
            let mut learnt = message;
            learnt.header.state = NeighbourState::Reachable;
            assert_eq!(read_neighbour(RouteNetlinkMessage::NewNeighbour(learnt)), None);
        }
    }
}
