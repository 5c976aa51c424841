//! Which packets may arrive where. This is the promise that the attack tries to break.
//!
//! ```text
//! from                        at                          what may arrive
//! ------------------------    ------------------------    -------------------------------------------
//! anybody                     itself                      anything
//! container, open network     container, same network     anything
//! container, icc=false        container, same network     ARP, neighbour solicitation and advertisement,
//!                                                         ethertypes other than IP, published ports,
//!                                                         their replies, errors of flows between the two,
//!                                                         what the host answers a forged source
//! container                   container, other network    published ports, their replies, errors of flows
//!                                                         between the two
//! outside                     container                   published ports, replies and errors of flows
//!                                                         that the container has begun
//! container                   outside                     translated packets, replies of published ports,
//!                                                         errors of own flows
//! internal network            anywhere else               nothing
//! anywhere else               internal network            nothing
//! ```
//! What may arrive at a container may be overheard by another one of its network, since a bridge floods what
//! it knows no port for.
//!
//! Without IP there is no icc=false, as there is none with `br_netfilter`. A tag that names a VLAN hides what
//! is behind it, so nothing that wears one is let through to a neighbour.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    arrival::{Arrival, Ip},
    attack::Sent,
    scene::{Kind, Place, Scene, Station},
    transport::{Quote, Whose},
};
use crate::family::Family;

/// Flows that have left translated: protocol, the far end, and the host's port; zeros where there are none.
pub type Begun = BTreeSet<(u8, IpAddr, u16, u16)>;

/// How a packet may have come to where it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// There is nothing that may not.
    Anything,
    /// ARP.
    Arp,
    /// Neighbour solicitation or advertisement.
    Discovery,
    /// Neither IP nor ARP, and without a tag that names a VLAN.
    NotIp,
    /// To a published port of whoever has received it.
    Published,
    /// The host's own answer, to whom the source claimed to be.
    HostAnswer,
    /// With the host's address for a source, to where it was sent.
    Translated,
    /// The reply of a published port, from the address of the host that was asked.
    PublishedReply,
    /// The same, to another container that had asked.
    ReplyToContainer,
    /// Of a flow that a container has begun.
    Reply,
    /// An ICMP error about a flow between the two.
    OwnError,
    /// It may have come to another container of the network.
    Overheard,
}

/// How two stations are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Itself,
    Neighbours,
    NeighboursApart,
    OtherNetworks,
    FromOutside,
    ToOutside,
    Internal,
}

impl Relation {
    fn of(from: &Station, at: &Station) -> Self {
        match (from.place, at.place) {
            _ if from.name == at.name => Self::Itself,
            (Place::Network(one, kind), Place::Network(other, _)) if one == other => match kind {
                Kind::Open | Kind::Internal => Self::Neighbours,
                Kind::Apart => Self::NeighboursApart,
            },
            (Place::Network(_, Kind::Internal), _) | (_, Place::Network(_, Kind::Internal)) => {
                Self::Internal
            }
            (Place::Network(..), Place::Network(..)) => Self::OtherNetworks,
            (Place::Outside, _) => Self::FromOutside,
            (Place::Network(..), Place::Outside) => Self::ToOutside,
        }
    }

    /// The table.
    const fn allows(self) -> &'static [Way] {
        match self {
            Self::Itself | Self::Neighbours => &[Way::Anything],
            Self::NeighboursApart => &[
                Way::Arp,
                Way::Discovery,
                Way::NotIp,
                Way::Published,
                Way::ReplyToContainer,
                Way::OwnError,
                Way::HostAnswer,
            ],
            Self::OtherNetworks => &[Way::Published, Way::ReplyToContainer, Way::OwnError],
            Self::FromOutside => &[Way::Published, Way::Reply, Way::OwnError],
            Self::ToOutside => &[Way::Translated, Way::PublishedReply, Way::OwnError],
            Self::Internal => &[],
        }
    }
}

