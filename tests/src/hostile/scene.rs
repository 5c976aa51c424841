//! Who is where: the stations that attack and are attacked, and the host between them.

use std::net::IpAddr;

use crate::{
    family::Family,
    hostile::link::Mac,
    topology::{gateway, subnet},
};

/// Where a station stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the uplink's wire.
    Outside,
    /// On the network of this number.
    Network(u8, Kind),
}

/// What a network lets its containers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Talk to each other and to the world.
    Open,
    /// Talk to the world: icc=false.
    Apart,
    /// Talk to each other: internal.
    Internal,
}

/// A published port of a station, TCP and UDP, on every address of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub port: u16,
}

/// A container, or the client outside.
#[derive(Clone, Debug)]
pub struct Station {
    /// What it is called.
    pub name: &'static str,
    /// Where it is.
    pub place: Place,
    /// Its MAC address.
    pub mac: Mac,
    /// Its addresses, first IPv4.
    pub addresses: [IpAddr; 2],
    /// What it publishes.
    pub published: Option<Published>,
}

impl Station {
    /// Its address of a family.
    pub fn address(&self, family: Family) -> IpAddr {
        family.pick(self.addresses[0], self.addresses[1])
    }
}

/// Everything that packets are made of.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The stations; the first is the client.
    pub stations: Vec<Station>,
    /// Which of them attack.
    pub attackers: Vec<usize>,
    /// The numbers of the networks and the MAC addresses of their bridges.
    pub bridges: Vec<(u8, Mac)>,
    /// The MAC address of the host on the uplink.
    pub uplink_mac: Mac,
    /// Addresses of the host that are neither its uplink's nor a gateway: link-local ones.
    pub link_local: Vec<IpAddr>,
}

impl Scene {
    /// The host's MAC address on the link of a station.
    pub fn host_mac(&self, station: &Station) -> Mac {
        match station.place {
            Place::Outside => self.uplink_mac,
            Place::Network(number, _) => self
                .bridges
                .iter()
                .find_map(|(bridge, mac)| (*bridge == number).then_some(*mac))
                .unwrap_or(self.uplink_mac),
        }
    }

    /// Whether an address is the host's own.
    pub fn is_host(&self, address: IpAddr) -> bool {
        self.host_addresses(Family::of(address)).contains(&address)
    }

    /// All addresses of the host, but for the loopback address.
    pub fn host_addresses(&self, family: Family) -> Vec<IpAddr> {
        let gateways = self.bridges.iter().map(|(number, _)| gateway_address(family, *number));
        // Routers answer to a subnet's own address (RFC 4291 section 2.6.1).
        let anycast = self.bridges.iter().filter_map(|(number, _)| match family {
            Family::V4 => None,
            Family::V6 => Some(IpAddr::from([0xfd77, u16::from(*number), 0, 0, 0, 0, 0, 0])),
        });
        let others = self.link_local.iter().copied().filter(|ip| Family::of(*ip) == family);
        [family.host()].into_iter().chain(gateways).chain(anycast).chain(others).collect()
    }

    /// The addresses of all stations, and one of the world beyond.
    pub fn stations_and_world(&self, family: Family) -> Vec<IpAddr> {
        let stations = self.stations.iter().map(|station| station.address(family));
        stations.chain([family.remote()]).collect()
    }

    /// The number of the network whose subnet an address lies in.
    pub fn network_of(&self, address: IpAddr) -> Option<u8> {
        self.bridges.iter().map(|(number, _)| *number).find(|number| {
            let subnet: ipnet::IpNet = parsed(&subnet(Family::of(address), *number));
            subnet.contains(&address)
        })
    }
}

/// The gateway of a network as an address.
pub fn gateway_address(family: Family, number: u8) -> IpAddr {
    parsed(&gateway(family, number))
}

/// Parses what the tests themselves have written.
///
/// # Panics
/// Where it is wrong.
pub(super) fn parsed<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("not what it should be: {text}"))
}
