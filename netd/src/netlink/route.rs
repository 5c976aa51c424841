//! Routes: reading them, setting default routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags,
        RouteProtocol, RouteType, RouteVia,
    },
};
use rtnetlink::RouteMessageBuilder;
use tracing::warn;

use super::{Netlink, NetlinkError, Request};

/// RT_TABLE_DEFAULT and RT_TABLE_MAIN (linux/rtnetlink.h), the tables without a policy rule.
const TABLES: [u32; 2] = [253, 254];

/// The metric of an IPv6 route that names none (IP6_RT_PRIO_USER).
const IPV6_METRIC: u32 = 1024;

/// One way to a destination; a route with several next hops is several of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub destination: IpNet,
    /// None: the destination is on the link itself.
    pub gateway: Option<IpAddr>,
    pub ifindex: Option<u32>,
    /// The address that the host's own packets get.
    pub source: Option<IpAddr>,
    pub metric: u32,
    /// Whether it leads somewhere, unlike a blackhole or unreachable route.
    pub unicast: bool,
    /// Learned from an IPv6 router advertisement.
    pub from_router_advertisement: bool,
}

/// The routes of the host.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Those of the main and default tables.
    pub without_rule: Vec<Route>,
    /// Those of all other tables, which a policy rule has to name.
    pub by_rule: Vec<Route>,
}

impl Route {
    /// Returns whether this is a default route.
    pub fn is_default(&self) -> bool {
        self.unicast && self.destination.prefix_len() == 0
    }
}

impl Netlink {
    /// Lists the routes of both families in the main and default tables.
    pub async fn routes(&self) -> Result<Vec<Route>, NetlinkError> {
        Ok(self.all_routes().await?.without_rule)
    }

    /// Lists the routes of both families.
    pub async fn all_routes(&self) -> Result<Routes, NetlinkError> {
        let mut routes = Routes::default();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut query = RouteMessage::default();
            query.header.address_family = family;
            let messages = self
                .dump(RouteNetlinkMessage::GetRoute(query))
                .await
                .map_err(|source| NetlinkError::Failed { request: Request::ListRoutes, source })?;
            for message in messages {
                let (table, found) = read_routes(message);
                let is_without_rule = TABLES.contains(&table);
                let list =
                    if is_without_rule { &mut routes.without_rule } else { &mut routes.by_rule };
                list.extend(found);
            }
        }
        Ok(routes)
    }

    /// Makes a link the way out, one default route for each gateway, in place of the default
    /// routes that were there; after an error those are back.
    pub async fn set_default_routes(
        &self,
        ifindex: u32,
        gateways: &[IpAddr],
    ) -> Result<(), NetlinkError> {
        if gateways.is_empty() {
            return Ok(());
        }
        let before = self.routes().await?;
        for gateway in gateways {
            if let Err(error) = self.set_default_route(ifindex, *gateway).await {
                self.restore_default_routes(&before).await;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn set_default_route(&self, ifindex: u32, gateway: IpAddr) -> Result<(), NetlinkError> {
        let message = match gateway {
            IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new()
                .gateway(gateway)
                .output_interface(ifindex)
                .build(),
            IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new()
                .gateway(gateway)
                .output_interface(ifindex)
                .build(),
        };
        let request = Request::AddDefaultRoute { ifindex, gateway };
        let message = RouteNetlinkMessage::NewRoute(message);
        self.change(message, NLM_F_CREATE | NLM_F_REPLACE, request).await
    }

    async fn restore_default_routes(&self, before: &[Route]) {
        for route in before.iter().filter(|route| is_replaceable(route)) {
            if let (Some(ifindex), Some(gateway)) = (route.ifindex, route.gateway)
                && let Err(error) = self.set_default_route(ifindex, gateway).await
            {
                warn!(ifindex, %gateway, %error, "a default route could not be put back");
            }
        }
    }
}

/// A new default route without a metric takes the place of one without a metric only.
fn is_replaceable(route: &Route) -> bool {
    let metric = if route.destination.addr().is_ipv4() { 0 } else { IPV6_METRIC };
    route.is_default() && route.metric == metric
}

/// Reads a route, one for each next hop that is alive, and the number of its table.
pub(super) fn read_routes(message: RouteNetlinkMessage) -> (u32, Vec<Route>) {
    let RouteNetlinkMessage::NewRoute(message) = message else { return (0, Vec::new()) };
    let mut table = u32::from(message.header.table);
    let mut hops = Vec::new();
    for attribute in &message.attributes {
        if let RouteAttribute::Table(full) = attribute {
            table = *full;
        } else if let RouteAttribute::MultiPath(next_hops) = attribute {
            hops.extend_from_slice(next_hops);
        }
    }
    let Some(route) = read_route(&message) else { return (table, Vec::new()) };
    // Cloned routes are the kernel's cache of path MTUs and redirects.
    let routes = if message.header.flags.contains(RouteFlags::Cloned) {
        Vec::new()
    } else if hops.is_empty() {
        vec![route]
    } else {
        let alive = hops.iter().filter(|hop| !hop.flags.contains(RouteNextHopFlags::Dead));
        alive.map(|hop| with_next_hop(&route, hop)).collect()
    };
    (table, routes)
}

/// Reads what the next hops of a route have in common; `routes` asks for the two IP families only.
fn read_route(message: &RouteMessage) -> Option<Route> {
    let unspecified = if message.header.address_family == AddressFamily::Inet {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let (mut destination, mut source, mut metric) = (unspecified, None, 0);
    for attribute in &message.attributes {
        if let RouteAttribute::Destination(address) = attribute {
            destination = ip(address)?;
        } else if let RouteAttribute::PrefSource(address) = attribute {
            source = ip(address);
        } else if let RouteAttribute::Priority(priority) = attribute {
            metric = *priority;
        }
    }
    Some(Route {
        destination: IpNet::new(destination, message.header.destination_prefix_length).ok()?,
        gateway: gateway(&message.attributes),
        ifindex: message.attributes.iter().find_map(|attribute| {
            if let RouteAttribute::Oif(ifindex) = attribute { Some(*ifindex) } else { None }
        }),
        source,
        metric,
        unicast: message.header.kind == RouteType::Unicast,
        from_router_advertisement: message.header.protocol == RouteProtocol::Ra,
    })
}

fn with_next_hop(route: &Route, hop: &RouteNextHop) -> Route {
    let ifindex = Some(hop.interface_index);
    Route { gateway: gateway(&hop.attributes), ifindex, ..route.clone() }
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Gateway(address) = attribute {
            ip(address)
        } else if let RouteAttribute::Via(RouteVia::Inet6(address)) = attribute {
            Some(IpAddr::V6(*address))
        } else {
            None
        }
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    if let RouteAddress::Inet(address) = address {
        Some(IpAddr::V4(*address))
    } else if let RouteAddress::Inet6(address) = address {
        Some(IpAddr::V6(*address))
    } else {
        None
    }
}