/// The way by which a packet may have come to a station, or `None`: it may not have.
pub fn way(scene: &Scene, begun: &Begun, sent: &Sent, at: usize, arrival: Arrival) -> Option<Way> {
    let way_to = |at: usize| {
        let relation = Relation::of(&scene.stations[sent.attacker], &scene.stations[at]);
        let case = Case { scene, begun, sent, at, arrival };
        relation.allows().iter().copied().find(|way| case.came_by(*way))
    };
    let is_neighbour = |other: usize| {
        other != at
            && other != sent.attacker
            && scene.stations[other].place == scene.stations[at].place
    };
    let overheard = || {
        let mut neighbours = (0..scene.stations.len()).filter(|other| is_neighbour(*other));
        neighbours.find_map(way_to).map(|_| Way::Overheard)
    };
    way_to(at).or_else(overheard)
}

/// A packet as it was sent and as it has arrived.
struct Case<'a> {
    scene: &'a Scene,
    begun: &'a Begun,
    sent: &'a Sent,
    at: usize,
    arrival: Arrival,
}

impl Case<'_> {
    fn came_by(&self, way: Way) -> bool {
        match (way, self.arrival) {
            (Way::Anything, _) => true,
            (Way::Arp, arrival) => arrival == Arrival::Arp && !self.sent.names_a_vlan,
            (Way::NotIp, Arrival::Other(_)) => !self.sent.names_a_vlan,
            (Way::Discovery, Arrival::Ip(ip)) => {
                ip.is_neighbour_discovery() && !self.sent.names_a_vlan
            }
            (Way::Published, Arrival::Ip(ip)) => self.is_published(&ip),
            (Way::HostAnswer, Arrival::Ip(ip)) => self.is_host_answer(&ip),
            // With a wrong header length an error may be read as a query, which has ports.
            (Way::Translated, Arrival::Ip(ip)) => {
                self.is_translated(&ip) && (self.sent.quotes.is_none() || ip.ports.is_some())
            }
            (Way::PublishedReply, Arrival::Ip(ip)) => {
                self.is_published_reply(&ip)
                    && self.sent.addresses.is_some_and(|(_, dst)| dst == ip.dst)
            }
            (Way::ReplyToContainer, Arrival::Ip(ip)) => {
                self.is_published_reply(&ip) && self.is_addressed_near(&ip)
            }
            (Way::Reply, Arrival::Ip(ip)) => self.is_reply(&ip),
            (Way::OwnError, Arrival::Ip(ip)) => self.is_own_error(&ip),
            (
                _,
                Arrival::Ip(_)
                | Arrival::Arp
                | Arrival::BrokenIp
                | Arrival::Tagged
                | Arrival::Other(_),
            ) => false,
        }
    }

    /// The packet asked for a port that this station publishes, and has come to the port behind it.
    fn is_published(&self, ip: &Ip) -> bool {
        let published = self.station().published;
        let (Some(published), Some((_, dst))) = (published, self.sent.addresses) else {
            return false;
        };
        let asked = self.sent.ports.is_some_and(|(.., port)| port == published.host_port);
        let is_port = ip.ports.is_none_or(|(.., port)| port == published.port);
        self.scene.is_host(dst) && asked && is_port && self.is_addressed(ip)
    }

    /// Only the host has its own addresses, so a source that the sender did not claim is the host's.
    fn is_host_answer(&self, ip: &Ip) -> bool {
        self.sent.addresses.is_some_and(|(src, _)| {
            !self.scene.is_host(src) && self.scene.is_host(ip.src) && ip.dst == src
        })
    }

    fn is_from_host(&self, ip: &Ip) -> bool {
        self.scene.is_host(ip.src) && self.sent.addresses.is_some_and(|(_, dst)| dst == ip.dst)
    }

    fn is_translated(&self, ip: &Ip) -> bool {
        let is_from_host = ip.src == Family::of(ip.src).host();
        is_from_host && self.sent.addresses.is_some_and(|(_, dst)| dst == ip.dst)
    }

    /// What looks like the answer of a published port is one: the two cannot be told apart. Nor can
    /// containers of one network be by their addresses.
    fn is_published_reply(&self, ip: &Ip) -> bool {
        let (Some((src, _)), Some((_, sport, _))) = (self.sent.addresses, self.sent.ports) else {
            return false;
        };
        let place = self.scene.stations[self.sent.attacker].place;
        let mut near = self.scene.stations.iter().filter(|station| station.place == place);
        let publisher = near.find(|station| station.addresses.contains(&src));
        publisher.and_then(|station| station.published).is_some_and(|published| {
            // A later fragment has none.
            let is_from = ip.ports.is_none_or(|(_, port, _)| port == published.host_port);
            sport == published.port && is_from && self.scene.is_host(ip.src)
        })
    }

    /// It came to the very port, from the very address and port that something was sent to; without ports, the
    /// protocol says all, which may be that of a header put in front.
    fn is_reply(&self, ip: &Ip) -> bool {
        let ports = ip.ports.filter(|(_, sport, dport)| (*sport, *dport) == (0, 0));
        let (Some((src, dst)), Some((proto, sport, dport))) =
            (self.sent.addresses, ports.or(self.sent.ports))
        else {
            return false;
        };
        let is_begun = self.begun.contains(&(proto, src, sport, dport));
        is_begun && dst == Family::of(dst).host() && ip.src == src && self.is_addressed_near(ip)
    }

    /// The quoted flow may be one between the two.
    fn is_own_error(&self, ip: &Ip) -> bool {
        let (container, is_addressed) = match self.station().place {
            // From the address of the host that was asked.
            Place::Outside => (self.sent.attacker, self.is_from_host(ip)),
            Place::Network(..) => (self.at, self.is_addressed_near(ip)),
        };
        // Guests share a published port, one after the other.
        let host_port = |at: usize| self.scene.stations[at].published.map(|port| port.host_port);
        let is_own = self.sent.quotes.is_some_and(|quote| match quote.whose {
            Whose::Of(station) => {
                station == container
                    || host_port(station).is_some() && host_port(station) == host_port(container)
                    || self.is_begun(&quote)
            }
            Whose::Translated | Whose::Own => true,
        });
        is_own && is_addressed
    }

    /// With a wrong header length an error was read as the query that it quotes, and has begun its flow.
    fn is_begun(&self, Quote { packet, .. }: &Quote) -> bool {
        packet.src == Family::of(packet.src).host()
            && packet.ports.is_some_and(|(proto, sport, dport)| {
                self.begun.contains(&(proto, packet.dst, dport, sport))
            })
    }

    fn station(&self) -> &Station {
        &self.scene.stations[self.at]
    }

    fn is_addressed(&self, ip: &Ip) -> bool {
        self.station().addresses.contains(&ip.dst)
    }

    /// A container may have begun a flow with any address of its network.
    fn is_addressed_near(&self, ip: &Ip) -> bool {
        match self.station().place {
            Place::Network(number, _) => self.scene.network_of(ip.dst) == Some(number),
            Place::Outside => false,
        }
    }
}

