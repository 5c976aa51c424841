//! The way of one packet, as the kernel finds it: by its rules, its tables and what is up.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use netlink_packet_core::NLM_F_REQUEST;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage},
};

use super::{Netlink, NetlinkError, Request, route::read_routes};

impl Netlink {
    /// The devices that the host would send a packet out of which came in on `ifindex`: several where the
    /// route has several next hops, none where it leads nowhere.
    pub async fn ways_out(
        &self,
        ifindex: u32,
        source: IpAddr,
        destination: IpAddr,
    ) -> Result<BTreeSet<u32>, NetlinkError> {
        let query = RouteNetlinkMessage::GetRoute(query(ifindex, source, destination));
        match self.exchange(query, NLM_F_REQUEST).await {
            Ok(reply) => {
                let routes = reply.messages.into_iter().flat_map(|message| read_routes(message).1);
                Ok(routes.filter(|route| route.unicast).filter_map(|route| route.ifindex).collect())
            }
            // The kernel's word for a packet that it would not send on.
            Err(error) if error.raw_os_error().is_some() => Ok(BTreeSet::new()),
            Err(source) => Err(NetlinkError::Failed { request: Request::FindRoute, source }),
        }
    }
}

/// Asks for the route with all its next hops, and not for the one of them that would be taken.
fn query(ifindex: u32, source: IpAddr, destination: IpAddr) -> RouteMessage {
    let mut query = RouteMessage::default();
    query.header.address_family =
        if source.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    query.header.source_prefix_length = IpNet::from(source).prefix_len();
    query.header.destination_prefix_length = IpNet::from(destination).prefix_len();
    query.header.flags = RouteFlags::FibMatch;
    query.attributes = vec![
        RouteAttribute::Source(address(source)),
        RouteAttribute::Destination(address(destination)),
        RouteAttribute::Iif(ifindex),
    ];
    query
}

fn address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}