/// Whether a frame without a mark may be there: what the kernels of the host and of the neighbours say of
/// themselves, the host's answers, and what an attacker may send anyway. Of the attack only what has been
/// cut off before its first mark is without one; of the same kinds of packets most have one.
pub fn is_background(scene: &Scene, begun: &Begun, at: usize, arrival: Arrival) -> bool {
    let place = scene.stations[at].place;
    let is_attacked_from_near = scene.attackers.iter().any(|at| scene.stations[*at].place == place);
    match (arrival, place) {
        (Arrival::Arp, _) => true,
        (Arrival::Other(_), _) => is_attacked_from_near,
        (Arrival::Ip(ip), _)
            if ip.is_neighbour_discovery()
                || ip.is_router_discovery()
                || ip.is_group_membership() =>
        {
            true
        }
        // The host sends back what the client sends on.
        (Arrival::Ip(ip), Place::Outside) => {
            scene.is_host(ip.src) || scene.network_of(ip.src).is_none()
        }
        (Arrival::Ip(ip), Place::Network(number, kind)) => {
            let own = Some(number);
            let is_own = kind != Kind::Apart && scene.network_of(ip.src) == own;
            let is_for_link = scene.network_of(ip.dst) == own || is_link_local(ip.dst);
            // Its own, or a neighbour's that it has overheard.
            let mut near = scene.stations.iter().filter(|station| station.place == place);
            let is_asked_for = ip.ports.is_some_and(|(proto, sport, dport)| {
                let reply = (proto, ip.src, sport, u16::MIN)..=(proto, ip.src, sport, u16::MAX);
                near.any(|station| station.published.is_some_and(|it| it.port == dport))
                    || kind != Kind::Internal && begun.range(reply).next().is_some()
            });
            is_for_link && (is_own || is_asked_for || scene.is_host(ip.src))
        }
        (Arrival::BrokenIp | Arrival::Tagged, _) => false,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
